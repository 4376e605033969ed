//! Properties of every possible snapshot.
//!
//! The snapshots are random: each choice takes one byte of a random string, and byte 0 is the simplest choice.
//! Therefore a shrunk failing case contains only its relevant parts.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use serde_json::json;

use super::build::{
    AgentBuilder, PodBuilder, TownBuilder, answered, child, claim, claims_left, entry, hook, mayor, minute,
    nothing_left, pod, polecat, quiet, second, town, uid, unanswered, unheard,
};
use crate::api::condition::{self, reason};
use crate::api::{
    ActivityReport, AgentStatus, AsleepReason, Backlog, DestroyStatus, DestroyStep, ExpiryPolicy, Outcome,
    PodStatus, ReportedState, StorageStatus, Tombstone, TownStatus, UsageStatus, names,
};
use crate::lifecycle::{
    Action, ChildKind, ClaimFacts, Freshness, Plan, PodFacts, PodPhase, ProbeFacts, Record, Remains,
    Standing, TownFacts, TownSnapshot, TownView, Uid, has_own_tombstone, meta::is_paused, tombstone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};

struct Dice<'a>(std::slice::Iter<'a, u8>);

impl Dice<'_> {
    fn throw(&mut self) -> usize {
        self.0.next().copied().map_or(0, usize::from)
    }

    /// True with the probability `1 / times`.
    fn one_in(&mut self, times: usize) -> bool {
        self.throw() % times == times - 1
    }

    fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.throw() % choices.len()].clone()
    }

    fn time(&mut self) -> Timestamp {
        second(self.pick(&[0, 1, 5, 29, 60, 119, 120, 600, 1799, 1800, 1801, 3600, 90_000, -60]))
    }

    fn bead(&mut self) -> &'static str {
        self.pick(&["b1", "b2", "b3"])
    }

    fn tombstone(&mut self, owner: &Uid) -> Option<String> {
        let own = format!("{owner}@2030-01-01T00:00:00Z");
        self.one_in(4).then(|| self.pick(&[own, "other@2030-01-01T00:00:00Z".into(), "x".into()]))
    }

    fn conditions(&mut self, types: &[&'static str]) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for type_ in types {
            let reason = self.pick(&[
                reason::AS_EXPECTED,
                reason::RETRY_LIMIT_EXCEEDED,
                reason::TOMBSTONED,
                reason::ACTIVITY_UNKNOWN,
                reason::WORK,
                reason::RIG_FULL,
                reason::NAME_TAKEN,
            ]);
            if !self.one_in(5) {
                super::build::set(&mut conditions, type_, self.one_in(3), reason);
            }
        }
        conditions
    }

    fn destroy(&mut self) -> Option<DestroyStatus> {
        self.one_in(3).then(|| DestroyStatus {
            start_time: Time(self.time()),
            step: self.pick(&[DestroyStep::Tombstone, DestroyStep::Drain, DestroyStep::Compute]),
            blocked_by: Vec::new(),
        })
    }

    fn pod_record(&mut self) -> Option<PodStatus> {
        self.one_in(2).then(|| PodStatus {
            container_restarts: self.pick(&[0, 0, 1, 7]),
            name: Some("gas-pod".into()),
            uid: self.one_in(2).then(|| self.pick(&["some-uid".to_owned(), uid("gas-pod").to_string()])),
            node_name: None,
            start_time: (!self.one_in(3)).then(|| Time(self.time())),
            ready_time: self.one_in(2).then(|| Time(self.time())),
        })
    }

    fn meta(&mut self, meta: &mut ObjectMeta, owner: &Uid) {
        if self.one_in(4) {
            meta.deletion_timestamp = Some(Time(self.time()));
        }
        if let Some(value) = self.tombstone(owner) {
            meta.annotations = Some([(names::TOMBSTONE.into(), value)].into());
        }
        if self.one_in(6) {
            meta.finalizers = None;
        }
        if self.one_in(8) {
            meta.labels = None;
        }
        meta.generation = Some(self.pick(&[1, 2]));
        for (key, value) in [(names::PAUSED, "true"), (names::RESTART_AT, "now")] {
            if self.one_in(6) {
                meta.annotations.get_or_insert_default().insert(key.into(), value.into());
            }
        }
    }

    /// The probe facts of a pod.
    fn probe(&mut self) -> ProbeFacts {
        let mut facts = match self.pick(&[0, 1, 2, 3]) {
            0 => ProbeFacts::default(),
            1 => answered(self.time(), quiet()),
            2 => answered(self.time(), self.report()),
            _ => unheard(self.pick(&[1, 2, 3, 99]), self.time(), self.time()),
        };
        facts.under_way = self.one_in(4);
        facts.wanted_since = self.one_in(2).then(|| self.time());
        facts.unfinished_at = self.one_in(2).then(|| self.time());
        facts.last_input = self.one_in(4).then(|| self.time()).or(facts.last_input);
        facts
    }

    fn report(&mut self) -> ActivityReport {
        let mut report = ActivityReport { backlog: self.backlog(), ..quiet() };
        report.attached = self.one_in(2);
        report.last_input_time = self.one_in(2).then(|| Time(self.time()));
        for name in ["mayor", "toast", "stranger"] {
            if self.one_in(2) {
                let state = self.pick(&[
                    ReportedState::Idle,
                    ReportedState::Working,
                    ReportedState::Waiting,
                    ReportedState::Stuck,
                    ReportedState::Done,
                    ReportedState::Failed,
                ]);
                let mut entry = entry(name, state);
                entry.last_activity_time = self.one_in(2).then(|| Time(self.time()));
                entry.bead = self.one_in(2).then(|| self.bead().into());
                report.agents.push(entry);
            }
        }
        report
    }

    fn backlog(&mut self) -> Backlog {
        let mut number = || self.pick(&[0, 0, 0, 1, -1]);
        Backlog { merge_requests: number(), triage: number(), unassigned: number() }
    }

    fn standing(&mut self) -> Standing {
        self.pick(&[
            Standing::Free,
            Standing::Free,
            Standing::RoleTaken { holder: "x".into() },
            Standing::RigFull { position: 3, limit: 2 },
        ])
    }

    fn storage(&mut self) -> serde_json::Value {
        self.pick(&[
            serde_json::json!({"size": "1Gi"}),
            serde_json::json!({"size": "2Gi", "retainPolicy": "Retain"}),
            serde_json::json!({"existingClaimName": "mine"}),
        ])
    }

    fn storage_record(&mut self) -> Option<StorageStatus> {
        let uid = self.pick(&[None, Some("some-uid".to_owned())]);
        self.one_in(2).then(|| StorageStatus { claim: "gas-claim".into(), uid, capacity: None })
    }

    /// The revision of the spec; the revision of pods is "r1".
    fn revision(&mut self) -> String {
        self.pick(&["r1", "r1", "r2"]).into()
    }

    fn pod(&mut self, owner: &str) -> PodFacts {
        let PodBuilder(mut pod) = pod(owner).created(self.time());
        pod.phase = self.pick(&[
            PodPhase::Running,
            PodPhase::Pending,
            PodPhase::Succeeded,
            PodPhase::Failed,
            PodPhase::Unknown,
        ]);
        pod.ready = pod.phase == PodPhase::Running && !self.one_in(3);
        if matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed) && !self.one_in(4) {
            let code = i32::from(pod.phase == PodPhase::Failed);
            pod = PodBuilder(pod.clone()).exited(code, self.time()).0;
        }
        pod.started = (!self.one_in(4)).then(|| self.time());
        pod.ready_since = (pod.ready && !self.one_in(4)).then(|| self.time());
        pod.node = (!self.one_in(4)).then(|| "node-1".to_owned());
        pod.stop_requested = self.one_in(4).then(|| self.time());
        pod.released_by_kubelet = pod.deleting() && self.one_in(3);
        pod.disrupted = self.one_in(6);
        pod.rejected = self.one_in(9);
        pod.ran = !self.one_in(4);
        pod.restarted_by_node = self.one_in(4);
        pod.reason = self.pick(&[None, None, Some("Evicted".into()), Some("DeadlineExceeded".into())]);
        pod.install = self.pick(&[pod.install.clone(), pod.install.clone(), Some("elsewhere".into()), None]);
        pod.hook = (!self.one_in(4)).then(|| hook(self.bead()));
        pod.finalizers =
            self.pick(&[vec![], vec![names::RESULT_FINALIZER.into()], vec!["elsewhere/hold".into()]]);
        pod.trouble = self.one_in(4).then(|| (reason::UNSCHEDULABLE, "no node takes it".to_owned()));
        pod.trouble_since = self.one_in(2).then(|| self.time());
        pod.container_restarts = self.pick(&[0, 0, 1, 5, 50]);
        pod.not_ready_since = (!pod.ready).then(|| self.time());
        pod.stops_by =
            pod.stop_requested.filter(|_| !self.one_in(4)).map(|told| told + SignedDuration::from_secs(30));
        pod.revision = self.pick(&[Some("r1".to_owned()), Some("r0".to_owned()), None]);
        pod.restart_at = self.pick(&[None, Some("now".to_owned())]);
        if self.one_in(5) {
            pod.address = None;
        }
        pod
    }

    fn claim(&mut self, owner: &str) -> Option<ClaimFacts> {
        let mut claim = claim(owner);
        claim.child.deleting = self.one_in(4);
        claim.lost = self.one_in(4);
        claim.requested = self.pick(&[None, Some("1Gi"), Some("5Gi")]).map(|size| Quantity(size.into()));
        self.one_in(2).then_some(claim)
    }

    fn town(&mut self) -> TownBuilder {
        let mut built = town();
        for change in [
            TownBuilder::no_template,
            TownBuilder::no_agent_template,
            TownBuilder::storage,
            TownBuilder::suspended,
            TownBuilder::always_on,
            |t: TownBuilder| t.rigs(&["other"]),
            |t: TownBuilder| t.wake_request("please"),
            TownBuilder::asked,
            TownBuilder::not_its_turn,
            |t: TownBuilder| t.ports(&[80]),
            |t: TownBuilder| t.service(&[80]),
            |t: TownBuilder| t.service(&[81]),
        ] {
            if self.one_in(5) {
                built = change(built);
            }
        }
        built = built.sleep_after(self.pick(&["30m", "10s", "720h"])).drain(self.pick(&["2m", "0s", "1h"]));
        if self.one_in(3) {
            built = built.volume(&self.storage());
        }
        if self.one_in(3) {
            built = built.expires(self.time(), self.pick(&[ExpiryPolicy::Sleep, ExpiryPolicy::Destroy]));
        }
        let backlog = self.backlog();
        built = built.edit(|t| t.spec.backlog = backlog).revision(&self.revision());
        built.0.probe = self.probe();
        if !self.one_in(4) {
            let status = self.town_status();
            built = built.status(|s| *s = status);
        }
        if self.one_in(20) {
            return built.foreign();
        }
        built.edit(|t| self.meta(&mut t.metadata, &uid("gas")))
    }

    fn town_status(&mut self) -> TownStatus {
        TownStatus {
            conditions: self.conditions(&condition::OF_TOWN),
            phase: self.pick(&[
                Some("Idle".to_owned()),
                None,
                Some("Pending".into()),
                Some("Tombstoned".into()),
            ]),
            observed_generation: self.pick(&[Some(1), None]),
            asleep_reason: self.pick(&[
                None,
                Some(AsleepReason::Idle),
                Some(AsleepReason::Suspended),
                Some(AsleepReason::Expired),
                Some(AsleepReason::ActivityUnknown),
            ]),
            sleep_time: self.one_in(3).then(|| Time(self.time())),
            idle_time: self.one_in(3).then(|| Time(self.time())),
            pod_mark_time: self.one_in(3).then(|| Time(self.time())),
            accepted_time: self.one_in(2).then(|| Time(self.time())),
            activity_unknown_time: self.one_in(3).then(|| Time(self.time())),
            attach_time: self.one_in(3).then(|| Time(self.time())),
            storage: self.storage_record(),
            usage: self.one_in(2).then(|| UsageStatus {
                month: "2030-01".into(),
                pod_seconds: self.pick(&[0, 77, i64::MAX]),
                count_time: Time(self.time()),
            }),
            pod: self.pod_record(),
            last_active_time: self.one_in(2).then(|| Time(self.time())),
            wake_time: self.one_in(2).then(|| Time(self.time())),
            drain_time: self.one_in(3).then(|| Time(self.time())),
            handled_wake_request: self.pick(&[String::new(), "please".into()]),
            restarts: self.one_in(2).then(|| self.restarts()),
            start_time: self.one_in(3).then(|| Time(self.time())),
            destroy: self.destroy(),
            ..TownStatus::default()
        }
    }

    fn restarts(&mut self) -> crate::api::RestartsStatus {
        let count = self.pick(&[1, 2, 5, 9]);
        crate::api::RestartsStatus {
            disruptions: self.pick(&[0, 0, 1, 9]),
            external: self.one_in(2),
            revision: self.pick(&[String::new(), "r1".into(), "r0".into()]),
            ..super::build::failures(count, self.time())
        }
    }

    fn agent(&mut self, name: &str) -> AgentBuilder {
        let mut agent = if name == "mayor" { mayor() } else { polecat(name) };
        let owner = agent.0.uid.clone();
        if !self.one_in(3) {
            agent = agent.hook(self.bead());
        }
        if self.one_in(4) {
            agent = agent.volume(&self.storage());
        }
        if self.one_in(3) {
            agent = agent.asked();
        }
        if self.one_in(4) {
            agent = agent.ttl(self.pick(&["1s", "10m"]));
        }
        agent = agent.standing(self.standing()).revision(&self.revision());
        agent.0.probe = self.probe();
        if !self.one_in(4) {
            let status = self.agent_status();
            agent = agent.status(|s| *s = status);
        }
        if self.one_in(20) {
            return agent.foreign();
        }
        if self.one_in(10) {
            agent = agent.bound_to(&Uid::new("old"));
        }
        agent.edit(|a| self.meta(&mut a.metadata, &owner))
    }

    fn agent_status(&mut self) -> AgentStatus {
        let bead = self.bead();
        let began = self.time();
        let mut built = polecat("toast").attempt(bead, self.pick(&[1, 0, 4, 5, 9, 1000]), began);
        if self.one_in(2) {
            let outcome = self.pick(&[Outcome::Failed, Outcome::Interrupted, Outcome::Done]);
            built = built.ended(outcome, self.time());
        }
        let mut status = built.0.agent.status.clone().unwrap();
        if let Some(work) = &mut status.work {
            work.done = self.pick(&[vec![], vec!["b1".into()], vec!["b2".into(), "b1".into()]]);
        }
        if self.one_in(3) {
            status.work = None;
        }
        status.conditions = self.conditions(&condition::OF_AGENT);
        status.pod = self.pod_record();
        status.restarts = self.one_in(3).then(|| self.restarts());
        status.start_time = self.one_in(3).then(|| Time(self.time()));
        status.destroy = self.destroy();
        status.phase =
            self.pick(&[Some("Idle".to_owned()), None, Some("Done".into()), Some("Failed".into())]);
        status.observed_generation = self.pick(&[Some(1), None]);
        status.storage = self.storage_record();
        status
    }

    fn remains(
        &mut self,
        agents: Vec<Arc<crate::api::Agent>>,
        pods: Vec<PodFacts>,
        claims: Vec<ClaimFacts>,
    ) -> Remains {
        let mut remains = Remains { agents: Ok(agents), pods: Ok(pods), ..nothing_left() };
        claims_left(&mut remains, Ok(claims));
        if self.one_in(3) {
            for kind in [ChildKind::Service, ChildKind::Secret] {
                remains.children.insert(kind, Ok(vec![child(kind, "gas")]));
            }
        }
        match self.pick(&[0, 0, 0, 0, 1, 2, 3, 4, 5, 6]) {
            1 => remains.agents = Err(unanswered("Agent")),
            2 => remains.pods = Err(unanswered("Pod")),
            3 => claims_left(&mut remains, Err(unanswered("PersistentVolumeClaim"))),
            4 => drop(remains.children.insert(ChildKind::Service, Err(unanswered("Service")))),
            5 => drop(remains.children.remove(&ChildKind::Secret)),
            6 => remains.volumes = Err(unanswered("PersistentVolume")),
            _ => {}
        }
        remains.record = match self.pick(&[0, 0, 1, 2, 3]) {
            0 => Record::There(Arc::new(a_record())),
            1 => Record::Missing,
            2 => Record::NotKept,
            _ => Record::Unknown(unanswered("Tombstone")),
        };
        remains.settled_at = self.one_in(3).then(|| self.time());
        remains
    }
}

