//! Times as the API writes them: whole seconds.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// So many seconds from now.
pub fn in_seconds(seconds: i64) -> String {
    (Timestamp::now() + SignedDuration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Now.
pub fn now() -> String {
    in_seconds(0)
}
