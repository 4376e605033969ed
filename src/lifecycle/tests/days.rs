//! Days in the life of towns, line by line as in `stories`: each story has one subject.

use serde_json::json;

use super::build::{AgentBuilder, entry, hook, mayor, minute, polecat, quiet, says, town, typed};
use super::scene::{Node, Scene};
use crate::api::{ActivityReport, ExpiryPolicy, ReportedAgent, ReportedState, Town, names};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

fn annotate(town: &mut Town, key: &str, value: &str) {
    town.metadata.annotations.get_or_insert_default().insert(key.into(), value.into());
}

fn new_template(town: &mut Town) {
    for template in [&mut town.spec.template, &mut town.spec.agent_template] {
        template.as_mut().unwrap().spec_mut().hostname = Some("new".into());
    }
}

#[test]
fn probed_town_sleeps_by_its_reports_and_is_not_probed_while_asleep() {
    let mut scene = Scene::of(town().asked().ports(&[80]));
    scene.reports("gas", says("somebody", ReportedState::Working)).later("2h");
    assert_eq!((scene.phase("gas"), scene.questions > 500), ("Running", true));
    scene.reports("gas", quiet()).later("31m");
    assert_eq!(scene.phase("gas"), "Asleep");
    let asked = scene.questions;
    scene.later("100h");
    assert_eq!(scene.questions, asked, "nobody who sleeps is asked");
    scene.edit_town("a merge request comes", |t| t.spec.backlog.merge_requests = 1).delete_town();
    scene.assert_nothing_left();
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create service, create token, create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- the pod of gas has news
         00:00:00 -- 2h pass
         00:01:00 gas    Running    report (the town's pod reports an agent at work)
         02:00:00 -- the pod of gas has news
         02:00:00 -- 31m pass
         02:00:05 gas    Idle       report (no agent has work any more)
         02:25:05 -- said: SleepsSoon at 02:30:05
         02:30:05 gas    Draining   report
         02:30:06 gas    Draining   delete pod gas
         02:30:06 gas    Asleep     report
         02:31:00 -- 100h pass
         102:31:00 -- a merge request comes
         102:31:00 gas    Starting   report (woken: merge requests wait)
         102:31:00 gas    Starting   create token, create pod
         102:31:00 gas    Running    report
         102:31:00 -- the town is deleted
         102:31:00 gas    Destroying create tombstone, write tombstone, report
         102:31:00 gas    Destroying delete secret gas
         102:31:00 gas    Destroying delete pod gas
         102:31:00 gas    Destroying delete service gas
         102:31:00 gas    (gone)     give receipts, remove finalizer
        ",
    );
}

#[test]
fn town_with_unknown_activity_sleeps_after_three_times_sleep_after() {
    let mut scene = Scene::of(town().asked());
    scene.later("10m").silent("gas").later("2h");
    assert_eq!(scene.phase("gas"), "Asleep");
    scene.reports("gas", quiet()).edit_town("somebody asks", |t| t.spec.wake_request = "please".into());
    scene.later("1m");
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create token, create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- 10m pass
         00:10:00 -- the pod of gas does not answer
         00:10:00 -- 2h pass
         00:13:00 gas    Idle       report
         01:41:00 gas    Draining   report
         01:41:01 gas    Draining   delete pod gas
         01:41:01 gas    Asleep     report
         02:10:00 -- the pod of gas has news
         02:10:00 -- somebody asks
         02:10:00 gas    Starting   report (woken: spec.wakeRequest changed to 'please')
         02:10:00 gas    Starting   create token, create pod
         02:10:00 gas    Idle       report
         02:10:00 -- 1m pass
        ",
    );
}

#[test]
fn town_stays_awake_while_a_user_types() {
    let mut scene = Scene::of(town().asked());
    for minutes in 0..6 {
        scene.reports("gas", typed(minute(10 * minutes))).later("10m");
    }
    let left = ActivityReport { attached: false, ..typed(minute(50)) };
    scene.reports("gas", left).later("31m");
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create token, create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- the pod of gas has news
         00:00:00 -- 10m pass
         00:01:00 gas    Idle       report
         00:10:00 -- the pod of gas has news
         00:10:00 -- 10m pass
         00:20:00 -- the pod of gas has news
         00:20:00 -- 10m pass
         00:30:00 gas    Idle       report
         00:30:00 -- the pod of gas has news
         00:30:00 -- 10m pass
         00:40:00 -- the pod of gas has news
         00:40:00 -- 10m pass
         00:50:00 gas    Idle       report
         00:50:00 -- the pod of gas has news
         00:50:00 -- 10m pass
         01:00:00 -- the pod of gas has news
         01:00:00 -- 31m pass
         01:01:00 gas    Idle       report
         01:15:00 -- said: SleepsSoon at 01:20:00
         01:20:00 gas    Draining   report
         01:20:01 gas    Draining   delete pod gas
         01:20:01 gas    Asleep     report
        ",
    );
}

