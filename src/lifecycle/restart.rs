//! The single pod of a Town or a Session agent while the town is awake. The module decides when the pod is started,
//! kept, replaced, or held back.
//!
//! Invariants kept here: a failed start counts once, with its cause, with or without a pod. An end that the cluster or
//! the operator caused does not count. A pod that is Ready is never deleted because of another container.

use k8s_openapi::jiff::Timestamp;

use super::clock::{after, earlier, stamp};
use super::ending::Ending;
use super::facts::PodFacts;
use super::pods::why_ended;
use super::retry::{Limit, Revision, START_WITHIN, disrupted};
use crate::api::{PodStatus, RestartsStatus};

/// The next step for the single pod of an owner.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// The pod stays.
    Keep,
    /// The pod is being deleted.
    Wait,
    /// The next start is due at this time. An ended pod stays until then.
    BackOff(Timestamp),
    /// The start failed: the pod is deleted.
    Replace,
    /// No pod exists, and the operator creates one.
    Create,
    /// The starts are past the limit. A present pod is deleted, and the next start is due at this time.
    Hold(Timestamp),
}

/// The input of the decision.
#[derive(Clone, Copy)]
pub(super) struct Starts<'a> {
    /// The pod.
    pub(super) pod: Option<&'a PodFacts>,
    /// The pod that status names.
    pub(super) record: Option<&'a PodStatus>,
    /// The failures so far.
    pub(super) restarts: Option<&'a RestartsStatus>,
    /// The begin of the current start. `None` after the pod was Ready.
    pub(super) began: Option<Timestamp>,
    /// The revision of the starts.
    pub(super) revision: Revision<'a>,
    /// The limit of failed starts.
    pub(super) limit: Limit,
    /// The time of the last wake of the town. The operator itself ended every older pod.
    pub(super) wake_time: Option<Timestamp>,
    /// The cause that keeps the start without a pod. The API server wrote the text; `None`: the cause is not known.
    pub(super) refused: Option<&'a str>,
}

pub(super) struct Decided {
    /// The next step.
    pub(super) next: Next,
    /// The failures, including those found now.
    pub(super) restarts: Option<RestartsStatus>,
    /// The begin of the current start. `None`: the pod was Ready, or the start has failed.
    pub(super) began: Option<Timestamp>,
    /// The time of the next decision.
    pub(super) look_again: Option<Timestamp>,
}

