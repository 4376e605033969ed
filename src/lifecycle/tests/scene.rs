//! A scene with its own clock, which executes plans on objects in memory.
//!
//! The scene simulates the operator and the cluster. After a change or at a deadline it takes a decision, executes the
//! actions on the facts, and stores the status. The scene writes a story with one line for each reconcile that wrote
//! something, and the test compares the story with its text. The scene checks the invariants after each step.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::build::{AgentBuilder, HERE, TownBuilder, hook, minute};
use crate::api::{
    ActivityReport, Agent, Duration, Mode, PodStatus, PodTemplate, StorageStatus, Tombstone, Town, names,
};
use crate::lifecycle::{
    Action, AgentSnapshot, Ask, Begun, ChildFacts, ChildKind, ClaimFacts, Freshness, Notice, ObjectKey,
    OwnerRef, PodFacts, PodPhase, ProbeFacts, Record, Remains, ServiceFacts, Standing, Termination,
    TownFacts, TownSnapshot, TownView, Uid, Unknown, child_name, copied_mark, decide_agent, decide_town,
    has_finalizer, label, mode, needs_live, needs_live_town, pod_record, service_name, standing, tombstone,
    tombstone_name,
};

/// A limit of rounds: a state that needs more rounds never comes to rest.
const ROUNDS: usize = 40;
/// The time until a deleted pod ends.
const GRACE: SignedDuration = SignedDuration::from_secs(30);

/// The object of the next reconcile.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Who {
    Town,
    Agent(String),
}

/// A move, for tests that execute moves one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The operator reconciles the town.
    Town,
    /// The operator reconciles the agents.
    Agents,
    /// The node starts and stops pods.
    Pods,
    /// Pods answer their probes.
    Answers,
}

/// The behaviour of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// Pods start, run, and end after their deletion.
    Works,
    /// Pods fail immediately after their start.
    Fails,
    /// Pods start and do not end after their deletion.
    Hangs,
    /// Pods start and never become Ready.
    Unready,
}

#[derive(Clone)]
pub struct Scene {
    now: Timestamp,
    pub town: Option<Arc<Town>>,
    pub agents: BTreeMap<String, Arc<Agent>>,
    pub pods: Vec<PodFacts>,
    pub claims: Vec<ClaimFacts>,
    pub services: Vec<ServiceFacts>,
    pub tokens: Vec<ChildFacts>,
    /// Claims that were released: the owner and the name.
    pub retained: Vec<(Uid, String)>,
    /// The record of the town's destruction.
    pub record: Option<Arc<Tombstone>>,
    timers: BTreeMap<Who, Timestamp>,
    reported: Option<Timestamp>,
    /// The memory of the operator: the answers of pods, and the events that it sent.
    probes: HashMap<Uid, ProbeFacts>,
    said: HashMap<(Who, &'static str), Timestamp>,
    /// The answers of the pods of these owners. Other pods have empty reports.
    answers: BTreeMap<String, Result<ActivityReport, String>>,
    asked: Vec<Ask>,
    /// The number of probes so far.
    pub questions: usize,
    may_start: bool,
    /// The number of writes before the operator is killed and restarted.
    fuse: Option<usize>,
    node: Node,
    agents_first: bool,
    born: u32,
    /// The number of created pods so far.
    pub starts: usize,
    /// The number of writes to the API server so far.
    pub writes: usize,
    story: String,
}

impl Scene {
    /// A town in its state after the create by a user.
    pub fn of(town: TownBuilder) -> Self {
        let town = town.not_adopted().0.town;
        let mut scene = Self {
            now: minute(0),
            town: Some(town),
            agents: BTreeMap::new(),
            pods: Vec::new(),
            claims: Vec::new(),
            services: Vec::new(),
            tokens: Vec::new(),
            retained: Vec::new(),
            record: None,
            timers: BTreeMap::new(),
            reported: None,
            probes: HashMap::new(),
            said: HashMap::new(),
            answers: BTreeMap::new(),
            asked: Vec::new(),
            questions: 0,
            may_start: true,
            fuse: None,
            node: Node::Works,
            agents_first: false,
            born: 0,
            starts: 0,
            writes: 0,
            story: String::new(),
        };
        scene.happens("the town is created");
        scene
    }

    /// Creates agents at the same time.
    pub fn agents<const N: usize>(&mut self, agents: [AgentBuilder; N]) -> &mut Self {
        let mut names = Vec::new();
        for agent in agents {
            let mut agent = agent.unbound().0.agent;
            Arc::make_mut(&mut agent).metadata.creation_timestamp = Some(Time(self.now));
            names.push(agent.metadata.name.clone().unwrap());
            self.agents.extend(agent.metadata.name.clone().map(|name| (name, agent)));
        }
        self.happens(&format!("created: {}", names.join(", ")))
    }

    /// Creates an agent.
    pub fn agent(&mut self, agent: AgentBuilder) -> &mut Self {
        self.agents([agent])
    }

    /// Sets the behaviour of pods.
    pub fn node(&mut self, node: Node) -> &mut Self {
        self.node = node;
        self
    }

    /// Sets whether the town may start.
    pub fn may_start(&mut self, yes: bool) -> &mut Self {
        self.may_start = yes;
        self
    }

