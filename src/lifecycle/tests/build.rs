//! Builders for snapshots: a town, an agent, a pod.
//!
//! The tests share one calendar: everything was created at minute 0.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::api::condition::{self, reason};
use crate::api::{
    ActivityProbe, ActivityReport, Agent, AgentStatus, AsleepReason, Backlog, Duration, Expiry, ExpiryPolicy,
    Hook, Outcome, PodStatus, Port, ReportedAgent, ReportedState, RestartsStatus, Rig, Storage, Town,
    TownStatus, WorkStatus, names,
};
use crate::lifecycle::{
    AgentSnapshot, ChildFacts, ChildKind, ClaimFacts, Freshness, ObjectKey, Plan, PodFacts, PodPhase,
    ProbeFacts, Record, Remains, ServiceFacts, Standing, Termination, TownFacts, TownSnapshot, TownView, Uid,
    Unknown, decide_agent, decide_town,
};

/// The installation of the operator that decides.
pub const HERE: &str = "here";

/// The time this number of minutes after the creation.
pub fn minute(minutes: i64) -> Timestamp {
    second(minutes * 60)
}

/// The time this number of seconds after the creation.
pub fn second(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_893_456_000 + seconds).unwrap()
}

/// UIDs that a reader of a story can distinguish.
pub fn uid(name: &str) -> Uid {
    let digit = match name {
        "gas" => 1,
        "mayor" => 2,
        "toast" => 3,
        "nux" => 4,
        other => 10 + other.bytes().map(u32::from).sum::<u32>(),
    };
    Uid::new(format!("{digit:08x}-0000-4000-8000-000000000000"))
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "ns".into(), name: name.into() }
}

fn adopted(name: &str, more: &[(&str, &str)]) -> ObjectMeta {
    let labels = [(names::INSTALL, HERE)].iter().chain(more).map(|&(k, v)| (k.to_owned(), v.to_owned()));
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some("ns".into()),
        uid: Some(uid(name).to_string()),
        generation: Some(1),
        creation_timestamp: Some(Time(minute(0))),
        finalizers: Some(vec![names::FINALIZER.into()]),
        labels: Some(labels.collect()),
        ..ObjectMeta::default()
    }
}

fn annotate(meta: &mut ObjectMeta, key: &str, value: String) {
    meta.annotations.get_or_insert_with(BTreeMap::new).insert(key.into(), value);
}

/// Sets one condition of a status.
pub fn set(conditions: &mut Vec<Condition>, type_: &str, status: bool, reason: &str) {
    conditions.retain(|c| c.type_ != type_);
    conditions.push(Condition {
        type_: type_.into(),
        status: if status { "True" } else { "False" }.into(),
        reason: reason.into(),
        message: String::new(),
        observed_generation: Some(1),
        last_transition_time: Time(minute(0)),
    });
}

/// A town: adopted, with a pod template, the rig "rig", no agents, and no decision yet.
pub fn town() -> TownBuilder {
    let template = json!({"spec": {"containers": [{"name": "main", "image": "busybox"}]}});
    let spec = json!({"template": template, "agentTemplate": template, "rigs": [{"name": "rig"}]});
    let mut town = Town::new("gas", serde_json::from_value(spec).unwrap());
    town.metadata = adopted("gas", &[]);
    TownBuilder(TownSnapshot {
        service: None,
        probe: ProbeFacts::default(),
        agent_probes: HashMap::new(),
        revision: "r1".into(),
        secrets: None,
        may_start: true,
        attach_max_hold: SignedDuration::from_hours(12),
        admission_policies: true,
        town: Arc::new(town),
        uid: uid("gas"),
        install: HERE.into(),
        agents: Vec::new(),
        pods: Vec::new(),
        strays: Vec::new(),
        ownerless: Vec::new(),
        claim: None,
        freshness: Freshness::Cached,
        remains: None,
        gone_pods: Vec::new(),
        forbidden_by: None,
        reported_at: None,
        blocked_after: SignedDuration::from_mins(10),
        max_retention: SignedDuration::from_hours(168),
    })
}

/// A rig with only a name, as the API server stores it.
pub fn rig(name: &str) -> Rig {
    serde_json::from_value(json!({"name": name})).unwrap()
}

/// An awake town whose pod has been Ready since minute 0.
pub fn running_town() -> TownBuilder {
    let started = pod("gas").ready();
    town().awake().pod(started)
}

