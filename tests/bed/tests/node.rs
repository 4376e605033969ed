//! A cluster with a real node: pods really run, and nothing of the cluster remains after any end.
//!
//! The tests count the processes, mounts, control groups and interfaces of the machine. Therefore only one runs at a
//! time.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bed::{BUSYBOX, Component, NodeCluster, Options};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The lock that a test holds, or `None` (with the reason on stderr) on a machine that cannot have a node.
fn turn() -> Option<MutexGuard<'static, ()>> {
    if let Err(why) = bed::node_possible() {
        eprintln!("SKIPPED: {why}");
        return None;
    }
    Some(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
}

fn bed(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bed"));
    command.args(arguments).env_remove("KUBECONFIG");
    command
}

fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Possible remains of a node on the machine: processes, mounts, control groups, interfaces, files.
fn traces(name: &str) -> BTreeSet<String> {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let list = |path: &str| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: BTreeSet<String> = BTreeSet::new();
    let ours = ["town-bed", "/opt/bed/", "containerd", "kubelet", "node-init"];
    for process in list("/proc").filter(|path| path.join("cmdline").exists()) {
        let line = read(process.join("cmdline"));
        let groups = read(process.join("cgroup"));
        let of_a_test = line.contains("target/debug/deps") || line.contains("target/release/deps");
        if !of_a_test && (ours.iter().any(|word| line.contains(word)) || groups.contains("town-bed")) {
            found.insert(format!("process {} {line}", process.display()));
        }
    }
    found.extend(read("/proc/self/mounts".into()).lines().map(|line| format!("mount {line}")));
    found.extend(list("/sys/class/net").map(|path| format!("interface {}", path.display())));
    for group in list("/sys/fs/cgroup").chain(list("/sys/fs/cgroup").flat_map(|path| {
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>()
    })) {
        if group.to_string_lossy().contains("town-bed") {
            found.insert(format!("cgroup {}", group.display()));
        }
    }
    for file in [NodeCluster::directory_of(name).unwrap(), "/var/lib/kubelet".into(), "/var/lib/cni".into()] {
        if file.exists() {
            found.insert(format!("file {}", file.display()));
        }
    }
    found
}

/// Remains that did not exist before. The function gives ending processes a moment.
fn left(before: &BTreeSet<String>, name: &str) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let left: Vec<String> = traces(name).difference(before).cloned().collect();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn apply(cluster: &NodeCluster, objects: &str) {
    let file = cluster.directory().join("objects.yaml");
    std::fs::write(&file, objects).unwrap();
    said(cluster.kubectl().args(["apply", "-f"]).arg(&file)).unwrap();
}

fn wait(cluster: &NodeCluster, condition: &str, object: &str) {
    let arguments = ["wait", &format!("--for={condition}"), "--timeout=60s", object];
    if let Err(error) = said(cluster.kubectl().args(arguments)) {
        let pods = said(cluster.kubectl().args(["describe", "pods"])).unwrap_or_default();
        panic!("{error}\n{pods}");
    }
}

/// A pod that runs without root, writes to its volume and serves the file; and a second pod that reads it.
const STORY: &str = r#"
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data},
 spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer, labels: {app: writer}}
spec:
  securityContext: {runAsUser: 1000, runAsGroup: 1000, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
  containers:
  - name: writer
    image: IMAGE
    command: [sh, -c, "trap 'exit 0' TERM; echo written > /data/x; nc -ll -p 8080 -e cat /data/x & while :; do sleep 1 & wait; done"]
    volumeMounts: [{name: data, mountPath: /data}]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false}
    readinessProbe: {exec: {command: [cat, /data/x]}, periodSeconds: 1}