fn a_town(bytes: &[u8]) -> (TownBuilder, Timestamp) {
    let mut dice = Dice(bytes.iter());
    let now = dice.now();
    let mut built = dice.town();
    for name in ["toast", "nux", "mayor"].into_iter().take(dice.pick(&[0, 1, 2, 3])) {
        let agent = dice.agent(name);
        if dice.one_in(2) {
            let owner = agent.0.agent.metadata.name.clone().unwrap();
            built.0.pods.push(dice.pod(&owner));
        }
        built.0.agent_probes.insert(agent.0.uid, agent.0.probe);
        built.0.agents.push(agent.0.agent);
    }
    if dice.one_in(2) {
        built.0.pods.push(dice.pod("gas"));
    }
    built.0.claim = dice.claim("gas");
    built.0.freshness = dice.pick(&[Freshness::Live, Freshness::Cached]);
    built.0.reported_at = dice.one_in(2).then(|| dice.time());
    built.0.blocked_after = SignedDuration::from_secs(dice.pick(&[600, 1, 60]));
    if !dice.one_in(5) {
        let claims = built.0.claim.clone().into_iter().collect();
        let (agents, pods) = (built.0.agents.clone(), built.0.pods.clone());
        built.0.remains = Some(if dice.one_in(2) {
            dice.remains(vec![], vec![], vec![])
        } else {
            dice.remains(agents, pods, claims)
        });
    }
    (built, now)
}

