//! A cluster that stories are told on: a control plane of the test bed, or one that the user names.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bed::{ControlPlane, Options, Programs};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tempfile::TempDir;
use town_operator::api::{Agent, Tombstone, Town};
use town_operator::lifecycle::Uid;
use town_operator::resources::Install;

use super::account::Account;
use super::operator::{INSTALL_ID, Operator};
use super::players::Players;
use super::wait::{PATIENCE, until};

/// Names a kubeconfig: the suite then runs on that cluster instead of starting its own.
pub const GIVEN: &str = "TOWN_TEST_KUBECONFIG";

/// The cluster that the user wants the suite to run on, if any.
pub fn given() -> Option<PathBuf> {
    std::env::var_os(GIVEN).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A running cluster with our CRDs.
pub struct Cluster {
    client: Client,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    scratch: TempDir,
    namespaces: AtomicU32,
    install_label: OnceLock<String>,
    // Last, so that it outlives what talks to it.
    plane: Option<ControlPlane>,
}

impl Cluster {
    /// The one that the user names, else one of the bed's own.
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

    /// Starts a control plane of the bed's own and installs our CRDs.
    pub async fn start(options: Options) -> Self {
        let cluster = Self::bare(options).await;
        cluster.install_crds().await;
        cluster
    }

    /// The same without our CRDs.
    pub async fn bare(options: Options) -> Self {
        let plane = ControlPlane::start(options).unwrap_or_else(|error| panic!("no control plane: {error}"));
        let kubeconfig = plane.kubeconfig().to_owned();
        Self::at(&kubeconfig, Some(plane)).await
    }

    /// One that runs already.
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
            plane,
        }
    }

    /// Installs our CRDs and waits until they answer.
    pub async fn install_crds(&self) {
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        // A server that has just started may break off.
        until("the definitions are applied", PATIENCE, async || {
            self.try_kubectl(&["apply", "-f", crds.to_str().unwrap()], "")
        })
        .await;
        self.crds_answer().await;
    }

    /// Waits until objects of our kinds can be listed.
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

    /// A client with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client that acts as this user, in these groups as well as in those that every such user is in.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        let mut config = config(&self.kubeconfig).await;
        config.auth_info.impersonate = Some(user.into());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|&group| group.into()).collect())
            .filter(|groups: &Vec<_>| !groups.is_empty());
        Client::try_from(config).expect("a client")
    }

    /// A kubeconfig with all rights.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The control plane, of a cluster that is the suite's own.
    pub fn plane(&self) -> &ControlPlane {
        self.plane.as_ref().expect("a control plane of our own")
    }

    /// A directory that ends with the cluster.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Runs kubectl, which must succeed, and gives what it prints.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments, "")
            .unwrap_or_else(|said| panic!("kubectl {}: {said}", arguments.join(" ")))
    }

    /// Runs kubectl with this standard input: what it prints, or what it complains of.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        // Not in the user's home, and not shared with another server that once had the same port.
        command.arg("--cache-dir").arg(self.scratch.path().join("cache"));
        run(command, input)
    }

    /// The value of the label `gastown.dev/install` on everything that the operator under test makes here.
    pub fn install_label(&self) -> &str {
        self.install_label.get_or_init(|| {
            let uid = self.kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]);
            Install::of(INSTALL_ID, &Uid::new(uid.trim())).expect("a UID").0
        })
    }

    /// Makes a namespace with this in its name, and waits until pods can be made in it.
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

    /// Makes this very namespace, and waits until pods can be made in it.
    pub async fn create_namespace(&self, name: &str) {
        let namespace = json!({"metadata": {"name": name, "labels": {"town-operator-test": "true"}}});
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        let api: Api<Namespace> = Api::all(self.client());
        api.create(&PostParams::default(), &namespace)
            .await
            .unwrap_or_else(|e| panic!("namespace {name}: {e}"));
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(self.client(), name);
        until("a service account for pods", PATIENCE, async || {
            accounts.get("default").await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Deletes a namespace and waits until it is gone; its pods are let go by players.
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

    /// Starts the operator with the rights that the chart gives it, and no more.
    pub async fn operator(&self, flags: &[&str]) -> Operator {
        let account = Account::create(self).await;
        Operator::start(account.kubeconfig(), flags).await
    }
}

/// How to reach the cluster of a kubeconfig, and as whom.
pub async fn config(kubeconfig: &Path) -> Config {
    let read = Kubeconfig::read_from(kubeconfig).unwrap_or_else(|error| panic!("{error}"));
    Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap()
}

/// Runs a command: what it prints, or what it complains of. What it remarks though all went well is not part of
/// the answer: kubectl does so at moments of its own choice.
pub fn run(mut command: Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program that does not read it is not wrong.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A program of the bed's, built if it is missing.
pub fn program(name: &str) -> PathBuf {
    Programs::ensure_one(name).unwrap_or_else(|error| panic!("no {name}: {error}"))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}
