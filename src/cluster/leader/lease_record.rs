//! The content of a Lease.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::api::names;

/// The resolution of the times in a Lease.
const TICK: SignedDuration = SignedDuration::from_micros(1);

/// The holder of a Lease and its times. The times come from the clock of the holder. They inform users and
/// distinguish one record from another. The operator never compares them with another clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// The holder; empty: no holder.
    pub holder: String,
    /// How long the holder keeps the Lease after each renewal, in whole seconds.
    pub lease: Option<Duration>,
    /// When the holder began to lead; `None`: the holder does not lead yet.
    pub acquired: Option<Timestamp>,
    /// The time of the last renewal.
    pub renewed: Option<Timestamp>,
    /// How often the holder changed.
    pub transitions: i32,
    /// Whether the last holder released this very object after its last write.
    pub freed: bool,
}

impl Record {
    /// Reads the record from a Lease.
    pub fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = |seconds: i32| u64::try_from(seconds).ok().map(Duration::from_secs);
        Self {
            holder: spec.holder_identity.unwrap_or_default(),
            lease: spec.lease_duration_seconds.and_then(seconds),
            acquired: spec.acquire_time.map(|time| time.0),
            renewed: spec.renew_time.map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or_default(),
            freed: lease.metadata.uid.is_some()
                && lease.annotations().get(names::FREED) == lease.metadata.uid.as_ref(),
        }
    }

    /// Writes this record to a Lease. All other fields of the Lease stay as they are.
    pub fn write(self, lease: &mut Lease) {
        match lease.metadata.uid.clone().filter(|_| self.freed) {
            Some(uid) => drop(lease.annotations_mut().insert(names::FREED.to_owned(), uid)),
            None => drop(lease.annotations_mut().remove(names::FREED)),
        }
        let spec = lease.spec.get_or_insert_default();
        *spec = LeaseSpec {
            holder_identity: Some(self.holder),
            lease_duration_seconds: self.lease.map(|d| i32::try_from(d.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: self.acquired.map(MicroTime),
            renew_time: self.renewed.map(MicroTime),
            lease_transitions: Some(self.transitions),
            ..std::mem::take(spec)
        };
    }

    /// Whether the last holder released the Lease after its last write. A Lease from which a user removed the holder
    /// is not free. A Lease that was deleted and created again, replaced, or restored from a backup is not free
    /// either: the previous holder may still lead.
    pub fn is_free(&self) -> bool {
        self.holder.is_empty() && self.freed
    }

    /// The record that the holder leaves when it releases the Lease.
    pub(crate) fn freed(&self) -> Self {
        Self { transitions: self.transitions, freed: true, ..Self::default() }
    }

    /// The time of a renewal: the current time, but always later than the last renewal, whatever the clock of this
    /// machine shows. Therefore each renewal changes the record.
    pub(crate) fn renewal(&self, wall: Timestamp) -> Timestamp {
        let now = Timestamp::from_microsecond(wall.as_microsecond()).unwrap_or(wall);
        let next = self.renewed.and_then(|last| last.checked_add(TICK).ok());
        next.map_or(now, |next| now.max(next))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(micros).unwrap()
    }

    #[test]
    fn lease_returns_the_written_record_and_keeps_other_fields() {
        let text = json!({"metadata": {"name": "l", "annotations": {"a": "b"}}, "spec": {"strategy": "s"}});
        let mut lease: Lease = serde_json::from_value(text).unwrap();
        let record = Record {
            holder: "me".into(),
            lease: Some(Duration::from_secs(15)),
            acquired: Some(at(1)),
            renewed: Some(at(2)),
            transitions: 3,
            freed: false,
        };
        record.clone().write(&mut lease);
        assert_eq!(Record::of(&lease), record);
        assert_eq!(lease.spec.as_ref().unwrap().strategy.as_deref(), Some("s"));
        assert_eq!(lease.metadata.annotations.unwrap()["a"], "b");
        let read: Lease =
            serde_json::from_value(serde_json::to_value(lease.spec).unwrap()).unwrap_or_default();
        assert_eq!(Record::of(&read), Record::default(), "a Lease that says nothing");
    }

    #[test]
    fn lease_is_free_only_after_its_holder_frees_it() {
        let held = Record { holder: "me".into(), renewed: Some(at(2)), transitions: 3, ..Record::default() };
        assert!(!held.is_free());
        assert!(!Record { holder: String::new(), ..held.clone() }.is_free(), "struck out by hand");
        assert!(held.freed().is_free() && held.freed().transitions == 3);
        assert!(!Record::default().is_free(), "an empty Lease may have been created under a holder");
    }

    // C4.
    #[test]
    fn lease_is_free_only_with_the_mark_of_its_own_uid() {
        let text = json!({"metadata": {"name": "l", "uid": "one"}, "spec": {"holderIdentity": "me"}});
        let mut lease: Lease = serde_json::from_value(text).unwrap();
        let held = Record::of(&lease);
        held.freed().write(&mut lease);
        assert!(Record::of(&lease).is_free());
        // The same content in another object: restored, or deleted and created again from a file.
        let mut restored = lease.clone();
        restored.metadata.uid = Some("other".into());
        assert!(!Record::of(&restored).is_free());
        restored.metadata.uid = None;
        assert!(!Record::of(&restored).is_free());
        // Replaced without the mark.
        let mut replaced = lease.clone();
        replaced.metadata.annotations = None;
        assert!(!Record::of(&replaced).is_free());
        // The next holder removes the mark.
        let next = Record { holder: "next".into(), renewed: Some(at(1)), ..Record::of(&lease) };
        Record { freed: false, ..next }.write(&mut lease);
        assert!(!lease.annotations().contains_key(names::FREED));
    }

    #[test]
    fn lease_renewal_time_increases_even_when_the_clock_goes_back() {
        let last = Record { renewed: Some(at(100)), ..Record::default() };
        assert_eq!(last.renewal(at(200)), at(200));
        assert_eq!(last.renewal(at(100)), at(101));
        assert_eq!(last.renewal(at(1)), at(101));
        assert_eq!(Record::default().renewal(at(1)), at(1));
    }
}
