//! The stage: one cluster with the operator, shared by all stories.

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bed::{NodeCluster, Options};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::sync::{OnceCell, RwLock};
use town_operator::api::names;

use crate::common::cluster::{Cluster, GIVEN, given};
use crate::common::suite::{SIDE_BY_SIDE, Suite};
use crate::common::wait::until;
use crate::release::{self, Release};
use crate::scene::{PATIENCE, Scene, is_ready};

/// A cluster with the installed operator.
pub struct Stage {
    pub cluster: Cluster,
    pub release: Release,
    /// Stories share the lock; a story that disturbs others holds it alone.
    pub turn: Arc<RwLock<()>>,
    /// The largest resident set of any operator of the suite, in KiB.
    peak: AtomicU64,
    had_definitions: bool,
    // The field is the last one, so that the node is dropped after its clients.
    node: Option<NodeCluster>,
}

impl Stage {
    async fn set_up() -> Result<Self, String> {
        let node = match given() {
            Some(_) => None,
            None => Some(own_node()?),
        };
        let kubeconfig = node.as_ref().map_or_else(|| given().expect(GIVEN), |node| node.kubeconfig().into());
        let cluster = Cluster::at(&kubeconfig, None).await;
        let release = Release::new(&kubeconfig, cluster.scratch(), node.is_some());
        let others = ["get", "deployments", "-A", "-l", "app.kubernetes.io/name=town-operator", "-o", "name"];
        let others = cluster.try_kubectl(&others, "")?;
        if others.contains('/') {
            return Err(format!(
                "an operator runs on that cluster already, and would look after the stories' towns: {others}"
            ));
        }
        let had_definitions = cluster.try_kubectl(&["get", "crd", "towns.gastown.dev"], "").is_ok();
        release.install(if had_definitions { &["--take-ownership"] } else { &[] }).inspect_err(|_| {
            let _ = release.uninstall();
        })?;
        let (turn, peak) = (Arc::default(), AtomicU64::default());
        Ok(Self { cluster, release, turn, peak, had_definitions, node })
    }

    /// The node, if the cluster is the suite's own.
    pub fn node(&self) -> Option<&NodeCluster> {
        self.node.as_ref()
    }

    /// The operator's pods, including those that are being deleted.
    pub async fn operators(&self) -> Vec<Pod> {
        let api: Api<Pod> = Api::namespaced(self.cluster.client(), release::NAMESPACE);
        let ours = ListParams::default().labels("app.kubernetes.io/name=town-operator");
        api.list(&ours).await.unwrap_or_else(|error| panic!("list pods: {error}")).items
    }

    /// Waits until the operator has exactly one pod, which is ready.
    pub async fn operator(&self) -> Pod {
        until("one operator is ready", PATIENCE, async || match &self.operators().await[..] {
            [pod] if is_ready(pod) && pod.metadata.deletion_timestamp.is_none() => Ok(pod.clone()),
            pods => Err(format!("{:?}", pods.iter().map(ResourceExt::name_any).collect::<Vec<_>>())),
        })
        .await
    }

    /// The log of the operator that runs now.
    pub fn operator_log(&self) -> String {
        let deployment = format!("deployment/{}", release::NAME);
        let log = ["logs", "-n", release::NAMESPACE, &deployment, "--tail=-1"];
        self.cluster.try_kubectl(&log, "").unwrap_or_else(|said| said)
    }

    /// The process id of the operator on the suite's own node.
    async fn operator_pid(&self) -> Option<i32> {
        let pods = self.operators().await;
        let processes = self.node()?.processes();
        let ours = processes.iter().find(|process| {
            process.cmdline.starts_with("/town-operator")
                && pods.iter().any(|pod| pod.metadata.uid.as_ref() == Some(&process.pod_uid))
        });
        ours.map(|process| process.pid)
    }

    /// The content of `/proc/PID/status` of the operator's process.
    pub async fn operator_process(&self) -> Option<String> {
        let pid = self.operator_pid().await?;
        fs::read_to_string(format!("/proc/{pid}/status")).ok()
    }

