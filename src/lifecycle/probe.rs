//! Activity probes: the probed pods, the times of the probes, and the validity of the answers.
//!
//! Invariants kept here: a probe is never work. An answer counts only for the probed pod, and only for three
//! intervals. A probed pod that was Ready and does not answer is unknown, not idle. The operator never probes a pod
//! while its owner sleeps or is paused.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::clock::after;
use super::facts::{PodFacts, ProbeFacts, TownSnapshot};
use super::ids::{ObjectKey, Uid, child_name};
use super::meta::is_paused;
use super::plan::{Action, Ask, Questions};
use crate::api::{ActivityProbe, ActivityReport, Agent, PodStatus};

/// After this number of consecutive failed probes the activity is unknown.
pub const FAILURES: u32 = 3;
/// An answer is valid for this number of intervals, so that late probes of an overloaded operator are tolerated.
const WORTH: i32 = 3;
/// The timeout of a probe. An answer is late only after this additional time.
const WITHIN: SignedDuration = SignedDuration::from_secs(5);
/// The interval between probes of a failing pod does not exceed this time, unless the regular interval is longer.
const FAILING_CADENCE: SignedDuration = SignedDuration::from_mins(1);
/// The final check ends this long after the bound of the drain.
const LAST_LOOK: SignedDuration = SignedDuration::from_secs(30);

/// The Secret that holds the token for the owner's pod: the Secret that the spec names, or our own.
pub fn token_secret_name(probe: &ActivityProbe, owner: &ObjectKey, uid: &Uid) -> String {
    probe.token_secret_name.clone().unwrap_or_else(|| child_name(&owner.name, uid))
}

/// The action that creates the token for a pod, unless the spec names a Secret for it.
pub(super) fn own_token(probe: Option<&ActivityProbe>) -> Option<Action> {
    probe.filter(|probe| probe.token_secret_name.is_none()).map(|_| Action::CreateToken)
}

/// Whether the pod can be probed: it is Ready and bound to a node, has an address of its own, and is not being
/// deleted. No kubelet corrects the status of a pod without a node, so its address may belong to another pod.
pub(super) fn answers(pod: &PodFacts) -> bool {
    pod.ready && pod.node.is_some() && !pod.deleting() && !pod.ended() && pod.address.is_some()
}

/// Whether this pod was Ready at any time, from its status or from the record of its owner.
pub(super) fn was_ready(pod: &PodFacts, record: Option<&PodStatus>) -> bool {
    pod.ready || record.is_some_and(|r| r.uid.as_deref() == Some(pod.uid.as_str()) && r.ready_time.is_some())
}

/// The facts of a pod that was never probed.
static UNASKED: ProbeFacts = ProbeFacts {
    under_way: false,
    wanted_since: None,
    asked_at: None,
    known_at: None,
    last: None,
    last_input: None,
    unfinished_at: None,
    failing_since: None,
    failures: 0,
    secret_missing: false,
};

/// A pod that may be probed.
pub(super) struct Asked<'a> {
    /// The owner of the pod: a town or an agent.
    pub(super) owner: &'a ObjectMeta,
    /// The probe in the owner's spec.
    pub(super) probe: Option<&'a ActivityProbe>,
    /// The pod.
    pub(super) pod: Option<&'a PodFacts>,
    /// The record of the pod in the owner's status.
    pub(super) record: Option<&'a PodStatus>,
    /// The results of the probes.
    pub(super) facts: &'a ProbeFacts,
}

/// The known activity of a probed pod.
pub(super) enum Known<'a> {
    /// An answer, and the time at which its probe was sent.
    Answer(&'a ActivityReport, Timestamp),
    /// The activity is not known yet. At this time the pod counts as silent.
    NotYet(Option<Timestamp>),
    /// The pod is silent since this time, for this reason.
    Silent(Timestamp, String),
}

impl<'a> Asked<'a> {
    /// The probe request, if the pod can be probed and no probe is in progress.
    fn question(&self) -> Option<Ask> {
        let probe = self.probe?;
        let pod = self.pod.filter(|pod| answers(pod) && !self.facts.under_way)?;
        Some(Ask {
            pod: pod.key.clone(),
            uid: pod.uid.clone(),
            address: pod.address.clone()?,
            // An old pod knows only its own token.
            secret: match &pod.token_secret_name {
                Some(secret) => secret.clone(),
                None => token_secret_name(probe, &ObjectKey::of(self.owner), &Uid::of(self.owner)?),
            },
            probe: probe.clone(),
        })
    }

