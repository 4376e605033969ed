//! Getting the Lease, keeping it, and giving it back: the requests that a candidate asks for, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::clock::{Moment, now};
use super::election::{Candidate, Identity, Step, Term, Terms, Write};
use super::fence::Fence;
use super::record::Record;
use crate::api::names;
use crate::cluster::client::connect_unfenced;
use crate::cluster::write::post_params;
use crate::telemetry::Metrics;

/// Longest wait for one answer; less where the terms are short.
const TRY: Duration = Duration::from_secs(5);

/// Who stands for leadership, and where.
#[derive(Clone, Debug)]
pub struct Candidacy {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// The install id that it keeps.
    pub install: String,
    /// This process.
    pub me: Identity,
    /// How long, and how often.
    pub terms: Terms,
}

/// Why this process may not run as the installation that it says it is, or cannot know.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// No client could be made.
    #[error("no cluster: {0}")]
    Client(#[source] kube::Error),
    /// The Lease could not be read.
    #[error("cannot read lease {lease}: {source}")]
    Unread {
        /// Namespace and name.
        lease: String,
        /// The client's own error.
        #[source]
        source: kube::Error,
    },
    /// It was installed under another id.
    #[error(
        "lease {lease} says that this installation is '{kept}', not '{given}': everything it made carries that id; \
         start with --install-id {kept}, or use another --lease-name for a new installation"
    )]
    OtherInstall {
        /// Namespace and name.
        lease: String,
        /// The id in the Lease.
        kept: String,
        /// The id that was given.
        given: String,
    },
}

/// Where terms are published.
pub struct Office(watch::Sender<Option<Term>>);

/// A fence, and who opens it.
pub fn office() -> (Office, Fence) {
    let (sender, term) = watch::channel(None);
    (Office(sender), Fence::new(term, now))
}

/// How this process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// The Lease has not answered yet.
    Undecided,
    /// Another leads, or nobody yet.
    Standby,
    /// This one leads.
    Leading,
    /// It must end, for this reason.
    Ended(String),
}

/// This process's part in who leads.
pub struct Leadership {
    standing: watch::Receiver<Standing>,
    resign: CancellationToken,
    task: JoinHandle<()>,
}

impl Leadership {
    /// Whether this process leads, once that is known for the first time.
    pub async fn leads_at_first(&mut self) -> bool {
        let known = self.standing.wait_for(|standing| *standing != Standing::Undecided).await;
        known.is_ok_and(|standing| *standing == Standing::Leading)
    }

    /// Waits until this process leads; an error says why it never will.
    pub async fn won(&mut self) -> Result<(), String> {
        let decided = |standing: &Standing| matches!(standing, Standing::Leading | Standing::Ended(_));
        match self.standing.wait_for(decided).await.as_deref() {
            Ok(Standing::Ended(why)) => Err(why.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(GONE.into()),
        }
    }

    /// Waits until this process must end, and says why.
    pub async fn lost(&mut self) -> String {
        match self.standing.wait_for(|standing| matches!(standing, Standing::Ended(_))).await.as_deref() {
            Ok(Standing::Ended(why)) => why.clone(),
            _ => GONE.into(),
        }
    }

    /// Gives up: from now on no write is sent, and another may lead at once.
    pub async fn resign(self) {
        self.resign.cancel();
        // It logs what went wrong.
        let _ = self.task.await;
    }
}

/// Nobody keeps the Lease.
const GONE: &str = "the lease is kept no more; this is a bug";

/// Stands for leadership until [`Leadership::resign`], or until a term that began is lost.
pub async fn stand(
    candidacy: Candidacy,
    office: Office,
    metrics: Arc<Metrics>,
) -> Result<Leadership, LeaseError> {
    let client = connect_unfenced(&candidacy.me).await.map_err(LeaseError::Client)?;
    let (sender, standing) = watch::channel(Standing::Undecided);
    let mut keeper = Keeper {
        api: Api::namespaced(client, &candidacy.namespace),
        candidate: Candidate::new(candidacy.me.clone(), candidacy.terms),
        within: TRY.min(candidacy.terms.deadline / 2),
        candidacy,
        office,
        standing: sender,
        metrics,
    };
    let lease = keeper.lease();
    let found = keeper.api.get_opt(&keeper.candidacy.name).await;
    let found = found.map_err(|source| LeaseError::Unread { lease, source })?;
    keeper.saw(found)?;
    let resign = CancellationToken::new();
    let task = tokio::spawn(keeper.keep(resign.clone()));
    Ok(Leadership { standing, resign, task })
}

struct Keeper {
    api: Api<Lease>,
    candidacy: Candidacy,
    candidate: Candidate<Lease>,
    within: Duration,
    office: Office,
    standing: watch::Sender<Standing>,
    metrics: Arc<Metrics>,
}

/// What a watch of the Lease tells.
enum Change {
    /// This is what it is; `None`: it is gone.
    Now(Option<Box<Lease>>),
    /// Nothing, for the time being.
    Broken,
}

impl Keeper {
    fn lease(&self) -> String {
        format!("{}/{}", self.candidacy.namespace, self.candidacy.name)
    }

