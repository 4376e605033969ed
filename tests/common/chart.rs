//! The rendered Helm chart: the objects that `helm install` would send.

use std::path::Path;
use std::process::Command;

use super::cluster::{program, run};

/// Renders these templates of the chart (all, if the list is empty) for a release of this name with these values.
pub fn render(release: &str, namespace: &str, templates: &[&str], values: &[&str]) -> String {
    try_render(release, namespace, templates, values).unwrap_or_else(|said| panic!("helm template: {said}"))
}

/// Renders the chart, or returns the error output of helm.
pub fn try_render(
    release: &str,
    namespace: &str,
    templates: &[&str],
    values: &[&str],
) -> Result<String, String> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/town-operator");
    let mut helm = Command::new(program("helm"));
    helm.args(["template", release, "--namespace", namespace]).arg(chart);
    for template in templates {
        helm.args(["--show-only", &format!("templates/{template}.yaml")]);
    }
    for value in values {
        helm.args(["--set", value]);
    }
    run(helm, "")
}
