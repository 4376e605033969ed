//! Dry-run requests for one object, from any client.

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::{Value, json};
use town_operator::api::{Agent, Tombstone, Town};

use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};

/// A request for one object.
#[derive(Clone, Debug)]
pub enum Ask {
    Merge(Value),
    Json(Value),
    /// Server-side apply of these fields, with force.
    Apply(Value),
    /// An update with the current object and this merged into it.
    Replace(Value),
    /// A JSON merge patch of the status.
    Status(Value),
    /// A create, with this merged into the object.
    Create(Value),
    Delete,
}

/// The object of the requests.
pub struct Object {
    kind: ApiResource,
    /// `None` for a cluster-scoped object.
    namespace: Option<String>,
    name: String,
}

impl Object {
    /// A town of the story.
    pub fn town(story: &Story, name: &str) -> Self {
        Self {
            kind: ApiResource::erase::<Town>(&()),
            namespace: Some(story.namespace.clone()),
            name: name.into(),
        }
    }

    /// An agent of the story.
    pub fn agent(story: &Story, name: &str) -> Self {
        Self {
            kind: ApiResource::erase::<Agent>(&()),
            namespace: Some(story.namespace.clone()),
            name: name.into(),
        }
    }

    /// An object of this kind in the namespace of the story.
    pub fn of<K>(story: &Story, name: &str) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        Self {
            kind: ApiResource::erase::<K>(&()),
            namespace: Some(story.namespace.clone()),
            name: name.into(),
        }
    }

    /// The API of the object, for a client.
    pub fn api(&self, who: &Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(who.clone(), namespace, &self.kind),
            None => Api::all_with(who.clone(), &self.kind),
        }
    }

    pub fn tombstone(name: &str) -> Self {
        Self { kind: ApiResource::erase::<Tombstone>(&()), namespace: None, name: name.into() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn kind(&self) -> &str {
        &self.kind.kind
    }

    /// Sends the request as a dry run: the API server evaluates all policies and changes nothing.
    pub async fn may(&self, who: &Client, ask: &Ask) -> Result<(), String> {
        let api = self.api(who);
        let on_trial = PatchParams { dry_run: true, ..PatchParams::default() };
        let answer = match ask {
            Ask::Merge(patch) => api.patch(&self.name, &on_trial, &Patch::Merge(patch)).await.map(drop),
            Ask::Json(patch) => {
                let patch = serde_json::from_value(patch.clone()).unwrap();
                api.patch(&self.name, &on_trial, &Patch::Json::<()>(patch)).await.map(drop)
            }
            Ask::Apply(fields) => {
                let whole = self.whole(fields);
                let by_force = PatchParams { dry_run: true, ..PatchParams::apply("gitops").force() };
                api.patch(&self.name, &by_force, &Patch::Apply(whole)).await.map(drop)
            }
            Ask::Replace(changes) => {
                let mut whole = serde_json::to_value(api.get(&self.name).await.unwrap()).unwrap();
                json_patch::merge(&mut whole, changes);
                let whole = serde_json::from_value(whole).unwrap();
                let on_trial = PostParams { dry_run: true, ..PostParams::default() };
                api.replace(&self.name, &on_trial, &whole).await.map(drop)
            }
            Ask::Status(patch) => {
                api.patch_status(&self.name, &on_trial, &Patch::Merge(patch)).await.map(drop)
            }
            Ask::Create(more) => {
                let on_trial = PostParams { dry_run: true, ..PostParams::default() };
                api.create(&on_trial, &self.whole(more)).await.map(drop)
            }
            Ask::Delete => {
                let on_trial = DeleteParams { dry_run: true, ..DeleteParams::default() };
                api.delete(&self.name, &on_trial).await.map(drop)
            }
        };
        answer.map_err(|error| error.to_string())
    }

    fn whole(&self, more: &Value) -> DynamicObject {
        let mut whole = json!({
            "apiVersion": self.kind.api_version, "kind": self.kind.kind, "metadata": {"name": self.name},
        });
        json_patch::merge(&mut whole, more);
        serde_json::from_value(whole).unwrap()
    }

    /// Waits until the API server refuses the request with these words. The policies take a moment to be in force.
    pub async fn refuses(&self, who: &Client, ask: &Ask, words: &[&str]) {
        let what = format!("{} {} refuses {ask:?}", self.kind.kind, self.name);
        until(&what, PATIENCE, async || match self.may(who, ask).await {
            Ok(()) => Err("it was let through".into()),
            Err(said) if words.iter().all(|words| said.contains(words)) => Ok(()),
            Err(said) => Err(said),
        })
        .await;
    }

    /// Waits until the API server allows the request. A conflict is not an answer, and is retried.
    pub async fn lets(&self, who: &Client, ask: &Ask) {
        let what = format!("{} {} lets through {ask:?}", self.kind.kind, self.name);
        until(&what, PATIENCE, async || match self.may(who, ask).await {
            Err(said) if said.contains("the object has been modified") => Err(said),
            Err(said) => panic!("{what}: {said}"),
            Ok(()) => Ok(()),
        })
        .await;
    }

    /// Creates the object, with this merged into it.
    pub async fn create(&self, who: &Client, more: &Value) -> DynamicObject {
        let made = self.api(who).create(&PostParams::default(), &self.whole(more)).await;
        made.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    pub async fn delete(&self, who: &Client) {
        let deleted = self.api(who).delete(&self.name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Changes the status, without a dry run.
    pub async fn change_status(&self, who: &Client, patch: Value) {
        let patched =
            self.api(who).patch_status(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.unwrap_or_else(|error| panic!("{} {patch}: {error}", self.name));
    }

    /// Changes the object, without a dry run.
    pub async fn change(&self, who: &Client, patch: Value) -> DynamicObject {
        let patched = self.api(who).patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.unwrap_or_else(|error| panic!("{} {patch}: {error}", self.name))
    }
}
