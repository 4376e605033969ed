//! Whole lives, line by line: the time, the object, its phase then, and every write.

use super::build::{mayor, polecat, town};
use super::scene::{Node, Scene};

#[test]
fn town_starts_sleeps_wakes_and_is_destroyed() {
    let mut scene = Scene::of(town().storage());
    scene.agent(mayor()).agent(polecat("toast").storage());
    scene.hook("toast", "b1").later("10m").exits("toast", 0);
    scene.later("30m");
    assert_eq!((scene.phase("gas"), scene.pods.len()), ("Asleep", 0));
    scene.later("12h").hook("toast", "b2").later("1m").exits("toast", 0).delete_town();
    scene.assert_nothing_left();
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create claim, create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: mayor
         00:00:00 mayor  (new)      bind
         00:00:00 mayor  Starting   create pod, report
         00:00:00 mayor  Idle       report
         00:00:00 -- created: toast
         00:00:00 toast  (new)      bind
         00:00:00 toast  Idle       report
         00:00:00 -- toast gets bead b1
         00:00:00 gas    Running    report (an agent has work)
         00:00:00 toast  Starting   create claim, report
         00:00:00 toast  Starting   create pod
         00:00:00 toast  Working    report
         00:00:00 -- 10m pass
         00:10:00 -- the container of toast exits with 0
         00:10:00 toast  Done       report
         00:10:00 gas    Idle       report (no agent has work any more)
         00:10:00 toast  Done       release pod, delete pod toast
         00:10:00 -- 30m pass
         00:35:00 -- said: SleepsSoon at 00:40:00
         00:40:00 gas    Draining   report
         00:40:00 gas    Draining   delete pod gas, delete pod mayor
         00:40:00 gas    Asleep     report
         00:40:00 mayor  Asleep     report
         00:40:00 -- 12h pass
         12:40:00 -- toast gets bead b2
         12:40:00 gas    Starting   report (woken: agent toast has an unfinished bead)
         12:40:00 mayor  Starting   create pod, report
         12:40:00 toast  Starting   report
         12:40:00 gas    Starting   create pod
         12:40:00 mayor  Idle       report
         12:40:00 toast  Starting   create pod
         12:40:00 gas    Running    report
         12:40:00 toast  Working    report
         12:40:00 -- 1m pass
         12:41:00 -- the container of toast exits with 0
         12:41:00 toast  Done       report
         12:41:00 gas    Idle       report (no agent has work any more)
         12:41:00 toast  Done       release pod, delete pod toast
         12:41:00 -- the town is deleted
         12:41:00 gas    Destroying create tombstone, write tombstone, report
         12:41:00 gas    Destroying delete agent mayor, delete agent toast
         12:41:00 mayor  Idle       delete pod mayor
         12:41:00 toast  Done       delete claim toast
         12:41:00 mayor  (gone)     give receipts, remove finalizer
         12:41:00 toast  (gone)     give receipts, remove finalizer
         12:41:00 gas    Destroying delete pod gas
         12:41:00 gas    Destroying delete claim gas
         12:41:00 gas    (gone)     give receipts, remove finalizer
        ",
    );
}

