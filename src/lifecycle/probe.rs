//! Activity probes: which pods are asked, when, and what their answers are worth.
//!
//! Invariants kept here: a probe is never work; an answer counts only for the pod that was asked, and only for three
//! cadences; a probed pod that was Ready and does not answer is unknown, not idle. No pod is asked while its owner
//! sleeps or is paused.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::clock::after;
use super::facts::{PodFacts, ProbeFacts, TownSnapshot};
use super::ids::{ObjectKey, Uid, child_name};
use super::is_paused;
use super::plan::{Action, Ask, Questions};
use crate::api::{ActivityProbe, ActivityReport, Agent, PodStatus};

/// After this many failed probes in a row the activity is unknown.
pub const FAILURES: u32 = 3;
/// An answer is worth this many cadences. An overloaded operator that asks late is tolerated up to here.
const WORTH: i32 = 3;
/// The time that one probe may take: an answer is late only after that.
const WITHIN: SignedDuration = SignedDuration::from_secs(5);
/// A pod that fails again and again is asked no more often than this, unless its cadence is longer.
const FAILING_CADENCE: SignedDuration = SignedDuration::from_mins(1);
/// The final check ends this long after the bound of the drain.
const LAST_LOOK: SignedDuration = SignedDuration::from_secs(30);

/// The Secret that holds the token for the owner's pod: the one that the spec names, or our own.
pub fn token_secret_name(probe: &ActivityProbe, owner: &ObjectKey, uid: &Uid) -> String {
    probe.token_secret_name.clone().unwrap_or_else(|| child_name(&owner.name, uid))
}

/// The action that makes the token for a pod, where the spec names no Secret for it.
pub(super) fn own_token(probe: Option<&ActivityProbe>) -> Option<Action> {
    probe.filter(|probe| probe.token_secret_name.is_none()).map(|_| Action::CreateToken)
}

/// Whether the pod can be asked: it is Ready and bound to a node, has an address of its own, and is not on its way
/// out. No kubelet corrects the status of a pod that is bound to no node, so its address may be anyone's.
pub(super) fn answers(pod: &PodFacts) -> bool {
    pod.ready && pod.node.is_some() && !pod.deleting() && !pod.ended() && pod.address.is_some()
}

/// Whether this pod was Ready at any time, by itself or by the record of its owner.
pub(super) fn was_ready(pod: &PodFacts, record: Option<&PodStatus>) -> bool {
    pod.ready || record.is_some_and(|r| r.uid.as_deref() == Some(pod.uid.as_str()) && r.ready_time.is_some())
}

/// The facts about a pod that was never asked.
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

/// A pod that may be asked.
pub(super) struct Asked<'a> {
    /// The owner of the pod: a town or an agent.
    pub(super) owner: &'a ObjectMeta,
    /// The probe in the owner's spec.
    pub(super) probe: Option<&'a ActivityProbe>,
    /// The pod.
    pub(super) pod: Option<&'a PodFacts>,
    /// What the owner's status records of the pod.
    pub(super) record: Option<&'a PodStatus>,
    /// What the pod answered.
    pub(super) facts: &'a ProbeFacts,
}

/// What is known of the activity of a probed pod.
pub(super) enum Known<'a> {
    /// An answer, and the time at which its probe was sent.
    Answer(&'a ActivityReport, Timestamp),
    /// Not known yet; the time at which that becomes silence.
    NotYet(Option<Timestamp>),
    /// The pod is silent since this time, for this reason.
    Silent(Timestamp, String),
}

impl<'a> Asked<'a> {
    /// The question, where there is a pod to ask and no question is under way.
    fn question(&self) -> Option<Ask> {
        let probe = self.probe?;
        let pod = self.pod.filter(|pod| answers(pod) && !self.facts.under_way)?;
        Some(Ask {
            pod: pod.key.clone(),
            uid: pod.uid.clone(),
            address: pod.address.clone()?,
            // While an old pod stays, it knows no other token than its own.
            secret: match &pod.token_secret_name {
                Some(secret) => secret.clone(),
                None => token_secret_name(probe, &ObjectKey::of(self.owner), &Uid::of(self.owner)?),
            },
            probe: probe.clone(),
        })
    }

    /// Makes the Secret with the operator's own token anew, where somebody deleted it under a pod that is asked with it.
    /// The file with the token follows the Secret, so the pod need not be replaced.
    pub(super) fn lost_token(&self) -> Option<Action> {
        let probe =
            self.probe.filter(|probe| probe.token_secret_name.is_none() && self.facts.secret_missing)?;
        let pod = self.pod.filter(|pod| answers(pod))?;
        let own = token_secret_name(probe, &ObjectKey::of(self.owner), &Uid::of(self.owner)?);
        (pod.token_secret_name.as_ref() == Some(&own)).then_some(Action::CreateToken)
    }

    /// Asks again when the last question is that old. A pod that fails again and again is asked less often, so that
    /// it takes few of the places for probes.
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

    /// What is known of the pod's activity; `None`: the pod is not probed, or has never been Ready.
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
            let text = format!("pod {name} has no address of its own at which it can be asked");
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
                format!("pod {name} has not been asked since {at}"),
            ),
            (Some(Ok(report)), Some(at)) => Known::Answer(report, facts.asked_at.unwrap_or(at)),
            (Some(Err(_)), Some(at)) => Known::NotYet(Some(late(at))),
            _ => match facts.wanted_since {
                Some(at) if late(at) <= now => Known::Silent(at, format!("pod {name} was not asked yet")),
                wanted => Known::NotYet(wanted.map(late)),
            },
        })
    }

    /// The final check: an answer to a question that was sent after `mark`, or its failure.
    fn last_look(&self, mark: Timestamp, now: Timestamp) -> LastLook {
        if self.probe.is_none() || !self.pod.is_some_and(answers) {
            return LastLook::NoPodToAsk;
        }
        // Marks are kept in whole seconds.
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

/// The result of the final check before the pods go; the later in this list, the more it counts.
pub(super) enum LastLook {
    /// There is no pod to ask.
    NoPodToAsk,
    /// Every pod answered.
    Answered,
    /// A pod did not answer, and why.
    NoAnswer(String),
    /// A pod must be asked, or its answer awaited.
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

/// How often the pods of the town are asked while it has the recorded activity.
pub(super) fn cadence(s: &TownSnapshot) -> SignedDuration {
    let alarm = &s.town.spec.alarm;
    let conditions = s.town.status.as_ref().map_or(&[][..], |status| status.conditions.as_slice());
    if super::conditions::is_true(conditions, crate::api::condition::ACTIVE) {
        alarm.active.get()
    } else {
        alarm.idle.get()
    }
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

/// Every probed pod of a town: its own and those of its agents. Agents that are being deleted or are paused are not
/// asked.
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

/// Asks the town's own pod again when the last question is that old.
pub(super) fn ask_town(s: &TownSnapshot, cadence: SignedDuration, now: Timestamp) -> Questions {
    own(s).every(cadence, now)
}

/// Asks every pod again whose last question is that old.
pub(super) fn ask_all(s: &TownSnapshot, cadence: SignedDuration, now: Timestamp) -> Questions {
    every_pod(s).iter().map(|asked| asked.every(cadence, now)).fold(Questions::default(), Questions::and)
}

/// The final check of every pod of a town that was marked as draining at this time. Past its bound a pod that was
/// not asked yet, or has not answered yet, counts as one that does not answer.
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
