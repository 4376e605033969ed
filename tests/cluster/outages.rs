//! The servers of the control plane are killed or frozen, with a town in each possible state. Towns that run or sleep
//! stay as they are. Nothing is created or deleted twice. Unfinished work completes.

use std::collections::BTreeSet;

use bed::Component;
use futures::future::join_all;
use kube::ResourceExt;
use serde_json::json;
use town_operator::api::{Town, names};

use crate::common::account::Account;
use crate::common::checkpoints::{Checkpoints, Side};
use crate::common::inventory::objects;
use crate::common::operator::Operator;
use crate::common::requests::Requests;
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::crash::{OPERATOR, quick};
use crate::killing::{LONG, awake, create};
use crate::leading::ended_because;
use crate::remains::{is_destroyed, no_volume_is_left, volumes_are_made_by_themselves};
use crate::scale::PATIENT;
use crate::stage::Stories;
use crate::words::{Told, asleep, attempts, works, workshop_with};

/// The duration of the Lease exceeds the outage, so that the leader survives it.
const LASTING: [&str; 4] = [OPERATOR, PATIENT[0], PATIENT[1], ALL_AT_ONCE];
/// No town waits for another that is held.
const ALL_AT_ONCE: &str = "--concurrency=256";
/// The agents of the towns that have agents.
const AGENTS: [&str; 2] = ["mayor", "ann"];

pub fn add(stories: &mut Stories) {
    stories.alone_on(quick(), towns_in_every_state_recover_after_etcd_is_killed);
    stories.alone_on(quick(), towns_in_every_state_recover_after_etcd_is_frozen);
    stories.alone_on(quick(), towns_in_every_state_recover_after_the_api_server_is_killed);
    stories.alone_on(quick(), towns_in_every_state_recover_after_the_api_server_is_frozen);
}

async fn towns_in_every_state_recover_after_etcd_is_killed(story: Story) {
    let plane = story.cluster.plane();
    // The leader has the default terms, which are shorter than the outage.
    come_through(&story, &[OPERATOR, ALL_AT_ONCE], async |towns| {
        plane.kill(Component::Etcd).unwrap();
        ended_because(&towns.operator, "not be renewed in time");
        towns.way.open();
        plane.restart(Component::Etcd).unwrap();
        story.cluster.crds_answer().await;
        towns.operator.restart().await;
    })
    .await;
}

async fn towns_in_every_state_recover_after_etcd_is_frozen(story: Story) {
    // The message of the API server.
    silence(&story, Component::Etcd, "did not complete within the allotted timeout").await;
}

async fn towns_in_every_state_recover_after_the_api_server_is_killed(story: Story) {
    let plane = story.cluster.plane();
    come_through(&story, &LASTING, async |towns| {
        let before = towns.operator.log().len();
        plane.kill(Component::ApiServer).unwrap();
        towns.way.give_up();
        towns.operator_says(before, "the lease could not be written").await;
        plane.restart(Component::ApiServer).unwrap();
        story.cluster.crds_answer().await;
        assert!(towns.operator.runs(), "it lives through it");
    })
    .await;
}

async fn towns_in_every_state_recover_after_the_api_server_is_frozen(story: Story) {
    // The message of the operator for its longest timeout.
    silence(&story, Component::ApiServer, "no answer within 20 s").await;
}

/// Freezes a server: it keeps its connections and answers nothing, until the operator logs the timeout.
async fn silence(story: &Story, component: Component, unanswered: &str) {
    let plane = story.cluster.plane();
    come_through(story, &LASTING, async |towns| {
        let before = towns.operator.log().len();
        plane.freeze(component).unwrap();
        towns.way.open();
        towns.operator_says(before, unanswered).await;
        plane.thaw(component).unwrap();
        towns.way.give_up();
        story.cluster.crds_answer().await;
        assert!(towns.operator.runs(), "it lives through it");
    })
    .await;
}

/// Runs an outage with a town in each state.
async fn come_through(story: &Story, flags: &[&str], outage: impl AsyncFnOnce(&Towns)) {
    let towns = Box::pin(Towns::in_every_state(story, flags)).await;
    outage(&towns).await;
    Box::pin(towns.are_as_they_should_be(story)).await;
}

/// A town in each state, and their operator.
struct Towns {
    way: Checkpoints,
    operator: Operator,
    awake: Town,
    asleep: Town,
    /// The objects of these two towns.
    made_of: BTreeSet<String>,
    /// Partly created towns: the create of a pod was not sent, or has taken effect without an answer.
    begun: [Town; 2],
    /// Towns in deletion, with their objects. The test holds the operator before the delete of a pod and after it. The
    /// third town's deletion has not reached the operator.
    going: Vec<(Town, Vec<String>)>,
}