#[test]
fn mayor_works_waits_and_finishes_its_bead() {
    let mut scene = Scene::of(town());
    scene.agent(mayor().asked());
    scene.hook("mayor", "b1").later("1m");
    let of_b1 = |state| {
        let entry = ReportedAgent { bead: Some("b1".into()), ..entry("mayor", state) };
        ActivityReport { agents: vec![entry], ..quiet() }
    };
    scene.reports("mayor", of_b1(ReportedState::Working)).later("2h");
    scene.reports("mayor", of_b1(ReportedState::Waiting)).later("40m");
    assert_eq!(scene.phase("gas"), "Asleep", "waiting for a person is not work");
    scene.later("10h").edit_town("the person is back", |t| t.spec.wake_request = "hello".into()).later("1m");
    scene.reports("mayor", of_b1(ReportedState::Done)).later("2m");
    assert_eq!(scene.phase("mayor"), "Done");
    scene.later("1h");
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: mayor
         00:00:00 mayor  (new)      bind
         00:00:00 mayor  Starting   create token, create pod, report
         00:00:00 mayor  Idle       report
         00:00:00 -- mayor gets bead b1
         00:00:00 gas    Running    report (an agent has work)
         00:00:00 mayor  Idle       deliver b1, report
         00:00:00 mayor  Idle       report
         00:00:00 -- 1m pass
         00:01:00 -- the pod of mayor has news
         00:01:00 -- 2h pass
         00:01:05 mayor  Working    report
         02:01:00 -- the pod of mayor has news
         02:01:00 -- 40m pass
         02:01:05 gas    Idle       report (no agent has work any more)
         02:01:05 mayor  Waiting    report
         02:26:05 -- said: SleepsSoon at 02:31:05
         02:31:05 gas    Draining   report
         02:31:06 gas    Draining   delete pod gas, delete pod mayor
         02:31:06 gas    Asleep     report
         02:31:06 mayor  Asleep     report
         02:41:00 -- 10h pass
         12:41:00 -- the person is back
         12:41:00 gas    Starting   report (woken: spec.wakeRequest changed to 'hello')
         12:41:00 mayor  Starting   create token, create pod, report
         12:41:00 gas    Starting   create pod
         12:41:00 mayor  Idle       report
         12:41:00 gas    Idle       report (no agent has work any more)
         12:41:00 mayor  Waiting    report
         12:41:00 -- 1m pass
         12:42:00 -- the pod of mayor has news
         12:42:00 -- 2m pass
         12:43:00 gas    Idle       report
         12:43:00 mayor  Done       report
         12:44:00 -- 1h pass
         13:06:00 -- said: SleepsSoon at 13:11:00
         13:11:00 gas    Draining   report
         13:11:01 gas    Draining   delete pod mayor, delete pod gas
         13:11:01 gas    Asleep     report
         13:11:01 mayor  Done       report
        ",
    );
}

#[test]
fn expired_town_destroys_itself_but_keeps_its_retained_claim() {
    let retained = json!({"size": "1Gi", "retainPolicy": "Retain"});
    let mut scene =
        Scene::of(town().asked().ports(&[80]).volume(&retained).expires(minute(60), ExpiryPolicy::Destroy));
    scene.agent(mayor().storage()).later("2h");
    scene.assert_nothing_left();
    assert_eq!(scene.retained.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["gas-00000001"]);
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create claim, create service, create token, create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: mayor
         00:00:00 mayor  (new)      bind
         00:00:00 mayor  Starting   create claim, create pod, report
         00:00:00 mayor  Idle       report
         00:00:00 -- 2h pass
         00:01:00 gas    Idle       report
         00:25:00 -- said: SleepsSoon at 00:30:00
         00:30:00 gas    Draining   report
         00:30:01 gas    Draining   delete pod gas, delete pod mayor
         00:30:01 gas    Asleep     report
         00:30:01 mayor  Asleep     report
         00:55:00 -- said: DestroysSoon at 01:00:00
         01:00:00 gas    Asleep     delete itself
         01:00:00 gas    Destroying create tombstone, write tombstone, report
         01:00:00 gas    Destroying delete secret gas
         01:00:00 gas    Destroying delete agent mayor
         01:00:00 mayor  Asleep     delete claim mayor
         01:00:00 mayor  (gone)     give receipts, remove finalizer
         01:00:00 gas    Destroying retain claim gas, delete service gas
         01:00:00 gas    (gone)     give receipts, remove finalizer
        ",
    );
}

