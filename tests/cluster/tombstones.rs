//! What outlives a destroyed town: the record of what became of everything that it had.

use std::collections::BTreeSet;

use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use serde_json::json;
use town_operator::api::{Cause, ReceiptOutcome, Recreate, Tombstone, Town};

use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::remains::{busy_town, is_gone_whole};
use crate::stage::Stories;
use crate::words::{Told, asleep, idle, polecat, seconds, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(a3_everything_of_a_town_has_its_receipt);
    stories.with_the_operator(t21_retention_is_how_long_the_record_outlives_its_town);
    stories.with_the_operator(t21_k29_a_name_whose_record_refuses_is_not_taken_again);
}

async fn a3_everything_of_a_town_has_its_receipt(story: Story) {
    let town = busy_town(&story, "gas", &["ann", "bob"]).await;
    story.town("gas").merge(json!({"spec": {"ports": [{"name": "ssh", "port": 22}]}})).await;
    story.town("gas").until("has a service", |t| t.status.as_ref().unwrap().service.is_some()).await;
    let had: BTreeSet<String> = story.children(&town.id()).await.into_iter().collect();
    assert_eq!(had.len(), 2 + 3 + 3 + 1, "agents, pods, claims and a service: {had:?}");
    story.town("gas").delete().await;

    let record = is_gone_whole(&story, &town).await;
    let spec = &record.spec;
    assert_eq!((spec.namespace.as_str(), spec.name.as_str()), (story.namespace.as_str(), "gas"));
    assert_eq!(
        (spec.uid.as_str(), spec.cause, spec.recreate),
        (&*town.id(), Cause::Deleted, Recreate::Allow)
    );
    let receipts = record.status.unwrap().receipts;
    let given: BTreeSet<String> =
        receipts.iter().map(|receipt| format!("{}/{}", receipt.object.kind, receipt.object.name)).collect();
    assert!(had.is_subset(&given), "{had:?} in {given:?}");
    for receipt in &receipts {
        assert_eq!(receipt.outcome, ReceiptOutcome::Gone, "{receipt:?}");
        assert!(!receipt.object.uid.is_empty(), "{receipt:?}");
        let namespace = if receipt.object.kind == "PersistentVolume" { "" } else { &story.namespace };
        assert_eq!(receipt.object.namespace, namespace, "{receipt:?}");
    }
    // As people read it.
    let name = format!("town-{}", town.id());
    let shown = story.cluster.kubectl(&["get", "tombstones", &name]);
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "KIND", "NAMESPACE", "OBJECT", "PHASE", "DELETED", "AGE"]);
    assert_eq!(lines[1][..5], [name.as_str(), "Town", &story.namespace, "gas", "Destroyed"]);
}

async fn t21_retention_is_how_long_the_record_outlives_its_town(story: Story) {
    for (name, retention) in [("brief", Some("1s")), ("long", None)] {
        let tombstone = retention.map(|retention| json!({"retention": retention}));
        story.create_town(name, workshop_with(json!({"tombstone": tombstone}))).await;
    }
    let brief = story.town("brief").until("is idle", idle).await;
    let long = story.town("long").until("is idle", idle).await;
    story.town("brief").delete().await;
    story.town("long").delete().await;

    let kept = is_gone_whole(&story, &long).await.spec;
    assert_eq!(seconds(&kept.deleted_at, &kept.expires_at), 168 * 3600);
    story.town("brief").gone().await;
    let records: Api<Tombstone> = Api::all(story.client());
    until("the record goes at its time", PATIENCE, async || {
        match records.get_opt(&format!("town-{}", brief.id())).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(record) => Err(format!("{record:?}")),
        }
    })
    .await;
    assert!(records.get_opt(&format!("town-{}", long.id())).await.unwrap().is_some());
}

async fn t21_k29_a_name_whose_record_refuses_is_not_taken_again(story: Story) {
    let spec = workshop_with(json!({"storage": {"size": "1Gi"}, "tombstone": {"recreate": "Refuse"}}));
    let manifest = json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": {"name": "gas"}, "spec": spec,
    });
    story.apply(&manifest.to_string());
    let first = story.town("gas").until("is idle", idle).await;
    story.kubectl(&["delete", "town", "gas", "--timeout=45s"]);
    let record = is_gone_whole(&story, &first).await;

    // A tool brings it back, again and again.
    story.apply(&manifest.to_string());
    let refused = |town: &Town| town.phase() == "Blocked" && town.reason("Stalled") == "TombstoneExists";
    let again = story.town("gas").until("is not run", refused).await;
    assert!(again.is("Stalled") && !again.is("Ready") && again.uid() != first.uid());
    let message = again.message("Stalled");
    let until_when = record.spec.expires_at.0.to_string();
    assert!(message.contains(&until_when) && message.contains(&record.name_any()), "{message}");
    story.create_agent("ann", "gas", polecat("b-1")).await;
    story.apply(&manifest.to_string());
    story.town("gas").merge(json!({"spec": {"wakeRequest": "please", "backlog": {"triage": 1}}})).await;
    story.agent("ann").until("waits", |agent| agent.phase() == "Blocked").await;
    let nothing: Vec<String> =
        story.children(&again.id()).await.into_iter().filter(|child| child != "Agent/ann").collect();
    assert_eq!(nothing, [""; 0]);

    // Under another name, or once a person has deleted the record, it may.
    story.create_town("other", workshop_with(json!({"suspended": true}))).await;
    story.town("other").until("sleeps", asleep).await;
    let records: Api<Tombstone> = Api::all(story.client());
    records.delete(&record.name_any(), &DeleteParams::default()).await.unwrap();
    story.agent("ann").until("works", |agent| agent.phase() == "Working").await;
    assert_eq!(story.town("gas").until("runs", |town| town.phase() == "Running").await.uid(), again.uid());
}
