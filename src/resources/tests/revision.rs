//! The revision of a pod: it changes with the pod, and only then.

use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::{BoxedStrategy, Strategy, any};
use proptest::sample::{Index, select};
use proptest::{prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::{agent, here, merge, pod_in, template, town};
use crate::api::{Agent, PodTemplate, Town, names};
use crate::resources::{VolumeGroup, agent_revision, digest, town_pod, town_revision};

/// A town and one of its agents that use every part a pod can be made from.
fn full_town() -> Value {
    json!({
        "storage": {"size": "1Gi"},
        "activityProbe": {"port": 80},
        "ports": [{"name": "http", "port": 80}],
        "rigs": [{"name": "rig", "gitUrl": "https://git.test/rig", "branch": "main"}],
    })
}

fn full_agent() -> Value {
    json!({"role": "Crew", "storage": {"size": "1Gi"}, "activityProbe": {"port": 80}})
}

fn with(mut spec: Value, change: Value) -> Value {
    merge(&mut spec, change);
    spec
}

fn rig(change: Value) -> Value {
    let rig = json!({"name": "rig", "gitUrl": "https://git.test/rig", "branch": "main"});
    json!({"rigs": [with(rig, change)]})
}

/// The test contains the values, so that no revision changes by accident: such a change would replace every pod of
/// every installation.
#[test]
fn revisions_are_the_same_in_every_version_of_the_operator() {
    let gas = town(full_town());
    let revisions = (town_revision(&gas, None), agent_revision(&agent(full_agent()), &gas, None));
    assert_eq!(revisions, ("4479876c685f2935".into(), "d0a63756b46cf448".into()));
}

#[test]
fn town_revision_changes_with_each_part_of_its_pod() {
    let before = town_revision(&town(full_town()), None);
    for change in [
        json!({"template": template(json!({"terminationGracePeriodSeconds": 1}))}),
        json!({"template": null}),
        json!({"storage": null}),
        json!({"storage": {"existingClaimName": "theirs"}}),
        json!({"activityProbe": null}),
        json!({"activityProbe": {"port": 80, "tokenSecretName": "theirs"}}),
    ] {
        assert_ne!(town_revision(&town(with(full_town(), change.clone())), None), before, "{change}");
    }
}

#[test]
fn agent_revision_changes_with_each_part_of_its_pod() {
    let before = agent_revision(&agent(full_agent()), &town(full_town()), None);
    let changed = template(json!({"terminationGracePeriodSeconds": 1}));
    for (of_agent, of_town) in [
        (json!({"template": changed}), json!({})),
        (json!({}), json!({"agentTemplate": changed})),
        (json!({}), json!({"agentTemplate": null})),
        (json!({"identity": "toast-the-first"}), json!({})),
        (json!({"role": "Refinery"}), json!({})),
        (json!({"rig": "other"}), json!({})),
        (json!({}), rig(json!({"gitUrl": "https://git.test/other"}))),
        (json!({}), rig(json!({"gitUrl": null}))),
        (json!({}), rig(json!({"branch": "trunk"}))),
        (json!({}), rig(json!({"credentialsSecretName": "deploy-key"}))),
        (json!({}), json!({"ports": []})),
        (json!({"storage": null}), json!({})),
        (json!({"storage": {"existingClaimName": "theirs"}}), json!({})),
        (json!({"activityProbe": null}), json!({})),
        (json!({"activityProbe": {"port": 80, "tokenSecretName": "theirs"}}), json!({})),
    ] {
        let (toast, gas) =
            (agent(with(full_agent(), of_agent.clone())), town(with(full_town(), of_town.clone())));
        assert_ne!(agent_revision(&toast, &gas, None), before, "{of_agent} {of_town}");
    }
}

#[test]
fn revision_ignores_fields_that_do_not_change_the_pod() {
    let revisions = |of_town: &Value, of_agent: &Value| {
        let gas = town(with(full_town(), of_town.clone()));
        (town_revision(&gas, None), agent_revision(&agent(with(full_agent(), of_agent.clone())), &gas, None))
    };
    let nothing = json!({});
    let before = revisions(&nothing, &nothing);
    for change in [
        json!({"storage": {"size": "2Gi"}}),
        json!({"storage": {"size": "1Gi", "retainPolicy": "Retain"}}),
        json!({"activityProbe": {"port": 81, "path": "/x"}}),
        json!({"ports": [{"name": "http", "port": 80}, {"name": "ssh", "port": 22}]}),
        json!({"rigs": [{"name": "new"}, {"name": "rig", "gitUrl": "https://git.test/rig", "maxPolecats": 1}]}),
        json!({"suspend": true, "alwaysOn": true, "sleepAfter": "1h", "wakeRequest": "x"}),
        json!({"backlog": {"triage": 1}, "alarm": {"active": "1s"}, "drain": {"timeout": "0s"}}),
        json!({"expiry": {"time": "2030-01-01T00:00:00Z"}}),
    ] {
        assert_eq!(revisions(&change, &nothing), before, "{change}");
    }
    for change in [
        json!({"hook": null}),
        json!({"hook": {"bead": "b2", "title": "x", "instructions": "y"}}),
        json!({"storage": {"size": "2Gi"}}),
        json!({"retry": {"limit": 1}}),
        json!({"identity": "toast"}),
    ] {
        assert_eq!(revisions(&nothing, &change), before, "{change}");
    }
}

/// The revision of a pod does not depend on whether the template is in memory or only its digest.
#[test]
fn template_digest_gives_the_same_revision_as_the_template() {
    let (mut gas, mut toast) = (town(full_town()), agent(full_agent()));
    let before = (town_revision(&gas, None), agent_revision(&toast, &gas, None));
    let templates = [&mut gas.spec.template, &mut gas.spec.agent_template, &mut toast.spec.template];
    for template in templates.into_iter().flatten() {
        *template = PodTemplate::Digest(digest(template));
    }
    assert_eq!((town_revision(&gas, None), agent_revision(&toast, &gas, None)), before);
    assert!(town_pod(&gas, None, &here(), VolumeGroup::default()).is_none(), "no pod is made from a digest");
}

/// A strategy for one of these values of a field, or null.
fn some_of(values: impl IntoIterator<Item = Value>) -> BoxedStrategy<Value> {
    select(values.into_iter().chain([Value::Null]).collect::<Vec<_>>()).boxed()
}

fn template_with(links: bool) -> Value {
    template(json!({"enableServiceLinks": links}))
}

fn storages() -> BoxedStrategy<Value> {
    some_of([json!({"size": "1Gi"}), json!({"size": "2Gi"}), json!({"existingClaimName": "theirs"})])
}

fn probes() -> BoxedStrategy<Value> {
    some_of([json!({"port": 80}), json!({"port": 81}), json!({"port": 80, "tokenSecretName": "theirs"})])
}

/// Spec fields with a value each. The number of values is small, so that two specs often result in the same pod.
fn specs<const N: usize>(fields: [(&'static str, BoxedStrategy<Value>); N]) -> BoxedStrategy<Value> {
    let (keys, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    values.prop_map(move |values| keys.iter().copied().zip(values).collect()).boxed()
}

fn town_specs() -> BoxedStrategy<Value> {
    let rig = |change: Value| rig(change)["rigs"].clone();
    let port = |name: &str, port: i32| json!({"name": name, "port": port});
    specs([
        ("template", select(vec![template_with(false), template_with(true)]).boxed()),
        ("agentTemplate", select(vec![template_with(false), template_with(true)]).boxed()),
        ("storage", storages()),
        ("activityProbe", probes()),
        (
            "rigs",
            select(vec![
                json!([]),
                rig(json!({})),
                rig(json!({"maxPolecats": 1})),
                rig(json!({"gitUrl": null})),
                rig(json!({"branch": "trunk"})),
                rig(json!({"credentialsSecretName": "key"})),
                rig(json!({"credentialsSecretName": "other"})),
            ])
            .boxed(),
        ),
        (
            "ports",
            select(vec![json!([]), json!([port("a", 1)]), json!([port("a", 1), port("b", 2)])]).boxed(),
        ),
        ("sleepAfter", select(vec![json!("1h"), json!("2h")]).boxed()),
    ])
}

fn agent_specs() -> BoxedStrategy<Value> {
    specs([
        ("template", some_of([template_with(false), template_with(true)])),
        ("role", select(vec![json!("Crew"), json!("Refinery")]).boxed()),
        ("rig", some_of([json!("rig"), json!("other")])),
        ("identity", some_of([json!("toast"), json!("toast-the-first")])),
        ("hook", some_of([json!({"bead": "b1"}), json!({"bead": "b2"})])),
        ("storage", storages()),
        ("activityProbe", probes()),
    ])
}

/// The first spec with one field of the second. Most often the two specs differ little.
fn mixed(one: &Value, other: &Value, field: Index) -> Value {
    let key = field.get(&one.as_object().unwrap().keys().collect::<Vec<_>>()).to_owned();
    with(one.clone(), json!({key: other[key]}))
}

/// A pod without the fields that may differ between pods of one revision.
fn essence(mut pod: Pod) -> Pod {
    let annotations = pod.metadata.annotations.as_mut().unwrap();
    annotations.remove(names::HOOK);
    annotations.remove(names::POD_REVISION).expect("every pod carries its revision");
    pod
}

proptest! {
    #[test]
    fn towns_have_equal_revisions_exactly_when_their_pods_are_equal(
        one in town_specs(),
        other in town_specs(),
        field in any::<Index>(),
    ) {
        let [one, other] = [town(mixed(&one, &other, field)), town(one)];
        let pod = |town| essence(town_pod(town, None, &here(), VolumeGroup::default()).unwrap());
        prop_assert_eq!(town_revision(&one, None) == town_revision(&other, None), pod(&one) == pod(&other));
    }

    #[test]
    fn agents_have_equal_revisions_exactly_when_their_pods_are_equal(
        one in (agent_specs(), town_specs()),
        other in (agent_specs(), town_specs()),
        field in any::<Index>(),
        whose in any::<bool>(),
    ) {
        let (of_agent, of_town) = if whose {
            (mixed(&one.0, &other.0, field), one.1.clone())
        } else {
            (one.0.clone(), mixed(&one.1, &other.1, field))
        };
        let (one, other) = ((agent(one.0), town(one.1)), (agent(of_agent), town(of_town)));
        let revision = |(agent, town): &(Agent, Town)| agent_revision(agent, town, None);
        let pod = |(agent, town): &(Agent, Town)| essence(pod_in(agent, town));
        prop_assert_eq!(revision(&one) == revision(&other), pod(&one) == pod(&other));
    }
}