    /// Sets the answer of the owner's pod, without a reconcile.
    pub fn reports(&mut self, owner: &str, report: ActivityReport) -> &mut Self {
        self.tell(&format!("-- the pod of {owner} has news"));
        self.answers.insert(owner.into(), Ok(report));
        self
    }

    /// The owner's pod no longer answers.
    pub fn silent(&mut self, owner: &str) -> &mut Self {
        self.tell(&format!("-- the pod of {owner} does not answer"));
        self.answers.insert(owner.into(), Err("connection refused".into()));
        self
    }

    /// Restarts the operator: its memory is lost, and it reconciles every object.
    pub fn operator_restarts(&mut self) -> &mut Self {
        self.forget();
        self.happens("the operator is started anew")
    }

    /// Kills and restarts the operator after this number of writes.
    pub fn killed_after(&mut self, writes: usize) {
        self.fuse = Some(writes);
    }

    /// Whether the next write succeeds before the operator is killed.
    fn gets_through(&mut self) -> bool {
        match &mut self.fuse {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    fn forget(&mut self) {
        self.fuse = None;
        self.timers.clear();
        self.reported = None;
        self.probes.clear();
        self.said.clear();
        self.asked.clear();
    }

    /// Sets whether agents are reconciled before the town.
    pub fn agents_first(&mut self, yes: bool) -> &mut Self {
        self.agents_first = yes;
        self
    }

    /// Adds an event to the story, and reconciles every object.
    pub fn happens(&mut self, what: &str) -> &mut Self {
        self.tell(&format!("-- {what}"));
        self.settle();
        self
    }

    /// A user edits the town.
    pub fn edit_town(&mut self, what: &str, change: impl FnOnce(&mut Town)) -> &mut Self {
        if let Some(town) = self.town.as_mut().map(Arc::make_mut) {
            change(town);
            raise(&mut town.metadata);
        }
        self.happens(what)
    }

    /// A user edits an agent.
    pub fn edit_agent(&mut self, name: &str, what: &str, change: impl FnOnce(&mut Agent)) -> &mut Self {
        if let Some(agent) = self.agents.get_mut(name).map(Arc::make_mut) {
            change(agent);
            raise(&mut agent.metadata);
        }
        self.happens(what)
    }

    pub fn hook(&mut self, name: &str, bead: &str) -> &mut Self {
        self.edit_agent(name, &format!("{name} gets bead {bead}"), |a| a.spec.hook = Some(hook(bead)))
    }

    pub fn delete_town(&mut self) -> &mut Self {
        let now = self.now;
        if let Some(town) = self.town.as_mut().map(Arc::make_mut) {
            town.metadata.deletion_timestamp.get_or_insert(Time(now));
        }
        self.happens("the town is deleted")
    }

    pub fn delete_agent(&mut self, name: &str) -> &mut Self {
        let now = self.now;
        if let Some(agent) = self.agents.get_mut(name).map(Arc::make_mut) {
            agent.metadata.deletion_timestamp.get_or_insert(Time(now));
        }
        self.happens(&format!("agent {name} is deleted"))
    }

    /// The containers of the owner's pod end.
    pub fn exits(&mut self, owner: &str, code: i32) -> &mut Self {
        let now = self.now;
        self.pod_of(owner, |pod| exit(pod, code, now));
        self.happens(&format!("the container of {owner} exits with {code}"))
    }

    /// The node evicts the owner's pod.
    pub fn evicted(&mut self, owner: &str) -> &mut Self {
        let now = self.now;
        self.pod_of(owner, |pod| {
            exit(pod, 137, now);
            pod.disrupted = true;
        });
        self.happens(&format!("the pod of {owner} is evicted"))
    }

    /// A user deletes the owner's pod.
    pub fn killed(&mut self, owner: &str) -> &mut Self {
        let now = self.now;
        self.pod_of(owner, |pod| {
            pod.stop_requested.get_or_insert(now);
            pod.stops_by.get_or_insert(now + GRACE);
        });
        self.happens(&format!("the pod of {owner} is deleted by hand"))
    }

    /// The container of the owner's pod ends with an error, and the kubelet restarts it.
    pub fn crashes(&mut self, owner: &str) -> &mut Self {
        let now = self.now;
        self.pod_of(owner, |pod| {
            pod.container_restarts += 1;
            pod.ready = false;
            pod.not_ready_since = Some(now);
        });
        self.happens(&format!("the container of {owner} crashes"))
    }

    /// The volume of the owner's claim is gone.
    pub fn loses_volume(&mut self, owner: &str) -> &mut Self {
        let prefix = format!("{owner}-");
        for claim in self.claims.iter_mut().filter(|c| c.child.key.name.starts_with(&prefix)) {
            claim.lost = true;
        }
        self.happens(&format!("the volume of {owner} is lost"))
    }

    /// A user deletes the owner's claim, which is removed immediately.
    pub fn claim_deleted(&mut self, owner: &str) -> &mut Self {
        let prefix = format!("{owner}-");
        self.claims.retain(|c| !c.child.key.name.starts_with(&prefix));
        self.happens(&format!("the claim of {owner} is deleted by hand"))
    }

    fn pod_of(&mut self, owner: &str, change: impl FnOnce(&mut PodFacts)) {
        let prefix = format!("{owner}-");
        if let Some(pod) = self.pods.iter_mut().find(|p| p.key.name.starts_with(&prefix) && !p.ended()) {
            change(pod);
        }
    }

    /// Advances the time. Each timer triggers a reconcile at its exact time.
    pub fn later(&mut self, span: &str) -> &mut Self {
        let until = self.now + Duration::new(span).get();
        self.tell(&format!("-- {span} pass"));
        for round in 0.. {
            assert!(round < 30_000, "timers without end:\n{}", self.story);
            let next = self.timers.iter().min_by_key(|(_, at)| **at).map(|(who, at)| (who.clone(), *at));
            let Some((who, at)) = next.filter(|(_, at)| *at <= until) else { break };
            self.now = self.now.max(at);
            self.timers.remove(&who);
            if self.reconcile(&who) {
                self.settle();
            }
        }
        self.now = until;
        self
    }

    /// Changes the state without a reconcile.
    pub fn unseen(&mut self, what: &str, change: impl FnOnce(&mut Self)) {
        self.tell(&format!("-- {what}"));
        change(self);
    }

    /// Executes one move. The result tells whether it changed anything.
    pub fn moves(&mut self, whose: Move) -> bool {
        let changed = match whose {
            Move::Town => self.reconcile_town(),
            Move::Agents => {
                let names: Vec<_> = self.agents.keys().cloned().collect();
                let mut changed = false;
                for name in &names {
                    changed |= self.reconcile_agent(name);
                }
                changed
            }
            Move::Pods => self.pods_move(),
            Move::Answers => self.pods_answer(),
        };
        self.hold_invariants();
        changed
    }

    /// Advances the time to the next deadline, if there is one before `until`.
    pub fn next_deadline(&mut self, until: Timestamp) -> bool {
        let Some(at) = self.timers.values().min().copied().filter(|at| *at <= until) else { return false };
        self.now = self.now.max(at);
        let now = self.now;
        self.timers.retain(|_, at| *at > now);
        true
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Reconciles every object until nothing changes.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < ROUNDS, "never comes to rest:\n{}", self.story);
            let mut changed = false;
            let mut everybody = vec![Who::Town];
            everybody.extend(self.agents.keys().cloned().map(Who::Agent));
            if self.agents_first {
                everybody.reverse();
            }
            for who in everybody {
                changed |= self.reconcile(&who);
            }
            changed |= self.pods_move();
            changed |= self.pods_answer();
            self.hold_invariants();
            if !changed {
                break;
            }
        }
    }