    /// Kills the operator's process (SIGKILL) on the suite's own node. The kubelet restarts it in the same pod.
    pub async fn kill_operator(&self) {
        let pid = until("the operator runs", PATIENCE, async || {
            self.operator_pid().await.ok_or("it does not".into())
        })
        .await;
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a process of our own node");
    }

    /// Records the memory of the operator until now, and returns the peak of all operators in KiB.
    pub async fn weigh(&self) -> u64 {
        let process = self.operator_process().await.unwrap_or_default();
        let peak = process.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
        self.peak.fetch_max(peak.unwrap_or(0), Ordering::Relaxed).max(peak.unwrap_or(0))
    }

    /// Requests of the operator in the audit log that were refused because of a missing right.
    pub fn refused(&self) -> Vec<String> {
        if self.node.is_none() {
            return Vec::new();
        }
        let decided = |how: &str| -> Vec<String> {
            let noted = self.noted(how).into_iter();
            let so = noted.filter(|(_, entry)| entry["annotations"]["authorization.k8s.io/decision"] == how);
            so.map(|(line, _)| line).collect()
        };
        assert!(!decided("allow").is_empty(), "the audit log says nothing of the operator");
        decided("forbid")
    }

    /// The number of answered requests of the operator in this namespace until now, without Events.
    pub fn requests_in(&self, namespace: &str) -> usize {
        let asks = |entry: &Value| {
            entry["objectRef"]["namespace"] == namespace && entry["objectRef"]["resource"] != "events"
        };
        self.noted(namespace).iter().filter(|(_, entry)| asks(entry)).count()
    }

    /// The operator's requests in the audit log whose line contains this word.
    fn noted(&self, word: &str) -> Vec<(String, Value)> {
        let Some(node) = self.node() else { return Vec::new() };
        let log = fs::read_to_string(node.audit_log()).expect("the audit log");
        let account = format!("system:serviceaccount:{}:{}", release::NAMESPACE, release::NAME);
        let lines = log.lines().filter(|line| line.contains(&account) && line.contains(word));
        let entries = lines.map(|line| (line.to_owned(), serde_json::from_str(line).unwrap_or_default()));
        entries.filter(|(_, entry): &(_, Value)| entry["user"]["username"] == account.as_str()).collect()
    }

