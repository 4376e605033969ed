//! The kinds that the server serves: the kinds of Kubernetes that the operator uses, and our own kinds with their
//! `CustomResourceDefinition`s.

use std::sync::LazyLock;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttachment};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use town_operator::api;

use super::rules::Rules;
use super::schema::Schema;

/// The index of a kind in the table.
pub type KindId = usize;

/// A kind of objects.
#[allow(clippy::struct_excessive_bools, clippy::struct_field_names)]
pub struct Kind {
    pub id: KindId,
    /// API group; empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// The plural name of the resource.
    pub plural: &'static str,
    pub kind: &'static str,
    /// Whether the objects are namespaced.
    pub namespaced: bool,
    /// Whether the kind has the subresource `status`.
    pub status: bool,
    /// Whether the server counts the generations of the spec.
    pub generation: bool,
    /// Whether an update without a resourceVersion is valid.
    pub unconditional: bool,
    /// Whether the answer to a delete is the deleted object.
    pub returns_deleted: bool,
    /// The field selectors besides name and namespace. The name of a field is its path.
    pub selectable: Vec<String>,
    /// The method to normalise an object of the kind.
    pub form: Form,
}

/// The method to normalise an object of a kind.
pub enum Form {
    /// A type of Kubernetes: the function drops the fields that the type does not have.
    Typed(fn(Value) -> Result<Value, String>),
    /// A schema.
    Custom(Box<Definition>),
}

/// The content of a `CustomResourceDefinition`.
pub struct Definition {
    pub object: Value,
    pub schema: Schema,
    pub rules: Rules,
}

impl Kind {
    /// For example `towns.gastown.dev` or `pods`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// For example `gastown.dev/v1alpha1` or `v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The definition of a custom kind; `None` for a kind of Kubernetes.
    pub fn definition(&self) -> Option<&Definition> {
        match &self.form {
            Form::Custom(definition) => Some(definition),
            Form::Typed(_) => None,
        }
    }
}

pub struct Kinds(Vec<Kind>);

/// The table. The first call builds it.
pub fn kinds() -> &'static Kinds {
    static KINDS: LazyLock<Kinds> = LazyLock::new(Kinds::new);
    &KINDS
}

/// The indices of the kinds that players and the server use by name.
pub mod id {
    use super::KindId;

    pub const NAMESPACE: KindId = 0;
    pub const POD: KindId = 1;
    pub const CLAIM: KindId = 2;
    pub const VOLUME: KindId = 3;
    pub const SERVICE: KindId = 4;
    pub const SECRET: KindId = 5;
    pub const LEASE: KindId = 6;
    pub const EVENT: KindId = 7;
    pub const NODE: KindId = 8;
    pub const DEFINITION: KindId = 9;
    pub const CLASS: KindId = 10;
    pub const ATTACHMENT: KindId = 11;
}

fn typed<T: DeserializeOwned + Serialize>(value: Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(value).map_err(|error| error.to_string())?;
    serde_json::to_value(typed).map_err(|error| error.to_string())
}

impl Kinds {
    fn new() -> Self {
        let pod =
            &["spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "status.phase", "status.podIP"];
        let core: [(&[&'static str; 4], &str, Form); 12] = [
            (&["", "v1", "namespaces", "Namespace"], "s r u", Form::Typed(typed::<core::Namespace>)),
            (&["", "v1", "pods", "Pod"], "n s g r u", Form::Typed(typed::<core::Pod>)),
            (
                &["", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"],
                "n s r u",
                Form::Typed(typed::<core::PersistentVolumeClaim>),
            ),
            (
                &["", "v1", "persistentvolumes", "PersistentVolume"],
                "s r u",
                Form::Typed(typed::<core::PersistentVolume>),
            ),
            (&["", "v1", "services", "Service"], "n s r u", Form::Typed(typed::<core::Service>)),
            (&["", "v1", "secrets", "Secret"], "n u", Form::Typed(typed::<core::Secret>)),
            (&["coordination.k8s.io", "v1", "leases", "Lease"], "n", Form::Typed(typed::<Lease>)),
            (&["events.k8s.io", "v1", "events", "Event"], "n u", Form::Typed(typed::<Event>)),
            (&["", "v1", "nodes", "Node"], "s u", Form::Typed(typed::<core::Node>)),
            (
                &["apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"],
                "s g",
                Form::Typed(typed::<CustomResourceDefinition>),
            ),
            (
                &["storage.k8s.io", "v1", "storageclasses", "StorageClass"],
                "r",
                Form::Typed(typed::<StorageClass>),
            ),
            (
                &["storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment"],
                "s r",
                Form::Typed(typed::<VolumeAttachment>),
            ),
        ];
        let mut kinds: Vec<Kind> = Vec::new();
        for ([group, version, plural, kind], traits, form) in core {
            let has = |one: &str| traits.split(' ').any(|each| each == one);
            let id = kinds.len();
            kinds.push(Kind {
                id,
                group,
                version,
                plural,
                kind,
                namespaced: has("n"),
                status: has("s"),
                generation: has("g"),
                unconditional: has("u"),
                returns_deleted: has("r"),
                selectable: if id == id::POD { pod.iter().map(|&f| f.to_owned()).collect() } else { vec![] },
                form,
            });
        }
        for definition in api::crds().expect("our own definitions") {
            kinds.push(Kind::of(kinds.len(), &definition));
        }
        Self(kinds)
    }

    pub fn at(&self, id: KindId) -> &Kind {
        &self.0[id]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Kind> {
        self.0.iter()
    }

    /// The kind that a path names.
    pub fn of_path(&self, group: &str, version: &str, plural: &str) -> Option<&Kind> {
        self.0.iter().find(|kind| kind.plural == plural && kind.group == group && kind.version == version)
    }

    /// The kind with the `apiVersion` and `kind` of an object or a reference.
    pub fn of_object(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        self.0.iter().find(|known| known.kind == kind && known.api_version() == api_version)
    }

    /// The kind that this definition defines.
    pub fn defined_by(&self, definition: &str) -> Option<&Kind> {
        self.0.iter().find(|kind| kind.definition().is_some() && kind.qualified() == definition)
    }
}

impl Kind {
    fn of(id: KindId, definition: &CustomResourceDefinition) -> Self {
        // The leak happens once for a process, because the table exists as long as the process.
        let kept = |text: &str| -> &'static str { text.to_owned().leak() };
        let spec = &definition.spec;
        let version = spec.versions.iter().find(|version| version.storage).expect("a stored version");
        let schema = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).expect("a schema");
        let schema = serde_json::to_value(schema).expect("a schema");
        let selectable = version.selectable_fields.iter().flatten();
        let subresources = version.subresources.as_ref();
        Self {
            id,
            group: kept(&spec.group),
            version: kept(&version.name),
            plural: kept(&spec.names.plural),
            kind: kept(&spec.names.kind),
            namespaced: spec.scope == "Namespaced",
            status: subresources.is_some_and(|both| both.status.is_some()),
            generation: true,
            unconditional: false,
            returns_deleted: false,
            selectable: selectable.map(|field| field.json_path.trim_start_matches('.').to_owned()).collect(),
            form: Form::Custom(Box::new(Definition {
                object: serde_json::to_value(definition).expect("a definition"),
                rules: Rules::new(&schema),
                schema: Schema::new(&schema),
            })),
        }
    }
}