    /// Compares the story so far with this text.
    pub fn told(&self, expected: &str) {
        let expected: Vec<_> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let told: Vec<_> = self.story.lines().collect();
        if let Some(at) = (0..told.len().max(expected.len())).find(|&i| told.get(i) != expected.get(i)) {
            let (told_line, expected_line) = (told.get(at), expected.get(at));
            panic!(
                "line {at}:\n told     {told_line:?}\n expected {expected_line:?}\nthe whole story:\n{}",
                self.story
            );
        }
    }

    /// Checks that no object of the town is left.
    pub fn assert_nothing_left(&self) {
        let agents: Vec<_> =
            self.agents.values().filter(|a| label(&a.metadata, names::TOWN_UID).is_some()).collect();
        assert!(self.town.is_none(), "the town is still there:\n{}", self.story);
        assert!(agents.is_empty() && self.pods.is_empty() && self.claims.is_empty(), "left:\n{}", self.story);
        assert!(self.services.is_empty() && self.tokens.is_empty(), "left:\n{}", self.story);
    }

    pub fn story(&self) -> &str {
        &self.story
    }

    /// The phase of the town, or of an agent.
    pub fn phase(&self, owner: &str) -> &str {
        let phase = match self.agents.get(owner) {
            Some(agent) => Some(agent.status.as_ref().and_then(|s| s.phase.as_deref())),
            None => {
                self.town.as_ref().filter(|_| owner == "gas").map(|t| t.status.as_ref()?.phase.as_deref())
            }
        };
        phase.map_or("(gone)", |phase| phase.unwrap_or("(new)"))
    }

