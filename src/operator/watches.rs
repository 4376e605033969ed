//! The watches: one for each kind. Each has its own back-off, so that a failing watch does not delay the others.

use std::sync::Arc;

use futures::StreamExt;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio_util::sync::CancellationToken;

use super::lists::Listing;
use crate::api::names;
use crate::cluster::{Cluster, Decoded, Followed, PAGE};

/// Every object of a kind, listed in small pages.
pub(super) fn everything() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// The objects that this installation created.
pub(super) fn ours(cluster: &Cluster) -> watcher::Config {
    everything().labels(&format!("{}={}", names::INSTALL, cluster.install.0))
}

/// Watches a kind until `stop`, and lists it again in each round of `listing`.
pub(super) async fn watch<K: Followed>(
    cluster: Arc<Cluster>,
    config: watcher::Config,
    stop: CancellationToken,
    mut listing: Listing,
) {
    let kind = K::kind(&());
    let api: Api<Decoded<K>> = Api::all(cluster.client.clone());
    let mut failing = false;
    let mut ended = None;
    while !stop.is_cancelled() {
        let round = listing.begin();
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
                    // A list that has begun may still fail.
                    if !matches!(event, Event::Init) && std::mem::take(&mut failing) {
                        tracing::info!(%kind, "the watch works again");
                    }
                    let done = matches!(event, Event::InitDone);
                    cluster.follow(event);
                    if done {
                        cluster.is_listed::<K>();
                        end(&listing, &mut ended, round);
                    }
                }
                Some(Err(error)) => {
                    if !failing {
                        tracing::warn!(%kind, %error, "the watch is interrupted");
                    }
                    failing = true;
                    if answer(&error) == Some(404) && cluster.is_undefined::<K>().await {
                        // The kind does not exist, so it has no objects. This counts as a list.
                        for event in [Event::<Decoded<K>>::Init, Event::InitDone] {
                            cluster.follow(event);
                        }
                        end(&listing, &mut ended, round);
                        // Otherwise the failed watch would resume at its old position when the kind exists again.
                        if matches!(error, watcher::Error::WatchStartFailed(_)) {
                            break;
                        }
                    }
                    // A watch that starts with 410 would repeat the same request forever, so the kind is listed
                    // again.
                    if matches!(error, watcher::Error::WatchStartFailed(_)) && answer(&error) == Some(410) {
                        break;
                    }
                }
            }
        }
    }
}

/// Records that the kind was listed in this round. Further lists in the same round do not count.
fn end(listing: &Listing, ended: &mut Option<u32>, round: u32) {
    if ended.replace(round) != Some(round) {
        listing.ended(round);
    }
}

/// The status code of a failed list or of a failed start of a watch.
fn answer(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lists::Lists;
    use super::*;

    #[tokio::test]
    async fn kind_listed_twice_in_a_round_counts_once() {
        let (mut lists, mut listing) = Lists::of(2);
        let mut other = listing.clone();
        let mut ended = None;
        let round = listing.begin();
        end(&listing, &mut ended, round);
        end(&listing, &mut ended, round);
        let mut complete = Box::pin(lists.complete());
        assert!(futures::poll!(&mut complete).is_pending(), "another kind was not listed yet");
        let round = other.begin();
        end(&other, &mut None, round);
        complete.await;
    }
}
