//! The work of a town: one table of its sources.
//!
//! Invariant kept here: only work keeps a town awake, and each source is sufficient alone. An unknown activity is
//! neither work nor the absence of work. The input of an attached user is no source: it moves the idle clock.

use k8s_openapi::jiff::Timestamp;

use super::activity::{agents, own_pod_works, reported, town_report, working};
use super::clock::earlier;
use super::facts::TownSnapshot;
use super::probe::{self, Known};
use super::wake::wake_reason_of_agents;
use crate::api::condition::reason;
use crate::api::{Backlog, TownStatus};

/// Work that keeps a town awake. The text has the kind of the work, and names no agent. Therefore it does not change
/// with every agent that starts or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// The reason of the condition Active.
    pub(super) reason: &'static str,
    /// The message of the condition Active.
    pub(super) text: &'static str,
}

/// A source of work.
struct WorkSource {
    /// The work that keeps an awake town awake.
    keeps_awake: fn(&TownSnapshot, Timestamp) -> Option<Work>,
    /// The work that wakes a sleeping town, or stops the drain of a town.
    wakes: fn(&TownSnapshot, &TownStatus, Timestamp) -> Option<String>,
    /// Whether the drain of a town waits for this source.
    holds_drain: fn(&TownSnapshot, Timestamp) -> bool,
}

/// The sources of work. The first source with work gives the reason and the text of the condition Active.
const SOURCES: [WorkSource; 3] = [
    // Agents with an unfinished bead, or with a report that they work.
    WorkSource {
        keeps_awake: |s, now| {
            let works = agents(s, now).any(|(_, activity)| activity.is_work());
            works.then_some(Work { reason: reason::WORK, text: "an agent has work" })
        },
        wakes: wake_reason_of_agents,
        holds_drain: |s, now| !working(s, &s.agents, &s.pods, now).is_empty(),
    },
    // The report of the town's own pod.
    WorkSource {
        keeps_awake: |s, now| of_own_pod(s, now).map(|text| Work { reason: reason::WORK, text }),
        wakes: |s, _, now| of_own_pod(s, now).map(str::to_owned),
        holds_drain: own_pod_works,
    },
    // Work without an agent. The work does not run, so no drain waits for it.
    WorkSource {
        keeps_awake: |s, now| waiting_work(s, now).map(|text| Work { reason: reason::BACKLOG, text }),
        wakes: |s, _, now| waiting_work(s, now).map(str::to_owned),
        holds_drain: |_, _| false,
    },
];

/// The activity of a town.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TownActivity {
    /// The town has work.
    Work(Work),
    /// The town has no work.
    None,
    /// A pod has not been probed yet, or its last probe failed a short time ago. The activity becomes unknown at this
    /// time.
    NotYetKnown(Option<Timestamp>),
    /// The activity is unknown, since this time and for this reason.
    Unknown(Timestamp, String),
}

/// The activity of a town, from all sources of work.
pub(super) fn of_town(s: &TownSnapshot, now: Timestamp) -> TownActivity {
    let work = SOURCES.iter().find_map(|source| (source.keeps_awake)(s, now));
    work.map_or_else(|| unknown(s, now), TownActivity::Work)
}

/// The work that wakes a sleeping town, or stops the drain of a town.
pub(super) fn wakes(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> Option<String> {
    SOURCES.iter().find_map(|source| (source.wakes)(s, status, now))
}

/// Whether the drain of a town waits for running work.
pub(super) fn holds_drain(s: &TownSnapshot, now: Timestamp) -> bool {
    SOURCES.iter().any(|source| (source.holds_drain)(s, now))
}

/// The work that the town's own pod reports. An entry counts even if no Agent exists for it.
fn of_own_pod(s: &TownSnapshot, now: Timestamp) -> Option<&'static str> {
    let at_work = town_report(s, now)?.agents.iter().any(|a| reported(a, None, now).is_work());
    at_work.then_some("the town's pod reports an agent at work")
}

/// Work without an agent. The larger of the two numbers counts: the number in the spec and the number from the town's
/// pod.
fn waiting_work(s: &TownSnapshot, now: Timestamp) -> Option<&'static str> {
    let reported = town_report(s, now).map_or_else(Backlog::default, |r| r.backlog);
    let spec = s.town.spec.backlog;
    if spec.merge_requests.max(reported.merge_requests) > 0 {
        Some("merge requests wait")
    } else if spec.triage.max(reported.triage) > 0 {
        Some("reports wait for triage")
    } else if spec.unassigned.max(reported.unassigned) > 0 && !s.town.spec.rigs.is_empty() {
        Some("unassigned work waits")
    } else {
        None
    }
}

/// The activity if the town has no known work: it depends on whether every probed pod has answered.
fn unknown(s: &TownSnapshot, now: Timestamp) -> TownActivity {
    let cadence = probe::cadence(s);
    let (mut silent, mut open) = (None::<(Timestamp, String)>, None::<Option<Timestamp>>);
    for known in probe::every_pod(s).iter().filter_map(|asked| asked.known(cadence, now)) {
        match known {
            Known::Answer(..) => {}
            Known::Silent(since, why) => {
                if silent.as_ref().is_none_or(|(earliest, _)| since < *earliest) {
                    silent = Some((since, why));
                }
            }
            Known::NotYet(until) => open = Some(earlier(open.flatten(), until)),
        }
    }
    match (silent, open) {
        (Some((since, why)), _) => TownActivity::Unknown(since, why),
        (None, Some(until)) => TownActivity::NotYetKnown(until),
        (None, None) => TownActivity::None,
    }
}