#[test]
fn expired_town_sleeps_until_its_expiry_is_moved() {
    let mut scene = Scene::of(town().backlog(1, 0, 0).expires(minute(60), ExpiryPolicy::Sleep));
    scene.later("3h");
    assert_eq!(scene.phase("gas"), "Asleep");
    scene.edit_town("a day more", |t| t.spec.expiry.as_mut().unwrap().time.0 = minute(24 * 60)).later("1h");
    assert_eq!(scene.phase("gas"), "Running");
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report (merge requests wait)
         00:00:00 gas    Running    report
         00:00:00 -- 3h pass
         00:55:00 -- said: ExpiresSoon at 01:00:00
         01:00:00 gas    Draining   report
         01:00:00 gas    Draining   delete pod gas
         01:00:00 gas    Asleep     report
         03:00:00 -- a day more
         03:00:00 gas    Starting   report (woken: spec.expiry was moved or removed)
         03:00:00 gas    Starting   create pod
         03:00:00 gas    Running    report
         03:00:00 -- 1h pass
        ",
    );
}

#[test]
fn pod_is_given_up_after_five_crashes_until_the_window_ends_or_the_spec_changes() {
    let mut scene = Scene::of(town().always_on());
    for _ in 0..5 {
        scene.later("1m").crashes("gas");
    }
    assert_eq!(scene.pods.len(), 0);
    scene.later("30m");
    assert_eq!(scene.phase("gas"), "Idle");
    for _ in 0..5 {
        scene.later("1m").crashes("gas");
    }
    scene.edit_town("a person mends the spec", |t| {
        t.spec.template.as_mut().unwrap().spec_mut().hostname = Some("mended".into());
    });
    assert_eq!(scene.phase("gas"), "Idle");
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- 1m pass
         00:01:00 -- the container of gas crashes
         00:01:00 gas    Starting   report
         00:01:00 gas    Idle       report
         00:01:00 -- 1m pass
         00:02:00 -- the container of gas crashes
         00:02:00 gas    Starting   report
         00:02:00 gas    Idle       report
         00:02:00 -- 1m pass
         00:03:00 -- the container of gas crashes
         00:03:00 gas    Starting   report
         00:03:00 gas    Idle       report
         00:03:00 -- 1m pass
         00:04:00 -- the container of gas crashes
         00:04:00 gas    Starting   report
         00:04:00 gas    Idle       report
         00:04:00 -- 1m pass
         00:05:00 -- the container of gas crashes
         00:05:00 gas    Starting   delete pod gas, report
         00:05:00 -- 30m pass
         00:35:00 gas    Starting   create pod, report
         00:35:00 gas    Idle       report
         00:35:00 -- 1m pass
         00:36:00 -- the container of gas crashes
         00:36:00 gas    Starting   delete pod gas, report
         00:36:00 -- 1m pass
         00:37:00 -- the container of gas crashes
         00:37:00 -- 1m pass
         00:38:00 -- the container of gas crashes
         00:38:00 -- 1m pass
         00:39:00 -- the container of gas crashes
         00:39:00 -- 1m pass
         00:40:00 -- the container of gas crashes
         00:40:00 -- a person mends the spec
         00:40:00 gas    Starting   create pod, report
         00:40:00 gas    Idle       report
        ",
    );
}

