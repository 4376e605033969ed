//! The controller's flags.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use k8s_openapi::jiff::SignedDuration;

use crate::api;
use crate::cluster::{self, Identity, Terms};
use crate::resources::{Install, VolumeGroup};

/// The longest retention of a Tombstone that the schema of a Town accepts.
const LONGEST_RETENTION: SignedDuration = SignedDuration::from_hours(8760);

/// Flags of the controller. Each flag also has the environment variable that the help shows.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArgs {
    /// The id of this installation: at most 45 lower-case letters, digits and '-'. The operator adds a suffix for the
    /// cluster, and writes the result to the label gastown.dev/install of every object that it creates. It never touches
    /// objects of another installation. The id cannot be changed later.
    #[arg(long, env = "TOWN_OPERATOR_INSTALL_ID", default_value = "", hide_default_value = true)]
    pub(super) install_id: String,
    /// Namespace of the Lease town-operator-<install id> for leader election. All operators of an installation must use
    /// the same namespace. With two Leases, two operators would lead.
    #[arg(long, env = "TOWN_OPERATOR_LEASE_NAMESPACE", default_value = "kube-system")]
    pub(super) lease_namespace: String,
    /// Namespace and name of the release that runs this operator. The operator stores it in the Lease, and refuses to
    /// start if the same release used another install id before. Empty: no check.
    #[arg(long, env = "TOWN_OPERATOR_RELEASE", default_value = "", hide_default_value = true)]
    pub(super) release: String,
    /// Name of this process in the Lease, usually the name of its pod. Empty: the host name.
    #[arg(long, env = "TOWN_OPERATOR_IDENTITY", default_value = "", hide_default_value = true)]
    pub(super) identity: String,
    /// UID of the pod of this process, if the pod runs only one operator. A process that restarts in the same pod does
    /// not wait for the Lease of its predecessor, because the predecessor is dead. Empty: not known.
    #[arg(long, env = "TOWN_OPERATOR_POD_UID", default_value = "", hide_default_value = true)]
    pub(super) pod_uid: String,
    /// Lease duration. Another replica may lead if the leader has not renewed the Lease for this long. Whole seconds.
    #[arg(long, env = "TOWN_OPERATOR_LEASE_DURATION", default_value = "15s")]
    pub(super) lease_duration: api::Duration,
    /// Renew deadline. A leader exits if it cannot renew the Lease for this long.
    #[arg(long, env = "TOWN_OPERATOR_LEASE_RENEW_DEADLINE", default_value = "10s")]
    pub(super) lease_renew_deadline: api::Duration,
    /// Time between two renewals of the Lease by the leader.
    #[arg(long, env = "TOWN_OPERATOR_LEASE_RETRY_PERIOD", default_value = "2s")]
    pub(super) lease_retry_period: api::Duration,
    /// Format of the log lines.
    #[arg(long, env = "TOWN_OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
    /// Log level, or a comma-separated list of target=level.
    #[arg(long, env = "TOWN_OPERATOR_LOG", default_value = "info,kube=warn,hyper=warn,tower=warn")]
    pub(super) log: String,
    /// Address of /healthz (liveness) and /readyz (readiness). [::] means all addresses, also on a machine without IPv6.
    #[arg(long, env = "TOWN_OPERATOR_HEALTH_ADDR", default_value = "127.0.0.1:8080")]
    pub(super) health_addr: SocketAddr,
    /// Address of /metrics.
    #[arg(long, env = "TOWN_OPERATOR_METRICS_ADDR", default_value = "127.0.0.1:8081")]
    pub(super) metrics_addr: SocketAddr,
    /// Clients that may read the metrics.
    #[arg(long, env = "TOWN_OPERATOR_METRICS_AUTH", value_enum, default_value_t = MetricsAuth::Token)]
    pub(super) metrics_auth: MetricsAuth,
    /// Number of towns, and number of agents, reconciled at the same time. Namespaces take turns. While other namespaces
    /// wait, a namespace has at most a quarter of the slots.
    #[arg(long, env = "TOWN_OPERATOR_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) concurrency: u16,
    /// Report the condition DeletionBlocked if a deletion is not finished after this time.
    #[arg(long, env = "TOWN_OPERATOR_DELETION_BLOCKED_AFTER", default_value = "10m")]
    pub(super) deletion_blocked_after: api::Duration,
    /// At least the API server's --request-timeout. A create with a lost answer may take effect until this time.
    #[arg(long, env = "TOWN_OPERATOR_APISERVER_REQUEST_TIMEOUT", default_value = "60s")]
    pub(super) apiserver_request_timeout: api::Duration,
    /// Number of towns that start at the same time. The other towns wait, and namespaces take turns. While other
    /// namespaces wait, a namespace has at most a quarter of the slots. A town that is not Ready after 2 minutes returns
    /// its slot.
    #[arg(long, env = "TOWN_OPERATOR_MAX_CONCURRENT_STARTS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10000))]
    pub(super) max_concurrent_starts: u16,
    /// Number of pods that are probed for their activity at the same time. The other pods wait for a few seconds.
    #[arg(long, env = "TOWN_OPERATOR_MAX_CONCURRENT_PROBES", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) max_concurrent_probes: u16,
    /// Address ranges of pods, comma-separated, for example 10.244.0.0/16. Activity probes go to no other address. Empty:
    /// probes go to every address except the addresses of nodes, the API server and Services.
    #[arg(long, env = "TOWN_OPERATOR_PROBE_CIDRS", value_delimiter = ',')]
    pub(super) probe_cidrs: Vec<cluster::Cidr>,
    /// An agent that is deleted alone leaves its own Tombstone, as a town does.
    #[arg(long, env = "TOWN_OPERATOR_AGENT_TOMBSTONES")]
    pub(super) agent_tombstones: bool,
    /// Longest time that a Tombstone outlives its town or agent, from 0s to 8760h. The operator shortens a longer
    /// spec.tombstone.retention to this time, and reports it with the reason RetentionClamped.
    #[arg(long, env = "TOWN_OPERATOR_TOMBSTONE_MAX_RETENTION", default_value = "168h")]
    pub(super) tombstone_max_retention: api::Duration,
    /// Maximum number of Tombstones per namespace. Above it the operator deletes the oldest ones before the end of their
    /// retention, first those that block no name.
    #[arg(long, env = "TOWN_OPERATOR_TOMBSTONES_PER_NAMESPACE", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) tombstones_per_namespace: u32,
    /// Group id of new volumes, used as fsGroup of pods without a securityContext. Empty: no group, for clusters that set a
    /// group at admission, such as OpenShift.
    #[arg(long, env = "TOWN_OPERATOR_VOLUME_GROUP", default_value = "65532")]
    pub(super) volume_group: VolumeGroup,
    /// The admission policies of the chart are installed. Without them no policy refuses the deletion of a town with
    /// deletionProtection, and the condition Degraded of such a town has the reason DeletionUnprotected.
    #[arg(long, env = "TOWN_OPERATOR_ADMISSION_POLICIES")]
    pub(super) admission_policies: bool,
    /// Longest time for which input from an attached user keeps a town awake.
    #[arg(long, env = "TOWN_OPERATOR_ATTACH_MAX_HOLD", default_value = "12h")]
    pub(super) attach_max_hold: api::Duration,
}

