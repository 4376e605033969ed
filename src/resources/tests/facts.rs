//! The facts of children, from objects as the API server stores them.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::super::{claim_facts, pod_facts, service_facts};
use crate::api::condition::reason;
use crate::api::{Port, Protocol, names};
use crate::lifecycle::{ChildKind, Ending, PodFacts, PodPhase, Uid};

/// The facts of a pod as the API server stores it, of the town with UID t and the agent with UID a.
fn facts(metadata: &Value, status: Value) -> PodFacts {
    let mut pod = json!({
        "metadata": {
            "name": "toast-1",
            "namespace": "ns",
            "uid": "p",
            "creationTimestamp": "2030-01-01T00:00:00Z",
            "labels": {names::TOWN_UID: "t", names::AGENT_UID: "a", names::INSTALL: "here"},
            "annotations": {names::HOOK: r#"{"bead":"b1","title":"one"}"#},
            "finalizers": [names::RESULT_FINALIZER],
        },
        "spec": {
            "containers": [{"name": "main", "resources": {"limits": {"memory": "64Mi"}}}, {"name": "side"}],
            "nodeName": "node-1",
        },
    });
    for (key, value) in metadata.as_object().unwrap() {
        pod["metadata"][key] = value.clone();
    }
    pod["status"] = status;
    pod_facts(&serde_json::from_value(pod).unwrap()).unwrap()
}

fn with_status(status: Value) -> PodFacts {
    facts(&json!({}), status)
}

/// The status of a container that ended.
fn terminated(name: &str, exit_code: i32, at: &str) -> Value {
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    let state = json!({"exitCode": exit_code, "reason": reason, "finishedAt": format!("2030-01-01T{at}Z")});
    json!({"name": name, "image": "busybox", "imageID": "", "ready": false, "restartCount": 0,
           "state": {"terminated": state}})
}

/// The status of a container that waits.
fn waiting(reason: &str, message: &str) -> Value {
    json!({"name": "main", "image": "registry/main:1", "imageID": "", "ready": false, "restartCount": 0,
           "state": {"waiting": {"reason": reason, "message": message}}})
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message,
           "lastTransitionTime": "2030-01-01T00:00:30Z"})
}

fn time(at: &str) -> Timestamp {
    format!("2030-01-01T{at}Z").parse().unwrap()
}

#[test]
fn pod_facts_contain_identity_owner_and_hook() {
    let pod = with_status(json!({"phase": "Running", "startTime": "2030-01-01T00:00:05Z"}));
    assert_eq!((pod.key.to_string().as_str(), pod.uid.as_str()), ("ns/toast-1", "p"));
    assert_eq!((pod.town_uid, pod.agent_uid), (Some(Uid::new("t")), Some(Uid::new("a"))));
    assert_eq!((pod.install.as_deref(), pod.node.as_deref()), (Some("here"), Some("node-1")));
    assert_eq!((pod.created, pod.started), (Some(time("00:00:00")), Some(time("00:00:05"))));
    assert_eq!(pod.finalizers, [names::RESULT_FINALIZER]);
    assert_eq!(pod.hook.map(|h| (h.bead, h.title)), Some(("b1".into(), Some("one".into()))));
}

#[test]
fn new_pod_without_a_status_is_pending() {
    let bare = json!({"metadata": {"name": "x", "uid": "p"}});
    let pod = pod_facts(&serde_json::from_value(bare).unwrap()).unwrap();
    assert_eq!(
        (pod.phase, pod.ready, pod.started, pod.trouble.clone()),
        (PodPhase::Pending, false, None, None)
    );
    assert!(!pod.deleting() && !pod.ended() && !pod.done());
    assert_eq!(pod_facts(&Pod::default()), None, "one that was never stored is no pod");
}

#[test]
fn pod_facts_have_no_hook_when_its_annotation_cannot_be_read() {
    let odd = facts(&json!({"annotations": {names::HOOK: "{"}}), json!({}));
    assert_eq!(odd.hook, None);
}

#[test]
fn pod_facts_contain_phase_and_readiness() {
    for (text, phase, ended) in [
        ("Pending", PodPhase::Pending, false),
        ("Running", PodPhase::Running, false),
        ("Succeeded", PodPhase::Succeeded, true),
        ("Failed", PodPhase::Failed, true),
        ("Unknown", PodPhase::Unknown, false),
        ("", PodPhase::Pending, false),
    ] {
        let pod = with_status(json!({"phase": text}));
        assert_eq!((pod.phase, pod.ended()), (phase, ended), "{text}");
    }
    let ready = |status: &str| {
        with_status(json!({"phase": "Running", "conditions": [condition("Ready", status, "", "")]})).ready
    };
    assert!(ready("True") && !ready("False") && !ready("Unknown"));
}

