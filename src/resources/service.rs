//! The Service for the pod of a town: a stable name for changing pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::child_facts;
use super::meta::{Install, not_in_backups, of_town, owner_reference};
use crate::api::{Port, Protocol, Town, names};
use crate::lifecycle::{ChildKind, OwnerRef, ServiceFacts, service_name};

/// The labels that select the pod of the town. No template can change them. The component excludes the pods of
/// agents.
const SELECTED_BY: [&str; 3] = [names::TOWN_UID, names::INSTALL, names::COMPONENT];

/// The Service with the ports of the town; `None`: the spec has no ports.
pub fn town_service(town: &Town, install: &Install) -> Option<Service> {
    if town.spec.ports.is_empty() {
        return None;
    }
    let mut metadata = of_town(town, install)?;
    metadata.name = Some(service_name(&OwnerRef::of(&town.metadata)?));
    metadata.owner_references = Some(vec![owner_reference(town)?]);
    not_in_backups(&mut metadata);
    let labels = metadata.labels.clone().unwrap_or_default();
    let selector: BTreeMap<String, String> =
        labels.into_iter().filter(|(key, _)| SELECTED_BY.contains(&key.as_str())).collect();
    let spec = ServiceSpec {
        type_: Some("ClusterIP".into()),
        selector: Some(selector),
        ports: Some(town.spec.ports.iter().map(service_port).collect()),
        ..ServiceSpec::default()
    };
    Some(Service { metadata, spec: Some(spec), status: None })
}

/// The address of the pod of the town; `None`: the town has no ports.
pub(super) fn town_host(town: &Town) -> Option<String> {
    let owner = OwnerRef::of(&town.metadata).filter(|_| !town.spec.ports.is_empty())?;
    Some(format!("{}.{}.svc", service_name(&owner), owner.key.namespace))
}

fn service_port(port: &Port) -> ServicePort {
    let port = port.resolved();
    ServicePort {
        name: Some(port.name),
        port: port.port,
        target_port: port.target_port,
        protocol: port.protocol.map(|protocol| protocol.as_str().to_owned()),
        app_protocol: port.app_protocol,
        ..ServicePort::default()
    }
}

/// The facts of a Service; `None`: the Service was never stored.
pub fn service_facts(service: &Service) -> Option<ServiceFacts> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    Some(ServiceFacts {
        child: child_facts(ChildKind::Service, &service.metadata)?,
        ports: ports.map(port).collect(),
    })
}

/// The port in the form of the town spec, with its defaults.
fn port(port: &ServicePort) -> Port {
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    let port = Port {
        name: port.name.clone().unwrap_or_default(),
        port: port.port,
        target_port: port.target_port.clone(),
        protocol: Some(protocol),
        app_protocol: port.app_protocol.clone(),
    };
    port.resolved()
}
