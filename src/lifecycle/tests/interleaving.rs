//! Every order of events while a town falls asleep or wakes.
//!
//! The moves are a reconcile of the town, a reconcile of its agents, a step of the node that starts and stops pods, and
//! answers of pods. Between every two moves that change the state, the test inserts each of the events below, and
//! another one after that. The scene checks the invariants after each move; [`Run::ends_well`] checks the final state.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::build::{hook, minute, polecat, town};
use super::scene::{Move, Scene};
use crate::api::{Duration, Town};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// An event that can occur at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A user puts a bead on the hook of toast.
    Work,
    /// The backlog has a merge request.
    Backlog,
    WakeRequest,
    Suspend,
    Lift,
    Delete,
    /// The operator is killed immediately.
    Restart,
    /// The operator is killed after this number of writes.
    KilledAfter(usize),
}

const EVENTS: [Event; 9] = [
    Event::Work,
    Event::Backlog,
    Event::WakeRequest,
    Event::Suspend,
    Event::Lift,
    Event::Delete,
    Event::Restart,
    Event::KilledAfter(1),
    Event::KilledAfter(2),
];

/// The time until the state is at rest: the drain timeout, and the periodic checks of each minute.
const SETTLES: SignedDuration = SignedDuration::from_mins(6);

/// An order of events.
#[derive(Clone)]
struct Run {
    scene: Scene,
    order: [Move; 4],
    turn: usize,
    /// The number of consecutive moves without a change.
    quiet: usize,
    until: Timestamp,
    happened: Vec<Event>,
}

impl Run {
    /// A town with an idle agent, one minute before it falls asleep.
    fn of(base: super::build::TownBuilder, order: [Move; 4]) -> Self {
        let base = base.edit(|t| {
            // A probe each minute is sufficient here.
            t.spec.alarm.active = Duration::new("60s");
        });
        let mut scene = Scene::of(base);
        scene.agent(polecat("toast")).later("29m");
        Self { scene, order, turn: 0, quiet: 0, until: minute(29) + SETTLES, happened: Vec::new() }
    }

    /// Executes one move, or advances to the next deadline if no move has an effect; `None`: the state is at rest.
    fn goes_on(&mut self) -> Option<bool> {
        if self.quiet == self.order.len() {
            self.quiet = 0;
            return self.scene.next_deadline(self.until).then_some(false);
        }
        let changed = self.scene.moves(self.order[self.turn]);
        self.turn = (self.turn + 1) % self.order.len();
        self.quiet = if changed { 0 } else { self.quiet + 1 };
        Some(changed)
    }

    fn happens(&mut self, event: Event) {
        let now = self.scene.now();
        self.until = now + SETTLES;
        self.quiet = 0;
        self.happened.push(event);
        let edit = |scene: &mut Scene, change: &dyn Fn(&mut Town)| {
            scene.town.iter_mut().map(Arc::make_mut).for_each(change);
        };
        self.scene.unseen(&format!("{event:?}"), |scene| match event {
            Event::Work => {
                scene.agents.values_mut().for_each(|a| Arc::make_mut(a).spec.hook = Some(hook("b1")));
            }
            Event::Backlog => edit(scene, &|t| t.spec.backlog.merge_requests = 1),
            Event::WakeRequest => edit(scene, &|t| t.spec.wake_request = "please".into()),
            Event::Suspend => edit(scene, &|t| t.spec.suspend = true),
            Event::Lift => edit(scene, &|t| t.spec.suspend = false),
            Event::Delete => edit(scene, &|t| {
                t.metadata.deletion_timestamp.get_or_insert(Time(now));
            }),
            Event::Restart => scene.killed_after(0),
            Event::KilledAfter(writes) => scene.killed_after(writes),
        });
    }

    fn has(&self, event: Event) -> bool {
        self.happened.contains(&event)
    }

    /// The town is awake if it has work, asleep if it has none, gone if it was deleted, and never in between.
    fn ends_well(&self) {
        let about = format!("{:?} {:?}\n{}", self.happened, self.order, self.scene.story());
        let phase = self.scene.phase("gas");
        if self.has(Event::Delete) {
            self.scene.assert_nothing_left();
            return;
        }
        let suspended = self.scene.town.as_ref().unwrap().spec.suspend;
        if suspended {
            assert_eq!((phase, self.scene.pods.len()), ("Asleep", 0), "{about}");
        } else if self.has(Event::Work) {
            assert_eq!(
                (phase, self.scene.phase("toast")),
                ("Running", "Working"),
                "I9: a lost wake: {about}"
            );
        } else if self.has(Event::Backlog) {
            assert_eq!(phase, "Running", "I9: a lost wake: {about}");
        } else if self.has(Event::WakeRequest) {
            assert_eq!(phase, "Idle", "I9: a lost wake: {about}");
            let handled = &self.scene.town.as_ref().unwrap().status.as_ref().unwrap().handled_wake_request;
            assert_eq!(handled, "please", "{about}");
        } else if self.has(Event::Suspend) {
            // A suspension that is lifted before a reconcile has no effect.
            assert!(["Idle", "Asleep"].contains(&phase), "{about}");
        } else {
            assert_eq!((phase, self.scene.pods.len()), ("Asleep", 0), "{about}");
        }
    }

    /// Continues to the end, and inserts every event at every moment on the way, up to this number of events.
    fn explore(mut self, events: usize, tried: &mut usize) {
        let mut moved = true;
        loop {
            if moved && self.happened.len() < events {
                for event in EVENTS {
                    let mut other = self.clone();
                    other.happens(event);
                    other.explore(events, tried);
                }
            }
            match self.goes_on() {
                Some(changed) => moved = changed,
                None => break,
            }
        }
        // The run after the last event is also followed to its end.
        if !self.happened.is_empty() || events == 0 {
            self.ends_well();
            *tried += 1;
        }
    }
}

/// The orders of the four moves.
fn orders() -> Vec<[Move; 4]> {
    let all = [Move::Town, Move::Agents, Move::Pods, Move::Answers];
    let mut orders = Vec::new();
    for a in all {
        for b in all.into_iter().filter(|b| *b != a) {
            for c in all.into_iter().filter(|c| *c != a && *c != b) {
                let d = all.into_iter().find(|d| ![a, b, c].contains(d)).unwrap();
                orders.push([a, b, c, d]);
            }
        }
    }
    orders
}

#[test]
fn town_falls_asleep_in_every_order_of_moves_without_an_event() {
    for order in orders() {
        Run::of(town(), order).explore(0, &mut 0);
        Run::of(town().asked(), order).explore(0, &mut 0);
    }
}

#[test]
fn town_reaches_the_right_phase_after_one_event_while_it_falls_asleep() {
    let mut tried = 0;
    for order in orders() {
        Run::of(town(), order).explore(1, &mut tried);
        Run::of(town().asked(), order).explore(1, &mut tried);
    }
    assert!(tried > 2000, "only {tried}");
}

#[test]
fn town_reaches_the_right_phase_after_two_events_while_it_falls_asleep_or_wakes() {
    let mut tried = 0;
    let all = orders();
    for order in [all[0], all[23]] {
        Run::of(town(), order).explore(2, &mut tried);
    }
    Run::of(town().asked(), all[9]).explore(2, &mut tried);
    assert!(tried > 5000, "only {tried}");
}
