//! The containers of a town live and work, and their results outlive them.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, EvictParams};
use serde_json::json;
use town_operator::api::{Agent, Outcome};

use crate::common::wait::until;
use crate::scene::{Lives, PATIENCE, STAY, Scene, Works, is_ready, restarts, runs};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.add(failed_bead_is_retried_after_30_seconds);
    stories.add(agent_containers_have_their_identity_and_keep_their_files);
    stories.add(agent_fails_and_its_town_is_idle_after_the_retry_limit);
    stories.add(session_pod_is_replaced_with_the_same_files_after_a_delete);
    stories.add(crashed_session_container_restarts_in_its_pod);
    stories.add(session_pod_is_replaced_after_its_containers_end);
    stories.add(exit_0_of_a_deleted_pod_does_not_finish_the_bead);
    stories.add(evicted_pods_are_replaced_without_a_counted_failure);
    stories.add(new_bead_ends_unfinished_work_without_marking_it_done);
}

/// Writes its name, its task and its work into the termination message.
const REPORT: &str = r#"
    set -eu
    echo "$GASTOWN_BEAD" >> /agent/ledger
    todo=$(sed -n 's/.*"instructions":"\([^"]*\)".*/\1/p' /var/run/gastown/hook.json)
    who="$GASTOWN_TOWN/$GASTOWN_AGENT/$GASTOWN_IDENTITY/$GASTOWN_ROLE/$GASTOWN_RIG"
    echo "$who: $GASTOWN_BEAD, $todo; so far:" $(cat /agent/ledger) > /dev/termination-log
"#;

async fn agent_containers_have_their_identity_and_keep_their_files(scene: Scene) {
    let awake = format!("echo awake >> /town/diary; {STAY}");
    let town = json!({"storage": {"size": "16Mi"}, "template": runs(&awake), "agentTemplate": runs(REPORT)});
    let uid = scene.create_town("alpha", town).await.uid().unwrap();
    scene.create_mayor("mayor", "alpha", STAY).await;
    for (name, identity) in [("ada", "alder"), ("bob", "birch")] {
        let polecat = json!({
            "townName": "alpha", "role": "Polecat", "rig": "orchard", "identity": identity,
            "storage": {"size": "16Mi"}, "hook": {"bead": format!("{name}-1"), "instructions": "count the trees"},
        });
        scene.create::<Agent>(name, polecat).await;
    }

    // Polecats: one pod for each bead, and one volume for all pods of a polecat.
    for (name, identity) in [("ada", "alder"), ("bob", "birch")] {
        let work = scene.done(name, &format!("{name}-1")).await;
        let who = format!("alpha/{name}/{identity}/polecat/orchard");
        assert_eq!(work.message, format!("{who}: {name}-1, count the trees; so far: {name}-1"));
        assert_eq!((work.attempts, work.done), (1, vec![format!("{name}-1")]));
    }
    let next = json!({"spec": {"hook": {"bead": "ada-2", "instructions": "prune them"}}});
    scene.agent("ada").merge(next).await;
    let work = scene.done("ada", "ada-2").await;
    assert_eq!(work.message, "alpha/ada/alder/polecat/orchard: ada-2, prune them; so far: ada-1 ada-2");
    assert_eq!((work.attempts, work.done), (1, vec!["ada-1".into(), "ada-2".into()]));

    // The town and its mayor have a pod each while the town is awake.
    let square = scene.town_pod("alpha").await;
    assert_eq!(scene.exec(&square.name_any(), "cat /town/diary; echo $GASTOWN_TOWN"), "awake\nalpha\n");
    let office = scene.ready_pod("mayor", None).await;
    let said = scene.exec(&office.name_any(), "echo $GASTOWN_AGENT $GASTOWN_ROLE [$GASTOWN_BEAD]");
    assert_eq!(said, "mayor mayor []\n");
    until("the polecats' pods are gone", PATIENCE, async || {
        let pods: Vec<String> = scene.pods(&uid).await.iter().map(ResourceExt::name_any).collect();
        if pods.len() == 2 { Ok(()) } else { Err(format!("{pods:?}")) }
    })
    .await;
    scene.assert_runs(&[square, office.clone()]).await;

    // A hook reaches a running session.
    let hook = json!({"spec": {"hook": {"bead": "m-1", "title": "Greet the guests"}}});
    scene.agent("mayor").merge(hook).await;
    scene.agent("mayor").until_within(PATIENCE, "was given m-1", |agent| agent.work().bead == "m-1").await;
    until("the hook is in the container", PATIENCE, async || {
        let hook = scene.try_exec(&office.name_any(), "cat /var/run/gastown/hook.json")?;
        if hook == r#"{"bead":"m-1","title":"Greet the guests"}"# { Ok(()) } else { Err(hook) }
    })
    .await;
    let same = scene.ready_pod("mayor", None).await;
    assert_eq!((same.uid(), restarts(&same)), (office.uid(), 0));
}

