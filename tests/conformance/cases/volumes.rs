//! Claims and volumes.

use serde_json::{Value, json};

use super::{case, pods};
use crate::script::{Answer, Case};

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
            .bind("p")
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
            .post(
                "storageclasses",
                json!({
                    "metadata": {"name": "{ns}"}, "provisioner": "example.com/none", "allowVolumeExpansion": true,
                }),
            )
            .post("persistentvolumes", volume("Delete"))
            .post("persistentvolumeclaims", of_class(claim("a"), "{ns}"))
            .until("persistentvolumeclaims/a", is_bound)
            .get("persistentvolumeclaims/a")
            .merge("persistentvolumeclaims/a", grown())
            .merge("persistentvolumeclaims/a", json!({"spec": {"accessModes": ["ReadWriteMany"]}})),
        case("a bound claim does not grow where its class does not let it")
            .post("persistentvolumes", volume("Retain"))
            .post("persistentvolumeclaims", of_class(claim("a"), "{ns}"))
            .until("persistentvolumeclaims/a", is_bound)
            .merge("persistentvolumeclaims/a", grown()),
        case("a volume that is retained outlives its claim")
            .post("persistentvolumes", volume("Retain"))
            .post("persistentvolumeclaims", of_class(claim("a"), "{ns}"))
            .until("persistentvolumeclaims/a", is_bound)
            .get("persistentvolumes/{ns}")
            .delete("persistentvolumeclaims/a")
            .gone("persistentvolumeclaims/a")
            .until("persistentvolumes/{ns}", |answer| answer.body["status"]["phase"] == "Released")
            .get("persistentvolumes/{ns}")
            .delete("persistentvolumes/{ns}")
            .gone("persistentvolumes/{ns}"),
        case("a volume that is bound is protected")
            .post("persistentvolumes", volume("Retain"))
            .post("persistentvolumeclaims", of_class(claim("a"), "{ns}"))
            .until("persistentvolumeclaims/a", is_bound)
            .delete("persistentvolumes/{ns}")
            .get("persistentvolumes/{ns}")
            .delete("persistentvolumeclaims/a")
            .gone("persistentvolumes/{ns}"),
    ]
}

/// A volume that refers to the claim `a`.
fn volume(reclaim: &str) -> Value {
    json!({
        "metadata": {"name": "{ns}"},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "{ns}",
            "persistentVolumeReclaimPolicy": reclaim, "hostPath": {"path": "/nowhere"},
            "claimRef": {"namespace": "{ns}", "name": "a"},
        },
    })
}

fn of_class(mut claim: Value, class: &str) -> Value {
    claim["spec"]["storageClassName"] = class.into();
    claim
}

fn grown() -> Value {
    json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
}

fn is_bound(answer: &Answer) -> bool {
    answer.body["status"]["phase"] == "Bound"
}
