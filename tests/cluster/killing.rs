//! The operator is killed at each write of a destruction: before it sends the write, and after the write has taken
//! effect but before the answer.

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use serde_json::json;
use town_operator::api::{Agent, Town};

use crate::common::account::Account;
use crate::common::checkpoints::{Checkpoints, Side};
use crate::common::operator::Operator;
use crate::common::requests::Requests;
use crate::common::seen::show;
use crate::common::story::Story;
use crate::common::suite::note;
use crate::common::wait::until;
use crate::crash::{OPERATOR, quick};
use crate::remains::{is_destroyed, no_volume_is_left, volumes_are_made_by_themselves};
use crate::scale::PATIENT;
use crate::stage::Stories;
use crate::words::{Told, polecat, works, workshop_with};

/// A timeout for towns that are destroyed at the same time.
pub const LONG: Duration = Duration::from_mins(3);
/// The number of towns that are created at the same time.
const AT_ONCE: usize = 8;

pub fn add(stories: &mut Stories) {
    stories.alone_on(quick(), destruction_of_a_town_completes_after_a_kill_at_any_write);
    stories.alone_on(quick(), destruction_of_a_town_with_agents_completes_after_a_kill_at_any_write);
}

/// The kinds of writes of a destruction, and their numbers.
const ALONE: [(&str, usize); 8] = [
    ("create tombstones", 1),
    // The annotation and the finalizer.
    ("patch towns", 2),
    ("update towns/status", 1),
    ("delete secrets", 1),
    ("delete pods", 1),
    ("delete persistentvolumeclaims", 1),
    ("delete services", 1),
    ("update tombstones/status", 1),
];
/// The same writes for a town with a mayor and a polecat.
const WITH_AGENTS: [(&str, usize); 11] = [
    ("create tombstones", 1),
    ("patch towns", 2),
    ("update towns/status", 1),
    ("delete secrets", 1),
    ("delete agents", 2),
    ("delete pods", 3),
    // The result of the polecat is recorded.
    ("patch pods", 1),
    ("patch agents", 2),
    ("delete persistentvolumeclaims", 2),
    ("delete services", 1),
    ("update tombstones/status", 1),
];

async fn destruction_of_a_town_completes_after_a_kill_at_any_write(story: Story) {
    at_each_write(&story, &ALONE, &[]).await;
}

async fn destruction_of_a_town_with_agents_completes_after_a_kill_at_any_write(story: Story) {
    at_each_write(&story, &WITH_AGENTS, &["mayor", "ann"]).await;
}

/// Creates a town for each side of each of these writes, and deletes all towns: each destruction proceeds to its write.
/// Then the operator is killed and restarted.
async fn at_each_write(story: &Story, writes: &[(&'static str, usize)], agents: &[&str]) {
    volumes_are_made_by_themselves(story).await;
    let account = Account::create(&story.cluster).await;
    let way = Checkpoints::before(&story.cluster, account.kubeconfig()).await;
    // No town waits for another that is held.
    let flags = [OPERATOR, PATIENT[0], PATIENT[1], "--concurrency=256", "--max-concurrent-starts=10000"];
    let operator = Operator::start(way.kubeconfig(), &flags).await;
    let each = writes.iter().flat_map(|&(sort, many)| (1..=many).map(move |at| (sort, at)));
    let points: Vec<_> =
        each.flat_map(|(sort, at)| [Side::Before, Side::After].map(|side| (sort, at, side))).collect();
    // The name of a record is `town-` and a UID, which can also begin with digits.
    let names: Vec<String> = (0..points.len()).map(|number| format!("point-{number:02}")).collect();
    let made = names.iter().map(|name| awake(story, name, agents));
    let towns: Vec<Town> = futures::stream::iter(made).buffered(AT_ONCE).collect().await;
    let had = join_all(towns.iter().map(async |town| story.children(&town.id()).await)).await;

    let start = Requests::until_now(story);
    for (name, &(sort, at, side)) in names.iter().zip(&points) {
        way.set(name, sort, at, side);
    }
    join_all(names.iter().map(async |name| story.town(name).delete().await)).await;
    for (name, point) in names.iter().zip(&points) {
        until(&format!("{name} comes as far as {point:?}"), LONG, async || {
            if way.reached(name) {
                return Ok(());
            }
            Err(story.town(name).find().await.map_or("it is gone".into(), |town| show(&town)))
        })
        .await;
    }
    operator.kill();
    way.open();
    operator.restart().await;

    for (((name, point), town), had) in names.iter().zip(&points).zip(&towns).zip(&had) {
        note(format!("{name}: killed at {point:?}"));
        is_destroyed(story, town, had).await;
    }
    no_volume_is_left(story).await;
    let asked = Requests::since(story, start);
    println!(
        "killed at {} points of the destruction of as many towns: {:?}",
        points.len(),
        asked.sorts_of_writes()
    );
    for sort in asked.sorts_of_writes().keys() {
        // The operator writes an agent status only for a slow step, and patches a record only for a volume that was not
        // bound yet.
        let now_and_then = ["update agents/status", "patch tombstones"].contains(&sort.as_str());
        let known = now_and_then || writes.iter().any(|(known, _)| known == sort);
        assert!(known, "nobody was killed at {sort}, or something was made for a town that goes");
    }
}

/// Creates a town with a volume, a Service and a token, and these agents. Waits until the mayor is ready and the others
/// work, with a volume each.
pub async fn awake(story: &Story, name: &str, agents: &[&str]) -> Town {
    create(story, name, agents).await;
    for agent in agents {
        let there = |agent: &Agent| works(agent) || agent.is("Ready");
        story.agent(&format!("{name}-{agent}")).until_within(LONG, "is there", there).await;
    }
    let whole = |town: &Town| town.is("Ready") && town.pod_uid().is_some();
    story.town(name).until_within(LONG, "has its pod", whole).await
}

/// Creates such a town without waiting.
pub async fn create(story: &Story, name: &str, agents: &[&str]) -> Town {
    let spec = workshop_with(json!({
        "storage": {"size": "1Gi"}, "ports": [{"name": "web", "port": 8080}],
        // The address has no server, and the interval is longer than the story.
        "activityProbe": {"port": 8080}, "alarm": {"active": "10m", "idle": "1h"},
    }));
    let town = story.create_town(name, spec).await;
    for agent in agents {
        let mut spec = polecat("b-1");
        spec["storage"] = json!({"size": "1Gi"});
        if *agent == "mayor" {
            spec = json!({"role": "Mayor"});
        }
        story.create_agent(&format!("{name}-{agent}"), name, spec).await;
    }
    town
}
