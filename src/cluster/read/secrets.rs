//! The Secrets that a spec names. The operator checks them before it creates a pod that could not start without them.
//!
//! The operator reads the content of a Secret only if one of its keys is required.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;

use crate::api::{Agent, Town};
use crate::cluster::error::Error;
use crate::cluster::read::objects::get;
use crate::lifecycle::{ObjectKey, town_key};
use crate::resources::{self, NeededSecret};

/// The largest number of Secrets that are read for one object. A template can name more.
const NAMES: usize = 20;

/// Checks that all Secrets exist with their required keys. The error names the first that does not.
pub(crate) async fn all_there(
    client: &Client,
    namespace: &str,
    needed: &[NeededSecret],
) -> Result<(), Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
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

/// A digest of the resource versions of the Secrets in the spec of the town, read live.
pub(crate) async fn of_town(client: &Client, key: &ObjectKey) -> Result<Option<String>, Error> {
    let Some(town) = get::<Town>(client, key).await? else { return Ok(None) };
    let Some(names) = resources::named_secrets_of_town(&town) else { return Ok(None) };
    versions(client, &key.namespace, names).await.map(Some)
}

/// A digest of the resource versions of the Secrets for the agent, in its spec and in the spec of its town, read
/// live.
pub(crate) async fn of_agent(client: &Client, key: &ObjectKey) -> Result<Option<String>, Error> {
    let Some(agent) = get::<Agent>(client, key).await? else { return Ok(None) };
    let Some(town) = get::<Town>(client, &town_key(&agent)).await? else { return Ok(None) };
    let Some(names) = resources::named_secrets_of_agent(&agent, &town) else { return Ok(None) };
    versions(client, &key.namespace, names).await.map(Some)
}

async fn versions(client: &Client, namespace: &str, names: BTreeSet<String>) -> Result<String, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut versions = Vec::new();
    for name in names.into_iter().take(NAMES) {
        let found = api.get_metadata_opt(&name).await;
        let found = found.map_err(|e| Error::api(format!("read Secret {namespace}/{name}"), e))?;
        versions.push((name, found.and_then(|secret| secret.metadata.resource_version)));
    }
    Ok(resources::revision(&versions))
}

fn has(secret: &Secret, key: &str) -> bool {
    secret.data.as_ref().is_some_and(|data| data.contains_key(key))
}
