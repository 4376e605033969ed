//! The controller's flags.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use k8s_openapi::jiff::SignedDuration;

use crate::api;
use crate::cluster::{self, Identity, Terms};
use crate::resources::{Install, VolumeGroup};

/// The longest retention of a Tombstone that the schema of a Town takes.
const LONGEST_RETENTION: SignedDuration = SignedDuration::from_hours(8760);

/// Flags of the controller; each can also be set by the environment variable shown with it.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArgs {
    /// The id of this installation: at most 45 lower-case letters, digits and '-'. With a suffix for the cluster it
    /// is the value of the label gastown.dev/install on everything that this operator makes; the operator touches
    /// nothing of another installation. The id cannot be changed later.
    #[arg(long, env = "TOWN_OPERATOR_INSTALL_ID", default_value = "", hide_default_value = true)]
    pub(super) install_id: String,
    /// Namespace of the Lease town-operator-<install id>, whose holder leads. All operators of an installation must
    /// name the same one: with two Leases, two of them lead.
    #[arg(long, env = "TOWN_OPERATOR_LEASE_NAMESPACE", default_value = "kube-system")]
    pub(super) lease_namespace: String,
    /// Namespace and name of the release that runs this operator. The Lease keeps it: the start of a release under
    /// another install id than before is refused. Empty: not checked.
    #[arg(long, env = "TOWN_OPERATOR_RELEASE", default_value = "", hide_default_value = true)]
    pub(super) release: String,
    /// What the Lease calls this process: the name of its pod. Empty: the host name.
    #[arg(long, env = "TOWN_OPERATOR_IDENTITY", default_value = "", hide_default_value = true)]
    pub(super) identity: String,
    /// UID of the pod that this process runs in, if it is the only operator in it: a process that was restarted
    /// there need not wait for the Lease of the one before, which is dead. Empty: not known.
    #[arg(long, env = "TOWN_OPERATOR_POD_UID", default_value = "", hide_default_value = true)]
    pub(super) pod_uid: String,
    /// Another replica leads when the Lease was not renewed for so long: whole seconds.
    #[arg(long, env = "TOWN_OPERATOR_LEASE_DURATION", default_value = "15s")]
    pub(super) lease_duration: api::Duration,
    /// A leader that could not renew the Lease for so long ends.
    #[arg(long, env = "TOWN_OPERATOR_LEASE_RENEW_DEADLINE", default_value = "10s")]
    pub(super) lease_renew_deadline: api::Duration,
    /// How often the leader renews the Lease.
    #[arg(long, env = "TOWN_OPERATOR_LEASE_RETRY_PERIOD", default_value = "2s")]
    pub(super) lease_retry_period: api::Duration,
    /// Form of the log lines.
    #[arg(long, env = "TOWN_OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
    /// What is logged: a level, or a comma-separated list of target=level.
    #[arg(long, env = "TOWN_OPERATOR_LOG", default_value = "info,kube=warn,hyper=warn,tower=warn")]
    pub(super) log: String,
    /// Address that serves /healthz (liveness) and /readyz (readiness). With [::] these are all addresses, also on a
    /// machine without IPv6.
    #[arg(long, env = "TOWN_OPERATOR_HEALTH_ADDR", default_value = "127.0.0.1:8080")]
    pub(super) health_addr: SocketAddr,
    /// Address that serves /metrics.
    #[arg(long, env = "TOWN_OPERATOR_METRICS_ADDR", default_value = "127.0.0.1:8081")]
    pub(super) metrics_addr: SocketAddr,
    /// Clients that may read the metrics.
    #[arg(long, env = "TOWN_OPERATOR_METRICS_AUTH", value_enum, default_value_t = MetricsAuth::Token)]
    pub(super) metrics_auth: MetricsAuth,
    /// Towns, and agents, reconciled at the same time. Namespaces take turns, and while others wait a namespace has at
    /// most a quarter of the places.
    #[arg(long, env = "TOWN_OPERATOR_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) concurrency: u16,
    /// Time after which a deletion that does not get on is reported by the condition DeletionBlocked.
    #[arg(long, env = "TOWN_OPERATOR_DELETION_BLOCKED_AFTER", default_value = "10m")]
    pub(super) deletion_blocked_after: api::Duration,
    /// The API server's --request-timeout: a create whose answer was lost may take effect until then.
    #[arg(long, env = "TOWN_OPERATOR_APISERVER_REQUEST_TIMEOUT", default_value = "60s")]
    pub(super) apiserver_request_timeout: api::Duration,
    /// Towns that start at the same time. The others wait; namespaces take turns, and while others wait a namespace
    /// has at most a quarter of the places. A town that is not Ready after 2 minutes returns its place.
    #[arg(long, env = "TOWN_OPERATOR_MAX_CONCURRENT_STARTS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10000))]
    pub(super) max_concurrent_starts: u16,
    /// Pods that are asked for their activity at the same time; the others wait for a few seconds.
    #[arg(long, env = "TOWN_OPERATOR_MAX_CONCURRENT_PROBES", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) max_concurrent_probes: u16,
    /// Ranges of addresses that pods have, comma-separated, for example 10.244.0.0/16: activity probes go to no other.
    /// Empty: to every address but those of nodes, of the API server and of Services.
    #[arg(long, env = "TOWN_OPERATOR_PROBE_CIDRS", value_delimiter = ',')]
    pub(super) probe_cidrs: Vec<cluster::Cidr>,
    /// Agents that are deleted alone leave a Tombstone of their own, as towns do.
    #[arg(long, env = "TOWN_OPERATOR_AGENT_TOMBSTONES")]
    pub(super) agent_tombstones: bool,
    /// Longest time that a Tombstone outlives the town or agent that it records: a longer spec.tombstone.retention counts
    /// as this one, and the town says so (RetentionClamped). From 0s to 8760h.
    #[arg(long, env = "TOWN_OPERATOR_TOMBSTONE_MAX_RETENTION", default_value = "168h")]
    pub(super) tombstone_max_retention: api::Duration,
    /// Tombstones of the towns and agents of one namespace. Of more, the oldest are removed before their time: first
    /// those that forbid no name.
    #[arg(long, env = "TOWN_OPERATOR_TOMBSTONES_PER_NAMESPACE", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) tombstones_per_namespace: u32,
    /// Number of the group that new volumes belong to, as fsGroup of pods without a securityContext of their own. Empty:
    /// none, for clusters that set one at admission, such as OpenShift.
    #[arg(long, env = "TOWN_OPERATOR_VOLUME_GROUP", default_value = "65532")]
    pub(super) volume_group: VolumeGroup,
    /// The admission policies of the chart are installed. Without them nothing refuses the deletion of a town with
    /// deletionProtection, and its condition Degraded says so.
    #[arg(long, env = "TOWN_OPERATOR_ADMISSION_POLICIES")]
    pub(super) admission_policies: bool,
    /// Longest time for which the input of an attached person keeps a town awake.
    #[arg(long, env = "TOWN_OPERATOR_ATTACH_MAX_HOLD", default_value = "12h")]
    pub(super) attach_max_hold: api::Duration,
}

