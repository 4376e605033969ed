//! The stories. The explorer runs each one without faults, then with each fault.

use serde_json::{Value, json};
use town_operator::api::names;
use town_operator::lifecycle::{Uid, child_name};

use super::actors::{created, forge, forged, pods_of, prune, restore, with_pod};
use super::invariants::Invariant::{
    DeletionTerminates, DoneIsDone, EventuallyStable, NoLostWake, NoWorkFromWhatCannotRun, OneIncident,
    Tenants,
};
use super::people::{
    NAMESPACE, ask, belongs, change, create, create_agent, create_namespace, create_town, delete, delete_by,
    delete_now, end_work, find, phase, pod_of, runs,
};
use super::scenario::Scenario;
use super::{agent_kind, tombstone_kind, town_kind};
use crate::server::kinds::id;
use crate::server::object::{label, uid};
use crate::server::players::node;
use crate::server::world::World;

/// A town with every optional part. The town sleeps after ten minutes without work.
fn town() -> Value {
    let containers = json!({"spec": {"containers": [{"name": "main", "image": "town"}]}});
    json!({
        "template": containers, "agentTemplate": containers, "storage": {"size": "1Gi"},
        "ports": [{"name": "http", "port": 8080}], "rigs": [{"name": "core"}, {"name": "docs"}],
        "sleepAfter": "10m", "drain": {"timeout": "20s"},
    })
}

/// The same town, which never sleeps.
fn town_that_stays_awake() -> Value {
    let mut town = town();
    town["alwaysOn"] = true.into();
    town
}

fn polecat(bead: &str) -> Value {
    json!({"townName": "gas", "role": "Polecat", "rig": "core", "hook": {"bead": bead}, "storage": {"size": "1Gi"}})
}

