//! Random walks: whatever happens in whatever order, what was promised holds in the end.

use proptest::prelude::*;

use super::build::{mayor, polecat, town};
use super::scene::{Node, Scene};

/// Something that happens to a town.
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
    Node(bool),
    AgentsFirst(bool),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let who = || prop::sample::select(vec!["toast", "nux", "mayor"]);
    let pod = || prop::sample::select(vec!["toast", "nux", "mayor", "gas"]);
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
        1 => any::<bool>().prop_map(Turn::Node),
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
        Turn::Suspend(yes) => scene.edit_town("suspended or not", |t| t.spec.suspended = yes),
        Turn::AlwaysOn(yes) => scene.edit_town("always on or not", |t| t.spec.always_on = yes),
        Turn::Wake(n) => scene.edit_town("asked to wake", |t| t.spec.wake_request = format!("{n}")),
        Turn::Tombstone(yes) => scene.edit_town("annotated or not", |t| {
            t.metadata.annotations = yes.then(|| [("gastown.dev/deleted".into(), "by hand".into())].into());
        }),
        Turn::AgentsFirst(yes) => scene.agents_first(yes),
        Turn::Node(works) => scene.node(if works { Node::Works } else { Node::Fails }),
    };
}

/// A town of three after all this.
fn after(turns: Vec<Turn>) -> Scene {
    let mut scene = Scene::of(town().storage());
    scene.agents([mayor(), polecat("toast").storage(), polecat("nux")]);
    for turn in turns {
        take(&mut scene, turn);
    }
    scene
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// A deletion ends, whatever it met, and nothing is left.
    #[test]
    fn a_deleted_town_leaves_nothing(turns in turns(), more in turns()) {
        let mut scene = after(turns);
        scene.delete_town();
        for turn in more {
            take(&mut scene, turn);
        }
        scene.node(Node::Works).later("1h");
        scene.assert_nothing_left();
    }

    /// When nothing changes any more and pods succeed, every bead is done; no work is lost to sleep.
    #[test]
    fn all_work_is_done_in_the_end(turns in turns()) {
        let mut scene = after(turns);
        scene.node(Node::Works).edit_town("all is well", |t| {
            t.spec.suspended = false;
            t.metadata.annotations = None;
        });
        // Who is past its limit is tried once a window, of a day at most, while the town is awake.
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

    /// Left alone, a town comes to rest and writes nothing any more.
    #[test]
    fn a_town_left_alone_comes_to_rest(turns in turns()) {
        let mut scene = after(turns);
        scene.node(Node::Works).later("50h");
        let before = scene.writes;
        scene.later("200h");
        prop_assert_eq!(scene.writes, before, "{}", scene.story());
    }
}