/// Clients that may read the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum MetricsAuth {
    /// Clients with a bearer token that the API server accepts and whose user may get the non-resource URL /metrics.
    Token,
    /// Every client that reaches the address.
    None,
}

/// Format of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Readable text.
    Text,
    /// A JSON object per line.
    Json,
}

impl RunArgs {
    /// Checks combinations of flags, which the parser of a single flag cannot check.
    pub(super) fn check(&self) -> Result<(), String> {
        for (flag, value, what) in [
            ("--install-id", &self.install_id, "the id of this installation, for example 'team-a'"),
            ("--lease-namespace", &self.lease_namespace, "the namespace of the Lease for leader election"),
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
                "--tombstone-max-retention {longest} must be from 0s to 8760h, like spec.tombstone.retention of a \
                 town"
            ));
        }
        self.terms().map(drop)
    }

    /// The identity of this process in the Lease.
    pub(super) fn me(&self) -> Identity {
        let host = || std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
        let name = Some(self.identity.clone()).filter(|name| !name.is_empty()).or_else(host);
        let pod = Some(self.pod_uid.as_str()).filter(|uid| !uid.is_empty());
        let instance = format!("{:016x}", rand::random::<u64>());
        Identity::new(name.as_deref().unwrap_or(env!("CARGO_PKG_NAME")), pod, &instance)
    }

    /// The durations of leader election.
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
                 the leader must stop before another replica may lead"
            ));
        }
        if terms.retry.is_zero() || terms.deadline <= terms.retry + Terms::MARGIN {
            return Err(format!(
                "--lease-renew-deadline {deadline} must be longer than --lease-retry-period {retry} plus {:?}, and \
                 --lease-retry-period longer than zero: the leader must renew before it must stop",
                Terms::MARGIN
            ));
        }
        Ok(terms)
    }
}
