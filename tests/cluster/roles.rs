//! The holders of roles, and the order of polecats on a rig.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::{Agent, names};

use crate::common::story::Story;
use crate::stage::Stories;
use crate::words::{Told, done, polecat, works, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(town_has_at_most_one_mayor);
    stories.with_the_operator(role_stays_with_its_holder_over_a_sleep);
    stories.with_the_operator(rig_has_at_most_one_refinery);
    stories.with_the_operator(polecats_wait_in_order_when_their_rig_is_full);
    stories.with_the_operator(max_polecats_may_be_raised_and_lowered);
}

fn there(agent: &Agent) -> bool {
    agent.phase() == "Idle" && agent.is("Ready")
}

fn role_taken(agent: &Agent) -> bool {
    agent.is("Stalled") && agent.reason("Stalled") == "RoleTaken" && agent.phase() == "Blocked"
}

/// Whether the agent waits for its turn and reports this.
fn waits(agent: &Agent) -> bool {
    agent.phase() == "Blocked" && agent.reason("Ready") == "RigFull"
}

async fn no_pod_of(story: &Story, agent: &Agent) {
    assert_eq!(story.pods(names::AGENT_UID, &agent.id()).await.len(), 0, "{}", agent.name_any());
}

async fn town_has_at_most_one_mayor(story: Story) {
    story.create_town("hall", workshop()).await;
    story.create_agent("ada", "hall", json!({"role": "Mayor"})).await;
    let ada = story.agent("ada").until("is there", there).await;
    story.create_agent("bob", "hall", json!({"role": "Mayor", "hook": {"bead": "b-1"}})).await;
    let bob = story.agent("bob").until("is refused", role_taken).await;
    let message = bob.message("Stalled");
    assert!(message.contains("agent ada is the Mayor of town hall"), "{message}");
    assert!(!bob.is("Reconciling") && !bob.is("Ready"));
    no_pod_of(&story, &bob).await;
    story.create_agent("crew", "hall", json!({"role": "Crew"})).await;
    story.create_agent("more", "hall", json!({"role": "Crew"})).await;
    for crew in ["crew", "more"] {
        story.agent(crew).until("is there, as any number may be", there).await;
    }

    story.players.hold(&ada.child()).await;
    story.agent("ada").delete().await;
    story.agent("ada").until("is being destroyed", |agent| agent.phase() == "Destroying").await;
    story.agent("bob").stays(Duration::from_secs(2), "waits until ada is gone", role_taken).await;
    story.players.release(&ada.child()).await;
    let bob = story.agent("bob").until("takes over", there).await;
    assert!(!bob.is("Stalled"));
}

async fn role_stays_with_its_holder_over_a_sleep(story: Story) {
    story.create_town("hall", workshop()).await;
    story.create_agent("old", "hall", json!({"role": "Crew"})).await;
    story.agent("old").until("is there", there).await;
    story.create_agent("young", "hall", json!({"role": "Mayor"})).await;
    let young = story.agent("young").until("is there", there).await;
    let pod = story.pod(&young.child()).get().await;
    story.create_agent("older", "hall", json!({"role": "Mayor"})).await;
    story.agent("older").until("is refused", role_taken).await;

    // During sleep no agent runs, and the role stays with its holder.
    story.town("hall").merge(json!({"spec": {"suspend": true}})).await;
    story.town("hall").until("sleeps", |town| town.phase() == "Asleep").await;
    story.agent("older").stays(Duration::from_secs(1), "is refused still", role_taken).await;
    story.town("hall").merge(json!({"spec": {"suspend": false}})).await;
    story
        .pod(&young.child())
        .until("is there again", |again| {
            again.uid() != pod.uid() && again.metadata.deletion_timestamp.is_none()
        })
        .await;
    let older = story.agent("older").until("is refused", role_taken).await;
    no_pod_of(&story, &older).await;
}

