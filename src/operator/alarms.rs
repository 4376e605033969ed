//! Measures the delay of scheduled reconciles.
//!
//! The queue does not know the cause of a reconcile. A reconcile that begins before the scheduled time has another
//! cause, and shows nothing about the timer. The delay of any other reconcile is the difference to the scheduled
//! time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::lifecycle::ObjectKey;

/// The scheduled times of reconciles, by object.
#[derive(Default)]
pub(super) struct Alarms(Mutex<HashMap<ObjectKey, Timestamp>>);

impl Alarms {
    /// Schedules a reconcile. A time in the past counts as now.
    pub(super) fn set(&self, key: &ObjectKey, at: Timestamp, now: Timestamp) {
        self.lock().insert(key.clone(), at.max(now));
    }

    /// Records the begin of a reconcile. Returns its delay if a time was scheduled and has passed. The scheduled time
    /// is forgotten in every case.
    pub(super) fn taken(&self, key: &ObjectKey, now: Timestamp) -> Option<Duration> {
        let at = self.lock().remove(key)?;
        Duration::try_from(now.duration_since(at)).ok()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "ns".into(), name: name.into() }
    }

    #[test]
    fn reconcile_lateness_is_measured_from_its_alarm_and_only_once() {
        let alarms = Alarms::default();
        alarms.set(&key("a"), at(100), at(10));
        assert_eq!(alarms.taken(&key("b"), at(103)), None, "another object's");
        assert_eq!(alarms.taken(&key("a"), at(103)), Some(Duration::from_secs(3)));
        assert_eq!(alarms.taken(&key("a"), at(104)), None);
        alarms.set(&key("a"), at(200), at(104));
        assert_eq!(alarms.taken(&key("a"), at(200)), Some(Duration::ZERO));
    }

    #[test]
    fn reconcile_before_its_alarm_is_not_late_and_clears_the_alarm() {
        let alarms = Alarms::default();
        alarms.set(&key("a"), at(100), at(10));
        assert_eq!(alarms.taken(&key("a"), at(50)), None);
        assert_eq!(alarms.taken(&key("a"), at(150)), None);
    }

    #[test]
    fn alarm_in_the_past_is_late_from_the_time_when_it_was_set() {
        let alarms = Alarms::default();
        alarms.set(&key("a"), at(100), at(160));
        assert_eq!(alarms.taken(&key("a"), at(161)), Some(Duration::from_secs(1)));
    }
}