fn town_is(wanted: &'static str) -> impl Fn(&World) -> bool + Send + Sync + 'static {
    move |world| phase(world, town_kind(), "gas") == wanted
}

fn agent_runs(world: &World) -> bool {
    runs(world, agent_kind(), "poly")
}

fn is_bound(world: &World, agent: &str) -> bool {
    find(world, agent_kind(), agent).is_some_and(|agent| label(agent, names::TOWN_UID).is_some())
}

fn is_awake(world: &World) -> bool {
    runs(world, town_kind(), "gas")
}

fn is_gone(world: &World) -> bool {
    find(world, town_kind(), "gas").is_none()
}

fn has_done(bead: &'static str) -> impl Fn(&World) -> bool + Send + Sync + 'static {
    move |world| {
        let done = find(world, agent_kind(), "poly").map(|agent| agent["status"]["work"]["done"].clone());
        done.is_some_and(|done| done.as_array().is_some_and(|done| done.contains(&bead.into())))
    }
}

fn nothing_is_left(scenario: Scenario) -> Scenario {
    scenario.ends(DeletionTerminates, "nothing is left", |world| is_gone(world) && belongs(world).is_empty())
}

/// A town with a running agent.
fn with_an_agent(scenario: Scenario, town: fn() -> Value) -> Scenario {
    scenario.first("a town is made, with an agent", move |world| {
        create_town(world, "gas", town());
        create_agent(world, "poly", polecat("b1"));
    })
}

/// A town with a running agent and an interactive agent.
fn with_two_agents(scenario: Scenario, town: fn() -> Value) -> Scenario {
    scenario.first("a town is made, with two agents", move |world| {
        create_town(world, "gas", town());
        create_agent(world, "poly", polecat("b1"));
        create_agent(world, "max", json!({"townName": "gas", "role": "Crew"}));
    })
}

pub fn all() -> Vec<Scenario> {
    vec![
        born(),
        works_and_finishes(),
        fails_and_is_tried_again(),
        sleeps(),
        wakes_for_a_bead(),
        wakes_while_it_falls_asleep(),
        suspended_and_resumed(),
        deleted_at_birth(),
        deleted_while_it_starts(),
        deleted_while_it_runs(),
        deleted_when_idle(),
        deleted_without_storage(),
        deleted_while_it_drains(),
        deleted_while_it_sleeps(),
        deleted_while_blocked(),
        deleted_in_the_foreground(),
        deleted_with_orphans(),
        deleted_and_made_anew(),
        namespace_deleted(),
        namespace_made_anew(),
        rig_removed(),
        agent_deleted_alone(),
        claim_retained(),
        expires(),
        deleted_at_any_moment(),
        bead_hooked_at_any_moment(),
        agent_deleted_at_any_moment(),
        namespace_deleted_at_any_moment(),
        names_taken_at_any_moment(),
        agent_made_anew_at_any_moment(),
        hostile_tenant(),
        node_reboots(),
        agent_cannot_start(),
        sidecar_injected(),
        evicted_twice(),
        backup_restored(),
        pruned_at_any_moment(),
        places_are_limited(),
    ]
}

pub fn born() -> Scenario {
    let story = with_two_agents(Scenario::new("born"), town_that_stays_awake);
    story.ends(EventuallyStable, "its pods run", |world| is_awake(world) && agent_runs(world))
}

pub fn works_and_finishes() -> Scenario {
    with_an_agent(Scenario::new("works and finishes"), town_that_stays_awake)
        .when(agent_runs, "its work is done", |world| end_work(world, "poly", 0))
        .ends(DoneIsDone, "the bead is done", has_done("b1"))
        .ends(EventuallyStable, "the agent has no pod", |world| pod_of(world, agent_kind(), "poly").is_none())
}

pub fn fails_and_is_tried_again() -> Scenario {
    with_an_agent(Scenario::new("fails and is tried again"), town_that_stays_awake)
        .when(agent_runs, "its work fails", |world| end_work(world, "poly", 1))
        .when(|world| pod_of(world, agent_kind(), "poly").is_none(), "the failed pod is gone", |_| ())
        .when(agent_runs, "its work is done", |world| end_work(world, "poly", 0))
        .ends(DoneIsDone, "the bead is done", has_done("b1"))
}

pub fn sleeps() -> Scenario {
    Scenario::new("sleeps").first("a town is made", |world| create_town(world, "gas", town())).ends(
        EventuallyStable,
        "it sleeps",
        |world| town_is("Asleep")(world) && !is_awake(world),
    )
}

/// A town that sleeps because its agent is done.
fn asleep(name: &'static str) -> Scenario {
    with_an_agent(Scenario::new(name), town)
        .when(agent_runs, "its work is done", |world| end_work(world, "poly", 0))
        .when(town_is("Asleep"), "it has fallen asleep", |_| ())
}

fn hook(bead: &'static str) -> impl Fn(&mut World) + Send + Sync + 'static {
    move |world| change(world, agent_kind(), "poly", &json!({"spec": {"hook": {"bead": bead}}}))
}

pub fn wakes_for_a_bead() -> Scenario {
    asleep("wakes for a bead")
        .first("another bead is hooked", hook("b2"))
        .when(agent_runs, "that is done, too", |world| end_work(world, "poly", 0))
        .ends(NoLostWake, "both are done", |world| has_done("b1")(world) && has_done("b2")(world))
        .ends(EventuallyStable, "it sleeps again", town_is("Asleep"))
}

pub fn wakes_while_it_falls_asleep() -> Scenario {
    with_an_agent(Scenario::new("wakes while it falls asleep"), town)
        .when(agent_runs, "its work is done", |world| end_work(world, "poly", 0))
        .when(town_is("Draining"), "another bead is hooked as it falls asleep", hook("b2"))
        .ends(NoLostWake, "it works on it", |world| is_awake(world) && agent_runs(world))
}

pub fn suspended_and_resumed() -> Scenario {
    let suspend = |yes: bool| {
        move |world: &mut World| change(world, town_kind(), "gas", &json!({"spec": {"suspend": yes}}))
    };
    with_two_agents(Scenario::new("suspended and resumed"), town_that_stays_awake)
        .when(agent_runs, "it is suspended", suspend(true))
        .when(town_is("Asleep"), "it is resumed", suspend(false))
        .ends(EventuallyStable, "its pods run", |world| is_awake(world) && agent_runs(world))
}

fn delete_town(world: &mut World) {
    delete(world, town_kind(), "gas");
}

fn deleted_when(
    name: &'static str,
    told: &'static str,
    when: impl Fn(&World) -> bool + Send + Sync + 'static,
) -> Scenario {
    let story = with_two_agents(Scenario::new(name), town_that_stays_awake);
    nothing_is_left(story.when(when, format!("when {told}, it is deleted"), delete_town))
}

pub fn deleted_at_birth() -> Scenario {
    // The order of moves decides whether an agent is bound by then and destroyed with the town.
    deleted_when("deleted before anybody has looked at it", "it is there", |world| !is_gone(world))
        .ends_differently()
}

pub fn deleted_while_it_starts() -> Scenario {
    // The destruction of the town does not include an unbound agent.
    let starts = |world: &World| !town_is("")(world) && is_bound(world, "max") && is_bound(world, "poly");
    deleted_when("deleted while it starts", "it starts", starts)
}

pub fn deleted_while_it_runs() -> Scenario {
    let runs = |world: &World| town_is("Running")(world) && agent_runs(world) && is_bound(world, "max");
    deleted_when("deleted while it runs", "it runs", runs)
}

pub fn deleted_when_idle() -> Scenario {
    let story = Scenario::new("deleted when idle")
        .first("a town is made", |world| create_town(world, "gas", town()))
        .when(town_is("Idle"), "when it is idle, it is deleted", delete_town);
    nothing_is_left(story)
}

pub fn deleted_without_storage() -> Scenario {
    let stateless = || {
        let mut town = town_that_stays_awake();
        town.as_object_mut().expect("a spec").remove("storage");
        town
    };
    let story = Scenario::new("deleted without storage")
        .first("a town is made that keeps nothing", move |world| create_town(world, "gas", stateless()))
        .when(is_awake, "when it runs, it is deleted", delete_town);
    nothing_is_left(story)
}

pub fn deleted_while_it_drains() -> Scenario {
    let story = with_an_agent(Scenario::new("deleted while it drains"), town)
        .when(agent_runs, "its work is done", |world| end_work(world, "poly", 0))
        .when(town_is("Draining"), "as it falls asleep, it is deleted", delete_town);
    nothing_is_left(story)
}

pub fn deleted_while_it_sleeps() -> Scenario {
    nothing_is_left(asleep("deleted while it sleeps").first("it is deleted", delete_town))
}

/// Creates a foreign pod with the name that the pod of this owner would have.
fn take_name(world: &mut World, kind: usize, name: &str) {
    let Some(owner) = find(world, kind, name).map(|owner| Uid::new(uid(owner))) else { return };
    let pod = child_name(name, &owner);
    delete_now(world, id::POD, &pod);
    if find(world, id::POD, &pod).is_none() {
        let metadata = json!({"name": pod, "labels": {"app": "other"}});
        let spec = json!({"containers": [{"name": "main", "image": "other"}]});
        create(world, json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}));
    }
}

pub fn deleted_while_blocked() -> Scenario {
    let story = Scenario::new("deleted while blocked")
        .first("a town is made, and somebody has a pod by the name of its own", |world| {
            create_town(world, "gas", town_that_stays_awake());
            take_name(world, town_kind(), "gas");
        })
        .when(town_is("Blocked"), "it is blocked, and deleted", delete_town);
    nothing_is_left(story)
}

fn deleted_with(name: &'static str, propagation: &'static str) -> Scenario {
    let story = with_an_agent(Scenario::new(name), town_that_stays_awake).when(
        agent_runs,
        format!("it is deleted, {propagation}"),
        move |world| delete_by(world, town_kind(), "gas", propagation),
    );
    nothing_is_left(story)
}

pub fn deleted_in_the_foreground() -> Scenario {
    deleted_with("deleted in the foreground", "Foreground")
}

pub fn deleted_with_orphans() -> Scenario {
    deleted_with("deleted with its children orphaned", "Orphan")
}

pub fn deleted_and_made_anew() -> Scenario {
    with_an_agent(Scenario::new("deleted and made anew"), town_that_stays_awake)
        .when(agent_runs, "it is deleted", delete_town)
        .when(is_gone, "a town is made by the same name", |world| {
            create_town(world, "gas", town_that_stays_awake());
            create_agent(world, "poly", polecat("b2"));
        })
        .ends(EventuallyStable, "the new one runs", |world| is_awake(world) && agent_runs(world))
}

fn delete_namespace(world: &mut World) {
    let path = format!("/api/v1/namespaces/{NAMESPACE}");
    ask(world, &http::Method::DELETE, &path, &Value::Null);
}

pub fn namespace_deleted() -> Scenario {
    let story = with_an_agent(Scenario::new("namespace deleted"), town_that_stays_awake)
        .when(agent_runs, "the namespace is deleted", delete_namespace)
        // An agent that is destroyed before its town leaves its own record.
        .ends_differently()
        .alone();
    nothing_is_left(story)
}

/// A record forbids a name in its own namespace, and not in a later namespace of the same name.
pub fn namespace_made_anew() -> Scenario {
    let refuses = || {
        let mut town = town_that_stays_awake();
        town["tombstone"] = json!({"recreate": "Refuse", "retention": "168h"});
        town
    };
    Scenario::new("namespace made anew")
        .first("a town is made whose name is not to be taken again", move |world| {
            create_town(world, "gas", refuses());
        })
        .when(is_awake, "its namespace is deleted", delete_namespace)
        .when(
            |world| world.get(id::NAMESPACE, "", NAMESPACE).is_none(),
            "a namespace and a town are made by the same names",
            move |world| {
                create_namespace(world, NAMESPACE);
                create_town(world, "gas", refuses());
            },
        )
        .ends(EventuallyStable, "the new town runs", is_awake)
        .alone()
}

pub fn rig_removed() -> Scenario {
    with_two_agents(Scenario::new("rig removed"), town_that_stays_awake)
        .when(agent_runs, "its rig is removed", |world| {
            change(world, town_kind(), "gas", &json!({"spec": {"rigs": [{"name": "docs"}]}}));
        })
        .ends(DeletionTerminates, "the agent is gone", |world| find(world, agent_kind(), "poly").is_none())
        .ends(EventuallyStable, "the town runs", is_awake)
}

pub fn agent_deleted_alone() -> Scenario {
    with_an_agent(Scenario::new("agent deleted alone"), town_that_stays_awake)
        .when(agent_runs, "it is deleted", |world| delete(world, agent_kind(), "poly"))
        .ends(DeletionTerminates, "the agent is gone", |world| find(world, agent_kind(), "poly").is_none())
        .ends(EventuallyStable, "the town runs", is_awake)
}

pub fn claim_retained() -> Scenario {
    let retained = || {
        let mut town = town_that_stays_awake();
        town["storage"]["retainPolicy"] = "Retain".into();
        town
    };
    let story = with_an_agent(Scenario::new("claim retained"), retained).when(
        agent_runs,
        "the town is deleted",
        delete_town,
    );
    nothing_is_left(story).ends(DeletionTerminates, "its claim is there, and nobody's", |world| {
        let retained = |claim: &Value| !claim["metadata"]["annotations"][names::RETAINED_FROM].is_null();
        world.store().of_kind(id::CLAIM).filter(|(_, claim)| retained(claim)).count() == 1
    })
}

pub fn expires() -> Scenario {
    let story = with_an_agent(Scenario::new("expires"), || {
        let mut town = town_that_stays_awake();
        town["expiry"] = json!({"time": "2030-01-01T00:05:00Z", "policy": "Destroy"});
        town["tombstone"] = json!({"retention": "20m"});
        town
    });
    nothing_is_left(story).ends(DeletionTerminates, "its tombstone has gone, too", |world| {
        world.store().of_kind(tombstone_kind()).next().is_none()
    })
}

pub fn deleted_at_any_moment() -> Scenario {
    let story = with_two_agents(Scenario::new("deleted at any moment"), town)
        .when(
            |world| agent_runs(world) || is_gone(world),
            "its work is done, if there is any",
            |world| end_work(world, "poly", 0),
        )
        .interrupted("it is deleted", delete_town);
    nothing_is_left(story)
}

pub fn bead_hooked_at_any_moment() -> Scenario {
    with_an_agent(Scenario::new("a bead is hooked at any moment"), town)
        .when(agent_runs, "its work is done", |world| end_work(world, "poly", 0))
        .interrupted("another bead is hooked", hook("b2"))
        .ends(NoLostWake, "somebody works on it, or it is done", |world| {
            agent_runs(world) || has_done("b2")(world)
        })
}

pub fn agent_deleted_at_any_moment() -> Scenario {
    with_an_agent(Scenario::new("an agent is deleted at any moment"), town)
        .when(
            |world| agent_runs(world) || find(world, agent_kind(), "poly").is_none(),
            "its work is done, if there is any",
            |world| end_work(world, "poly", 0),
        )
        .interrupted("the agent is deleted", |world| delete(world, agent_kind(), "poly"))
        .ends(DeletionTerminates, "the agent is gone", |world| find(world, agent_kind(), "poly").is_none())
        .ends(EventuallyStable, "the town sleeps", town_is("Asleep"))
}

pub fn namespace_deleted_at_any_moment() -> Scenario {
    let story = with_an_agent(Scenario::new("the namespace is deleted at any moment"), town_that_stays_awake)
        .interrupted("the namespace is deleted", delete_namespace)
        .alone();
    nothing_is_left(story)
}

pub fn names_taken_at_any_moment() -> Scenario {
    let story =
        with_an_agent(Scenario::new("somebody takes the name of a pod at any moment"), town_that_stays_awake)
            .when(|world| is_awake(world) || belongs_to_another(world), "the town is deleted", delete_town)
            .interrupted("its pod is killed, and somebody makes one by its name", |world| {
                take_name(world, town_kind(), "gas");
            });
    nothing_is_left(story)
}

fn belongs_to_another(world: &World) -> bool {
    let labels = |pod: &Value| pod["metadata"]["labels"]["app"] == "other";
    town_is("Blocked")(world) && world.store().of_kind(id::POD).any(|(_, pod)| labels(pod))
}

pub fn agent_made_anew_at_any_moment() -> Scenario {
    with_an_agent(Scenario::new("an agent is made anew at any moment"), town_that_stays_awake)
        .when(agent_runs, "its rig is removed", |world| {
            change(world, town_kind(), "gas", &json!({"spec": {"rigs": [{"name": "docs"}]}}));
        })
        .interrupted("the agent is killed, and another made by its name", |world| {
            let kill = json!({"metadata": {"finalizers": null}});
            delete(world, agent_kind(), "poly");
            change(world, agent_kind(), "poly", &kill);
            if find(world, agent_kind(), "poly").is_none() {
                create_agent(
                    world,
                    "poly",
                    json!({"townName": "gas", "role": "Polecat", "rig": "docs", "hook": {"bead": "b2"}}),
                );
            }
        })
        .ends(EventuallyStable, "the new one works", agent_runs)
}

pub fn hostile_tenant() -> Scenario {
    let story = with_an_agent(Scenario::new("a hostile tenant"), town)
        .when(
            |world| is_bound(world, "poly"),
            "another tenant creates objects with the UIDs of the town and the agent",
            |world| forge(world, "gas", "poly"),
        )
        .when(agent_runs, "its work is done", |world| end_work(world, "poly", 0))
        .when(
            |world| town_is("Asleep")(world) && has_done("b1")(world),
            "it sleeps, and is deleted",
            delete_town,
        );
    nothing_is_left(story).ends(Tenants, "the other tenant has all its objects", |world| forged(world) == 12)
}

pub fn node_reboots() -> Scenario {
    let many = || {
        let mut town = town_that_stays_awake();
        let containers = |names: [&str; 3]| names.map(|name| json!({"name": name, "image": "town"}));
        town["template"]["spec"]["containers"] = json!(containers(["main", "shell", "logs"]));
        town["template"]["spec"]["initContainers"] = json!(containers(["one", "two", "three"]));
        town
    };
    Scenario::new("the node reboots")
        .first("a town is made whose pod has six containers", move |world| create_town(world, "gas", many()))
        .when(town_is("Idle"), "the node reboots", |world| with_pod(world, town_kind(), "gas", node::reboot))
        .when(town_is("Starting"), "the node is back", |world| {
            with_pod(world, town_kind(), "gas", node::recover);
        })
        .ends(EventuallyStable, "it is idle", town_is("Idle"))
        .ends(OneIncident, "one incident is counted, and the pod is kept", |world| {
            let restarts =
                find(world, town_kind(), "gas").map(|town| town["status"]["restarts"]["count"].clone());
            restarts.and_then(|count| count.as_i64()).unwrap_or(0) <= 1 && created(world, id::POD) == 1
        })
}

pub fn agent_cannot_start() -> Scenario {
    Scenario::new("an agent cannot start")
        .first("a town is made, with an agent whose image is absent", |world| {
            create_town(world, "gas", town());
            let mut agent = polecat("b1");
            agent["template"] = json!({"spec": {"containers": [{"name": "main", "image": node::ABSENT}]}});
            create_agent(world, "poly", agent);
        })
        .ends(NoWorkFromWhatCannotRun, "it sleeps", |world| {
            town_is("Asleep")(world) && pod_of(world, agent_kind(), "poly").is_none()
        })
}

pub fn sidecar_injected() -> Scenario {
    let story =
        Scenario::new("a sidecar is injected").first("a mesh injects a container into each pod", |world| {
            world.injects = Some("mesh");
        });
    with_an_agent(story, town_that_stays_awake)
        .when(agent_runs, "its work is done, and the injected container runs on", |world| {
            end_work(world, "poly", 0);
        })
        .ends(DoneIsDone, "the bead is done", has_done("b1"))
        .ends(EventuallyStable, "the agent has no pod", |world| pod_of(world, agent_kind(), "poly").is_none())
}

/// The agent has had at least this number of pods and is running.
fn runs_in(number: usize) -> impl Fn(&World) -> bool + Send + Sync + 'static {
    move |world| agent_runs(world) && pods_of(world, "poly") >= number
}

