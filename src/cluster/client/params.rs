//! The parameters of writes.

use kube::api::{PatchParams, PostParams};

use crate::api::names;

/// The parameters of creates and replaces, with our field manager.
pub(crate) fn post_params() -> PostParams {
    PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() }
}

/// The parameters of patches, with our field manager.
pub(crate) fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() }
}