async fn failed_bead_is_retried_after_30_seconds(scene: Scene) {
    let uid = scene.create_town("alpha", json!({})).await.uid().unwrap();
    let clumsy = "[ ! -e /agent/tried ] || exit 0
        touch /agent/tried; echo 'the saw broke' > /dev/termination-log; exit 7";
    scene.create_polecat("ada", "alpha", "a-1", clumsy).await;

    let has_failed = |agent: &Agent| agent.work().outcome == Some(Outcome::Failed);
    let failed = scene.agent("ada").until_within(PATIENCE, "has failed", has_failed).await;
    let work = failed.work();
    assert_eq!((work.bead.as_str(), work.attempts, work.done.len()), ("a-1", 1, 0));
    assert!(work.message.ends_with("ended with exit code 7: the saw broke"), "{}", work.message);
    assert!(failed.is("Degraded") && failed.is("Reconciling"), "{failed:?}");
    assert_eq!(failed.reason("Ready"), "BackOff");
    assert!(
        scene.town("alpha").get().await.is("Active"),
        "an unfinished bead is work, also between two attempts"
    );

    scene.await_no_pods(&uid).await;
    scene.assert_nothing_runs();

    let done = scene.done("ada", "a-1").await;
    assert_eq!((done.attempts, done.done), (2, vec!["a-1".into()]));
    let pause = done.start_time.unwrap().0.duration_since(work.finish_time.unwrap().0);
    assert!((30..45).contains(&pause.as_secs()), "30 s after the first failure, not {pause:?}");
}

async fn agent_fails_and_its_town_is_idle_after_the_retry_limit(scene: Scene) {
    scene.create_town("alpha", json!({})).await;
    let polecat = json!({
        "townName": "alpha", "role": "Polecat", "rig": "orchard", "retry": {"limit": 1},
        "template": runs("exit 7"), "hook": {"bead": "a-1"},
    });
    scene.create::<Agent>("ada", polecat).await;
    let failed = scene.agent("ada").until_within(PATIENCE, "is Failed", |ada| ada.phase() == "Failed").await;
    assert_eq!(
        (failed.reason("Ready"), failed.reason("Degraded")),
        ("RetryLimitExceeded", "RetryLimitExceeded")
    );
    assert_eq!((failed.work().attempts, failed.work().outcome), (1, Some(Outcome::Failed)));
    let town = scene.town("alpha");
    town.until_within(PATIENCE, "has no work any more", |t| !t.is("Active") && t.phase() == "Idle").await;
}

async fn session_pod_is_replaced_with_the_same_files_after_a_delete(scene: Scene) {
    scene.create_town("alpha", json!({})).await;
    scene.create_mayor("mayor", "alpha", &format!("echo day >> /agent/days; {STAY}")).await;
    let first = scene.ready_pod("mayor", None).await;
    scene.kubectl(&["delete", "pod", &first.name_any(), "--timeout=120s"]);
    let second = scene.ready_pod("mayor", first.uid().as_deref()).await;
    assert_eq!(scene.exec(&second.name_any(), "cat /agent/days"), "day\nday\n");
    scene.assert_runs(&[second]).await;
    scene.agent("mayor").until_within(PATIENCE, "is there again", |agent| agent.phase() == "Idle").await;
}

async fn crashed_session_container_restarts_in_its_pod(scene: Scene) {
    scene.create_town("alpha", json!({})).await;
    scene.create_mayor("mayor", "alpha", &format!("echo day >> /agent/days; {STAY}")).await;
    let pod = scene.ready_pod("mayor", None).await;
    scene.exec(&pod.name_any(), "killall sleep");
    let same = scene.seen::<Pod>(&pod.name_any());
    let same = same.until_within(PATIENCE, "runs again", |pod| restarts(pod) > 0).await;
    assert_eq!(same.uid(), pod.uid());
    let same = scene.ready_pod("mayor", None).await;
    assert_eq!((same.uid(), restarts(&same)), (pod.uid(), 1));
    assert_eq!(scene.exec(&same.name_any(), "cat /agent/days"), "day\nday\n");
    let mayor = scene.agent("mayor");
    let mayor = mayor.until_within(PATIENCE, "is Ready", |mayor| mayor.is("Ready")).await;
    assert_eq!(mayor.phase(), "Idle");
}

