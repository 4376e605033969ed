//! Turns to start: only a limited number of towns start at the same time, and the namespaces share the places fairly.
//!
//! A town that starts pulls images, mounts volumes and uses capacity of a node. A thousand starts at the same time
//! would block each other. Invariants kept here:
//! - [`FairQueue`] decides the next turn, so that the towns of one tenant do not keep the towns of another from
//!   waking.
//! - A turn ends after [`TURN`], so that a pod that never becomes Ready does not hold a place for longer.
//! - A town that is gone, foreign or unreadable holds no place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::cluster::scheduling::fair_queue::FairQueue;
use crate::cluster::scheduling::requeue::{Look, Looks};
use crate::cluster::sync::lock;
use crate::lifecycle::{ObjectKey, Uid};
use crate::telemetry::Metrics;

/// The longest time for which a town that is not Ready holds a place.
const TURN: SignedDuration = SignedDuration::from_mins(2);

/// The places, and the towns that hold a place or wait for one.
pub(crate) struct Starts {
    state: Mutex<State>,
    looks: Looks,
    metrics: Arc<Metrics>,
}

struct State {
    queue: FairQueue<Uid>,
    /// Towns that hold a place, with the end of their turns.
    starting: HashMap<Uid, (ObjectKey, Timestamp)>,
    /// Towns that wait, with the begin of their wait.
    waiting: HashMap<Uid, (ObjectKey, Timestamp)>,
}

impl Starts {
    /// A queue in which all places are free.
    pub(crate) fn new(places: u16, looks: Looks, metrics: Arc<Metrics>) -> Self {
        let (starting, waiting) = (HashMap::new(), HashMap::new());
        let state = Mutex::new(State { queue: FairQueue::new(places), starting, waiting });
        Self { state, looks, metrics }
    }

    /// Whether this town may create its pod now: the town holds a place, or gets one. Otherwise the town waits from
    /// its first call on, and is enqueued when it gets a place.
    pub(crate) fn turn(&self, uid: &Uid, key: &ObjectKey, now: Timestamp) -> bool {
        let mut state = lock(&self.state);
        state.end_turns(now);
        if !state.starting.contains_key(uid) && !state.waiting.contains_key(uid) {
            state.waiting.insert(uid.clone(), (key.clone(), now));
            state.queue.push(&key.namespace, uid.clone());
        }
        self.admit(&mut state, now, Some(uid));
        state.starting.contains_key(uid)
    }

    /// Sets the end of the turn of a town that has a pod and is not Ready, from the creation time of the pod. A town
    /// with a pod does not wait for a place.
    pub(crate) fn keep(&self, uid: &Uid, created: Timestamp, now: Timestamp) {
        let mut state = lock(&self.state);
        state.leave_queue(uid);
        if let Some((_, until)) = state.starting.get_mut(uid) {
            *until = after_turn(created);
        }
        state.end_turns(now);
        self.admit(&mut state, now, None);
    }

    /// Continues the turn that a previous leader gave to this town at this time.
    pub(crate) fn resume(&self, uid: &Uid, key: &ObjectKey, created: Timestamp, now: Timestamp) {
        let until = after_turn(created);
        let mut state = lock(&self.state);
        if now < until && !state.starting.contains_key(uid) {
            state.queue.hold(&key.namespace);
            state.starting.insert(uid.clone(), (key.clone(), until));
        }
    }

    /// Ends the turn: the town has started, failed to start, no longer wants to start, or is gone.
    pub(crate) fn release(&self, uid: &Uid, now: Timestamp) {
        let mut state = lock(&self.state);
        let held = state.end_turn(uid);
        if state.leave_queue(uid) || held {
            self.admit(&mut state, now, None);
        }
    }

    /// The same for every town known by this name, because no readable town of this installation has this name.
    pub(crate) fn release_named(&self, key: &ObjectKey, now: Timestamp) {
        let named: Vec<Uid> = {
            let state = lock(&self.state);
            let known = state.starting.iter().chain(&state.waiting);
            known.filter(|(_, (known, _))| known == key).map(|(uid, _)| uid.clone()).collect()
        };
        for uid in named {
            self.release(&uid, now);
        }
    }

    /// The end of the turn of this town; `None`: the town holds no place. The town is enqueued for this time, so that
    /// it does not keep the place.
    pub(crate) fn turn_ends(&self, uid: &Uid) -> Option<Timestamp> {
        lock(&self.state).starting.get(uid).map(|(_, until)| *until)
    }

