//! Places that the namespaces share fairly.
//!
//! Tenants do not trust each other, and a namespace belongs to one tenant. Invariants kept here:
//! - The number of items with a place is at most the number of places, plus those that [`FairQueue::hold`] adds.
//! - Namespaces take turns. Within a namespace the item that waits longest is first.
//! - While items of another namespace wait, a namespace gets no place beyond a quarter of all places.
//! - A namespace that waits alone gets more, but leaves a quarter free. Therefore the first item of another namespace
//!   finds a place, however long the items keep theirs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// The divisor of the places that a namespace may hold while others wait.
const SHARES: usize = 4;

/// The items that wait for a place, and the number of places that each namespace holds.
pub struct FairQueue<T> {
    places: usize,
    held: usize,
    namespaces: HashMap<String, Namespace<T>>,
    /// The namespaces with waiting items, the next one first.
    turns: VecDeque<String>,
    /// The position of each waiting item.
    waiting: HashMap<T, u64>,
    arrivals: u64,
}

struct Namespace<T> {
    held: usize,
    waiting: BTreeMap<u64, T>,
}

impl<T> Default for Namespace<T> {
    fn default() -> Self {
        Self { held: 0, waiting: BTreeMap::new() }
    }
}

impl<T: Clone + Eq + Hash> FairQueue<T> {
    /// A queue with this number of places, at least one.
    pub fn new(places: u16) -> Self {
        Self {
            places: usize::from(places).max(1),
            held: 0,
            namespaces: HashMap::new(),
            turns: VecDeque::new(),
            waiting: HashMap::new(),
            arrivals: 0,
        }
    }

    /// Appends an item. An item that waits already keeps its position.
    pub fn push(&mut self, namespace: &str, item: T) {
        if self.waiting.contains_key(&item) {
            return;
        }
        self.arrivals += 1;
        self.waiting.insert(item.clone(), self.arrivals);
        let entry = self.namespaces.entry(namespace.to_owned()).or_default();
        if entry.waiting.is_empty() {
            self.turns.push_back(namespace.to_owned());
        }
        entry.waiting.insert(self.arrivals, item);
    }

    /// Removes an item from the queue. Returns whether the item waited.
    pub fn remove(&mut self, namespace: &str, item: &T) -> bool {
        let Some(position) = self.waiting.remove(item) else { return false };
        if let Some(entry) = self.namespaces.get_mut(namespace) {
            entry.waiting.remove(&position);
            if entry.waiting.is_empty() {
                self.turns.retain(|turn| turn != namespace);
            }
        }
        self.drop_if_empty(namespace);
        true
    }

    /// Gives a free place to the next item; `None`: no place is free for any waiting item.
    pub fn admit(&mut self) -> Option<T> {
        let turn = self.turns.iter().position(|namespace| self.may_hold_more(namespace))?;
        let namespace = self.turns.remove(turn)?;
        let entry = self.namespaces.get_mut(&namespace)?;
        let (_, item) = entry.waiting.pop_first()?;
        entry.held += 1;
        self.held += 1;
        self.waiting.remove(&item);
        if !entry.waiting.is_empty() {
            self.turns.push_back(namespace);
        }
        Some(item)
    }

    /// Counts a place that a namespace holds already, whatever the limits are.
    pub fn hold(&mut self, namespace: &str) {
        self.namespaces.entry(namespace.to_owned()).or_default().held += 1;
        self.held += 1;
    }

    /// Frees a place of a namespace. The next turn of this namespace comes after the turns of all that wait now, so
    /// the place does not return to the same namespace while another has none.
    pub fn release(&mut self, namespace: &str) {
        if let Some(entry) = self.namespaces.get_mut(namespace)
            && entry.held > 0
        {
            entry.held -= 1;
            self.held -= 1;
            if !entry.waiting.is_empty() {
                self.turns.retain(|turn| turn != namespace);
                self.turns.push_back(namespace.to_owned());
            }
        }
        self.drop_if_empty(namespace);
    }

