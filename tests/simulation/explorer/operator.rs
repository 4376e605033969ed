//! A process of the operator: the operator's own code, with a connection and watches that the test controls.
//!
//! The queue is a replacement, so that a run can be repeated: it reconciles due objects in the order of their names
//! unless the run chooses otherwise. The replacement keeps the relevant rules of `kube`'s queue: one reconcile of an
//! object at a time, a further reconcile if an event arrives meanwhile, one timer for each object, a back-off after
//! failures.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::runtime::watcher::Event;
use serde::Deserialize;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use town_operator::api::{Agent, Tombstone, Town, names};
use town_operator::cluster::{
    Clock, Cluster, Decoded, Error, Fence, Followed, Limits, Look, Term, looks, take_over,
};
use town_operator::lifecycle::{ObjectKey, Uid};
use town_operator::operator::{
    Looked, reconcile_agent, reconcile_child, reconcile_tombstone, reconcile_town,
};
use town_operator::resources::{Install, VolumeGroup};

use super::line::Line;
use super::{INSTALL, INSTALL_ID, LATE, agent_kind, tombstone_kind, town_kind};
use crate::server::kinds::id;
use crate::server::object::{Object, label, uid};
use crate::server::store::{Change, Event as Happened};
use crate::server::world::World;

/// The timeout of one reconcile, as in the operator's own queue.
const DEADLINE: Duration = Duration::from_mins(2);
/// The longest delay between two attempts.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(5);

/// The object of a reconcile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Town(ObjectKey),
    Agent(ObjectKey),
    Tombstone(ObjectKey),
    /// The pod and the claim of this name, without an owner.
    Child(ObjectKey),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Town(key) => write!(f, "town {}", key.name),
            Self::Agent(key) => write!(f, "agent {}", key.name),
            Self::Tombstone(key) => write!(f, "tombstone {}", key.name),
            Self::Child(key) => write!(f, "child {}", key.name),
        }
    }
}

impl From<Look> for Subject {
    fn from(look: Look) -> Self {
        match look {
            Look::Town(key) => Self::Town(key),
            Look::Agent(key) => Self::Agent(key),
            Look::Tombstone(key) => Self::Tombstone(key),
            Look::Child(key) => Self::Child(key),
        }
    }
}

/// The watched kinds, in the default order of delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    Town,
    Agent,
    /// Pods of this installation.
    Pod,
    /// Claims of this installation.
    Claim,
    /// Services of this installation.
    Service,
    /// Tombstones of this installation.
    Tombstone,
}

impl Watched {
    pub const ALL: [Self; 6] =
        [Self::Town, Self::Agent, Self::Pod, Self::Claim, Self::Service, Self::Tombstone];

    /// The index in the server's table of kinds.
    pub fn kind(self) -> usize {
        match self {
            Self::Town => town_kind(),
            Self::Agent => agent_kind(),
            Self::Pod => id::POD,
            Self::Claim => id::CLAIM,
            Self::Service => id::SERVICE,
            Self::Tombstone => tombstone_kind(),
        }
    }

    /// Whether the watch delivers the object.
    pub fn shows(self, object: &Object) -> bool {
        matches!(self, Self::Town | Self::Agent) || label(object, names::INSTALL) == Some(INSTALL)
    }

    /// The watch event for a change; `None` if the watch does not deliver it.
    pub fn news(self, happened: &Happened) -> Option<News> {
        if happened.key.kind != self.kind() {
            return None;
        }
        let was = happened.before.as_ref().is_some_and(|before| self.shows(before));
        let is = happened.change != Change::Deleted && self.shows(&happened.object);
        match (was, is) {
            (_, true) => Some(News::Apply(happened.object.clone())),
            (true, false) => Some(News::Delete(happened.object.clone())),
            (false, false) => None,
        }
    }
}

/// A watch event.
pub enum News {
    /// An object that exists.
    Apply(Object),
    /// An object that is gone or no longer matches the watch.
    Delete(Object),
}

/// A reconcile in progress.
struct UnderWay {
    /// The version of the Towns and Agents that the process knew at the start of the reconcile.
    knew: u64,
    future: Pin<Box<dyn Future<Output = Result<Looked, Option<Error>>>>>,
    woken: Arc<Woken>,
}

/// Whether a reconcile can continue.
struct Woken {
    flag: AtomicBool,
    run: Waker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.flag.store(true, Ordering::Relaxed);
        self.run.wake_by_ref();
    }
}

/// The role of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The process is the leader.
    Leads,
    /// The process follows the watches and can become leader.
    StandsBy,
    /// The process was the leader and is paused. It does not know that another process leads.
    Paused,
    /// The process was the leader. It continues its reconciles and starts no new one.
    Ends,
}

