//! Many towns: towns that sleep cost nothing, even over a restart of the operator.

use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use town_operator::api::Town;

use crate::common::operator::Operator;
use crate::common::requests::{Requests, settle};
use crate::common::story::Story;
use crate::common::wait::until;
use crate::stage::Stories;
use crate::words::{asleep, idle, workshop, workshop_with};

/// The number of towns that sleep.
const TOWNS: usize = 300;

pub fn add(stories: &mut Stories) {
    stories.alone(operator_restart_causes_no_writes_to_sleeping_towns);
}

async fn operator_restart_causes_no_writes_to_sleeping_towns(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    let create = async |number: usize| {
        let spec = workshop_with(json!({"suspend": true, "expiry": {"time": "2999-01-01T00:00:00Z"}}));
        story.create_town(&format!("town-{number:03}"), spec).await;
    };
    futures::stream::iter(0..TOWNS).map(create).buffer_unordered(8).collect::<Vec<()>>().await;
    until("all sleep", Duration::from_mins(3), async || {
        let towns =
            story.api::<Town>().list(&kube::api::ListParams::default()).await.map_err(|e| e.to_string())?;
        let sleeping = towns.iter().filter(|town| asleep(town)).count();
        if sleeping == TOWNS { Ok(()) } else { Err(format!("{sleeping} of {TOWNS}")) }
    })
    .await;
    settle(&story).await;

    let start = Requests::until_now(&story);
    operator.restart().await;
    until("every town was looked at", Duration::from_mins(1), async || match looks(&operator) {
        looks if looks >= TOWNS => Ok(()),
        looks => Err(looks.to_string()),
    })
    .await;
    // The operator serves a new town immediately, and no other reconcile is in progress.
    story.create_town("new", workshop()).await;
    story.town("new").until("is idle", idle).await;
    let after = Requests::since(&story, start);
    let about_the_fleet: Vec<String> =
        after.writes().into_iter().filter(|write| write.contains(" town-")).collect();
    assert_eq!(about_the_fleet, [""; 0]);
    let singly = after.0.iter().filter(|request| {
        let name = request["objectRef"]["name"].as_str().unwrap_or_default();
        name.starts_with("town-") && request["objectRef"]["resource"] == "towns"
    });
    assert_eq!(singly.count(), 0, "nobody is asked about one by one: {}", after.named());
    // Once for each town, and a second time if two watches enqueue it.
    let looked = looks(&operator);
    assert!(looked <= 2 * TOWNS, "{looked} looks at {TOWNS} towns");
}

/// The number of reconciles of towns.
fn looks(operator: &Operator) -> usize {
    let text = operator.metrics();
    let line =
        text.lines().find_map(|line| line.strip_prefix(r#"town_operator_reconciles_total{kind="Town"} "#));
    line.and_then(|number| number.parse().ok()).unwrap_or_default()
}
