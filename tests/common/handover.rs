//! The handover of a control plane: its objects before a story, and the deletion of all objects of the story. The
//! control plane is handed on only if it then has the same objects as before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::discovery::ApiResource;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::inventory::{HANDS, Listed, every_kind};

/// The timeout for the deletion of a story's objects. A control plane that needs longer is not handed on.
const DELETED: Duration = Duration::from_secs(30);
/// The interval between two inventories.
const LOOK: Duration = Duration::from_millis(300);

/// The kinds that the servers create, update and delete by themselves.
const OF_SERVERS: [&str; 8] = [
    "APIService",
    "EndpointSlice",
    "Endpoints",
    "Event",
    "FlowSchema",
    "IPAddress",
    "PriorityLevelConfiguration",
    "ServiceCIDR",
];
/// The kinds that can refuse the deletion of other objects.
const GUARDS: [&str; 4] = [
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// The objects of a control plane by kind, namespace and name, without those that belong to the servers.
pub struct Inventory(BTreeMap<String, Found>);

struct Found {
    kind: ApiResource,
    namespaced: bool,
    object: DynamicObject,
}

impl Inventory {
    /// Lists the objects of every kind that the API server serves.
    pub async fn of(client: &Client) -> Result<Self, String> {
        let mut inventory = BTreeMap::new();
        for Listed { kind, namespaced, objects } in every_kind(client, "", &OF_SERVERS).await? {
            for object in objects {
                let name =
                    format!("{} {}/{}", kind.kind, object.namespace().unwrap_or_default(), object.name_any());
                inventory.insert(name, Found { kind: kind.clone(), namespaced, object });
            }
        }
        Ok(Self(inventory))
    }

    /// Deletes the objects that have appeared since this inventory. Returns the new inventory, or the reason why the
    /// control plane differs from its earlier state.
    pub async fn restore(&self, client: &Client) -> Result<Self, String> {
        let deadline = Instant::now() + DELETED;
        let now = loop {
            let now = Self::of(client).await?;
            let (guards, others): (Vec<_>, Vec<_>) = now
                .0
                .iter()
                .filter(|(name, found)| !self.0.contains_key(*name) && !found.remains())
                .partition(|(_, found)| GUARDS.contains(&&*found.kind.kind));
            if guards.is_empty() && others.is_empty() {
                break now;
            }
            if Instant::now() > deadline {
                let names: Vec<_> = guards.into_iter().chain(others).map(|(name, _)| name).collect();
                return Err(format!("these objects do not go: {names:?}"));
            }
            for objects in [guards, others] {
                let deletes = objects.into_iter().map(|(_, found)| found.delete(client));
                futures::stream::iter(deletes).buffer_unordered(HANDS).collect::<Vec<()>>().await;
            }
            tokio::time::sleep(LOOK).await;
        };
        for (name, before) in
            self.0.iter().filter(|(_, before)| !before.remains() && before.kind.kind != "Lease")
        {
            if now.0.get(name).is_none_or(|found| found.content() != before.content()) {
                return Err(format!("{name} is not as before"));
            }
        }
        Ok(now)
    }
}

impl Found {
    /// Whether the object remains after its story: an empty namespace with its own objects, and the objects that the
    /// servers create after their start.
    fn remains(&self) -> bool {
        let (kind, name) = (&*self.kind.kind, self.object.name_any());
        let system = self.object.namespace().as_deref() == Some("kube-system");
        match kind {
            "Namespace" => self.object.metadata.deletion_timestamp.is_none(),
            "ServiceAccount" => system || name == "default",
            "ConfigMap" => system || name == "kube-root-ca.crt",
            "Lease" => system && name.starts_with("apiserver-"),
            _ => false,
        }
    }

    /// Deletes the object without a grace period. A later inventory shows a failure.
    async fn delete(&self, client: &Client) {
        let api: Api<DynamicObject> = match self.object.namespace() {
            Some(namespace) if self.namespaced => {
                Api::namespaced_with(client.clone(), &namespace, &self.kind)
            }
            _ => Api::all_with(client.clone(), &self.kind),
        };
        let name = self.object.name_any();
        // The namespace controller ends a namespace after the deletion of its objects.
        if self.kind.kind != "Namespace" && !self.object.finalizers().is_empty() {
            let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let _ = api.patch(&name, &PatchParams::default(), &patch).await;
        }
        let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
    }

    /// The content of the object without its versions and its status.
    fn content(&self) -> Value {
        let mut metadata = self.object.metadata.clone();
        metadata.managed_fields = None;
        metadata.resource_version = None;
        metadata.generation = None;
        let mut data = self.object.data.clone();
        if let Some(fields) = data.as_object_mut() {
            fields.remove("status");
        }
        json!([metadata, data])
    }
}
