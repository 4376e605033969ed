//! The generated files match the code: `crds/`, the chart's copies of it (T22), and the table of metrics.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use town_operator::api;
use town_operator::telemetry::Metrics;

/// The file name and the text of every CRD from the Rust types.
fn generated() -> Vec<(String, String)> {
    let crds = api::crds().expect("the types make CRDs");
    let file = |crd| {
        let text = api::to_yaml(&crd).expect("a CRD is YAML");
        (format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural), text)
    };
    crds.into_iter().map(file).collect()
}

/// Compares a directory with the generated files: no file may differ, be missing or be superfluous.
fn is_current(directory: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut there: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    there.sort();
    let mut wanted = generated();
    wanted.sort();
    assert_eq!(
        there,
        wanted.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
        "files in {directory}"
    );
    for (name, text) in wanted {
        let found = fs::read_to_string(path.join(&name)).unwrap();
        let first = found.lines().zip(text.lines()).position(|(one, other)| one != other);
        assert!(
            found == text,
            "{directory}/{name} is not what the types say, from line {} on: run `make generate`",
            first.unwrap_or_else(|| found.lines().count().min(text.lines().count())) + 1
        );
    }
}

#[test]
fn crd_files_match_the_types() {
    is_current("crds");
}

#[test]
fn crd_files_of_the_chart_match_the_types() {
    is_current("deploy/helm/town-operator/files/crds");
}

#[test]
fn metrics_table_matches_the_registered_metrics() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let found = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let wanted = Metrics::default().documentation().unwrap();
    assert!(found == wanted, "docs/metrics.md is not current: run `make generate`");
}

/// `kubectl apply` stores a copy in an annotation, and the annotations of an object have a limit of 262,144 bytes in
/// total.
#[test]
fn every_crd_is_small_enough_for_a_plain_kubectl_apply() {
    for crd in api::crds().unwrap() {
        let size = serde_json::to_vec(&crd).unwrap().len();
        let name = crd.metadata.name.unwrap();
        assert!(size < 250_000, "{name} has {size} bytes as JSON");
    }
}
