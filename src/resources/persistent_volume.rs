//! The facts of the volumes of claims.

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::lifecycle::{Uid, VolumeFacts};

/// The facts of a volume; `None`: the volume was never stored.
pub fn volume_facts(volume: &PersistentVolume) -> Option<VolumeFacts> {
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|s| s.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain");
    let (phase, said) =
        volume.status.as_ref().map_or((None, None), |s| (s.phase.as_deref(), s.message.as_deref()));
    let said = said.filter(|said| !said.is_empty()).map(|said| format!(": {said}")).unwrap_or_default();
    Some(VolumeFacts {
        name: volume.metadata.name.clone()?,
        uid: Uid::of(&volume.metadata)?,
        claim: spec.and_then(|s| s.claim_ref.as_ref()?.uid.clone()).map(Uid::new),
        retained: policy != "Delete",
        message: format!("reclaim policy {policy}, {}{said}", phase.unwrap_or("no phase yet")),
    })
}
