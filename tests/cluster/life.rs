//! The life of a town and its agents: their children, the labels, and the status.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::{condition, names};

use crate::common::story::{Story, template};
use crate::stage::Stories;
use crate::words::{Told, polecat, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(town_gets_a_pod_and_a_claim);
    stories.with_the_operator(town_without_a_template_has_no_pod_of_its_own);
    stories.with_the_operator(first_observed_status_has_every_condition);
    stories.with_the_operator(polecat_works_on_its_bead_and_is_done);
    stories.with_the_operator(session_agent_receives_new_hooks_in_its_running_pod);
    stories.with_the_operator(new_bead_replaces_the_pod_of_a_running_polecat);
    stories.with_the_operator(changed_template_is_used_at_the_next_start);
    stories.with_the_operator(claim_has_the_size_class_and_access_modes_of_the_spec);
    stories.with_the_operator(mode_overrides_the_default_of_the_role);
    stories.with_the_operator(kubectl_get_and_wait_show_a_running_town);
    stories.with_the_operator(towns_in_one_namespace_do_not_share_children);
    stories.with_the_operator(long_town_names_give_distinct_child_names);
}

async fn town_gets_a_pod_and_a_claim(story: Story) {
    story.create_town("gas", workshop_with(json!({"storage": {"size": "1Gi"}}))).await;
    let town = story.town("gas").until("is idle", |town| town.phase() == "Idle" && town.is("Ready")).await;

    assert_eq!(town.finalizers(), [names::FINALIZER]);
    assert_eq!(town.labels()[names::INSTALL], story.cluster.install_label());
    let status = town.status.clone().unwrap();
    assert_eq!(status.observed_generation, town.metadata.generation);
    assert!(status.sleep_time.is_some(), "it has no work, so it says when it will sleep");

    let pod = story.pod(&town.child()).get().await;
    is_marked(&pod, &town.id(), "Town", "gas", &story);
    let owner = &pod.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("Town", town.id().as_str()));
    assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(false)));
    let recorded = status.pod.unwrap();
    assert_eq!(recorded.uid, pod.uid());
    assert_eq!(recorded.name.as_deref(), Some(town.child().as_str()));

    let spec = serde_json::to_value(&pod.spec).unwrap();
    assert_eq!(spec["automountServiceAccountToken"], false, "agents' code gets no API token");
    assert_eq!(env(&spec, "GASTOWN_TOWN"), "gas");
    assert_eq!(volume_at(&spec, "/town")["persistentVolumeClaim"]["claimName"], town.child().as_str());

    let claim = story.seen::<PersistentVolumeClaim>(&town.child()).get().await;
    is_marked(&claim, &town.id(), "Town", "gas", &story);
    assert!(claim.owner_references().is_empty(), "the garbage collector must not take a volume");
    assert_eq!(status.storage.unwrap().uid, claim.uid());
}