/// A running town whose rig has this limit of polecats.
pub fn narrow_rig(limit: i32) -> TownBuilder {
    running_town().edit(|t| t.spec.rigs[0].max_polecats = Some(limit))
}

#[derive(Clone, Debug)]
pub struct TownBuilder(pub TownSnapshot);

impl TownBuilder {
    pub fn edit(mut self, change: impl FnOnce(&mut Town)) -> Self {
        change(Arc::make_mut(&mut self.0.town));
        self
    }

    pub fn status(self, change: impl FnOnce(&mut TownStatus)) -> Self {
        self.edit(|t| change(t.status.get_or_insert_default()))
    }

    pub fn no_template(self) -> Self {
        self.edit(|t| t.spec.template = None)
    }

    pub fn no_agent_template(self) -> Self {
        self.edit(|t| t.spec.agent_template = None)
    }

    pub fn storage(self) -> Self {
        self.edit(|t| t.spec.storage = Some(serde_json::from_value(json!({"size": "1Gi"})).unwrap()))
    }

    /// Adds a volume with this storage spec.
    pub fn volume(self, storage: &serde_json::Value) -> Self {
        self.edit(|t| t.spec.storage = Some(a_volume(storage)))
    }

    /// Adds an activity probe.
    pub fn asked(self) -> Self {
        self.edit(|t| t.spec.activity_probe = Some(probe()))
    }

    /// The pod gave this answer to a probe at that time.
    pub fn heard(mut self, at: Timestamp, report: ActivityReport) -> Self {
        self = self.asked();
        take_in(&mut self.0.probe, at, report, None);
        self
    }

    /// The pod has not answered this number of probes since then. `last` is the time of the last one.
    pub fn silent(mut self, failures: u32, since: Timestamp, last: Timestamp) -> Self {
        self = self.asked();
        self.0.probe = unheard(failures, since, last);
        self
    }

    pub fn backlog(self, merge_requests: i32, triage: i32, unassigned: i32) -> Self {
        self.edit(|t| t.spec.backlog = Backlog { merge_requests, triage, unassigned })
    }

    pub fn expires(self, at: Timestamp, policy: ExpiryPolicy) -> Self {
        self.edit(|t| t.spec.expiry = Some(Expiry { time: Time(at), policy }))
    }

    pub fn ports(self, ports: &[i32]) -> Self {
        self.edit(|t| t.spec.ports = numbered(ports))
    }

    /// Adds a Service with these ports.
    pub fn service(mut self, ports: &[i32]) -> Self {
        self.0.service = Some(ServiceFacts {
            child: child(ChildKind::Service, "gas"),
            ports: numbered(ports).iter().map(Port::resolved).collect(),
        });
        self
    }

    /// Sets the revision of a new pod.
    pub fn revision(mut self, revision: &str) -> Self {
        self.0.revision = revision.into();
        self
    }

    /// Other towns have precedence for a start.
    pub fn not_its_turn(mut self) -> Self {
        self.0.may_start = false;
        self
    }

    pub fn paused(self) -> Self {
        self.edit(|t| annotate(&mut t.metadata, names::PAUSED, "true".into()))
    }

    pub fn restart_at(self, value: &str) -> Self {
        self.edit(|t| annotate(&mut t.metadata, names::RESTART_AT, value.into()))
    }

    /// The spec was edited after the last write of the status.
    pub fn edited(self) -> Self {
        self.status(|s| s.observed_generation = Some(1)).edit(|t| t.metadata.generation = Some(2))
    }

    pub fn rigs(self, names: &[&str]) -> Self {
        self.edit(|t| t.spec.rigs = names.iter().map(|&name| rig(name)).collect())
    }

    pub fn sleep_after(self, text: &str) -> Self {
        self.edit(|t| t.spec.sleep_after = Duration::new(text))
    }

    pub fn drain(self, text: &str) -> Self {
        self.edit(|t| t.spec.drain.timeout = Duration::new(text))
    }

    pub fn always_on(self) -> Self {
        self.edit(|t| t.spec.always_on = true)
    }

    pub fn suspended(self) -> Self {
        self.edit(|t| t.spec.suspend = true)
    }

    pub fn protected(self) -> Self {
        self.edit(|t| t.spec.deletion_protection = true)
    }

    pub fn wake_request(self, text: &str) -> Self {
        self.edit(|t| t.spec.wake_request = text.into())
    }

    pub fn awake(self) -> Self {
        self.status(|s| {
            set(&mut s.conditions, condition::ASLEEP, false, reason::AWAKE);
            s.accepted_time = Some(Time(minute(0)));
        })
    }

