//! The fields that the server sets in other built-in kinds, and the changes of them that it permits.

use serde_json::{Value, json};

use super::kinds::{Kind, id};
use super::refusal::Fault;

/// The faults in an object of a built-in kind that its type does not exclude.
pub fn faults(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<Fault> {
    match (kind.id, old) {
        (id::POD, Some(old)) => super::pods::faults(new, old),
        (id::CLAIM, Some(old)) => super::volumes::claim_faults(new, old),
        (id::SERVICE, Some(old)) => address_faults(new, old),
        (id::SECRET, Some(old)) if old["immutable"] == true && new["data"] != old["data"] => {
            vec![Fault::forbidden("data", "field is immutable when `immutable` is set")]
        }
        (id::POD, None) => pod_faults(new),
        _ => Vec::new(),
    }
}

fn pod_faults(pod: &Value) -> Vec<Fault> {
    if pod["spec"]["containers"].as_array().is_none_or(Vec::is_empty) {
        return vec![Fault::required("spec.containers", "")];
    }
    Vec::new()
}

/// Sets the defaults of a new Service, and a cluster IP unless the Service is headless.
pub fn prepare_service(service: &mut Value, chance: u64) {
    let spec = &mut service["spec"];
    for (field, value) in [
        ("type", json!("ClusterIP")),
        ("sessionAffinity", json!("None")),
        ("internalTrafficPolicy", json!("Cluster")),
        ("ipFamilies", json!(["IPv4"])),
        ("ipFamilyPolicy", json!("SingleStack")),
    ] {
        if spec.get(field).is_none() {
            spec[field] = value;
        }
    }
    if spec.get("clusterIP").is_none() {
        spec["clusterIP"] =
            format!("10.{}.{}.{}", 96 + chance % 16, (chance >> 8) % 256, 2 + (chance >> 16) % 253).into();
    }
    spec["clusterIPs"] = json!([spec["clusterIP"].clone()]);
    port_defaults(spec);
    service["status"] = json!({"loadBalancer": {}});
}

fn port_defaults(spec: &mut Value) {
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if port.get("protocol").is_none() {
            port["protocol"] = "TCP".into();
        }
        if port.get("targetPort").is_none() {
            port["targetPort"] = port["port"].clone();
        }
    }
}

/// Keeps the cluster IP of a changed Service.
pub fn keep_service(new: &mut Value, old: &Value) {
    for field in [
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ipFamilyPolicy",
        "type",
        "sessionAffinity",
        "internalTrafficPolicy",
    ] {
        if new["spec"].get(field).is_none() && old["spec"].get(field).is_some() {
            new["spec"][field] = old["spec"][field].clone();
        }
    }
    port_defaults(&mut new["spec"]);
}

fn address_faults(new: &Value, old: &Value) -> Vec<Fault> {
    let (is, was) = (&new["spec"]["clusterIP"], &old["spec"]["clusterIP"]);
    if is == was {
        return Vec::new();
    }
    vec![Fault::invalid("spec.clusterIPs[0]", is, "may not change once set")]
}