#[test]
fn stop_request_time_is_the_start_of_the_grace_period() {
    let deleted = |grace: Value| {
        let meta = json!({"deletionTimestamp": "2030-01-01T00:01:30Z", "deletionGracePeriodSeconds": grace});
        facts(&meta, json!({"phase": "Running"}))
    };
    let pod = deleted(json!(30));
    assert_eq!((pod.stop_requested, pod.ended()), (Some(time("00:01:00")), false));
    let pod = deleted(json!(0));
    assert_eq!(
        (pod.stop_requested, pod.ended()),
        (Some(time("00:01:30")), true),
        "nothing of it is left to stop"
    );
    let pod = deleted(Value::Null);
    assert_eq!((pod.stop_requested, pod.ended()), (Some(time("00:01:30")), false));
    assert!(!with_status(json!({"phase": "Running"})).deleting());
}

#[test]
fn pod_is_done_only_with_exit_code_0_before_its_stop_request() {
    let told_at_a_minute =
        json!({"deletionTimestamp": "2030-01-01T00:01:30Z", "deletionGracePeriodSeconds": 30});
    let ended = |meta: &Value, phase: &str, statuses: Vec<Value>| {
        facts(meta, json!({"phase": phase, "containerStatuses": statuses})).done()
    };
    let zero = |at: &str| terminated("main", 0, at);
    for (case, done, is) in [
        ("by itself", ended(&json!({}), "Succeeded", vec![zero("00:00:50")]), true),
        ("before it was told", ended(&told_at_a_minute, "Succeeded", vec![zero("00:00:59")]), true),
        ("in the same second", ended(&told_at_a_minute, "Succeeded", vec![zero("00:01:00")]), false),
        ("after it was told", ended(&told_at_a_minute, "Succeeded", vec![zero("00:01:10")]), false),
        ("nobody knows when", ended(&told_at_a_minute, "Succeeded", vec![]), false),
        ("with an error", ended(&json!({}), "Failed", vec![terminated("main", 1, "00:00:50")]), false),
        ("not at all", ended(&json!({}), "Running", vec![zero("00:00:50")]), false),
    ] {
        assert_eq!(done, is, "{case}");
    }
    let two = vec![zero("00:00:10"), terminated("side", 0, "00:01:05")];
    assert!(!ended(&told_at_a_minute, "Succeeded", two), "the last container counts");
}

#[test]
fn termination_contains_exit_code_time_and_message_of_the_containers() {
    let end = |phase: &str, statuses: Value| {
        with_status(json!({"phase": phase, "containerStatuses": statuses})).termination
    };
    let plain = end("Succeeded", json!([terminated("main", 0, "00:00:10")])).unwrap();
    assert_eq!((plain.exit_code, plain.at, plain.message.as_str()), (0, Some(time("00:00:10")), "Completed"));
    let two = end("Failed", json!([terminated("a", 0, "00:00:20"), terminated("b", 3, "00:00:10")])).unwrap();
    assert_eq!((two.exit_code, two.at, two.message.as_str()), (3, Some(time("00:00:20")), "Error"));
    let mut telling = terminated("main", 2, "00:00:10");
    telling["state"]["terminated"]["message"] = json!(" out of memory\n");
    assert_eq!(end("Failed", json!([telling])).unwrap().message, "out of memory");
    assert_eq!(end("Failed", json!([])).unwrap().exit_code, 1, "failed before a container could say so");
    assert_eq!(end("Running", json!([terminated("a", 1, "00:00:10")])), None, "others still run");
}

