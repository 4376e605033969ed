//! The metrics of the towns and of the operator.
//!
//! Invariants kept here: no label contains the name of an object. Gauges are counted during a scrape, and cost
//! nothing between scrapes.

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use tokio::time::Instant;

use super::catalogue::{Catalogue, Histograms, Label, Labelled, Sum};
use crate::api::{AgentPhase, ReceiptOutcome, TombstonePhase, TownPhase};

const KIND: Label = Label { name: "kind", words: &["Town", "Agent", "Tombstone", "Child"], other: false };
const TOWN_PHASE: Label = Label { name: "phase", words: TownPhase::WORDS, other: true };
const AGENT_PHASE: Label = Label { name: "phase", words: AgentPhase::WORDS, other: true };
const TOMBSTONE_PHASE: Label = Label {
    name: "phase",
    words: &[
        TombstonePhase::Destroying.as_str(),
        TombstonePhase::Destroyed.as_str(),
        TombstonePhase::Leaked.as_str(),
    ],
    other: false,
};
const RECEIPT: Label = Label {
    name: "outcome",
    words: &[
        ReceiptOutcome::Gone.as_str(),
        ReceiptOutcome::NeverExisted.as_str(),
        ReceiptOutcome::Retained.as_str(),
        ReceiptOutcome::Abandoned.as_str(),
    ],
    other: false,
};
const ROLE: Label = Label { name: "role", words: &["Mayor", "Refinery", "Polecat", "Crew"], other: false };
const ERROR: Label = Label {
    name: "reason",
    words: &[
        "APIError",
        "RequestRefused",
        "QuotaExceeded",
        "NameTaken",
        "SecretNotFound",
        "DefinitionMissing",
        "Conflict",
        "NotLeading",
        "NotLive",
        "Undecodable",
        "NamespaceTerminating",
        "Panicked",
        "Deadline",
    ],
    other: true,
};
const SLEEP: Label =
    Label { name: "reason", words: &["Idle", "Suspended", "Expired", "ActivityUnknown"], other: true };
const START: Label = Label {
    name: "reason",
    words: &[
        "ImagePullFailed",
        "Unschedulable",
        "ContainerCreating",
        "ContainerFailed",
        "OOMKilled",
        "NotReady",
        "StartFailed",
        "NodeLost",
        "SecretNotFound",
        "StorageLost",
        "ClaimUnusable",
        "QuotaExceeded",
        "RequestRefused",
        "DefinitionMissing",
        "APIError",
    ],
    other: true,
};
const RESULT: Label = Label {
    name: "result",
    words: &[
        "Answered",
        "Refused",
        "TimedOut",
        "TooLarge",
        "Malformed",
        "Unreachable",
        "Unauthorized",
        "Stale",
    ],
    other: true,
};
const OUTCOME: Label = Label { name: "outcome", words: &["Written", "Failed"], other: false };
const VERSION: Label = Label { name: "version", words: &[], other: false };

