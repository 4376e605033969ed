//! The gate of a town: creates pass it together, destruction and sleep alone.
//!
//! Invariant kept here: once a town's tombstone is being written, no create of it is under way in this
//! process, and none begins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::lock;
use crate::lifecycle::{Guard, Uid};

/// The gates of all towns, by UID; also what is known of the creates of agents.
pub struct Gates {
    gates: Mutex<HashMap<Uid, Arc<RwLock<Gate>>>>,
    /// Since when this process alone creates: before, a predecessor may have.
    since: Mutex<Timestamp>,
}

/// What this process knows of creates for one UID.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<GateState>,
}

#[derive(Clone, Copy, Default)]
struct GateState {
    /// Nothing passes any more: this process knows every create that it has sent.
    closed: bool,
    /// Nothing was created before this process took up the object.
    first: bool,
    /// When a create was last sent that was never answered.
    unanswered: Option<Timestamp>,
}

/// Held while a proof of life is minted and a create is under way.
pub(super) struct Shared(OwnedRwLockReadGuard<Gate>);

/// Held while nothing else may be under way.
pub struct Exclusive(OwnedRwLockWriteGuard<Gate>);

/// A create that was sent. Unless its answer comes before this is dropped (by a time-out, a panic, a
/// shutdown), it counts as unanswered.
pub(super) struct Sent<'gate> {
    gate: &'gate Shared,
    at: Timestamp,
    answered: bool,
}

impl Shared {
    /// The object was new when this process took it up: no predecessor has a create of it under way.
    pub(super) fn first(&self) {
        lock(&self.0.state).first = true;
    }

    /// A create is about to be sent.
    pub(super) fn send(&self, now: Timestamp) -> Sent<'_> {
        Sent { gate: self, at: now, answered: false }
    }
}

impl Sent<'_> {
    /// The API server said what became of it.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if !self.answered {
            lock(&self.gate.0.state).unanswered = Some(self.at);
        }
    }
}

impl Exclusive {
    /// From now on nothing passes.
    pub(super) fn close(&self) {
        lock(&self.0.state).closed = true;
    }
}

impl Gates {
    /// All open, for a process that begins now.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { gates: Mutex::default(), since: Mutex::new(now) }
    }

    /// This process creates from now on, and nobody else does.
    pub(super) fn alone_since(&self, now: Timestamp) {
        *lock(&self.since) = now;
    }

    fn gate(&self, uid: &Uid) -> Arc<RwLock<Gate>> {
        lock(&self.gates).entry(uid.clone()).or_default().clone()
    }

    /// Passes the gate together with others; `None`: it is closed for good.
    pub(super) async fn shared(&self, uid: &Uid) -> Option<Shared> {
        let guard = self.gate(uid).read_owned().await;
        let closed = lock(&guard.state).closed;
        (!closed).then_some(Shared(guard))
    }

    /// Waits until nobody is inside, and keeps everybody out.
    pub async fn exclusive(&self, uid: &Uid) -> Exclusive {
        Exclusive(self.gate(uid).write_owned().await)
    }

    /// Closes the gate of an object that is being deleted, once every create under way has its answer.
    pub(super) async fn close(&self, uid: &Uid) {
        if !self.state(uid).closed {
            self.exclusive(uid).await.close();
        }
    }

    /// When creates of which no answer came can no longer take effect: `None` where there are none. These are the
    /// creates of this process that were not answered, and those of a predecessor: it sent the last one before this
    /// process took over. Nothing that others may write, such as the tombstone annotation, has a part in it.
    pub(super) fn creates_settle_at(&self, uid: &Uid, late: SignedDuration) -> Option<Timestamp> {
        self.creates_settle_since(uid, None, late)
    }

    /// The same of an owner whose Tombstone was created at this time. The operator creates a Tombstone with the gate
    /// closed, so a predecessor that created it sent its last create before it. A user cannot create one.
    pub(super) fn creates_settle_since(
        &self,
        uid: &Uid,
        recorded: Option<Timestamp>,
        late: SignedDuration,
    ) -> Option<Timestamp> {
        let state = self.state(uid);
        let predecessor =
            self.predecessor(state).map(|took_over| recorded.map_or(took_over, |at| at.min(took_over)));
        last_effect([predecessor, state.unanswered], late)
    }

    /// Nobody holds a gate for long; of one that is held nothing is known.
    fn state(&self, uid: &Uid) -> GateState {
        self.gate(uid).try_read().map(|gate| *lock(&gate.state)).unwrap_or_default()
    }

    /// When a predecessor may have sent its last create; `None`: it never saw the object.
    fn predecessor(&self, state: GateState) -> Option<Timestamp> {
        (!state.first).then(|| *lock(&self.since))
    }

    pub(super) fn forget(&self, uid: &Uid) {
        lock(&self.gates).remove(uid);
    }
}