    /// Creates the Secret with the operator's own token again if another client deleted it while a probed pod needs
    /// it. The file with the token follows the Secret, so the pod need not be replaced.
    pub(super) fn lost_token(&self) -> Option<Action> {
        let probe =
            self.probe.filter(|probe| probe.token_secret_name.is_none() && self.facts.secret_missing)?;
        let pod = self.pod.filter(|pod| answers(pod))?;
        let own = token_secret_name(probe, &ObjectKey::of(self.owner), &Uid::of(self.owner)?);
        (pod.token_secret_name.as_ref() == Some(&own)).then_some(Action::CreateToken)
    }

    /// Probes the pod when the last probe is this old. A failing pod is probed less often, so that it uses few of the
    /// concurrent probes.
    pub(super) fn every(&self, cadence: SignedDuration, now: Timestamp) -> Questions {
        let Some(question) = self.question() else { return Questions::default() };
        let wait = if self.facts.failures > FAILURES {
            let factor = 1_i32.checked_shl(self.facts.failures - FAILURES).unwrap_or(i32::MAX);
            cadence.saturating_mul(factor).min(FAILING_CADENCE.max(cadence))
        } else {
            cadence
        };
        match self.facts.known_at.map(|at| after(at, wait)).filter(|due| now < *due) {
            Some(due) => Questions { now: Vec::new(), later: Some(due) },
            None => Questions { now: vec![question], later: None },
        }
    }

    /// The known activity of the pod. `None`: the pod is not probed, or was never Ready.
    pub(super) fn known(&self, cadence: SignedDuration, now: Timestamp) -> Option<Known<'a>> {
        self.probe?;
        let pod = self.pod.filter(|pod| !pod.deleting() && !pod.ended())?;
        if !was_ready(pod, self.record) {
            return None;
        }
        let name = &pod.key.name;
        if !pod.ready {
            let since = pod.not_ready_since.or(pod.created).map_or(now, |since| since.min(now));
            return Some(Known::Silent(since, format!("pod {name} stopped being Ready")));
        }
        if !answers(pod) {
            let since = pod.ready_since.or(pod.created).map_or(now, |since| since.min(now));
            let text = format!("pod {name} has no address of its own for a probe");
            return Some(Known::Silent(since, text));
        }
        let facts = self.facts;
        let worth = after_times(cadence, WORTH);
        let late = |from: Timestamp| after(after(from, worth), WITHIN);
        Some(match (&facts.last, facts.known_at) {
            (Some(Err(why)), _) if facts.failures >= FAILURES => {
                Known::Silent(facts.failing_since.unwrap_or(now), why.clone())
            }
            (Some(_), Some(at)) if late(at) <= now => Known::Silent(
                after(at, cadence).min(now),
                format!("pod {name} has not been probed since {at}"),
            ),
            (Some(Ok(report)), Some(at)) => Known::Answer(report, facts.asked_at.unwrap_or(at)),
            (Some(Err(_)), Some(at)) => Known::NotYet(Some(late(at))),
            _ => match facts.wanted_since {
                Some(at) if late(at) <= now => {
                    Known::Silent(at, format!("pod {name} has not been probed yet"))
                }
                wanted => Known::NotYet(wanted.map(late)),
            },
        })
    }

    /// The final check: an answer to a probe that was sent after `mark`, or the failure of such a probe.
    fn last_look(&self, mark: Timestamp, now: Timestamp) -> LastLook {
        if self.probe.is_none() || !self.pod.is_some_and(answers) {
            return LastLook::NoPodToAsk;
        }
        // The mark is a timestamp in whole seconds.
        let first = after(mark, SignedDuration::from_secs(1));
        let sent_after = self.facts.asked_at.is_some_and(|at| at >= first);
        match &self.facts.last {
            Some(Ok(_)) if sent_after => LastLook::Answered,
            Some(Err(why)) if sent_after => LastLook::NoAnswer(why.clone()),
            _ if now < first => LastLook::Ask(Questions { now: Vec::new(), later: Some(first) }),
            _ => LastLook::Ask(Questions { now: self.question().into_iter().collect(), later: None }),
        }
    }
}

fn after_times(cadence: SignedDuration, times: i32) -> SignedDuration {
    cadence.checked_mul(times).unwrap_or(SignedDuration::MAX)
}