    /// The number of waiting items.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn may_hold_more(&self, namespace: &str) -> bool {
        let free = self.places.saturating_sub(self.held);
        let share = (self.places / SHARES).max(1);
        let held = self.namespaces.get(namespace).map_or(0, |entry| entry.held);
        let waits_alone = self.turns.len() == 1;
        free > 0 && (held < share || (waits_alone && free > share))
    }

    /// A namespace that neither waits nor holds is forgotten: namespaces come and go.
    fn drop_if_empty(&mut self, namespace: &str) {
        if self.namespaces.get(namespace).is_some_and(|entry| entry.held == 0 && entry.waiting.is_empty()) {
            self.namespaces.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue of items that are named `<namespace>/<number>`.
    fn queue(places: u16, items: &[(&str, u32)]) -> FairQueue<String> {
        let mut queue = FairQueue::new(places);
        for (namespace, count) in items {
            for number in 0..*count {
                queue.push(namespace, format!("{namespace}/{number}"));
            }
        }
        queue
    }

    fn admitted(queue: &mut FairQueue<String>) -> Vec<String> {
        std::iter::from_fn(|| queue.admit()).collect()
    }

    #[test]
    fn namespaces_take_turns_and_items_of_one_come_in_order() {
        let mut queue = queue(12, &[("a", 5), ("b", 2), ("c", 1)]);
        assert_eq!(admitted(&mut queue), ["a/0", "b/0", "c/0", "a/1", "b/1", "a/2", "a/3", "a/4"]);
    }

    #[test]
    fn namespace_holds_at_most_a_quarter_while_another_waits() {
        let mut queue = queue(20, &[("a", 100), ("b", 100)]);
        let first = admitted(&mut queue);
        let of = |namespace: &str| first.iter().filter(|item| item.starts_with(namespace)).count();
        assert_eq!((of("a"), of("b")), (5, 5));
        queue.release("a");
        assert_eq!(admitted(&mut queue), ["a/5"], "namespace b has its quarter");
    }

    #[test]
    fn namespace_that_waits_alone_leaves_a_quarter_for_a_newcomer() {
        for (places, held) in [(1, 1), (2, 1), (3, 2), (4, 3), (16, 12), (20, 15)] {
            let mut queue = queue(places, &[("a", 100)]);
            assert_eq!(admitted(&mut queue).len(), held, "{places} places");
            queue.push("b", "b/0".into());
            let free = usize::from(places) > held;
            assert_eq!(queue.admit().is_some(), free, "{places} places: the newcomer need not wait");
        }
    }

    #[test]
    fn newcomer_gets_the_next_place_when_no_place_is_free() {
        let mut queue = queue(4, &[("a", 9), ("b", 9), ("c", 9), ("d", 9)]);
        assert_eq!(admitted(&mut queue).len(), 4);
        queue.push("e", "e/0".into());
        queue.release("c");
        queue.release("a");
        let next = admitted(&mut queue);
        assert!(next.contains(&"e/0".into()), "{next:?}");
        assert_eq!(next.len(), 2);
    }

    #[test]
    fn fair_queue_admits_no_item_until_surplus_holders_release() {
        let mut queue = queue(2, &[("b", 1)]);
        for _ in 0..3 {
            queue.hold("a");
        }
        for _ in 0..2 {
            assert_eq!(queue.admit(), None);
            queue.release("a");
        }
        assert_eq!(queue.admit().as_deref(), Some("b/0"));
    }

    #[test]
    fn item_that_leaves_gives_its_turn_to_the_next() {
        let mut queue = queue(1, &[("a", 3), ("b", 1)]);
        assert!(queue.remove("a", &"a/0".into()) && !queue.remove("a", &"a/0".into()));
        assert!(queue.remove("b", &"b/0".into()));
        assert_eq!((queue.admit().as_deref(), queue.waiting()), (Some("a/1"), 1));
        queue.push("a", "a/2".into());
        assert_eq!(queue.waiting(), 1, "an item waits once");
    }

    #[test]
    fn fair_queue_forgets_a_namespace_that_neither_waits_nor_holds() {
        let mut queue = queue(4, &[("a", 2), ("b", 1)]);
        queue.remove("b", &"b/0".into());
        assert_eq!(admitted(&mut queue).len(), 2);
        queue.release("a");
        queue.release("a");
        queue.release("a");
        assert!(queue.namespaces.is_empty() && queue.turns.is_empty() && queue.waiting.is_empty());
        assert_eq!(queue.held, 0);
    }
}