#[test]
fn new_template_is_applied_when_the_town_is_idle() {
    let mut scene = Scene::of(town());
    scene.agents([mayor(), polecat("toast").hook("b1")]);
    scene.edit_town("a new template", new_template).later("10m");
    assert_eq!(scene.starts, 3, "everybody is at work");
    scene.exits("toast", 0);
    assert_eq!(scene.starts, 5, "the town's pod and the mayor's");
    scene.edit_town("told to restart", |t| annotate(t, names::RESTART_AT, "now"));
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: mayor, toast
         00:00:00 mayor  (new)      bind
         00:00:00 toast  (new)      bind
         00:00:00 gas    Running    report (an agent has work)
         00:00:00 mayor  Starting   create pod, report
         00:00:00 toast  Starting   report
         00:00:00 mayor  Idle       report
         00:00:00 toast  Starting   create pod
         00:00:00 toast  Working    report
         00:00:00 -- a new template
         00:00:00 gas    Running    report
         00:00:00 mayor  Idle       report
         00:00:00 -- 10m pass
         00:10:00 -- the container of toast exits with 0
         00:10:00 toast  Done       report
         00:10:00 gas    Starting   delete pod gas, report (no agent has work any more)
         00:10:00 mayor  Starting   delete pod mayor, report
         00:10:00 toast  Done       release pod, delete pod toast
         00:10:00 gas    Starting   create pod, report
         00:10:00 mayor  Starting   create pod, report
         00:10:00 gas    Idle       report
         00:10:00 mayor  Idle       report
         00:10:00 -- told to restart
         00:10:00 gas    Starting   delete pod gas, report
         00:10:00 gas    Starting   create pod, report
         00:10:00 gas    Idle       report
        ",
    );
}

#[test]
fn polecats_take_turns_on_a_rig() {
    let mut scene = Scene::of(town().edit(|t| t.spec.rigs[0].max_polecats = Some(1)));
    let wave = |name: &str| -> AgentBuilder { polecat(name).hook("b1") };
    scene.agent(wave("toast")).agent(wave("nux")).agent(wave("ace"));
    scene.later("5m").exits("toast", 0);
    scene.later("5m").exits("nux", 0).later("5m");
    scene.edit_town("the rig takes no more", |t| t.spec.rigs[0].max_polecats = Some(0)).exits("ace", 1);
    scene
        .later("5m")
        .edit_town("and again", |t| t.spec.rigs[0].max_polecats = Some(1))
        .later("5m")
        .exits("ace", 0);
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: toast
         00:00:00 toast  (new)      bind
         00:00:00 gas    Running    report (an agent has work)
         00:00:00 toast  Starting   report
         00:00:00 toast  Starting   create pod
         00:00:00 toast  Working    report
         00:00:00 -- created: nux
         00:00:00 nux    (new)      bind
         00:00:00 nux    Blocked    report
         00:00:00 -- created: ace
         00:00:00 ace    (new)      bind
         00:00:00 ace    Blocked    report
         00:00:00 -- 5m pass
         00:01:00 gas    Running    report
         00:05:00 -- the container of toast exits with 0
         00:05:00 toast  Done       report
         00:05:00 ace    Blocked    report
         00:05:00 nux    Starting   report
         00:05:00 toast  Done       release pod, delete pod toast
         00:05:00 nux    Starting   create pod
         00:05:00 nux    Working    report
         00:05:00 -- 5m pass
         00:10:00 -- the container of nux exits with 0
         00:10:00 nux    Done       report
         00:10:00 ace    Starting   report
         00:10:00 nux    Done       release pod, delete pod nux
         00:10:00 ace    Starting   create pod
         00:10:00 ace    Working    report
         00:10:00 -- 5m pass
         00:15:00 -- the rig takes no more
         00:15:00 gas    Running    report
         00:15:00 -- the container of ace exits with 1
         00:15:00 ace    Starting   report
         00:15:00 ace    Starting   release pod, delete pod ace
         00:15:00 -- 5m pass
         00:15:30 ace    Blocked    report
         00:15:30 gas    Idle       report (no agent has work any more)
         00:20:00 -- and again
         00:20:00 gas    Running    report (an agent has work)
         00:20:00 ace    Starting   report
         00:20:00 ace    Starting   create pod
         00:20:00 ace    Working    report
         00:20:00 -- 5m pass
         00:25:00 -- the container of ace exits with 0
         00:25:00 ace    Done       report
         00:25:00 gas    Idle       report (no agent has work any more)
         00:25:00 ace    Done       release pod, delete pod ace
        ",
    );
}

#[test]
fn second_mayor_starts_after_the_first_is_deleted() {
    let mut scene = Scene::of(town());
    let second = AgentBuilder(mayor().0).edit(|a| {
        a.metadata.name = Some("second".into());
        a.metadata.uid = Some("00000009-0000-4000-8000-000000000000".into());
    });
    scene.agent(mayor()).agent(second).delete_agent("mayor");
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: mayor
         00:00:00 mayor  (new)      bind
         00:00:00 mayor  Starting   create pod, report
         00:00:00 mayor  Idle       report
         00:00:00 -- created: second
         00:00:00 second (new)      bind
         00:00:00 second Blocked    report
         00:00:00 -- agent mayor is deleted
         00:00:00 mayor  Idle       write tombstone
         00:00:00 mayor  Idle       delete pod mayor
         00:00:00 mayor  (gone)     give receipts, remove finalizer
         00:00:00 second Starting   create pod, report
         00:00:00 second Idle       report
        ",
    );
}

