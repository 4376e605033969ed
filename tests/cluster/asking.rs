//! Requests about one object, by whoever is to make them, on trial.

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::{Value, json};
use town_operator::api::{Agent, Tombstone, Town};

use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};

/// What is asked of the API server about one object.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A JSON merge patch.
    Merge(Value),
    /// A JSON patch.
    Json(Value),
    /// Server-side apply of these fields, by force.
    Apply(Value),
    /// The whole object put back with this merged into it.
    Replace(Value),
    /// A JSON merge patch of its status.
    Status(Value),
    /// Its creation, with this in it.
    Create(Value),
    /// Its deletion.
    Delete,
}

/// An object that people ask about.
pub struct Object {
    kind: ApiResource,
    /// None of an object of the whole cluster.
    namespace: Option<String>,
    name: String,
}

impl Object {
    /// A town of the story's.
    pub fn town(story: &Story, name: &str) -> Self {
        Self {
            kind: ApiResource::erase::<Town>(&()),
            namespace: Some(story.namespace.clone()),
            name: name.into(),
        }
    }

    /// An agent of the story's.
    pub fn agent(story: &Story, name: &str) -> Self {
        Self {
            kind: ApiResource::erase::<Agent>(&()),
            namespace: Some(story.namespace.clone()),
            name: name.into(),
        }
    }

    /// An object of this kind in the story's namespace.
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

    /// Its kind, where it is, for one who asks.
    pub fn api(&self, who: &Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(who.clone(), namespace, &self.kind),
            None => Api::all_with(who.clone(), &self.kind),
        }
    }

    /// The Tombstone of this name.
    pub fn tombstone(name: &str) -> Self {
        Self { kind: ApiResource::erase::<Tombstone>(&()), namespace: None, name: name.into() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its kind.
    pub fn kind(&self) -> &str {
        &self.kind.kind
    }

    /// Asks, on trial: policies are asked as ever, and nothing is changed.
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

    /// Refused, once the policies are in force, in these words.
    pub async fn refuses(&self, who: &Client, ask: &Ask, words: &[&str]) {
        let what = format!("{} {} refuses {ask:?}", self.kind.kind, self.name);
        until(&what, PATIENCE, async || match self.may(who, ask).await {
            Ok(()) => Err("it was let through".into()),
            Err(said) if words.iter().all(|words| said.contains(words)) => Ok(()),
            Err(said) => Err(said),
        })
        .await;
    }

    /// Let through. An answer that only says that the object changed meanwhile is none.
    pub async fn lets(&self, who: &Client, ask: &Ask) {
        let what = format!("{} {} lets through {ask:?}", self.kind.kind, self.name);
        until(&what, PATIENCE, async || match self.may(who, ask).await {
            Err(said) if said.contains("the object has been modified") => Err(said),
            Err(said) => panic!("{what}: {said}"),
            Ok(()) => Ok(()),
        })
        .await;
    }

    /// Creates it with this in it.
    pub async fn create(&self, who: &Client, more: &Value) -> DynamicObject {
        let made = self.api(who).create(&PostParams::default(), &self.whole(more)).await;
        made.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Deletes it.
    pub async fn delete(&self, who: &Client) {
        let deleted = self.api(who).delete(&self.name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Changes its status for good.
    pub async fn change_status(&self, who: &Client, patch: Value) {
        let patched =
            self.api(who).patch_status(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.unwrap_or_else(|error| panic!("{} {patch}: {error}", self.name));
    }

    /// Changes it for good.
    pub async fn change(&self, who: &Client, patch: Value) -> DynamicObject {
        let patched = self.api(who).patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.unwrap_or_else(|error| panic!("{} {patch}: {error}", self.name))
    }
}
