//! Activity probes: whom to ask, when, and with what.
//!
//! Asking is never work, and an answer counts only for the very pod that was asked. Whoever sleeps or is being
//! deleted is not asked.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::clock::after;
use super::facts::{PodFacts, ProbeFacts, TownSnapshot};
use super::ids::{ObjectKey, Uid, child_name};
use super::plan::{Action, Ask, Questions};
use crate::api::ActivityProbe;

/// So many questions in a row without an answer make an activity unknown; fewer are a hiccup.
pub(super) const FAILURES: u32 = 3;
/// An answer older than this is too old for the last look before pods go.
const FRESH: SignedDuration = SignedDuration::from_secs(10);

/// The Secret that holds the token for the owner's pod: the one that the spec names, or our own.
pub fn token_secret(probe: &ActivityProbe, owner: &ObjectKey, uid: &Uid) -> String {
    probe.token_secret.clone().unwrap_or_else(|| child_name(&owner.name, uid))
}

/// What makes the token that a pod is asked with, where the spec names no Secret for it.
pub(super) fn own_token(probe: Option<&ActivityProbe>) -> Option<Action> {
    probe.filter(|probe| probe.token_secret.is_none()).map(|_| Action::CreateToken)
}

/// Whether the pod can be asked: it is Ready, has an address of its own, and is not on its way out.
pub(super) fn answers(pod: &PodFacts) -> bool {
    pod.ready && !pod.deleting() && !pod.ended() && pod.address.is_some()
}

/// What is known of somebody who was never asked.
static UNASKED: ProbeFacts = ProbeFacts {
    under_way: false,
    asked_at: None,
    known_at: None,
    last: None,
    last_input: None,
    failing_since: None,
    failures: 0,
};

/// One who may be asked.
pub(super) struct Asked<'a> {
    /// The owner of the pod: a town or an agent.
    pub(super) owner: &'a ObjectMeta,
    /// How its spec wants to be asked.
    pub(super) probe: Option<&'a ActivityProbe>,
    /// Its pod.
    pub(super) pod: Option<&'a PodFacts>,
    /// What is known already.
    pub(super) facts: &'a ProbeFacts,
}

impl Asked<'_> {
    /// The question, where there is somebody to ask and none is under way.
    fn question(&self) -> Option<Ask> {
        let probe = self.probe?;
        let pod = self.pod.filter(|pod| answers(pod) && !self.facts.under_way)?;
        Some(Ask {
            pod: pod.key.clone(),
            uid: pod.uid.clone(),
            address: pod.address.clone()?,
            // While an old pod stays, it knows no other token than its own.
            secret: match &pod.token_secret {
                Some(secret) => secret.clone(),
                None => token_secret(probe, &ObjectKey::of(self.owner), &Uid::of(self.owner)?),
            },
            probe: probe.clone(),
        })
    }

    /// Asks again when the last question is that old.
    pub(super) fn every(&self, cadence: SignedDuration, now: Timestamp) -> Questions {
        let Some(question) = self.question() else { return Questions::default() };
        match self.facts.known_at.map(|at| after(at, cadence)).filter(|due| now < *due) {
            Some(due) => Questions { now: Vec::new(), later: Some(due) },
            None => Questions { now: vec![question], later: None },
        }
    }

    /// The last look: an answer to a question that was sent after `mark`, and not long ago.
    fn last_look(&self, mark: Timestamp, now: Timestamp) -> LastLook {
        if self.probe.is_none() || !self.pod.is_some_and(answers) {
            return LastLook::NobodyToAsk;
        }
        // Marks are kept in whole seconds.
        let first = after(mark, SignedDuration::from_secs(1));
        let fresh = self.facts.asked_at.is_some_and(|at| at >= first)
            && self.facts.known_at.is_some_and(|at| now < after(at, FRESH));
        match &self.facts.last {
            Some(Ok(_)) if fresh => LastLook::Answered,
            Some(Err(why)) if fresh => LastLook::NoAnswer(why.clone()),
            _ if now < first => LastLook::Ask(Questions { now: Vec::new(), later: Some(first) }),
            _ => LastLook::Ask(Questions { now: self.question().into_iter().collect(), later: None }),
        }
    }
}

/// What the last look before pods go has come to; the later in this list, the more it counts.
pub(super) enum LastLook {
    /// There is nobody to ask.
    NobodyToAsk,
    /// The answer is there.
    Answered,
    /// There is none, and why.
    NoAnswer(String),
    /// It must be asked, or the answer awaited.
    Ask(Questions),
}

impl LastLook {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Ask(some), Self::Ask(more)) => Self::Ask(some.and(more)),
            (ask @ Self::Ask(_), _) | (_, ask @ Self::Ask(_)) => ask,
            (none @ Self::NoAnswer(_), _) | (_, none @ Self::NoAnswer(_)) => none,
            (Self::Answered, _) | (_, Self::Answered) => Self::Answered,
            (Self::NobodyToAsk, Self::NobodyToAsk) => Self::NobodyToAsk,
        }
    }
}

/// The town's own pod.
fn own(s: &TownSnapshot) -> Asked<'_> {
    let probe = s.town.spec.activity_probe.as_ref();
    Asked { owner: &s.town.metadata, probe, pod: s.pod(), facts: &s.probe }
}

/// Everybody of a town who may be asked: its own pod and those of its agents.
fn everybody(s: &TownSnapshot) -> impl Iterator<Item = Asked<'_>> {
    let agents = s.agents.iter().filter(|a| a.metadata.deletion_timestamp.is_none()).filter_map(|agent| {
        let probe = Some(agent.spec.activity_probe.as_ref()?);
        let pod = s.pod_of(agent);
        Some(Asked { owner: &agent.metadata, probe, pod, facts: s.probe_of(agent).unwrap_or(&UNASKED) })
    });
    std::iter::once(own(s)).chain(agents)
}

/// What is known of everybody who can be asked now.
pub(super) fn answering(s: &TownSnapshot) -> impl Iterator<Item = &ProbeFacts> {
    everybody(s).filter(|a| a.probe.is_some() && a.pod.is_some_and(answers)).map(|asked| asked.facts)
}

/// Asks the town's own pod again when the last question is that old.
pub(super) fn ask_town(s: &TownSnapshot, cadence: SignedDuration, now: Timestamp) -> Questions {
    own(s).every(cadence, now)
}

/// Asks everybody again whose last question is that old.
pub(super) fn ask_all(s: &TownSnapshot, cadence: SignedDuration, now: Timestamp) -> Questions {
    everybody(s).map(|asked| asked.every(cadence, now)).fold(Questions::default(), Questions::and)
}

/// The last look at everybody of a town, marked as draining at this time.
pub(super) fn last_look(s: &TownSnapshot, mark: Timestamp, now: Timestamp) -> LastLook {
    everybody(s).map(|asked| asked.last_look(mark, now)).fold(LastLook::NobodyToAsk, LastLook::and)
}
