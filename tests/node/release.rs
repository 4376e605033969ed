//! The operator as users have it: an image, and a release of the Helm chart.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::cluster::{program, run};

/// The namespace of the operator. The suite creates it.
pub const NAMESPACE: &str = "town-node-tests";
/// The name of the release, and of every object in it.
pub const NAME: &str = "town-operator";
/// The API server's `--request-timeout`, and the flag of the operator with the same value: an operator that restarts
/// during a destruction waits this long for the requests of the former process.
pub const REQUEST_TIMEOUT: &str = "10s";

/// The chart, installed with an image.
pub struct Release {
    kubeconfig: PathBuf,
    scratch: PathBuf,
    helm: PathBuf,
    values: Vec<String>,
}

impl Release {
    /// A release that is not installed yet. With `own_node` the request timeout of the API server is
    /// [`REQUEST_TIMEOUT`].
    pub fn new(kubeconfig: &Path, scratch: &Path, own_node: bool) -> Self {
        let mut values = image_values(&image());
        values.push("image.pullPolicy=IfNotPresent".into());
        if own_node {
            values.push(format!("apiserverRequestTimeout={REQUEST_TIMEOUT}"));
        }
        Self { kubeconfig: kubeconfig.into(), scratch: scratch.into(), helm: program("helm"), values }
    }

    /// Runs `helm install`, which waits until the operator is ready.
    pub fn install(&self, flags: &[&str]) -> Result<(), String> {
        self.put(&[&["install", "--create-namespace"], flags].concat(), &[])
    }

    /// Runs `helm upgrade` with these changed values, and waits until the new operator is ready.
    pub fn upgrade(&self, changes: &[&str]) -> Result<(), String> {
        self.put(&["upgrade"], changes)
    }

    /// Runs `helm uninstall`, which waits until the objects are gone.
    pub fn uninstall(&self) -> Result<(), String> {
        self.helm(&["uninstall", NAME, "--wait", "--timeout=120s"])
    }

    fn put(&self, command: &[&str], changes: &[&str]) -> Result<(), String> {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/town-operator");
        let place = [NAME, chart.to_str().expect("a path in UTF-8"), "--wait", "--timeout=120s"];
        let mut arguments = [command, &place].concat();
        for value in self.values.iter().map(String::as_str).chain(changes.iter().copied()) {
            arguments.extend(["--set-string", value]);
        }
        self.helm(&arguments)
    }

    fn helm(&self, arguments: &[&str]) -> Result<(), String> {
        let mut helm = Command::new(&self.helm);
        helm.env("KUBECONFIG", &self.kubeconfig).args(["--namespace", NAMESPACE]).args(arguments);
        // The directories must not be in the user's home.
        for place in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(place, self.scratch.join(place));
        }
        run(helm, "").map(drop).map_err(|said| format!("helm {}: {said}", arguments[0]))
    }
}

/// The name of the operator's image.
fn image() -> String {
    std::env::var("IMAGE")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or("localhost/town-operator:dev".into())
}

fn image_values(image: &str) -> Vec<String> {
    let after_registry = image.rfind('/').map_or(0, |at| at + 1);
    let (key, cut) = match (image.rfind('@'), image[after_registry..].find(':')) {
        (Some(at), _) => ("digest", at),
        (None, Some(at)) => ("tag", after_registry + at),
        (None, None) => return vec![format!("image.repository={image}"), "image.tag=latest".into()],
    };
    vec![format!("image.repository={}", &image[..cut]), format!("image.{key}={}", &image[cut + 1..])]
}

/// The environment variable with an archive of the operator's image. The suite then does not build one.
const ARCHIVE: &str = "TOWN_TEST_IMAGE_ARCHIVE";

/// Builds the operator's image from the current sources, and returns the path of the archive. The progress is printed
/// on the terminal. An archive of the same sources is not built again.
pub fn build_image() -> Result<PathBuf, String> {
    if let Some(archive) = std::env::var_os(ARCHIVE).filter(|path| !path.is_empty()) {
        return Ok(archive.into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/image.sh");
    let mut build = Command::new(&script);
    build.env("PROFILE", "trial");
    // The variables that cargo sets for this test would trigger build scripts again, and rebuild many crates.
    let told = std::env::vars_os().map(|(key, _)| key).filter(|key| {
        let key = key.to_string_lossy();
        key.starts_with("CARGO")
            && !["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_INCREMENTAL"].contains(&key.as_ref())
    });
    for key in told {
        build.env_remove(key);
    }
    let output = build.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{}: {error}", script.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    eprint!("{said}");
    let archive = said.trim_end().rsplit(": ").next().map(PathBuf::from).filter(|path| path.is_file());
    match archive {
        Some(archive) if output.status.success() => Ok(archive),
        _ => Err(format!("deploy/image.sh built no image of the operator ({})", output.status)),
    }
}
