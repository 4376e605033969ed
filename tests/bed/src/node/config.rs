//! The configuration files and command lines of the components that only a node has: scheduler, containerd, kubelet,
//! kube-proxy.
//!
//! The paths are paths inside of the node.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::image::PAUSE;
use super::network::{NODE, PODS};
use super::root::{BIN, HOME};
use crate::component::{Component, Launch, Sign};

const SOCKET: &str = "/run/containerd/containerd.sock";

/// Writes the files. `cgroup` is the root of the node's control groups.
pub(super) fn write(cgroup: &str, overlay: bool) -> io::Result<()> {
    let home = Path::new(HOME);
    let write = |name: &str, value: &Value| fs::write(home.join(name), format!("{value:#}\n"));
    fs::write(home.join("containerd.toml"), containerd_toml(overlay))?;
    write("kubelet.yaml", &kubelet_yaml(cgroup))?;
    write("kube-proxy.yaml", &proxy_yaml())?;
    fs::create_dir_all(home.join("cni"))?;
    write("cni/10-bed.conflist", &network_list())
}

fn containerd_toml(overlay: bool) -> String {
    let snapshotter = if overlay { "overlayfs" } else { "native" };
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.nri.v1.nri",
]

[grpc]
address = "{SOCKET}"

[plugins.'io.containerd.cri.v1.images']
snapshotter = "{snapshotter}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE}"

[plugins.'io.containerd.cri.v1.runtime']
# The bed may lack the right to lower a process's OOM score, and needs none of the rest.
restrict_oom_score_adj = true
tolerate_missing_hugetlb_controller = true
disable_apparmor = true
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{BIN}"]
conf_dir = "{HOME}/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = "runc"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{BIN}/runc"
SystemdCgroup = false
"#
    )
}

fn kubelet_yaml(cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": format!("{HOME}/pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": format!("{HOME}/pki/kubelet.crt"),
        "tlsPrivateKeyFile": format!("{HOME}/pki/kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        "makeIPTablesUtilChains": false,
        "resolvConf": "/etc/resolv.conf",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        // A test must not fail because the disk of the machine is full.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
    })
}

fn proxy_yaml() -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": format!("{HOME}/kube-proxy.kubeconfig")},
        "clusterCIDR": PODS,
        "bindAddress": NODE.to_string(),
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
        // Pods share a bridge. Without br_netfilter an answer from pod to pod would bypass the rules.
        "nftables": {"masqueradeAll": true},
        // The node must not change limits of the machine.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}

fn network_list() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "bed",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isDefaultGateway": true,
                "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]]},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables"},
        ],
    })
}

fn launch(component: Component, arguments: &[String], ready: Sign) -> Launch {
    let mut command = vec![format!("{BIN}/{}", component.program())];
    command.extend_from_slice(arguments);
    Launch { component, command, ready }
}

pub(super) fn scheduler() -> Launch {
    let kubeconfig = format!("{HOME}/scheduler.kubeconfig");
    let arguments = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".into(),
        format!("--tls-cert-file={HOME}/pki/loopback.crt"),
        format!("--tls-private-key-file={HOME}/pki/loopback.key"),
        "--leader-elect=false".into(),
    ];
    let ready = Sign::Answers("https://127.0.0.1:10259/readyz".into());
    launch(Component::Scheduler, &arguments, ready)
}

pub(super) fn containerd() -> Launch {
    let arguments = [format!("--config={HOME}/containerd.toml")];
    launch(Component::Containerd, &arguments, Sign::Listens(SOCKET.into()))
}

/// The kubelet exits without the socket of containerd. Start it after containerd listens.
pub(super) fn kubelet(node: &str) -> Launch {
    let arguments = [
        format!("--config={HOME}/kubelet.yaml"),
        format!("--kubeconfig={HOME}/kubelet.kubeconfig"),
        format!("--hostname-override={node}"),
        format!("--node-ip={NODE}"),
    ];
    launch(Component::Kubelet, &arguments, Sign::Answers("http://127.0.0.1:10248/healthz".into()))
}

pub(super) fn proxy(node: &str) -> Launch {
    let arguments = [format!("--config={HOME}/kube-proxy.yaml"), format!("--hostname-override={node}")];
    launch(Component::Proxy, &arguments, Sign::Answers("http://127.0.0.1:10256/healthz".into()))
}