/// A pod as the kubelet, the scheduler or a controller leaves it, and its result.
#[test]
#[allow(clippy::too_many_lines)] // The function is one table.
fn pod_status_determines_how_the_pod_ended() {
    let disrupted = |by: &str| json!([condition("DisruptionTarget", "True", by, "")]);
    let ended = |code: i32| json!([terminated("main", code, "00:00:10"), terminated("side", 0, "00:00:10")]);
    let by = |code: i32, reason: &str| {
        let mut main = terminated("main", code, "00:00:10");
        main["state"]["terminated"]["reason"] = json!(reason);
        json!([main])
    };
    let own_limit = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi.";
    let cases = [
        ("exit code 0", json!({"phase": "Succeeded", "containerStatuses": ended(0)}), Ending::Completed),
        ("exit code 3", json!({"phase": "Failed", "containerStatuses": ended(3)}), Ending::ContainerFailed),
        (
            "an init container failed",
            json!({"phase": "Failed", "initContainerStatuses": ended(1), "containerStatuses": []}),
            Ending::ContainerFailed,
        ),
        (
            "killed for its memory",
            json!({"phase": "Failed", "containerStatuses": by(137, "OOMKilled")}),
            Ending::OutOfMemory,
        ),
        (
            "evicted for its own limit (kubelet, eviction_manager.go)",
            json!({"phase": "Failed", "reason": "Evicted", "message": own_limit, "containerStatuses": ended(137)}),
            Ending::OwnLimit,
        ),
        (
            "node pressure, and the container ends with 0 on SIGTERM (kubernetes/kubernetes#118310)",
            json!({"phase": "Succeeded", "reason": "Evicted", "containerStatuses": ended(0),
                   "conditions": disrupted("TerminationByKubelet")}),
            Ending::Disrupted,
        ),
        (
            "eviction API",
            json!({"phase": "Failed", "containerStatuses": ended(143),
                   "conditions": disrupted("EvictionByEvictionAPI")}),
            Ending::Disrupted,
        ),
        (
            "scheduler preemption",
            json!({"phase": "Failed", "conditions": disrupted("PreemptionByScheduler")}),
            Ending::Disrupted,
        ),
        (
            "pod garbage collection on a lost node",
            json!({"phase": "Failed", "conditions": disrupted("DeletionByPodGC")}),
            Ending::Disrupted,
        ),
        (
            "graceful node shutdown without a condition",
            json!({"phase": "Failed", "reason": "Terminated", "containerStatuses": ended(143)}),
            Ending::Disrupted,
        ),
        (
            "kubelet preemption without a condition",
            json!({"phase": "Failed", "reason": "Preempting", "containerStatuses": ended(143)}),
            Ending::Disrupted,
        ),
        (
            "not admitted",
            json!({"phase": "Failed", "reason": "OutOfcpu",
                   "message": "Pod was rejected: Node didn't have enough resource: cpu"}),
            Ending::Rejected,
        ),
        (
            "not admitted by a node under pressure",
            json!({"phase": "Failed", "reason": "Evicted",
                   "message": "Pod was rejected: The node had condition: [MemoryPressure]."}),
            Ending::Rejected,
        ),
        ("failed before any container ran", json!({"phase": "Failed", "reason": "Other"}), Ending::NeverRan),
        (
            "deadline",
            json!({"phase": "Failed", "reason": "DeadlineExceeded", "containerStatuses": ended(143)}),
            Ending::DeadlineExceeded,
        ),
        (
            "node reboot",
            json!({"phase": "Failed", "containerStatuses": by(255, "Unknown")}),
            Ending::ContainersLost,
        ),
        (
            "container lost by the kubelet",
            json!({"phase": "Failed", "containerStatuses": by(137, "ContainerStatusUnknown")}),
            Ending::ContainersLost,
        ),
    ];
    for (case, status, ending) in cases {
        assert_eq!(with_status(status).ending(), Some(ending), "{case}");
    }
    let going = json!({"deletionTimestamp": "2030-01-01T00:00:40Z", "deletionGracePeriodSeconds": 40});
    let pod = facts(&going, json!({"phase": "Succeeded", "containerStatuses": ended(0)}));
    assert_eq!(pod.ending(), Some(Ending::Deleted), "it ended after it was told to stop");
    let stale = condition("DisruptionTarget", "False", "", "");
    let pod = with_status(json!({"phase": "Failed", "conditions": [stale], "containerStatuses": ended(1)}));
    assert_eq!(pod.ending(), Some(Ending::ContainerFailed), "a condition that the controller manager reset");
    assert_eq!(with_status(json!({"phase": "Running", "containerStatuses": ended(0)})).ending(), None);
}