    /// The status records work.
    pub fn active(self) -> Self {
        self.status(|s| set(&mut s.conditions, condition::ACTIVE, true, reason::WORK))
    }

    pub fn last_active(self, at: Timestamp) -> Self {
        self.status(|s| s.last_active_time = Some(Time(at)))
    }

    pub fn woke(self, at: Timestamp) -> Self {
        self.status(|s| s.wake_time = Some(Time(at)))
    }

    pub fn created(self, at: Timestamp) -> Self {
        self.edit(|t| t.metadata.creation_timestamp = Some(Time(at)))
    }

    /// Marked as falling asleep, with live facts.
    pub fn draining(self, why: AsleepReason, since: Timestamp) -> Self {
        self.awake()
            .status(|s| {
                s.drain_time = Some(Time(since));
                s.asleep_reason = Some(why);
            })
            .live()
    }

    pub fn asleep(self, why: AsleepReason) -> Self {
        self.status(|s| {
            set(&mut s.conditions, condition::ASLEEP, true, reason::IDLE);
            s.accepted_time = Some(Time(minute(0)));
            s.asleep_reason = Some(why);
        })
    }

    pub fn live(mut self) -> Self {
        self.0.freshness = Freshness::Live;
        self
    }

    /// Adds a pod of the town itself.
    pub fn pod(mut self, pod: PodBuilder) -> Self {
        self.0.pods.push(pod.0);
        self
    }

    /// Adds an agent, with its pod if it has one.
    pub fn with(mut self, agent: AgentBuilder) -> Self {
        self.0.agents.push(agent.0.agent);
        self.0.pods.extend(agent.0.pod);
        self.0.agent_probes.insert(agent.0.uid, agent.0.probe);
        self
    }

    pub fn without_agents(mut self) -> Self {
        self.0.pods.retain(|pod| pod.agent_uid.is_none());
        self.0.agents.clear();
        self.0.agent_probes.clear();
        self
    }

    pub fn claim(mut self, claim: ClaimFacts) -> Self {
        self.0.claim = Some(claim);
        self
    }

    pub fn recorded_pod(self, created: Timestamp) -> Self {
        self.status(|s| s.pod = Some(pod_status("gas", created)))
    }

    /// The start began at this time, and the pod has not been Ready since.
    pub fn start_began(self, at: Timestamp) -> Self {
        self.status(|s| s.start_time = Some(Time(at)))
    }

    pub fn restarts(self, count: i32, since: Timestamp) -> Self {
        self.status(|s| s.restarts = Some(failures(count, since)))
    }

    pub fn not_adopted(self) -> Self {
        self.edit(|t| {
            t.metadata.finalizers = None;
            t.metadata.labels = None;
        })
    }

    /// Assigns the town to another installation.
    pub fn foreign(self) -> Self {
        self.edit(|t| t.metadata.labels = Some(BTreeMap::from([(names::INSTALL.into(), "elsewhere".into())])))
    }

    pub fn tombstone(self, value: &str) -> Self {
        self.edit(|t| annotate(&mut t.metadata, names::TOMBSTONE, value.into()))
    }

    pub fn deleting(self, at: Timestamp) -> Self {
        self.edit(|t| t.metadata.deletion_timestamp = Some(Time(at)))
    }

    /// In destruction since this time: deleted, with its own tombstone.
    pub fn destroying(self, at: Timestamp) -> Self {
        let value = format!("{}@{at}", uid("gas"));
        self.deleting(at).tombstone(&value).live().status(|s| {
            s.destroy = Some(crate::api::DestroyStatus {
                start_time: Time(at),
                step: crate::api::DestroyStep::Tombstone,
                blocked_by: Vec::new(),
            });
        })
    }

    /// Changes the result of the live lists of the town's children.
    pub fn remains(mut self, change: impl FnOnce(&mut Remains)) -> Self {
        change(self.0.remains.get_or_insert_with(nothing_left));
        self
    }

    /// The live lists return exactly the agents, pods and claim of the snapshot.
    pub fn remains_as_seen(self) -> Self {
        let (agents, pods) = (self.0.agents.clone(), self.0.pods.clone());
        let claims = self.0.claim.clone().into_iter().collect();
        self.remains(|r| {
            r.agents = Ok(agents);
            r.pods = Ok(pods);
            claims_left(r, Ok(claims));
        })
    }

    pub fn decide(&self, now: Timestamp) -> Plan<TownStatus> {
        decide_town(&self.0, now)
    }

