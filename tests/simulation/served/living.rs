//! The players, step by step.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::server::delete::{Deletion, Propagation};
use crate::server::kinds::{Kind, id, kinds};
use crate::server::object;
use crate::server::players::{self, Step, namespaces, node, volumes};
use crate::server::store::Key;
use crate::server::world::World;

const NS: &str = "default";

fn world() -> World {
    World::new(Timestamp::from_second(1_893_456_000).unwrap(), 1)
}

fn towns() -> &'static Kind {
    kinds().of_path("gastown.dev", "v1alpha1", "towns").unwrap()
}

fn pod(name: &str, claim: Option<&str>) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
    if let Some(claim) = claim {
        spec["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]);
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

fn claim(name: &str) -> Value {
    let size = json!({"requests": {"storage": "1Gi"}});
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": size}})
}

fn held(name: &str) -> Value {
    json!({"metadata": {"name": name, "finalizers": ["example.com/held"]}, "spec": {}})
}

fn told(world: &World) -> Vec<String> {
    players::steps(world).iter().map(Step::to_string).collect()
}

fn let_go(world: &mut World, key: &Key) {
    let off = |object: &mut Value| object::set_finalizers(object, &[]);
    world.change(key, crate::server::update::Part::Main, off).unwrap();
}

#[test]
fn pod_starts_runs_and_ends_step_by_step() {
    let mut world = world();
    world.create(id::POD, NS, pod("p", None)).unwrap();
    assert_eq!(told(&world), [""; 0], "without a node a pod waits");
    node::join(&mut world);
    for (step, phase) in
        [("Pod default/p is bound to the node", "Pending"), ("Pod default/p starts", "Running")]
    {
        assert_eq!(told(&world), [step]);
        let step = players::steps(&world).remove(0);
        players::take(&mut world, &step);
        assert_eq!(world.get(id::POD, NS, "p").unwrap()["status"]["phase"], phase);
    }
    assert_eq!(told(&world), [""; 0], "it runs until it is told otherwise");
    let key = node::pod(NS, "p");
    let going = world.delete(&key, &Deletion::default()).unwrap();
    assert_eq!((going.gone, object::grace(&going.object)), (false, Some(30)));
    assert_eq!(told(&world), ["Pod default/p ends as asked"]);
    players::take(&mut world, &Step::End(key.clone()));
    assert_eq!(told(&world), ["the node lets go of Pod default/p"]);
    players::take(&mut world, &Step::LetGo(key));
    assert!(world.get(id::POD, NS, "p").is_none());
}

#[test]
fn pod_status_reports_an_exit_and_an_eviction() {
    let mut world = world();
    node::join(&mut world);
    world.create(id::POD, NS, pod("p", None)).unwrap();
    players::rest(&mut world, 10);
    node::exit(&mut world, &node::pod(NS, "p"), 3, "no luck");
    let status = &world.get(id::POD, NS, "p").unwrap()["status"];
    assert_eq!(status["phase"], "Failed");
    let ended = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["exitCode"], &ended["message"]), (&json!(3), &json!("no luck")));
    node::evict(&mut world, &node::pod(NS, "p"));
    assert_eq!(world.get(id::POD, NS, "p").unwrap()["status"]["reason"], "Evicted");
}

#[test]
fn pod_is_removed_with_its_node() {
    let mut world = world();
    node::join(&mut world);
    world.create(id::POD, NS, pod("p", None)).unwrap();
    players::rest(&mut world, 10);
    world.delete(&Key::new(kinds().at(id::NODE), "", node::NODE), &Deletion::default()).unwrap();
    assert_eq!(told(&world), ["Pod default/p is forgotten with its node"]);
    players::rest(&mut world, 10);
    assert!(world.get(id::POD, NS, "p").is_none());
}

#[test]
fn volume_follows_the_reclaim_policy_when_its_claim_is_deleted() {
    for (reclaim, stays) in [("Delete", false), ("Retain", true)] {
        let mut world = world();
        node::join(&mut world);
        volumes::offer(&mut world, "standard", reclaim, true);
        world.create(id::POD, NS, pod("p", Some("c"))).unwrap();
        assert_eq!(told(&world), [""; 0], "a pod waits for its claim");
        world.create(id::CLAIM, NS, claim("c")).unwrap();
        players::rest(&mut world, 10);
        assert_eq!(world.get(id::POD, NS, "p").unwrap()["status"]["phase"], "Running");
        let volume =
            world.get(id::CLAIM, NS, "c").unwrap()["spec"]["volumeName"].as_str().unwrap().to_owned();

        let key = Key::new(kinds().at(id::CLAIM), NS, "c");
        assert!(!world.delete(&key, &Deletion::default()).unwrap().gone);
        players::rest(&mut world, 10);
        assert!(world.get(id::CLAIM, NS, "c").is_some(), "a claim that is in use stays");
        world.delete(&node::pod(NS, "p"), &Deletion::default()).unwrap();
        players::rest(&mut world, 10);
        assert!(world.get(id::CLAIM, NS, "c").is_none());
        assert_eq!(world.get(id::VOLUME, "", &volume).is_some(), stays);
        if stays {
            assert_eq!(world.get(id::VOLUME, "", &volume).unwrap()["status"]["phase"], "Released");
        }
    }
}

