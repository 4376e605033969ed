//! Places for probes, which the namespaces share.
//!
//! Invariants kept here: no more places are taken than exist. While pods of several namespaces wait, a namespace
//! holds at most a quarter of the places. A free place goes to the next namespace in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::cluster::sync::lock;

/// The divisor of the places that a namespace may hold while others wait.
const SHARE: usize = 4;

/// The places for probes, and the pods that wait for one.
pub(super) struct Places {
    share: usize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    held: HashMap<String, usize>,
    /// The waiting pods by namespace. The next namespace in turn comes first.
    queues: VecDeque<(String, VecDeque<oneshot::Sender<Place>>)>,
}

/// A taken place. The drop of this value frees the place.
pub(super) struct Place {
    places: Arc<Places>,
    namespace: String,
}

impl Places {
    /// Places without a holder.
    pub(super) fn new(total: usize) -> Arc<Self> {
        let state = State { free: total, held: HashMap::new(), queues: VecDeque::new() };
        Arc::new(Self { share: (total / SHARE).max(1), state: Mutex::new(state) })
    }

    /// Waits for a place for a pod of this namespace.
    pub(super) async fn take(self: &Arc<Self>, namespace: &str) -> Option<Place> {
        let (grant, granted) = oneshot::channel();
        self.enqueue(namespace, grant);
        self.grant();
        granted.await.ok()
    }

    fn enqueue(&self, namespace: &str, grant: oneshot::Sender<Place>) {
        let mut state = lock(&self.state);
        match state.queues.iter_mut().find(|(waits, _)| waits == namespace) {
            Some((_, queue)) => queue.push_back(grant),
            None => state.queues.push_back((namespace.to_owned(), [grant].into())),
        }
    }

    /// Gives the free places to waiting pods. If the receiver is gone, the place is dropped, and so freed, outside of
    /// the lock.
    fn grant(self: &Arc<Self>) {
        loop {
            let next = lock(&self.state).next(self.share);
            let Some((namespace, grant)) = next else { return };
            drop(grant.send(Place { places: self.clone(), namespace }));
        }
    }
}

impl State {
    /// Takes a free place for the next waiting pod.
    fn next(&mut self, share: usize) -> Option<(String, oneshot::Sender<Place>)> {
        if self.free == 0 {
            return None;
        }
        let alone = self.queues.len() == 1;
        let may = |namespace: &str| alone || self.held.get(namespace).is_none_or(|held| *held < share);
        let position = self.queues.iter().position(|(namespace, _)| may(namespace))?;
        let (namespace, mut queue) = self.queues.remove(position)?;
        let grant = queue.pop_front()?;
        if !queue.is_empty() {
            self.queues.push_back((namespace.clone(), queue));
        }
        self.free -= 1;
        *self.held.entry(namespace.clone()).or_default() += 1;
        Some((namespace, grant))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.places.state);
            state.free += 1;
            if let Some(held) = state.held.get_mut(&self.namespace) {
                *held -= 1;
                if *held == 0 {
                    state.held.remove(&self.namespace);
                }
            }
        }
        self.places.grant();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures::FutureExt;

    use super::*;

    type Waiting = Pin<Box<dyn Future<Output = Option<Place>>>>;

    fn wait(places: &Arc<Places>, namespace: &'static str) -> Waiting {
        let places = places.clone();
        let mut waiting: Waiting = Box::pin(async move { places.take(namespace).await });
        // The first poll adds the waiter to the queue.
        match waiting.as_mut().now_or_never() {
            Some(place) => Box::pin(std::future::ready(place)),
            None => waiting,
        }
    }

    /// The places that were granted so far.
    fn granted(waiting: &mut Vec<Waiting>) -> Vec<Place> {
        let mut places = Vec::new();
        waiting.retain_mut(|one| match one.as_mut().now_or_never() {
            Some(place) => {
                places.extend(place);
                false
            }
            None => true,
        });
        places
    }

    // Review sec:S15.
    #[test]
    fn first_free_probe_place_goes_to_another_waiting_namespace() {
        let places = Places::new(8);
        let mut first: Vec<_> = (0..20).map(|_| wait(&places, "a")).collect();
        let mut held = granted(&mut first);
        assert_eq!(held.len(), 8, "alone it takes all");
        let mut second = vec![wait(&places, "b")];
        assert!(granted(&mut second).is_empty(), "no place is free");
        held.pop();
        let other = granted(&mut second);
        assert_eq!(other.len(), 1, "the first free place goes to the other namespace");
        assert!(granted(&mut first).is_empty());
    }

    #[test]
    fn free_probe_places_are_shared_among_waiting_namespaces() {
        let places = Places::new(4);
        let mut busy: Vec<_> = (0..4).map(|_| wait(&places, "busy")).collect();
        let held = granted(&mut busy);
        let mut a: Vec<_> = (0..3).map(|_| wait(&places, "a")).collect();
        let mut b: Vec<_> = (0..3).map(|_| wait(&places, "b")).collect();
        drop(held);
        let (mut of_a, of_b) = (granted(&mut a), granted(&mut b));
        assert_eq!((of_a.len(), of_b.len()), (1, 1), "each has its share of one");
        of_a.clear();
        assert_eq!(granted(&mut a).len(), 1, "its own place is given on");
    }

    #[test]
    fn waiter_that_gives_up_costs_no_place() {
        let places = Places::new(1);
        let mut first = vec![wait(&places, "a")];
        let held = granted(&mut first);
        let gone = wait(&places, "b");
        let mut third = vec![wait(&places, "c")];
        drop(gone);
        drop(held);
        drop(granted(&mut third).pop().expect("it has the place"));
        assert_eq!(lock(&places.state).held.len(), 0, "and all are free in the end");
    }
}
