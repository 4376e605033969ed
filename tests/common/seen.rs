//! An object by its name, looked at again and again.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::wait::{PATIENCE, always, until};

/// An object that may or may not be there.
pub struct Seen<K> {
    api: Api<K>,
    name: String,
}

/// What an object of the API is, here.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned {}

impl<K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned> Object for K {}

/// One that is in a namespace.
pub trait Kind: Object + Resource<Scope = NamespaceResourceScope> {}

impl<K: Object + Resource<Scope = NamespaceResourceScope>> Kind for K {}

impl<K: Kind> Seen<K> {
    /// The object of this name in this namespace.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.into() }
    }
}

impl<K: Object + Resource<Scope = ClusterResourceScope>> Seen<K> {
    /// The object of this name, which is in no namespace.
    pub fn global(client: Client, name: &str) -> Self {
        Self { api: Api::all(client), name: name.into() }
    }
}

impl<K: Object> Seen<K> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object, if it is there.
    pub async fn find(&self) -> Option<K> {
        self.api.get_opt(&self.name).await.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// The object, which must be there.
    pub async fn get(&self) -> K {
        self.api.get(&self.name).await.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Waits until it is there and `is_so`.
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn(&K) -> bool) -> impl Future<Output = K> {
        self.until_within(PATIENCE, what, is_so)
    }

    /// The same with another deadline.
    #[track_caller]
    pub fn until_within(
        &self,
        within: Duration,
        what: &str,
        is_so: impl Fn(&K) -> bool,
    ) -> impl Future<Output = K> {
        let what = format!("{} {} {what}", K::kind(&()), self.name);
        let caller = std::panic::Location::caller();
        async move {
            let what = format!("{what} (awaited at {caller})");
            until(&what, within, async || match self.api.get(&self.name).await {
                Ok(object) if is_so(&object) => Ok(object),
                Ok(object) => Err(show(&object)),
                Err(error) => Err(error.to_string()),
            })
            .await
        }
    }

    /// Looks on for a while, during which it must be there and `is_so`.
    #[track_caller]
    pub fn stays(
        &self,
        during: Duration,
        what: &str,
        is_so: impl Fn(&K) -> bool,
    ) -> impl Future<Output = ()> {
        let what = format!("{} {} {what}", K::kind(&()), self.name);
        let caller = std::panic::Location::caller();
        async move {
            let what = format!("{what} (watched at {caller})");
            always(&what, during, async || match self.api.get(&self.name).await {
                Ok(object) if is_so(&object) => Ok(()),
                Ok(object) => Err(show(&object)),
                Err(error) => Err(error.to_string()),
            })
            .await;
        }
    }

    /// Waits until nothing of that name is there.
    #[track_caller]
    pub fn gone(&self) -> impl Future<Output = ()> {
        self.gone_within(PATIENCE)
    }

    /// The same with another deadline.
    #[track_caller]
    pub fn gone_within(&self, within: Duration) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let what = format!("{} {} is gone (awaited at {caller})", K::kind(&()), self.name);
            until(&what, within, async || match self.api.get_opt(&self.name).await {
                Ok(None) => Ok(()),
                Ok(Some(object)) => Err(show(&object)),
                Err(error) => Err(error.to_string()),
            })
            .await;
        }
    }

    /// Changes it by a JSON merge patch.
    pub async fn merge(&self, patch: Value) -> K {
        let merged = self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        merged.unwrap_or_else(|error| panic!("patching {}: {error}", self.name))
    }

    /// Changes it, so that it is looked at, if it is still there.
    pub async fn touch(&self) {
        let touched = json!({"metadata": {"annotations": {"example.com/touched": "yes"}}});
        match self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(touched)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => panic!("touching {}: {error}", self.name),
        }
    }

    /// Changes its status by a JSON merge patch.
    pub async fn merge_status(&self, patch: Value) -> K {
        let merged = self.api.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        merged.unwrap_or_else(|error| panic!("patching the status of {}: {error}", self.name))
    }

    /// Asks for its deletion, as kubectl does.
    pub async fn delete(&self) {
        self.delete_with(PropagationPolicy::Background).await;
    }

    /// Asks for its deletion with this propagation.
    pub async fn delete_with(&self, propagation: PropagationPolicy) {
        let params = DeleteParams { propagation_policy: Some(propagation), ..DeleteParams::default() };
        self.api.delete(&self.name, &params).await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Deletes it without any grace, as one does who has lost patience: only this very object.
    pub async fn delete_now(&self, uid: &str) {
        let preconditions = Some(Preconditions { uid: Some(uid.into()), resource_version: None });
        let params = DeleteParams { grace_period_seconds: Some(0), preconditions, ..DeleteParams::default() };
        self.api.delete(&self.name, &params).await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }
}

/// An object as people read it, without the bookkeeping of its fields.
pub fn show<K: Object>(object: &K) -> String {
    let mut object = object.clone();
    object.managed_fields_mut().clear();
    serde_json::to_string_pretty(&object).unwrap_or_else(|_| format!("{object:?}"))
}