async fn session_pod_is_replaced_after_its_containers_end(scene: Scene) {
    scene.create_town("alpha", json!({})).await;
    let mut once = runs(STAY);
    once["spec"]["restartPolicy"] = "Never".into();
    let mayor = json!({"townName": "alpha", "role": "Mayor", "template": once});
    scene.create::<Agent>("mayor", mayor).await;
    let first = scene.ready_pod("mayor", None).await;
    scene.exec(&first.name_any(), "killall sleep");
    let second = scene.ready_pod("mayor", first.uid().as_deref()).await;
    scene.assert_runs(&[second]).await;
    scene.agent("mayor").until_within(PATIENCE, "is there again", |agent| agent.phase() == "Idle").await;
}

/// The first run works without end, and exits 0 at SIGTERM; the second run ends quickly.
pub const TAKES_TWO: &str = "if [ -e /agent/begun ]; then echo again > /dev/termination-log; exit 0; fi
    touch /agent/begun; trap 'exit 0' TERM; sleep infinity & wait";

async fn exit_0_of_a_deleted_pod_does_not_finish_the_bead(scene: Scene) {
    scene.create_town("alpha", json!({})).await;
    scene.create_polecat("ada", "alpha", "a-1", TAKES_TWO).await;
    let pod = scene.ready_pod("ada", None).await;
    scene.await_file(&pod, "/agent/begun").await;
    scene.kubectl(&["delete", "pod", &pod.name_any(), "--timeout=120s"]);
    let work = scene.done("ada", "a-1").await;
    assert_eq!(work.message, "again", "done is what the second pod did");
    assert_eq!((work.attempts, work.done), (1, vec!["a-1".into()]), "who was killed is not to blame");
}

async fn evicted_pods_are_replaced_without_a_counted_failure(scene: Scene) {
    let uid = scene.create_town("alpha", json!({"template": runs(STAY)})).await.uid().unwrap();
    scene.create_mayor("mayor", "alpha", STAY).await;
    scene.create_polecat("ada", "alpha", "a-1", TAKES_TWO).await;
    let at_work = scene.ready_pod("ada", None).await;
    scene.await_file(&at_work, "/agent/begun").await;
    let (square, office) = (scene.town_pod("alpha").await, scene.ready_pod("mayor", None).await);

    // The test evicts the pods, as `kubectl drain` does.
    let api: Api<Pod> = Api::namespaced(scene.client(), &scene.namespace);
    for pod in [&square, &office, &at_work] {
        api.evict(&pod.name_any(), &EvictParams::default()).await.unwrap();
    }
    let work = scene.done("ada", "a-1").await;
    assert_eq!((work.message.as_str(), work.attempts), ("again", 1));
    scene.ready_pod("mayor", office.uid().as_deref()).await;
    let is_back = |pods: &[Pod]| {
        let others =
            pods.iter().all(|pod| ![&square, &office, &at_work].iter().any(|old| old.uid() == pod.uid()));
        pods.len() == 2 && others && pods.iter().all(is_ready)
    };
    until("the town and its mayor are back", PATIENCE, async || match scene.pods(&uid).await {
        pods if is_back(&pods) => Ok(()),
        pods => Err(format!("{pods:?}")),
    })
    .await;
    scene.town_pod("alpha").await;
    let (town, mayor) = (scene.town("alpha").get().await.status, scene.agent("mayor").get().await.status);
    let failed = [town.unwrap().restarts, mayor.unwrap().restarts].map(|r| r.map_or(0, |r| r.count));
    assert_eq!(failed, [0, 0], "no start of theirs has failed");
}

async fn new_bead_ends_unfinished_work_without_marking_it_done(scene: Scene) {
    let uid = scene.create_town("alpha", json!({})).await.uid().unwrap();
    let script = format!("[ $GASTOWN_BEAD = a-1 ] || exit 0; touch /agent/begun; {STAY}");
    scene.create_polecat("ada", "alpha", "a-1", &script).await;
    let pod = scene.ready_pod("ada", None).await;
    scene.await_file(&pod, "/agent/begun").await;
    scene.hook("ada", "a-2").await;
    let work = scene.done("ada", "a-2").await;
    assert_eq!(work.done, ["a-2"], "a-1 exited 0 because it was told to");
    scene.await_no_pods(&uid).await;
    scene.assert_nothing_runs();
}
