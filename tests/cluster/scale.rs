//! Many towns deleted at once, and an operator that is killed again and again meanwhile: nothing is left of any, and
//! nothing brings one back.

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

/// How many towns there are, where the environment does not say it.
const TOWNS: usize = 100;
/// Says how many towns there are.
const HOW_MANY: &str = "TOWNS";
/// How often the operator is killed.
const KILLS: usize = 10;
/// Those who are clients of the API server at once.
const HANDS: usize = 16;
/// A leader that is kept waiting for its Lease by so much else does not end by itself: it is for the story to kill.
pub const PATIENT: [&str; 2] = ["--lease-duration=60s", "--lease-renew-deadline=50s"];
/// Objects that a town is made of: itself, its agents, a pod for each of them, claim, volume, Service and token.
const OBJECTS: usize = 1 + 3 + 4 + 4;
/// The most writes that the end of a town may cost: twenty for what is done (a record and its receipts, the
/// annotation, the finalizer; three for each agent and one more for each result; pod, claim, Service and token; one
/// status), and ten for what is said meanwhile, and for what a killed operator did and did not know.
const AN_END: usize = 30;

pub fn add(stories: &mut Stories) {
    stories.alone_on(quick(), k23_k32_towns_deleted_all_at_once_under_kills_leave_nothing_and_stay_away);
}

async fn k23_k32_towns_deleted_all_at_once_under_kills_leave_nothing_and_stay_away(story: Story) {
    let towns = std::env::var(HOW_MANY).map_or(TOWNS, |number| number.parse().expect("TOWNS is a number"));
    // Ample on a machine that has other things to do.
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
    // Endpoints of Services go a little later, by the hand of the controller manager.
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

/// Whether the operator made something other than the record of a destruction.
fn is_creation(write: &str) -> bool {
    write.starts_with("create ") && !write.starts_with("create tombstones ")
}

/// What came meanwhile and is none of a town's: the operator's own identity, and the records.
fn stays(object: &str) -> bool {
    object.starts_with("Tombstone ") || object.contains("town-operator") || object.contains("town-system")
}

/// Makes so many towns, each with a volume, a Service, a token, a mayor and two polecats at work; their UIDs.
async fn awake(story: &Story, towns: usize, patience: Duration) -> BTreeSet<String> {
    let create = async |number: usize| {
        let town = name(number);
        let spec = workshop_with(json!({
            "storage": {"size": "1Gi"}, "ports": [{"name": "web", "port": 8080}],
            // Nobody answers there, and nobody is asked again while this lasts.
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

/// How much of the work of destroying is done: records begun and ended, and objects that are gone.
#[derive(Default)]
struct Work {
    /// Kinds that are watched.
    watched: usize,
    /// Steps that were seen.
    done: usize,
}

/// Those who look on.
struct Watchers {
    work: watch::Receiver<Work>,
    // Ends with this value.
    _tasks: JoinSet<()>,
}

impl Watchers {
    /// Calls one for each kind, and waits until they see all.
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
        // It is created, and it is complete.
        tasks.spawn(look_on::<Tombstone>(client.clone(), work, written));
        let kinds = tasks.len();
        let mut watchers = Self { work: seen, _tasks: tasks };
        watchers.work.wait_for(|work| work.watched == kinds).await.unwrap();
        watchers
    }

    /// Waits until so many steps are done.
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

/// Kills the operator after each further part of what there is to do, and starts it again at once. The most memory
/// that it had, in bytes.
async fn killed_again_and_again(
    mut watchers: Watchers,
    operator: &Operator,
    towns: usize,
    patience: Duration,
) -> u64 {
    // A record that is begun and ended for each town, and the end of each object.
    let work = towns * (2 + OBJECTS);
    let mut peak = 0;
    for kill in 1..=KILLS {
        watchers.done(work * kill / (KILLS + 1), patience).await;
        peak = peak.max(operator.peak_memory());
        operator.restart().await;
    }
    peak
}

/// How many objects there are of what towns are made of.
async fn there(client: &Client) -> usize {
    count::<Town>(client).await
        + count::<Agent>(client).await
        + count::<Pod>(client).await
        + count::<PersistentVolumeClaim>(client).await
        + count::<PersistentVolume>(client).await
        + count::<Service>(client).await
        + count::<Secret>(client).await
        // The one of the API server itself.
        - 1
}

/// How many objects of a kind the cluster has.
async fn count<K: Object>(client: &Client) -> usize {
    let one = Api::<K>::all(client.clone()).list_metadata(&ListParams::default().limit(1)).await;
    let one = one.unwrap_or_else(|error| panic!("{}: {error}", K::kind(&())));
    let more = one.metadata.remaining_item_count.unwrap_or_default();
    one.items.len() + usize::try_from(more).unwrap()
}

/// Whether there is no object of a kind with these fields, or which there is.
async fn none<K: Object>(client: &Client, fields: &str) -> Result<(), String> {
    let one = ListParams::default().fields(fields).limit(1);
    let found = Api::<K>::all(client.clone()).list_metadata(&one).await.map_err(|error| error.to_string())?;
    found.items.first().map_or(Ok(()), |one| Err(format!("{} {}: {fields}", K::kind(&()), one.name_any())))
}

/// Each of these towns has a record, which says of everything that it had that it is gone.
async fn all_are_on_record(story: &Story, uids: &BTreeSet<String>) {
    let records: Api<Tombstone> = Api::all(story.client());
    let records = records.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(&records.iter().map(|record| record.spec.uid.clone()).collect::<BTreeSet<_>>(), uids);
    for record in &records {
        let gone = proven_gone(record);
        assert!(gone.len() >= OBJECTS - 1, "everything that it had: {record:?}");
    }
}