impl Starts<'_> {
    /// The next step for the pod.
    pub(super) fn decide(&self, now: Timestamp) -> Decided {
        let restarts = self.current(now);
        match self.pod {
            Some(pod) if pod.deleting() => self.leaving(pod, restarts),
            Some(pod) if self.is_counted(pod) => {
                Decided { next: Next::Replace, restarts, began: None, look_again: None }
            }
            Some(pod) if pod.ended() => self.ended(pod, restarts, now),
            Some(pod) => self.living(pod, restarts, now),
            None => self.absent(restarts, now),
        }
    }

    /// Whether the failure of this pod is on record while its deletion has not succeeded yet. Such a failure must not
    /// count twice.
    fn is_counted(&self, pod: &PodFacts) -> bool {
        let failed = self.restarts.and_then(|r| r.failure_time.as_ref()).map(|t| t.0);
        let taken_off = self.record.is_some_and(|r| r.uid.is_none());
        taken_off && !pod.ready && pod.created.zip(failed).is_some_and(|(created, failed)| created < failed)
    }

    /// The failures that still count. Failures of another revision do not count, and neither do failures before a long
    /// time Ready.
    fn current(&self, now: Timestamp) -> Option<RestartsStatus> {
        let restarts = self.restarts.filter(|r| self.revision.is_of(&r.revision))?;
        let steady = self.forgiven_at().is_some_and(|at| at <= now);
        (!steady)
            .then(|| RestartsStatus { revision: self.revision.seen(&restarts.revision), ..restarts.clone() })
    }

    /// The time at which the pod has been Ready for long enough to reset the count of failures.
    fn forgiven_at(&self) -> Option<Timestamp> {
        let pod = self.pod.filter(|pod| pod.ready && !pod.deleting())?;
        self.restarts?;
        pod.ready_since.map(|since| after(since, self.limit.window))
    }

    /// A pod that another client deletes counts as disrupted, once: the caller removes the pod from the record. A pod
    /// that the operator deletes is no longer on the record, or is older than the last wake.
    fn leaving(&self, pod: &PodFacts, restarts: Option<RestartsStatus>) -> Decided {
        let told = pod.stop_requested.unwrap_or_default();
        let known = self.record.and_then(|r| r.uid.as_deref()) == Some(pod.uid.as_str());
        let by_others = known && self.wake_time.is_none_or(|woke| woke <= told);
        let restarts = if by_others { Some(self.disruption(pod, restarts, told)) } else { restarts };
        Decided { next: Next::Wait, restarts, began: self.began(), look_again: None }
    }

    fn ended(&self, pod: &PodFacts, restarts: Option<RestartsStatus>, now: Timestamp) -> Decided {
        let last = pod.termination.as_ref().and_then(|t| t.at).or(pod.not_ready_since).or(pod.created);
        let last = last.unwrap_or(now).min(now);
        let counts = pod.ending().is_some_and(Ending::fails_start);
        let raised = if counts {
            self.failure(restarts.as_ref(), 1, last, &why_ended(pod), !pod.ran)
        } else if self.began.is_some() && self.is_late(now) {
            self.failure(restarts.as_ref(), 1, now, &why_ended(pod), true)
        } else {
            self.disruption(pod, restarts.clone(), last)
        };
        let began = self.began.filter(|_| !counts && !self.is_late(now));
        let due = self.due(&raised, now);
        if due <= now || self.limit.is_past(raised.count) {
            return Decided { next: Next::Replace, restarts: Some(raised), began, look_again: None };
        }
        Decided { next: Next::BackOff(due), restarts, began: self.began, look_again: None }
    }

    fn living(&self, pod: &PodFacts, restarts: Option<RestartsStatus>, now: Timestamp) -> Decided {
        let crashes = self.crashes(pod);
        let restarts = if crashes > 0 {
            let cause =
                pod.last_crash.clone().unwrap_or_else(|| format!("pod {} was restarted", pod.key.name));
            Some(self.failure(restarts.as_ref(), crashes, now, &cause, false))
        } else {
            restarts
        };
        let held = restarts.as_ref().filter(|r| self.limit.is_past(r.count)).map(|r| self.due(r, now));
        if let Some(until) = held.filter(|until| now < *until)
            && !(pod.ready && crashes == 0)
        {
            return Decided { next: Next::Hold(until), restarts, began: None, look_again: None };
        }
        if !pod.ready && self.is_late(now) {
            let restarts = self.failure(restarts.as_ref(), 1, now, &not_ready_text(pod), !pod.ran);
            return Decided { next: Next::Replace, restarts: Some(restarts), began: None, look_again: None };
        }
        let began = self.began().filter(|_| !pod.ready);
        let forgiven_at = self.forgiven_at().filter(|at| restarts.is_some() && now < *at);
        let look_again = earlier(began.map(|began| after(began, START_WITHIN)), forgiven_at);
        Decided { next: Next::Keep, restarts, began, look_again }
    }

    fn absent(&self, restarts: Option<RestartsStatus>, now: Timestamp) -> Decided {
        let (mut restarts, mut began) = (restarts, self.began());
        if let Some(record) = self.record.filter(|r| r.uid.is_some()) {
            // The operator removes each pod that it ends from the record. The end of a recorded pod that is missing is
            // therefore unknown.
            let older =
                record.start_time.as_ref().zip(self.wake_time).is_some_and(|(made, woke)| made.0 < woke);
            let raised = if older {
                RestartsStatus { failure_time: Some(stamp(now)), ..restarts.unwrap_or_default() }
            } else {
                self.failure(
                    restarts.as_ref(),
                    1,
                    now,
                    "the pod disappeared, and the cause is not known",
                    false,
                )
            };
            restarts = Some(raised);
            began = None;
        } else if self.is_late(now) {
            let cause = self.refused.unwrap_or("no pod became Ready within 10 minutes");
            restarts = Some(self.failure(restarts.as_ref(), 1, now, cause, true));
            began = None;
        }
        let due = restarts.as_ref().map_or(now, |known| self.due(known, now));
        let past = restarts.as_ref().is_some_and(|known| self.limit.is_past(known.count));
        let next = match (now < due, past) {
            (false, _) => Next::Create,
            (true, true) => Next::Hold(due),
            (true, false) => Next::BackOff(due),
        };
        let began = if next == Next::Create { began.or(Some(now)) } else { began };
        Decided { next, restarts, began, look_again: began.map(|began| after(began, START_WITHIN)) }
    }

    /// Whether the current start exceeds the start timeout.
    fn is_late(&self, now: Timestamp) -> bool {
        self.began().is_some_and(|began| after(began, START_WITHIN) <= now)
    }

    /// The begin of the current start. A pod that the status does not name was never seen Ready, because its start was
    /// not recorded.
    fn began(&self) -> Option<Timestamp> {
        let unrecorded =
            |pod: &&PodFacts| self.record.and_then(|r| r.uid.as_deref()) != Some(pod.uid.as_str());
        let starts = |pod: &&PodFacts| !pod.ready && !pod.ended() && !pod.deleting();
        self.began.or_else(|| self.pod.filter(starts).filter(unrecorded)?.created)
    }

    fn due(&self, restarts: &RestartsStatus, now: Timestamp) -> Timestamp {
        // A clock that was ahead must not stop the starts for ever.
        let last = restarts
            .failure_time
            .as_ref()
            .or(restarts.window_start_time.as_ref())
            .map_or(now, |t| t.0.min(now));
        self.limit.next_start(restarts.count, restarts.disruptions, last)
    }

    /// The number of failed container starts since the last write of the status. A node restart is not a failure of a
    /// container. The kubelet may restart several containers of the pod then; the function subtracts one restart,
    /// since the count is the highest of all containers.
    fn crashes(&self, pod: &PodFacts) -> i32 {
        let known = self.record.filter(|r| r.uid.as_deref() == Some(pod.uid.as_str()));
        let more = pod.container_restarts.saturating_sub(known.map_or(0, |r| r.container_restarts)).max(0);
        if pod.restarted_by_node { more.saturating_sub(1) } else { more }
    }

    fn failure(
        &self,
        before: Option<&RestartsStatus>,
        failures: i32,
        at: Timestamp,
        cause: &str,
        external: bool,
    ) -> RestartsStatus {
        let count = before.map_or(0, |r| r.count);
        let first = before.filter(|_| count > 0).and_then(|r| r.window_start_time.clone());
        RestartsStatus {
            count: count.saturating_add(failures),
            window_start_time: Some(first.unwrap_or_else(|| stamp(at))),
            disruptions: before.map_or(0, |r| r.disruptions),
            failure_time: Some(stamp(at)),
            message: cause.to_owned(),
            external,
            revision: self.revision.after(before.map_or("", |r| r.revision.as_str())),
        }
    }

    fn disruption(&self, pod: &PodFacts, before: Option<RestartsStatus>, at: Timestamp) -> RestartsStatus {
        let mut restarts = before.unwrap_or_default();
        let ran = pod.started.or(pod.created).map(|from| (from, at));
        let deleted = pod.deleting() && !pod.disrupted;
        restarts.disruptions = disrupted(restarts.disruptions, ran, deleted);
        restarts.failure_time = Some(stamp(at));
        restarts.revision = self.revision.after(&restarts.revision);
        restarts
    }
}

/// The text about a pod that was not Ready within the start timeout.
pub(super) fn not_ready_text(pod: &PodFacts) -> String {
    match &pod.trouble {
        Some((_, text)) => text.clone(),
        None => format!("pod {} was not Ready within 10 minutes", pod.key.name),
    }
}

/// The record of a pod that is gone or being deleted: only its start time remains.
pub(super) fn gone(record: Option<&PodStatus>) -> Option<PodStatus> {
    record.map(|r| PodStatus { start_time: r.start_time.clone(), ..PodStatus::default() })
}

/// The record of a present pod.
pub fn pod_record(pod: &PodFacts) -> PodStatus {
    PodStatus {
        name: Some(pod.key.name.clone()),
        uid: Some(pod.uid.as_str().to_owned()),
        node_name: pod.node.clone(),
        start_time: pod.created.map(stamp),
        container_restarts: pod.container_restarts,
        ready_time: None,
    }
}