async fn rig_has_at_most_one_refinery(story: Story) {
    story.create_town("works", workshop_with(json!({"rigs": [{"name": "core"}, {"name": "docs"}]}))).await;
    let refinery = |rig: &str| json!({"role": "Refinery", "rig": rig});
    story.create_agent("core-one", "works", refinery("core")).await;
    story.create_agent("docs-one", "works", refinery("docs")).await;
    for name in ["core-one", "docs-one"] {
        story.agent(name).until("is there", there).await;
    }
    story.create_agent("core-two", "works", refinery("core")).await;
    let second = story.agent("core-two").until("is refused", role_taken).await;
    let message = second.message("Stalled");
    assert!(message.contains("agent core-one is the Refinery of rig core of town works"), "{message}");
    no_pod_of(&story, &second).await;
    story.agent("core-one").delete().await;
    story.agent("core-two").until("takes over", there).await;
    story.agent("docs-one").stays(Duration::from_secs(1), "goes on", there).await;
}

/// A workshop with this limit of polecats on its rig.
fn narrow(limit: i32) -> Value {
    workshop_with(json!({"rigs": [{"name": "core", "maxPolecats": limit}]}))
}

/// The agents in the order of their creation.
fn in_order(one: Agent, other: Agent) -> (Agent, Agent) {
    let age = |agent: &Agent| (agent.creation_timestamp(), agent.uid());
    if age(&one) < age(&other) { (one, other) } else { (other, one) }
}

async fn polecats_wait_in_order_when_their_rig_is_full(story: Story) {
    story.create_town("lane", narrow(1)).await;
    story.create_agent("ann", "lane", polecat("b-1")).await;
    let ann = story.agent("ann").until("works", works).await;
    for name in ["bob", "eve"] {
        let mut spec = polecat("b-1");
        spec["retry"] = json!({"limit": 1});
        story.create_agent(name, "lane", spec).await;
    }
    let bob = story.agent("bob").until("waits", waits).await;
    let eve = story.agent("eve").until("waits", waits).await;
    let (first, last) = in_order(bob, eve);
    let (first, last) = (first.name_any(), last.name_any());
    for (name, place) in [(&first, "number 1"), (&last, "number 2")] {
        let waiting = story
            .agent(name)
            .until("knows its place", |agent| waits(agent) && agent.message("Ready").contains(place))
            .await;
        assert!(
            waiting.message("Ready").contains("rig core runs at most 1 polecats"),
            "{}",
            waiting.message("Ready")
        );
        assert!(waiting.is("Reconciling") && !waiting.is("Stalled"), "a wait that ends by itself");
        no_pod_of(&story, &waiting).await;
    }

    story.players.succeed(&ann.child(), "").await;
    let next = story.agent(&first).until("works next", works).await;
    let waiting = story
        .agent(&last)
        .until("is first now", |agent| waits(agent) && agent.message("Ready").contains("number 1"))
        .await;
    no_pod_of(&story, &waiting).await;

    // A failed agent does not block the others.
    story.players.fail(&next.child(), 1, "no").await;
    story.agent(&first).until("is failed", |agent| agent.phase() == "Failed").await;
    let third = story.agent(&last).until("works", works).await;
    story.players.succeed(&third.child(), "").await;
    story.agent(&last).until("is done", |agent| done(agent) == ["b-1"]).await;
}

async fn max_polecats_may_be_raised_and_lowered(story: Story) {
    story.create_town("lane", narrow(0)).await;
    for name in ["ann", "bob"] {
        story.create_agent(name, "lane", polecat("b-1")).await;
        story.agent(name).until("waits", waits).await;
    }
    let town = story.town("lane").until("is idle", |town| town.phase() == "Idle").await;
    assert!(!town.is("Active"), "who waits for room is no work");
    let (first, last) = in_order(story.agent("ann").get().await, story.agent("bob").get().await);

    story.town("lane").merge(json!({"spec": {"rigs": [{"name": "core", "maxPolecats": 1}]}})).await;
    let working = story.agent(&first.name_any()).until("works", works).await;
    story.agent(&last.name_any()).stays(Duration::from_secs(2), "waits", waits).await;
    story.town("lane").merge(json!({"spec": {"rigs": [{"name": "core", "maxPolecats": 2}]}})).await;
    story.agent(&last.name_any()).until("works too", works).await;

    story.town("lane").merge(json!({"spec": {"rigs": [{"name": "core", "maxPolecats": 0}]}})).await;
    story.town("lane").until("has seen it", Told::is_current).await;
    story.agent(&first.name_any()).stays(Duration::from_secs(2), "goes on", works).await;
    let pod = story.pod(&working.child()).get().await;
    assert_eq!(pod.metadata.deletion_timestamp, None, "who is at it is not interrupted");
}