// reports:P10
#[test]
fn injected_container_does_not_keep_a_task_pod_from_ending() {
    let names = json!({"annotations": {names::POD_CONTAINERS: "main"}});
    let running = json!({"name": "side", "image": "proxy", "imageID": "", "ready": true, "restartCount": 0,
                         "state": {"running": {}}});
    let with = |main: Value, policy: &str| {
        let status = json!({"phase": "Running", "containerStatuses": [main, running]});
        let mut pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "p"},
            "spec": {"containers": [{"name": "main"}, {"name": "side"}], "restartPolicy": policy}});
        pod["metadata"]["annotations"] = names["annotations"].clone();
        pod["status"] = status;
        pod_facts(&serde_json::from_value(pod).unwrap()).unwrap()
    };
    assert_eq!(with(terminated("main", 0, "00:00:10"), "Never").ending(), Some(Ending::Completed));
    assert_eq!(with(terminated("main", 2, "00:00:10"), "Never").ending(), Some(Ending::ContainerFailed));
    assert_eq!(with(terminated("main", 0, "00:00:10"), "Always").ending(), None, "it is started again");
    let mut crashed = running.clone();
    crashed["restartCount"] = json!(7);
    let pod = facts(&names, json!({"phase": "Running", "containerStatuses": [crashed]}));
    assert_eq!(pod.container_restarts, 0, "the crash of a helper is not the agent's");
}

#[test]
fn unschedulable_pod_shows_the_message_of_the_scheduler() {
    let unscheduled = condition("PodScheduled", "False", "Unschedulable", "0/1 nodes are available");
    let pod = with_status(json!({"phase": "Pending", "conditions": [unscheduled]}));
    assert_eq!(pod.trouble, Some((reason::UNSCHEDULABLE, "0/1 nodes are available".into())));
    assert_eq!(pod.trouble_since, Some(time("00:00:30")));
    for why in ["SchedulingGated", "SchedulerError"] {
        let held = condition("PodScheduled", "False", why, "its own words");
        let pod = with_status(json!({"phase": "Pending", "conditions": [held]}));
        assert_eq!(pod.trouble, Some((reason::UNSCHEDULABLE, "its own words".into())), "{why}");
    }
    let other = condition("PodScheduled", "True", "Unschedulable", "");
    assert_eq!(with_status(json!({"phase": "Pending", "conditions": [other]})).trouble, None);
}

#[test]
fn image_pull_error_has_one_message_in_all_stages_of_the_kubelet() {
    let trouble = |why: &str, message: &str| {
        with_status(json!({"phase": "Pending", "containerStatuses": [waiting(why, message)]}))
            .trouble
            .unwrap()
    };
    let pulling = trouble("ErrImagePull", "no such host");
    let waits =
        trouble("ImagePullBackOff", "Back-off pulling image \"registry/main:1\": ErrImagePull: no such host");
    assert_eq!(pulling, waits, "the two alternate: status would never rest");
    assert_eq!(pulling.0, reason::IMAGE_PULL);
    for word in ["main", "registry/main:1", "no such host"] {
        assert!(pulling.1.contains(word), "{}", pulling.1);
    }
    for why in ["InvalidImageName", "ErrImageNeverPull"] {
        assert_eq!(trouble(why, "").0, reason::IMAGE_PULL, "{why}");
    }
}

#[test]
fn crashing_or_uncreatable_container_is_reported_as_container_failed() {
    let mut crashing = waiting("CrashLoopBackOff", "back-off 10s restarting failed container");
    crashing["lastState"] = terminated("main", 137, "00:00:10")["state"].clone();
    let statuses = |status: Value| json!({"phase": "Running", "containerStatuses": [status]});
    let (why, text) = with_status(statuses(crashing)).trouble.unwrap();
    assert_eq!(why, reason::CONTAINER_FAILED);
    assert!(text.contains("137") && !text.contains("10s"), "{text}: the wait grows, the text must not");
    let unmade = waiting("CreateContainerConfigError", "secret \"x\" not found");
    let (why, text) = with_status(statuses(unmade)).trouble.unwrap();
    assert_eq!(why, reason::CONTAINER_FAILED);
    assert!(text.contains("secret \"x\" not found"), "{text}");
    for fine in ["ContainerCreating", "PodInitializing"] {
        assert_eq!(with_status(statuses(waiting(fine, ""))).trouble, None, "{fine}");
    }
    let init = json!({"phase": "Pending", "initContainerStatuses": [waiting("ErrImagePull", "gone")]});
    assert_eq!(with_status(init).trouble.unwrap().0, reason::IMAGE_PULL, "init containers too");
}

