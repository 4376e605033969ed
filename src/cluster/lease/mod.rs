//! Who leads: one process of an installation at a time, as the Lease says.
//!
//! Invariants kept here: no write is sent but in this process's [`Term`], and no two terms overlap; whoever has lost
//! the Lease ends. All operators of an installation stand for one Lease, which the install id names. The Lease also
//! keeps the release that led last: everything that an installation makes is found by its id, and a start of the same
//! release with another id would orphan all of it, so such a start is refused.

mod clock;
mod election;
mod fence;
mod keep;
mod record;

pub use election::{Identity, Term, Terms};
pub use fence::{Fence, Fenced};
pub use keep::{Candidacy, Leadership, LeaseError, Office, lease_name, office, stand};