    fn tell(&mut self, line: &str) {
        let _ = writeln!(self.story, "{} {line}", clock(self.now));
    }
}

/// An edit of the spec increments the generation.
fn raise(meta: &mut ObjectMeta) {
    meta.generation = meta.generation.map(|g| g + 1);
}

fn exit(pod: &mut PodFacts, code: i32, now: Timestamp) {
    pod.phase = if code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
    pod.ready = false;
    pod.ran = true;
    pod.termination = Some(Termination {
        exit_code: code,
        at: Some(now),
        message: String::new(),
        out_of_memory: false,
        lost: false,
    });
}

// The part of the operator.
impl Scene {
    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "ns".into(), name: name.into() }
    }

    fn reconcile(&mut self, who: &Who) -> bool {
        match who {
            Who::Town => self.reconcile_town(),
            Who::Agent(name) => self.reconcile_agent(name),
        }
    }

    fn reconcile_town(&mut self) -> bool {
        let Some(town) = self.town.clone() else { return false };
        let uid = Uid::of(&town.metadata).unwrap();
        let bound = |a: &&Arc<Agent>| label(&a.metadata, names::TOWN_UID) == Some(uid.as_str());
        let agents: Vec<_> = self.agents.values().filter(bound).cloned().collect();
        let live = needs_live(&town);
        let snapshot = TownSnapshot {
            service: self.services.first().cloned(),
            probe: self.probe_of(None),
            agent_probes: agents
                .iter()
                .filter_map(|a| Uid::of(&a.metadata))
                .map(|uid| (uid.clone(), self.probe_of(Some(&uid))))
                .collect(),
            revision: revision(town.spec.template.as_ref()),
            secrets: None,
            may_start: self.may_start,
            attach_max_hold: SignedDuration::from_hours(12),
            admission_policies: true,
            remains: live.then(|| Remains {
                agents: Ok(agents.clone()),
                pods: Ok(self.pods.clone()),
                children: self.children_of(None),
                retained: self.retained.iter().map(|(uid, _)| uid.clone()).collect(),
                ..Remains::of(self.record.clone().map_or(Record::Missing, Record::There))
            }),
            forbidden_by: None,
            agents,
            pods: self.pods.clone(),
            strays: Vec::new(),
            ownerless: Vec::new(),
            claim: self.claims.iter().find(|c| c.child.agent_uid.is_none()).cloned(),
            freshness: if live { Freshness::Live } else { Freshness::Cached },
            install: HERE.into(),
            gone_pods: Vec::new(),
            reported_at: self.reported,
            blocked_after: SignedDuration::from_mins(10),
            max_retention: SignedDuration::from_hours(168),
            town,
            uid,
        };
        let plan = decide_town(&snapshot, self.now);
        drop(snapshot);
        self.timer(Who::Town, plan.look_again);
        self.ask(&Who::Town, &plan.asks);
        let (mut pod, mut claim) = (None, None);
        let done = self.acts(&Who::Town, &plan.actions, &mut pod, &mut claim);
        let news = self.town.as_ref().is_some_and(|t| plan.status.is_some() && t.status != plan.status);
        let reported = news && done == plan.actions.len() && self.gets_through();
        if let (Some(town), Some(mut status), true) =
            (self.town.as_mut().map(Arc::make_mut), plan.status, reported)
        {
            status.pod = pod.or(status.pod);
            status.storage = claim.or(status.storage);
            town.status = Some(status);
            self.reported = Some(self.now);
        }
        let wrote = self.tell_step("gas", reported, &plan.actions[..done], plan.note.as_deref());
        self.say(&Who::Town, &plan.notices);
        wrote || !plan.asks.is_empty()
    }

    fn reconcile_agent(&mut self, name: &str) -> bool {
        let Some(agent) = self.agents.get(name).cloned() else { return false };
        let uid = Uid::of(&agent.metadata).unwrap();
        let facts = self.town.as_ref().and_then(|t| TownFacts::of(t, HERE));
        let freshness =
            if needs_live_town(&agent, facts.as_ref()) { Freshness::Live } else { Freshness::Cached };
        let pods: Vec<_> = self.pods.iter().filter(|p| p.agent_uid.as_ref() == Some(&uid)).cloned().collect();
        let claims: Vec<_> =
            self.claims.iter().filter(|c| c.child.agent_uid.as_ref() == Some(&uid)).cloned().collect();
        let peers: Vec<_> = self.agents.values().filter(|a| same_town(a, &agent)).cloned().collect();
        let agent_template = self.town.as_ref().and_then(|t| t.spec.agent_template.as_ref());
        let snapshot = AgentSnapshot {
            probe: self.probe_of(Some(&uid)),
            revision: revision(agent.spec.template.as_ref().or(agent_template)),
            secrets: None,
            standing: facts
                .as_ref()
                .map_or(Standing::Free, |town| standing(&agent, town, &peers, &Begun::new())),
            town: facts.map_or(TownView::Absent(freshness), |f| TownView::Present(freshness, Box::new(f))),
            pod: pods.first().cloned(),
            claim: claims.first().cloned(),
            remains: agent.metadata.deletion_timestamp.is_some().then(|| Remains {
                pods: Ok(pods),
                children: self.children_of(Some(&uid)),
                retained: self.retained.iter().map(|(uid, _)| uid.clone()).collect(),
                ..Remains::of(Record::NotKept)
            }),
            creates_settle_at: None,
            town_record: None,
            forbidden_by: None,
            install: HERE.into(),
            blocked_after: SignedDuration::from_mins(10),
            max_retention: SignedDuration::from_hours(168),
            agent,
            uid,
        };
        let plan = decide_agent(&snapshot, self.now);
        drop((snapshot, peers));
        let who = Who::Agent(name.into());
        self.timer(who.clone(), plan.look_again);
        self.ask(&who, &plan.asks);
        let (mut pod, mut claim) = (None, None);
        let done = self.acts(&who, &plan.actions, &mut pod, &mut claim);
        let news = self.agents.get(name).is_some_and(|a| plan.status.is_some() && a.status != plan.status);
        let reported = news && done == plan.actions.len() && self.gets_through();
        if let (Some(agent), Some(mut status), true) =
            (self.agents.get_mut(name).map(Arc::make_mut), plan.status, reported)
        {
            status.pod = pod.or(status.pod);
            status.storage = claim.or(status.storage);
            agent.status = Some(status);
        }
        let wrote = self.tell_step(name, reported, &plan.actions[..done], plan.note.as_deref());
        self.say(&who, &plan.notices);
        wrote || !plan.asks.is_empty()
    }

    /// The probe facts of the current pod of the town, or of an agent.
    fn probe_of(&self, agent: Option<&Uid>) -> ProbeFacts {
        let pod = self.pods.iter().find(|p| p.agent_uid.as_ref() == agent);
        pod.and_then(|pod| self.probes.get(&pod.uid)).cloned().unwrap_or_default()
    }

    /// The children of the whole town, or of one agent, without pods.
    fn children_of(&self, agent: Option<&Uid>) -> BTreeMap<ChildKind, Result<Vec<ChildFacts>, Unknown>> {
        let of = |all: Vec<&ChildFacts>| -> Result<Vec<ChildFacts>, Unknown> {
            Ok(all
                .into_iter()
                .filter(|c| agent.is_none() || c.agent_uid.as_ref() == agent)
                .cloned()
                .collect())
        };
        BTreeMap::from([
            (ChildKind::Service, of(self.services.iter().map(|s| &s.child).collect())),
            (ChildKind::Secret, of(self.tokens.iter().collect())),
            (ChildKind::ResourceClaim, of(Vec::new())),
            (ChildKind::PersistentVolumeClaim, of(self.claims.iter().map(|c| &c.child).collect())),
        ])
    }

    /// Sends probes. They do not use the API server, and the answers arrive after all reconciles.
    fn ask(&mut self, who: &Who, asks: &[Ask]) {
        for ask in asks {
            let pod = self.pods.iter().find(|p| p.uid == ask.uid);
            let ready = pod.is_some_and(|p| p.ready && !p.deleting() && !p.ended());
            assert!(ready, "{who:?} asks a pod that cannot answer:\n{}", self.story);
            let town = self.town.as_ref().unwrap();
            // A town in destruction probes only during its drain.
            let began = town.metadata.deletion_timestamp.as_ref().map(|at| at.0);
            let drained = began.is_some_and(|began| began + town.spec.drain.timeout.get() <= self.now);
            let dead = drained || began.is_none() && tombstone(&town.metadata).is_some();
            assert!(!dead && self.phase("gas") != "Asleep", "the dead are asked:\n{}", self.story);
            let facts = self.probes.entry(ask.uid.clone()).or_default();
            assert!(!facts.under_way, "asked twice at once:\n{}", self.story);
            facts.under_way = true;
            facts.asked_at = Some(self.now);
            self.questions += 1;
        }
        self.asked.extend_from_slice(asks);
    }

    /// Adds new events to the story, without repetitions.
    fn say(&mut self, who: &Who, notices: &[Notice]) {
        for notice in notices {
            if self.said.insert((who.clone(), notice.reason), notice.at) != Some(notice.at) {
                self.tell(&format!("-- said: {} at {}", notice.reason, clock(notice.at)));
            }
        }
    }

    fn timer(&mut self, who: Who, at: Option<Timestamp>) {
        match at {
            Some(at) => {
                assert!(at > self.now, "{who:?} asks to be called in the past:\n{}", self.story);
                self.timers.insert(who, at);
            }
            None => {
                self.timers.remove(&who);
            }
        }
    }

    fn tell_step(&mut self, name: &str, reported: bool, actions: &[Action], note: Option<&str>) -> bool {
        if self.fuse == Some(0) {
            self.tell("-- the operator is killed and started anew");
            self.forget();
            return true;
        }
        if !reported && actions.is_empty() {
            return false;
        }
        let unwritten = |a: &&Action| matches!(a, Action::GiveReceipts(None, _));
        self.writes += actions.len() - actions.iter().filter(unwritten).count() + usize::from(reported);
        let mut did: Vec<_> = actions.iter().map(short).collect();
        if reported {
            did.push("report".into());
        }
        let why = note.filter(|_| reported).map(|n| format!(" ({n})")).unwrap_or_default();
        let (phase, did) = (self.phase(name).to_owned(), did.join(", "));
        self.tell(format!("{name:<6} {phase:<10} {did}{why}").trim_end());
        true
    }

    /// Executes the actions in their order, and returns the number of successful ones.
    fn acts(
        &mut self,
        who: &Who,
        actions: &[Action],
        pod: &mut Option<PodStatus>,
        claim: &mut Option<StorageStatus>,
    ) -> usize {
        for (done, action) in actions.iter().enumerate() {
            if !self.gets_through() {
                return done;
            }
            self.act(who, action, pod, claim);
        }
        actions.len()
    }

    #[allow(clippy::too_many_lines)] // One arm for each action.
    fn act(
        &mut self,
        who: &Who,
        action: &Action,
        pod: &mut Option<PodStatus>,
        claim: &mut Option<StorageStatus>,
    ) {
        let now = self.now;
        match action {
            Action::Adopt { town_uid } => {
                let meta = self.meta(who);
                let finalizers = meta.finalizers.get_or_insert_default();
                finalizers.retain(|name| !names::is_finalizer(name));
                finalizers.push(names::FINALIZER.into());
                let labels = meta.labels.get_or_insert_default();
                labels.insert(names::INSTALL.into(), HERE.into());
                if let Some(uid) = town_uid {
                    labels.insert(names::TOWN_UID.into(), uid.to_string());
                }
            }
            Action::CreateTombstone(spec) => {
                assert!(self.record.is_none(), "a second record:\n{}", self.story);
                let name = tombstone_name(spec.kind, &Uid::new(&spec.uid));
                self.record = Some(Arc::new(Tombstone::new(&name, (**spec).clone())));
            }
            Action::AmendTombstone(_) => panic!("no volumes are played here"),
            Action::GiveReceipts(name, status) => {
                if let Some(name) = name {
                    let record = Arc::make_mut(self.record.as_mut().unwrap());
                    assert_eq!(record.metadata.name.as_ref(), Some(name));
                    record.status = Some((**status).clone());
                }
            }
            Action::WriteTombstone => {
                let meta = self.meta(who);
                let value = format!("{}@{now}", meta.uid.as_deref().unwrap());
                meta.annotations.get_or_insert_default().insert(names::TOMBSTONE.into(), value);
            }
            Action::CreateClaim => *claim = Some(self.create_claim(who)),
            Action::CreatePod => *pod = Some(self.create_pod(who)),
            Action::DeliverHook { pod, uid, hook } => {
                let facts = self.pods.iter_mut().find(|p| p.key == *pod && p.uid == *uid).unwrap();
                facts.hook.clone_from(hook);
            }
            Action::DeletePod(key, uid) => {
                let pod = self.pods.iter_mut().find(|p| p.key == *key && p.uid == *uid).unwrap();
                pod.stop_requested.get_or_insert(now);
                pod.stops_by.get_or_insert(now + GRACE);
            }
            Action::ReleaseResult { pod, uid, position } => {
                let pod = self.pods.iter_mut().find(|p| p.key == *pod && p.uid == *uid).unwrap();
                assert_eq!(pod.finalizers.remove(*position), names::RESULT_FINALIZER);
            }
            Action::CreateService => self.create_service(who),
            Action::UpdateService(key, uid) => {
                let ports = self.town.as_ref().unwrap().spec.ports.clone();
                let service = self.services.iter_mut().find(|s| s.child.key == *key && s.child.uid == *uid);
                service.unwrap().ports = ports;
            }
            Action::CreateToken => {
                self.assert_may_create(who);
                let (key, uid, town_uid, agent_uid) = self.child(who);
                if self.tokens.iter().all(|t| t.key != key) {
                    self.tokens.push(a_child(ChildKind::Secret, key, uid, town_uid, agent_uid));
                }
            }
            Action::GrowClaim { claim, uid, size } => {
                let claim =
                    self.claims.iter_mut().find(|c| c.child.key == *claim && c.child.uid == *uid).unwrap();
                claim.requested = Some(size.clone());
            }
            Action::MarkClaim { claim, uid, retain, copied, .. } => {
                let marked = self.claims.iter_mut().find(|c| c.child.key == *claim && c.child.uid == *uid);
                let marked = &mut marked.unwrap().child;
                (marked.retain, marked.copied) = (*retain, copied_mark(copied));
            }
            Action::RetainClaim(key, uid) => {
                let dying = self.meta(who).deletion_timestamp.is_some();
                assert!(dying, "a claim of the living is let go:\n{}", self.story);
                self.claims.retain(|c| c.child.key != *key || c.child.uid != *uid);
                self.retained.push((uid.clone(), key.name.clone()));
            }
            Action::DeleteChild(kind, key, uid) => match kind {
                ChildKind::Service => {
                    self.services.retain(|s| s.child.key != *key || s.child.uid != *uid);
                }
                ChildKind::Secret => self.tokens.retain(|t| t.key != *key || t.uid != *uid),
                ChildKind::PersistentVolumeClaim => {
                    self.claims.retain(|c| c.child.key != *key || c.child.uid != *uid);
                }
                ChildKind::Pod => panic!("pods are let finish"),
                ChildKind::ResourceClaim => panic!("nobody made one"),
            },
            Action::DeleteSelf => {
                self.meta(who).deletion_timestamp.get_or_insert(Time(now));
            }
            Action::DeleteAgent(key, uid) => {
                let agent = Arc::make_mut(self.agents.get_mut(&key.name).unwrap());
                assert_eq!(agent.metadata.uid.as_deref(), Some(uid.as_str()));
                agent.metadata.deletion_timestamp.get_or_insert(Time(now));
            }
            Action::RemoveFinalizer => match who {
                Who::Town => self.town = None,
                Who::Agent(name) => {
                    self.agents.remove(name);
                    self.timers.remove(who);
                }
            },
        }
    }

    fn meta(&mut self, who: &Who) -> &mut ObjectMeta {
        match who {
            Who::Town => &mut Arc::make_mut(self.town.as_mut().unwrap()).metadata,
            Who::Agent(name) => &mut Arc::make_mut(self.agents.get_mut(name).unwrap()).metadata,
        }
    }

    /// The name and the owners of a child of this owner.
    fn child(&mut self, who: &Who) -> (ObjectKey, Uid, Option<Uid>, Option<Uid>) {
        self.born += 1;
        let meta = self.meta(who).clone();
        let owner = Uid::of(&meta).unwrap();
        let name = child_name(meta.name.as_deref().unwrap(), &owner);
        let town = match who {
            Who::Town => Some(owner.clone()),
            Who::Agent(_) => label(&meta, names::TOWN_UID).map(Uid::new),
        };
        let agent = (*who != Who::Town).then_some(owner);
        (Self::key(&name), Uid::new(format!("{:08x}-child", self.born)), town, agent)
    }

    fn create_service(&mut self, who: &Who) {
        self.assert_may_create(who);
        let (_, uid, town_uid, agent_uid) = self.child(who);
        let town = self.town.as_ref().unwrap();
        let name = service_name(&OwnerRef::of(&town.metadata).unwrap());
        let child = a_child(ChildKind::Service, Self::key(&name), uid, town_uid, agent_uid);
        self.services.push(ServiceFacts {
            child,
            ports: town.spec.ports.iter().map(crate::api::Port::resolved).collect(),
        });
    }

    fn create_claim(&mut self, who: &Who) -> StorageStatus {
        self.assert_may_create(who);
        let (key, uid, town_uid, agent_uid) = self.child(who);
        let wanted = match who {
            Who::Town => &self.town.as_ref().unwrap().spec.storage,
            Who::Agent(name) => &self.agents[name].spec.storage,
        };
        let requested = wanted.as_ref().and_then(|s| s.size.clone());
        let storage = StorageStatus { claim: key.name.clone(), uid: Some(uid.to_string()), capacity: None };
        let retain = wanted.as_ref().is_some_and(crate::api::Storage::is_retained);
        let child = a_child(ChildKind::PersistentVolumeClaim, key, uid, town_uid, agent_uid);
        let child = ChildFacts { retain, ..child };
        self.claims.push(ClaimFacts { child, lost: false, requested, capacity: None });
        storage
    }

    fn create_pod(&mut self, who: &Who) -> PodStatus {
        self.assert_may_create(who);
        let (key, uid, town_uid, agent_uid) = self.child(who);
        assert!(self.pods.iter().all(|p| p.key != key), "a second pod of {who:?}:\n{}", self.story);
        let agent = match who {
            Who::Agent(name) => self.agents.get(name),
            Who::Town => None,
        };
        let task = agent.is_some_and(|a| mode(a) == Mode::Task);
        if let Some(agent) = agent.filter(|_| task) {
            let work = agent.status.as_ref().and_then(|s| s.work.as_ref()).unwrap();
            let bead = &agent.spec.hook.as_ref().unwrap().bead;
            assert!(!work.done.contains(bead), "{bead} is done and starts again:\n{}", self.story);
            let recorded = work.bead == *bead && work.start_time.is_some() && work.finish_time.is_none();
            assert!(recorded, "a pod before its attempt is on record:\n{}", self.story);
        }
        let town = self.town.as_ref().unwrap();
        let (template, meta) = match agent {
            Some(agent) => {
                (agent.spec.template.as_ref().or(town.spec.agent_template.as_ref()), &agent.metadata)
            }
            None => (town.spec.template.as_ref(), &town.metadata),
        };
        let pod = PodFacts {
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
            reported_untouched: false,
            last_crash: None,
            revision: Some(revision(template)),
            restart_at: meta.annotations.as_ref().and_then(|a| a.get(names::RESTART_AT)).cloned(),
            key,
            uid,
            town_uid,
            agent_uid,
            install: Some(HERE.into()),
            phase: PodPhase::Pending,
            ready: false,
            node: None,
            created: Some(self.now),
            started: None,
            host_ips: Vec::new(),
            stop_requested: None,
            released_by_kubelet: false,
            finalizers: if task { vec![names::RESULT_FINALIZER.into()] } else { vec![] },
            hook: agent.and_then(|a| a.spec.hook.clone()),
            termination: None,
            disrupted: false,
            token_secret_name: None,
            trouble: None,
            trouble_since: None,
            claims: Vec::new(),
        };
        let record = pod_record(&pod);
        self.pods.push(pod);
        self.starts += 1;
        record
    }

    fn assert_may_create(&self, who: &Who) {
        let town = self.town.as_ref().unwrap();
        let agent = match who {
            Who::Agent(name) => Some(&self.agents[name].metadata),
            Who::Town => None,
        };
        for meta in std::iter::once(&town.metadata).chain(agent) {
            let dead = meta.deletion_timestamp.is_some() || tombstone(meta).is_some();
            assert!(!dead && has_finalizer(meta, names::FINALIZER), "a create for the dead:\n{}", self.story);
            assert!(!crate::lifecycle::meta::is_paused(meta), "a create for the paused:\n{}", self.story);
        }
        let first = *who == Who::Town && town.status.is_none();
        let awake = TownFacts::of(town, HERE).unwrap().awake;
        assert!(first || awake, "a create for a town that is not awake:\n{}", self.story);
    }

    /// The invariants after every step.
    fn hold_invariants(&self) {
        for (i, pod) in self.pods.iter().enumerate() {
            let twins = self.pods[i + 1..].iter().any(|p| p.agent_uid == pod.agent_uid);
            assert!(!twins, "two pods of one owner:\n{}", self.story);
        }
        if self.phase("gas") == "Asleep" {
            assert!(self.pods.is_empty(), "asleep with pods:\n{}", self.story);
        }
    }
}

