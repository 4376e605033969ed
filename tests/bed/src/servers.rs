//! The command lines of the control plane's servers: the same for a control plane and for a node cluster, except for
//! paths and addresses.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::component::{Component, Launch, Sign};

/// The ports of a control plane's servers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) api: u16,
    pub(crate) controller_manager: u16,
}

/// The parameters of the servers' command lines.
pub(crate) struct Seat<'a> {
    /// The directory of built programs.
    pub(crate) bin: &'a Path,
    /// The cluster's home, with its `pki`.
    pub(crate) home: &'a Path,
    pub(crate) ports: Ports,
    /// The address of the API server for pods; `None` without a node.
    pub(crate) advertise: Option<Ipv4Addr>,
}

/// The addresses of Services, and the first of them, which is the API server's.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

impl Seat<'_> {
    fn program(&self, component: Component) -> String {
        self.bin.join(component.program()).display().to_string()
    }

    fn file(&self, name: &str) -> String {
        self.home.join(name).display().to_string()
    }

    /// The address of the API server for the components of the control plane.
    pub(crate) fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api)
    }

    pub(crate) fn etcd(&self) -> Launch {
        let client = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peer = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        let mut command = vec![self.program(Component::Etcd)];
        command.extend([
            "--name=bed".into(),
            format!("--data-dir={}", self.file("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=bed={peer}"),
            // The data of a test need not survive a crash of the machine.
            "--unsafe-no-fsync".into(),
            "--logger=zap".into(),
            "--log-level=warn".into(),
        ]);
        Launch { component: Component::Etcd, command, ready: Sign::Answers(format!("{client}/readyz")) }
    }

    pub(crate) fn api_server(&self, extra: &[String]) -> Launch {
        let pki = |name: &str| self.file(&format!("pki/{name}"));
        let mut command = vec![self.program(Component::ApiServer)];
        command.extend([
            format!("--etcd-servers=http://127.0.0.1:{}", self.ports.etcd),
            format!("--secure-port={}", self.ports.api),
            format!("--cert-dir={}", self.file("pki")),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
            format!("--client-ca-file={}", pki("ca.crt")),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--allow-privileged=true".into(),
            format!("--service-cluster-ip-range={SERVICES}"),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!("--service-account-signing-key-file={}", pki("service-accounts.key")),
            format!("--service-account-key-file={}", pki("service-accounts.pub")),
            format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
            "--requestheader-allowed-names=front-proxy".into(),
            "--requestheader-username-headers=X-Remote-User".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            format!("--proxy-client-cert-file={}", pki("front-proxy.crt")),
            format!("--proxy-client-key-file={}", pki("front-proxy.key")),
            format!("--kubelet-client-certificate={}", pki("apiserver-kubelet.crt")),
            format!("--kubelet-client-key={}", pki("apiserver-kubelet.key")),
            format!("--kubelet-certificate-authority={}", pki("ca.crt")),
            // Otherwise logs and exec resolve the node's name with DNS.
            "--kubelet-preferred-address-types=InternalIP".into(),
            format!("--audit-policy-file={}", self.file("audit-policy.yaml")),
            format!("--audit-log-path={}", audit_log(self.home).display()),
            // The log is never rotated, because tests count its lines.
            "--audit-log-maxsize=100000".into(),
        ]);
        if let Some(address) = self.advertise {
            command.extend([format!("--advertise-address={address}"), "--bind-address=0.0.0.0".into()]);
        } else {
            // Without a node no client uses the Service `kubernetes`, and a loopback address is not a valid endpoint.
            command.extend(["--bind-address=127.0.0.1".into(), "--endpoint-reconciler-type=none".into()]);
        }
        command.extend_from_slice(extra);
        let ready = Sign::Answers(format!("{}/readyz", self.server()));
        Launch { component: Component::ApiServer, command, ready }
    }

    /// The controller manager exits before the first roles exist. Start it after the API server is ready.
    pub(crate) fn controller_manager(&self, extra: &[String]) -> Launch {
        let pki = |name: &str| self.file(&format!("pki/{name}"));
        let mut command = vec![self.program(Component::ControllerManager)];
        let kubeconfig = self.file("controller-manager.kubeconfig");
        command.extend([
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--bind-address=127.0.0.1".into(),
            format!("--secure-port={}", self.ports.controller_manager),
            format!("--tls-cert-file={}", pki("loopback.crt")),
            format!("--tls-private-key-file={}", pki("loopback.key")),
            "--use-service-account-credentials".into(),
            format!("--service-account-private-key-file={}", pki("service-accounts.key")),
            format!("--root-ca-file={}", pki("ca.crt")),
            format!("--cluster-signing-cert-file={}", pki("ca.crt")),
            format!("--cluster-signing-key-file={}", pki("ca.key")),
            "--leader-elect=false".into(),
            "--enable-hostpath-provisioner=true".into(),
            // The default is 15 s, which is the delay of a claim before it gets its volume.
            "--pvclaimbinder-sync-period=1s".into(),
            "--kube-api-qps=300".into(),
            "--kube-api-burst=400".into(),
        ]);
        command.extend_from_slice(extra);
        let ready = Sign::Answers(format!("https://127.0.0.1:{}/healthz", self.ports.controller_manager));
        Launch { component: Component::ControllerManager, command, ready }
    }
}

/// The path of the audit log.
pub(crate) fn audit_log(home: &Path) -> PathBuf {
    home.join("audit.log")
}

/// Writes the files that the command lines name, without the certificates.
pub(crate) fn write_files(home: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(home.join("logs"))?;
    std::fs::write(home.join("audit-policy.yaml"), AUDIT_POLICY)
}