---
{apiVersion: v1, kind: Service, metadata: {name: writer},
 spec: {selector: {app: writer}, ports: [{port: 80, targetPort: 8080}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: asker}
spec:
  restartPolicy: OnFailure
  containers:
  - name: asker
    image: IMAGE
    command: [sh, -c, "nc -w 2 $KUBERNETES_SERVICE_HOST 443 </dev/null && nc -w 2 $WRITER_SERVICE_HOST 80 </dev/null | grep written"]
"#;

#[test]
fn node_runs_pods_with_volumes_and_services_and_down_leaves_no_traces() {
    let Some(_turn) = turn() else { return };
    let name = "test-story";
    let before = traces(name);
    let line = said(&mut bed(&["up", "--name", name])).unwrap();
    let cluster = NodeCluster::attach(name).unwrap();
    assert_eq!(line.trim(), format!("export KUBECONFIG={}", cluster.kubeconfig().display()));
    assert_eq!(said(&mut bed(&["up", "--name", name])).unwrap(), line, "a second time is no error");
    assert!(said(&mut bed(&["status", "--name", name])).unwrap().contains("kubelet"));

    apply(&cluster, &STORY.replace("IMAGE", BUSYBOX));
    wait(&cluster, "condition=Ready", "pod/writer");
    wait(&cluster, "jsonpath={.status.phase}=Succeeded", "pod/asker");
    assert_eq!(said(cluster.kubectl().args(["logs", "asker"])).unwrap(), "written\n");
    assert!(said(cluster.kubectl().args(["exec", "writer", "--", "id"])).unwrap().contains("uid=1000"));
    let processes = cluster.processes();
    assert!(processes.iter().any(|process| process.cmdline.contains("/data/x")), "{processes:?}");

    said(cluster.kubectl().args(["delete", "pod", "--all", "--timeout=60s"])).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !cluster.processes().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", cluster.processes());
        std::thread::sleep(Duration::from_millis(20));
    }
    said(&mut bed(&["down", "--name", name])).unwrap();
    assert_eq!(left(&before, name), Vec::<String>::new());
}

#[test]
fn containers_survive_a_restart_of_every_component() {
    let Some(_turn) = turn() else { return };
    let cluster = NodeCluster::start(&Options { name: "restarts".into(), ..Options::default() }).unwrap();
    apply(&cluster, &STORY.replace("IMAGE", BUSYBOX));
    wait(&cluster, "condition=Ready", "pod/writer");
    let of_writer = |cluster: &NodeCluster| {
        let processes = cluster.processes();
        processes.into_iter().find(|process| process.cmdline.contains("trap 'exit 0' TERM; echo")).unwrap()
    };
    let before = of_writer(&cluster);
    for component in Component::ALL {
        cluster.kill(component).unwrap();
        cluster.restart(component).unwrap();
    }
    assert_eq!(of_writer(&cluster), before);
    cluster.freeze(Component::Kubelet).unwrap();
    said(cluster.kubectl().args(["delete", "pod", "writer", "--wait=false"])).unwrap();
    assert_eq!(of_writer(&cluster), before, "a frozen kubelet ends nothing");
    cluster.thaw(Component::Kubelet).unwrap();
    wait(&cluster, "delete", "pod/writer");
}

#[test]
fn interrupted_start_is_completed_by_up_or_removed_by_down() {
    let Some(_turn) = turn() else { return };
    let name = "test-interrupted";
    let before = traces(name);
    for after in [5, 40, 90, 150, 400, 1500, 3000] {
        let mut up =
            bed(&["up", "--name", name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after));
        up.kill().unwrap();
        up.wait().unwrap();
        if after == 400 {
            said(&mut bed(&["up", "--name", name])).unwrap();
            said(&mut bed(&["kubectl", "--name", name, "--", "get", "nodes"])).unwrap();
        }
        said(&mut bed(&["down", "--name", name])).unwrap();
        assert_eq!(left(&before, name), Vec::<String>::new(), "interrupted after {after} ms");
    }
}

#[test]
fn node_cluster_ends_when_its_owner_is_killed() {
    let Some(_turn) = turn() else { return };
    let before = traces("none");
    let mut owner = bed(&["hold", "--node"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let directory = PathBuf::from(line.trim());
    assert!(directory.join("kubeconfig").exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let of_processes =
        |left: Vec<String>| left.into_iter().filter(|trace| !trace.starts_with("cgroup")).collect::<Vec<_>>();
    assert_eq!(of_processes(left(&before, "none")), Vec::<String>::new());
    // The next start removes the remains of a killed cluster: its control groups and its directory.
    drop(NodeCluster::start(&Options { name: "next".into(), ..Options::default() }).unwrap());
    assert_eq!(left(&before, "none"), Vec::<String>::new());
    assert!(!directory.exists());
}