    /// Does what the candidate asks for, until it ends.
    async fn keep(mut self, resign: CancellationToken) {
        let mut changes: Option<BoxStream<'static, Change>> = None;
        let mut broken = false;
        loop {
            let step = self.candidate.next(now(), Timestamp::now());
            self.publish(&step);
            let seen = match step {
                Step::End(_) => return,
                Step::Read => self.read().await,
                Step::Write(write) => self.write(write).await,
                Step::Wait(until) if self.candidate.term().is_some() => {
                    changes = None;
                    tokio::select! {
                        () = resign.cancelled() => return self.resign().await,
                        () = until_moment(until) => Ok(()),
                    }
                }
                Step::Wait(until) => {
                    // One who waits for another's end is told of each change, and asks only where that fails.
                    let changes = changes.get_or_insert_with(|| watch_lease(&self.api, &self.candidacy.name));
                    let poll = now() + self.candidacy.terms.retry;
                    let until = if broken { until.min(poll) } else { until };
                    tokio::select! {
                        () = resign.cancelled() => return self.resign().await,
                        Some(change) = changes.next() => match change {
                            Change::Now(lease) => {
                                broken = false;
                                self.saw(lease.map(|lease| *lease))
                            }
                            Change::Broken => {
                                broken = true;
                                Ok(())
                            }
                        },
                        () = until_moment(until) => {
                            if broken {
                                self.candidate.doubt();
                            }
                            Ok(())
                        }
                    }
                }
            };
            if let Err(other) = seen {
                self.end(&other.to_string());
                return;
            }
        }
    }

    async fn read(&mut self) -> Result<(), LeaseError> {
        let sent = now();
        match self.answered(self.api.get_opt(&self.candidacy.name)).await {
            Ok(found) => return self.saw(found),
            Err(error) => {
                tracing::warn!(lease = self.lease(), %error, "the lease could not be read");
                self.candidate.failed(sent);
            }
        }
        Ok(())
    }

