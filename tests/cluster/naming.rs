//! Names, texts and numbers at their limits.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::names;

use crate::common::story::Story;
use crate::stage::Stories;
use crate::words::{Told, done, idle, polecat, works, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(town_with_60_polecats_runs_at_most_50_at_once);
    stories.with_the_operator(longest_owner_names_reach_their_pods_unchanged);
    stories.with_the_operator(town_gets_a_service_when_its_name_begins_with_a_digit);
    stories.with_the_operator(hook_of_64_kib_reaches_the_pod_unchanged);
    stories.with_the_operator(town_accepts_200_rigs_and_no_more);
}

async fn longest_owner_names_reach_their_pods_unchanged(story: Story) {
    let ports = json!({"storage": {"size": "1Gi"}, "ports": [{"name": "web", "port": 80}]});
    let mut children = BTreeSet::new();
    for length in [63, 253] {
        // Two names of each length that differ only after the limit of a child's name; one has a dot at the limit.
        for last in ["a", "b"] {
            let start = if length == 63 { "t" } else { "town.with.dots" };
            let name = format!("{start}{}{last}", "x".repeat(length - start.len() - 1));
            story.create_town(&name, workshop_with(ports.clone())).await;
            let agent = format!("cat-{}{last}", "y".repeat(length - 5));
            story.create_agent(&agent, &name, polecat("b-1")).await;
            let cat = story.agent(&agent).until("works", works).await;
            let town =
                story.town(&name).until("runs", |town| town.phase() == "Running" && town.is("Ready")).await;
            for (owner, child) in [(&name, town.child()), (&agent, cat.child())] {
                let pod = story.pod(&child).get().await;
                let kind = if owner == &name { "Town" } else { "Agent" };
                assert_eq!(pod.annotations()[names::OWNER], format!("{kind}/{}/{owner}", story.namespace));
                assert_eq!(pod.labels()[names::COMPONENT], kind.to_lowercase());
                let env = serde_json::to_value(&pod.spec).unwrap()["containers"][0]["env"].clone();
                let told = json!({"name": "GASTOWN_TOWN", "value": name});
                assert!(env.as_array().unwrap().contains(&told), "{env}");
                assert!(children.insert(child), "names of children must not meet");
            }
            let service = town.status.unwrap().service.unwrap();
            assert!(story.seen::<Service>(&service).find().await.is_some(), "{service}");
        }
    }
    assert_eq!(children.len(), 8);
}

async fn town_gets_a_service_when_its_name_begins_with_a_digit(story: Story) {
    // On older servers the name of a Service begins with a letter. The name of a town can begin with a digit.
    for name in ["9lives", "0", "1.2.3"] {
        story.create_town(name, workshop_with(json!({"ports": [{"name": "web", "port": 80}]}))).await;
        let town = story.town(name).until("is idle", idle).await;
        let service = town.status.unwrap().service.unwrap();
        let service = story.seen::<Service>(&service).get().await;
        assert_eq!(service.labels()[names::TOWN_UID], town.metadata.uid.unwrap());
    }
}

async fn hook_of_64_kib_reaches_the_pod_unchanged(story: Story) {
    story.create_town("shop", workshop()).await;
    // 64 KiB in bytes, half of it in letters of several bytes; a title in many scripts.
    let instructions = format!("\"quoted\" \\ \t\n{}", "é".repeat(20_000));
    let instructions = format!("{instructions}{}", "z".repeat(65_536 - instructions.len()));
    assert_eq!(instructions.len(), 65_536);
    let hook = json!({"bead": "b-ü", "title": "Tür ölen 门 🚪 \u{202e}rtl", "instructions": instructions});
    for (name, spec) in [
        ("cat", json!({"role": "Polecat", "rig": "core", "hook": hook})),
        ("mayor", json!({"role": "Mayor", "hook": hook})),
    ] {
        story.create_agent(name, "shop", spec).await;
        let agent = story.agent(name).until("is there", |agent| agent.is("Ready")).await;
        let pod = story
            .pod(&agent.child())
            .until("has its hook", |pod| pod.annotations().contains_key(names::HOOK))
            .await;
        let arrived: Value = serde_json::from_str(&pod.annotations()[names::HOOK]).unwrap();
        assert!(arrived == hook, "{name}: what arrives is what was written");
    }
    let one_more = json!({"spec": {"hook": {"bead": "b-2", "instructions": format!("{instructions}z")}}});
    let refused = story.try_kubectl(&["patch", "ta", "cat", "--type=merge", "-p", &one_more.to_string()]);
    let said = refused.unwrap_err();
    assert!(said.contains("65536"), "{said}");
}

