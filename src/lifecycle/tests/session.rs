//! A Session agent: its pod lives while the town is awake, and receives the bead on the hook.

use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::build::{Read, claim, mayor, minute, polecat, running_town, town};
use crate::api::AsleepReason::{Idle, Suspended};
use crate::api::condition::{FINISHED, POD_SCHEDULED, READY, STALLED, reason};

#[test]
fn session_agent_has_a_pod_while_its_town_is_awake() {
    assert_eq!(mayor().decide(minute(1)).does(), "create pod");
    let plan = mayor().running().decide(minute(1));
    assert_eq!((plan.phase(), plan.does().as_str(), plan.is(READY)), ("Idle", "", true));
    assert!(plan.is(POD_SCHEDULED));
    let asleep = [
        ("asleep", town().asleep(Idle)),
        ("falling asleep", running_town().draining(Idle, minute(1))),
        ("suspended", running_town().suspended()),
        ("being deleted", running_town().deleting(minute(1))),
    ];
    for (case, town) in asleep {
        let plan = mayor().started().status(|s| s.phase = Some("Idle".into())).of(&town).decide(minute(1));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Asleep", ""), "{case}");
        let plan = mayor().of(&town).running().decide(minute(1));
        assert_eq!(
            (plan.does().as_str(), plan.status),
            ("", None),
            "{case}: its pod is the town's to delete"
        );
    }
}

#[test]
fn session_agent_keeps_only_its_start_time_while_its_town_sleeps() {
    let asleep = mayor().of(&town().asleep(Suspended)).recorded_pod(minute(0)).restarts(3, minute(0));
    let status = asleep.decide(minute(9)).status.unwrap();
    let pod = status.pod.unwrap();
    assert_eq!((pod.uid, status.restarts), (None, None));
    assert!(pod.start_time.is_some());
}

#[test]
fn hook_is_delivered_to_the_running_pod_and_then_recorded() {
    let fresh = mayor().hook("b1").pod(|p| p.ready().bead("b0"));
    let plan = fresh.decide(minute(1));
    assert_eq!(plan.does(), "deliver hook to pod mayor-pod");
    assert_eq!(plan.status.as_ref().and_then(|s| s.work.clone()), None, "not recorded before it is there");
    let delivered = mayor().hook("b1").running();
    let plan = delivered.decide(minute(2));
    assert_eq!(plan.does(), "");
    assert_eq!(plan.status.as_ref().unwrap().work.as_ref().unwrap().bead, "b1");
    assert!(plan.message(FINISHED).contains("delivered"));
    let settled = delivered.after(&plan);
    assert_eq!(settled.decide(minute(3)).status, settled.0.agent.status, "once");
}

#[test]
fn hook_counts_as_delivered_only_to_a_ready_pod() {
    let starting = mayor().hook("b1").pod(|p| p).decide(minute(1));
    assert_eq!(starting.status.and_then(|s| s.work), None);
}

#[test]
fn hook_is_removed_from_the_pod_when_the_spec_has_none() {
    let plan = mayor().pod(|p| p.ready().bead("b1")).decide(minute(1));
    assert_eq!(plan.does(), "deliver hook to pod mayor-pod");
    assert!(matches!(&plan.actions[0], crate::lifecycle::Action::DeliverHook { hook: None, .. }));
}

#[test]
fn hook_is_delivered_again_when_its_text_changes() {
    let changed = mayor().hook("b1").running().edit(|a| {
        a.spec.hook.as_mut().unwrap().instructions = Some("do it otherwise".into());
    });
    assert_eq!(changed.decide(minute(1)).does(), "deliver hook to pod mayor-pod");
}

#[test]
fn session_pod_is_replaced_after_it_ended() {
    let plan = mayor().pod(|p| p.exited(0, minute(5))).decide(minute(60));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", "delete pod mayor-pod"));
}

#[test]
fn session_agent_without_a_template_is_blocked() {
    let bare = running_town().no_agent_template();
    let plan = mayor().of(&bare).decide(minute(1));
    assert_eq!(
        (plan.phase(), plan.reason(STALLED), plan.does().as_str()),
        ("Blocked", reason::NO_TEMPLATE, "")
    );
    let plan = mayor().of(&bare).running().decide(minute(1));
    assert_eq!(plan.does(), "delete pod mayor-pod", "what no template stands for does not run");
    let own = mayor().of(&bare).edit(|a| a.spec.template = Some(PodTemplateSpec::default().into()));
    assert_eq!(own.decide(minute(1)).does(), "create pod");
}

#[test]
fn session_agent_claim_is_created_before_its_pod() {
    assert_eq!(mayor().storage().decide(minute(1)).does(), "create claim, create pod");
    let plan = mayor().storage().claim(claim("mayor")).decide(minute(1));
    assert_eq!(plan.does(), "create pod");
    assert_eq!(plan.status.unwrap().storage.unwrap().claim, "mayor-claim");
    let mut going = claim("mayor");
    going.child.deleting = true;
    let plan = mayor().storage().claim(going).decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.reason(READY)), ("", reason::CLAIM_UNUSABLE));
}

// Issue 11, item 10.
#[test]
fn new_agent_is_pending_when_its_town_was_never_asleep() {
    let waiting = town().not_its_turn().settled(minute(1));
    for (case, town) in [
        ("not decided yet", town()),
        ("waiting for its turn", waiting),
        ("suspended, and still awake", running_town().suspended()),
        ("falling asleep", running_town().draining(Idle, minute(1))),
    ] {
        for agent in [mayor(), polecat("toast").hook("b1")] {
            let plan = agent.of(&town).decide(minute(1));
            assert_eq!((plan.phase(), plan.does().as_str()), ("Pending", ""), "{case}");
            assert_eq!(plan.reason(READY), reason::TOWN_NOT_STARTED, "{case}");
        }
    }
    assert_eq!(mayor().of(&town().asleep(Idle)).decide(minute(1)).phase(), "Asleep");
}