fn an_agent(bytes: &[u8]) -> (AgentBuilder, Timestamp) {
    let mut dice = Dice(bytes.iter());
    let now = dice.now();
    let name = dice.pick(&["toast", "toast", "mayor"]);
    let mut built = dice.agent(name);
    let owner = built.0.agent.metadata.name.clone().unwrap();
    let freshness = dice.pick(&[Freshness::Live, Freshness::Cached]);
    let town = dice.town().facts();
    built.0.town = match dice.pick(&[0, 0, 0, 0, 1, 2]) {
        1 => TownView::Absent(freshness),
        2 => TownView::Unknown(unanswered("Town")),
        _ => TownView::Present(freshness, Box::new(town)),
    };
    built.0.pod = dice.one_in(2).then(|| dice.pod(&owner));
    built.0.claim = dice.claim(&owner);
    built.0.blocked_after = SignedDuration::from_secs(dice.pick(&[600, 1, 60]));
    if !dice.one_in(5) {
        let (pods, claims) = (built.0.pod.clone(), built.0.claim.clone());
        built.0.remains = Some(if dice.one_in(2) {
            dice.remains(vec![], vec![], vec![])
        } else {
            dice.remains(vec![], pods.into_iter().collect(), claims.into_iter().collect())
        });
        // An agent has no agents.
        built = built.remains(|r| r.agents = Ok(vec![]));
    }
    (built, now)
}