/// Bounds for single requests and short sequences of them, in seconds.
const SHORT: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Bounds for waits for containers, in seconds.
const LONG: &[f64] = &[1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// The text of the documentation before the table.
const INTRODUCTION: &str = "\
# Metrics

`make generate` writes this file. Do not edit it.

The operator serves these metrics at `/metrics`, in the OpenMetrics text format, on the address of `--metrics-addr`. A
client needs a bearer token that the API server accepts, and its user needs the verb `get` on the non-resource URL
`/metrics`. `--metrics-auth=none` serves all clients. The values `metrics.service.enabled` and
`metrics.serviceMonitor.enabled` of the chart let Prometheus find the metrics, and the chart's ClusterRole
`...-metrics-reader` grants the permission. No label contains the name of a town or an agent, so the number of series
does not grow with the cluster. Counters start at zero with each process. The operator counts towns and agents after
it is ready. `Other` means a value that is not in the list.

";

/// How long a census is valid.
const CENSUS_COUNTS_FOR: Duration = Duration::from_secs(5);

/// Counts the objects for a scrape.
type Census = Box<dyn Fn(&Metrics) + Send + Sync>;

/// The metrics of the process.
///
/// Labels are given as text. A text that is not among the values of its label is counted as `Other`.
pub struct Metrics {
    catalogue: Catalogue,
    census: OnceLock<Census>,
    census_taken: Mutex<Option<Instant>>,
    towns: Labelled<Gauge, 1>,
    agents: Labelled<Gauge, 2>,
    deletions_blocked: Labelled<Gauge, 1>,
    unreadable: Labelled<Gauge, 1>,
    tombstones: Labelled<Gauge, 1>,
    pods_without_owner: Labelled<Gauge, 1>,
    receipts: Labelled<Counter, 1>,
    reconciles: Labelled<Counter, 1>,
    reconcile_duration: Histograms<1>,
    reconcile_errors: Labelled<Counter, 2>,
    alarm_lateness: Histograms<1>,
    sleeps: Labelled<Counter, 1>,
    wakes: Counter,
    wake_latency: Histogram,
    saved: Sum,
    failed_starts: Labelled<Counter, 2>,
    start_waits: Counter,
    starts_waiting: Gauge,
    start_wait: Histogram,
    back_offs: Labelled<Counter, 1>,
    probes: Labelled<Counter, 1>,
    probe_duration: Histogram,
    destroyed: Labelled<Counter, 1>,
    destroy_duration: Histograms<1>,
    events: Labelled<Counter, 1>,
    leader: Gauge,
    lease_transitions: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut c = Catalogue::new();
        let version = Info::new([(VERSION.name, env!("CARGO_PKG_VERSION"))]);
        c.add("build", "Version of the running operator", None, &[VERSION], version);
        Self {
            census: OnceLock::new(),
            census_taken: Mutex::default(),
            towns: c.gauges(
                "towns",
                "Towns by phase: those of this installation, and those without an installation label",
                [TOWN_PHASE],
            ),
            agents: c.gauges(
                "agents",
                "Agents by phase and role: those of this installation, and those without an installation \
                 label",
                [AGENT_PHASE, ROLE],
            ),
            deletions_blocked: c.gauges(
                "deletions_blocked",
                "Objects whose deletion is blocked: the condition DeletionBlocked is True",
                [KIND],
            ),
            unreadable: c.gauges(
                "unreadable",
                "Objects that the operator cannot decode completely. It creates nothing for such an object \
                 until a user corrects it",
                [KIND],
            ),
            tombstones: c.gauges("tombstones", "Tombstones of this installation by phase", [TOMBSTONE_PHASE]),
            pods_without_owner: c.gauges(
                "pods_without_owner",
                "Pods of this installation whose owner does not exist, by the kind of the owner. Such a pod \
                 can come from a backup",
                [KIND],
            ),
            receipts: c.counters(
                "receipts",
                "Objects of destroyed towns and agents, by outcome. Abandoned objects may still exist",
                [RECEIPT],
            ),
            reconciles: c.counters("reconciles", "Reconciles, successful or not", [KIND]),
            reconcile_duration: c.seconds_by("reconcile_duration", "Duration of a reconcile", [KIND], SHORT),
            reconcile_errors: c.counters(
                "reconcile_errors",
                "Reconciles that failed, or in which an action failed",
                [KIND, ERROR],
            ),
            alarm_lateness: c.seconds_by(
                "alarm_lateness",
                "Delay between the requested time of a reconcile and its start",
                [KIND],
                SHORT,
            ),
            sleeps: c.counters("sleeps", "Towns that fell asleep, by reason", [SLEEP]),
            wakes: c.counter("wakes", "Towns that woke up"),
            wake_latency: c.seconds(
                "wake_latency",
                "Time from status.wakeTime of a town that slept until the town's own pod is Ready, in whole \
                 seconds",
                LONG,
            ),
            saved: c.sum_of_seconds(
                "saved_pod",
                "Time asleep, multiplied by the number of pods that a town has while it is awake: its own \
                 pod and those of its Session agents. Added when a town wakes or is deleted",
            ),
            failed_starts: c.counters(
                "failed_starts",
                "Pod starts that failed, by the reason of the condition Degraded",
                [KIND, START],
            ),
            start_waits: c.counter("start_waits", "Starts of towns that had to wait for a slot"),
            starts_waiting: c.gauge("starts_waiting", "Towns that wait for a slot to start"),
            start_wait: c.seconds(
                "start_wait",
                "Time that a town waited for a slot to start; 0 if a slot was free",
                LONG,
            ),
            back_offs: c.counters(
                "back_offs",
                "Back-offs: delays of the next start after failed pods",
                [KIND],
            ),
            probes: c.counters("probes", "Activity probes by result", [RESULT]),
            probe_duration: c.seconds("probe_duration", "Duration of an activity probe", SHORT),
            destroyed: c.counters("destroyed", "Objects that are destroyed completely", [KIND]),
            destroy_duration: c.seconds_by(
                "destroy_duration",
                "Time from an object's deletionTimestamp until it is destroyed completely",
                [KIND],
                LONG,
            ),
            events: c.counters("events", "Events by outcome of the write", [OUTCOME]),
            leader: c.gauge("leader", "1 on the leader, 0 on replicas on standby"),
            lease_transitions: c.gauge("lease_transitions", "Number of changes of the leader"),
            catalogue: c,
        }
    }
}

