//! Random walks: the guarantees hold at the end, after any events in any order.

use proptest::prelude::*;

use super::build::{entry, mayor, polecat, quiet, town};
use super::scene::{Node, Scene};
use crate::api::{ActivityReport, Duration, ReportedState, names};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// An event in the life of a town.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Later(&'static str),
    Hook(&'static str, &'static str),
    Unhook(&'static str),
    Exits(&'static str, i32),
    Evicted(&'static str),
    Killed(&'static str),
    Suspend(bool),
    AlwaysOn(bool),
    Wake(u8),
    Tombstone(bool),
    Pause(bool),
    RestartAt(u8),
    Template(u8),
    Ports(bool),
    Backlog(bool),
    Reports(&'static str, ReportedState),
    Silent(&'static str),
    Crashes(&'static str),
    Grow,
    ClaimGone(&'static str),
    MaxPolecats(i32),
    OperatorRestarts,
    KilledAfter(usize),
    MayStart(bool),
    Node(Node),
    AgentsFirst(bool),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let who = || prop::sample::select(vec!["toast", "nux", "mayor"]);
    let pod = || prop::sample::select(vec!["toast", "nux", "mayor", "gas"]);
    let asked = || prop::sample::select(vec!["gas", "mayor"]);
    let state = prop::sample::select(vec![
        ReportedState::Idle,
        ReportedState::Working,
        ReportedState::Waiting,
        ReportedState::Stuck,
        ReportedState::Done,
        ReportedState::Failed,
    ]);
    let bead = || prop::sample::select(vec!["b1", "b2", "b3"]);
    let time = prop::sample::select(vec!["1s", "10s", "1m", "3m", "29m", "31m", "5h"]);
    let turn = prop_oneof![
        4 => time.prop_map(Turn::Later),
        4 => (who(), bead()).prop_map(|(who, bead)| Turn::Hook(who, bead)),
        1 => who().prop_map(Turn::Unhook),
        4 => (pod(), 0..2).prop_map(|(who, code)| Turn::Exits(who, code)),
        1 => pod().prop_map(Turn::Evicted),
        2 => pod().prop_map(Turn::Killed),
        2 => any::<bool>().prop_map(Turn::Suspend),
        1 => any::<bool>().prop_map(Turn::AlwaysOn),
        1 => any::<u8>().prop_map(Turn::Wake),
        1 => any::<bool>().prop_map(Turn::Tombstone),
        1 => any::<bool>().prop_map(Turn::Pause),
        1 => any::<u8>().prop_map(Turn::RestartAt),
        1 => (0..3_u8).prop_map(Turn::Template),
        1 => any::<bool>().prop_map(Turn::Ports),
        1 => any::<bool>().prop_map(Turn::Backlog),
        2 => (asked(), state).prop_map(|(who, state)| Turn::Reports(who, state)),
        1 => asked().prop_map(Turn::Silent),
        2 => pod().prop_map(Turn::Crashes),
        1 => Just(Turn::Grow),
        1 => prop::sample::select(vec!["toast", "gas"]).prop_map(Turn::ClaimGone),
        1 => (0..2_i32).prop_map(Turn::MaxPolecats),
        1 => Just(Turn::OperatorRestarts),
        1 => (0..4_usize).prop_map(Turn::KilledAfter),
        1 => any::<bool>().prop_map(Turn::MayStart),
        1 => prop::sample::select(vec![Node::Works, Node::Fails, Node::Unready]).prop_map(Turn::Node),
        1 => any::<bool>().prop_map(Turn::AgentsFirst),
    ];
    prop::collection::vec(turn, 0..25)
}

fn take(scene: &mut Scene, turn: Turn) {
    match turn {
        Turn::Later(span) => scene.later(span),
        Turn::Hook(who, bead) => scene.hook(who, bead),
        Turn::Unhook(who) => scene.edit_agent(who, "its hook is taken off", |a| a.spec.hook = None),
        Turn::Exits(who, code) => scene.exits(who, code),
        Turn::Evicted(who) => scene.evicted(who),
        Turn::Killed(who) => scene.killed(who),
        Turn::Suspend(yes) => scene.edit_town("suspended or not", |t| t.spec.suspend = yes),
        Turn::AlwaysOn(yes) => scene.edit_town("always on or not", |t| t.spec.always_on = yes),
        Turn::Wake(n) => scene.edit_town("asked to wake", |t| t.spec.wake_request = format!("{n}")),
        Turn::Tombstone(yes) => scene.edit_town("annotated or not", |t| {
            annotate(&mut t.metadata, names::TOMBSTONE, yes.then_some("by hand"));
        }),
        Turn::Pause(yes) => scene.edit_town("paused or not", |t| {
            annotate(&mut t.metadata, names::PAUSED, yes.then_some("true"));
        }),
        Turn::RestartAt(n) => scene.edit_town("told to restart", |t| {
            annotate(&mut t.metadata, names::RESTART_AT, Some(&n.to_string()));
        }),
        Turn::Template(n) => scene.edit_town("a new template", |t| {
            for template in [&mut t.spec.template, &mut t.spec.agent_template] {
                template.as_mut().unwrap().spec_mut().hostname = Some(n.to_string());
            }
        }),
        Turn::Ports(yes) => scene.edit_town("ports or not", |t| {
            t.spec.ports = yes.then(|| super::build::port_of("web", 80)).into_iter().collect();
        }),
        Turn::Backlog(yes) => scene.edit_town("backlog or not", |t| t.spec.backlog.triage = i32::from(yes)),
        Turn::Reports(who, state) => {
            let report = ActivityReport { agents: vec![entry("mayor", state)], ..quiet() };
            scene.reports(who, report)
        }
        Turn::Silent(who) => scene.silent(who),
        Turn::Crashes(who) => scene.crashes(who),
        Turn::Grow => scene.edit_town("it grows", |t| {
            t.spec.storage.as_mut().unwrap().size = Some(Quantity("3Gi".into()));
        }),
        Turn::ClaimGone(who) => scene.claim_deleted(who),
        Turn::MaxPolecats(n) => {
            scene.edit_town("the rig is narrowed", |t| t.spec.rigs[0].max_polecats = Some(n))
        }
        Turn::OperatorRestarts => scene.operator_restarts(),
        Turn::KilledAfter(writes) => {
            scene.killed_after(writes);
            scene
        }
        Turn::MayStart(yes) => scene.may_start(yes),
        Turn::AgentsFirst(yes) => scene.agents_first(yes),
        Turn::Node(node) => scene.node(node),
    };
}

fn annotate(meta: &mut ObjectMeta, key: &str, value: Option<&str>) {
    let annotations = meta.annotations.get_or_insert_default();
    match value {
        Some(value) => annotations.insert(key.into(), value.into()),
        None => annotations.remove(key),
    };
}

/// A town with three agents after these events.
fn after(turns: Vec<Turn>) -> Scene {
    // The walks last days, so that probes are as rare as possible.
    let base = town().storage().asked().edit(|t| {
        t.spec.alarm.active = Duration::new("10m");
        t.spec.alarm.idle = Duration::new("1h");
    });
    let mut scene = Scene::of(base);
    scene.agents([mayor().asked(), polecat("toast").storage(), polecat("nux")]);
    for turn in turns {
        take(&mut scene, turn);
    }
    scene
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// A deletion completes after any events, and nothing is left.
    #[test]
    fn deleted_town_leaves_nothing_after_any_events(turns in turns(), more in turns()) {
        let mut scene = after(turns);
        scene.delete_town();
        for turn in more {
            take(&mut scene, turn);
        }
        scene.node(Node::Works).later("1h");
        scene.assert_nothing_left();
    }

    /// When nothing changes and pods succeed, every bead is done at the end: sleep loses no work.
    #[test]
    fn beads_are_done_in_the_end_after_any_events(turns in turns()) {
        let mut scene = after(turns);
        scene.may_start(true).reports("gas", quiet()).reports("mayor", quiet());
        scene.node(Node::Works).edit_town("all is well", |t| {
            t.spec.suspend = false;
            t.spec.rigs[0].max_polecats = Some(8);
            t.metadata.annotations = None;
        });
        // An agent past its limit is tried once per window, which is at most a day, while the town is awake.
        for day in 0..3 {
            scene.edit_town("asked to wake", |t| t.spec.wake_request = format!("day {day}")).later("10m");
            for who in ["toast", "nux"] {
                scene.exits(who, 0);
            }
            scene.later("25h");
        }
        for who in ["toast", "nux"] {
            let phase = scene.phase(who);
            prop_assert!(["Done", "Idle"].contains(&phase), "{who} is {phase}:\n{}", scene.story());
        }
    }

    /// A town without events comes to rest and writes nothing more.
    #[test]
    fn undisturbed_town_stops_writing_after_any_events(turns in turns()) {
        let mut scene = after(turns);
        scene.reports("gas", quiet()).reports("mayor", quiet());
        scene.node(Node::Works).may_start(true).happens("all is well").later("50h");
        let before = scene.writes;
        // Every periodic action recurs within a day.
        scene.later("50h");
        prop_assert_eq!(scene.writes, before, "{}", scene.story());
    }
}