    /// Applies the status of the plan, as its write does.
    pub fn after(mut self, plan: &Plan<TownStatus>) -> Self {
        if let Some(status) = &plan.status {
            Arc::make_mut(&mut self.0.town).status = Some(status.clone());
        }
        self
    }

    /// The state after the write of a decision at this time.
    pub fn settled(self, now: Timestamp) -> Self {
        let plan = self.decide(now);
        self.after(&plan)
    }

    pub fn facts(&self) -> TownFacts {
        TownFacts::of(&self.0.town, HERE).unwrap()
    }
}

/// The live lists are empty, and no create is pending.
pub fn nothing_left() -> Remains {
    let mut remains = Remains::of(Record::NotKept);
    for kind in ChildKind::ALL {
        remains.children.insert(kind, Ok(Vec::new()));
    }
    remains
}

/// Sets the result of the list of claims.
pub fn claims_left(r: &mut Remains, said: Result<Vec<ClaimFacts>, Unknown>) {
    let said = said.map(|claims| claims.into_iter().map(|claim| claim.child).collect());
    r.children.insert(ChildKind::PersistentVolumeClaim, said);
}

pub fn unanswered(kind: &'static str) -> Unknown {
    Unknown { kind, message: "the server is down".into() }
}

pub fn claim(owner: &str) -> ClaimFacts {
    let child = ChildFacts {
        kind: ChildKind::PersistentVolumeClaim,
        key: key(&format!("{owner}-claim")),
        uid: uid(&format!("{owner}-claim")),
        town_uid: Some(uid("gas")),
        agent_uid: (owner != "gas").then(|| uid(owner)),
        install: Some(HERE.into()),
        deleting: false,
        finalizers: Vec::new(),
        of_pod: false,
        retain: false,
        copied: None,
    };
    ClaimFacts { child, lost: false, requested: None, capacity: None }
}

/// The claim, being deleted.
pub fn going(mut claim: ClaimFacts) -> ClaimFacts {
    claim.child.deleting = true;
    claim
}

fn pod_status(owner: &str, created: Timestamp) -> PodStatus {
    PodStatus {
        container_restarts: 0,
        name: Some(format!("{owner}-pod")),
        uid: Some(uid(&format!("{owner}-pod")).to_string()),
        node_name: None,
        start_time: Some(Time(created)),
        ready_time: None,
    }
}

/// A number of consecutive failed starts; the last one at this time.
pub fn failures(count: i32, last: Timestamp) -> RestartsStatus {
    let failure_time = Some(Time(last));
    RestartsStatus {
        count,
        window_start_time: failure_time.clone(),
        failure_time,
        message: "exit code 1".into(),
        ..RestartsStatus::default()
    }
}

/// An agent of mode Task, bound to a running town, with an empty hook.
pub fn polecat(name: &str) -> AgentBuilder {
    agent(name, &json!({"townName": "gas", "role": "Polecat", "rig": "rig"}))
}

/// An agent of mode Session, bound to a running town.
pub fn mayor() -> AgentBuilder {
    agent("mayor", &json!({"townName": "gas", "role": "Mayor"}))
}

fn agent(name: &str, spec: &serde_json::Value) -> AgentBuilder {
    let mut agent = Agent::new(name, serde_json::from_value(spec.clone()).unwrap());
    agent.metadata = adopted(name, &[(names::TOWN_UID, uid("gas").as_str())]);
    let snapshot = AgentSnapshot {
        probe: ProbeFacts::default(),
        revision: "r1".into(),
        secrets: None,
        standing: Standing::Free,
        creates_settle_at: None,
        agent: Arc::new(agent),
        uid: uid(name),
        install: HERE.into(),
        town: TownView::Unknown(unanswered("Town")),
        pod: None,
        claim: None,
        remains: None,
        town_record: None,
        forbidden_by: None,
        blocked_after: SignedDuration::from_mins(10),
        max_retention: SignedDuration::from_hours(168),
    };
    AgentBuilder(snapshot).of(&running_town())
}

#[derive(Clone, Debug)]
pub struct AgentBuilder(pub AgentSnapshot);

impl AgentBuilder {
    pub fn edit(mut self, change: impl FnOnce(&mut Agent)) -> Self {
        change(Arc::make_mut(&mut self.0.agent));
        self
    }

    pub fn status(self, change: impl FnOnce(&mut AgentStatus)) -> Self {
        self.edit(|a| change(a.status.get_or_insert_default()))
    }

