//! Identities. Ownership is by UID, never by name: a bare `String` UID does not compile.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The UID of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(String);

impl Uid {
    /// Takes the text of a `metadata.uid`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The UID of an object read from the API server; `None` for one that was never stored.
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

/// Namespace and name of an object: where to look, not who is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
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

/// A Town or an Agent: where it is, and who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnerRef {
    /// Where it is.
    pub key: ObjectKey,
    /// Who it is.
    pub uid: Uid,
}

impl OwnerRef {
    /// The reference to an object read from the API server.
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        Some(Self { key: ObjectKey::of(meta), uid: Uid::of(meta)? })
    }
}

/// An owner as its children name it: by its UID, in their own namespace. A child never belongs to an owner in
/// another namespace, whatever its labels say: tenants do not trust each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerId {
    /// The namespace of the owner and of its children.
    pub namespace: String,
    /// The UID of the owner.
    pub uid: Uid,
}

impl OwnerId {
    /// The owner of this UID in this namespace.
    pub fn new(namespace: &str, uid: &Uid) -> Self {
        Self { namespace: namespace.to_owned(), uid: uid.clone() }
    }

    /// The identity of an object read from the API server.
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        Some(Self::new(meta.namespace.as_deref().unwrap_or_default(), &Uid::of(meta)?))
    }
}

/// Whether an object may be the pod or claim that the owner lives on, by its name: the very object in the owner's
/// record, given as name and UID, or the name that the naming rule gives. Labels alone do not make a child.
pub fn is_named_child(owner: &OwnerRef, recorded: Option<(&str, &str)>, name: &str, uid: &Uid) -> bool {
    recorded == Some((name, uid.as_str())) || child_name(&owner.key.name, &owner.uid) == name
}

/// The name of an owner's child: a readable prefix of at most 40 characters, then the first 8 hex
/// digits of the owner's UID. Deterministic, so that a create whose answer was lost meets its own
/// object when it is sent again, and two pods of one owner cannot exist.
pub fn child_name(owner: &str, uid: &Uid) -> String {
    let prefix: String = owner.chars().take(40).map(|c| if c == '.' { '-' } else { c }).collect();
    let digits: String = uid.as_str().chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{}-{digits}", prefix.trim_end_matches('-'))
}

/// The name of a town's Service: that of a child, except that it must begin with a letter, which a Town's need
/// not.
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
    fn a_child_has_the_name_of_the_rule_or_is_the_recorded_object() {
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