impl Metrics {
    /// Registers `census`, which runs for each scrape. Only the first registration counts.
    pub fn count_with(&self, census: impl Fn(&Self) + Send + Sync + 'static) {
        // A second census has no use: the first counts everything.
        let _ = self.census.set(Box::new(census));
    }

    /// Encodes all metrics in the OpenMetrics text format, with current counts.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        if let Some(census) = self.census.get() {
            // A census visits every object, so it runs only once in a while, however often clients scrape.
            let mut taken = self.census_taken.lock().unwrap_or_else(PoisonError::into_inner);
            if taken.is_none_or(|taken| taken.elapsed() >= CENSUS_COUNTS_FOR) {
                *taken = Some(Instant::now());
                census(self);
            }
        }
        self.catalogue.encode()
    }

    /// The documentation of the metrics for users, in Markdown.
    pub fn documentation(&self) -> Result<String, fmt::Error> {
        Ok(format!("{INTRODUCTION}{}", self.catalogue.table()?))
    }

    /// Sets the number of towns, by phase.
    pub fn count_towns<'a>(&self, phases: impl Iterator<Item = &'a str>) {
        self.towns.count(phases.map(|phase| [phase]));
    }

    /// Sets the number of agents, by phase and role.
    pub fn count_agents<'a>(&self, phases_and_roles: impl Iterator<Item = [&'a str; 2]>) {
        self.agents.count(phases_and_roles);
    }

    /// Sets the number of records of destructions, by phase.
    pub fn count_tombstones<'a>(&self, phases: impl Iterator<Item = &'a str>) {
        self.tombstones.count(phases.map(|phase| [phase]));
    }

    /// Sets the number of pods without an owner, by the kind of that owner.
    pub fn count_pods_without_owner<'a>(&self, kinds: impl Iterator<Item = &'a str>) {
        self.pods_without_owner.count(kinds.map(|kind| [kind]));
    }

    /// Counts an object whose fate a destruction has recorded.
    pub fn receipt(&self, outcome: &str) {
        self.receipts.of([outcome]).inc();
    }

    /// Sets the number of objects with a blocked deletion, by kind.
    pub fn count_deletions_blocked<'a>(&self, kinds: impl Iterator<Item = &'a str>) {
        self.deletions_blocked.count(kinds.map(|kind| [kind]));
    }

    /// Sets the number of objects with undecodable parts, by kind.
    pub fn count_unreadable<'a>(&self, kinds: impl Iterator<Item = &'a str>) {
        self.unreadable.count(kinds.map(|kind| [kind]));
    }

    /// Records the end of a reconcile, with any result.
    pub fn reconciled(&self, kind: &str, took: Duration) {
        self.reconciles.of([kind]).inc();
        self.reconcile_duration.of([kind]).observe(took.as_secs_f64());
    }

    /// Counts a reconcile that failed, or an action in it that failed.
    pub fn reconcile_failed(&self, kind: &str, reason: &str) {
        self.reconcile_errors.of([kind, reason]).inc();
    }

    /// Records the delay of a scheduled reconcile.
    pub fn looked_late(&self, kind: &str, by: Duration) {
        self.alarm_lateness.of([kind]).observe(by.as_secs_f64());
    }

    /// Counts a town that fell asleep.
    pub fn slept(&self, reason: &str) {
        self.sleeps.of([reason]).inc();
    }

    /// Counts a sleeping town that was woken.
    pub fn woke(&self) {
        self.wakes.inc();
    }

    /// Records the time from the wake-up of a town until its pod is Ready.
    pub fn ready_after_wake(&self, took: Duration) {
        self.wake_latency.observe(took.as_secs_f64());
    }

    /// Adds the pod time that a sleeping town did not use.
    pub fn saved(&self, pod_time: Duration) {
        self.saved.inc_by(pod_time.as_secs_f64());
    }

    /// Counts a pod whose start failed.
    pub fn start_failed(&self, kind: &str, reason: &str) {
        self.failed_starts.of([kind, reason]).inc();
    }

    /// Counts a start that must wait for its turn.
    pub fn start_waits(&self) {
        self.start_waits.inc();
    }

    /// Sets the number of towns that wait for their turn to start.
    pub fn starts_waiting(&self, towns: usize) {
        self.starts_waiting.set(i64::try_from(towns).unwrap_or(i64::MAX));
    }

    /// Records how long a town waited for its turn to start.
    pub fn waited_for_start(&self, time: Duration) {
        self.start_wait.observe(time.as_secs_f64());
    }

    /// Counts a start that is delayed because the pod failed.
    pub fn backed_off(&self, kind: &str) {
        self.back_offs.of([kind]).inc();
    }

    /// Counts an activity probe by its result: Answered, Refused, TimedOut, TooLarge, Malformed, Unreachable,
    /// Unauthorized or Stale.
    pub fn probed(&self, result: &'static str) {
        self.probes.of([result]).inc();
    }

    /// Records the duration of an activity probe.
    pub fn probe_took(&self, time: Duration) {
        self.probe_duration.observe(time.as_secs_f64());
    }

    /// Counts a destroyed object. `took` is the time since its deletionTimestamp.
    pub fn destroyed(&self, kind: &str, took: Duration) {
        self.destroyed.of([kind]).inc();
        self.destroy_duration.of([kind]).observe(took.as_secs_f64());
    }

    /// Sets whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Sets the number of changes of the holder of the Lease, by the count in the Lease.
    pub fn lease_changed_hands(&self, times: i32) {
        self.lease_transitions.set(times.into());
    }

    /// Counts an event that was written, or that could not be written.
    pub fn event(&self, written: bool) {
        self.events.of([if written { "Written" } else { "Failed" }]).inc();
    }
}

