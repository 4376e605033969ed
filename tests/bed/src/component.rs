//! The components of a cluster: their names, their start, and their readiness.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::api::Client;

/// A component that can be killed, stopped, frozen and restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler; only with a node.
    Scheduler,
    /// containerd; only with a node. Containers continue to run without it.
    Containerd,
    /// The kubelet; only with a node. Containers continue to run without it.
    Kubelet,
    /// kube-proxy; only with a node.
    Proxy,
}

impl Component {
    /// The components, in the order of their start.
    pub const ALL: [Self; 7] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Containerd,
        Self::Kubelet,
        Self::Proxy,
    ];

    /// The name of its program, which also names its log.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
        }
    }

    /// The component whose program has this name.
    pub fn named(program: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.program() == program)
    }

    /// The path of its log in the home of a cluster.
    pub(crate) fn log(self, home: &Path) -> PathBuf {
        home.join("logs").join(format!("{}.log", self.program()))
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// The sign of a component that it is ready.
#[derive(Debug, Clone)]
pub(crate) enum Sign {
    /// The answer to a GET of this URL is 200.
    Answers(String),
    /// A process listens on this socket.
    Listens(PathBuf),
}

impl Sign {
    pub(crate) fn shows(&self, client: &Client) -> bool {
        match self {
            Self::Answers(url) => client.answers(url),
            Self::Listens(socket) => UnixStream::connect(socket).is_ok(),
        }
    }
}

/// The start of one component.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) component: Component,
    /// The program, after the commands that run before it in the same process.
    pub(crate) command: Vec<String>,
    pub(crate) ready: Sign,
}