    fn work(self, change: impl FnOnce(&mut WorkStatus)) -> Self {
        self.status(|s| change(s.work.get_or_insert_default()))
    }

    /// With its town in the state of the watch cache.
    pub fn of(mut self, town: &TownBuilder) -> Self {
        self.0.town = TownView::Present(Freshness::Cached, Box::new(town.facts()));
        self
    }

    /// With its town in the state of a live read.
    pub fn of_live(mut self, town: &TownBuilder) -> Self {
        self.0.town = TownView::Present(Freshness::Live, Box::new(town.facts()));
        self
    }

    /// Without a town of that name.
    pub fn townless(mut self, freshness: Freshness) -> Self {
        self.0.town = TownView::Absent(freshness);
        self
    }

    /// The API server does not answer about the town.
    pub fn town_unknown(mut self) -> Self {
        self.0.town = TownView::Unknown(unanswered("Town"));
        self
    }

    pub fn hook(self, bead: &str) -> Self {
        self.edit(|a| a.spec.hook = Some(hook(bead)))
    }

    pub fn storage(self) -> Self {
        self.edit(|a| a.spec.storage = Some(serde_json::from_value(json!({"size": "1Gi"})).unwrap()))
    }

    /// Adds a volume with this storage spec.
    pub fn volume(self, storage: &serde_json::Value) -> Self {
        self.edit(|a| a.spec.storage = Some(a_volume(storage)))
    }

    pub fn created(self, at: Timestamp) -> Self {
        self.edit(|a| a.metadata.creation_timestamp = Some(Time(at)))
    }

    /// Adds an activity probe.
    pub fn asked(self) -> Self {
        self.edit(|a| a.spec.activity_probe = Some(probe()))
    }

    /// The pod gave this answer to a probe at that time.
    pub fn heard(mut self, at: Timestamp, report: ActivityReport) -> Self {
        self = self.asked();
        let uid = self.0.uid.clone();
        take_in(&mut self.0.probe, at, report, Some(&uid));
        self
    }

    /// A probe that was sent at that time showed a state other than done and failed.
    pub fn seen_unfinished(mut self, at: Timestamp) -> Self {
        self.0.probe.unfinished_at = Some(at);
        self
    }

    /// The pod has not answered this number of probes since then. `last` is the time of the last one.
    pub fn silent(mut self, failures: u32, since: Timestamp, last: Timestamp) -> Self {
        self = self.asked();
        self.0.probe = unheard(failures, since, last);
        self
    }

    pub fn standing(mut self, standing: Standing) -> Self {
        self.0.standing = standing;
        self
    }

    /// Sets the revision of a new pod.
    pub fn revision(mut self, revision: &str) -> Self {
        self.0.revision = revision.into();
        self
    }

    pub fn paused(self) -> Self {
        self.edit(|a| annotate(&mut a.metadata, names::PAUSED, "true".into()))
    }

    pub fn restart_at(self, value: &str) -> Self {
        self.edit(|a| annotate(&mut a.metadata, names::RESTART_AT, value.into()))
    }

    /// The agent deletes itself this long after its end.
    pub fn ttl(self, text: &str) -> Self {
        self.edit(|a| a.spec.ttl_after_finished = Some(Duration::new(text)))
    }

    /// The spec was edited after the last write of the status.
    pub fn edited(self) -> Self {
        self.status(|s| s.observed_generation = Some(1)).edit(|a| a.metadata.generation = Some(2))
    }

    pub fn retry(self, limit: i32, window: &str) -> Self {
        self.edit(|a| {
            a.spec.retry.limit = limit;
            a.spec.retry.window = Duration::new(window);
        })
    }

    /// The `attempts`th attempt at the bead. It began at this time and has no outcome.
    pub fn attempt(self, bead: &str, attempts: i32, began: Timestamp) -> Self {
        self.work(|w| {
            bead.clone_into(&mut w.bead);
            w.attempts = attempts;
            w.window_start_time.get_or_insert(Time(began));
            w.start_time = Some(Time(began));
            w.finish_time = None;
            w.outcome = None;
        })
    }

    /// The attempt ended at this time, not as done.
    pub fn ended(self, outcome: Outcome, at: Timestamp) -> Self {
        self.work(|w| {
            w.finish_time = Some(Time(at));
            w.outcome = Some(outcome);
            w.message = "exit code 1".into();
        })
    }

    /// The record of done beads.
    pub fn done(self, beads: &[&str]) -> Self {
        self.work(|w| {
            w.done = beads.iter().map(|&b| b.to_owned()).collect();
            if let Some(last) = beads.last() {
                (*last).clone_into(&mut w.bead);
            }
        })
    }