#[test]
fn suspended_town_lets_work_finish_until_the_drain_timeout() {
    let mut scene = Scene::of(town());
    scene.agent(polecat("toast")).agent(polecat("nux"));
    scene.hook("toast", "b1").hook("nux", "b2");
    scene.edit_town("the town is suspended", |t| t.spec.suspend = true);
    scene.later("1m").exits("nux", 0).later("2m");
    assert_eq!((scene.phase("gas"), scene.phase("toast"), scene.phase("nux")), ("Asleep", "Asleep", "Done"));
    scene.later("100h").edit_town("it is lifted", |t| t.spec.suspend = false).later("1m").exits("toast", 0);
    assert_eq!(scene.phase("toast"), "Done");
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: toast
         00:00:00 toast  (new)      bind
         00:00:00 toast  Idle       report
         00:00:00 -- created: nux
         00:00:00 nux    (new)      bind
         00:00:00 nux    Idle       report
         00:00:00 -- toast gets bead b1
         00:00:00 gas    Running    report (an agent has work)
         00:00:00 toast  Starting   report
         00:00:00 toast  Starting   create pod
         00:00:00 toast  Working    report
         00:00:00 -- nux gets bead b2
         00:00:00 nux    Starting   report
         00:00:00 nux    Starting   create pod
         00:00:00 nux    Working    report
         00:00:00 -- the town is suspended
         00:00:00 gas    Draining   report
         00:00:00 -- 1m pass
         00:01:00 -- the container of nux exits with 0
         00:01:00 nux    Done       report
         00:01:00 gas    Draining   report
         00:01:00 nux    Done       release pod, delete pod nux
         00:01:00 -- 2m pass
         00:02:00 gas    Draining   delete pod gas, delete pod toast
         00:02:00 toast  Asleep     report
         00:02:00 toast  Asleep     release pod
         00:02:00 gas    Asleep     report
         00:03:00 -- 100h pass
         100:03:00 -- it is lifted
         100:03:00 gas    Starting   report (woken: spec.suspend is no longer true)
         100:03:00 toast  Starting   report
         100:03:00 gas    Starting   create pod
         100:03:00 toast  Starting   create pod
         100:03:00 gas    Running    report
         100:03:00 toast  Working    report
         100:03:00 -- 1m pass
         100:04:00 -- the container of toast exits with 0
         100:04:00 toast  Done       report
         100:04:00 gas    Idle       report (no agent has work any more)
         100:04:00 toast  Done       release pod, delete pod toast
        ",
    );
}

#[test]
fn draining_town_stays_awake_when_work_arrives() {
    let mut scene = Scene::of(town());
    scene.node(Node::Hangs).agent(polecat("toast")).later("30m");
    assert_eq!(scene.phase("gas"), "Draining");
    scene.hook("toast", "b1");
    scene.node(Node::Works).happens("the node stops the old pod").later("1m").exits("toast", 0);
    assert_eq!(scene.phase("toast"), "Done");
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: toast
         00:00:00 toast  (new)      bind
         00:00:00 toast  Idle       report
         00:00:00 -- 30m pass
         00:01:00 gas    Idle       report
         00:25:00 -- said: SleepsSoon at 00:30:00
         00:30:00 gas    Draining   report
         00:30:00 gas    Draining   delete pod gas
         00:30:00 -- toast gets bead b1
         00:30:00 gas    Starting   report (the town stays awake: agent toast has an unfinished bead)
         00:30:00 toast  Starting   report
         00:30:00 toast  Starting   create pod
         00:30:00 toast  Working    report
         00:30:00 -- the node stops the old pod
         00:30:00 gas    Starting   create pod, report
         00:30:00 gas    Running    report
         00:30:00 -- 1m pass
         00:31:00 -- the container of toast exits with 0
         00:31:00 toast  Done       report
         00:31:00 gas    Idle       report (no agent has work any more)
         00:31:00 toast  Done       release pod, delete pod toast
        ",
    );
}

#[test]
fn failing_bead_is_tried_five_times_and_then_once_a_window() {
    let mut scene = Scene::of(town().always_on());
    scene.agent(polecat("toast")).node(Node::Fails).hook("toast", "b1").later("100m");
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: toast
         00:00:00 toast  (new)      bind
         00:00:00 toast  Idle       report
         00:00:00 -- toast gets bead b1
         00:00:00 gas    Running    report (an agent has work)
         00:00:00 toast  Starting   report
         00:00:00 toast  Starting   create pod
         00:00:00 toast  Starting   report
         00:00:00 toast  Starting   release pod, delete pod toast
         00:00:00 -- 100m pass
         00:00:30 toast  Starting   report
         00:00:30 toast  Starting   create pod
         00:00:30 toast  Starting   report
         00:00:30 toast  Starting   release pod, delete pod toast
         00:01:30 toast  Starting   report
         00:01:30 toast  Starting   create pod
         00:01:30 toast  Starting   report
         00:01:30 toast  Starting   release pod, delete pod toast
         00:03:30 toast  Starting   report
         00:03:30 toast  Starting   create pod
         00:03:30 toast  Starting   report
         00:03:30 toast  Starting   release pod, delete pod toast
         00:08:30 toast  Starting   report
         00:08:30 toast  Starting   create pod
         00:08:30 toast  Failed     report
         00:08:30 gas    Idle       report (no agent has work any more)
         00:08:30 toast  Failed     release pod, delete pod toast
         00:38:30 toast  Starting   report
         00:38:30 gas    Running    report (an agent has work)
         00:38:30 toast  Starting   create pod
         00:38:30 toast  Failed     report
         00:38:30 gas    Idle       report (no agent has work any more)
         00:38:30 toast  Failed     release pod, delete pod toast
         01:38:30 toast  Starting   report
         01:38:30 gas    Running    report (an agent has work)
         01:38:30 toast  Starting   create pod
         01:38:30 toast  Failed     report
         01:38:30 gas    Idle       report (no agent has work any more)
         01:38:30 toast  Failed     release pod, delete pod toast
        ",
    );
}

