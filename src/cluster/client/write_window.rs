//! The time in which a process may send writes.

use crate::cluster::client::boot_clock::Moment;

/// The time in which a process may send writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// The first moment of the term.
    pub from: Moment,
    /// The end of the term. This moment is outside of the term.
    pub until: Moment,
}

impl Term {
    /// Whether a write may be sent now.
    pub fn covers(&self, now: Moment) -> bool {
        self.from <= now && now < self.until
    }
}
