//! The facts of Tombstones.

use crate::api::{Tombstone, TombstoneSpec};
use crate::lifecycle::{ObjectKey, OwnerRef, TombstoneFacts, Uid};

/// The facts of a Tombstone; `None`: the Tombstone was never stored.
pub fn tombstone_facts(tombstone: &Tombstone) -> Option<TombstoneFacts> {
    let TombstoneSpec {
        kind, namespace, namespace_uid, name, uid, delete_time, recreate, expire_time, ..
    } = &tombstone.spec;
    let key = ObjectKey { namespace: namespace.clone(), name: name.clone() };
    Some(TombstoneFacts {
        key: ObjectKey::of(&tombstone.metadata),
        uid: Uid::of(&tombstone.metadata)?,
        kind: *kind,
        of: OwnerRef { key, uid: Uid::new(uid) },
        namespace_uid: namespace_uid.as_deref().map(Uid::new),
        // Every stored object has a creationTimestamp.
        created: tombstone.metadata.creation_timestamp.as_ref().map_or(delete_time.0, |at| at.0),
        phase: tombstone.status.as_ref().map(|s| s.phase).unwrap_or_default(),
        recreate: *recreate,
        expire_time: expire_time.0,
    })
}