impl Dice<'_> {
    fn now(&mut self) -> Timestamp {
        minute(self.pick(&[1, 2, 3, 29, 30, 31, 61, 1500, 100_000]))
    }
}

fn creates<S>(plan: &Plan<S>) -> bool {
    let creates = |a: &Action| {
        matches!(a, Action::CreatePod | Action::CreateClaim | Action::CreateService | Action::CreateToken)
    };
    plan.actions.iter().any(creates)
}

/// Whether the plan writes without a request of a user. The status does not count.
fn writes<S>(plan: &Plan<S>) -> bool {
    !plan.actions.iter().all(|a| matches!(a, Action::Adopt { .. } | Action::DeleteAgent(..)))
}

fn deletes_itself<S>(plan: &Plan<S>) -> bool {
    plan.actions.contains(&Action::DeleteSelf)
}

fn lets_claims_go<S>(plan: &Plan<S>) -> bool {
    plan.actions.iter().any(|a| matches!(a, Action::RetainClaim(..)))
}

/// Whether the pod of this probe exists at this address.
fn can_be_asked(pods: &[PodFacts], ask: &crate::lifecycle::Ask) -> bool {
    let there = |p: &PodFacts| p.uid == ask.uid && p.address.as_ref() == Some(&ask.address);
    pods.iter().any(|p| there(p) && p.ready && !p.deleting() && !p.ended())
}