impl Towns {
    /// Creates the towns. At the return the test holds the operator in the middle of its work, and has just requested
    /// the last deletion.
    async fn in_every_state(story: &Story, flags: &[&str]) -> Box<Self> {
        volumes_are_made_by_themselves(story).await;
        let account = Account::create(&story.cluster).await;
        let way = Checkpoints::before(&story.cluster, account.kubeconfig()).await;
        let operator = Operator::start(way.kubeconfig(), flags).await;
        let going = ["half-gone", "gone-unheard", "asked"];
        let (asleep, awake, gone) = tokio::join!(
            sleeper(story),
            awake(story, "awake", &AGENTS),
            join_all(going.map(|name| awake(story, name, &AGENTS))),
        );
        let had = join_all(gone.iter().map(async |town| story.children(&town.id()).await)).await;
        let made_of = made_of(story, &[&awake, &asleep]).await;

        let held = [
            ("half-made", "create pods", Side::Before),
            ("made-unheard", "create pods", Side::After),
            ("half-gone", "delete pods", Side::Before),
            ("gone-unheard", "delete pods", Side::After),
        ];
        for (name, sort, side) in held {
            way.set(name, sort, 1, side);
        }
        let begun =
            [create(story, "half-made", &["ann"]).await, create(story, "made-unheard", &["ann"]).await];
        story.town("half-gone").delete().await;
        story.town("gone-unheard").delete().await;
        for (name, sort, _) in held {
            until(&format!("{name} comes as far as {sort}"), PATIENCE, async || {
                if way.reached(name) { Ok(()) } else { Err(operator.log()) }
            })
            .await;
        }
        story.town("asked").delete().await;
        let going = gone.into_iter().zip(had).collect();
        Box::new(Self { way, operator, awake, asleep, made_of, begun, going })
    }

    /// Waits for this text in the operator's log after the first so many bytes.
    async fn operator_says(&self, behind: usize, what: &str) {
        until(&format!("the operator says: {what}"), PATIENCE, async || {
            let log = self.operator.log();
            let said = log.get(behind..).is_some_and(|new| new.contains(what));
            if said { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// Every town completes as without the outage; then the test deletes all towns.
    async fn are_as_they_should_be(&self, story: &Story) {
        for town in &self.begun {
            let name = town.name_any();
            let runs = |town: &Town| town.phase() == "Running" && town.is("Ready");
            story.town(&name).until_within(LONG, "runs", runs).await;
            let ann = story.agent(&format!("{name}-ann")).until_within(LONG, "works", works).await;
            assert_eq!(attempts(&ann), 1, "{name}: a start that was interrupted is the same start");
            assert_eq!(
                story.pods(names::TOWN_UID, &town.id()).await.len(),
                2,
                "{name}: a pod, and its agent's"
            );
        }
        for (town, had) in &self.going {
            is_destroyed(story, town, had).await;
        }
        assert_eq!(
            made_of(story, &[&self.awake, &self.asleep]).await,
            self.made_of,
            "nothing came, nothing went"
        );
        let there = story.town("awake").get().await;
        assert!(there.phase() == "Running" && there.is("Ready"), "{there:?}");
        assert!(works(&story.agent("awake-ann").get().await));
        let sleeps = story.town("asleep").get().await;
        assert!(asleep(&sleeps), "{sleeps:?}");
        assert_eq!(story.pods(names::TOWN_UID, &sleeps.id()).await.len(), 0);

        let [half_made, unheard] = &self.begun;
        let live = [&self.awake, &self.asleep, half_made, unheard];
        let had = join_all(live.map(async |town| story.children(&town.id()).await)).await;
        for town in live {
            story.town(&town.name_any()).delete().await;
        }
        for (town, had) in live.into_iter().zip(&had) {
            is_destroyed(story, town, had).await;
        }
        no_volume_is_left(story).await;
        let asked = Requests::since(story, 0);
        println!(
            "{} requests around the outage, of which writes: {:?}",
            asked.0.len(),
            asked.sorts_of_writes()
        );
        assert_eq!(repeated(&asked), [""; 0], "{}", asked.named());
    }
}

/// A town with a volume and a mayor that sleeps because it has no work.
async fn sleeper(story: &Story) -> Town {
    let spec = workshop_with(json!({"storage": {"size": "1Gi"}, "sleepAfter": "10s"}));
    story.create_town("asleep", spec).await;
    story.create_agent("asleep-mayor", "asleep", json!({"role": "Mayor"})).await;
    story.town("asleep").until("sleeps", asleep).await
}

/// The UIDs of the objects of these towns.
async fn made_of(story: &Story, towns: &[&Town]) -> BTreeSet<String> {
    let uids: Vec<String> = towns.iter().map(|town| town.id()).collect();
    objects(&story.client(), &format!("{} in ({})", names::TOWN_UID, uids.join(","))).await
}

/// Objects that were created or deleted more than once.
fn repeated(asked: &Requests) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let effective = |write: &String| {
        let once = write.starts_with("create ") || write.starts_with("delete ");
        once && ["-> 200", "-> 201", "-> 202"].iter().any(|code| write.ends_with(code))
    };
    asked.writes().into_iter().filter(effective).filter(|write| !seen.insert(write.clone())).collect()
}
