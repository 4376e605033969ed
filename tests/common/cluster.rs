//! A cluster for stories: a control plane of the test bed, or a cluster of the user.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bed::{ControlPlane, Options, Programs};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use town_operator::api::{Agent, Tombstone, Town};
use town_operator::lifecycle::Uid;
use town_operator::resources::Install;

use super::account::Account;
use super::operator::{INSTALL_ID, Operator};
use super::players::Players;
use super::wait::{PATIENCE, until};

/// The environment variable with a kubeconfig: the suite runs on that cluster instead of its own.
pub const GIVEN: &str = "TOWN_TEST_KUBECONFIG";

/// The kubeconfig of the user's cluster, if the variable is set.
pub fn given() -> Option<PathBuf> {
    std::env::var_os(GIVEN).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The turn to start a control plane: several starts at the same time delay the stories that run.
static START: Semaphore = Semaphore::const_new(1);

/// A running cluster with our CRDs.
pub struct Cluster {
    client: Client,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    scratch: TempDir,
    namespaces: AtomicU32,
    install_label: OnceLock<String>,
    /// The length of the audit log before the current story.
    audited: AtomicU64,
    // The field is the last one, so that the control plane is dropped after its clients.
    plane: Option<ControlPlane>,
}

impl Cluster {
    /// The cluster of the user, or else a control plane of the test bed.
    pub async fn any(name: &str) -> Self {
        match given() {
            Some(kubeconfig) => {
                let cluster = Self::at(&kubeconfig, None).await;
                cluster.install_crds().await;
                cluster
            }
            None => Self::start(Options { name: name.into(), ..Options::default() }).await,
        }
    }

    /// Starts a control plane of the test bed and installs our CRDs.
    pub async fn start(options: Options) -> Self {
        let _turn = START.acquire().await.expect("the semaphore is never closed");
        let cluster = Self::bare(options).await;
        cluster.install_crds().await;
        cluster
    }

    /// Starts a control plane without our CRDs.
    pub async fn bare(options: Options) -> Self {
        let plane = ControlPlane::start(options).unwrap_or_else(|error| panic!("no control plane: {error}"));
        let kubeconfig = plane.kubeconfig().to_owned();
        Self::at(&kubeconfig, Some(plane)).await
    }

    /// A cluster that already runs.
    pub async fn at(kubeconfig: &Path, plane: Option<ControlPlane>) -> Self {
        let config = config(kubeconfig).await;
        let kubectl = match &plane {
            Some(plane) => PathBuf::from(plane.kubectl().get_program()),
            None => on_path("kubectl").unwrap_or_else(|| program("kubectl")),
        };
        Self {
            client: Client::try_from(config).expect("a client"),
            kubeconfig: kubeconfig.into(),
            kubectl,
            scratch: TempDir::new().expect("a scratch directory"),
            namespaces: AtomicU32::new(0),
            install_label: OnceLock::new(),
            audited: AtomicU64::new(0),
            plane,
        }
    }

    /// Installs our CRDs and waits until the API server serves them.
    pub async fn install_crds(&self) {
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        // A server that has just started can close connections.
        until("the definitions are applied", PATIENCE, async || {
            self.try_kubectl(&["apply", "-f", crds.to_str().unwrap()], "")
        })
        .await;
        self.crds_answer().await;
    }

    /// Waits until the API server can list objects of our kinds.
    pub async fn crds_answer(&self) {
        let (towns, agents) = (Api::<Town>::all(self.client()), Api::<Agent>::all(self.client()));
        let tombstones: Api<Tombstone> = Api::all(self.client());
        let one = ListParams::default().limit(1);
        until("our kinds are kinds of the API", PATIENCE, async || {
            let listed = towns.list_metadata(&one).await.and(agents.list_metadata(&one).await);
            let listed = listed.and(tombstones.list_metadata(&one).await);
            listed.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client that impersonates this user in these groups, besides the groups of every authenticated user.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        let mut config = config(&self.kubeconfig).await;
        config.auth_info.impersonate = Some(user.into());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|&group| group.into()).collect())
            .filter(|groups: &Vec<_>| !groups.is_empty());
        Client::try_from(config).expect("a client")
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The control plane of the test bed.
    pub fn plane(&self) -> &ControlPlane {
        self.plane.as_ref().expect("a control plane of our own")
    }

    /// The audit log since the begin of the current story.
    pub fn audit_log(&self) -> String {
        let mut log = File::open(self.plane().audit_log()).expect("an audit log");
        log.seek(SeekFrom::Start(self.audited.load(Ordering::Relaxed))).expect("a file");
        let mut text = String::new();
        log.read_to_string(&mut text).expect("a text");
        text
    }

    /// Begins the audit log of the next story.
    pub fn begin_audit_log(&self) {
        let length = std::fs::metadata(self.plane().audit_log()).expect("an audit log").len();
        self.audited.store(length, Ordering::Relaxed);
    }

    /// A temporary directory that is removed with the cluster.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Runs kubectl, which must succeed, and returns its output.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments, "")
            .unwrap_or_else(|said| panic!("kubectl {}: {said}", arguments.join(" ")))
    }

    /// Runs kubectl with this standard input, and returns its output or its error output.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        // The cache must not be in the user's home. Another server with the same port must not share it.
        command.arg("--cache-dir").arg(self.scratch.path().join("cache"));
        run(command, input)
    }

    /// The value of the label `gastown.dev/install` on every object of the operator under test.
    pub fn install_label(&self) -> &str {
        self.install_label.get_or_init(|| {
            let uid = self.kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]);
            Install::of(INSTALL_ID, &Uid::new(uid.trim())).expect("a UID").0
        })
    }

    /// Creates a namespace with this text in its name, and waits until it accepts pods.
    pub async fn namespace(&self, story: &str) -> String {
        let mut name = String::from("t");
        for c in story.chars().take(50) {
            let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
            name.push(c);
        }
        let _ = write!(name, "-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        self.create_namespace(&name).await;
        name
    }

    /// Creates a namespace of this name, and waits until it accepts pods.
    pub async fn create_namespace(&self, name: &str) {
        let namespace = json!({"metadata": {"name": name, "labels": {"town-operator-test": "true"}}});
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        let api: Api<Namespace> = Api::all(self.client());
        match api.create(&PostParams::default(), &namespace).await {
            Ok(_) => {}
            // An earlier story on the same control plane created it.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => panic!("namespace {name}: {error}"),
        }
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(self.client(), name);
        until("a service account for pods", PATIENCE, async || {
            accounts.get("default").await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Deletes a namespace and waits until it is gone; players end its pods.
    pub async fn remove_namespace(&self, name: &str) {
        let _players = Players::call(self.client(), name).await;
        let api: Api<Namespace> = Api::all(self.client());
        let _ = api.delete(name, &DeleteParams::default()).await;
        until(&format!("namespace {name} is gone"), Duration::from_mins(2), async || {
            match api.get_opt(name).await.map_err(|error| error.to_string())? {
                None => Ok(()),
                Some(namespace) => Err(serde_json::to_string(&namespace.status).unwrap()),
            }
        })
        .await;
    }

    /// Starts the operator with only the rights of the chart.
    pub async fn operator(&self, flags: &[&str]) -> Operator {
        let account = Account::create(self).await;
        Operator::start(account.kubeconfig(), flags).await
    }
}

/// The client configuration of a kubeconfig.
pub async fn config(kubeconfig: &Path) -> Config {
    let read = Kubeconfig::read_from(kubeconfig).unwrap_or_else(|error| panic!("{error}"));
    Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap()
}

/// Runs a command, and returns its output or its error output. The result of a successful command does not include
/// warnings: kubectl prints them at unpredictable times.
pub fn run(mut command: Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program may ignore its standard input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The path of a program of the test bed. The function builds a missing program.
pub fn program(name: &str) -> PathBuf {
    Programs::ensure_one(name).unwrap_or_else(|error| panic!("no {name}: {error}"))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}