/// Whether a probe of this pod is in progress.
fn is_being_asked(s: &TownSnapshot, pod: &Uid) -> bool {
    let owner = s.pods.iter().find(|p| p.uid == *pod).and_then(|p| p.agent_uid.as_ref());
    owner.map_or(Some(&s.probe), |uid| s.agent_probes.get(uid)).is_some_and(|facts| facts.under_way)
}

fn is_asleep(conditions: &[Condition]) -> bool {
    conditions.iter().any(|c| c.type_ == condition::ASLEEP && c.status == "True")
}

/// Whether recent answers prove the absence of work: each pod with a probe has just answered.
fn is_known(s: &TownSnapshot) -> bool {
    let asked = |pod: Option<&PodFacts>| {
        pod.is_some_and(|p| p.ready && !p.deleting() && !p.ended() && p.address.is_some())
    };
    let own = s.town.spec.activity_probe.is_none() || !asked(s.pod()) || s.probe.report().is_some();
    let agents = s
        .agents
        .iter()
        .filter(|a| a.spec.activity_probe.is_some() && a.metadata.deletion_timestamp.is_none())
        // A paused agent is no work, whatever its pod does.
        .filter(|a| !is_paused(&a.metadata));
    own && agents.filter(|a| asked(s.pod_of(a))).all(|a| s.probe_of(a).is_some_and(|p| p.report().is_some()))
}

fn deletes<S>(plan: &Plan<S>) -> bool {
    let deletes = |a: &Action| {
        matches!(
            a,
            Action::DeletePod(..)
                | Action::DeleteAgent(..)
                | Action::ReleaseResult { .. }
                | Action::DeleteChild(..)
                | Action::RetainClaim(..)
        )
    };
    plan.actions.iter().any(deletes)
}

fn finishes<S>(plan: &Plan<S>) -> bool {
    plan.actions.contains(&Action::RemoveFinalizer)
}

fn dead(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() || tombstone(meta).is_some()
}

/// Whether every list was read and is empty, and no create is pending.
fn proven_gone(remains: Option<&Remains>, now: Timestamp) -> bool {
    remains.is_some_and(|r| {
        matches!(&r.agents, Ok(all) if all.is_empty())
            && matches!(&r.pods, Ok(all) if all.is_empty())
            && ChildKind::ALL
                .iter()
                .filter(|kind| **kind != ChildKind::Pod)
                .all(|kind| matches!(r.children.get(kind), Some(Ok(all)) if all.is_empty()))
            && r.volumes.is_ok()
            && r.settled_at.is_none_or(|at| at <= now)
    })
}