/// The result of the final check before the deletion of the pods. A later variant has precedence over an earlier one.
pub(super) enum LastLook {
    /// No pod can be probed.
    NoPodToAsk,
    /// Every pod answered.
    Answered,
    /// A pod did not answer, for this reason.
    NoAnswer(String),
    /// A pod needs a probe, or its answer is awaited.
    Ask(Questions),
}

impl LastLook {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Ask(some), Self::Ask(more)) => Self::Ask(some.and(more)),
            (ask @ Self::Ask(_), _) | (_, ask @ Self::Ask(_)) => ask,
            (none @ Self::NoAnswer(_), _) | (_, none @ Self::NoAnswer(_)) => none,
            (Self::Answered, _) | (_, Self::Answered) => Self::Answered,
            (Self::NoPodToAsk, Self::NoPodToAsk) => Self::NoPodToAsk,
        }
    }
}

/// The interval of the probes of the town's pods, from the recorded activity. An unknown activity has the short
/// interval: otherwise an answer would be too old for a town with work and recent enough for one without, and the town
/// would change between the two with every reconcile.
pub(super) fn cadence(s: &TownSnapshot) -> SignedDuration {
    let alarm = &s.town.spec.alarm;
    let conditions = s.town.status.as_ref().map_or(&[][..], |status| status.conditions.as_slice());
    if super::conditions::has_short_interval(conditions) { alarm.active.get() } else { alarm.idle.get() }
}

/// The town's own pod.
pub(super) fn own(s: &TownSnapshot) -> Asked<'_> {
    Asked {
        owner: &s.town.metadata,
        probe: s.town.spec.activity_probe.as_ref(),
        pod: s.pod(),
        record: s.town.status.as_ref().and_then(|status| status.pod.as_ref()),
        facts: &s.probe,
    }
}

/// The pod of an agent of the town.
pub(super) fn of_agent<'a>(s: &'a TownSnapshot, agent: &'a Agent, pod: Option<&'a PodFacts>) -> Asked<'a> {
    Asked {
        owner: &agent.metadata,
        probe: agent.spec.activity_probe.as_ref(),
        pod,
        record: agent.status.as_ref().and_then(|status| status.pod.as_ref()),
        facts: s.probe_of(agent).unwrap_or(&UNASKED),
    }
}

/// Every probed pod of a town: its own pod and the pods of its agents. Agents that are being deleted or paused are not
/// probed.
pub(super) fn every_pod(s: &TownSnapshot) -> Vec<Asked<'_>> {
    let pods = s.pods_by_agent();
    let asked = |agent: &Agent| {
        agent.spec.activity_probe.is_some()
            && agent.metadata.deletion_timestamp.is_none()
            && !is_paused(&agent.metadata)
    };
    let pod_of = |agent: &Agent| agent.metadata.uid.as_deref().and_then(|uid| pods.get(uid).copied());
    let agents = s.agents.iter().filter(|agent| asked(agent)).map(|agent| of_agent(s, agent, pod_of(agent)));
    std::iter::once(own(s)).chain(agents).collect()
}

/// Probes the town's own pod when the last probe is this old.
pub(super) fn ask_town(s: &TownSnapshot, cadence: SignedDuration, now: Timestamp) -> Questions {
    own(s).every(cadence, now)
}

/// Probes every pod whose last probe is this old.
pub(super) fn ask_all(s: &TownSnapshot, cadence: SignedDuration, now: Timestamp) -> Questions {
    every_pod(s).iter().map(|asked| asked.every(cadence, now)).fold(Questions::default(), Questions::and)
}

/// The final check of every pod of a town that was marked as draining at this time. After the timeout, a pod that was
/// not probed yet or has not answered yet counts as a pod without an answer.
pub(super) fn last_look(s: &TownSnapshot, mark: Timestamp, now: Timestamp) -> LastLook {
    let bound = after(after(mark, s.town.spec.drain.timeout.get()), LAST_LOOK);
    let result =
        every_pod(s).iter().map(|asked| asked.last_look(mark, now)).fold(LastLook::NoPodToAsk, LastLook::and);
    match result {
        LastLook::Ask(_) if bound <= now => {
            LastLook::NoAnswer("not every pod answered within drain.timeout and 30 s".to_owned())
        }
        LastLook::Ask(questions) => {
            LastLook::Ask(questions.and(Questions { now: Vec::new(), later: Some(bound) }))
        }
        result => result,
    }
}