pub fn evicted_twice() -> Scenario {
    // A process that exits with 0 on SIGTERM leaves a pod that appears finished.
    let obedient = || {
        let mut town = town_that_stays_awake();
        town["agentTemplate"]["spec"]["containers"][0]["image"] = node::OBEDIENT.into();
        town
    };
    with_an_agent(Scenario::new("evicted twice"), obedient)
        .when(runs_in(1), "an autoscaler evicts its pod", |world| {
            with_pod(world, agent_kind(), "poly", node::evict_by_api);
        })
        .when(runs_in(2), "the node evicts its pod", |world| {
            with_pod(world, agent_kind(), "poly", node::evict);
        })
        .when(runs_in(3), "its work is done", |world| end_work(world, "poly", 0))
        .ends(DoneIsDone, "the bead is done", has_done("b1"))
}

pub fn backup_restored() -> Scenario {
    with_an_agent(Scenario::new("a backup is restored"), town_that_stays_awake)
        .when(agent_runs, "its work is done", |world| end_work(world, "poly", 0))
        .when(
            |world| has_done("b1")(world) && pod_of(world, agent_kind(), "poly").is_none(),
            "it is deleted",
            delete_town,
        )
        .when(
            |world| is_gone(world) && find(world, agent_kind(), "poly").is_none(),
            "a backup tool restores what it saved",
            restore,
        )
        .ends(EventuallyStable, "the restored town runs", is_awake)
        .ends(DoneIsDone, "the restored agent is there, and has no pod", |world| {
            find(world, agent_kind(), "poly").is_some() && pod_of(world, agent_kind(), "poly").is_none()
        })
}