// The part of the node.
impl Scene {
    fn pods_move(&mut self) -> bool {
        let (now, node) = (self.now, self.node);
        let mut changed = false;
        for pod in &mut self.pods {
            if pod.ended() {
                continue;
            }
            if pod.deleting() && node != Node::Hangs {
                exit(pod, 143, now);
                changed = true;
            } else if pod.phase == PodPhase::Pending && !pod.deleting() {
                pod.node = Some("node-1".into());
                pod.started = Some(now);
                match node {
                    Node::Fails => exit(pod, 1, now),
                    Node::Unready => {
                        pod.phase = PodPhase::Running;
                        pod.ran = true;
                        pod.not_ready_since = pod.created;
                    }
                    Node::Works | Node::Hangs => {
                        pod.phase = PodPhase::Running;
                        pod.ran = true;
                        pod.ready = true;
                        pod.ready_since = Some(self.now);
                    }
                }
                changed = true;
            } else if pod.phase == PodPhase::Running && !pod.ready && node == Node::Works && !pod.deleting() {
                pod.ready = true;
                pod.ready_since = Some(self.now);
                pod.not_ready_since = None;
                changed = true;
            }
        }
        let before = self.pods.len();
        self.pods.retain(|p| !(p.deleting() && p.ended() && p.finalizers.is_empty()));
        changed || self.pods.len() != before
    }