    /// Gives the free places to the next towns. All towns except `asking` are enqueued, so that they use their
    /// places.
    fn admit(&self, state: &mut State, now: Timestamp, asking: Option<&Uid>) {
        while let Some(uid) = state.queue.admit() {
            let Some((key, since)) = state.waiting.remove(&uid) else { continue };
            self.metrics.waited_for_start(now.duration_since(since).max(SignedDuration::ZERO).unsigned_abs());
            if asking != Some(&uid) {
                self.looks.ask(Look::Town(key.clone()));
            }
            state.starting.insert(uid, (key, after_turn(now)));
        }
        self.metrics.starts_waiting(state.queue.waiting());
    }
}

impl State {
    /// Releases the places of towns whose turn is over.
    fn end_turns(&mut self, now: Timestamp) {
        let over: Vec<Uid> = self
            .starting
            .iter()
            .filter(|(_, (_, until))| *until <= now)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in over {
            self.end_turn(&uid);
        }
    }

    /// Releases the place of a town. Returns whether the town held one.
    fn end_turn(&mut self, uid: &Uid) -> bool {
        let held = self.starting.remove(uid);
        if let Some((key, _)) = &held {
            self.queue.release(&key.namespace);
        }
        held.is_some()
    }

    /// Removes a town from the queue. Returns whether the town waited.
    fn leave_queue(&mut self, uid: &Uid) -> bool {
        let waited = self.waiting.remove(uid);
        if let Some((key, _)) = &waited {
            self.queue.remove(&key.namespace, uid);
        }
        waited.is_some()
    }
}

