//! The watches: one for each kind, each with a back-off of its own, so that one that fails stops no
//! other.

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

/// Only what this installation has made.
pub(super) fn ours(cluster: &Cluster) -> watcher::Config {
    everything().labels(&format!("{}={}", names::INSTALL, cluster.install.0))
}

/// Watches a kind until `stop`, and lists it anew in each round of `listing`.
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
                    // A list that has only begun may fail yet.
                    if !matches!(event, Event::Init) && std::mem::take(&mut failing) {
                        tracing::info!(%kind, "the watch is back");
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
                        // No such kind, so no such object: that is a list, too.
                        for event in [Event::<Decoded<K>>::Init, Event::InitDone] {
                            cluster.follow(event);
                        }
                        end(&listing, &mut ended, round);
                        // A watch that ended so would go on where it was once the kind is back.
                        if matches!(error, watcher::Error::WatchStartFailed(_)) {
                            break;
                        }
                    }
                    // As the answer to a new watch, 410 would be asked for again and again: list anew.
                    if matches!(error, watcher::Error::WatchStartFailed(_)) && answer(&error) == Some(410) {
                        break;
                    }
                }
            }
        }
    }
}

/// The kind was listed in this round: that counts once, however often it is listed.
fn end(listing: &Listing, ended: &mut Option<u32>, round: u32) {
    if ended.replace(round) != Some(round) {
        listing.ended(round);
    }
}

/// What the API server answered to a list or to a new watch.
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
    async fn a_kind_that_is_listed_twice_in_a_round_counts_once() {
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