async fn town_accepts_200_rigs_and_no_more(story: Story) {
    let rigs: Vec<Value> = (0..200)
        .map(|number| {
            json!({"name": format!("rig-{number}"), "gitUrl": format!("https://git.test/{number}"), "branch": "dev"})
        })
        .collect();
    story.create_town("city", workshop_with(json!({"rigs": rigs.clone()}))).await;
    let mut spec = polecat("b-1");
    spec["rig"] = "rig-199".into();
    story.create_agent("cat", "city", spec).await;
    let cat = story.agent("cat").until("works", works).await;
    let pod = serde_json::to_value(story.pod(&cat.child()).get().await.spec).unwrap();
    let env = pod["containers"][0]["env"].as_array().unwrap();
    for (name, value) in [
        ("GASTOWN_RIG", "rig-199"),
        ("GASTOWN_RIG_URL", "https://git.test/199"),
        ("GASTOWN_RIG_BRANCH", "dev"),
    ] {
        assert!(env.contains(&json!({"name": name, "value": value})), "{env:?}");
    }
    let more = [rigs, vec![json!({"name": "one-more"})]].concat();
    let one_more = json!({"spec": {"rigs": more}});
    let refused = story.try_kubectl(&["patch", "tw", "city", "--type=merge", "-p", &one_more.to_string()]);
    let said = refused.unwrap_err();
    assert!(said.contains("spec.rigs") && said.contains("200"), "{said}");
    story.players.succeed(&cat.child(), "").await;
    story.agent("cat").until("is done", |agent| done(agent) == ["b-1"]).await;
}

async fn town_with_60_polecats_runs_at_most_50_at_once(story: Story) {
    let long = Duration::from_mins(2);
    story
        .create_town(
            "hive",
            workshop_with(json!({"template": null, "rigs": [{"name": "core", "maxPolecats": 50}]})),
        )
        .await;
    let cats: Vec<String> = (0..60).map(|number| format!("cat-{number:02}")).collect();
    for cat in &cats {
        story.create_agent(cat, "hive", polecat("b-1")).await;
    }
    // The limit is fifty at a time. A finished polecat frees its place for another.
    let (mut finished, mut most) = (BTreeSet::new(), 0);
    let deadline = std::time::Instant::now() + long;
    while finished.len() < cats.len() {
        assert!(std::time::Instant::now() < deadline, "{} of {}", finished.len(), cats.len());
        let agents = story.api::<town_operator::api::Agent>().list(&kube::api::ListParams::default()).await;
        let working: Vec<_> = agents.unwrap().items.into_iter().filter(works).collect();
        most = most.max(working.len());
        assert!(working.len() <= 50, "{} at work", working.len());
        let next: Vec<_> =
            working.iter().filter(|cat| !finished.contains(&cat.name_any())).take(10).collect();
        for cat in next {
            story.players.succeed(&cat.child(), "").await;
            finished.insert(cat.name_any());
        }
    }
    for cat in &cats {
        story.agent(cat).until_within(long, "is done", |agent| agent.phase() == "Done").await;
    }
    let town = story.town("hive").get().await;
    story.town("hive").delete().await;
    story.town("hive").gone_within(long).await;
    assert_eq!(story.children(&town.id()).await, [""; 0]);
    assert!(most > 0);
}
