//! A control plane without a node: its use, the control of its components, and its removal.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bed::{Component, ControlPlane, Error, Options};

fn start(name: &str) -> ControlPlane {
    ControlPlane::start(Options { name: name.into(), ..Options::default() }).unwrap()
}

fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The processes whose arguments name a directory.
fn mentioning(directory: &Path) -> Vec<String> {
    let needle = directory.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(&needle)).collect()
}

fn await_that(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn control_planes_side_by_side_are_isolated_and_leave_no_processes() {
    let began = Instant::now();
    let (one, other) = (start("one"), start("other"));
    println!("two started in {:?}", began.elapsed());
    said(one.kubectl().args(["create", "configmap", "only-here"])).unwrap();
    said(one.kubectl().args(["get", "configmap", "only-here"])).unwrap();
    assert!(said(other.kubectl().args(["get", "configmap", "only-here"])).unwrap_err().contains("NotFound"));

    let audit = std::fs::read_to_string(one.audit_log()).unwrap();
    let creation = audit.lines().find(|line| line.contains("\"only-here\"") && line.contains("\"create\""));
    assert!(creation.is_some_and(|line| line.contains("bed-admin")), "the creation is in the audit log");

    for control_plane in [one, other] {
        let directory = control_plane.directory().to_owned();
        assert_eq!(mentioning(&directory).len(), 3);
        drop(control_plane);
        assert_eq!(mentioning(&directory), Vec::<String>::new());
        assert!(!directory.exists());
    }
}

#[test]
fn api_server_restarts_with_its_data_after_a_kill() {
    let it = start("killed");
    said(it.kubectl().args(["create", "configmap", "kept"])).unwrap();
    it.kill(Component::ApiServer).unwrap();
    assert_eq!(it.pid(Component::ApiServer), None);
    said(it.kubectl().args(["get", "configmap", "kept"])).unwrap_err();
    it.restart(Component::ApiServer).unwrap();
    said(it.kubectl().args(["get", "configmap", "kept"])).unwrap();
}

#[test]
fn every_component_can_be_stopped_and_restarted() {
    let it = start("restarts");
    for component in [Component::Etcd, Component::ControllerManager, Component::ApiServer] {
        it.stop(component).unwrap();
        assert_eq!(it.pid(component), None);
        it.restart(component).unwrap();
    }
    said(it.kubectl().args(["create", "namespace", "still-works"])).unwrap();
}

#[test]
fn requests_time_out_while_etcd_is_frozen_and_succeed_after_the_thaw() {
    let api_server_args = vec!["--request-timeout=5s".into()];
    let it = ControlPlane::start(Options { name: "frozen".into(), api_server_args, ..Options::default() });
    let it = it.unwrap();
    it.freeze(Component::Etcd).unwrap();
    said(it.kubectl().args(["create", "configmap", "late", "--request-timeout=3s"])).unwrap_err();
    it.thaw(Component::Etcd).unwrap();
    await_that("a configmap can be created", || {
        said(it.kubectl().args(["create", "configmap", "late"])).is_ok_and(|text| text.contains("created"))
            || said(it.kubectl().args(["get", "configmap", "late"])).is_ok()
    });
}

#[test]
fn claim_gets_a_volume_from_the_default_class() {
    let it = start("claims");
    let claim = it.directory().join("claim.yaml");
    let text = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: \
                {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}";
    std::fs::write(&claim, text).unwrap();
    said(it.kubectl().args(["apply", "-f"]).arg(&claim)).unwrap();
    let bound = ["wait", "--for=jsonpath={.status.phase}=Bound", "--timeout=20s", "pvc/data"];
    said(it.kubectl().args(bound)).unwrap();
    said(it.kubectl().args(["delete", "pvc/data"])).unwrap();
    said(it.kubectl().args(["wait", "--for=delete", "--timeout=20s", "pv", "--all"])).unwrap();
}

#[test]
fn start_error_names_the_failed_component_and_its_log() {
    let api_server_args = vec!["--no-such-flag".into()];
    let options = Options { name: "broken".into(), api_server_args, ..Options::default() };
    match ControlPlane::start(options) {
        Err(Error::NotReady { component, said, .. }) => {
            assert_eq!(component, "kube-apiserver");
            assert!(said.contains("no-such-flag"), "{said}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
}

#[test]
fn control_plane_ends_with_its_killed_owner_and_the_next_start_cleans_up() {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_bed"))
        .arg("hold")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let directory = PathBuf::from(line.trim());
    assert_eq!(mentioning(&directory).len(), 3);
    owner.kill().unwrap();
    owner.wait().unwrap();
    await_that("no process is left", || mentioning(&directory).is_empty());
    assert!(directory.exists());
    drop(start("next"));
    assert!(!directory.exists());
}
