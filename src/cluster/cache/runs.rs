//! Pods that ended since the last count of the usage of their town, with their run times.
//!
//! Invariant kept here: a pod that starts and ends between two writes of a status is counted once. At most a thousand
//! pods of a town are remembered, and all are forgotten at the end of the process.

use std::collections::HashMap;
use std::sync::Mutex;

use k8s_openapi::jiff::Timestamp;

use crate::cluster::sync::lock;
use crate::lifecycle::{PodFacts, Run, Uid};

/// The largest number of remembered pods of a town.
const REMEMBERED: usize = 1_000;

/// Pods that ended, by the UID of their town.
#[derive(Default)]
pub struct Runs(Mutex<HashMap<Uid, Vec<Run>>>);

impl Runs {
    /// Remembers a pod that is gone or is about to leave the index.
    pub(crate) fn ended(&self, pod: &PodFacts, now: Timestamp) {
        let (Some(town), Some(started)) = (&pod.town_uid, pod.started) else { return };
        let ended =
            pod.termination.as_ref().and_then(|end| end.at).or(pod.stops_by).map_or(now, |at| at.min(now));
        let mut all = lock(&self.0);
        let runs = all.entry(town.clone()).or_default();
        if runs.len() < REMEMBERED && !runs.iter().any(|run| run.pod == pod.uid) {
            runs.push(Run { pod: pod.uid.clone(), started, ended });
        }
    }

    /// The pods of a town that ended since the last count of its usage.
    pub(crate) fn of(&self, town: &Uid) -> Vec<Run> {
        lock(&self.0).get(town).cloned().unwrap_or_default()
    }

    /// Forgets the pods until this time, because the usage of the town until then is written.
    pub(crate) fn counted(&self, town: &Uid, until: Timestamp) {
        let mut all = lock(&self.0);
        if let Some(runs) = all.get_mut(town) {
            runs.retain(|run| until < run.ended);
            if runs.is_empty() {
                all.remove(town);
            }
        }
    }

    /// Forgets a town that is gone.
    pub(crate) fn forget(&self, town: &Uid) {
        lock(&self.0).remove(town);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;
    use crate::api::names;
    use crate::resources::pod_facts;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(uid: &str, started: i64) -> PodFacts {
        let pod = json!({"metadata": {"name": uid, "namespace": "ns", "uid": uid, "labels": {names::TOWN_UID: "t"}},
            "spec": {"containers": []}, "status": {"startTime": at(started).to_string()}});
        pod_facts(&serde_json::from_value::<Pod>(pod).unwrap()).unwrap()
    }

    // code.md A30.
    #[test]
    fn run_of_a_gone_pod_is_remembered_until_its_usage_is_recorded() {
        let (runs, town) = (Runs::default(), Uid::new("t"));
        runs.ended(&pod("a", 10), at(70));
        runs.ended(&pod("a", 10), at(80));
        let mut told = pod("b", 20);
        told.stops_by = Some(at(60));
        runs.ended(&told, at(90));
        let seen: Vec<_> = runs.of(&town).iter().map(|run| (run.started, run.ended)).collect();
        assert_eq!(seen, [(at(10), at(70)), (at(20), at(60))]);
        runs.counted(&town, at(65));
        assert_eq!(runs.of(&town).len(), 1);
        runs.counted(&town, at(70));
        assert_eq!(runs.of(&town), []);
        (0..2 * REMEMBERED).for_each(|n| runs.ended(&pod(&n.to_string(), 0), at(1)));
        assert_eq!(runs.of(&town).len(), REMEMBERED, "it is bounded");
        runs.forget(&town);
        assert_eq!(runs.of(&town), []);
    }
}
