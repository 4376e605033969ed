//! The plan of a node cluster. The starter writes it to the file `plan.json` of the home. The first process and later
//! clients read it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Doing, Error};

#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The name of the node.
    pub(super) node: String,
    /// The root of its control groups.
    pub(super) cgroup: String,
    /// The directory of built programs.
    pub(super) bin: PathBuf,
    /// The busybox of its images.
    pub(super) busybox: PathBuf,
    /// The loopback port of the API server on the machine.
    pub(super) port: u16,
    /// Whether the cluster ends with its starter.
    pub(super) bound: bool,
    pub(super) api_server_args: Vec<String>,
    pub(super) controller_manager_args: Vec<String>,
}

impl Plan {
    pub(super) fn write(&self, home: &Path) -> Result<(), Error> {
        let value = json!({
            "node": self.node,
            "cgroup": self.cgroup,
            "bin": self.bin,
            "busybox": self.busybox,
            "port": self.port,
            "bound": self.bound,
            "apiServerArgs": self.api_server_args,
            "controllerManagerArgs": self.controller_manager_args,
        });
        let (path, new) = (home.join("plan.json"), home.join("plan.json.new"));
        fs::write(&new, value.to_string())
            .and_then(|()| fs::rename(&new, &path))
            .doing(|| format!("writing {}", path.display()))
    }

    pub(super) fn read(home: &Path) -> Result<Self, Error> {
        let path = home.join("plan.json");
        let text = fs::read_to_string(&path).doing(|| format!("reading {}", path.display()))?;
        let value: Value = serde_json::from_str(&text).doing(|| format!("reading {}", path.display()))?;
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let list = |name: &str| {
            let values = value[name].as_array().into_iter().flatten();
            values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
        };
        Ok(Self {
            node: text("node"),
            cgroup: text("cgroup"),
            bin: text("bin").into(),
            busybox: text("busybox").into(),
            port: value["port"].as_u64().and_then(|port| port.try_into().ok()).unwrap_or_default(),
            bound: value["bound"].as_bool().unwrap_or_default(),
            api_server_args: list("apiServerArgs"),
            controller_manager_args: list("controllerManagerArgs"),
        })
    }
}
