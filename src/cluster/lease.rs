//! The Lease that keeps the install id.
//!
//! Everything that an installation makes is found by its id: starting once with another id would orphan
//! all of it. So the id is written down, and a start with another one is refused.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};

use crate::api::names;

/// Why this process may not run as the installation that it says it is.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The Lease could not be read or written.
    #[error("cannot keep the install id in lease {lease}: {source}")]
    Api {
        /// Namespace and name.
        lease: String,
        /// The client's own error.
        #[source]
        source: kube::Error,
    },
    /// It was installed under another id.
    #[error(
        "lease {lease} says that this installation is '{kept}', not '{given}': everything it made carries that id; \
         start with --install-id {kept}, or use another --lease-name for a new installation"
    )]
    OtherInstall {
        /// Namespace and name.
        lease: String,
        /// The id in the Lease.
        kept: String,
        /// The id that was given.
        given: String,
    },
}

/// Writes the install id into the Lease, or checks that it is the one that stands there.
pub async fn claim_install(client: &Client, namespace: &str, name: &str, id: &str) -> Result<(), LeaseError> {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let lease = format!("{namespace}/{name}");
    let failed = |source| LeaseError::Api { lease: lease.clone(), source };
    let params = PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() };
    let found = match api.get_opt(name).await.map_err(failed)? {
        Some(found) => found,
        None => match api.create(&params, &fresh(name, id)).await {
            Ok(made) => made,
            // Another process was faster: what it wrote counts.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                api.get(name).await.map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        },
    };
    match found.annotations().get(names::INSTALL).cloned() {
        Some(kept) if kept == id => Ok(()),
        Some(kept) => Err(LeaseError::OtherInstall { lease, kept, given: id.to_owned() }),
        None => {
            let mut lease = found;
            lease.annotations_mut().insert(names::INSTALL.to_owned(), id.to_owned());
            api.replace(name, &params, &lease).await.map(|_| ()).map_err(failed)
        }
    }
}

fn fresh(name: &str, id: &str) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some(BTreeMap::from([(names::INSTALL.to_owned(), id.to_owned())])),
            labels: Some(BTreeMap::from([(names::APP_MANAGED_BY.to_owned(), names::MANAGER.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: None,
    }
}