    async fn write(&mut self, write: Write<Lease>) -> Result<(), LeaseError> {
        let lease = self.filled_in(write);
        let sent = now();
        match self.answered(self.put(&lease)).await {
            Ok(written) => {
                let record = Record::of(&written);
                self.candidate.wrote(written, record, sent, now());
            }
            Err(Failed::Api(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                tracing::debug!(
                    lease = self.lease(),
                    said = status.message,
                    "the lease has changed meanwhile"
                );
                self.candidate.refused(sent);
            }
            Err(error) => {
                tracing::warn!(lease = self.lease(), %error, "the lease could not be written");
                self.candidate.failed(sent);
            }
        }
        Ok(())
    }

    /// The Lease is replaced as it was read, or made; never without its revision, and never another by that name.
    async fn put(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        match lease.metadata.uid {
            Some(_) => self.api.replace(&self.candidacy.name, &post_params(), lease).await,
            None => self.api.create(&post_params(), lease).await,
        }
    }

    fn filled_in(&self, write: Write<Lease>) -> Lease {
        let mut lease = write.over.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.candidacy.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        lease.labels_mut().insert(names::APP_MANAGED_BY.to_owned(), names::MANAGER.to_owned());
        lease.annotations_mut().insert(names::INSTALL.to_owned(), self.candidacy.install.clone());
        write.record.write(&mut lease);
        lease
    }

    /// The Lease was read; it must be this installation's.
    fn saw(&mut self, found: Option<Lease>) -> Result<(), LeaseError> {
        let kept = found.as_ref().and_then(|lease| lease.annotations().get(names::INSTALL));
        if let Some(kept) = kept.filter(|kept| **kept != self.candidacy.install) {
            let (kept, given) = (kept.clone(), self.candidacy.install.clone());
            return Err(LeaseError::OtherInstall { lease: self.lease(), kept, given });
        }
        let found = found.map(|lease| {
            let record = Record::of(&lease);
            (lease, record)
        });
        self.candidate.saw(found, now());
        Ok(())
    }

    /// Opens or closes the fence, and says how this process stands.
    fn publish(&self, step: &Step<Lease>) {
        let term = self.candidate.term();
        self.office.0.send_replace(term);
        let standing = match step {
            Step::End(lost) => return self.end(&format!("lease {} is lost: {lost}", self.lease())),
            _ if term.is_some_and(|term| term.covers(now())) => Standing::Leading,
            Step::Wait(_) => Standing::Standby,
            Step::Read | Step::Write(_) => return,
        };
        if let Some(record) = self.candidate.record() {
            self.metrics.lease_changed_hands(record.transitions);
        }
        self.metrics.leads(standing == Standing::Leading);
        let holder = self.candidate.record().map_or("", |record| &record.holder);
        let news =
            self.standing.send_if_modified(|before| std::mem::replace(before, standing.clone()) != standing);
        if news && standing == Standing::Leading {
            tracing::info!(lease = self.lease(), holder, "leading");
        } else if news {
            tracing::info!(lease = self.lease(), holder, "standing by");
        }
    }

    /// Nothing is written any more.
    fn end(&self, why: &str) {
        self.office.0.send_replace(None);
        self.metrics.leads(false);
        self.standing.send_replace(Standing::Ended(why.to_owned()));
    }

    async fn resign(mut self) {
        let freed = self.candidate.resign(now());
        self.end("it was given up");
        let Some(write) = freed else { return };
        let lease = self.filled_in(write);
        match self.answered(self.put(&lease)).await {
            Ok(_) => tracing::info!(lease = self.lease(), "the lease is free"),
            Err(error) => {
                tracing::warn!(lease = self.lease(), %error, "the lease could not be freed, and runs out");
            }
        }
    }

    async fn answered<T>(&self, answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failed> {
        match tokio::time::timeout(self.within, answer).await {
            Ok(answer) => answer.map_err(Failed::Api),
            Err(_) => Err(Failed::Silent(self.within)),
        }
    }
}

/// A request to which there was no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Api(kube::Error),
    #[error("no answer within {0:?}")]
    Silent(Duration),
}

async fn until_moment(moment: Moment) {
    tokio::time::sleep(moment.saturating_sub(now())).await;
}

/// Follows the Lease.
fn watch_lease(api: &Api<Lease>, name: &str) -> BoxStream<'static, Change> {
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut listed = None;
    let events = watcher(api.clone(), only).default_backoff();
    let changes = events.filter_map(move |event| {
        std::future::ready(match event {
            Ok(Event::Init) => {
                listed = None;
                None
            }
            Ok(Event::InitApply(lease)) => {
                listed = Some(Box::new(lease));
                None
            }
            Ok(Event::InitDone) => Some(Change::Now(listed.take())),
            Ok(Event::Apply(lease)) => Some(Change::Now(Some(Box::new(lease)))),
            Ok(Event::Delete(_)) => Some(Change::Now(None)),
            Err(error) => {
                tracing::debug!(%error, "the watch of the lease is interrupted");
                Some(Change::Broken)
            }
        })
    });
    changes.boxed()
}
