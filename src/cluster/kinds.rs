//! The kinds that the operator reads and writes: how each is called, and by which watch it is followed.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use kube::Resource;

use super::consistency::Kind;
use super::decode::Decode;
use crate::api::{Agent, Town};

/// A kind of namespaced objects that we know how to look at.
pub(super) trait Known:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Decode + Send + Sync + 'static
{
    /// Its name, as in the API.
    const NAME: &'static str;
    /// Its watch; none for what is only ever read live.
    const WATCHED: Option<Kind>;
    /// The object as decisions see it.
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