#[test]
fn oom_killed_container_is_named_with_its_memory_limit() {
    let killed = |name: &str| {
        let mut status = terminated(name, 137, "00:00:10");
        status["state"]["terminated"]["reason"] = json!("OOMKilled");
        status
    };
    let trouble =
        |status: Value| with_status(json!({"phase": "Running", "containerStatuses": [status]})).trouble;
    let (why, text) = trouble(killed("main")).unwrap();
    assert_eq!(why, reason::OOM_KILLED);
    for word in ["container main", "64Mi", "137"] {
        assert!(text.contains(word), "{text}");
    }
    let mut backs_off = waiting("CrashLoopBackOff", "back-off 10s restarting failed container");
    backs_off["lastState"] = killed("main")["state"].clone();
    assert_eq!(trouble(backs_off.clone()), Some((why, text.clone())), "one text for all of its stages");
    let mut again = backs_off;
    again["state"] = json!({"running": {"startedAt": "2030-01-01T00:00:40Z"}});
    assert_eq!(trouble(again.clone()), Some((why, text)), "until it is ready");
    again["ready"] = json!(true);
    assert_eq!(trouble(again), None);
    let (_, text) = trouble(killed("side")).unwrap();
    assert!(text.contains("side") && !text.contains("64Mi"), "a limit of somebody else: {text}");

    let end = |status: Value| {
        let pod = with_status(json!({"phase": "Failed", "containerStatuses": [status]}));
        pod.termination.unwrap().message
    };
    let message = end(killed("main"));
    assert!(message.contains("OOMKilled") && message.contains("64Mi"), "{message}");
    let mut spoke = killed("main");
    spoke["state"]["terminated"]["message"] = json!("last words");
    let message = end(spoke);
    assert!(message.contains("OOMKilled") && message.ends_with(": last words"), "{message}");
}

#[test]
fn failed_init_container_gives_the_termination_but_a_stopped_sidecar_does_not() {
    let end = |phase: &str, init: Value, main: Value| {
        let status = json!({"phase": phase, "initContainerStatuses": [init], "containerStatuses": [main]});
        with_status(status).termination.unwrap()
    };
    let mut init = terminated("setup", 4, "00:00:10");
    init["state"]["terminated"]["message"] = json!("no repository");
    let failed = end("Failed", init.clone(), waiting("PodInitializing", ""));
    assert_eq!((failed.exit_code, failed.message.as_str()), (4, "no repository"));
    // A sidecar is stopped after the end of the others.
    let done = end("Succeeded", init, terminated("main", 0, "00:00:10"));
    assert_eq!((done.exit_code, done.message.as_str()), (0, "Completed"));
}

#[test]
fn termination_message_is_cut_at_the_limit_of_the_kubelet() {
    let mut long = terminated("main", 1, "00:00:10");
    long["state"]["terminated"]["message"] = json!(format!("x{}", "\u{e4}".repeat(4000)));
    let pod = with_status(json!({"phase": "Failed", "containerStatuses": [long]}));
    let message = pod.termination.unwrap().message;
    assert_eq!(message.len(), 4095, "no character is cut in two");
}

#[test]
fn probe_address_is_the_pod_ip_unless_the_pod_uses_the_host_network() {
    let at = |spec: &Value, ip: Value| {
        let pod = json!({"metadata": {"name": "x", "uid": "p"}, "spec": spec, "status": {"podIP": ip}});
        pod_facts(&serde_json::from_value(pod).unwrap()).unwrap().address
    };
    let own = json!({"containers": []});
    assert_eq!(at(&own, json!("10.0.0.7")).as_deref(), Some("10.0.0.7"));
    assert_eq!(at(&own, json!("")), None);
    assert_eq!(at(&own, Value::Null), None);
    let of_node = json!({"containers": [], "hostNetwork": true});
    assert_eq!(at(&of_node, json!("10.0.0.7")), None, "others answer there, too");
}

#[test]
fn pod_facts_contain_unready_time_and_container_restarts() {
    let since = |status: &str| {
        let ready = condition("Ready", status, "", "");
        with_status(json!({"phase": "Running", "conditions": [ready]})).not_ready_since
    };
    assert_eq!(since("False"), Some(time("00:00:30")));
    assert_eq!(since("Unknown"), Some(time("00:00:30")));
    assert_eq!(since("True"), None);
    assert_eq!(with_status(json!({"phase": "Running"})).not_ready_since, None);

    let restarted = |n: i32| {
        let mut status = waiting("CrashLoopBackOff", "");
        status["restartCount"] = json!(n);
        status
    };
    let pod = with_status(json!({
        "phase": "Running", "initContainerStatuses": [restarted(1)],
        "containerStatuses": [restarted(2), restarted(4)],
    }));
    assert_eq!(pod.container_restarts, 4, "a reboot restarts all of them, and is one incident");
    let mut lost = restarted(4);
    lost["lastState"] = json!({"terminated": {"exitCode": 255, "reason": "Unknown"}});
    let pod = with_status(json!({"phase": "Running", "containerStatuses": [restarted(1), lost]}));
    assert!(pod.restarted_by_node);
}