    /// Deletes the towns of all stories, and reports their remains on the suite's own node. The function blocks.
    fn clear(&self) -> Result<(), String> {
        let Some(node) = self.node() else { return Ok(()) };
        let delete = ["delete", "towns,agents", "--all", "--all-namespaces", "--timeout=180s"];
        self.cluster.try_kubectl(&delete, "")?;
        let ours = ["--all-namespaces", "-l", names::INSTALL, "-o", "name"];
        let kinds = ["get", "towns,agents,pods,persistentvolumeclaims,services,secrets"];
        let objects = self.cluster.try_kubectl(&[&kinds[..], &ours].concat(), "")?;
        let operators = ["get", "pods", "-n", release::NAMESPACE, "-o", "jsonpath={.items[*].metadata.uid}"];
        let operators = self.cluster.try_kubectl(&operators, "")?;
        let processes: Vec<_> =
            node.processes().into_iter().filter(|process| !operators.contains(&process.pod_uid)).collect();
        if objects.trim().is_empty() && processes.is_empty() {
            eprintln!("all towns were deleted: no object and no process of them is left");
            return Ok(());
        }
        Err(format!("left of deleted towns:\n{objects}{processes:#?}"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let peak = self.peak.load(Ordering::Relaxed);
        if peak > 0 {
            let (mebi, tenth) = (peak / 1024, peak % 1024 * 10 / 1024);
            eprintln!("the operator's largest resident set in all of these stories: {mebi}.{tenth} MiB");
        }
        if self.node.is_some() {
            return;
        }
        // A foreign cluster must have its former state. The towns are deleted first, while their operator runs.
        let mut done =
            vec![self.cluster.try_kubectl(
                &["delete", "namespaces", "-l", "town-operator-test=true", "--timeout=180s"],
                "",
            )];
        done.push(self.release.uninstall().map(|()| String::new()));
        let delete = ["delete", "--ignore-not-found", "--timeout=60s"];
        if !self.had_definitions {
            let definitions = ["crd", "towns.gastown.dev", "agents.gastown.dev"];
            done.push(self.cluster.try_kubectl(&[&delete[..], &definitions].concat(), ""));
        }
        let namespace = ["namespace", release::NAMESPACE];
        done.push(self.cluster.try_kubectl(&[&delete[..], &namespace].concat(), ""));
        for said in done.into_iter().filter_map(Result::err) {
            eprintln!("left on the cluster: {said}");
        }
    }
}

fn own_node() -> Result<NodeCluster, String> {
    let archive = release::build_image()?;
    let options = Options {
        name: "stories".into(),
        api_server_args: vec![format!("--request-timeout={}", release::REQUEST_TIMEOUT)],
        ..Options::default()
    };
    let node = NodeCluster::start(&options).map_err(|error| error.to_string())?;
    node.load_image(&archive).map_err(|error| error.to_string())?;
    Ok(node)
}

/// The step after the last story.
struct Epilogue {
    stage: Arc<OnceCell<Result<Arc<Stage>, String>>>,
    clean: Arc<AtomicBool>,
}

impl Drop for Epilogue {
    fn drop(&mut self) {
        if let Some(Ok(stage)) = self.stage.get()
            && let Err(left) = stage.clear()
        {
            eprintln!("{left}");
            self.clean.store(false, Ordering::Relaxed);
        }
    }
}

/// The stories of the suite. The first story sets up the stage.
pub struct Stories {
    suite: Suite,
    stage: Arc<OnceCell<Result<Arc<Stage>, String>>>,
    impossible: Option<String>,
}

impl Stories {
    pub fn new() -> Self {
        let impossible = match given() {
            Some(_) => None,
            None => bed::node_possible().err(),
        };
        if let Some(why) = &impossible {
            eprintln!("{why}; {GIVEN} names a cluster to use instead. Every story on a node is skipped.");
        }
        Self { suite: Suite::new(SIDE_BY_SIDE), stage: Arc::default(), impossible }
    }

    /// Runs the stories. At the end no remains of their towns may exist.
    pub fn tell(self) -> ExitCode {
        let clean = Arc::new(AtomicBool::new(true));
        let code = self.suite.run(Epilogue { stage: self.stage, clean: clean.clone() });
        if clean.load(Ordering::Relaxed) { code } else { ExitCode::FAILURE }
    }

    pub fn add<F, Fut>(&mut self, story: F)
    where
        F: FnOnce(Scene) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let name = name_of(&story);
        if let Some(why) = &self.impossible {
            self.suite.skip(name, why);
            return;
        }
        let stage = self.stage.clone();
        self.suite.add(name.clone(), move || async move {
            let set_up = async || Stage::set_up().await.map(Arc::new);
            let stage = match stage.get_or_init(set_up).await {
                Ok(stage) => stage.clone(),
                Err(why) => panic!("there is no stage: {why}"),
            };
            story(Scene::begin(&name, stage.clone()).await).await;
            stage.weigh().await;
        });
    }

    /// Adds a story that needs the suite's own node.
    pub fn add_on_our_node<F, Fut>(&mut self, story: F)
    where
        F: FnOnce(Scene) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        if given().is_some() {
            let why = format!("it looks into the node, or breaks it; {GIVEN} names somebody else's");
            self.suite.skip(name_of(&story), &why);
        } else {
            self.add(story);
        }
    }
}

/// The name of a story is the path of its function: `sleep::an_idle_town_...`.
fn name_of<F>(_: &F) -> String {
    let name = std::any::type_name::<F>();
    name.split_once("::").map_or(name, |(_, name)| name).to_owned()
}