    fn pods_answer(&mut self) -> bool {
        let asked = std::mem::take(&mut self.asked);
        for ask in &asked {
            let Some(facts) = self.probes.get_mut(&ask.uid) else { continue };
            let answer = self
                .answers
                .get(owner_of(&ask.pod))
                .cloned()
                .unwrap_or_else(|| Ok(ActivityReport::default()));
            let agent = self.pods.iter().find(|pod| pod.uid == ask.uid).and_then(|pod| pod.agent_uid.clone());
            facts.under_way = false;
            facts.known_at = Some(self.now);
            match answer {
                Ok(report) => facts.answered(report, agent.as_ref()),
                Err(why) => {
                    facts.failing_since.get_or_insert(self.now);
                    facts.failures += 1;
                    facts.last = Some(Err(why));
                }
            }
        }
        !asked.is_empty()
    }
}

fn a_child(
    kind: ChildKind,
    key: ObjectKey,
    uid: Uid,
    town_uid: Option<Uid>,
    agent_uid: Option<Uid>,
) -> ChildFacts {
    let install = Some(HERE.into());
    ChildFacts {
        kind,
        key,
        uid,
        town_uid,
        agent_uid,
        install,
        deleting: false,
        finalizers: Vec::new(),
        of_pod: false,
        retain: false,
        copied: None,
    }
}