#[test]
fn pod_facts_contain_revision_and_restart_annotation() {
    let made = json!({"annotations": {names::POD_REVISION: "r1", names::RESTART_AT: "noon"}});
    let pod = facts(&made, json!({}));
    assert_eq!((pod.revision.as_deref(), pod.restart_at.as_deref()), (Some("r1"), Some("noon")));
    let pod = with_status(json!({}));
    assert_eq!((pod.revision, pod.restart_at), (None, None));
}

#[test]
fn token_secret_name_is_read_only_from_the_volume_of_the_operator() {
    let named = |volume: &str| {
        let token = json!({"secret": {"name": "door", "items": [{"key": "token", "path": "token"}]}});
        let volumes = json!([{"name": volume, "projected": {"sources": [{}, token]}}]);
        let pod = json!({"metadata": {"uid": "p"}, "spec": {"containers": [], "volumes": volumes}});
        pod_facts(&serde_json::from_value(pod).unwrap()).unwrap().token_secret_name
    };
    assert_eq!((named("gastown").as_deref(), named("theirs")), (Some("door"), None));
}

#[test]
fn claim_facts_contain_identity_and_owner() {
    let claim = |meta: Value| {
        let mut all = json!({"name": "gas-1", "namespace": "ns", "uid": "c", "finalizers": ["kubernetes.io/pvc-protection"],
            "labels": {names::TOWN_UID: "t", names::INSTALL: "here"}});
        for (key, value) in meta.as_object().unwrap() {
            all[key] = value.clone();
        }
        claim_facts(&serde_json::from_value(json!({"metadata": all})).unwrap()).unwrap().child
    };
    let there = claim(json!({}));
    assert_eq!((there.key.name.as_str(), there.uid.as_str(), there.deleting), ("gas-1", "c", false));
    assert_eq!((there.town_uid, there.agent_uid), (Some(Uid::new("t")), None));
    assert_eq!((there.install.as_deref(), there.finalizers.len()), (Some("here"), 1));
    assert!(claim(json!({"deletionTimestamp": "2030-01-01T00:00:00Z"})).deleting);
    assert_eq!(claim_facts(&PersistentVolumeClaim::default()), None);
}

#[test]
fn claim_facts_contain_requested_size_and_loss_of_the_volume() {
    let claim = |phase: &str| {
        let claim = json!({
            "metadata": {"name": "gas-1", "uid": "c"},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": phase},
        });
        claim_facts(&serde_json::from_value(claim).unwrap()).unwrap()
    };
    assert_eq!(claim("Bound").requested.map(|q| q.0).as_deref(), Some("1Gi"));
    assert!(claim("Lost").lost && !claim("Bound").lost && !claim("Pending").lost);
}

#[test]
fn service_facts_contain_ports_and_owner() {
    let service = json!({
        "metadata": {"name": "gas-1", "namespace": "ns", "uid": "s",
            "labels": {names::TOWN_UID: "t", names::INSTALL: "here"}},
        "spec": {"ports": [{"name": "web", "port": 80, "targetPort": 80}, {"port": 81},
            {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP", "appProtocol": "example.com/d"}]},
    });
    let facts = service_facts(&serde_json::from_value(service).unwrap()).unwrap();
    assert_eq!((facts.child.kind, facts.child.uid.as_str()), (ChildKind::Service, "s"));
    assert_eq!((facts.child.town_uid, facts.child.agent_uid), (Some(Uid::new("t")), None));
    let port = |port: Value| serde_json::from_value::<Port>(port).unwrap().resolved();
    let web = port(json!({"name": "web", "port": 80}));
    assert_eq!((web.target_port.clone(), web.protocol), (Some(IntOrString::Int(80)), Some(Protocol::Tcp)));
    let dns = json!({"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP", "appProtocol": "example.com/d"});
    assert_eq!(facts.ports, [web, port(json!({"name": "", "port": 81})), port(dns)]);
    assert_eq!(service_facts(&Service::default()), None);
}
