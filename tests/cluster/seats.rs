//! Seats limit the number of stories that run at the same time. The waiting story that was added first gets a free seat.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::common::suite::record;

struct State {
    free: usize,
    waiting: BTreeMap<usize, oneshot::Sender<Seat>>,
}

/// A number of seats.
#[derive(Clone)]
pub struct Seats(Arc<Mutex<State>>);

/// A seat. The drop of the value passes it to the next story.
pub struct Seat(Seats);

impl Seats {
    pub fn new(number: usize) -> Self {
        Self(Arc::new(Mutex::new(State { free: number, waiting: BTreeMap::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a seat. A story with a lower number gets one earlier.
    pub async fn take(&self, number: usize, story: &str) -> Seat {
        let (pass, passed) = oneshot::channel();
        self.state().waiting.insert(number, pass);
        self.give();
        let seat = passed.await.expect("seats are never taken away");
        record("has a seat", story);
        seat
    }

    /// Gives the free seats to waiting stories.
    fn give(&self) {
        loop {
            let mut state = self.state();
            let Some(free) = state.free.checked_sub(1) else { return };
            let Some((_, next)) = state.waiting.pop_first() else { return };
            state.free = free;
            drop(state);
            // A story that no longer waits drops the seat, which frees it again.
            let _ = next.send(Seat(self.clone()));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.state().free += 1;
        self.0.give();
    }
}
