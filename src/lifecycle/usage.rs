//! The run time of pods, for billing.
//!
//! The operator counts when it writes the status for another reason, so that counting costs no write. A pod that is
//! gone at that time counts by its own timestamps, as long as the process that observed its end is still the leader.

use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;

use super::clock::stamp;
use super::facts::{PodFacts, Run};
use crate::api::UsageStatus;

/// The usage of the current month until now.
pub(super) fn until_now(
    before: Option<&UsageStatus>,
    pods: &[PodFacts],
    gone: &[Run],
    now: Timestamp,
) -> UsageStatus {
    let month = now.strftime("%Y-%m").to_string();
    let same_month = before.filter(|usage| usage.month == month);
    // In a new month the count starts at the first second of the month or at the last counted time, whichever is
    // later.
    let first = begin_of_month(now);
    let since = before.map_or(first, |usage| usage.count_time.0.max(first));
    let there = pods.iter().filter_map(|pod| {
        let ended = pod.termination.as_ref().and_then(|t| t.at).unwrap_or(now);
        Some((pod.started?, ended))
    });
    let gone = gone.iter().filter(|run| pods.iter().all(|pod| pod.uid != run.pod));
    let gone = gone.map(|run| (run.started, run.ended));
    let seconds: i64 = there
        .chain(gone)
        .map(|(started, ended)| ended.min(now).duration_since(started.max(since)).as_secs().max(0))
        .sum();
    UsageStatus {
        month,
        pod_seconds: same_month.map_or(0, |usage| usage.pod_seconds).saturating_add(seconds),
        count_time: stamp(now),
    }
}

fn begin_of_month(now: Timestamp) -> Timestamp {
    let today = now.to_zoned(TimeZone::UTC);
    today.date().first_of_month().to_zoned(TimeZone::UTC).map_or(now, |first| first.timestamp())
}
