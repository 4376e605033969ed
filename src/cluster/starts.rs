//! Whose turn it is to start: only so many towns start at once, and the others wait, the oldest first.
//!
//! A town that starts pulls images, mounts volumes and takes room on a node; a thousand at once would keep each
//! other from getting anywhere. Invariant kept here: no more towns hold a place than there are places, and a
//! place that is free goes to whoever has waited longest.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Mutex;

use k8s_openapi::jiff::Timestamp;

use super::lock;
use super::looks::{Look, Looks};
use crate::lifecycle::{ObjectKey, Uid};

/// The places, and those who wait for one.
pub(super) struct Starts {
    places: usize,
    state: Mutex<State>,
    looks: Looks,
}

#[derive(Default)]
struct State {
    starting: HashSet<Uid>,
    /// Since when, and where to look.
    waiting: HashMap<Uid, (Timestamp, ObjectKey)>,
    /// The same in order.
    queue: BTreeSet<(Timestamp, Uid)>,
}

impl Starts {
    /// All places are free.
    pub(super) fn new(places: u16, looks: Looks) -> Self {
        Self { places: usize::from(places), state: Mutex::default(), looks }
    }

    /// Whether it is this town's turn: it holds a place, or there is one for it before which nobody waits. Else
    /// it waits, since its first asking, and is looked at when a place is free for it.
    pub(super) fn turn(&self, uid: &Uid, key: &ObjectKey, now: Timestamp) -> bool {
        let mut state = lock(&self.state);
        if state.starting.contains(uid) {
            return true;
        }
        let since = state.waiting.get(uid).map_or(now, |(since, _)| *since);
        let free = self.places.saturating_sub(state.starting.len());
        let older = state.queue.range(..(since, uid.clone())).take(free).count();
        if older < free {
            state.no_longer_waits(uid);
            state.starting.insert(uid.clone());
            return true;
        }
        state.waiting.insert(uid.clone(), (since, key.clone()));
        state.queue.insert((since, uid.clone()));
        false
    }

    /// The town has started, does not want to any more, or is gone. Those whose turn it is now are looked at.
    pub(super) fn release(&self, uid: &Uid) {
        let mut state = lock(&self.state);
        if !state.starting.remove(uid) && !state.no_longer_waits(uid) {
            return;
        }
        let free = self.places.saturating_sub(state.starting.len());
        for (_, next) in state.queue.iter().take(free) {
            if let Some((_, key)) = state.waiting.get(next) {
                self.looks.ask(Look::Town(key.clone()));
            }
        }
    }
}

impl State {
    /// Whether it waited.
    fn no_longer_waits(&mut self, uid: &Uid) -> bool {
        let Some((since, _)) = self.waiting.remove(uid) else { return false };
        self.queue.remove(&(since, uid.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::looks::looks;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// So many places, and towns that ask for them by name.
    struct Scene {
        starts: Starts,
        asked: tokio::sync::mpsc::UnboundedReceiver<Look>,
    }

    impl Scene {
        fn with(places: u16) -> Self {
            let (looks, asked) = looks();
            Self { starts: Starts::new(places, looks), asked }
        }

        fn turn(&self, name: &str, now: i64) -> bool {
            self.starts.turn(&Uid::new(name), &key(name), at(now))
        }

        /// Who is to be looked at after this town has given up its place.
        fn release(&mut self, name: &str) -> Vec<Look> {
            self.starts.release(&Uid::new(name));
            std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
        }
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "ns".into(), name: name.into() }
    }

    fn look(name: &str) -> Look {
        Look::Town(key(name))
    }

    #[test]
    fn no_more_start_at_once_than_may() {
        let scene = Scene::with(2);
        assert!(scene.turn("a", 1) && scene.turn("b", 2));
        assert!(!scene.turn("c", 3) && !scene.turn("d", 4));
        assert!(scene.turn("a", 5) && scene.turn("b", 5), "who has a place keeps it");
        assert!(!scene.turn("c", 6));
    }

    #[test]
    fn a_place_that_is_free_goes_to_who_has_waited_longest() {
        let mut scene = Scene::with(1);
        assert!(scene.turn("a", 1));
        assert!(!scene.turn("old", 2) && !scene.turn("young", 3));
        assert!(!scene.turn("old", 4), "asking again does not cost the place in the queue");
        assert_eq!(scene.release("a"), [look("old")]);
        assert!(!scene.turn("young", 5) && !scene.turn("new", 6), "it is kept for the oldest");
        assert!(scene.turn("old", 7));
        assert_eq!(scene.release("old"), [look("young")]);
        assert!(scene.turn("young", 8));
    }

    #[test]
    fn whose_turn_it_is_need_not_wait_for_another_whose_turn_it_is_too() {
        let mut scene = Scene::with(2);
        assert!(scene.turn("a", 1) && scene.turn("b", 1));
        assert!(!scene.turn("old", 2) && !scene.turn("young", 3) && !scene.turn("youngest", 4));
        assert_eq!(scene.release("a"), [look("old")]);
        assert_eq!(scene.release("b"), [look("old"), look("young")]);
        assert!(scene.turn("young", 5), "two places, one older");
        assert!(!scene.turn("youngest", 5), "the other is kept");
        assert!(scene.turn("old", 6));
    }

    #[test]
    fn a_town_that_is_gone_leaves_its_place_and_the_queue() {
        let mut scene = Scene::with(1);
        assert!(scene.turn("a", 1));
        assert!(!scene.turn("old", 2) && !scene.turn("young", 3));
        assert_eq!(scene.release("old"), [], "nothing is free");
        assert_eq!(scene.release("a"), [look("young")]);
        assert_eq!(scene.release("a"), [], "who has no place gives none back");
        assert!(scene.turn("young", 4));
        assert!(!scene.turn("old", 5), "who comes back comes last");
    }

    #[test]
    fn who_leaves_the_queue_lets_the_next_one_in() {
        let mut scene = Scene::with(1);
        assert!(scene.turn("a", 1));
        assert!(!scene.turn("old", 2) && !scene.turn("young", 3));
        assert_eq!(scene.release("a"), [look("old")]);
        assert_eq!(scene.release("old"), [look("young")], "it was its turn, and it does not want to");
        assert!(scene.turn("young", 4));
    }
}
