//! Helm installs, upgrades and removes the operator, and the pods of towns continue to run.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt;
use serde_json::json;

use crate::common::seen::Seen;
use crate::common::wait::{always, until};
use crate::release;
use crate::scene::{Lives, PATIENCE, Scene, identities};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.add(helm_upgrade_replaces_the_operator_and_keeps_town_pods);
    stories.add(towns_and_pods_stay_while_the_operator_is_uninstalled);
    stories.add(operator_exits_0_within_5_seconds_when_scaled_to_zero);
    stories.add(operator_runs_without_root_and_without_refused_requests);
}

async fn helm_upgrade_replaces_the_operator_and_keeps_town_pods(mut scene: Scene) {
    let town = scene.create_busy_town("alpha", json!({})).await;
    scene.alone().await;
    let deployment = Seen::<Deployment>::new(scene.client(), release::NAMESPACE, release::NAME).get().await;
    let strategy = deployment.spec.and_then(|spec| spec.strategy?.type_);
    assert_eq!(strategy.as_deref(), Some("RollingUpdate"), "the new one stands by before the old one goes");
    let (pods, processes) = (scene.pods(&town.uid).await, scene.processes());
    let old = scene.stage.operator().await;

    scene.stage.release.upgrade(&["podAnnotations.upgraded=yes", "logFormat=json"]).unwrap();
    let new = scene.stage.operator().await;
    assert_ne!(new.uid(), old.uid());
    assert_eq!(new.annotations()["upgraded"], "yes");
    assert!(scene.stage.operator_log().starts_with('{'), "{}", scene.stage.operator_log());

    // The new operator works, and the old work continues.
    scene.create_polecat("other", "alpha", "other-1", "exit 0").await;
    scene.done("other", "other-1").await;
    until("other's pod is gone", PATIENCE, async || {
        let now = scene.pods(&town.uid).await;
        if identities(&now) == identities(&pods) { Ok(()) } else { Err(format!("{:?}", identities(&now))) }
    })
    .await;
    assert_eq!(scene.agent(&town.polecat).get().await.phase(), "Working");
    assert_eq!(scene.processes(), processes);
}

// I-operator-removed.
async fn towns_and_pods_stay_while_the_operator_is_uninstalled(mut scene: Scene) {
    let (lives, dies) =
        (scene.create_busy_town("lives", json!({})).await, scene.create_busy_town("dies", json!({})).await);
    scene.alone().await;
    let pods_of = async || [scene.pods(&lives.uid).await, scene.pods(&dies.uid).await].concat();
    let (pods, processes) = (pods_of().await, scene.processes());

    scene.stage.release.uninstall().unwrap();
    until("the operator is gone", PATIENCE, async || match &scene.stage.operators().await[..] {
        [] => Ok(()),
        pods => Err(format!("{pods:?}")),
    })
    .await;
    // A delete waits for an operator.
    scene.kubectl(&["delete", "town", "dies", "--wait=false"]);
    let nothing_happens = async || {
        let now = pods_of().await;
        let towns = scene.try_kubectl(&["get", "towns", "-o", "name"])?;
        let same = identities(&now) == identities(&pods)
            && now.iter().all(|pod| pod.metadata.deletion_timestamp.is_none())
            && towns.lines().count() == 2;
        if same { Ok(()) } else { Err(format!("{towns}{now:?}")) }
    };
    always("the towns and their pods stay as they are", Duration::from_secs(3), nothing_happens).await;
    assert_eq!(scene.processes(), processes);
    scene.hook(&lives.mayor, "m-1").await;

    // The notes of the chart recommend this: install the same release again.
    scene.stage.release.install(&[]).unwrap();
    scene.town("dies").gone_within(PATIENCE).await;
    assert_eq!(scene.everything_of(&dies.uid).await, [""; 0]);
    // The new operator processes the changes from the time without an operator.
    let given = |agent: &town_operator::api::Agent| {
        agent.status.as_ref().and_then(|status| status.work.as_ref()).is_some_and(|work| work.bead == "m-1")
    };
    scene.agent(&lives.mayor).until_within(PATIENCE, "was given m-1", given).await;
    let mut before = pods;
    before.retain(|pod| pod.labels()[town_operator::api::names::TOWN_UID] == lives.uid);
    assert_eq!(identities(&scene.pods(&lives.uid).await), identities(&before));
    scene.assert_runs(&before).await;
    scene.kubectl(&["delete", "town", "lives", "--timeout=120s"]);
    scene.assert_nothing_runs();
}

