//! Many towns are deleted at the same time, and the operator is killed repeatedly meanwhile. No object of a town
//! remains or returns.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};

use bed::Component;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service};
use kube::api::{Api, ListParams, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use town_operator::api::{Agent, Tombstone, Town, names};

use crate::common::inventory::objects;
use crate::common::operator::Operator;
use crate::common::process::peak_memory;
use crate::common::records::proven_gone;
use crate::common::requests::Requests;
use crate::common::seen::Object;
use crate::common::story::Story;
use crate::common::wait::until;
use crate::crash::{OPERATOR, quick};
use crate::remains::volumes_are_made_by_themselves;
use crate::stage::Stories;
use crate::words::{polecat, workshop_with};

/// The default number of towns.
const TOWNS: usize = 100;
/// The environment variable with the number of towns.
const HOW_MANY: &str = "TOWNS";
/// The number of kills of the operator.
const KILLS: usize = 10;
/// The number of concurrent clients of the API server.
const HANDS: usize = 16;
/// A leader whose Lease renewal is slow because of the load must not end by itself: only the story kills it.
pub const PATIENT: [&str; 2] = ["--lease-duration=60s", "--lease-renew-deadline=50s"];
/// The objects of a town: the town, its agents, a pod for each of them, claim, volume, Service and token.
const OBJECTS: usize = 1 + 3 + 4 + 4;
/// The limit of writes for the end of a town. Twenty for the destruction: a record and its receipts, the annotation,
/// the finalizer; three for each agent and one more for each result; pod, claim, Service and token; one status. Ten for
/// status updates meanwhile, and for repeated writes after a kill.
const AN_END: usize = 30;

pub fn add(stories: &mut Stories) {
    stories.alone_on(quick(), towns_deleted_at_once_leave_no_objects_when_the_operator_is_killed_often);
}

async fn towns_deleted_at_once_leave_no_objects_when_the_operator_is_killed_often(story: Story) {
    let towns = std::env::var(HOW_MANY).map_or(TOWNS, |number| number.parse().expect("TOWNS is a number"));
    // A generous timeout for a busy machine.
    let patience = Duration::from_secs(60 + 3 * towns as u64);
    volumes_are_made_by_themselves(&story).await;
    let before = objects(&story.client(), "").await;

    let operator = story.cluster.operator(&[OPERATOR, PATIENT[0], PATIENT[1]]).await;
    let began = Instant::now();
    let uids = awake(&story, towns, patience).await;
    let started = began.elapsed();
    let start = Requests::until_now(&story);

    let watchers = Watchers::call(&story.client()).await;
    let began = Instant::now();
    let delete = async |number: usize| story.town(&name(number)).delete().await;
    let all_deleted =
        futures::stream::iter(0..towns).map(delete).buffer_unordered(HANDS).collect::<Vec<()>>();
    let (_, mut peak) =
        tokio::join!(all_deleted, killed_again_and_again(watchers, &operator, towns, patience));
    let nobody = async || match count::<Town>(&story.client()).await {
        0 => Ok(()),
        left => Err(format!("{left} are left")),
    };
    until("every town is gone", patience, nobody).await;
    let ended = began.elapsed();
    peak = peak.max(operator.peak_memory());

    let asked = Requests::since(&story, start);
    let writes = asked.writes();
    let created: Vec<&String> = writes.iter().filter(|write| is_creation(write)).collect();
    let etcd = std::fs::metadata(story.cluster.plane().directory().join("etcd/member/snap/db"));
    println!(
        "{towns} towns with 3 agents each: awake after {started:?}; deleted at once, {KILLS} kills, gone after {ended:?}\n  \
         {:.2} writes of {} requests a town: {:?}\n  \
         memory at its peak: operator {} MiB, API server {} MiB; etcd's file: {} MiB",
        per(writes.len(), towns),
        per(asked.0.len(), towns),
        asked.sorts_of_writes(),
        peak >> 20,
        peak_memory(story.cluster.plane().pid(Component::ApiServer).unwrap()) >> 20,
        etcd.map_or(0, |file| file.len()) >> 20,
    );

    assert_eq!(created, [""; 0], "nothing is made for a town that goes");
    all_are_on_record(&story, &uids).await;
    // The controller manager deletes the endpoints of Services a little later.
    until("nothing is there that was not there before", patience, async || {
        let now = objects(&story.client(), "").await;
        let more: Vec<&String> = now.difference(&before).filter(|object| !stays(object)).collect();
        if more.is_empty() { Ok(()) } else { Err(format!("{} objects: {more:#?}", more.len())) }
    })
    .await;
    let marked =
        objects(&story.client(), &format!("{}={}", names::INSTALL, story.cluster.install_label())).await;
    let records = marked.iter().filter(|object| object.starts_with("Tombstone ")).count();
    assert_eq!((records, marked.len()), (towns, towns), "only records carry our mark");
    assert!(writes.len() <= towns * AN_END, "{} writes", writes.len());
}

fn name(number: usize) -> String {
    format!("town-{number:04}")
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn per(many: usize, towns: usize) -> f64 {
    many as f64 / towns as f64
}

/// Whether the write creates an object other than the record of a destruction.
fn is_creation(write: &str) -> bool {
    write.starts_with("create ") && !write.starts_with("create tombstones ")
}

/// Objects that appear meanwhile and belong to no town: the operator's own objects, and the records.
fn stays(object: &str) -> bool {
    object.starts_with("Tombstone ") || object.contains("town-operator") || object.contains("town-system")
}

/// Creates this number of towns, each with a volume, a Service, a token, a mayor and two working polecats; returns
/// their UIDs.
async fn awake(story: &Story, towns: usize, patience: Duration) -> BTreeSet<String> {
    let create = async |number: usize| {
        let town = name(number);
        let spec = workshop_with(json!({
            "storage": {"size": "1Gi"}, "ports": [{"name": "web", "port": 8080}],
            // The address has no server, and the interval is longer than the story.
            "activityProbe": {"port": 8080}, "alarm": {"active": "10m", "idle": "1h"},
        }));
        let made = story.create_town(&town, spec).await;
        story.create_agent(&format!("{town}-mayor"), &town, json!({"role": "Mayor"})).await;
        for cat in ["ann", "bob"] {
            story.create_agent(&format!("{town}-{cat}"), &town, polecat("b-1")).await;
        }
        made.uid().unwrap()
    };
    let uids = futures::stream::iter(0..towns).map(create).buffer_unordered(HANDS).collect().await;
    let client = story.client();
    until("all are awake and at work", patience, async || {
        none::<Town>(&client, "status.phase!=Running").await?;
        none::<Agent>(&client, "status.phase!=Working,status.phase!=Idle").await?;
        none::<Pod>(&client, "status.phase!=Running").await?;
        let (there, wanted) = (there(&client).await, towns * OBJECTS);
        if there == wanted { Ok(()) } else { Err(format!("{there} of {wanted} objects")) }
    })
    .await;
    uids
}

/// The progress of the destruction: records that are created and completed, and objects that are gone.
#[derive(Default)]
struct Work {
    /// The number of watched kinds.
    watched: usize,
    /// The number of observed steps.
    done: usize,
}

/// The watches that measure the progress.
struct Watchers {
    work: watch::Receiver<Work>,
    // The tasks end when this value is dropped.
    _tasks: JoinSet<()>,
}

impl Watchers {
    /// Starts a watch for each kind, and waits until all have listed.
    async fn call(client: &Client) -> Self {
        let (work, seen) = watch::channel(Work::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(look_on::<Town>(client.clone(), work.clone(), ends));
        tasks.spawn(look_on::<Agent>(client.clone(), work.clone(), ends));
        tasks.spawn(look_on::<Pod>(client.clone(), work.clone(), ends));
        tasks.spawn(look_on::<PersistentVolumeClaim>(client.clone(), work.clone(), ends));
        tasks.spawn(look_on::<PersistentVolume>(client.clone(), work.clone(), ends));
        tasks.spawn(look_on::<Service>(client.clone(), work.clone(), ends));
        tasks.spawn(look_on::<Secret>(client.clone(), work.clone(), ends));
        // A record is created, and it is completed.
        tasks.spawn(look_on::<Tombstone>(client.clone(), work, written));
        let kinds = tasks.len();
        let mut watchers = Self { work: seen, _tasks: tasks };
        watchers.work.wait_for(|work| work.watched == kinds).await.unwrap();
        watchers
    }

    /// Waits until this number of steps is done.
    async fn done(&mut self, steps: usize, patience: Duration) {
        let awaited = self.work.wait_for(|work| work.done >= steps);
        let in_time = tokio::time::timeout(patience, awaited).await.is_ok();
        assert!(in_time, "{} of {steps} steps within {patience:?}", self.work.borrow().done);
    }
}

fn ends<K>(event: &Event<K>) -> bool {
    matches!(event, Event::Delete(_))
}

fn written<K>(event: &Event<K>) -> bool {
    matches!(event, Event::Apply(_))
}

async fn look_on<K: Object + Send + 'static>(
    client: Client,
    work: watch::Sender<Work>,
    is_step: impl Fn(&Event<PartialObjectMeta<K>>) -> bool,
) {
    let events =
        watcher(Api::<PartialObjectMeta<K>>::all(client), watcher::Config::default()).default_backoff();
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        work.send_modify(|work| match event {
            Ok(Event::InitDone) => work.watched += 1,
            Ok(event) if is_step(&event) => work.done += 1,
            _ => {}
        });
    }
}

/// Kills the operator after each further part of the work, and restarts it immediately. The result is the peak memory
/// in bytes.
async fn killed_again_and_again(
    mut watchers: Watchers,
    operator: &Operator,
    towns: usize,
    patience: Duration,
) -> u64 {
    // Each town has a record that is created and completed, and each of its objects ends.
    let work = towns * (2 + OBJECTS);
    let mut peak = 0;
    for kill in 1..=KILLS {
        watchers.done(work * kill / (KILLS + 1), patience).await;
        peak = peak.max(operator.peak_memory());
        operator.restart().await;
    }
    peak
}

/// The number of objects of the kinds that towns consist of.
async fn there(client: &Client) -> usize {
    count::<Town>(client).await
        + count::<Agent>(client).await
        + count::<Pod>(client).await
        + count::<PersistentVolumeClaim>(client).await
        + count::<PersistentVolume>(client).await
        + count::<Service>(client).await
        + count::<Secret>(client).await
        // The Service of the API server itself.
        - 1
}

/// The number of objects of a kind in the cluster.
async fn count<K: Object>(client: &Client) -> usize {
    let one = Api::<K>::all(client.clone()).list_metadata(&ListParams::default().limit(1)).await;
    let one = one.unwrap_or_else(|error| panic!("{}: {error}", K::kind(&())));
    let more = one.metadata.remaining_item_count.unwrap_or_default();
    one.items.len() + usize::try_from(more).unwrap()
}

/// Checks that no object of a kind has these fields. The error names one.
async fn none<K: Object>(client: &Client, fields: &str) -> Result<(), String> {
    let one = ListParams::default().fields(fields).limit(1);
    let found = Api::<K>::all(client.clone()).list_metadata(&one).await.map_err(|error| error.to_string())?;
    found.items.first().map_or(Ok(()), |one| Err(format!("{} {}: {fields}", K::kind(&()), one.name_any())))
}

/// Checks that each of these towns has a record that proves the end of all its objects.
async fn all_are_on_record(story: &Story, uids: &BTreeSet<String>) {
    let records: Api<Tombstone> = Api::all(story.client());
    let records = records.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(&records.iter().map(|record| record.spec.uid.clone()).collect::<BTreeSet<_>>(), uids);
    for record in &records {
        let gone = proven_gone(record);
        assert!(gone.len() >= OBJECTS - 1, "everything that it had: {record:?}");
    }
}
