//! Identities. Invariant kept here: an object is owned by UID, never by name. The type system rejects a plain `String`
//! as a UID.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The UID of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(String);

impl Uid {
    /// Converts the text of a `metadata.uid`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The UID of an object that was read from the API server. `None` for an object that was never stored.
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        meta.uid.clone().map(Self)
    }

    /// The UID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The namespace and the name of an object. The key does not identify the object: another object may have the same key
/// later.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The namespace, name and UID of a Town or an Agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnerRef {
    /// The namespace and the name.
    pub key: ObjectKey,
    /// The UID.
    pub uid: Uid,
}

impl OwnerRef {
    /// The reference to an object that was read from the API server.
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        Some(Self { key: ObjectKey::of(meta), uid: Uid::of(meta)? })
    }
}

/// The owner of children: its UID, in the namespace of the children. A child never belongs to an owner in another
/// namespace, regardless of its labels, because tenants do not trust each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerId {
    /// The namespace of the owner and of its children.
    pub namespace: String,
    /// The UID of the owner.
    pub uid: Uid,
}

impl OwnerId {
    /// The owner with this UID in this namespace.
    pub fn new(namespace: &str, uid: &Uid) -> Self {
        Self { namespace: namespace.to_owned(), uid: uid.clone() }
    }

    /// The identity of an object that was read from the API server.
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        Some(Self::new(meta.namespace.as_deref().unwrap_or_default(), &Uid::of(meta)?))
    }
}

/// Whether an object may be the pod or claim of the owner, by its name. Either the owner's record names this object,
/// by name and UID, or the object has the name from the naming rule. Labels alone are not sufficient.
pub fn is_named_child(owner: &OwnerRef, recorded: Option<(&str, &str)>, name: &str, uid: &Uid) -> bool {
    recorded == Some((name, uid.as_str())) || child_name(&owner.key.name, &owner.uid) == name
}

/// The name of an owner's child: a readable prefix of at most 40 characters, then the first 8 hex digits of the
/// owner's UID. The name is deterministic. A repeated create after a lost answer therefore finds the object of the
/// first create, and an owner cannot have two pods.
pub fn child_name(owner: &str, uid: &Uid) -> String {
    let prefix: String = owner.chars().take(40).map(|c| if c == '.' { '-' } else { c }).collect();
    let digits: String = uid.as_str().chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{}-{digits}", prefix.trim_end_matches('-'))
}

/// The name of a town's Service. The rule is the same as for a child, but the name must begin with a letter. The name
/// of a Town need not.
pub fn service_name(town: &OwnerRef) -> String {
    let name = child_name(&town.key.name, &town.uid);
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("town-{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_names_are_readable_short_and_bound_to_the_uid() {
        let uid = Uid::new("3f2a1b4c-0000-4000-8000-000000000000");
        assert_eq!(child_name("gas", &uid), "gas-3f2a1b4c");
        assert_eq!(child_name("a.b", &uid), "a-b-3f2a1b4c");
        assert_eq!(child_name(&"x".repeat(253), &uid).len(), 49);
        let other = Uid::new("4f2a1b4c-0000-4000-8000-000000000000");
        let long = format!("{}{}", "x".repeat(39), "-tail");
        assert_ne!(child_name(&long, &uid), child_name(&long, &other), "names that collide when cut");
        assert!(!child_name(&long, &uid).contains("--"));
    }

    #[test]
    fn child_has_the_default_name_or_is_the_recorded_object() {
        let uid = Uid::new("3f2a1b4c-0000-4000-8000-000000000000");
        let key = ObjectKey { namespace: "ns".into(), name: "gas".into() };
        let owner = OwnerRef { key, uid };
        let old = Uid::new("old");
        let is = |recorded, name, uid: &Uid| is_named_child(&owner, recorded, name, uid);
        assert!(is(None, "gas-3f2a1b4c", &old));
        assert!(is(Some(("gas-old", "old")), "gas-3f2a1b4c", &old));
        assert!(is(Some(("gas-old", "old")), "gas-old", &old));
        assert!(!is(Some(("gas-old", "old")), "gas-old", &Uid::new("new")), "another object took the name");
        assert!(!is(None, "gas-old", &old));
        assert!(!is(Some(("gas-old", "old")), "a-gas", &old));
    }
}