/// A process of the operator.
pub struct Operator {
    /// The connection of its requests.
    pub line: Line,
    /// The name of the process in a story.
    pub name: String,
    pub part: Part,
    term: watch::Sender<Option<Term>>,
    cluster: Arc<Cluster>,
    asked: UnboundedReceiver<Look>,
    /// The position of each watch: the version of the last event that it delivered or lost.
    seen: [u64; 6],
    due: BTreeSet<Subject>,
    timers: BTreeMap<Subject, Timestamp>,
    failures: BTreeMap<Subject, u32>,
    under_way: BTreeMap<Subject, UnderWay>,
}

impl Operator {
    /// Starts a process as leader or standby. The process lists every kind at that version.
    pub fn start(name: &str, part: Part, world: &World, clock: Clock, version: u64) -> Self {
        let line = Line::of(name);
        let (term, published) = watch::channel(None);
        let fence = Fence::new(published, moment);
        let limits = Limits {
            late_create: LATE,
            blocked_after: SignedDuration::from_mins(10),
            attach_max_hold: SignedDuration::from_hours(12),
            max_concurrent_starts: 20,
            agent_tombstones: true,
            tombstone_max_retention: SignedDuration::from_hours(168),
            tombstones_per_namespace: 1000,
            max_concurrent_probes: 4,
            volume_group: VolumeGroup::default(),
            admission_policies: true,
        };
        let (looks, asked) = looks();
        let cluster = world.get(id::NAMESPACE, "", "kube-system").expect("every cluster has it");
        let install = Install::of(INSTALL_ID, &Uid::new(uid(cluster))).expect("a UID");
        assert_eq!(install.0, INSTALL, "the stories compare labels with this constant");
        let cluster =
            Arc::new(Cluster::new(line.client(&fence), install, Arc::default(), limits, looks, clock));
        let mut operator = Self {
            line,
            name: name.into(),
            part,
            term,
            cluster,
            asked,
            seen: [version; 6],
            due: BTreeSet::new(),
            timers: BTreeMap::new(),
            failures: BTreeMap::new(),
            under_way: BTreeMap::new(),
        };
        for watched in Watched::ALL {
            operator.relist(watched, world, version);
        }
        if part == Part::Leads {
            operator.begins_to_lead();
        }
        operator
    }

    fn begins_to_lead(&self) {
        self.term.send_replace(Some(Term { from: Duration::ZERO, until: Duration::MAX }));
        take_over(&self.cluster);
    }

    /// The process becomes leader and lists every kind again, as a new leader does.
    pub fn lead(&mut self, world: &World) {
        self.part = Part::Leads;
        for watched in Watched::ALL {
            self.relist(watched, world, world.store().version());
        }
        self.begins_to_lead();
    }

    /// Pauses the process. Its term expires.
    pub fn pause(&mut self) {
        self.part = Part::Paused;
        self.term.send_replace(None);
    }

    /// A watch lists its kind again, at that version.
    pub fn relist(&mut self, watched: Watched, world: &World, version: u64) {
        let then = world.store().as_of(version, watched.kind(), "");
        let shown: Vec<Object> = then.into_values().filter(|object| watched.shows(object)).collect();
        match watched {
            Watched::Town => self.list::<Town>(&shown),
            Watched::Agent => self.list::<Agent>(&shown),
            Watched::Pod => self.list::<Pod>(&shown),
            Watched::Claim => self.list::<PersistentVolumeClaim>(&shown),
            Watched::Service => self.list::<Service>(&shown),
            Watched::Tombstone => self.list::<Tombstone>(&shown),
        }
        self.seen[watched as usize] = version;
        self.take_looks();
    }

    fn list<K: Followed>(&self, objects: &[Object]) {
        self.follow::<K>(Event::Init);
        for object in objects {
            self.follow::<K>(Event::InitApply(read(object)));
        }
        self.follow::<K>(Event::InitDone);
    }

    fn follow<K: Followed>(&self, event: Event<Decoded<K>>) {
        self.cluster.follow::<K>(event);
    }

    /// The next event of a watch.
    pub fn news(&self, watched: Watched, world: &World) -> Option<(u64, News)> {
        if matches!(self.part, Part::Paused | Part::Ends) {
            return None;
        }
        let since = world.store().since(self.seen[watched as usize]);
        since.iter().find_map(|happened| Some((happened.version, watched.news(happened)?)))
    }

    /// Delivers the next event of a watch.
    pub fn deliver(&mut self, watched: Watched, version: u64, news: &News) {
        match watched {
            Watched::Town => self.bring::<Town>(news),
            Watched::Agent => self.bring::<Agent>(news),
            Watched::Pod => self.bring::<Pod>(news),
            Watched::Claim => self.bring::<PersistentVolumeClaim>(news),
            Watched::Service => self.bring::<Service>(news),
            Watched::Tombstone => self.bring::<Tombstone>(news),
        }
        self.pass_over(watched, version);
        self.take_looks();
    }

    /// A watch loses all events up to a version.
    pub fn pass_over(&mut self, watched: Watched, version: u64) {
        self.seen[watched as usize] = version;
    }

