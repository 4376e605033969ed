//! Times: timestamps of the status, deadlines, and the back-off schedule.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// A time in the form of the status: whole seconds, so that a read returns the written value.
pub(super) fn stamp(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// The sum `at + span`, or the maximal time if the sum overflows.
pub(super) fn after(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// The earlier of two deadlines that may be absent.
pub(super) fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    [a, b].into_iter().flatten().min()
}

/// The back-off before start number `count + 1`: none, then 30 s, 1, 2, 5, 10 min.
pub(super) fn back_off(count: i32) -> SignedDuration {
    SignedDuration::from_secs(match count {
        ..=0 => 0,
        1 => 30,
        2 => 60,
        3 => 120,
        4 => 300,
        _ => 600,
    })
}