#[test]
fn agent_past_its_limit_neither_keeps_its_town_awake_nor_wakes_it() {
    let mut scene = Scene::of(town().always_on());
    scene.agent(polecat("toast")).node(Node::Fails).hook("toast", "b1").later("20m");
    assert_eq!(scene.phase("toast"), "Failed");
    scene.node(Node::Works).edit_town("no longer always on", |t| t.spec.always_on = false).later("100h");
    assert_eq!((scene.phase("gas"), scene.phase("toast")), ("Asleep", "Failed"));
    scene.edit_town("somebody asks", |t| t.spec.wake_request = "please".into());
    assert_eq!(scene.phase("toast"), "Working", "the town is awake, and the window over");
}

#[test]
fn killed_or_evicted_pod_is_replaced_without_a_counted_attempt() {
    let mut scene = Scene::of(town());
    scene.agent(polecat("toast")).hook("toast", "b1").later("5m").evicted("toast").later("1m");
    scene.killed("toast").later("1m").killed("gas").later("1m").exits("toast", 0);
    let work = scene.agents["toast"].status.as_ref().unwrap().work.clone().unwrap();
    assert_eq!((work.attempts, work.done), (1, vec!["b1".to_owned()]));
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: toast
         00:00:00 toast  (new)      bind
         00:00:00 toast  Idle       report
         00:00:00 -- toast gets bead b1
         00:00:00 gas    Running    report (an agent has work)
         00:00:00 toast  Starting   report
         00:00:00 toast  Starting   create pod
         00:00:00 toast  Working    report
         00:00:00 -- 5m pass
         00:05:00 -- the pod of toast is evicted
         00:05:00 toast  Starting   report
         00:05:00 toast  Starting   release pod, delete pod toast
         00:05:00 -- 1m pass
         00:05:30 toast  Starting   report
         00:05:30 toast  Starting   create pod
         00:05:30 toast  Working    report
         00:06:00 -- the pod of toast is deleted by hand
         00:06:00 toast  Starting   report
         00:06:00 toast  Starting   release pod
         00:06:00 -- 1m pass
         00:07:00 toast  Starting   report
         00:07:00 toast  Starting   create pod
         00:07:00 toast  Working    report
         00:07:00 -- the pod of gas is deleted by hand
         00:07:00 gas    Starting   report
         00:07:00 gas    Starting   report
         00:07:00 -- 1m pass
         00:07:30 gas    Starting   create pod, report
         00:07:30 gas    Running    report
         00:08:00 -- the container of toast exits with 0
         00:08:00 toast  Done       report
         00:08:00 gas    Idle       report (no agent has work any more)
         00:08:00 toast  Done       release pod, delete pod toast
        ",
    );
}

#[test]
fn crashing_pods_are_not_restarted_in_a_hot_loop() {
    let mut scene = Scene::of(town().always_on());
    scene.agent(mayor()).node(Node::Fails).later("2h");
    assert!(scene.starts < 2 * 20, "{} starts in two hours:\n{}", scene.starts, scene.story());
    let mut woken = Scene::of(town());
    woken.later("30m").node(Node::Fails);
    woken.edit_town("somebody asks", |t| t.spec.wake_request = "please".into()).later("25m");
    assert!(woken.starts < 10, "{} starts in 25 minutes:\n{}", woken.starts, woken.story());
}