/// Until when the last of these creates may take effect.
fn last_effect(sent: [Option<Timestamp>; 2], late: SignedDuration) -> Option<Timestamp> {
    let last = sent.into_iter().flatten().max().filter(|_| Guard::LateCreates.holds())?;
    Some(last.checked_add(late).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: SignedDuration = SignedDuration::from_secs(60);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn nothing_passes_a_closed_gate() {
        let gates = Gates::new(at(0));
        let uid = Uid::new("t");
        gates.exclusive(&uid).await.close();
        assert!(gates.shared(&uid).await.is_none());
    }

    #[tokio::test]
    async fn destruction_waits_for_the_create_under_way() {
        let gates = Gates::new(at(0));
        let uid = Uid::new("t");
        let create = gates.shared(&uid).await.unwrap();
        let waiting = gates.exclusive(&uid);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending(), "a create is under way");
        drop(create);
        waiting.await.close();
    }

    // code:A9
    #[tokio::test]
    async fn a_gate_is_closed_once_and_then_creates_settle_a_request_after_the_takeover() {
        let gates = Gates::new(at(0));
        gates.alone_since(at(90));
        let uid = Uid::new("t");
        let create = gates.shared(&uid).await.unwrap();
        {
            let closing = gates.close(&uid);
            tokio::pin!(closing);
            assert!(futures::poll!(&mut closing).is_pending(), "a create is under way");
            drop(create);
            closing.await;
        }
        assert!(gates.shared(&uid).await.is_none());
        gates.close(&uid).await;
        assert_eq!(gates.creates_settle_at(&uid, LATE), Some(at(150)));
        assert_eq!(
            gates.creates_settle_since(&uid, Some(at(70)), LATE),
            Some(at(130)),
            "of a Tombstone that is older"
        );
        assert_eq!(
            gates.creates_settle_since(&uid, Some(at(99)), LATE),
            Some(at(150)),
            "of one that this process made"
        );
    }

    #[tokio::test]
    async fn a_predecessors_creates_are_waited_for_unless_the_object_was_new() {
        let gates = Gates::new(at(0));
        gates.alone_since(at(90));
        let (old, new) = (Uid::new("old"), Uid::new("new"));
        gates.shared(&new).await.unwrap().first();
        for uid in [&old, &new] {
            gates.exclusive(uid).await.close();
        }
        assert_eq!(gates.creates_settle_at(&old, LATE), Some(at(150)));
        assert_eq!(gates.creates_settle_at(&new, LATE), None);
    }

    #[tokio::test]
    async fn an_answered_create_is_not_waited_for() {
        let gates = Gates::new(at(0));
        let uid = Uid::new("t");
        gates.shared(&uid).await.unwrap().first();
        gates.shared(&uid).await.unwrap().send(at(90)).answered();
        gates.exclusive(&uid).await.close();
        assert_eq!(gates.creates_settle_at(&uid, LATE), None);
    }

    #[tokio::test]
    async fn of_one_who_lives_creates_may_come_late_after_a_predecessor_and_after_no_answer() {
        let gates = Gates::new(at(0));
        let (old, new) = (Uid::new("old"), Uid::new("new"));
        gates.alone_since(at(90));
        gates.shared(&new).await.unwrap().first();
        assert_eq!(gates.creates_settle_at(&old, LATE), Some(at(150)));
        assert_eq!(gates.creates_settle_at(&new, LATE), None);
        drop(gates.shared(&new).await.unwrap().send(at(200)));
        assert_eq!(gates.creates_settle_at(&new, LATE), Some(at(260)));
    }

    #[tokio::test]
    async fn an_unanswered_create_is_waited_for() {
        let gates = Gates::new(at(0));
        let uid = Uid::new("t");
        drop(gates.shared(&uid).await.unwrap().send(at(90)));
        gates.exclusive(&uid).await.close();
        assert_eq!(gates.creates_settle_at(&uid, LATE), Some(at(150)));
    }
}
