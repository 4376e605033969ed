//! Fairness between tenants, each with a namespace: many towns of one tenant delay another tenant only shortly.

use std::time::{Duration, Instant};

use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::stage::Stories;
use crate::words::{idle, workshop};

pub fn add(stories: &mut Stories) {
    stories.alone(towns_of_one_tenant_start_while_towns_of_another_never_become_ready);
}

// S5.
async fn towns_of_one_tenant_start_while_towns_of_another_never_become_ready(story: Story) {
    const TOWNS: usize = 10;
    let operator = story.cluster.operator(&["--max-concurrent-starts=4"]).await;
    story.players.run_new_pods(false).await;
    for number in 0..TOWNS {
        story.create_town(&format!("greedy-{number}"), workshop()).await;
    }
    // Without other tenants, a tenant has three quarters of the places.
    let waiting = format!("town_operator_starts_waiting {}", TOWNS - 3);
    until("the others wait", PATIENCE, async || {
        let metrics = operator.metrics();
        let line = metrics.lines().find(|line| line.starts_with("town_operator_starts_waiting "));
        if line == Some(waiting.as_str()) { Ok(()) } else { Err(format!("{line:?}")) }
    })
    .await;
    let modest = Story::begin("modest", story.cluster.clone(), None).await;
    let created = Instant::now();
    for name in ["one", "two", "three"] {
        modest.create_town(name, workshop()).await;
        modest.town(name).until("is idle", idle).await;
    }
    assert!(created.elapsed() < Duration::from_mins(1), "it took {:?}", created.elapsed());
}
