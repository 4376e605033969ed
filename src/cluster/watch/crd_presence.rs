//! Our kinds without a definition in the API server: the definition was removed, or was never installed.
//!
//! Invariant kept here: while a definition is missing the operator creates nothing, because it could neither list the
//! objects nor record their destruction. A destruction continues: a kind that is proven absent has no objects.

use crate::cluster::cache::index::Indexed;
use crate::cluster::context::Cluster;
use crate::cluster::kinds::definitions::of_kind;
use crate::cluster::read::objects::is_absent;
use crate::cluster::scheduling::requeue::Look;
use crate::cluster::watch::watched::Followed;

impl Cluster {
    /// Whether a kind is proven absent after its list failed. From then on the operator creates nothing.
    pub async fn is_undefined<K: Followed>(&self) -> bool {
        let Some(name) = of_kind(&K::kind(&())) else { return false };
        let absent = is_absent(&self.client, name).await.is_ok_and(|absent| absent);
        if absent && self.absent.insert(name) {
            tracing::warn!(
                "the CustomResourceDefinition {name} is not installed: the operator creates nothing until it is \
                 installed, and still destroys deleted objects; apply the files in crds/"
            );
        }
        absent
    }

    /// Records a successful list of a kind: its definition exists. When no definition is missing any more, the
    /// operator enqueues the objects that wait for creates.
    pub fn is_listed<K: Followed>(&self) {
        let Some(name) = of_kind(&K::kind(&())) else { return };
        if self.absent.remove(name) {
            tracing::info!("every CustomResourceDefinition is installed");
            let towns = self.caches.towns.all().into_iter().map(|town| Look::Town(town.key()));
            let agents = self.caches.agents.all().into_iter().map(|agent| Look::Agent(agent.key()));
            towns.chain(agents).for_each(|look| self.looks.ask(look));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Request, Response};
    use k8s_openapi::api::core::v1::Pod;
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::mpsc::UnboundedReceiver;
    use tower::service_fn;

    use super::*;
    use crate::api::{Agent, Tombstone, Town};
    use crate::cluster::clock::Clock;
    use crate::cluster::context::Limits;
    use crate::cluster::kinds::definitions::{AGENTS, TOMBSTONES};
    use crate::cluster::scheduling::requeue::looks;
    use crate::resources::Install;

    /// A cluster with one town, and an API server that gives this answer to each read of a definition.
    fn cluster(code: u16, reason: &'static str) -> (Cluster, UnboundedReceiver<Look>) {
        let server = service_fn(move |request: Request<Body>| {
            assert!(request.uri().path().contains("/customresourcedefinitions/"), "{}", request.uri());
            let said = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason});
            let body = Body::from(said.to_string().into_bytes());
            async move { Response::builder().status(code).body(body) }
        });
        let (looks, asked) = looks();
        let (client, install) = (Client::new(server, "ns"), Install("here".into()));
        let cluster = Cluster::new(client, install, Arc::default(), Limits::LEAST, looks, Clock::system());
        let town = json!({
            "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "spec": {},
            "metadata": {"name": "gas", "namespace": "ns", "uid": "town"},
        });
        cluster.caches.towns.apply(serde_json::from_value(town).unwrap(), None);
        (cluster, asked)
    }

    #[tokio::test]
    async fn creates_are_refused_until_all_definitions_exist_and_then_towns_are_enqueued() {
        let (cluster, mut asked) = cluster(404, "NotFound");
        assert!(cluster.absent.refuse().is_ok());
        assert!(cluster.is_undefined::<Tombstone>().await && cluster.is_undefined::<Agent>().await);
        assert!(!cluster.is_undefined::<Pod>().await, "that kind is the API server's own");
        let refused = cluster.absent.refuse().unwrap_err();
        assert_eq!((refused.reason(), refused.to_string().contains(AGENTS)), ("DefinitionMissing", true));
        cluster.is_listed::<Town>();
        cluster.is_listed::<Agent>();
        assert!(cluster.absent.refuse().unwrap_err().to_string().contains(TOMBSTONES));
        assert!(asked.try_recv().is_err(), "one is missing still");
        cluster.is_listed::<Tombstone>();
        assert!(cluster.absent.refuse().is_ok());
        let town = cluster.caches.towns.all()[0].key();
        assert_eq!(asked.try_recv().ok(), Some(Look::Town(town)));
        cluster.is_listed::<Tombstone>();
        assert!(asked.try_recv().is_err(), "once");
    }

    #[tokio::test]
    async fn definition_does_not_count_as_missing_when_it_cannot_be_read() {
        let (cluster, _asked) = cluster(403, "Forbidden");
        assert!(!cluster.is_undefined::<Town>().await);
        assert!(cluster.absent.refuse().is_ok());
    }
}
