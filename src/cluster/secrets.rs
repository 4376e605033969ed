//! The Secrets that a spec names, looked at before a pod is made that could not start without them.
//!
//! The contents of a Secret are read only where one of its keys is needed.

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;

use super::Cluster;
use super::error::Error;
use crate::lifecycle::ObjectKey;
use crate::resources::NeededSecret;

/// Whether all are there, with the keys that are needed; else the first that is not.
pub(super) async fn all_there(
    cluster: &Cluster,
    namespace: &str,
    needed: &[NeededSecret],
) -> Result<(), Error> {
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    for NeededSecret { name, key, field } in needed {
        let asked = match key {
            None => api.get_metadata_opt(name).await.map(|found| found.is_some()),
            Some(key) => api.get_opt(name).await.map(|found| found.is_some_and(|secret| has(&secret, key))),
        };
        let secret = ObjectKey { namespace: namespace.to_owned(), name: name.clone() };
        if !asked.map_err(|e| Error::api(format!("read Secret {secret}"), e))? {
            return Err(Error::SecretNotFound { secret, key: *key, field });
        }
    }
    Ok(())
}

fn has(secret: &Secret, key: &str) -> bool {
    secret.data.as_ref().is_some_and(|data| data.contains_key(key))
}