async fn town_without_a_template_has_no_pod_of_its_own(story: Story) {
    story.create_town("plain", json!({"rigs": [{"name": "core"}], "agentTemplate": template()})).await;
    let town = story.town("plain").until("is idle", |town| town.phase() == "Idle" && town.is("Ready")).await;
    assert_eq!(story.children(&town.id()).await, [""; 0]);
    story.create_agent("cat", "plain", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    assert_eq!(story.children(&town.id()).await, ["Agent/cat".to_owned(), format!("Pod/{}", cat.child())]);
    story.town("plain").until("runs", |town| town.phase() == "Running").await;
}

async fn first_observed_status_has_every_condition(story: Story) {
    story.players.run_new_pods(false).await;
    story.create_town("new", workshop()).await;
    story.create_agent("new", "new", polecat("b-1")).await;
    let observed = |conditions: &[Condition]| conditions.iter().all(|c| c.reason != "NotObserved");
    let town = story.town("new").until("has a status", |town| observed(town.conditions())).await;
    let kinds: Vec<&str> = town.conditions().iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(kinds, condition::OF_TOWN);
    let agent = story.agent("new").until("has a status", |agent| observed(agent.conditions())).await;
    let kinds: Vec<&str> = agent.conditions().iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(kinds, condition::OF_AGENT);
    for condition in town.conditions().iter().chain(agent.conditions()) {
        assert_eq!(condition.observed_generation, Some(1), "{condition:?}");
        assert!(!condition.reason.is_empty(), "{condition:?}");
    }
    assert_eq!(town.phase(), "Starting");
    assert!(!town.is("Ready") && town.is("Reconciling"));
}

async fn polecat_works_on_its_bead_and_is_done(story: Story) {
    story.create_town("shop", workshop()).await;
    let hook = json!({"bead": "b-1", "title": "Mend the gate", "instructions": "With \"care\".\nTwice."});
    let mut spec = polecat("b-1");
    spec["hook"] = hook.clone();
    spec["storage"] = json!({"size": "1Gi"});
    story.create_agent("cat", "shop", spec).await;

    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    let town = story.town("shop").until("runs", |town| town.phase() == "Running" && town.is("Active")).await;
    assert_eq!(town.status.as_ref().unwrap().sleep_time, None, "a town with work does not sleep");
    assert_eq!(cat.finalizers(), [names::FINALIZER]);
    assert_eq!(cat.labels()[names::TOWN_UID], town.id());
    assert_eq!(cat.labels()[names::INSTALL], story.cluster.install_label());
    assert!(cat.owner_references().is_empty(), "agents are destroyed in order, not collected");

    let pod = story.pod(&cat.child()).get().await;
    is_marked(&pod, &town.id(), "Agent", "cat", &story);
    assert_eq!(pod.labels()[names::AGENT_UID], cat.id());
    assert_eq!(pod.owner_references()[0].uid, cat.id());
    assert_eq!(pod.finalizers(), [names::RESULT_FINALIZER]);
    assert_eq!(serde_json::from_str::<Value>(&pod.annotations()[names::HOOK]).unwrap(), hook);
    let spec = serde_json::to_value(&pod.spec).unwrap();
    assert_eq!(spec["restartPolicy"], "Never");
    let wanted = [
        ("GASTOWN_TOWN", "shop"),
        ("GASTOWN_AGENT", "cat"),
        ("GASTOWN_IDENTITY", "cat"),
        ("GASTOWN_ROLE", "polecat"),
        ("GASTOWN_RIG", "core"),
        ("GASTOWN_BEAD", "b-1"),
    ];
    for (name, value) in wanted {
        assert_eq!(env(&spec, name), value, "{name}");
    }
    let files = &volume_at(&spec, "/var/run/gastown")["projected"]["sources"];
    let file = &files[0]["downwardAPI"]["items"][0];
    assert_eq!(file["path"], "hook.json");
    assert_eq!(file["fieldRef"]["fieldPath"], format!("metadata.annotations['{}']", names::HOOK));
    assert_eq!(volume_at(&spec, "/agent")["persistentVolumeClaim"]["claimName"], cat.child().as_str());
    let claim = story.seen::<PersistentVolumeClaim>(&cat.child()).get().await;
    is_marked(&claim, &town.id(), "Agent", "cat", &story);

    story.players.succeed(&cat.child(), "the gate is mended").await;
    let cat = story.agent("cat").until("is done", |agent| agent.phase() == "Done").await;
    assert!(cat.is("Ready") && cat.is("Finished") && !cat.is("Working"));
    let work = cat.status.clone().unwrap().work.unwrap();
    assert_eq!((work.bead.as_str(), work.attempts, work.done), ("b-1", 1, vec!["b-1".to_owned()]));
    assert_eq!(work.message, "the gate is mended");
    assert!(work.start_time.is_some() && work.finish_time >= work.start_time);
    story.pod(&cat.child()).gone().await;
    let town = story.town("shop").until("is idle", |town| town.phase() == "Idle").await;
    assert!(!town.is("Active") && town.status.unwrap().last_active_time.is_some());
}

async fn session_agent_receives_new_hooks_in_its_running_pod(story: Story) {
    story.create_town("hall", workshop()).await;
    story.create_agent("mayor", "hall", json!({"role": "Mayor", "identity": "Ada"})).await;
    let mayor =
        story.agent("mayor").until("is there", |agent| agent.phase() == "Idle" && agent.is("Ready")).await;
    let pod = story.pod(&mayor.child()).get().await;
    let spec = serde_json::to_value(&pod.spec).unwrap();
    assert_eq!(env(&spec, "GASTOWN_IDENTITY"), "Ada");
    assert_eq!(env(&spec, "GASTOWN_BEAD"), Value::Null, "the bead of a Session agent may change");
    assert_eq!(pod.finalizers(), [""; 0]);

    for bead in ["b-1", "b-2"] {
        story.agent("mayor").merge(json!({"spec": {"hook": {"bead": bead}}})).await;
        let mayor = story
            .agent("mayor")
            .until("has its bead", |agent| {
                agent.status.as_ref().unwrap().work.as_ref().is_some_and(|work| work.bead == bead)
            })
            .await;
        assert!(mayor.message("Finished").contains(bead));
        let now = story.pod(&mayor.child()).get().await;
        assert_eq!(now.uid(), pod.uid(), "the hook changes, the pod stays");
        assert!(now.annotations()[names::HOOK].contains(bead));
    }
    let town = story.town("hall").get().await;
    assert_eq!(town.phase(), "Idle", "being there is not work, and neither is a hook that nobody asks about");
}

async fn new_bead_replaces_the_pod_of_a_running_polecat(story: Story) {
    story.create_town("shop", workshop()).await;
    story.create_agent("cat", "shop", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    let first = story.pod(&cat.child()).get().await;
    story.agent("cat").merge(json!({"spec": {"hook": {"bead": "b-2"}}})).await;
    let second = story
        .pod(&cat.child())
        .until("is another, for the new bead", |pod| {
            pod.uid() != first.uid() && pod.annotations()[names::HOOK].contains("b-2")
        })
        .await;
    story.agent("cat").until("works again", |agent| agent.pod_uid() == second.metadata.uid.as_deref()).await;
    story.players.succeed(&cat.child(), "").await;
    let cat = story.agent("cat").until("is done", |agent| agent.phase() == "Done").await;
    let work = cat.status.unwrap().work.unwrap();
    assert_eq!(work.done, ["b-2"], "the first bead was taken off the hook unfinished");
    assert_eq!(work.attempts, 1, "a start that was ended for another bead does not count");
}

async fn changed_template_is_used_at_the_next_start(story: Story) {
    story.create_town("shop", workshop()).await;
    story.create_agent("cat", "shop", polecat("b-1")).await;
    story.create_agent("mayor", "shop", json!({"role": "Mayor"})).await;
    let town = story.town("shop").until("runs", |town| town.phase() == "Running").await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    let mayor = story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    let old = story.pod(&town.child()).get().await;

    let (mut own, mut agents, mut mayors) = (template(), template(), template());
    for (template, image) in [(&mut own, "own:2"), (&mut agents, "agents:2"), (&mut mayors, "mayors:2")] {
        template["spec"]["containers"][0]["image"] = image.into();
    }
    story.town("shop").merge(json!({"spec": {"template": own, "agentTemplate": agents}})).await;
    story.agent("mayor").merge(json!({"spec": {"template": mayors}})).await;
    story
        .town("shop")
        .until("has seen it", |town| {
            town.status.as_ref().unwrap().observed_generation == town.metadata.generation
        })
        .await;
    assert_eq!(story.pod(&town.child()).get().await.uid(), old.uid(), "who works is not disturbed");

    story.town("shop").merge(json!({"spec": {"suspend": true}})).await;
    story.town("shop").until("sleeps", |town| town.phase() == "Asleep").await;
    story.town("shop").merge(json!({"spec": {"suspend": false}})).await;
    for (name, wanted) in [(town.child(), "own:2"), (cat.child(), "agents:2"), (mayor.child(), "mayors:2")] {
        story.pod(&name).until(&format!("runs {wanted}"), |pod| image(pod) == wanted).await;
    }
}

async fn claim_has_the_size_class_and_access_modes_of_the_spec(story: Story) {
    let special = json!({"size": "3Gi", "storageClassName": "standard", "accessModes": ["ReadWriteMany"]});
    story.create_town("shop", workshop_with(json!({"storage": {"size": "2Gi"}}))).await;
    let mut spec = polecat("b-1");
    spec["storage"] = special;
    story.create_agent("cat", "shop", spec).await;
    let town = story
        .town("shop")
        .until("has its claim", |town| town.status.as_ref().is_some_and(|s| s.storage.is_some()))
        .await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    for (child, size, modes) in
        [(town.child(), "2Gi", ["ReadWriteOnce"]), (cat.child(), "3Gi", ["ReadWriteMany"])]
    {
        let claim = story.seen::<PersistentVolumeClaim>(&child).get().await;
        let spec = serde_json::to_value(claim.spec.unwrap()).unwrap();
        assert_eq!(spec["resources"]["requests"]["storage"], size);
        assert_eq!(spec["accessModes"], json!(modes));
        // The town sets no class, and the cluster's default is the same class.
        if child == cat.child() {
            assert_eq!(spec["storageClassName"], "standard");
        }
    }
}

async fn mode_overrides_the_default_of_the_role(story: Story) {
    story.create_town("shop", workshop()).await;
    story
        .create_agent("crew", "shop", json!({"role": "Crew", "mode": "Task", "hook": {"bead": "b-1"}}))
        .await;
    let lasting = json!({"role": "Polecat", "rig": "core", "mode": "Session", "hook": {"bead": "b-1"}});
    story.create_agent("cat", "shop", lasting).await;
    let crew = story.agent("crew").until("works", |agent| agent.phase() == "Working").await;
    let cat =
        story.agent("cat").until("is there", |agent| agent.phase() == "Idle" && agent.is("Ready")).await;
    let policy = async |name: &str| story.pod(name).get().await.spec.unwrap().restart_policy.unwrap();
    assert_eq!((policy(&crew.child()).await, policy(&cat.child()).await), ("Never".into(), "Always".into()));
    story.players.succeed(&crew.child(), "").await;
    story.agent("crew").until("is done", |agent| agent.phase() == "Done").await;
    story.town("shop").until("is idle", |town| town.phase() == "Idle").await;
}

async fn kubectl_get_and_wait_show_a_running_town(story: Story) {
    story.create_town("gas", workshop()).await;
    story.create_agent("cat", "gas", polecat("b-1")).await;
    story.kubectl(&["wait", "--for=condition=Ready", "--timeout=45s", "tw/gas"]);
    story.kubectl(&["wait", "--for=condition=Working", "--timeout=45s", "ta/cat"]);
    story
        .town("gas")
        .until("counts its agent", |town| {
            let agents = town.status.as_ref().unwrap().agents.as_ref();
            // The operator updates the summary with the next change, or within a minute.
            agents.is_some_and(|agents| agents.summary.ends_with("/1"))
        })
        .await;
    let row = story.kubectl(&["get", "towns", "--no-headers", "-o", "wide"]);
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..3], ["gas", "Running", "True"], "{row:?}");
    assert!(row[3].ends_with("/1"), "{row:?}");
    let row = story.kubectl(&["get", "agents", "--no-headers", "-o", "wide"]);
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..5], ["cat", "gas", "Polecat", "Working", "b-1"], "{row:?}");
    let found = story.kubectl(&["get", "towns", "-o", "name", "--field-selector", "status.phase=Running"]);
    assert_eq!(found.trim(), "town.gastown.dev/gas");
    story.kubectl(&["wait", "--for=condition=Asleep=False", "--timeout=5s", "tw/gas"]);
}

