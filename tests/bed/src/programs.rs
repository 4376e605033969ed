//! The programs of a cluster: their list, their directory, and their build.
//!
//! The Go module beside this crate (`go.mod`, `go.sum`) names and pins their sources. The directory of built programs
//! is `${XDG_CACHE_HOME:-~/.cache}/town-operator/bed/HASH/bin`. HASH is the hash of the two files and of the recipes
//! below, so that no program is built twice and no stale program is used. Each program in it is complete: the build
//! happens elsewhere, and a rename puts the program into place.

mod build;
mod prerequisites;

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::Error;

pub(crate) use prerequisites::{install, on_path};

/// The directories of the machine's programs, including those for administrators.
pub(crate) const EXECUTABLE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const GO_MOD: &str = include_str!("../go.mod");
const GO_SUM: &str = include_str!("../go.sum");

/// The build of one program.
#[derive(Debug, Clone, Copy)]
struct Recipe {
    name: &'static str,
    package: &'static str,
    /// The module that provides the version, and the linker variables that receive it.
    versioned_by: &'static str,
    variables: &'static [&'static str],
    /// Whether the program links C code: only runc does, for libseccomp.
    cgo: bool,
    /// Whether a control plane without a node needs it.
    without_node: bool,
}

const KUBERNETES: &[&str] =
    &["k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"];

const fn kubernetes(name: &'static str, package: &'static str, without_node: bool) -> Recipe {
    let versioned_by = "k8s.io/kubernetes";
    Recipe { name, package, versioned_by, variables: KUBERNETES, cgo: false, without_node }
}

const fn other(name: &'static str, package: &'static str) -> Recipe {
    Recipe { name, package, versioned_by: "", variables: &[], cgo: false, without_node: false }
}

const fn containerd(name: &'static str, package: &'static str) -> Recipe {
    Recipe {
        versioned_by: "github.com/containerd/containerd/v2",
        variables: &["github.com/containerd/containerd/v2/version.Version"],
        ..other(name, package)
    }
}

/// The order of the build: the programs that tests need first.
const RECIPES: [Recipe; 16] = [
    Recipe { without_node: true, ..other("etcd", "go.etcd.io/etcd/server/v3") },
    kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", true),
    kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", true),
    kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl", true),
    kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", false),
    kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", false),
    kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet", false),
    containerd("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
    containerd("containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
    containerd("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
    Recipe {
        versioned_by: "github.com/opencontainers/runc",
        variables: &["main.version"],
        cgo: true,
        ..other("runc", "github.com/opencontainers/runc")
    },
    other("bridge", "github.com/containernetworking/plugins/plugins/main/bridge"),
    other("loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
    other("host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
    other("portmap", "github.com/containernetworking/plugins/plugins/meta/portmap"),
    Recipe {
        versioned_by: "helm.sh/helm/v4",
        variables: &["helm.sh/helm/v4/internal/version.version"],
        ..other("helm", "helm.sh/helm/v4/cmd/helm")
    },
];

/// The directory of built programs.
#[derive(Debug, Clone)]
pub struct Programs {
    bin: PathBuf,
}

impl Programs {
    /// Builds all missing programs, with progress on stderr.
    pub fn ensure() -> Result<Self, Error> {
        Self::of(|_| true)
    }

    /// Builds the missing programs of a control plane without a node: etcd, API server, controller manager, kubectl.
    /// The build needs only Go.
    pub fn ensure_control_plane() -> Result<Self, Error> {
        Self::of(|recipe| recipe.without_node)
    }

    /// The path of one program. The function builds a missing program.
    pub fn ensure_one(name: &str) -> Result<PathBuf, Error> {
        if !RECIPES.iter().any(|recipe| recipe.name == name) {
            let names: Vec<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
            return Err(Error::State(format!("no program {name}; there are: {}", names.join(", "))));
        }
        Ok(Self::of(|recipe| recipe.name == name)?.path(name))
    }

    fn of(wanted: impl Fn(&Recipe) -> bool) -> Result<Self, Error> {
        let cache = cache()?;
        let bin = cache.join("bin");
        let missing = || RECIPES.iter().filter(|recipe| wanted(recipe) && !bin.join(recipe.name).exists());
        if missing().next().is_some() {
            build::build(&cache, &bin, missing)?;
        }
        Ok(Self { bin })
    }

    /// The programs in a directory whose programs another process has built.
    pub(crate) fn at(bin: &Path) -> Self {
        Self { bin: bin.into() }
    }

    /// The directory that holds the programs.
    pub fn directory(&self) -> &Path {
        &self.bin
    }

    /// The path of a program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// The cache directory of this set of programs.
fn cache() -> Result<PathBuf, Error> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).ok_or_else(|| {
        Error::Impossible("neither XDG_CACHE_HOME nor HOME is set: no place to keep the programs in".into())
    })?;
    let mut hash = Sha256::new();
    hash.update(GO_MOD);
    hash.update(GO_SUM);
    hash.update(format!("{RECIPES:?}{}", build::FLAGS.join(" ")));
    let hash = hexadecimal(&hash.finalize()[..8]);
    Ok(root.join("town-operator/bed").join(hash))
}

/// Two hexadecimal digits for each byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The version of a module as go.mod pins it.
fn version(module: &str) -> Option<&'static str> {
    GO_MOD.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten().filter(|word| word.starts_with('v'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_a_tool_of_the_module_and_has_its_version() {
        for recipe in RECIPES {
            assert!(GO_MOD.contains(&format!("\t{}\n", recipe.package)), "{}", recipe.package);
            assert_eq!(
                recipe.versioned_by.is_empty(),
                version(recipe.versioned_by).is_none(),
                "{}",
                recipe.name
            );
        }
    }
}
