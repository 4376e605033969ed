//! The pod security standard `restricted`, as a default. A default applies only where the user sets no value.
//!
//! - Pod: seccomp profile `RuntimeDefault`.
//! - Each container, including sidecars and init containers: no privilege escalation; all capabilities dropped,
//!   unless the user sets any; `runAsNonRoot`, unless the user sets the user of the container. An image whose user is
//!   root then needs a `runAsUser`, or `runAsNonRoot: false` if it must be root. A privileged container stays
//!   unchanged, because it asks for the opposite.
//! - Volume: without a group, a user other than root could not write to a new volume. If the pod has no
//!   `securityContext` at all and mounts a claim that the operator created, the volume belongs to the
//!   [`VolumeGroup`], and the pod is in this group. A claim that the spec names keeps its owners. So does every
//!   volume if the user set a `securityContext`, even `{}`.
//!
//! A Windows pod supports none of these fields, and stays unchanged.

use std::str::FromStr;

use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};

use super::template::containers;

/// The group of new volumes. `None`: the operator sets no `fsGroup`, and the admission of the cluster sets it. For
/// example, OpenShift refuses a group outside of the range of the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeGroup(pub Option<i64>);

/// The group `nonroot` of many images, which has no members on a node.
impl Default for VolumeGroup {
    fn default() -> Self {
        Self(Some(65532))
    }
}

/// Parses the value of the flag: a number, or an empty text for no group.
impl FromStr for VolumeGroup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let group = text.parse().ok().filter(|group| (0..=i64::from(i32::MAX)).contains(group));
        group.map(|group| Self(Some(group))).ok_or_else(|| {
            format!(
                "'{text}' is not the number of a group, from 0 to {}; leave it empty for no group",
                i32::MAX
            )
        })
    }
}

/// Sets the fields that the user left open. `group` is the group of the volume, if the pod mounts a claim that the
/// operator created.
pub(super) fn restrict(spec: &mut PodSpec, group: Option<i64>) {
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return;
    }
    let mut pod = spec.security_context.take().unwrap_or_else(|| PodSecurityContext {
        fs_group: group,
        fs_group_change_policy: group.map(|_| "OnRootMismatch".into()),
        ..PodSecurityContext::default()
    });
    pod.seccomp_profile
        .get_or_insert_with(|| SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None });
    for container in containers(spec) {
        restrict_container(container.security_context.get_or_insert_default(), &pod);
    }
    spec.security_context = Some(pod);
}

fn restrict_container(own: &mut SecurityContext, pod: &PodSecurityContext) {
    if own.privileged == Some(true) {
        return;
    }
    // The API server refuses the combination.
    if !adds_sys_admin(own) {
        own.allow_privilege_escalation.get_or_insert(false);
    }
    own.capabilities
        .get_or_insert_with(|| Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() });
    let user = own.run_as_user.or(pod.run_as_user);
    if pod.run_as_non_root.is_none() && user != Some(0) {
        own.run_as_non_root.get_or_insert(true);
    }
}

fn adds_sys_admin(own: &SecurityContext) -> bool {
    let added = own.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
    added.into_iter().any(|capability| matches!(capability.as_str(), "CAP_SYS_ADMIN" | "SYS_ADMIN"))
}