    /// The status records that the bead on the hook has passed its limit of retries.
    pub fn failed(self, bead: &str, at: Timestamp) -> Self {
        self.hook(bead).attempt(bead, 5, at).ended(Outcome::Failed, at).status(|s| {
            set(&mut s.conditions, condition::DEGRADED, true, reason::RETRY_LIMIT_EXCEEDED);
        })
    }

    /// The status records that the agent cannot run without an action of a user.
    pub fn stalled(self) -> Self {
        self.status(|s| set(&mut s.conditions, condition::STALLED, true, reason::NO_TEMPLATE))
    }

    /// A first status: a reconcile has checked whether the agent can run.
    pub fn seen(self) -> Self {
        self.status(|s| set(&mut s.conditions, condition::READY, false, reason::STARTING))
    }

    /// The status records a start.
    pub fn started(self) -> Self {
        self.status(|s| s.pod = Some(PodStatus { start_time: Some(Time(minute(0))), ..PodStatus::default() }))
    }

    /// The start began at this time, and the pod has not been Ready since.
    pub fn start_began(self, at: Timestamp) -> Self {
        self.status(|s| s.start_time = Some(Time(at)))
    }

    /// The status records a pod that was created at this time.
    pub fn recorded_pod(self, created: Timestamp) -> Self {
        let record = pod_status(self.0.agent.metadata.name.as_deref().unwrap(), created);
        self.status(|s| s.pod = Some(record))
    }

    pub fn restarts(self, count: i32, since: Timestamp) -> Self {
        self.status(|s| s.restarts = Some(failures(count, since)))
    }

    /// The status records the delivery of the bead.
    pub fn delivered(self, bead: &str) -> Self {
        self.work(|w| {
            bead.clone_into(&mut w.bead);
            w.start_time = Some(Time(minute(0)));
        })
    }

    pub fn pod(mut self, change: impl FnOnce(PodBuilder) -> PodBuilder) -> Self {
        let owner = self.0.agent.metadata.name.clone().unwrap();
        let mut facts = change(pod(&owner)).0;
        facts.hook = facts.hook.or_else(|| self.0.agent.spec.hook.clone());
        if crate::lifecycle::mode(&self.0.agent) == crate::api::Mode::Task && facts.finalizers.is_empty() {
            facts.finalizers = vec!["elsewhere/hold".into(), names::RESULT_FINALIZER.into()];
        }
        self.0.pod = Some(facts);
        self
    }

    /// Adds a pod that runs and is Ready.
    pub fn running(self) -> Self {
        self.pod(PodBuilder::ready)
    }

    pub fn claim(mut self, claim: ClaimFacts) -> Self {
        self.0.claim = Some(claim);
        self
    }

    pub fn unbound(self) -> Self {
        self.edit(|a| {
            a.metadata.finalizers = None;
            a.metadata.labels = None;
        })
    }

    pub fn bound_to(self, town: &Uid) -> Self {
        self.edit(|a| {
            let labels = a.metadata.labels.get_or_insert_default();
            labels.insert(names::TOWN_UID.into(), town.to_string());
        })
    }

    /// Assigns the agent to another installation.
    pub fn foreign(self) -> Self {
        self.edit(|a| {
            let labels = a.metadata.labels.get_or_insert_default();
            labels.insert(names::INSTALL.into(), "elsewhere".into());
        })
    }

    pub fn tombstone(self, value: &str) -> Self {
        self.edit(|a| annotate(&mut a.metadata, names::TOMBSTONE, value.into()))
    }

    pub fn own_tombstone(self, at: Timestamp) -> Self {
        let value = format!("{}@{at}", self.0.uid);
        self.tombstone(&value)
    }

    pub fn deleting(self, at: Timestamp) -> Self {
        self.edit(|a| a.metadata.deletion_timestamp = Some(Time(at)))
    }

    pub fn remains(mut self, change: impl FnOnce(&mut Remains)) -> Self {
        change(self.0.remains.get_or_insert_with(nothing_left));
        self
    }

    /// The live lists return exactly the pod and claim of the snapshot.
    pub fn remains_as_seen(self) -> Self {
        let pods = self.0.pod.clone().into_iter().collect();
        let claims = self.0.claim.clone().into_iter().collect();
        self.remains(|r| {
            r.pods = Ok(pods);
            claims_left(r, Ok(claims));
        })
    }