#[test]
fn town_deleted_while_it_works_drains_and_leaves_nothing() {
    let mut scene = Scene::of(town().storage());
    scene.agent(mayor()).agent(polecat("toast").storage()).hook("toast", "b1").delete_town().later("2m");
    scene.assert_nothing_left();
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create claim, create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: mayor
         00:00:00 mayor  (new)      bind
         00:00:00 mayor  Starting   create pod, report
         00:00:00 mayor  Idle       report
         00:00:00 -- created: toast
         00:00:00 toast  (new)      bind
         00:00:00 toast  Idle       report
         00:00:00 -- toast gets bead b1
         00:00:00 gas    Running    report (an agent has work)
         00:00:00 toast  Starting   create claim, report
         00:00:00 toast  Starting   create pod
         00:00:00 toast  Working    report
         00:00:00 -- the town is deleted
         00:00:00 gas    Destroying create tombstone, write tombstone, report
         00:00:00 -- 2m pass
         00:00:05 gas    Destroying report
         00:02:00 gas    Destroying delete agent mayor, delete agent toast, report
         00:02:00 mayor  Idle       delete pod mayor
         00:02:00 toast  Working    delete pod toast
         00:02:00 mayor  (gone)     give receipts, remove finalizer
         00:02:00 toast  Working    release pod
         00:02:00 toast  Working    delete claim toast
         00:02:00 toast  (gone)     give receipts, remove finalizer
         00:02:00 gas    Destroying delete pod gas, report
         00:02:00 gas    Destroying delete claim gas, report
         00:02:00 gas    (gone)     give receipts, remove finalizer
        ",
    );
}

#[test]
fn pod_that_does_not_stop_blocks_the_deletion_of_its_town() {
    let mut scene = Scene::of(town());
    scene.node(Node::Hangs).delete_town().later("11m");
    assert_eq!(scene.phase("gas"), "Destroying");
    scene.node(Node::Works).happens("the node stops it").assert_nothing_left();
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- the town is deleted
         00:00:00 gas    Destroying create tombstone, write tombstone, report
         00:00:00 gas    Destroying delete pod gas
         00:00:00 -- 11m pass
         00:00:05 gas    Destroying report
         00:10:00 gas    Destroying report
         00:11:00 -- the node stops it
         00:11:00 gas    (gone)     give receipts, remove finalizer
        ",
    );
}

#[test]
fn agent_deleted_alone_leaves_its_town_unchanged() {
    let mut scene = Scene::of(town());
    scene
        .agent(mayor())
        .agent(polecat("toast").storage())
        .hook("toast", "b1")
        .delete_agent("toast")
        .later("2m");
    assert_eq!((scene.agents.len(), scene.pods.len(), scene.claims.len()), (1, 2, 0));
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
         00:00:00 -- created: toast
         00:00:00 toast  (new)      bind
         00:00:00 toast  Idle       report
         00:00:00 -- toast gets bead b1
         00:00:00 gas    Running    report (an agent has work)
         00:00:00 toast  Starting   create claim, report
         00:00:00 toast  Starting   create pod
         00:00:00 toast  Working    report
         00:00:00 -- agent toast is deleted
         00:00:00 gas    Idle       report (no agent has work any more)
         00:00:00 toast  Working    write tombstone
         00:00:00 -- 2m pass
         00:00:05 toast  Destroying report
         00:02:00 toast  Destroying delete pod toast, report
         00:02:00 toast  Destroying release pod
         00:02:00 toast  Destroying delete claim toast, report
         00:02:00 toast  (gone)     give receipts, remove finalizer
         00:02:00 gas    Idle       report
        ",
    );
}

#[test]
fn rig_removal_destroys_only_the_agents_of_the_rig() {
    let mut scene = Scene::of(town());
    scene.agent(mayor()).agent(polecat("toast").storage()).hook("toast", "b1");
    scene.edit_town("the rig is removed", |t| t.spec.rigs.clear()).later("2m");
    assert_eq!(scene.agents.keys().collect::<Vec<_>>(), ["mayor"]);
    assert_eq!((scene.phase("gas"), scene.phase("mayor"), scene.claims.len()), ("Idle", "Idle", 0));
}