async fn towns_in_one_namespace_do_not_share_children(story: Story) {
    for name in ["left", "right"] {
        story.create_town(name, workshop_with(json!({"storage": {"size": "1Gi"}}))).await;
        story.create_agent(&format!("cat-{name}"), name, polecat("b-1")).await;
        story.agent(&format!("cat-{name}")).until("works", |agent| agent.phase() == "Working").await;
    }
    let left = story.town("left").get().await;
    let right = story.town("right").until("runs", |town| town.phase() == "Running").await;
    let kept = story.children(&right.id()).await;
    assert_eq!(kept.len(), 4, "agent, its pod, the town's pod and claim: {kept:?}");
    let pods = story.pods(names::TOWN_UID, &right.id()).await;
    story.town("left").delete().await;
    story.town("left").gone().await;
    assert_eq!(story.children(&left.id()).await, [""; 0]);
    assert_eq!(story.children(&right.id()).await, kept);
    let uids = |pods: &[Pod]| pods.iter().map(ResourceExt::uid).collect::<Vec<_>>();
    assert_eq!(uids(&story.pods(names::TOWN_UID, &right.id()).await), uids(&pods));
    assert_eq!(story.town("right").get().await.phase(), "Running");
}

async fn long_town_names_give_distinct_child_names(story: Story) {
    let long = |last: &str| format!("{}.{last}", "town".repeat(15));
    let mut children = Vec::new();
    for name in [long("one"), long("two")] {
        story.create_town(&name, workshop()).await;
        let town = story.town(&name).until("is idle", |town| town.phase() == "Idle").await;
        let pod = story.pod(&town.child()).get().await;
        is_marked(&pod, &town.id(), "Town", &name, &story);
        children.push(pod.name_any());
    }
    assert_ne!(children[0], children[1]);
}

