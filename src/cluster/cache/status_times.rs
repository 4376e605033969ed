//! The times at which this process wrote the status of objects.

use std::collections::HashMap;
use std::sync::Mutex;

use k8s_openapi::jiff::Timestamp;

use crate::cluster::sync::lock;
use crate::lifecycle::Uid;

/// The time of the last write of each status.
#[derive(Default)]
pub(crate) struct StatusTimes(Mutex<HashMap<Uid, Timestamp>>);

impl StatusTimes {
    /// Records that this process has just written the status of the object.
    pub(crate) fn record(&self, object: &Uid, now: Timestamp) {
        lock(&self.0).insert(object.clone(), now);
    }

    /// The time of the last write.
    pub(crate) fn get(&self, object: &Uid) -> Option<Timestamp> {
        lock(&self.0).get(object).copied()
    }

    pub(crate) fn forget(&self, object: &Uid) {
        lock(&self.0).remove(object);
    }
}
