//! The client of the API server: it returns every error to the operator, and each request has a timeout.

use std::time::Duration;

use http::HeaderValue;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::util::MapResultLayer;

use crate::cluster::client::fence::Fence;
use crate::cluster::client::identity::Identity;
use crate::cluster::client::overload::refuse_overload;
use crate::cluster::client::timeouts::CallTimeouts;

/// The timeout for the headers of an answer. The bodies of watches last longer.
const HEADERS_WITHIN: Duration = Duration::from_secs(20);

/// The name of the operator in audit logs and for pods.
pub(crate) const USER_AGENT: &str = concat!("town-operator/", env!("CARGO_PKG_VERSION"));

/// Connects to the cluster of KUBECONFIG, or to the cluster of this process. Writes pass only through the fence. The
/// client does not retry by itself: a hidden second create would conceal that the first one may have taken effect.
pub async fn connect(fence: &Fence, me: &Identity) -> Result<Client, kube::Error> {
    let layer = CallTimeouts { limit: HEADERS_WITHIN };
    // The fence is the lowest of our layers, so that no layer below it waits.
    let overload = MapResultLayer::new(refuse_overload);
    let client = ClientBuilder::try_from(config(me).await?)?.with_layer(fence).with_layer(&layer);
    Ok(client.with_layer(&overload).build())
}

/// A client without a fence. Only the keeper of the Lease uses this client, because it opens the fence.
pub(crate) async fn connect_unfenced(me: &Identity) -> Result<Client, kube::Error> {
    let layer = CallTimeouts { limit: HEADERS_WITHIN };
    Ok(ClientBuilder::try_from(config(me).await?)?.with_layer(&layer).build())
}

async fn config(me: &Identity) -> Result<Config, kube::Error> {
    let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    // The user agent has the name of the process, so that audit logs distinguish the replicas.
    let agent = HeaderValue::from_str(&format!("{USER_AGENT} ({})", me.holder()));
    let agent = agent.unwrap_or(HeaderValue::from_static(USER_AGENT));
    config.headers.push((http::header::USER_AGENT, agent));
    Ok(config)
}
