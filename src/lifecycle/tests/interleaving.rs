//! Every order in which something can happen while a town falls asleep or wakes, tried one by one.
//!
//! The operator looks at the town and at its agents, the node starts and stops pods, and pods answer: each of
//! these is one move. Between every two moves that change anything, each of the events below is inserted, and
//! another one after that. The stage holds the invariants after each move; what must be true in the end is
//! [`Run::ends_well`].

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::build::{hook, minute, polecat, town};
use super::scene::{Move, Scene};
use crate::api::{Duration, Town};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What can happen at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A bead is put on the hook of toast.
    Work,
    /// A merge request is counted.
    Backlog,
    WakeRequest,
    Suspend,
    Lift,
    Delete,
    /// The operator is killed now.
    Restart,
    /// The operator is killed after so many writes more.
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

/// Long enough for everything to come to rest: the drain, and what is looked at each minute.
const SETTLES: SignedDuration = SignedDuration::from_mins(6);

/// One way that things can go.
#[derive(Clone)]
struct Run {
    scene: Scene,
    order: [Move; 4],
    turn: usize,
    /// Moves in a row that changed nothing.
    quiet: usize,
    until: Timestamp,
    happened: Vec<Event>,
}

impl Run {
    /// A town with an idle agent, a minute before it falls asleep.
    fn of(base: super::build::TownBuilder, order: [Move; 4]) -> Self {
        let base = base.edit(|t| {
            // One question a minute is enough here.
            t.spec.alarm.active = Duration::new("60s");
        });
        let mut scene = Scene::of(base);
        scene.agent(polecat("toast")).later("29m");
        Self { scene, order, turn: 0, quiet: 0, until: minute(29) + SETTLES, happened: Vec::new() }
    }

    /// One move, or the next deadline where nobody has anything to do; `None`: all is at rest.
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

    /// Asleep if nobody wants it awake, awake if there is work, gone if it was deleted; nothing in between.
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
            // Lifted before anybody saw it, it never happened.
            assert!(["Idle", "Asleep"].contains(&phase), "{about}");
        } else {
            assert_eq!((phase, self.scene.pods.len()), ("Asleep", 0), "{about}");
        }
    }

    /// Goes on to the end, and tries every event at every moment on the way, up to so many in all.
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
        // Whatever happens last is followed to the end as well.
        if !self.happened.is_empty() || events == 0 {
            self.ends_well();
            *tried += 1;
        }
    }
}

/// All orders in which the four can come to their move.
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
fn without_any_event_a_town_falls_asleep_in_every_order() {
    for order in orders() {
        Run::of(town(), order).explore(0, &mut 0);
        Run::of(town().asked(), order).explore(0, &mut 0);
    }
}

#[test]
fn k18_one_event_at_any_moment_of_falling_asleep_in_every_order() {
    let mut tried = 0;
    for order in orders() {
        Run::of(town(), order).explore(1, &mut tried);
        Run::of(town().asked(), order).explore(1, &mut tried);
    }
    assert!(tried > 2000, "only {tried}");
}

#[test]
fn k18_two_events_at_any_two_moments_of_falling_asleep_and_waking() {
    let mut tried = 0;
    let all = orders();
    for order in [all[0], all[23]] {
        Run::of(town(), order).explore(2, &mut tried);
    }
    Run::of(town().asked(), all[9]).explore(2, &mut tried);
    assert!(tried > 5000, "only {tried}");
}