    pub fn decide(&self, now: Timestamp) -> Plan<AgentStatus> {
        decide_agent(&self.0, now)
    }

    /// Applies the status of the plan, as its write does.
    pub fn after(mut self, plan: &Plan<AgentStatus>) -> Self {
        if let Some(status) = &plan.status {
            Arc::make_mut(&mut self.0.agent).status = Some(status.clone());
        }
        self
    }

    /// The state after the write of a decision at this time.
    pub fn settled(self, now: Timestamp) -> Self {
        let plan = self.decide(now);
        self.after(&plan)
    }
}

/// A volume as the API server stores it.
fn a_volume(storage: &serde_json::Value) -> Storage {
    serde_json::from_value(storage.clone()).unwrap()
}

fn probe() -> ActivityProbe {
    serde_json::from_value(json!({"port": 8080})).unwrap()
}

fn numbered(ports: &[i32]) -> Vec<Port> {
    ports.iter().map(|&port| port_of(&format!("p{port}"), port)).collect()
}

/// A port with default values.
pub fn port_of(name: &str, port: i32) -> Port {
    Port { name: name.into(), port, target_port: None, protocol: None, app_protocol: None }
}

/// A child of the owner, with default facts.
pub fn child(kind: ChildKind, owner: &str) -> ChildFacts {
    ChildFacts {
        kind,
        key: key(&format!("{owner}-{}", kind.as_str().to_lowercase())),
        uid: uid(&format!("{owner}-{}", kind.as_str())),
        town_uid: Some(uid("gas")),
        agent_uid: (owner != "gas").then(|| uid(owner)),
        install: Some(HERE.into()),
        deleting: false,
        finalizers: Vec::new(),
        of_pod: false,
        retain: false,
        copied: None,
    }
}

/// The probe facts after this answer at this time.
pub fn answered(at: Timestamp, report: ActivityReport) -> ProbeFacts {
    let mut facts = ProbeFacts::default();
    take_in(&mut facts, at, report, None);
    facts
}

fn take_in(facts: &mut ProbeFacts, at: Timestamp, report: ActivityReport, agent: Option<&Uid>) {
    facts.asked_at = Some(at);
    facts.known_at = Some(at);
    facts.answered(report, agent);
}

/// The probe facts after this number of probes without an answer since then.
pub fn unheard(failures: u32, since: Timestamp, last: Timestamp) -> ProbeFacts {
    ProbeFacts {
        asked_at: Some(last),
        known_at: Some(last),
        last: Some(Err("connection refused".into())),
        failing_since: Some(since),
        failures,
        ..ProbeFacts::default()
    }
}

/// An empty report.
pub fn quiet() -> ActivityReport {
    ActivityReport::default()
}

/// A report with this state of one agent.
pub fn says(agent: &str, state: ReportedState) -> ActivityReport {
    ActivityReport { agents: vec![entry(agent, state)], ..quiet() }
}

/// The entry of one agent in a report.
pub fn entry(agent: &str, state: ReportedState) -> ReportedAgent {
    ReportedAgent { uid: uid(agent).to_string(), state, last_activity_time: None, bead: None, message: None }
}

/// A report of an agent that is stuck, with the time of its last activity.
pub fn stalled(agent: &str, last: Timestamp) -> ActivityReport {
    let entry = ReportedAgent { last_activity_time: Some(Time(last)), ..entry(agent, ReportedState::Stuck) };
    ActivityReport { agents: vec![entry], ..quiet() }
}

/// A report of an attached user with input at this time.
pub fn typed(at: Timestamp) -> ActivityReport {
    ActivityReport { attached: true, last_input_time: Some(Time(at)), ..quiet() }
}

pub fn hook(bead: &str) -> Hook {
    Hook { bead: bead.into(), title: None, instructions: None }
}

/// The pod of a town or an agent, created at minute 0 and not scheduled yet.
pub fn pod(owner: &str) -> PodBuilder {
    PodBuilder(PodFacts {
        stops_by: None,
        grace_period: None,
        address: Some("10.0.0.1".into()),
        not_ready_since: None,
        ready_since: None,
        container_restarts: 0,
        restarted_by_node: false,
        reason: None,
        rejected: false,
        ran: false,
        generations: None,
        revision: Some("r1".into()),
        restart_at: None,
        reported_untouched: false,
        last_crash: None,
        key: key(&format!("{owner}-pod")),
        uid: uid(&format!("{owner}-pod")),
        town_uid: Some(uid("gas")),
        agent_uid: (owner != "gas").then(|| uid(owner)),
        install: Some(HERE.into()),
        phase: PodPhase::Pending,
        ready: false,
        node: None,
        created: Some(minute(0)),
        started: None,
        host_ips: Vec::new(),
        stop_requested: None,
        released_by_kubelet: false,
        finalizers: Vec::new(),
        hook: None,
        termination: None,
        disrupted: false,
        token_secret_name: None,
        trouble: None,
        trouble_since: None,
        claims: Vec::new(),
    })
}