async fn operator_exits_0_within_5_seconds_when_scaled_to_zero(mut scene: Scene) {
    scene.alone().await;
    let old = scene.stage.operator().await;
    let pod = Seen::<Pod>::new(scene.client(), release::NAMESPACE, &old.name_any());
    // A finalizer holds the pod, so that the test can read the end of its container.
    let finalizers = |list: &[&str]| json!({"metadata": {"finalizers": list}});
    pod.merge(finalizers(&["town.test/held"])).await;
    let deployment = format!("deployment/{}", release::NAME);
    let scale = ["scale", "-n", release::NAMESPACE, &deployment];
    scene.kubectl(&[&scale[..], &["--replicas=0"]].concat());
    let told =
        pod.until_within(PATIENCE, "is told to end", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    let ended = pod.until_within(PATIENCE, "has ended", |pod| end(pod).is_some()).await;
    pod.merge(finalizers(&[])).await;
    scene.kubectl(&[&scale[..], &["--replicas=1"]].concat());
    let next = scene.stage.operator().await;
    assert_ne!(next.uid(), old.uid());

    let end = end(&ended).unwrap();
    assert_eq!(end.exit_code, 0, "{end:?}");
    let grace = told.metadata.deletion_grace_period_seconds.unwrap();
    let took = end.finished_at.unwrap().0.duration_since(told.metadata.deletion_timestamp.unwrap().0);
    let took = took.as_secs() + grace;
    assert!(took <= 5, "it took {took} s to end");
}

/// The end of the operator's container.
fn end(pod: &Pod) -> Option<ContainerStateTerminated> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()?.terminated.clone()
}

async fn operator_runs_without_root_and_without_refused_requests(mut scene: Scene) {
    scene.alone().await;
    // The story is the last one, so that the log contains the requests of all stories.
    let refused = scene.stage.refused();
    assert!(refused.is_empty(), "refused for want of a right: {refused:#?}");
    let log = scene.stage.operator_log();
    let complaints: Vec<&str> = log.lines().filter(|line| is_refusal(line)).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");

    let pod = scene.stage.operator().await;
    let security = pod.spec.unwrap().security_context.unwrap();
    // The image sets the user, so that a cluster can choose another one.
    assert_eq!((security.run_as_non_root, security.run_as_user), (Some(true), None));
    scene.stage.weigh().await;
    if let Some(process) = scene.stage.operator_process().await {
        let line =
            |key: &str| process.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
        assert_eq!(line("Uid:"), "65532\t65532\t65532\t65532");
        assert_eq!(line("CapEff:"), "0000000000000000");
        assert_eq!(line("NoNewPrivs:"), "1");
        let peak = scene.stage.weigh().await;
        assert!((1..64 * 1024).contains(&peak), "the operator has taken {peak} KiB");
    }
}

/// A line of the operator's log that reports a missing right. Other refusals do not count: a namespace that is being
/// deleted refuses every create, and a quota or a pod security standard refuses some.
fn is_refusal(line: &str) -> bool {
    let line = line.to_lowercase();
    let others = ["being terminated", "exceeded quota", "violates podsecurity"];
    (line.contains("forbidden") || line.contains("(403)")) && !others.iter().any(|why| line.contains(why))
}
