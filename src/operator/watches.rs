//! The watches: one for each kind, each with a back-off of its own, so that one that fails stops no
//! other.

use std::sync::Arc;

use futures::StreamExt;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio_util::sync::CancellationToken;

use super::lists::Listing;
use crate::api::names;
use crate::cluster::{Cluster, Followed};

/// Only what this installation has made.
pub(super) fn ours(cluster: &Cluster) -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", names::INSTALL, cluster.install.0))
}

/// Watches a kind until `stop`, and lists it anew in each round of `listing`.
pub(super) async fn watch<K: Followed>(
    cluster: Arc<Cluster>,
    config: watcher::Config,
    stop: CancellationToken,
    mut follow: impl FnMut(&Event<DeserializeGuard<K>>),
    mut listing: Listing,
) {
    let kind = K::kind(&());
    let api: Api<DeserializeGuard<K>> = Api::all(cluster.client.clone());
    let mut failing = false;
    while !stop.is_cancelled() {
        let round = listing.begin();
        let mut listed = false;
        let events = watcher(api.clone(), config.clone()).default_backoff();
        let mut stream = events.take_until(stop.cancelled()).boxed();
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                () = listing.superseded() => break,
            };
            match event {
                None => break,
                Some(Ok(event)) => {
                    if failing {
                        tracing::info!(%kind, "the watch is back");
                    }
                    failing = false;
                    follow(&event);
                    let done = matches!(event, Event::InitDone);
                    Box::pin(cluster.follow(event)).await;
                    if done && !std::mem::replace(&mut listed, true) {
                        listing.ended(round);
                    }
                }
                Some(Err(error)) => {
                    if !failing {
                        tracing::warn!(%kind, %error, "the watch is interrupted");
                    }
                    failing = true;
                    // As the answer to a new watch, 410 would be asked for again and again: list anew.
                    if gone(&error) {
                        break;
                    }
                }
            }
        }
    }
}

fn gone(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}
