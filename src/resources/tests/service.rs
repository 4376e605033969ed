//! The Service of a town.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::{TOWN, agent, here, pod_of, pod_of_town, town};
use crate::api::names;
use crate::resources::{Install, VolumeGroup, town_pod, town_service};

fn two_ports() -> Value {
    json!({"ports": [{"name": "http", "port": 8080}, {"name": "ssh", "port": 22}]})
}

#[test]
fn service_has_the_ports_of_the_spec() {
    let service = town_service(&town(two_ports()), &here()).unwrap();
    let spec = service.spec.unwrap();
    assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
    let ports: Vec<_> = spec.ports.unwrap().into_iter().map(|p| (p.name, p.port, p.target_port)).collect();
    let wanted = |name: &str, port| (Some(name.to_owned()), port, Some(IntOrString::Int(port)));
    assert_eq!(ports, [wanted("http", 8080), wanted("ssh", 22)]);
    assert_eq!(town_service(&town(json!({})), &here()), None, "no ports, no Service");
}

#[test]
fn service_selects_only_the_pod_of_its_town() {
    let leads_to = |install: &Install, labels: &Option<BTreeMap<String, String>>| {
        let service = town_service(&town(two_ports()), install).unwrap();
        let selector = service.spec.unwrap().selector.unwrap();
        assert!(!selector.is_empty());
        selector.iter().all(|(key, value)| labels.as_ref().unwrap().get(key) == Some(value))
    };
    assert!(leads_to(&here(), &pod_of_town(json!({})).metadata.labels));
    assert!(!leads_to(&here(), &pod_of(&agent(json!({}))).metadata.labels), "an agent's");
    assert!(!leads_to(&Install("other".into()), &pod_of_town(json!({})).metadata.labels));
    let mut successor = town(json!({}));
    successor.metadata.uid = Some("cccccccc-0000-4000-8000-000000000000".into());
    let pod = town_pod(&successor, None, &here(), VolumeGroup::default()).unwrap();
    assert!(!leads_to(&here(), &pod.metadata.labels), "of the same name");
}

#[test]
fn service_has_the_labels_and_owner_of_the_town_pod() {
    let (service, pod) = (town_service(&town(two_ports()), &here()).unwrap(), pod_of_town(json!({})));
    assert_eq!(service.metadata.name, pod.metadata.name);
    assert_eq!(service.metadata.namespace, pod.metadata.namespace);
    assert_eq!(service.metadata.labels, pod.metadata.labels);
    assert_eq!(service.metadata.owner_references, pod.metadata.owner_references);
    let annotations = service.metadata.annotations.unwrap();
    assert_eq!(annotations[names::OWNER], "Town/ns/gas");
    assert_eq!(service.metadata.labels.unwrap()[names::TOWN_UID], TOWN);
}

#[test]
fn service_name_starts_with_a_letter_when_the_town_name_does_not() {
    let mut town = town(two_ports());
    town.metadata.name = Some(format!("9{}", "x".repeat(252)));
    let name = town_service(&town, &here()).unwrap().metadata.name.unwrap();
    assert!(name.starts_with("town-9x") && name.ends_with("-aaaaaaaa"), "{name}");
    assert!(name.len() <= 63, "{name}");
}
