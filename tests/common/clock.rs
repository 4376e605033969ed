//! Times in the format of the API: whole seconds.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// The time after this number of seconds.
pub fn in_seconds(seconds: i64) -> String {
    (Timestamp::now() + SignedDuration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub fn now() -> String {
    in_seconds(0)
}