/// Whether a child carries all labels of its owner.
fn is_marked<K: ResourceExt>(child: &K, town_uid: &str, kind: &str, owner: &str, story: &Story) {
    let namespace = &story.namespace;
    assert_eq!(child.labels()[names::TOWN_UID], town_uid);
    assert_eq!(child.labels()[names::INSTALL], story.cluster.install_label());
    assert_eq!(child.annotations()[names::OWNER], format!("{kind}/{namespace}/{owner}"));
    assert_eq!(child.labels()[names::APP_MANAGED_BY], names::MANAGER);
    assert_eq!(child.labels()[names::APP_COMPONENT], kind.to_lowercase());
    assert_eq!(child.labels()[names::COMPONENT], kind.to_lowercase());
    assert!(child.labels().contains_key(names::APP_NAME));
}

/// The value of an environment variable of the first container.
fn env(spec: &Value, name: &str) -> Value {
    let env = spec["containers"][0]["env"].as_array().cloned().unwrap_or_default();
    env.into_iter()
        .find(|variable| variable["name"] == name)
        .map_or(Value::Null, |mut found| found["value"].take())
}

/// The volume that the first container mounts at this path.
fn volume_at(spec: &Value, path: &str) -> Value {
    let mounts = spec["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
    let mount = mounts.into_iter().find(|mount| mount["mountPath"] == path).unwrap_or_default();
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    volumes.into_iter().find(|volume| volume["name"] == mount["name"]).unwrap_or_default()
}
