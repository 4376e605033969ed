//! The operator killed between any two writes of a destruction: before each of them is sent, and when it has taken
//! effect and the answer has not come.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use serde_json::json;
use town_operator::api::Town;

use crate::common::account::Account;
use crate::common::checkpoints::{Checkpoints, Side};
use crate::common::operator::Operator;
use crate::common::requests::Requests;
use crate::common::story::Story;
use crate::common::wait::until;
use crate::crash::{OPERATOR, quick};
use crate::remains::{is_gone_whole, no_volume_is_left, proven_gone, volumes_are_made_by_themselves};
use crate::scale::{PATIENT, is_creation};
use crate::stage::Stories;
use crate::words::{Told, polecat, works, workshop_with};

/// Ample for towns that are destroyed side by side.
const LONG: Duration = Duration::from_mins(3);
/// Towns that are made at the same time.
const AT_ONCE: usize = 8;

pub fn add(stories: &mut Stories) {
    stories.alone_on(quick(), t8_killed_at_any_write_of_a_destruction_the_operator_ends_it);
    stories.alone_on(quick(), t8_killed_at_any_write_of_the_destruction_of_a_town_with_agents_it_ends_it);
}

async fn t8_killed_at_any_write_of_a_destruction_the_operator_ends_it(story: Story) {
    let writes = at_each_write(&story, 14, &[]).await;
    let steps = [
        "create tombstones",
        "delete persistentvolumeclaims",
        "delete pods",
        "delete secrets",
        "delete services",
        "patch towns",
        "update tombstones/status",
        "update towns/status",
    ];
    assert_eq!(writes, steps.map(str::to_owned).into());
}

async fn t8_killed_at_any_write_of_the_destruction_of_a_town_with_agents_it_ends_it(story: Story) {
    let writes = at_each_write(&story, 26, &["mayor", "ann"]).await;
    for write in ["delete agents", "patch agents", "patch pods", "delete pods", "update tombstones/status"] {
        assert!(writes.contains(write), "nobody was killed at {write}: {writes:?}");
    }
}

/// Who is held up, and where.
struct Point {
    name: String,
    at: usize,
    side: Side,
}

/// Makes a town for each side of each write that a destruction may have, and destroys them all: each comes as far as
/// its write. Then the operator is killed, and started again. The writes at which somebody was held up.
async fn at_each_write(story: &Story, most: usize, agents: &[&str]) -> BTreeSet<String> {
    volumes_are_made_by_themselves(story).await;
    let account = Account::create(&story.cluster);
    let way = Checkpoints::before(&story.cluster, account.kubeconfig()).await;
    // Nobody waits because somebody else is held up.
    let flags = [OPERATOR, PATIENT[0], PATIENT[1], "--concurrency=256", "--max-concurrent-starts=10000"];
    let operator = Operator::start(way.kubeconfig(), &flags).await;
    let sides = [("before", Side::Before), ("after", Side::After)];
    let point = |at| sides.map(|(word, side)| Point { name: format!("{word}-{at:02}"), at, side });
    let points: Vec<Point> = (1..=most).flat_map(point).collect();
    let towns = points.iter().map(|point| awake(story, &point.name, agents));
    let towns: Vec<Town> = futures::stream::iter(towns).buffered(AT_ONCE).collect().await;
    let had = join_all(towns.iter().map(async |town| story.children(&town.id()).await)).await;

    let start = Requests::until_now(story);
    for point in &points {
        way.set(&point.name, point.at, point.side);
    }
    join_all(points.iter().map(async |point| story.town(&point.name).delete().await)).await;
    let mut writes = BTreeSet::new();
    for side in sides.map(|(_, side)| side) {
        let mut whole = 0;
        for point in points.iter().filter(|point| point.side == side) {
            match held_up(story, &way, &point.name).await {
                Some(write) => {
                    println!("killed {side:?} write {:>2}: {write}", point.at);
                    writes.insert(write.split(" -> ").next().unwrap_or_default().to_owned());
                }
                None => whole += 1,
            }
        }
        assert!(whole > 0, "there is a write that nobody was killed at: {writes:?}");
    }
    operator.kill();
    way.open();
    operator.restart().await;

    for ((point, town), had) in points.iter().zip(&towns).zip(had) {
        is_gone_whole(story, town).await;
        let gone = proven_gone(&story.tombstone(town).get().await);
        let had: BTreeSet<String> = had.into_iter().collect();
        assert!(had.is_subset(&gone), "{}: a receipt for each of {had:?}: {gone:?}", point.name);
    }
    no_volume_is_left(story).await;
    let writes_since = Requests::since(story, start).writes();
    let created: Vec<&String> = writes_since.iter().filter(|write| is_creation(write)).collect();
    assert_eq!(created, [""; 0], "nothing is made for a town that goes");
    writes
}

/// Waits until somebody who writes about this town is held up, and says at which write; `None`: it is gone.
async fn held_up(story: &Story, way: &Checkpoints, town: &str) -> Option<String> {
    until(&format!("{town} comes as far as it may"), LONG, async || {
        match (way.reached(town), story.town(town).find().await) {
            (Some(write), _) => Ok(Some(write)),
            (None, None) => Ok(None),
            (None, Some(found)) => Err(crate::common::seen::show(&found)),
        }
    })
    .await
}

/// Makes a town with a volume, a Service and a token, and these agents, of which the mayor is there and the others
/// are at work, with a volume each.
async fn awake(story: &Story, name: &str, agents: &[&str]) -> Town {
    let spec = workshop_with(json!({
        "storage": {"size": "1Gi"}, "ports": [{"name": "web", "port": 8080}],
        // Nobody answers there, and nobody is asked again while this lasts.
        "activityProbe": {"port": 8080}, "alarm": {"active": "10m", "idle": "1h"},
    }));
    story.create_town(name, spec).await;
    for agent in agents {
        let spec = match *agent {
            "mayor" => json!({"role": "mayor"}),
            _ => {
                let mut spec = polecat("b-1");
                spec["storage"] = json!({"size": "1Gi"});
                spec
            }
        };
        story.create_agent(&format!("{name}-{agent}"), name, spec).await;
    }
    for agent in agents {
        let there = |agent: &town_operator::api::Agent| works(agent) || agent.is("Ready");
        story.agent(&format!("{name}-{agent}")).until_within(LONG, "is there", there).await;
    }
    let whole = |town: &Town| town.is("Ready") && town.pod_uid().is_some();
    story.town(name).until_within(LONG, "has its pod", whole).await
}
