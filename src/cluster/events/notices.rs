//! Announcements of future steps, each as one event.

use std::collections::HashMap;
use std::sync::Mutex;

use k8s_openapi::jiff::Timestamp;
use kube::Resource;

use crate::cluster::events::publisher::Events;
use crate::cluster::sync::lock;
use crate::lifecycle::{Notice, Uid};

/// The announced time of each object, by reason.
#[derive(Default)]
pub(crate) struct Notices(Mutex<HashMap<Uid, HashMap<&'static str, Timestamp>>>);

impl Notices {
    /// Whether the notice is new, and records it.
    fn is_news(&self, uid: &Uid, notice: &Notice) -> bool {
        let mut said = lock(&self.0);
        said.entry(uid.clone()).or_default().insert(notice.reason, notice.at) != Some(notice.at)
    }

    /// Publishes an event for each new notice.
    pub(crate) async fn say<K: Resource<DynamicType = ()>>(
        &self,
        events: &Events,
        object: &K,
        uid: &Uid,
        notices: &[Notice],
    ) {
        for notice in notices {
            if self.is_news(uid, notice) {
                events.say(object, false, notice.reason, &notice.note).await;
            }
        }
    }

    pub(crate) fn forget(&self, uid: &Uid) {
        lock(&self.0).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(reason: &'static str, at: i64) -> Notice {
        Notice { reason, at: Timestamp::from_second(at).unwrap(), note: String::new() }
    }

    #[test]
    fn notice_is_new_once_for_each_reason_time_and_object() {
        let notices = Notices::default();
        let (one, other) = (Uid::new("one"), Uid::new("other"));
        assert!(notices.is_news(&one, &notice("SleepsSoon", 10)));
        assert!(!notices.is_news(&one, &notice("SleepsSoon", 10)));
        assert!(notices.is_news(&one, &notice("ExpiresSoon", 10)), "another reason");
        assert!(notices.is_news(&other, &notice("SleepsSoon", 10)), "another object");
        assert!(notices.is_news(&one, &notice("SleepsSoon", 20)), "another time");
        assert!(!notices.is_news(&one, &notice("SleepsSoon", 20)));
        notices.forget(&one);
        assert!(notices.is_news(&one, &notice("SleepsSoon", 20)), "an object that is gone is forgotten");
    }
}