#[derive(Clone, Debug)]
pub struct PodBuilder(pub PodFacts);

impl PodBuilder {
    pub fn created(mut self, at: Timestamp) -> Self {
        self.0.created = Some(at);
        self
    }

    /// The pod runs and is Ready.
    pub fn ready(mut self) -> Self {
        self.0.phase = PodPhase::Running;
        self.0.ready = true;
        self.0.ran = true;
        self.0.ready_since = self.0.created;
        self.0.node = Some("node-1".into());
        self.0.started = self.0.created;
        self
    }

    /// The pod is Ready since this time.
    pub fn ready_since(mut self, at: Timestamp) -> Self {
        self = self.ready();
        self.0.ready_since = Some(at);
        self
    }

    /// The containers ended with this exit code.
    pub fn exited(mut self, code: i32, at: Timestamp) -> Self {
        self = self.ready();
        self.0.ready = false;
        self.0.ready_since = None;
        self.0.phase = if code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
        self.0.termination = Some(Termination {
            exit_code: code,
            at: Some(at),
            message: String::new(),
            out_of_memory: false,
            lost: false,
        });
        self
    }

    /// The container ended with an error this number of times, and was restarted.
    pub fn crashed(mut self, times: i32) -> Self {
        self.0.container_restarts = times;
        self
    }

    /// The pod runs, and is not Ready since this time.
    pub fn unready(mut self, since: Timestamp) -> Self {
        self = self.ready();
        self.0.ready = false;
        self.0.ready_since = None;
        self.0.not_ready_since = Some(since);
        self
    }

    /// The pod must be gone by this time.
    pub fn stops_by(mut self, at: Timestamp) -> Self {
        self.0.stops_by = Some(at);
        self
    }

    pub fn evicted(mut self) -> Self {
        self = self.ready();
        self.0.ready = false;
        self.0.ready_since = None;
        self.0.phase = PodPhase::Failed;
        self.0.reason = Some("Evicted".into());
        self.0.disrupted = true;
        self
    }

    pub fn told_to_stop(mut self, at: Timestamp) -> Self {
        self.0.stop_requested = Some(at);
        self
    }

    /// The pod is deleted, and none of its containers runs.
    pub fn killed(mut self, at: Timestamp) -> Self {
        self.0.stop_requested = Some(at);
        self.0.released_by_kubelet = true;
        self
    }

    pub fn bead(mut self, bead: &str) -> Self {
        self.0.hook = Some(hook(bead));
        self
    }

    pub fn trouble(mut self, reason: &'static str, text: &str) -> Self {
        self.0.trouble = Some((reason, text.into()));
        self
    }

    pub fn foreign(mut self) -> Self {
        self.0.install = Some("elsewhere".into());
        self
    }
}

/// Accessors of tests to a plan.
pub trait Read {
    fn conditions(&self) -> &[Condition];
    fn phase(&self) -> &str;
    /// The actions as text.
    fn does(&self) -> String;

    fn condition(&self, type_: &str) -> &Condition {
        self.conditions().iter().find(|c| c.type_ == type_).unwrap()
    }

    fn is(&self, type_: &str) -> bool {
        self.condition(type_).status == "True"
    }

    fn reason(&self, type_: &str) -> &str {
        &self.condition(type_).reason
    }

    fn message(&self, type_: &str) -> &str {
        &self.condition(type_).message
    }
}

macro_rules! read {
    ($status:ty) => {
        impl Read for Plan<$status> {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |s| s.conditions.as_slice())
            }

            fn phase(&self) -> &str {
                self.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("(no status)")
            }

            fn does(&self) -> String {
                self.actions.iter().map(|a| a.to_string().replace("ns/", "")).collect::<Vec<_>>().join(", ")
            }
        }
    };
}

/// The sleep time in the status.
pub fn sleep_time(plan: &Plan<TownStatus>) -> Option<Timestamp> {
    plan.status.as_ref()?.sleep_time.as_ref().map(|t| t.0)
}

read!(TownStatus);
read!(AgentStatus);
