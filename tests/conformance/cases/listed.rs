//! Lists.

use serde_json::json;

use super::{case, named, town};
use crate::script::{Case, Seen};

/// Three towns in different states.
fn three(case: Case) -> Case {
    let labelled =
        |name: &str, value: &str| json!({"metadata": {"name": name, "labels": {"x": value}}, "spec": {}});
    case.post("towns", labelled("a", "1"))
        .post("towns", labelled("b", "2"))
        .post("towns", town("c"))
        .merge("towns/b/status", json!({"status": {"phase": "Idle"}}))
}

pub fn cases() -> Vec<Case> {
    vec![
        three(case("all in the order of their names")).get("towns"),
        case("an empty list").get("towns").get("leases"),
        three(case("chosen by labels"))
            .get("towns?labelSelector=x%3D1")
            .get("towns?labelSelector=x%21%3D1")
            .get("towns?labelSelector=x%20in%20%281%2C2%29")
            .get("towns?labelSelector=x%20notin%20%281%2C2%29")
            .get("towns?labelSelector=x")
            .get("towns?labelSelector=%21x")
            .get("towns?labelSelector=x%2Cx%21%3D1"),
        three(case("chosen by name")).get("towns?fieldSelector=metadata.name%3Db"),
        three(case("chosen by a field of ours"))
            .get("towns?fieldSelector=status.phase%3DIdle")
            .get("towns?fieldSelector=status.phase%21%3DIdle"),
        three(case("chosen by both")).get("towns?fieldSelector=status.phase%3DIdle&labelSelector=x%3D1"),
        case("chosen by a field that is none to choose by")
            .get("towns?fieldSelector=spec.suspend%3Dtrue")
            .get("secrets?fieldSelector=data.a%3Db"),
        case("a selector that nobody can read")
            .get("towns?labelSelector=%3D%3D")
            .get("towns?fieldSelector=what"),
        three(case("page by page")).get("towns?limit=2").get_with(|seen| next(seen, 4)),
        three(case("page by page by labels"))
            .get("towns?limit=1&labelSelector=x")
            .get_with(|seen| format!("{}&labelSelector=x", next(seen, 4))),
        three(case("a page shows what was there at the first"))
            .get("towns?limit=1")
            .delete("towns/b")
            .post("towns", town("d"))
            .get_with(|seen| next(seen, 4)),
        case("a token that is none").get("towns?limit=1&continue=nonsense"),
        three(case("only metadata")).metadata("towns").metadata("towns/a"),
        case("a version that nobody has written").get("secrets?resourceVersion=99999999999"),
        case("a version that is none").get("secrets?resourceVersion=yesterday"),
        case("metadata of what is not there").metadata("secrets/a").post("secrets", named("a")),
    ]
}

fn next(seen: &Seen, place: usize) -> String {
    let token = seen[place].body["metadata"]["continue"].as_str().expect("more");
    format!("towns?limit=5&continue={}", token.replace('=', "%3D"))
}