#[cfg(test)]
impl Metrics {
    /// The value of a series, by its encoded name without `town_operator_`.
    pub fn value(&self, series: &str) -> Option<f64> {
        let text = self.encode().unwrap_or_default();
        let rest =
            |line: &str| line.strip_prefix("town_operator_")?.strip_prefix(series)?.trim().parse().ok();
        text.lines().find_map(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The series that a recording changes, without buckets.
    fn changes(record: impl FnOnce(&Metrics)) -> Vec<String> {
        let metrics = Metrics::default();
        let before = metrics.encode().unwrap();
        record(&metrics);
        let after = metrics.encode().unwrap();
        let old: Vec<&str> = before.lines().collect();
        let new = after.lines().filter(|line| !old.contains(line) && !line.contains("_bucket{"));
        let mut new: Vec<String> = new.map(|line| line.replace("town_operator_", "")).collect();
        new.sort();
        new
    }

    #[test]
    fn metric_recording_changes_only_its_own_series() {
        assert_eq!(
            changes(|m| m.reconciled("Town", seconds(3))),
            [
                r#"reconcile_duration_seconds_count{kind="Town"} 1"#,
                r#"reconcile_duration_seconds_sum{kind="Town"} 3.0"#,
                r#"reconciles_total{kind="Town"} 1"#,
            ]
        );
        assert_eq!(
            changes(|m| m.reconcile_failed("Agent", "Conflict")),
            [r#"reconcile_errors_total{kind="Agent",reason="Conflict"} 1"#]
        );
        assert_eq!(
            changes(|m| m.looked_late("Agent", seconds(2))),
            [
                r#"alarm_lateness_seconds_count{kind="Agent"} 1"#,
                r#"alarm_lateness_seconds_sum{kind="Agent"} 2.0"#
            ]
        );
        assert_eq!(changes(|m| m.slept("Suspended")), [r#"sleeps_total{reason="Suspended"} 1"#]);
        assert_eq!(changes(Metrics::woke), ["wakes_total 1"]);
        assert_eq!(
            changes(|m| m.ready_after_wake(seconds(7))),
            ["wake_latency_seconds_count 1", "wake_latency_seconds_sum 7.0"]
        );
        assert_eq!(changes(|m| m.saved(Duration::from_millis(1500))), ["saved_pod_seconds_total 1.5"]);
        assert_eq!(
            changes(|m| m.start_failed("Town", "QuotaExceeded")),
            [r#"failed_starts_total{kind="Town",reason="QuotaExceeded"} 1"#]
        );
        assert_eq!(changes(Metrics::start_waits), ["start_waits_total 1"]);
        assert_eq!(changes(|m| m.starts_waiting(3)), ["starts_waiting 3"]);
        assert_eq!(
            changes(|m| m.waited_for_start(seconds(4))),
            ["start_wait_seconds_count 1", "start_wait_seconds_sum 4.0"]
        );
        assert_eq!(changes(|m| m.backed_off("Agent")), [r#"back_offs_total{kind="Agent"} 1"#]);
        for result in RESULT.values() {
            let line = format!("probes_total{{result=\"{result}\"}} 1");
            assert_eq!(changes(|m| m.probed(result)), [line]);
        }
        assert_eq!(
            changes(|m| m.probe_took(seconds(1))),
            ["probe_duration_seconds_count 1", "probe_duration_seconds_sum 1.0"]
        );
        assert_eq!(
            changes(|m| m.destroyed("Town", seconds(9))),
            [
                r#"destroy_duration_seconds_count{kind="Town"} 1"#,
                r#"destroy_duration_seconds_sum{kind="Town"} 9.0"#,
                r#"destroyed_total{kind="Town"} 1"#,
            ]
        );
        assert_eq!(changes(|m| m.event(true)), [r#"events_total{outcome="Written"} 1"#]);
        assert_eq!(changes(|m| m.event(false)), [r#"events_total{outcome="Failed"} 1"#]);
        assert_eq!(changes(|m| m.leads(true)), ["leader 1"]);
        assert_eq!(changes(|m| m.lease_changed_hands(3)), ["lease_transitions 3"]);
    }

    #[test]
    fn histogram_counts_a_time_in_every_bucket_that_is_not_shorter() {
        let metrics = Metrics::default();
        metrics.ready_after_wake(seconds(7));
        for (bound, count) in [("1.0", 0.0), ("5.0", 0.0), ("10.0", 1.0), ("3600.0", 1.0), ("+Inf", 1.0)] {
            let series = format!("wake_latency_seconds_bucket{{le=\"{bound}\"}}");
            assert_eq!(metrics.value(&series), Some(count), "{series}");
        }
    }

    #[test]
    fn counted_gauges_show_all_label_values_including_zero() {
        let metrics = Metrics::default();
        assert_eq!(metrics.value(r#"towns{phase="Idle"}"#), None, "nobody has counted yet");
        metrics.count_with(|m| {
            m.count_towns(["Idle", "Singing"].into_iter());
            m.count_agents([["Working", "Mayor"]].into_iter());
            m.count_deletions_blocked(["Agent"].into_iter());
            m.count_unreadable(["Agent"].into_iter());
            m.count_tombstones(["Destroyed"].into_iter());
        });
        for (series, count) in [
            (r#"towns{phase="Idle"}"#, 1.0),
            (r#"towns{phase="Other"}"#, 1.0),
            (r#"towns{phase="Asleep"}"#, 0.0),
            (r#"agents{phase="Working",role="Mayor"}"#, 1.0),
            (r#"agents{phase="Working",role="Crew"}"#, 0.0),
            (r#"deletions_blocked{kind="Agent"}"#, 1.0),
            (r#"deletions_blocked{kind="Town"}"#, 0.0),
            (r#"unreadable{kind="Agent"}"#, 1.0),
            (r#"unreadable{kind="Town"}"#, 0.0),
            (r#"tombstones{phase="Destroyed"}"#, 1.0),
            (r#"tombstones{phase="Leaked"}"#, 0.0),
        ] {
            assert_eq!(metrics.value(series), Some(count), "{series}");
        }
    }

    // S10.
    #[tokio::test(start_paused = true)]
    async fn census_is_taken_at_most_once_in_five_seconds() {
        let metrics = Metrics::default();
        let taken = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counts = taken.clone();
        metrics.count_with(move |_| {
            counts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        for (wait, wanted) in [(0, 1), (4, 1), (1, 2), (1, 2), (5, 3)] {
            tokio::time::sleep(seconds(wait)).await;
            for _ in 0..3 {
                metrics.encode().unwrap();
            }
            assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), wanted);
        }
    }

    #[test]
    fn gauge_falls_when_fewer_objects_are_counted() {
        let metrics = Metrics::default();
        metrics.count_towns(["Idle", "Unheard", "Of"].into_iter());
        metrics.count_towns(std::iter::empty());
        assert_eq!(metrics.value(r#"towns{phase="Idle"}"#), Some(0.0));
        assert_eq!(metrics.value(r#"towns{phase="Other"}"#), Some(0.0));
    }

    #[test]
    fn unknown_label_value_creates_no_new_series() {
        let metrics = counted();
        let series = || metrics.encode().unwrap().lines().filter(|line| !line.starts_with('#')).count();
        let before = series();
        metrics.count_towns(["Dancing"].into_iter());
        metrics.reconcile_failed("Town", "an unheard-of reason");
        metrics.probed("Sung");
        assert_eq!(metrics.value(r#"probes_total{result="Other"}"#), Some(1.0));
        assert_eq!(series(), before);
    }

    /// Metrics with all gauges counted.
    fn counted() -> Metrics {
        let metrics = Metrics::default();
        metrics.count_towns(std::iter::empty());
        metrics.count_agents(std::iter::empty());
        metrics.count_deletions_blocked(std::iter::empty());
        metrics.count_unreadable(std::iter::empty());
        metrics.count_tombstones(std::iter::empty());
        metrics.count_pods_without_owner(std::iter::empty());
        metrics
    }

    #[test]
    fn metrics_documentation_lists_exactly_the_encoded_metrics() {
        let metrics = counted();
        let text = metrics.encode().unwrap();
        let mut encoded: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, kind)| match kind {
                "counter" => format!("| `{name}_total` | {kind} |"),
                "info" => format!("| `{name}_info` | {kind} |"),
                _ => format!("| `{name}` | {kind} |"),
            })
            .collect();
        let documentation = metrics.documentation().unwrap();
        let rows = documentation.lines().filter(|line| line.starts_with("| `"));
        let mut documented: Vec<String> =
            rows.map(|row| row.split_inclusive('|').take(3).collect()).collect();
        encoded.sort();
        documented.sort();
        assert_eq!(documented, encoded);
        assert!(documentation.contains(
            "`reason`: `Idle` `Suspended` `Expired` `ActivityUnknown` `Other` | Towns that fell asleep"
        ));
        assert!(!documentation.contains(env!("CARGO_PKG_VERSION")), "it would change with every release");
        assert_eq!(
            metrics.value(concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")),
            Some(1.0)
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