/// The revision of a pod from this template. Stories change only the host name of a template.
fn revision(template: Option<&PodTemplate>) -> String {
    let name = template.and_then(|t| t.whole()?.spec.as_ref()?.hostname.as_deref());
    format!("{} {}", template.is_some(), name.unwrap_or_default())
}

fn same_town(a: &Agent, b: &Agent) -> bool {
    label(&a.metadata, names::TOWN_UID) == label(&b.metadata, names::TOWN_UID)
}

/// The time since the beginning of the scene, as on a clock.
fn clock(at: Timestamp) -> String {
    let seconds = at.duration_since(minute(0)).as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn short(action: &Action) -> String {
    match action {
        Action::Adopt { town_uid: Some(_) } => "bind".into(),
        Action::DeliverHook { hook, .. } => {
            format!("deliver {}", hook.as_ref().map_or("nothing", |h| h.bead.as_str()))
        }
        Action::DeletePod(key, _) => format!("delete pod {}", owner_of(key)),
        Action::ReleaseResult { .. } => "release pod".into(),
        Action::MarkClaim { claim, retain, .. } => format!("mark claim {} {retain}", owner_of(claim)),
        Action::RetainClaim(key, _) => format!("retain claim {}", owner_of(key)),
        Action::GrowClaim { claim, size, .. } => format!("grow claim {} to {}", owner_of(claim), size.0),
        Action::UpdateService(key, _) => format!("update service {}", owner_of(key)),
        Action::DeleteChild(ChildKind::PersistentVolumeClaim, key, _) => {
            format!("delete claim {}", owner_of(key))
        }
        Action::DeleteChild(kind, key, _) => {
            format!("delete {} {}", kind.as_str().to_lowercase(), owner_of(key))
        }
        Action::DeleteAgent(key, _) => format!("delete agent {}", key.name),
        other => other.to_string(),
    }
}

/// The readable part of a child's name.
fn owner_of(key: &ObjectKey) -> &str {
    key.name.rsplit_once('-').map_or(key.name.as_str(), |(owner, _)| owner)
}