fn destroys(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// Whether the record of the destruction exists, or none is kept.
fn recorded(remains: Option<&Remains>) -> bool {
    remains.is_some_and(|r| matches!(r.record, Record::There(_) | Record::NotKept))
}

fn a_record() -> Tombstone {
    let spec = json!({"kind": "Town", "namespace": "ns", "name": "gas", "uid": uid("gas").as_str(), "cause": "Deleted",
        "deleteTime": "2030-01-01T00:00:00Z", "expireTime": "2030-01-08T00:00:00Z"});
    Tombstone::new("town-gas", serde_json::from_value(spec).unwrap())
}

/// Whether each type occurs exactly once, and Ready excludes Reconciling and Stalled. Exceptions: a new template waits
/// for the town to be idle, or the object is paused.
fn sound(conditions: &[Condition], types: &[&str]) -> bool {
    let is = |type_| conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
    let found: Vec<_> = conditions.iter().map(|c| c.type_.as_str()).collect();
    let lawful = |c: &Condition| {
        let known = ["True", "False"].contains(&c.status.as_str());
        !c.reason.is_empty() && (known || c.reason == reason::ACTIVITY_UNKNOWN)
    };
    let waits = conditions.iter().any(|c| {
        c.type_ == condition::RECONCILING
            && [reason::UPDATE_PENDING, reason::PAUSED].contains(&c.reason.as_str())
    });
    let under_way = is("Stalled") || (is("Reconciling") && !waits);
    found == types && conditions.iter().all(lawful) && !(is("Ready") && under_way)
}

/// Whether repeated decisions on the same facts and the written status soon produce no new write.
fn comes_to_rest(mut look: impl FnMut() -> bool) -> bool {
    // A pod whose stamps lie in the future takes four.
    (0..6).any(|_| look())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..420)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn towns(bytes in bytes()) {
        let (town, now) = a_town(&bytes);
        let plan = town.decide(now);
        let s = &town.0;
        let meta = &s.town.metadata;
        let about = || format!("{now}\n{s:#?}\n{plan:#?}");

        prop_assert!(!(creates(&plan) && dead(meta)), "a create for the dead\n{}", about());
        prop_assert!(plan.look_again.is_none_or(|at| at > now), "a deadline in the past\n{}", about());
        prop_assert!(!finishes(&plan) || proven_gone(s.remains.as_ref(), now), "let go unproven\n{}", about());
        prop_assert!(!finishes(&plan) || has_own_tombstone(meta), "let go without a tombstone\n{}", about());
        let last = |a: &Action| matches!(a, Action::GiveReceipts(..) | Action::RemoveFinalizer);
        prop_assert!(!finishes(&plan) || plan.actions.iter().all(last), "more after the last\n{}", about());
        prop_assert!(!(finishes(&plan) || deletes(&plan) && destroys(meta)) || recorded(s.remains.as_ref()), "no record\n{}", about());
        let destroys = meta.deletion_timestamp.is_some();
        prop_assert!(!(destroys && deletes(&plan) && !has_own_tombstone(meta)), "deletes too early\n{}", about());
        let data = plan.actions.iter().any(|a| matches!(a, Action::DeleteChild(ChildKind::PersistentVolumeClaim, ..) | Action::DeleteAgent(..)));
        prop_assert!(destroys || !data, "data of a living town is deleted\n{}", about());
        let foreign = meta.labels.as_ref().is_some_and(|l| l[names::INSTALL] != s.install);
        prop_assert!(!foreign || plan == Plan::nothing(), "touches what is not ours\n{}", about());
        let status = s.town.status.clone().unwrap_or_default();
        let ours = !foreign && meta.finalizers.is_some() && meta.labels.is_some();
        let paused = is_paused(meta) && !dead(meta);
        prop_assert!(!(paused && ours && writes(&plan)), "something is done about the paused\n{}", about());
        prop_assert!(!lets_claims_go(&plan) || has_own_tombstone(meta) && destroys, "a claim let go\n{}", about());
        let retained = s.town.spec.storage.as_ref().is_some_and(crate::api::Storage::is_retained);
        let own_claim = |a: &Action| matches!(a, Action::DeleteChild(ChildKind::PersistentVolumeClaim, key, _) if key.name == "gas-claim");
        prop_assert!(!(retained && plan.actions.iter().any(own_claim)), "retained, and deleted\n{}", about());
        if deletes_itself(&plan) {
            let expiry = s.town.spec.expiry.as_ref();
            let due = expiry.is_some_and(|e| e.policy == ExpiryPolicy::Destroy && e.time.0 <= now);
            prop_assert!(due && !dead(meta) && !paused, "it destroys itself\n{}", about());
            let born = meta.creation_timestamp.as_ref().map(|t| t.0);
            let lived = status.accepted_time.is_some();
            prop_assert!(lived || expiry.map(|e| e.time.0) > born, "before its birth\n{}", about());
        }
        let asleep = is_asleep(&status.conditions);
        for ask in &plan.asks {
            // A town that wakes in this decision may be probed.
            let sleeps = plan.status.as_ref().is_some_and(|s| is_asleep(&s.conditions));
            prop_assert!(!(dead(meta) || paused || sleeps), "asked\n{}", about());
            prop_assert!(can_be_asked(&s.pods, ask), "one is asked who cannot answer\n{}", about());
            prop_assert!(!is_being_asked(s, &ask.uid), "two questions at once\n{}", about());
        }
        let awake = !asleep && status.drain_time.is_none();
        let now_drains = plan.status.as_ref().is_some_and(|s| s.drain_time.is_some());
        if awake && now_drains && !is_known(s) {
            let why = plan.status.as_ref().and_then(|s| s.asleep_reason);
            prop_assert_ne!(why, Some(AsleepReason::Idle), "asleep without knowing\n{}", about());
        }
        if let Some(status) = &plan.status
            && is_asleep(&status.conditions)
            && !paused
        {
            prop_assert!(status.sleep_time.is_none() && plan.asks.is_empty(), "asleep with a clock\n{}", about());
        }
        if let Some(status) = &plan.status {
            // Paused objects keep their former status, even an unsound one.
            let expected = !paused || s.town.status.is_none();
            prop_assert!(!expected || sound(&status.conditions, &condition::OF_TOWN), "conditions\n{}", about());
            prop_assert!(!expected || status.phase.is_some(), "no phase\n{}", about());
            let mut settled = town.clone();
            prop_assert!(comes_to_rest(|| {
                let plan = settled.decide(now);
                let rests = !plan.actions.is_empty() || plan.status.is_none() || plan.status == settled.0.town.status;
                settled = settled.clone().after(&plan);
                rests
            }), "looks again and again\n{}\n{settled:#?}", about());
        }
        if s.town.status.as_ref().is_some_and(|s| s.drain_time.is_some()) && !dead(meta) {
            prop_assert!(!creates(&plan), "a create while falling asleep\n{}", about());
        }
    }

    #[test]
    fn agents(bytes in bytes()) {
        let (agent, now) = an_agent(&bytes);
        let plan = agent.decide(now);
        let s = &agent.0;
        let meta = &s.agent.metadata;
        let about = || format!("{now}\n{s:#?}\n{plan:#?}");
        let town: Option<&TownFacts> = match &s.town {
            TownView::Present(_, town) => Some(town),
            _ => None,
        };

        prop_assert!(!(creates(&plan) && dead(meta)), "a create for the dead\n{}", about());
        let town_runs = town.is_some_and(|t| t.awake && !t.deleting && !t.tombstoned);
        prop_assert!(!creates(&plan) || town_runs, "a create in a town that is not awake\n{}", about());
        let bound = meta.labels.as_ref().and_then(|l| l.get(names::TOWN_UID)).map(Uid::new);
        prop_assert!(!creates(&plan) || bound == town.map(|t| t.uid.clone()), "another town's\n{}", about());
        prop_assert!(plan.look_again.is_none_or(|at| at > now), "a deadline in the past\n{}", about());
        prop_assert!(!finishes(&plan) || proven_gone(s.remains.as_ref(), now), "let go unproven\n{}", about());
        let destroys = meta.deletion_timestamp.is_some();
        let with_town = town.is_some_and(|t| t.deleting && t.own_tombstone && bound.as_ref() == Some(&t.uid));
        let stone = has_own_tombstone(meta) || with_town;
        prop_assert!(!(destroys && (deletes(&plan) || finishes(&plan)) && !stone), "too early\n{}", about());
        let claims = plan.actions.iter().any(|a| matches!(a, Action::DeleteChild(ChildKind::PersistentVolumeClaim, ..)));
        prop_assert!(destroys || !claims, "data of a living agent is deleted\n{}", about());
        if plan.actions.iter().any(|a| matches!(a, Action::DeleteAgent(..))) {
            let live = matches!(&s.town, TownView::Present(Freshness::Live, t) if t.rigs.iter().all(|r| r.name != "rig"));
            prop_assert!(live && s.agent.spec.rig.is_some() && !town.unwrap().tombstoned, "{}", about());
        }
        let foreign = meta.labels.as_ref().is_some_and(|l| l[names::INSTALL] != s.install);
        prop_assert!(!foreign || plan == Plan::nothing(), "touches what is not ours\n{}", about());
        if let (Some(hook), Some(work)) = (&s.agent.spec.hook, s.agent.status.as_ref().and_then(|s| s.work.as_ref())) {
            let task = crate::lifecycle::mode(&s.agent) == crate::api::Mode::Task;
            let starts = plan.actions.contains(&Action::CreatePod);
            prop_assert!(!(task && starts && work.done.contains(&hook.bead)), "done, again\n{}", about());
            let open = work.bead == hook.bead && work.start_time.is_some() && work.finish_time.is_none();
            prop_assert!(!(task && starts) || open, "a pod before its record\n{}", about());
        }
        if let Some(Action::Adopt { town_uid }) = plan.actions.first() {
            prop_assert!(bound.is_none() || bound == *town_uid, "bound anew\n{}", about());
            prop_assert!(town.is_some_and(|t| t.adopted && !t.deleting && !t.tombstoned), "{}", about());
        }
        prop_assert!(!plan.actions.contains(&Action::CreatePod) || s.pod.is_none(), "a second pod\n{}", about());
        let ours = !foreign && meta.finalizers.is_some() && bound.is_some();
        let town_stops = town.is_none_or(|t| t.tombstoned && !t.deleting || bound.as_ref() != Some(&t.uid));
        let held = (is_paused(meta) || town.is_some_and(|t| t.paused)) && !dead(meta);
        let paused = held && ours && !town_stops;
        // The only exception is a pod that was deleted and has ended: its release lets the town sleep.
        let lets_go = s.pod.as_ref().is_some_and(|pod| pod.ended() && pod.deleting())
            && plan.actions.iter().all(|a| matches!(a, Action::ReleaseResult { .. }))
            && town.is_some_and(|t| !t.paused);
        prop_assert!(!paused || !writes(&plan) || lets_go, "something is done about the paused\n{}", about());
        let stone_of_claims = destroys && stone;
        prop_assert!(!lets_claims_go(&plan) || stone_of_claims, "a claim let go\n{}", about());
        let retained = s.agent.spec.storage.as_ref().is_some_and(crate::api::Storage::is_retained);
        prop_assert!(!(retained && claims), "retained, and deleted\n{}", about());
        if deletes_itself(&plan) {
            let status = s.agent.status.clone().unwrap_or_default();
            let work = status.work.unwrap_or_default();
            let ttl = s.agent.spec.ttl_after_finished.as_ref().map(crate::api::Duration::get);
            let over = ttl.zip(work.finish_time).is_some_and(|(ttl, at)| at.0 + ttl <= now);
            let recorded = ["Done", "Failed"].iter().any(|p| status.phase.as_deref() == Some(p));
            prop_assert!(over && recorded && !dead(meta) && s.pod.is_none(), "it deletes itself\n{}", about());
        }
        for ask in &plan.asks {
            let awake = town.is_some_and(|t| t.awake && !t.tombstoned);
            prop_assert!(awake && !held && !dead(meta), "one is asked who sleeps\n{}", about());
            prop_assert!(can_be_asked(s.pod.as_slice(), ask) && !s.probe.under_way, "asked in vain\n{}", about());
        }
        if let Some(status) = &plan.status {
            let expected = !held || s.agent.status.is_none();
            prop_assert!(!expected || sound(&status.conditions, &condition::OF_AGENT), "conditions\n{}", about());
            prop_assert!(!expected || status.phase.is_some(), "no phase\n{}", about());
            let done = |s: &AgentStatus| s.work.as_ref().map(|w| w.done.clone()).unwrap_or_default();
            let before = s.agent.status.as_ref().map(done).unwrap_or_default();
            prop_assert!(before.iter().all(|b| done(status).contains(b)), "done is forgotten\n{}", about());
            let mut settled = agent.clone();
            prop_assert!(comes_to_rest(|| {
                let plan = settled.decide(now);
                let rests = !plan.actions.is_empty() || plan.status.is_none() || plan.status == settled.0.agent.status;
                settled = settled.clone().after(&plan);
                rests
            }), "looks again and again\n{}\n{settled:#?}", about());
        }
    }

    /// A wake is never lost: each reason to wake a sleeping town also turns back the last check.
    #[test]
    fn drain_is_cancelled_by_every_reason_that_wakes_a_sleeping_town(bytes in bytes()) {
        let (town, now) = a_town(&bytes);
        let alive = town.edit(|t| {
            t.metadata.deletion_timestamp = None;
            t.metadata.annotations = None;
        });
        let decide = |asleep: bool, draining: bool| {
            let town = alive.clone().live().status(|s| {
                super::build::set(&mut s.conditions, condition::ASLEEP, asleep, reason::IDLE);
                s.drain_time = draining.then_some(Time(now));
                s.asleep_reason = Some(AsleepReason::Idle);
            });
            town.decide(now)
        };
        // The next attempt of a failed agent wakes a town, but does not keep it awake.
        let woken = decide(true, false).note.is_some_and(|note| !note.contains("next attempt is due"));
        let turned_back = decide(false, true).note.is_some();
        // The reverse is not required: the last check also turns back for agents whose activity is unknown.
        prop_assert!(!woken || turned_back, "{}\n{:#?}", now, alive.0);
    }
}

