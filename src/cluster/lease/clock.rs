//! The clock of leadership: it counts on while the machine sleeps, and nobody sets it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time on this machine's own clock: the time since it was started.
pub type Moment = Duration;

/// Now. A machine that was suspended has slept through its lease and must know, so it is the clock that counts
/// suspended time.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}