#[test]
fn tombstone_on_a_live_town_stops_it_until_it_is_removed() {
    let mut scene = Scene::of(town().storage());
    scene.agent(mayor()).agent(polecat("toast").storage()).hook("toast", "b1");
    scene.edit_town("it is annotated", |t| {
        t.metadata.annotations = Some([("gastown.dev/deleted".into(), "by hand".into())].into());
    });
    assert_eq!((scene.pods.len(), scene.claims.len()), (0, 2));
    scene.later("90h").edit_town("the annotation is taken off", |t| t.metadata.annotations = None);
    scene.later("1m").exits("toast", 0);
    assert_eq!((scene.phase("mayor"), scene.phase("toast")), ("Idle", "Done"));
    scene.told(
        "
         00:00:00 -- the town is created
         00:00:00 gas    (new)      adopt
         00:00:00 gas    Starting   create claim, create pod, report
         00:00:00 gas    Idle       report
         00:00:00 -- created: mayor
         00:00:00 mayor  (new)      bind
         00:00:00 mayor  Starting   create pod, report
         00:00:00 mayor  Idle       report
         00:00:00 -- created: toast
         00:00:00 toast  (new)      bind
         00:00:00 toast  Idle       report
         00:00:00 -- toast gets bead b1
         00:00:00 gas    Running    report (an agent has work)
         00:00:00 toast  Starting   create claim, report
         00:00:00 toast  Starting   create pod
         00:00:00 toast  Working    report
         00:00:00 -- it is annotated
         00:00:00 gas    Tombstoned delete pod gas, delete pod mayor, delete pod toast, report
         00:00:00 mayor  Blocked    report
         00:00:00 toast  Blocked    report
         00:00:00 toast  Blocked    report
         00:00:00 toast  Blocked    release pod
         00:00:00 -- 90h pass
         00:01:00 gas    Tombstoned report
         90:00:00 -- the annotation is taken off
         90:00:00 gas    Starting   create pod, report
         90:00:00 mayor  Starting   create pod, report
         90:00:00 toast  Starting   report
         90:00:00 gas    Running    report (an agent has work)
         90:00:00 mayor  Idle       report
         90:00:00 toast  Starting   create pod
         90:00:00 toast  Working    report
         90:00:00 -- 1m pass
         90:01:00 -- the container of toast exits with 0
         90:01:00 toast  Done       report
         90:01:00 gas    Idle       report (no agent has work any more)
         90:01:00 toast  Done       release pod, delete pod toast
        ",
    );
}

#[test]
fn agent_is_bound_when_its_town_is_created() {
    let mut scene = Scene::of(town());
    let later = scene.town.take();
    scene.agent(polecat("toast").hook("b1"));
    assert_eq!(scene.phase("toast"), "Blocked");
    scene.town = later;
    scene.happens("its town is created").exits("toast", 0);
    assert_eq!(scene.phase("toast"), "Done");
}

#[test]
fn orphan_agent_is_not_adopted_by_a_new_town_of_the_same_name() {
    let mut scene = Scene::of(town());
    scene.agent(polecat("toast").storage()).hook("toast", "b1");
    scene.town = None;
    scene.happens("somebody strips the town's finalizer");
    assert_eq!((scene.phase("toast"), scene.claims.len()), ("Blocked", 1));
    let successor = town().not_adopted().edit(|t| t.metadata.uid = Some("another-uid".into()));
    scene.town = Some(successor.0.town);
    scene.happens("a town of the same name is created").later("1h");
    assert_eq!((scene.phase("toast"), scene.claims.len()), ("Blocked", 1));
}

#[test]
fn town_awake_or_asleep_writes_nothing_without_an_event() {
    let mut scene = Scene::of(town().always_on());
    scene.agent(mayor()).agent(polecat("toast")).hook("toast", "b1").later("2m");
    let before = scene.writes;
    scene.later("200h");
    assert_eq!(scene.writes, before, "awake:\n{}", scene.story());
    scene.exits("toast", 0).edit_town("asleep by decree", |t| t.spec.suspend = true).later("2m");
    let before = scene.writes;
    scene.later("2000h");
    assert_eq!(scene.writes, before, "asleep:\n{}", scene.story());
}

#[test]
fn town_lifecycle_needs_at_most_32_writes() {
    let mut scene = Scene::of(town().storage());
    scene.agents([polecat("toast").hook("b1"), polecat("nux").hook("b2")]);
    scene.later("20s").exits("toast", 0).exits("nux", 0).later("20s").delete_town();
    scene.assert_nothing_left();
    assert!(scene.writes <= 32, "{} writes:\n{}", scene.writes, scene.story());
}