#[test]
fn claim_grows_only_when_its_class_allows_expansion() {
    for grows in [true, false] {
        let mut world = world();
        volumes::offer(&mut world, "standard", "Delete", grows);
        world.create(id::CLAIM, NS, claim("c")).unwrap();
        players::rest(&mut world, 10);
        let key = Key::new(kinds().at(id::CLAIM), NS, "c");
        let larger = |claim: &mut Value| claim["spec"]["resources"]["requests"]["storage"] = "2Gi".into();
        let changed = world.change(&key, crate::server::update::Part::Main, larger);
        assert_eq!(changed.is_ok(), grows, "{:?}", changed.map(drop));
        players::rest(&mut world, 10);
        let capacity = &world.store().get(&key).unwrap()["status"]["capacity"]["storage"];
        assert_eq!(*capacity, if grows { "2Gi" } else { "1Gi" });
    }
}

#[test]
fn object_without_an_existing_owner_is_collected() {
    let mut world = world();
    let old = world.create(towns().id, NS, json!({"metadata": {"name": "gas"}, "spec": {}})).unwrap();
    let owner = json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "name": "gas", "uid": object::uid(&old),
        "blockOwnerDeletion": true,
    });
    world.create(id::SECRET, NS, json!({"metadata": {"name": "s", "ownerReferences": [owner]}})).unwrap();
    assert_eq!(told(&world), [""; 0]);
    let key = Key::new(towns(), NS, "gas");
    world.delete(&key, &Deletion::default()).unwrap();
    world.create(towns().id, NS, json!({"metadata": {"name": "gas"}, "spec": {}})).unwrap();
    assert_eq!(
        told(&world),
        ["the garbage collector looks at Secret default/s"],
        "another UID is another owner"
    );
    players::rest(&mut world, 10);
    assert!(world.get(id::SECRET, NS, "s").is_none());
    assert!(world.store().get(&key).is_some());
}

#[test]
fn namespace_deletion_removes_pods_first_and_the_namespace_last() {
    let mut world = world();
    node::join(&mut world);
    world.create(id::POD, NS, pod("p", None)).unwrap();
    world.create(towns().id, NS, held("gas")).unwrap();
    players::rest(&mut world, 10);
    let namespace = Key::new(kinds().at(id::NAMESPACE), "", NS);
    let deletion = Deletion { propagation: Some(Propagation::Background), ..Deletion::default() };
    world.delete(&namespace, &deletion).unwrap();
    let refused = world.create(id::SECRET, NS, json!({"metadata": {"name": "s"}})).unwrap_err();
    assert_eq!(refused.details["causes"][0]["reason"], "NamespaceTerminating");
    assert_eq!(told(&world), ["the namespace controller deletes the pods of default"]);
    players::rest(&mut world, 20);
    let town = Key::new(towns(), NS, "gas");
    assert!(object::is_going(world.store().get(&town).unwrap()), "then everything else");
    let_go(&mut world, &town);
    assert_eq!(players::steps(&world), [Step::Empty(namespaces::Pass { namespace: NS.into(), kind: None })]);
    players::rest(&mut world, 10);
    assert!(world.store().get(&namespace).is_none());
}

#[test]
fn crd_deletion_waits_for_the_objects_of_its_kind() {
    let mut world = world();
    world.create(towns().id, NS, held("gas")).unwrap();
    let definition = Key::new(kinds().at(id::DEFINITION), "", "towns.gastown.dev");
    world.delete(&definition, &Deletion::default()).unwrap();
    players::rest(&mut world, 10);
    let town = Key::new(towns(), NS, "gas");
    assert!(object::is_going(world.store().get(&town).unwrap()));
    assert!(world.store().get(&definition).is_some(), "it waits for the last town");
    let_go(&mut world, &town);
    players::rest(&mut world, 10);
    assert!(world.store().get(&definition).is_none());
}

#[test]
fn equal_seeds_and_requests_give_equal_worlds() {
    let run = |seed| {
        let mut world = World::new(Timestamp::UNIX_EPOCH, seed);
        node::join(&mut world);
        volumes::offer(&mut world, "standard", "Delete", true);
        world.create(id::POD, NS, pod("p", Some("c"))).unwrap();
        world.create(id::CLAIM, NS, claim("c")).unwrap();
        players::rest(&mut world, 20);
        world.log().iter().map(|event| event.object.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn cloned_world_is_independent_of_its_original() {
    let mut world = world();
    let mut other = world.clone();
    let one = world.create(id::SECRET, NS, json!({"metadata": {"name": "s"}})).unwrap();
    assert!(other.get(id::SECRET, NS, "s").is_none());
    let same = other.create(id::SECRET, NS, json!({"metadata": {"name": "s"}})).unwrap();
    assert_eq!(one, same, "until they are asked differently they answer alike");
}
