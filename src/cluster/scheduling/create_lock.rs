//! The gate of a town: creates share the gate, destruction and sleep need it exclusively.
//!
//! Invariant kept here: from the write of the tombstone of a town on, no create for the town is in progress in this
//! process, and none begins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::cluster::sync::lock;
use crate::lifecycle::{Guard, Uid};

/// The gates of all towns by UID, and the known creates of agents.
pub struct Gates {
    gates: Mutex<HashMap<Uid, Arc<RwLock<Gate>>>>,
    /// The time from which only this process creates. Before, a previous leader may have created.
    since: Mutex<Timestamp>,
}

/// The creates for one UID, as far as this process knows.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
}

#[derive(Clone, Copy, Default)]
struct GateState {
    /// The gate is closed for good: this process knows every create that it has sent.
    closed: bool,
    /// No object was created before this process adopted the owner.
    first: bool,
    /// When the last create without an answer was sent.
    unanswered: Option<Timestamp>,
}

/// Shared access, for a proof of life and the create that follows.
pub(crate) struct Shared(OwnedRwLockReadGuard<Gate>);

/// Exclusive access: no create is in progress.
pub struct Exclusive(OwnedRwLockWriteGuard<Gate>);

/// A create that was sent. If the value is dropped before the answer (by a timeout, a panic or a shutdown), the
/// create counts as unanswered.
pub(crate) struct Sent<'gate> {
    gate: &'gate Shared,
    at: Timestamp,
    answered: bool,
}

impl Shared {
    /// Records that the object was new when this process adopted it: no previous leader has a create for it in
    /// progress.
    pub(crate) fn first(&self) {
        lock(&self.0.state).first = true;
    }

    /// Records a create that is sent next.
    pub(crate) fn send(&self, now: Timestamp) -> Sent<'_> {
        Sent { gate: self, at: now, answered: false }
    }
}

impl Sent<'_> {
    /// Records that the API server answered with the result of the create.
    pub(crate) fn answered(mut self) {
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
    /// Closes the gate: from now on no create passes.
    pub(crate) fn close(&self) {
        lock(&self.0.state).closed = true;
    }
}

impl Gates {
    /// Open gates, for a process that begins now.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { gates: Mutex::default(), since: Mutex::new(now) }
    }

    /// Records that from now on only this process creates.
    pub(crate) fn alone_since(&self, now: Timestamp) {
        *lock(&self.since) = now;
    }

    fn gate(&self, uid: &Uid) -> Arc<RwLock<Gate>> {
        lock(&self.gates).entry(uid.clone()).or_default().clone()
    }

    /// Passes the gate with shared access; `None`: the gate is closed for good.
    pub(crate) async fn shared(&self, uid: &Uid) -> Option<Shared> {
        let guard = self.gate(uid).read_owned().await;
        let closed = lock(&guard.state).closed;
        (!closed).then_some(Shared(guard))
    }

    /// Waits until no other task is inside, and keeps all others out.
    pub async fn exclusive(&self, uid: &Uid) -> Exclusive {
        Exclusive(self.gate(uid).write_owned().await)
    }

    /// Closes the gate of an object that is being deleted, after each create in progress has its answer.
    pub(crate) async fn close(&self, uid: &Uid) {
        if !self.state(uid).closed {
            self.exclusive(uid).await.close();
        }
    }

    /// The time from which unanswered creates can no longer take effect; `None`: there are none. Two groups count:
    /// the unanswered creates of this process, and the creates of a previous leader, which sent its last one before
    /// this process became leader. The time depends on nothing that others may write, such as the tombstone
    /// annotation.
    pub(crate) fn creates_settle_at(&self, uid: &Uid, late: SignedDuration) -> Option<Timestamp> {
        self.creates_settle_since(uid, None, late)
    }

    /// The same for an owner whose Tombstone was created at `recorded`. The operator creates a Tombstone while the
    /// gate is closed. Therefore a previous leader that created the Tombstone sent its last create before it. A user
    /// cannot create a Tombstone.
    pub(crate) fn creates_settle_since(
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

    /// The state of a gate. A gate under exclusive access gives the default state, because its state is unknown. A
    /// gate is never held for long.
    fn state(&self, uid: &Uid) -> GateState {
        self.gate(uid).try_read().map(|gate| *lock(&gate.state)).unwrap_or_default()
    }

    /// When a previous leader may have sent its last create; `None`: no previous leader knew the object.
    fn predecessor(&self, state: GateState) -> Option<Timestamp> {
        (!state.first).then(|| *lock(&self.since))
    }

    pub(crate) fn forget(&self, uid: &Uid) {
        lock(&self.gates).remove(uid);
    }
}

/// The time until which the last of these creates may take effect.
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
    async fn create_does_not_pass_a_closed_gate() {
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
    async fn gate_closes_after_running_creates_and_settles_one_request_after_a_takeover() {
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
    async fn settle_time_covers_creates_of_the_previous_leader_unless_the_object_is_new() {
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
    async fn answered_create_sets_no_settle_time() {
        let gates = Gates::new(at(0));
        let uid = Uid::new("t");
        gates.shared(&uid).await.unwrap().first();
        gates.shared(&uid).await.unwrap().send(at(90)).answered();
        gates.exclusive(&uid).await.close();
        assert_eq!(gates.creates_settle_at(&uid, LATE), None);
    }

    #[tokio::test]
    async fn open_gate_has_a_settle_time_after_a_takeover_or_an_unanswered_create() {
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
    async fn unanswered_create_sets_a_settle_time() {
        let gates = Gates::new(at(0));
        let uid = Uid::new("t");
        drop(gates.shared(&uid).await.unwrap().send(at(90)));
        gates.exclusive(&uid).await.close();
        assert_eq!(gates.creates_settle_at(&uid, LATE), Some(at(150)));
    }
}
