//! Many towns at the same time on a node with room for some of them.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;
use town_operator::api::Town;

use crate::common::wait::{always, until};
use crate::scene::{Lives, PATIENCE, STAY, Scene, restarts, runs};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.add_on_our_node(towns_without_room_wait_and_start_when_other_towns_sleep);
}

/// An extended resource of these pods, so that they use no room of other stories.
const ROOM: &str = "town.test/room";
const TOWNS: usize = 52;
const ROOMS: usize = 26;

/// The limit of requests for a town that wakes, until it runs or the operator knows that it does not fit. The measured
/// number is below five.
const FOR_A_WAKE: usize = 6;

async fn towns_without_room_wait_and_start_when_other_towns_sleep(mut scene: Scene) {
    scene.alone().await;
    let node = scene.stage.node().expect("a node of our own");
    let room = json!({ROOM: ROOMS.to_string()});
    let room = json!({"status": {"capacity": room, "allocatable": room}}).to_string();
    scene.kubectl(&["patch", "node", node.node(), "--subresource=status", "--type=merge", "-p", &room]);
    let mut template = runs(STAY);
    let one = json!({ROOM: "1"});
    template["spec"]["containers"][0]["resources"] = json!({"requests": one, "limits": one});
    let names: Vec<String> = (0..TOWNS).map(|number| format!("town-{number:02}")).collect();
    join_all(names.iter().map(|name| async {
        scene.create_town(name, json!({"suspend": true, "template": template})).await;
    }))
    .await;
    count(&scene, |town| town.phase() == "Asleep", TOWNS).await;

    // The towns wake at the same time: half of them fit, the others report that there is no room.
    let before = scene.stage.requests_in(&scene.namespace);
    join_all(names.iter().map(|name| scene.suspend(name, false))).await;
    let fits = |town: &Town| town.phase() == "Idle" && town.is("Ready");
    let does_not = |town: &Town| town.is_degraded_by("Unschedulable") && town.phase() == "Starting";
    count(&scene, fits, ROOMS).await;
    let waiting = count(&scene, does_not, TOWNS - ROOMS).await;
    assert!(waiting.iter().all(|town| town.message("Degraded").contains(&format!("Insufficient {ROOM}"))));
    let asked = scene.stage.requests_in(&scene.namespace) - before;
    assert!(asked <= TOWNS * FOR_A_WAKE, "{asked} requests of the operator");
    let pods = pods(&scene).await;
    assert_eq!(pods.len(), TOWNS, "one each");
    assert!(pods.iter().all(|pod| restarts(pod) == 0));
    let before = scene.stage.requests_in(&scene.namespace);
    let towns = revisions(&scene).await;
    always("all is still", Duration::from_secs(3), async || {
        if revisions(&scene).await == towns { Ok(()) } else { Err("a town was written".into()) }
    })
    .await;
    assert_eq!(scene.stage.requests_in(&scene.namespace), before, "who waits for room asks for nothing");

    // The running towns sleep: the others take the room, with their existing pods.
    let run: Vec<String> =
        all(&scene).await.iter().filter(|town| fits(town)).map(ResourceExt::name_any).collect();
    join_all(run.iter().map(|name| scene.suspend(name, true))).await;
    count(&scene, |town| town.phase() == "Asleep", ROOMS).await;
    count(&scene, |town| fits(town) && !town.is("Degraded"), TOWNS - ROOMS).await;
    let uids = |pods: &[Pod]| pods.iter().filter_map(ResourceExt::uid).collect::<BTreeSet<_>>();
    let now = self::pods(&scene).await;
    assert!(now.len() == TOWNS - ROOMS && uids(&now).is_subset(&uids(&pods)), "none was made anew");
    assert!(now.iter().all(|pod| restarts(pod) == 0));
    scene.assert_runs(&now).await;

    scene.kubectl(&["delete", "towns", "--all", "--timeout=120s"]);
    scene.assert_nothing_runs();
}

async fn all(scene: &Scene) -> Vec<Town> {
    let api: Api<Town> = Api::namespaced(scene.client(), &scene.namespace);
    api.list(&ListParams::default()).await.unwrap().items
}

async fn pods(scene: &Scene) -> Vec<Pod> {
    let api: Api<Pod> = Api::namespaced(scene.client(), &scene.namespace);
    api.list(&ListParams::default()).await.unwrap().items
}

async fn revisions(scene: &Scene) -> Vec<Option<String>> {
    all(scene).await.iter().map(ResourceExt::resource_version).collect()
}

/// Waits until this number of towns meets the condition, and returns them.
async fn count(scene: &Scene, is_so: impl Fn(&Town) -> bool, many: usize) -> Vec<Town> {
    until(&format!("{many} towns are as they should be"), PATIENCE, async || {
        let towns = all(scene).await;
        let seen: Vec<String> = towns
            .iter()
            .map(|town| format!("{} {} {}", town.name_any(), town.phase(), town.reason("Degraded")))
            .collect();
        let so: Vec<Town> = towns.into_iter().filter(&is_so).collect();
        if so.len() == many { Ok(so) } else { Err(format!("{} of them: {seen:#?}", so.len())) }
    })
    .await
}
