//! The parts of a pod template that more than one module changes.

use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec};

/// The containers that a template can have, including init containers.
pub(super) fn containers(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.init_containers.iter_mut().flatten().chain(spec.containers.iter_mut())
}

/// A variable with exactly this value. The kubelet expands `$(NAME)` in values, and converts `$$` to `$`.
pub(super) fn literal(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.replace('$', "$$")), value_from: None }
}