fn after_turn(began: Timestamp) -> Timestamp {
    began.checked_add(TURN).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::scheduling::requeue::looks;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A queue with towns that ask for turns, by `<namespace>/<name>`.
    struct Scene {
        starts: Starts,
        metrics: Arc<Metrics>,
        asked: tokio::sync::mpsc::UnboundedReceiver<Look>,
    }

    impl Scene {
        fn with(places: u16) -> Self {
            let (looks, asked) = looks();
            let metrics = Arc::new(Metrics::default());
            Self { starts: Starts::new(places, looks, metrics.clone()), metrics, asked }
        }

        fn turn(&self, name: &str, now: i64) -> bool {
            self.starts.turn(&Uid::new(name), &key(name), at(now))
        }

        /// The towns that are enqueued after this town has released its place.
        fn release(&mut self, name: &str, now: i64) -> Vec<Look> {
            self.starts.release(&Uid::new(name), at(now));
            self.asked()
        }

        fn asked(&mut self) -> Vec<Look> {
            std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
        }

        fn holds(&self, namespace: &str) -> usize {
            let state = lock(&self.starts.state);
            state.starting.values().filter(|(key, _)| key.namespace == namespace).count()
        }
    }

    fn key(name: &str) -> ObjectKey {
        let (namespace, name) = name.split_once('/').unwrap();
        ObjectKey { namespace: namespace.into(), name: name.into() }
    }

    fn look(name: &str) -> Look {
        Look::Town(key(name))
    }

    #[test]
    fn town_keeps_its_place_and_others_wait_when_all_are_taken() {
        let scene = Scene::with(2);
        assert!(scene.turn("a/1", 1) && scene.turn("b/1", 2));
        assert!(!scene.turn("c/1", 3) && !scene.turn("d/1", 4));
        assert!(scene.turn("a/1", 5) && scene.turn("b/1", 5));
        assert!(!scene.turn("c/1", 6));
    }

    #[test]
    fn free_place_is_kept_for_the_town_that_waits_longest() {
        let mut scene = Scene::with(1);
        assert!(scene.turn("a/1", 1));
        assert!(!scene.turn("a/old", 2) && !scene.turn("a/young", 3));
        assert!(!scene.turn("a/old", 4), "a second call does not cost the position");
        assert_eq!(scene.release("a/1", 5), [look("a/old")]);
        assert!(!scene.turn("a/young", 6) && !scene.turn("a/new", 7));
        assert!(scene.turn("a/old", 8));
        assert_eq!(scene.release("a/old", 9), [look("a/young")]);
        assert!(scene.turn("a/young", 10));
    }

    #[test]
    fn town_that_leaves_the_queue_or_its_place_lets_the_next_one_in() {
        let mut scene = Scene::with(1);
        assert!(scene.turn("a/1", 1));
        assert!(!scene.turn("a/old", 2) && !scene.turn("a/young", 3));
        assert_eq!(scene.release("a/old", 4), [], "nothing is free");
        assert_eq!(scene.release("a/1", 4), [look("a/young")]);
        assert_eq!(scene.release("a/1", 4), [], "a town without a place returns none");
        assert_eq!(scene.release("a/young", 4), []);
        assert!(scene.turn("a/old", 5));
    }

    // S5.
    #[test]
    fn turn_ends_after_two_minutes_without_ready() {
        let mut scene = Scene::with(1);
        assert!(scene.turn("a/1", 0));
        assert!(!scene.turn("b/1", 10));
        assert_eq!(scene.starts.turn_ends(&Uid::new("a/1")), Some(at(120)));
        // The pod is created later, and the turn counts from its creation.
        scene.starts.keep(&Uid::new("a/1"), at(20), at(21));
        assert_eq!(scene.starts.turn_ends(&Uid::new("a/1")), Some(at(140)));
        scene.starts.keep(&Uid::new("a/1"), at(20), at(139));
        assert_eq!(scene.asked(), []);
        scene.starts.keep(&Uid::new("a/1"), at(20), at(140));
        assert_eq!(scene.asked(), [look("b/1")]);
        assert!(scene.turn("b/1", 141));
        scene.starts.keep(&Uid::new("a/1"), at(20), at(142));
        assert_eq!(scene.starts.turn_ends(&Uid::new("a/1")), None, "it gets no second turn for the same pod");
        assert!(!scene.turn("a/1", 143), "the next start waits for another turn");
    }

    // S5.
    #[test]
    fn town_starts_within_a_turn_while_another_namespace_has_200_unready_towns() {
        for places in [1, 2, 3, 4, 20] {
            let mut scene = Scene::with(places);
            let greedy: Vec<String> = (0..200).map(|number| format!("a/{number}")).collect();
            let mut pods: HashMap<&str, i64> = HashMap::new();
            let mut woken = None;
            for now in 0..600 {
                for name in &greedy {
                    match pods.get(name.as_str()) {
                        Some(created) => scene.starts.keep(&Uid::new(name.as_str()), at(*created), at(now)),
                        None if scene.turn(name, now) => drop(pods.insert(name, now)),
                        None => {}
                    }
                }
                if now >= 30 && woken.is_none() && scene.turn("b/1", now) {
                    woken = Some(now);
                }
                if woken.is_none() && now > 30 {
                    assert!(scene.holds("a") <= usize::from(places / 4).max(1), "at {now}");
                }
            }
            let waited = woken.expect("it starts") - 30;
            // With only one place, no place can be kept free.
            assert!(if places == 1 { waited <= 120 } else { waited == 0 }, "{places} places: {waited} s");
            assert!(
                pods.len() >= 4 * usize::from(places).div_ceil(2),
                "and the others go on: {}",
                pods.len()
            );
            scene.asked();
        }
    }

    // A32.
    #[test]
    fn town_that_is_foreign_or_unreadable_releases_its_place_and_its_position() {
        let mut scene = Scene::with(1);
        assert!(scene.turn("a/1", 1));
        assert!(!scene.turn("a/2", 2) && !scene.turn("b/1", 3));
        scene.starts.release_named(&key("a/2"), at(4));
        scene.starts.release_named(&key("a/1"), at(4));
        assert_eq!(scene.asked(), [look("b/1")]);
    }

    #[test]
    fn unused_start_place_is_returned_after_two_minutes() {
        let mut scene = Scene::with(1);
        assert!(scene.turn("a/1", 0) && !scene.turn("b/1", 1) && !scene.turn("c/1", 2));
        assert_eq!(scene.release("a/1", 3), [look("b/1")]);
        assert!(!scene.turn("c/1", 122));
        assert!(scene.turn("c/1", 123), "the operator could not look at the other town");
    }

    #[test]
    fn towns_of_the_previous_leader_hold_places_for_the_rest_of_their_turns() {
        let scene = Scene::with(1);
        for (name, created) in [("a/1", 100), ("a/2", 110), ("a/3", -100)] {
            scene.starts.resume(&Uid::new(name), &key(name), at(created), at(120));
        }
        assert_eq!(scene.holds("a"), 2, "of the third one the turn is over");
        assert!(!scene.turn("b/1", 121) && !scene.turn("b/1", 225));
        assert!(scene.turn("b/1", 230));
    }

    #[test]
    fn start_queue_length_and_wait_time_are_measured() {
        let mut scene = Scene::with(1);
        assert!(scene.turn("a/1", 0) && !scene.turn("b/1", 10) && !scene.turn("c/1", 10));
        assert_eq!(scene.metrics.value("starts_waiting"), Some(2.0));
        scene.release("a/1", 17);
        assert_eq!(scene.metrics.value("starts_waiting"), Some(1.0));
        assert_eq!(scene.metrics.value("start_wait_seconds_count"), Some(2.0));
        assert_eq!(scene.metrics.value("start_wait_seconds_sum"), Some(7.0));
        scene.release("c/1", 18);
        assert_eq!(scene.metrics.value("starts_waiting"), Some(0.0));
    }
}