pub fn pruned_at_any_moment() -> Scenario {
    with_an_agent(Scenario::new("a GitOps tool prunes at any moment"), town_that_stays_awake)
        .when(agent_runs, "its work is done", |world| end_work(world, "poly", 0))
        .interrupted("a GitOps tool prunes the application", |world| prune(world, "gas"))
        .alone()
        .ends(EventuallyStable, "it runs on its first volume", |world| {
            is_awake(world) && created(world, id::CLAIM) == 2
        })
        .ends(DoneIsDone, "the bead is done", has_done("b1"))
}

/// Each rig and each role has one place. Two agents want each place, and arrive in the same second.
pub fn places_are_limited() -> Scenario {
    let narrow = || {
        let mut town = town_that_stays_awake();
        town["rigs"] = json!([{"name": "core", "maxPolecats": 1}]);
        town
    };
    let one_works = |names: [&'static str; 2]| {
        move |world: &World| names.iter().filter(|name| runs(world, agent_kind(), name)).count() == 1
    };
    Scenario::new("places are limited")
        .first("a town is made", move |world| create_town(world, "gas", narrow()))
        .when(is_awake, "two polecats and two mayors are made", |world| {
            for name in ["poly", "anna"] {
                let mut agent = polecat("b1");
                agent["storage"] = Value::Null;
                create_agent(world, name, agent);
            }
            for name in ["zoe", "adam"] {
                create_agent(world, name, json!({"townName": "gas", "role": "Mayor"}));
            }
        })
        .ends(EventuallyStable, "one polecat works", one_works(["poly", "anna"]))
        .ends(EventuallyStable, "one mayor works", one_works(["zoe", "adam"]))
        .ends_differently()
}
