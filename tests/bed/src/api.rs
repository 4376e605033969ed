//! A minimal HTTPS client: it probes components and creates the few initial objects of a cluster. Other requests use
//! kubectl or the client of the caller.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::error::Error;
use crate::pki;

/// A client with the admin certificate of one cluster. It trusts only the authority of that cluster.
pub(crate) struct Client {
    agent: Agent,
}

impl Client {
    /// The client of the cluster with this home.
    pub(crate) fn new(home: &Path) -> Result<Self, Error> {
        let failed = |error: ureq::Error| Error::Api(error.to_string());
        let authority = Certificate::from_pem(&pki::read(home, "ca.crt")?).map_err(failed)?;
        let certificate = Certificate::from_pem(&pki::read(home, "admin.crt")?).map_err(failed)?;
        let key = PrivateKey::from_pem(&pki::read(home, "admin.key")?).map_err(failed)?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(vec![authority])))
            .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            // An idle connection from before a restart of the server would fail.
            .max_idle_connections(0)
            .timeout_global(Some(Duration::from_secs(5)))
            .build();
        Ok(Self { agent: config.into() })
    }

    /// Whether the answer to a GET is 200.
    pub(crate) fn answers(&self, url: &str) -> bool {
        self.agent.get(url).call().is_ok_and(|answer| answer.status() == 200)
    }

    /// Creates an object. An existing object stays as it is.
    pub(crate) fn create(&self, url: &str, object: &Value) -> Result<(), Error> {
        let request = self.agent.post(url).content_type("application/json");
        let mut answer =
            request.send(object.to_string()).map_err(|error| Error::Api(format!("POST {url}: {error}")))?;
        match answer.status().as_u16() {
            200..=299 | 409 => Ok(()),
            status => {
                let text = answer.body_mut().read_to_string().unwrap_or_default();
                Err(Error::Api(format!("POST {url}: {status}: {text}")))
            }
        }
    }

    /// Creates the default storage class. The controller manager itself provides its volumes.
    pub(crate) fn create_storage_class(&self, server: &str) -> Result<(), Error> {
        let class = json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "kubernetes.io/host-path",
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
        });
        self.create(&format!("{server}/apis/storage.k8s.io/v1/storageclasses"), &class)
    }

    /// Whether the node reports ready.
    pub(crate) fn node_is_ready(&self, server: &str, name: &str) -> bool {
        let answer = self.agent.get(format!("{server}/api/v1/nodes/{name}")).call();
        let text = answer.ok().and_then(|mut answer| answer.body_mut().read_to_string().ok());
        let Some(Ok(node)) = text.map(|text| serde_json::from_str::<Value>(&text)) else { return false };
        let tainted = node["spec"]["taints"].as_array().is_some_and(|taints| !taints.is_empty());
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        !tainted
            && conditions
                .iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }

    /// Whether the namespace `default` accepts pods: it then has its service account.
    pub(crate) fn default_namespace_is_ready(&self, server: &str) -> bool {
        self.answers(&format!("{server}/api/v1/namespaces/default/serviceaccounts/default"))
    }
}
