//! An object by its name, with every state that it has over time.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::runtime::watcher::{self, watch_object};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::wait::{LOOK, PATIENCE, until_comes};

/// An object that may be missing.
pub struct Seen<K> {
    api: Api<K>,
    name: String,
}

/// The trait bounds of an object of the API.
pub trait Object:
    Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + 'static
{
}

/// A namespaced object.
pub trait Kind: Object + Resource<Scope = NamespaceResourceScope> {}

impl<K: Object + Resource<Scope = NamespaceResourceScope>> Kind for K {}

impl<K: Kind> Seen<K> {
    /// The object of this name in this namespace.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.into() }
    }
}

impl<K: Object + Resource<Scope = ClusterResourceScope>> Seen<K> {
    /// The cluster-scoped object of this name.
    pub fn global(client: Client, name: &str) -> Self {
        Self { api: Api::all(client), name: name.into() }
    }
}

impl<K: Object> Seen<K> {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object, if it exists.
    pub async fn find(&self) -> Option<K> {
        self.api.get_opt(&self.name).await.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// The object, which must exist.
    pub async fn get(&self) -> K {
        self.api.get(&self.name).await.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Waits until the object exists and `is_so` is true.
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn(&K) -> bool) -> impl Future<Output = K> {
        self.until_within(PATIENCE, what, is_so)
    }

    /// Waits as [`Self::until`], with another timeout.
    #[track_caller]
    pub fn until_within(
        &self,
        within: Duration,
        what: &str,
        is_so: impl Fn(&K) -> bool,
    ) -> impl Future<Output = K> {
        let what = format!("{} {} {what}", K::kind(&()), self.name);
        until_comes(what, within, self.states(), move |state| match state {
            Ok(Some(object)) if is_so(&object) => Ok(object),
            other => Err(tell(other)),
        })
    }

    /// Observes the object for a while, during which it must exist and `is_so` must be true.
    #[track_caller]
    pub fn stays(
        &self,
        during: Duration,
        what: &str,
        is_so: impl Fn(&K) -> bool,
    ) -> impl Future<Output = ()> {
        let what = format!("{} {} {what}", K::kind(&()), self.name);
        let caller = std::panic::Location::caller();
        let states = self.states();
        async move {
            let mut seen = false;
            let changed = states.filter_map(|state| {
                seen = true;
                let other = match state {
                    Ok(Some(object)) if is_so(&object) => None,
                    other => Some(tell(other)),
                };
                std::future::ready(other)
            });
            if let Ok(Some(other)) = tokio::time::timeout(during, pin!(changed).next()).await {
                panic!("at {caller}, no longer: {what}\nseen: {other}");
            }
            assert!(seen, "at {caller}: within {during:?} nothing was heard of {what}");
        }
    }

    /// Waits until no object of that name exists.
    #[track_caller]
    pub fn gone(&self) -> impl Future<Output = ()> {
        self.gone_within(PATIENCE)
    }

    /// Waits as [`Self::gone`], with another timeout.
    #[track_caller]
    pub fn gone_within(&self, within: Duration) -> impl Future<Output = ()> {
        let what = format!("{} {} is gone", K::kind(&()), self.name);
        until_comes(what, within, self.states(), |state| match state {
            Ok(None) => Ok(()),
            other => Err(tell(other)),
        })
    }

    /// The current state of the object, and each state that follows; `None` for a missing object. An error is retried.
    fn states(&self) -> BoxStream<'static, watcher::Result<Option<K>>> {
        watch_object(self.api.clone(), &self.name)
            .then(|state| async {
                if state.is_err() {
                    tokio::time::sleep(LOOK).await;
                }
                state
            })
            .boxed()
    }

    /// Changes the object by a JSON merge patch.
    pub async fn merge(&self, patch: Value) -> K {
        let merged = self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        merged.unwrap_or_else(|error| panic!("patching {}: {error}", self.name))
    }

    /// Changes an annotation, which triggers a reconcile. A missing object is ignored.
    pub async fn touch(&self) {
        let touched = json!({"metadata": {"annotations": {"example.com/touched": "yes"}}});
        match self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(touched)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => panic!("touching {}: {error}", self.name),
        }
    }

    /// Changes the status by a JSON merge patch.
    pub async fn merge_status(&self, patch: Value) -> K {
        let merged = self.api.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        merged.unwrap_or_else(|error| panic!("patching the status of {}: {error}", self.name))
    }

    /// Deletes the object with the default propagation of kubectl.
    pub async fn delete(&self) {
        self.delete_with(PropagationPolicy::Background).await;
    }

    /// Deletes the object with this propagation.
    pub async fn delete_with(&self, propagation: PropagationPolicy) {
        let params = DeleteParams { propagation_policy: Some(propagation), ..DeleteParams::default() };
        self.api.delete(&self.name, &params).await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Force-deletes the object with this UID, without a grace period.
    pub async fn delete_now(&self, uid: &str) {
        let preconditions = Some(Preconditions { uid: Some(uid.into()), resource_version: None });
        let params = DeleteParams { grace_period_seconds: Some(0), preconditions, ..DeleteParams::default() };
        self.api.delete(&self.name, &params).await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }
}

/// A readable text of an observed state.
fn tell<K: Object>(state: watcher::Result<Option<K>>) -> String {
    match state {
        Ok(Some(object)) => show(&object),
        Ok(None) => "not there".into(),
        Err(error) => error.to_string(),
    }
}

/// A readable text of an object, without its managed fields.
pub fn show<K: Object>(object: &K) -> String {
    let mut object = object.clone();
    object.managed_fields_mut().clear();
    serde_json::to_string_pretty(&object).unwrap_or_else(|_| format!("{object:?}"))
}