#[test]
fn finished_agent_and_its_claim_are_deleted_after_the_ttl() {
    let mut scene = Scene::of(town().no_template());
    scene.agent(polecat("toast").hook("b1").storage().ttl("10m")).later("1m").exits("toast", 0).later("20m");
    assert!(scene.agents.is_empty() && scene.claims.is_empty());
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Idle       report
         00:00:00 -- created: toast
         00:00:00 toast  (new)      bind
         00:00:00 gas    Running    report (an agent has work)
         00:00:00 toast  Starting   create claim, report
         00:00:00 toast  Starting   create pod
         00:00:00 toast  Working    report
         00:00:00 -- 1m pass
         00:01:00 -- the container of toast exits with 0
         00:01:00 toast  Done       report
         00:01:00 gas    Idle       report (no agent has work any more)
         00:01:00 toast  Done       release pod, delete pod toast
         00:01:00 -- 20m pass
         00:11:00 toast  Done       delete itself
         00:11:00 toast  Done       write tombstone
         00:11:00 toast  Done       delete claim toast
         00:11:00 toast  (gone)     give receipts, remove finalizer
         00:11:00 gas    Idle       report
        ",
    );
}

#[test]
fn claim_grows_and_is_recreated_only_after_a_user_deletes_the_lost_one() {
    let mut scene = Scene::of(town().storage().always_on());
    scene.edit_town("it grows", |t| t.spec.storage.as_mut().unwrap().size = Some(Quantity("2Gi".into())));
    scene.loses_volume("gas");
    assert_eq!(scene.phase("gas"), "Blocked");
    scene.later("10h").claim_deleted("gas");
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create claim, create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- it grows
         00:00:00 gas    Idle       grow claim gas to 2Gi, report
         00:00:00 -- the volume of gas is lost
         00:00:00 gas    Blocked    report
         00:00:00 -- 10h pass
         10:00:00 -- the claim of gas is deleted by hand
         10:00:00 gas    Idle       create claim, report
         10:00:00 -- said: StorageRecreated at 10:00:00
        ",
    );
}

#[test]
fn paused_town_is_left_alone_until_it_is_resumed_or_deleted() {
    let mut scene = Scene::of(town());
    scene.agent(polecat("toast")).edit_town("paused", |t| annotate(t, names::PAUSED, "true"));
    scene.edit_town("suspended", |t| t.spec.suspend = true).later("10h");
    scene.edit_town("no longer paused", |t| t.metadata.annotations = None);
    scene.edit_town("paused again", |t| annotate(t, names::PAUSED, "true")).delete_town();
    scene.assert_nothing_left();
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: toast
         00:00:00 toast  (new)      bind
         00:00:00 toast  Idle       report
         00:00:00 -- paused
         00:00:00 gas    Idle       report
         00:00:00 toast  Idle       report
         00:00:00 -- suspended
         00:00:00 -- 10h pass
         10:00:00 -- no longer paused
         10:00:00 gas    Draining   report
         10:00:00 toast  Idle       report
         10:00:00 gas    Draining   delete pod gas
         10:00:00 gas    Asleep     report
         10:00:00 -- paused again
         10:00:00 gas    Asleep     report
         10:00:00 toast  Idle       report
         10:00:00 -- the town is deleted
         10:00:00 gas    Destroying create tombstone, write tombstone, report
         10:00:00 gas    Destroying delete agent toast
         10:00:00 toast  (gone)     give receipts, remove finalizer
         10:00:00 gas    (gone)     give receipts, remove finalizer
        ",
    );
}