// The answer of each town is too old for a town with work and recent enough for one without. The second town drains
// because its activity is unknown.
#[test]
fn town_status_settles_when_its_answer_is_valid_at_one_interval_only() {
    #[rustfmt::skip]
    let towns: [&[u8]; 2] = [
        &[
            56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 15, 114, 44, 64, 0, 41, 0, 0, 125, 0, 0, 0, 4, 0, 0, 0,
            0, 155, 0, 0, 0, 0, 0, 110, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11, 0, 1, 0, 0, 8, 0, 0, 0, 43,
            0, 0, 43, 0, 47, 0, 0, 35, 1, 0, 29, 0, 0, 137, 0, 0, 8, 0, 3, 0, 4, 60, 6, 168, 0, 0, 0, 71, 134, 112, 0,
            36, 0, 0, 4, 0, 31, 0, 61, 0, 0, 43, 0, 0, 12, 12, 0, 0, 0, 0, 0, 74, 80, 0, 0, 124, 0, 0, 52, 0, 20, 56,
            20, 27, 0, 0, 4, 0, 0, 0, 0, 0, 0, 56, 0, 0, 36, 2, 0, 0, 0, 129, 70, 0, 6, 0, 143, 0, 12, 0, 0, 0, 35, 0,
            0, 0, 29, 41, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 0, 194, 151, 0, 50, 0, 0, 12, 27, 9,
            137, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 7, 0, 15, 225
        ],
        &[
            118, 0, 0, 0, 25, 0, 0, 0, 69, 0, 0, 0, 0, 220, 0, 51, 27, 54, 24, 4, 0, 34, 41, 58, 0, 0, 0, 91, 0, 90,
            14, 0, 0, 0, 0, 115, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 12, 15, 9, 0, 0, 1, 0, 0, 83, 0, 182, 170, 44, 72, 7, 0, 44, 0, 0, 29, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12,
            102, 0, 0, 6, 0, 172, 7
        ],
    ];
    for bytes in towns {
        let (mut town, now) = a_town(bytes);
        assert!(comes_to_rest(|| {
            let plan = town.decide(now);
            let rests = plan.status == town.0.town.status;
            town = town.clone().after(&plan);
            rests
        }));
    }
}
