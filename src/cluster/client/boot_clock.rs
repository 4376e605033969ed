//! The clock of the leader election. The clock also counts while the machine is suspended, and no process can set it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time on the clock of this machine: the time since the boot.
pub type Moment = Duration;

/// The current time. After a suspension the process must notice that its lease has expired, so this clock counts
/// suspended time.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}