#[test]
fn sleeping_town_wakes_only_when_it_has_its_turn() {
    let mut scene = Scene::of(town().not_its_turn());
    scene.later("1m").edit_town("suspended", |t| t.spec.suspend = true);
    scene.may_start(false).edit_town("and lifted", |t| t.spec.suspend = false).later("10m");
    assert_eq!(scene.phase("gas"), "Asleep");
    scene.may_start(true).happens("it is its turn");
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- 1m pass
         00:01:00 -- suspended
         00:01:00 gas    Draining   report
         00:01:00 gas    Draining   delete pod gas
         00:01:00 gas    Asleep     report
         00:01:00 -- and lifted
         00:01:00 gas    Asleep     report
         00:01:00 -- 10m pass
         00:11:00 -- it is its turn
         00:11:00 gas    Starting   report (woken: spec.suspend is no longer true)
         00:11:00 gas    Starting   create pod
         00:11:00 gas    Idle       report
        ",
    );
}

#[test]
fn lost_node_blocks_replacement_pods_until_the_old_pods_are_gone() {
    let mut scene = Scene::of(town().always_on());
    scene.agent(polecat("toast").hook("b1")).node(Node::Hangs);
    scene.killed("gas").killed("toast").later("1h");
    assert_eq!(scene.starts, 2, "nothing takes their place");
    scene.node(Node::Works).happens("the node is back").later("1m");
    assert_eq!(scene.starts, 4);
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: toast
         00:00:00 toast  (new)      bind
         00:00:00 gas    Running    report (an agent has work)
         00:00:00 toast  Starting   report
         00:00:00 toast  Starting   create pod
         00:00:00 toast  Working    report
         00:00:00 -- the pod of gas is deleted by hand
         00:00:00 gas    Starting   report
         00:00:00 -- the pod of toast is deleted by hand
         00:00:00 -- 1h pass
         00:01:00 gas    Starting   report
         00:01:00 toast  Starting   report
         01:00:00 -- the node is back
         01:00:00 gas    Starting   create pod, report
         01:00:00 toast  Starting   report
         01:00:00 gas    Running    report
         01:00:00 toast  Starting   release pod
         01:00:00 -- 1m pass
         01:00:30 toast  Starting   report
         01:00:30 toast  Starting   create pod
         01:00:30 toast  Working    report
        ",
    );
}

#[test]
fn pod_that_never_gets_ready_is_replaced_until_the_limit_and_then_once_a_window() {
    let mut scene = Scene::of(town().backlog(1, 0, 0));
    scene.edit_town("its next pod does not get ready", |t| annotate(t, names::RESTART_AT, "x"));
    scene.node(Node::Unready).killed("gas").later("1h");
    assert_eq!(scene.phase("gas"), "Starting");
    scene.node(Node::Works).later("1h");
    assert_eq!(scene.phase("gas"), "Running");
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report (merge requests wait)
         00:00:00 gas    Running    report
         00:00:00 -- its next pod does not get ready
         00:00:00 gas    Starting   delete pod gas, report
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Running    report
         00:00:00 -- the pod of gas is deleted by hand
         00:00:00 gas    Starting   report
         00:00:00 gas    Starting   report
         00:00:00 -- 1h pass
         00:00:30 gas    Starting   create pod, report
         00:10:30 gas    Starting   delete pod gas, report
         00:10:30 gas    Starting   report
         00:10:30 gas    Starting   report
         00:11:00 gas    Starting   create pod, report
         00:21:00 gas    Starting   delete pod gas, report
         00:21:00 gas    Starting   report
         00:21:00 gas    Starting   report
         00:22:00 gas    Starting   create pod, report
         00:32:00 gas    Starting   delete pod gas, report
         00:32:00 gas    Starting   report
         00:32:00 gas    Starting   report
         00:34:00 gas    Starting   create pod, report
         00:44:00 gas    Starting   delete pod gas, report
         00:44:00 gas    Starting   report
         00:44:00 gas    Starting   report
         00:49:00 gas    Starting   create pod, report
         00:59:00 gas    Starting   delete pod gas, report
         00:59:00 gas    Starting   report
         00:59:00 gas    Starting   report
         01:00:00 -- 1h pass
         01:29:00 gas    Starting   create pod, report
         01:29:00 gas    Running    report
         01:59:00 gas    Running    report
        ",
    );
}

#[test]
fn restarted_operator_continues_without_extra_writes() {
    let mut scene = Scene::of(town().asked());
    scene.agent(mayor().asked()).later("20m").operator_restarts().later("8m").operator_restarts();
    let writes = scene.writes;
    scene.later("1m").operator_restarts();
    assert_eq!(scene.writes, writes, "it writes nothing:\n{}", scene.story());
    scene.edit_agent("mayor", "mayor gets a bead", |a| a.spec.hook = Some(hook("b1"))).operator_restarts();
    assert_eq!(scene.phase("gas"), "Running");
}
