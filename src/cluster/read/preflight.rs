//! The requirements on the cluster, which are checked before the operator writes anything.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::Api;
use kube::{Client, ResourceExt};

use crate::api::{self, names};
use crate::cluster::kinds::definitions::{AGENTS, TOMBSTONES, TOWNS};
use crate::lifecycle::Uid;
use crate::resources::Install;

/// The oldest supported API server: field selectors on custom resources are stable since this version.
const OLDEST: (u32, u32) = (1, 32);

/// The namespace whose UID identifies the cluster: it exists as long as the cluster.
const CLUSTER: &str = "kube-system";

/// The reason why the operator does not start.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The API server does not answer.
    #[error("the API server does not answer: {0}")]
    Unreachable(#[source] kube::Error),
    /// The API server is too old.
    #[error("the API server is version {found}; this operator needs {}.{} or newer", OLDEST.0, OLDEST.1)]
    OldServer {
        /// Version of the API server.
        found: String,
    },
    /// No CRD of ours is installed.
    #[error(
        "the CustomResourceDefinition {name} is not installed, nor any other of gastown.dev: apply the files in crds/, or install the chart with crds.install=true"
    )]
    NoCrd {
        /// Name of the CRD.
        name: &'static str,
    },
    /// A CRD could not be read.
    #[error("the CustomResourceDefinition {name} cannot be read: {source}")]
    UnreadCrd {
        /// Name of the CRD.
        name: &'static str,
        /// The error of the client.
        #[source]
        source: kube::Error,
    },
    /// The identity of the cluster could not be read.
    #[error(
        "the namespace {CLUSTER} cannot be read: {0}; the operator needs the right to get it, because its UID is part of the label gastown.dev/install"
    )]
    UnreadCluster(#[source] kube::Error),
    /// The identity of the cluster is invalid.
    #[error("the UID '{uid}' of the namespace {CLUSTER} has fewer than eight hex digits")]
    UnknownCluster {
        /// The UID.
        uid: String,
    },
    /// A CRD is older than this operator.
    #[error(
        "the CustomResourceDefinition {name} has schema revision {found}, this operator needs {needed}: \
         apply the CRDs of this version first"
    )]
    OldCrd {
        /// Name of the CRD.
        name: &'static str,
        /// The schema revision that is installed.
        found: String,
        /// The schema revision that this operator was built with.
        needed: i64,
    },
}

/// Checks that the API server is new enough, and that the installed CRDs are at least as new as this operator. If
/// only some CRDs exist (the others are being deleted, or were forgotten), the start continues: deleted objects must
/// be destroyed, and meanwhile the operator creates nothing.
pub async fn check(client: &Client) -> Result<(), PreflightError> {
    let version = client.apiserver_version().await.map_err(PreflightError::Unreachable)?;
    let number = |text: &str| text.trim_end_matches('+').parse::<u32>().unwrap_or(0);
    if (number(&version.major), number(&version.minor)) < OLDEST {
        return Err(PreflightError::OldServer { found: version.git_version });
    }
    let installed: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut any = false;
    for name in [TOWNS, AGENTS, TOMBSTONES] {
        let crd = match installed.get_opt(name).await {
            Ok(Some(crd)) => crd,
            Ok(None) => continue,
            Err(source) => return Err(PreflightError::UnreadCrd { name, source }),
        };
        any = true;
        let found = crd.annotations().get(names::SCHEMA_REVISION).cloned().unwrap_or_default();
        if found.parse::<i64>().unwrap_or(0) < api::SCHEMA_REVISION {
            let found = if found.is_empty() { "none".to_owned() } else { found };
            return Err(PreflightError::OldCrd { name, found, needed: api::SCHEMA_REVISION });
        }
    }
    if any { Ok(()) } else { Err(PreflightError::NoCrd { name: TOWNS }) }
}

/// The installation with this id in this cluster.
pub async fn identify(client: &Client, id: &str) -> Result<Install, PreflightError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let uid = namespaces.get(CLUSTER).await.map_err(PreflightError::UnreadCluster)?.metadata.uid;
    let uid = uid.unwrap_or_default();
    Install::of(id, &Uid::new(uid.as_str())).ok_or(PreflightError::UnknownCluster { uid })
}
