//! The certificates and keys of one cluster, below its `pki` directory, and kubeconfigs with them.
//!
//! An authority signs all certificates except the client certificate of the front proxy. That one needs a separate
//! authority, because its holder can name any user in a header.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use crate::error::{Doing, Error};

/// An identity for the API server: a user name, and a group that RBAC or the node authorizer knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub(crate) user: &'a str,
    pub(crate) group: Option<&'a str>,
}

pub(crate) const ADMIN: Identity<'_> = Identity { user: "bed-admin", group: Some("system:masters") };
pub(crate) const CONTROLLER_MANAGER: Identity<'_> =
    Identity { user: "system:kube-controller-manager", group: None };
pub(crate) const SCHEDULER: Identity<'_> = Identity { user: "system:kube-scheduler", group: None };
pub(crate) const PROXY: Identity<'_> = Identity { user: "system:kube-proxy", group: None };

/// A certificate authority and the directory of its certificates.
pub(crate) struct Authority {
    directory: PathBuf,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

fn failed(error: &rcgen::Error) -> Error {
    Error::State(format!("making a certificate: {error}"))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).doing(|| format!("writing {}", path.display()))
}

impl Authority {
    /// Creates an authority: `NAME.crt` and `NAME.key`.
    pub(crate) fn new(directory: &Path, name: &str) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .doing(|| format!("making {}", directory.display()))?;
        let key = KeyPair::generate().map_err(|e| failed(&e))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("town-bed {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(|e| failed(&e))?.pem();
        write(&directory.join(format!("{name}.crt")), &certificate)?;
        write(&directory.join(format!("{name}.key")), &key.serialize_pem())?;
        let issuer = Issuer::new(params, key);
        Ok(Self { directory: directory.into(), certificate, issuer })
    }

    fn issue(
        &self,
        names: &[String],
        who: Identity<'_>,
        usage: &[ExtendedKeyUsagePurpose],
    ) -> Result<(String, String), Error> {
        let key = KeyPair::generate().map_err(|e| failed(&e))?;
        let mut params = CertificateParams::new(names).map_err(|e| failed(&e))?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, who.user);
        if let Some(group) = who.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usage.to_vec();
        let certificate = params.signed_by(&key, &self.issuer).map_err(|e| failed(&e))?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Creates a server certificate for these names and addresses: `NAME.crt` and `NAME.key`.
    pub(crate) fn server(&self, name: &str, names: &[String]) -> Result<(), Error> {
        let who = Identity { user: name, group: None };
        let (certificate, key) = self.issue(names, who, &[ExtendedKeyUsagePurpose::ServerAuth])?;
        write(&self.directory.join(format!("{name}.crt")), &certificate)?;
        write(&self.directory.join(format!("{name}.key")), &key)
    }

    /// Creates a client certificate: `NAME.crt` and `NAME.key`.
    pub(crate) fn client(&self, name: &str, who: Identity<'_>) -> Result<(), Error> {
        let (certificate, key) = self.issue(&[], who, &[ExtendedKeyUsagePurpose::ClientAuth])?;
        write(&self.directory.join(format!("{name}.crt")), &certificate)?;
        write(&self.directory.join(format!("{name}.key")), &key)
    }

    /// Writes a kubeconfig with embedded certificates, so that the file can be copied.
    pub(crate) fn kubeconfig(&self, file: &Path, server: &str, who: Identity<'_>) -> Result<(), Error> {
        let (certificate, key) = self.issue(&[], who, &[ExtendedKeyUsagePurpose::ClientAuth])?;
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let cluster = json!({"server": server, "certificate-authority-data": base64(&self.certificate)});
        let user = json!({"client-certificate-data": base64(&certificate), "client-key-data": base64(&key)});
        // JSON is YAML.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "town-bed",
            "contexts": [{"name": "town-bed", "context": {"cluster": "town-bed", "user": who.user}}],
            "clusters": [{"name": "town-bed", "cluster": cluster}],
            "users": [{"name": who.user, "user": user}],
        });
        write(file, &format!("{config:#}\n"))
    }

    /// The key pair that signs service-account tokens: `service-accounts.key` and `service-accounts.pub`.
    pub(crate) fn service_accounts(&self) -> Result<(), Error> {
        let key = KeyPair::generate().map_err(|e| failed(&e))?;
        write(&self.directory.join("service-accounts.key"), &key.serialize_pem())?;
        write(&self.directory.join("service-accounts.pub"), &key.public_key_pem())
    }
}

/// Creates the files of a control plane below `home`: the `pki` directory, `kubeconfig` for the user and
/// `controller-manager.kubeconfig`. `names` are the names of the API server, and `server` is its address for the user.
/// `inside` is its address for the components.
pub(crate) fn control_plane(
    home: &Path,
    names: &[String],
    server: &str,
    inside: &str,
) -> Result<Authority, Error> {
    let pki = home.join("pki");
    let authority = Authority::new(&pki, "ca")?;
    authority.server("apiserver", names)?;
    authority.server("loopback", &["127.0.0.1".into(), "localhost".into()])?;
    authority.service_accounts()?;
    authority.client("admin", ADMIN)?;
    authority.client("apiserver-kubelet", ADMIN)?;
    Authority::new(&pki, "front-proxy-ca")?
        .client("front-proxy", Identity { user: "front-proxy", group: None })?;
    authority.kubeconfig(&home.join("kubeconfig"), server, ADMIN)?;
    authority.kubeconfig(&home.join("controller-manager.kubeconfig"), inside, CONTROLLER_MANAGER)?;
    Ok(authority)
}

/// Reads a PEM file of the `pki` directory.
pub(crate) fn read(home: &Path, name: &str) -> Result<Vec<u8>, Error> {
    let path = home.join("pki").join(name);
    fs::read(&path).doing(|| format!("reading {}", path.display()))
}
