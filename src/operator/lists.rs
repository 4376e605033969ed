//! Tracks the lists of all kinds. A decision needs every kind. The decisions of a new leader need lists that were
//! read after the end of the previous leader.

use tokio::sync::{mpsc, watch};

/// Rounds of lists. In each round every kind is listed once.
pub(super) struct Lists {
    kinds: usize,
    round: watch::Sender<u32>,
    done: mpsc::UnboundedReceiver<u32>,
}

/// The handle of one kind.
#[derive(Clone)]
pub(super) struct Listing {
    round: watch::Receiver<u32>,
    done: mpsc::UnboundedSender<u32>,
}

impl Lists {
    /// The first round of `kinds` kinds.
    pub(super) fn of(kinds: usize) -> (Self, Listing) {
        let (round, rounds) = watch::channel(0);
        let (sender, done) = mpsc::unbounded_channel();
        (Self { kinds, round, done }, Listing { round: rounds, done: sender })
    }

    /// Starts another round, in which every kind is listed again.
    pub(super) fn anew(&self) {
        self.round.send_modify(|round| *round += 1);
    }

    /// Waits until every kind has been listed in this round.
    pub(super) async fn complete(&mut self) {
        let round = *self.round.borrow();
        let mut missing = self.kinds;
        while missing > 0 {
            match self.done.recv().await {
                Some(done) if done == round => missing -= 1,
                Some(_) => {}
                // No watch is left, so the process ends.
                None => std::future::pending().await,
            }
        }
    }
}

impl Listing {
    /// Begins a list of the kind, and returns the current round.
    pub(super) fn begin(&mut self) -> u32 {
        *self.round.borrow_and_update()
    }

    /// Waits until another round starts.
    pub(super) async fn superseded(&mut self) {
        if self.round.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Records that the kind was listed in this round. Each kind calls this once per round.
    pub(super) fn ended(&self, round: u32) {
        // The receiver is dropped only at the end of the process.
        let _ = self.done.send(round);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn list_round_is_complete_when_each_kind_was_listed_in_it() {
        let (mut lists, mut one) = Lists::of(2);
        let mut other = one.clone();
        let (first, slow) = (one.begin(), other.begin());
        one.ended(first);
        assert!(futures::poll!(Box::pin(lists.complete())).is_pending());
        one.ended(first);
        other.ended(slow);
        lists.complete().await;
    }

    #[tokio::test]
    async fn list_of_an_earlier_round_does_not_count() {
        let (mut lists, mut kind) = Lists::of(1);
        let first = kind.begin();
        assert!(futures::poll!(Box::pin(kind.superseded())).is_pending());
        lists.anew();
        kind.superseded().await;
        let second = kind.begin();
        kind.ended(first);
        assert!(futures::poll!(Box::pin(lists.complete())).is_pending(), "it may have been read before");
        kind.ended(second);
        lists.complete().await;
    }
}