    fn bring<K: Followed>(&self, news: &News) {
        self.follow::<K>(match news {
            News::Apply(object) => Event::Apply(read(object)),
            News::Delete(object) => Event::Delete(read(object)),
        });
    }

    fn take_looks(&mut self) {
        while let Ok(look) = self.asked.try_recv() {
            self.due.insert(look.into());
        }
    }

    /// Due objects without a reconcile in progress.
    pub fn startable(&self) -> impl Iterator<Item = &Subject> {
        let leads = self.part == Part::Leads;
        self.due.iter().filter(move |subject| leads && !self.under_way.contains_key(subject))
    }

    /// The time of the next timer.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.timers.values().min().copied().filter(|_| self.part == Part::Leads)
    }

    /// Whether a reconcile is in progress.
    pub fn is_busy(&self) -> bool {
        !self.under_way.is_empty() && self.part != Part::Paused
    }

    /// Whether a failed reconcile waits for a retry.
    pub fn is_failing(&self) -> bool {
        !self.failures.is_empty() && self.part == Part::Leads
    }

    /// Enqueues the objects whose timers have expired.
    pub fn ring(&mut self, now: Timestamp) {
        self.timers.retain(|subject, at| {
            let rings = *at <= now;
            if rings {
                self.due.insert(subject.clone());
            }
            !rings
        });
    }

    /// Starts a reconcile.
    pub fn look(&mut self, subject: &Subject, run: &Waker) {
        self.due.remove(subject);
        self.timers.remove(subject);
        let (cluster, of) = (self.cluster.clone(), subject.clone());
        let future = Box::pin(async move {
            let look = async {
                match &of {
                    Subject::Town(key) => reconcile_town(&cluster, key).await,
                    Subject::Agent(key) => reconcile_agent(&cluster, key).await,
                    Subject::Tombstone(key) => reconcile_tombstone(&cluster, key).await,
                    Subject::Child(key) => reconcile_child(&cluster, key).await,
                }
            };
            tokio::time::timeout(DEADLINE, look).await.map_err(|_| None)?.map_err(Some)
        });
        let woken = Arc::new(Woken { flag: AtomicBool::new(true), run: run.clone() });
        let knew = self.seen[Watched::Town as usize].min(self.seen[Watched::Agent as usize]);
        self.under_way.insert(subject.clone(), UnderWay { knew, future, woken });
    }

    /// The version of the Towns and Agents that every reconcile in progress knows.
    pub fn knew(&self) -> u64 {
        self.under_way.values().map(|look| look.knew).min().unwrap_or(0)
    }

    /// Whether a reconcile can continue.
    pub fn can_go_on(&self) -> bool {
        self.part != Part::Paused
            && self.under_way.values().any(|look| look.woken.flag.load(Ordering::Relaxed))
    }

    /// Continues every reconcile that can. The result lists the failures.
    pub fn go_on(&mut self, now: Timestamp) -> Vec<String> {
        let mut ended = Vec::new();
        for (subject, look) in &mut self.under_way {
            if look.woken.flag.swap(false, Ordering::Relaxed) {
                let waker = Waker::from(look.woken.clone());
                if let Poll::Ready(result) = look.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    ended.push((subject.clone(), result));
                }
            }
        }
        let mut said = Vec::new();
        for (subject, result) in ended {
            self.under_way.remove(&subject);
            said.extend(self.ended(&subject, result, now));
        }
        self.take_looks();
        said
    }

    fn ended(
        &mut self,
        subject: &Subject,
        result: Result<Looked, Option<Error>>,
        now: Timestamp,
    ) -> Option<String> {
        let (again, failed) = match result {
            Ok(Looked { look_again, failed }) => (look_again, failed.map(Some)),
            Err(error) => (None, Some(error)),
        };
        let retry = match &failed {
            None => {
                self.failures.remove(subject);
                None
            }
            Some(_) => Some(now + self.back_off(subject)),
        };
        // The timer is slightly late rather than early, as in the operator's own queue.
        let again = again.map(|at| at.max(now) + SignedDuration::from_millis(10));
        if let Some(at) = [again, retry].into_iter().flatten().min() {
            self.timers.insert(subject.clone(), at);
        }
        let text =
            |error: Option<Error>| error.map_or("it took too long".to_owned(), |error| error.to_string());
        failed.map(|error| format!("{}: a look at {subject} ended early: {}", self.name, text(error)))
    }

    fn back_off(&mut self, subject: &Subject) -> SignedDuration {
        let count = self.failures.entry(subject.clone()).or_default();
        *count += 1;
        (SignedDuration::from_millis(250) * (1 << (*count - 1).min(12))).min(LONGEST_WAIT)
    }
}

/// The monotonic time of the fences.
fn moment() -> Duration {
    static BEGAN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    tokio::time::Instant::now().into_std().saturating_duration_since(*BEGAN)
}

fn read<K: Followed>(object: &Object) -> Decoded<K> {
    Decoded::deserialize(&**object).expect("metadata")
}