/// Clients that may read the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum MetricsAuth {
    /// Those whose bearer token the API server knows, and whose user may get the non-resource URL /metrics.
    Token,
    /// All that reach the address.
    None,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl RunArgs {
    /// What no parser of a single flag can see.
    pub(super) fn check(&self) -> Result<(), String> {
        for (flag, value, what) in [
            ("--install-id", &self.install_id, "which installation this is, for example 'team-a'"),
            ("--lease-namespace", &self.lease_namespace, "the namespace of the Lease whose holder leads"),
        ] {
            if value.is_empty() {
                return Err(format!("{flag} is required: {what} (the Helm chart sets it)"));
            }
        }
        if let Some(error) = Install::id_error(&self.install_id) {
            return Err(format!("--install-id {error}"));
        }
        let longest = &self.tombstone_max_retention;
        if longest.get() > LONGEST_RETENTION {
            return Err(format!(
                "--tombstone-max-retention {longest} must be from 0s to 8760h: no town can ask for more \
                 (spec.tombstone.retention)"
            ));
        }
        self.terms().map(drop)
    }

    /// Who this process is.
    pub(super) fn me(&self) -> Identity {
        let host = || std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
        let name = Some(self.identity.clone()).filter(|name| !name.is_empty()).or_else(host);
        let pod = Some(self.pod_uid.as_str()).filter(|uid| !uid.is_empty());
        let instance = format!("{:016x}", rand::random::<u64>());
        Identity::new(name.as_deref().unwrap_or(env!("CARGO_PKG_NAME")), pod, &instance)
    }

    /// How long the Lease is held, and how often it is renewed.
    pub(super) fn terms(&self) -> Result<Terms, String> {
        let time = |time: &api::Duration| time.get().unsigned_abs();
        let terms = Terms {
            lease: time(&self.lease_duration),
            deadline: time(&self.lease_renew_deadline),
            retry: time(&self.lease_retry_period),
            margin: Terms::MARGIN,
        };
        let (lease, deadline, retry) =
            (&self.lease_duration, &self.lease_renew_deadline, &self.lease_retry_period);
        if terms.lease.subsec_nanos() != 0 {
            return Err(format!("--lease-duration {lease} must be whole seconds, at least one"));
        }
        if terms.lease <= terms.deadline {
            return Err(format!(
                "--lease-duration {lease} must be longer than --lease-renew-deadline {deadline}: \
                 the leader stops before another may start"
            ));
        }
        if terms.retry.is_zero() || terms.deadline <= terms.retry + Terms::MARGIN {
            return Err(format!(
                "--lease-renew-deadline {deadline} must be longer than --lease-retry-period {retry} and {:?} more, \
                 and the period longer than nothing: the leader renews before it must stop",
                Terms::MARGIN
            ));
        }
        Ok(terms)
    }
}
