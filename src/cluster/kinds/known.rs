//! The kinds that the operator reads and writes, with their names and watches.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use kube::Resource;

use crate::api::{Agent, Town};
use crate::cluster::kinds::decode::Decode;

/// The kinds with a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Town,
    Agent,
    Pod,
    Claim,
    Service,
}

/// A namespaced kind that the operator knows.
pub(crate) trait Known:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Decode + Send + Sync + 'static
{
    /// The name of the kind in the API.
    const NAME: &'static str;
    /// The watch of the kind; `None`: the kind is only read live.
    const WATCHED: Option<Kind>;
    /// The object in the form that decisions read.
    fn observed(self) -> Self {
        self
    }
}

macro_rules! known {
    ($($object:ty: $name:literal, $watched:expr $(, $observed:path)?;)*) => {
        $(impl Known for $object {
            const NAME: &'static str = $name;
            const WATCHED: Option<Kind> = $watched;
            $(fn observed(self) -> Self {
                $observed(self)
            })?
        })*
    };
}

known! {
    Town: "Town", Some(Kind::Town), Town::observed;
    Agent: "Agent", Some(Kind::Agent), Agent::observed;
    Pod: "Pod", Some(Kind::Pod);
    PersistentVolumeClaim: "PersistentVolumeClaim", Some(Kind::Claim);
    Service: "Service", Some(Kind::Service);
    Secret: "Secret", None;
}
