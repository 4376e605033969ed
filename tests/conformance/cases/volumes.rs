//! Claims and volumes.

use serde_json::{Value, json};

use super::{case, pods};
use crate::script::Case;

fn claim(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "none-such",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    })
}

pub fn cases() -> Vec<Case> {
    vec![
        case("a claim is protected").post("persistentvolumeclaims", claim("a")),
        case("a claim that nobody uses goes")
            .post("persistentvolumeclaims", claim("a"))
            .delete("persistentvolumeclaims/a")
            .gone("persistentvolumeclaims/a")
            .get("persistentvolumeclaims/a"),
        case("a claim that a pod uses stays until the pod is gone")
            .post("persistentvolumeclaims", claim("a"))
            .post("pods", {
                let mut pod = pods::pod("p");
                pod["metadata"]["finalizers"] = json!(["example.com/held"]);
                pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "a"}}]);
                pod
            })
            .post("pods/p/binding", pods::binding("p"))
            .delete("persistentvolumeclaims/a")
            .get("persistentvolumeclaims/a")
            .delete_with("pods/p", |_| json!({"gracePeriodSeconds": 0}))
            .get("persistentvolumeclaims/a")
            .merge("pods/p", json!({"metadata": {"finalizers": null}}))
            .gone("persistentvolumeclaims/a"),
        case("the spec of a claim stays")
            .post("persistentvolumeclaims", claim("a"))
            .merge("persistentvolumeclaims/a", json!({"spec": {"storageClassName": "other"}}))
            .merge("persistentvolumeclaims/a", json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}})),
        case("a bound claim grows where its class lets it")
            .post("storageclasses", json!({
                "metadata": {"name": "{ns}"}, "provisioner": "example.com/none", "allowVolumeExpansion": true,
            }))
            .post("persistentvolumeclaims", {
                let mut claim = claim("a");
                claim["spec"]["storageClassName"] = "{ns}".into();
                claim["spec"]["volumeName"] = "{ns}".into();
                claim
            })
            .merge("persistentvolumeclaims/a/status", json!({
                "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
            }))
            .merge("persistentvolumeclaims/a", json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}})),
        case("a bound claim does not grow where its class does not let it")
            .post("persistentvolumeclaims", claim("a"))
            .merge("persistentvolumeclaims/a/status", json!({
                "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
            }))
            .merge("persistentvolumeclaims/a", json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}})),
    ]
}
