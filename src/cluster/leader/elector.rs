//! The requests of a candidate: to get, keep and release the Lease.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::api::{Tombstone, Town, names};
use crate::cluster::client::boot_clock::{Moment, now};
use crate::cluster::client::connect::connect_unfenced;
use crate::cluster::client::fence::Fence;
use crate::cluster::client::identity::Identity;
use crate::cluster::client::params::post_params;
use crate::cluster::client::write_window::Term;
use crate::cluster::leader::election::{Candidate, Step, Terms, Write};
use crate::cluster::leader::lease_record::Record;
use crate::telemetry::Metrics;

/// The longest timeout of one request. With short terms the timeout is shorter.
const TRY: Duration = Duration::from_secs(5);

/// The parameters of a candidate.
#[derive(Clone, Debug)]
pub struct Candidacy {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The install id, which determines the name of the Lease.
    pub install: String,
    /// The label of the objects of the installation.
    pub label: String,
    /// The release that runs this process, as `<namespace>/<name>`; empty: unknown.
    pub release: String,
    /// The identity of this process.
    pub me: Identity,
    /// The durations of the election.
    pub terms: Terms,
}

/// The name of the Lease of an installation. The name depends only on the install id, so that all operators of an
/// installation compete for the same Lease, whichever release they belong to.
pub fn lease_name(install_id: &str) -> String {
    format!("{}-{install_id}", names::MANAGER)
}

/// The name of the mark of an installation: a Lease that the first process creates, that no process renews, and that
/// stays. An install id has no dot, so no Lease of an installation has this name.
fn mark_name(install_id: &str) -> String {
    format!("{}.installed", lease_name(install_id))
}

/// The reason why this process may not run under its install id, or cannot find out whether it may.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The creation of a client failed.
    #[error("cannot create a client for the cluster: {0}")]
    Client(#[source] kube::Error),
    /// The Lease could not be read.
    #[error("cannot read lease {lease}: {source}")]
    Unread {
        /// Namespace and name.
        lease: String,
        /// The error of the client.
        #[source]
        source: kube::Error,
    },
    /// The thread for the Lease could not be started.
    #[error("the thread that renews the lease cannot be started: {0}")]
    NoThread(#[source] std::io::Error),
    /// The thread for the Lease ended before the first read of the Lease.
    #[error("the thread that renews the lease ended; this is a bug")]
    ThreadEnded,
    /// The release was installed under another id.
    #[error(
        "lease {lease} names the installation '{kept}', not '{given}': every object of this installation carries that \
         id; start with --install-id {kept}, or delete this lease when no object of '{kept}' exists"
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

/// The sender that publishes the terms.
pub struct Office(watch::Sender<Option<Term>>);

/// A fence, and the sender that opens it.
pub fn office() -> (Office, Fence) {
    let (sender, term) = watch::channel(None);
    (Office(sender), Fence::new(term, now))
}

/// The state of this process in the election.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// The first read of the Lease has not finished.
    Undecided,
    /// Another process leads, or no process leads yet.
    Standby,
    /// The process leads.
    Leading,
    /// The process must end, for this reason.
    Ended(String),
}

/// The handle of the leader election of this process.
pub struct Leadership {
    standing: watch::Receiver<Standing>,
    resign: CancellationToken,
    /// The thread drops the sender when it no longer keeps the Lease.
    ended: oneshot::Receiver<()>,
}

impl Leadership {
    /// Waits for the first decision, and returns whether this process leads.
    pub async fn leads_at_first(&mut self) -> bool {
        let known = self.standing.wait_for(|standing| *standing != Standing::Undecided).await;
        known.is_ok_and(|standing| *standing == Standing::Leading)
    }

    /// Waits until this process leads. An error gives the reason why it never will.
    pub async fn won(&mut self) -> Result<(), String> {
        let decided = |standing: &Standing| matches!(standing, Standing::Leading | Standing::Ended(_));
        match self.standing.wait_for(decided).await.as_deref() {
            Ok(Standing::Ended(why)) => Err(why.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(GONE.into()),
        }
    }

    /// Waits until this process must end, and returns the reason.
    pub async fn lost(&mut self) -> String {
        match self.standing.wait_for(|standing| matches!(standing, Standing::Ended(_))).await.as_deref() {
            Ok(Standing::Ended(why)) => why.clone(),
            _ => GONE.into(),
        }
    }

    /// Gives up leadership: from now on no write is sent, and another process may lead immediately.
    pub async fn resign(self) {
        self.resign.cancel();
        // The thread logs its own errors.
        let _ = self.ended.await;
    }
}

/// The reason to end if the thread of the Lease is gone.
const GONE: &str = "the renewal of the lease ended; this is a bug";

/// Starts the candidacy. It lasts until [`Leadership::resign`], or until this process loses a term that has begun.
/// The Lease has its own thread and its own runtime, so that busy worker threads do not end a term.
pub async fn stand(
    candidacy: Candidacy,
    office: Office,
    metrics: Arc<Metrics>,
) -> Result<Leadership, LeaseError> {
    let me = candidacy.me.clone();
    stand_with(candidacy, office, metrics, async move || connect_unfenced(&me).await).await
}

/// The same as [`stand`], with a client from `connect`. The client is created on the thread of the Lease, because its
/// connections live there.
async fn stand_with(
    candidacy: Candidacy,
    office: Office,
    metrics: Arc<Metrics>,
    connect: impl AsyncFnOnce() -> Result<Client, kube::Error> + Send + 'static,
) -> Result<Leadership, LeaseError> {
    let (sender, standing) = watch::channel(Standing::Undecided);
    let (begins, begun) = oneshot::channel();
    let (ends, ended) = oneshot::channel::<()>();
    let resign = CancellationToken::new();
    let resigned = resign.clone();
    // The future is created and run on the thread, so it need not be `Send`.
    let keep = async move || {
        let keeper = match connect().await {
            Ok(client) => Keeper::begin(client, candidacy, office, sender, metrics).await,
            Err(error) => Err(LeaseError::Client(error)),
        };
        match keeper {
            Ok(keeper) => {
                // If the start was abandoned meanwhile, the Lease is not needed.
                if begins.send(Ok(())).is_ok() {
                    keeper.keep(resigned).await;
                }
            }
            Err(error) => drop(begins.send(Err(error))),
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(LeaseError::NoThread)?;
    let thread = std::thread::Builder::new().name("lease".into());
    let spawned = thread.spawn(move || {
        runtime.block_on(keep());
        drop(ends);
    });
    spawned.map_err(LeaseError::NoThread)?;
    begun.await.map_err(|_| LeaseError::ThreadEnded)??;
    Ok(Leadership { standing, resign, ended })
}

struct Keeper {
    api: Api<Lease>,
    name: String,
    candidacy: Candidacy,
    candidate: Candidate<Lease>,
    within: Duration,
    office: Office,
    standing: watch::Sender<Standing>,
    metrics: Arc<Metrics>,
}

/// An event of the watch of the Lease.
enum Change {
    /// The current Lease; `None`: the Lease is deleted.
    Now(Option<Box<Lease>>),
    /// The watch failed. No events come until it recovers.
    Broken,
}

impl Keeper {
    /// Reads the Lease for the first time.
    async fn begin(
        client: Client,
        candidacy: Candidacy,
        office: Office,
        standing: watch::Sender<Standing>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LeaseError> {
        let mut keeper = Self {
            api: Api::namespaced(client, &candidacy.namespace),
            name: lease_name(&candidacy.install),
            candidate: Candidate::new(candidacy.me.clone(), candidacy.terms),
            within: TRY.min(candidacy.terms.deadline / 2),
            candidacy,
            office,
            standing,
            metrics,
        };
        keeper.was_installed_with_this_id().await?;
        let found = keeper.api.get_opt(&keeper.name).await;
        let found = found.map_err(|source| LeaseError::Unread { lease: keeper.lease(), source })?;
        let absent = found.is_none();
        keeper.saw(found)?;
        if absent {
            keeper.install().await;
        }
        Ok(keeper)
    }

    /// Checks for a first installation, which need not wait for a previous leader. The proof has two parts: this
    /// process itself creates the mark of the installation, and no object carries the label of the installation. An
    /// error proves nothing.
    async fn install(&mut self) {
        let sent = now();
        match self.answered(self.api.create(&post_params(), &self.mark())).await {
            Ok(_) => {}
            Err(Failed::Api(kube::Error::Api(status))) if status.code == 409 => return,
            Err(error) => {
                tracing::warn!(lease = mark_name(&self.candidacy.install), %error, "the mark could not be created");
                return;
            }
        }
        match self.answered(self.has_objects()).await {
            Ok(false) => {
                tracing::info!(lease = self.lease(), "the installation is new");
                self.candidate.installs(sent);
            }
            Ok(true) => tracing::info!(
                lease = self.lease(),
                label = self.candidacy.label,
                "the lease does not exist, but objects of this installation exist: the operator waits as if another \
                 process held the lease"
            ),
            Err(error) => tracing::warn!(%error, "objects of this installation could not be listed"),
        }
    }

    fn mark(&self) -> Lease {
        let metadata = ObjectMeta {
            name: Some(mark_name(&self.candidacy.install)),
            labels: Some([(names::APP_MANAGED_BY.to_owned(), names::MANAGER.to_owned())].into()),
            annotations: Some([(names::INSTALL.to_owned(), self.candidacy.install.clone())].into()),
            ..ObjectMeta::default()
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.candidacy.me.holder().to_owned()),
            acquire_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Whether a Town or a Tombstone carries the label of this installation.
    async fn has_objects(&self) -> Result<bool, kube::Error> {
        let one =
            ListParams::default().labels(&format!("{}={}", names::INSTALL, self.candidacy.label)).limit(1);
        let client = self.api.clone().into_client();
        let towns = Api::<Town>::all(client.clone()).list_metadata(&one).await?;
        let tombstones = Api::<Tombstone>::all(client).list_metadata(&one).await?;
        Ok(!towns.items.is_empty() || !tombstones.items.is_empty())
    }

    /// Refuses a release that led under another id before. Otherwise the operator would ignore everything that the
    /// release created.
    async fn was_installed_with_this_id(&self) -> Result<(), LeaseError> {
        if self.candidacy.release.is_empty() {
            return Ok(());
        }
        let ours = ListParams::default().labels(&format!("{}={}", names::APP_MANAGED_BY, names::MANAGER));
        let leases = self.api.list(&ours).await;
        let lease = format!("{}/*", self.candidacy.namespace);
        for lease in leases.map_err(|source| LeaseError::Unread { lease, source })? {
            if lease.annotations().get(names::RELEASE) == Some(&self.candidacy.release) {
                self.is_ours(&lease)?;
            }
        }
        Ok(())
    }

    /// Refuses a Lease that records another install id.
    fn is_ours(&self, lease: &Lease) -> Result<(), LeaseError> {
        match lease.annotations().get(names::INSTALL) {
            Some(kept) if *kept != self.candidacy.install => Err(LeaseError::OtherInstall {
                lease: format!("{}/{}", self.candidacy.namespace, lease.name_any()),
                kept: kept.clone(),
                given: self.candidacy.install.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn lease(&self) -> String {
        format!("{}/{}", self.candidacy.namespace, self.name)
    }

    /// Executes the steps of the candidate until the candidate ends.
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
                    // A waiting candidate gets each change from the watch. It polls only while the watch is broken.
                    let changes = changes.get_or_insert_with(|| watch_lease(&self.api, &self.name));
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
        match self.answered(self.api.get_opt(&self.name)).await {
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
                    "the lease has changed since the last read"
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

    /// Replaces the Lease as it was read, or creates it. The resource version and the UID prevent the replacement of
    /// a changed Lease, or of another Lease with the same name.
    async fn put(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        match lease.metadata.uid {
            Some(_) => self.api.replace(&self.name, &post_params(), lease).await,
            None => self.api.create(&post_params(), lease).await,
        }
    }

    fn filled_in(&self, write: Write<Lease>) -> Lease {
        let mut lease = write.over.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        lease.labels_mut().insert(names::APP_MANAGED_BY.to_owned(), names::MANAGER.to_owned());
        let annotations = lease.annotations_mut();
        annotations.insert(names::INSTALL.to_owned(), self.candidacy.install.clone());
        if !self.candidacy.release.is_empty() {
            annotations.insert(names::RELEASE.to_owned(), self.candidacy.release.clone());
        }
        write.record.write(&mut lease);
        lease
    }

    /// Records a read of the Lease. The Lease must belong to this installation.
    fn saw(&mut self, found: Option<Lease>) -> Result<(), LeaseError> {
        if let Some(lease) = &found {
            self.is_ours(lease)?;
        }
        let found = found.map(|lease| {
            let record = Record::of(&lease);
            (lease, record)
        });
        self.candidate.saw(found, now());
        Ok(())
    }

    /// Opens or closes the fence, and publishes the state of this process.
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
            tracing::info!(lease = self.lease(), holder, "on standby");
        }
    }

    /// Closes the fence for good, so that no write is sent any more.
    fn end(&self, why: &str) {
        self.office.0.send_replace(None);
        self.metrics.leads(false);
        self.standing.send_replace(Standing::Ended(why.to_owned()));
    }

    async fn resign(mut self) {
        let freed = self.candidate.resign(now());
        self.end("this process released it");
        let Some(write) = freed else { return };
        let lease = self.filled_in(write);
        match self.answered(self.put(&lease)).await {
            Ok(_) => tracing::info!(lease = self.lease(), "the lease is released"),
            Err(error) => {
                tracing::warn!(lease = self.lease(), %error, "the lease could not be released, and expires");
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

/// A failed request.
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

/// Watches the Lease.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Condvar, Mutex};
    use std::time::Instant;

    use http::{Method, Request, Response, StatusCode};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;

    /// Short terms, in the proportions of the real ones.
    const TERMS: Terms = Terms {
        lease: Duration::from_secs(2),
        deadline: Duration::from_secs(1),
        retry: Duration::from_millis(100),
        margin: Duration::from_millis(50),
    };

    /// An API server that serves only Leases, and lists of labelled objects.
    #[derive(Default)]
    struct Server {
        leases: Mutex<Leases>,
        written: Condvar,
    }

    #[derive(Default)]
    struct Leases {
        all: BTreeMap<String, Value>,
        /// Objects with the label of the installation, by resource.
        labelled: BTreeMap<String, Vec<Value>>,
        writes: u64,
    }

    impl Server {
        fn with(leases: &[Value]) -> Arc<Self> {
            let server = Self::default();
            for lease in leases {
                let name = lease["metadata"]["name"].as_str().unwrap().to_owned();
                server.leases.lock().unwrap().all.insert(name, lease.clone());
            }
            Arc::new(server)
        }

        fn client(self: Arc<Self>) -> Client {
            let serve = move |request: Request<Body>| {
                let server = self.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let (status, answer) = server.answer(&parts.method, parts.uri.path(), &body);
                    let answer = Body::from(answer.to_string().into_bytes());
                    Ok::<_, std::io::Error>(Response::builder().status(status).body(answer).unwrap())
                }
            };
            Client::new(service_fn(serve), "default")
        }

        fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
            let mut leases = self.leases.lock().unwrap();
            let name = path.rsplit('/').next().unwrap().to_owned();
            if *method == Method::GET && name == "leases" {
                let items: Vec<_> = leases.all.values().collect();
                return (StatusCode::OK, json!({"metadata": {}, "items": items}));
            }
            if let "towns" | "tombstones" = name.as_str() {
                let items = leases.labelled.get(&name).cloned().unwrap_or_default();
                return (StatusCode::OK, json!({"metadata": {}, "items": items}));
            }
            if *method == Method::GET {
                let absent = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
                    "message": "no such Lease", "metadata": {}});
                let found = leases.all.get(&name).cloned();
                return found.map_or((StatusCode::NOT_FOUND, absent), |lease| (StatusCode::OK, lease));
            }
            let mut lease: Value = serde_json::from_slice(body).unwrap();
            let name = lease["metadata"]["name"].as_str().unwrap().to_owned();
            if *method == Method::POST && leases.all.contains_key(&name) {
                let there = json!({"kind": "Status", "status": "Failure", "code": 409, "reason": "AlreadyExists",
                    "message": "it exists", "metadata": {}});
                return (StatusCode::CONFLICT, there);
            }
            leases.writes += 1;
            lease["metadata"]["resourceVersion"] = leases.writes.to_string().into();
            lease["metadata"]["uid"] = "one".into();
            leases.all.insert(name, lease.clone());
            self.written.notify_all();
            (StatusCode::OK, lease)
        }

        /// Blocks this thread for `time`, and returns whether the Lease was renewed throughout.
        fn is_renewed_for(&self, time: Duration) -> bool {
            let began = Instant::now();
            let mut leases = self.leases.lock().unwrap();
            while began.elapsed() < time {
                let before = leases.writes;
                let wait = self.written.wait_timeout_while(leases, TERMS.deadline, |l| l.writes == before);
                let (now, late) = wait.unwrap();
                if late.timed_out() {
                    return false;
                }
                leases = now;
            }
            true
        }
    }

    fn candidacy(install: &str) -> Candidacy {
        Candidacy {
            namespace: "ns".into(),
            install: install.into(),
            label: format!("{install}.0123abcd"),
            release: "town-system/town-operator".into(),
            me: Identity::new("me", None, "1"),
            terms: TERMS,
        }
    }

    fn freed(install: &str) -> Value {
        json!({"metadata": {"name": lease_name(install), "uid": "one", "resourceVersion": "0",
            "annotations": {names::FREED: "one"}}})
    }

    // S4.
    #[test]
    fn lease_is_renewed_while_all_worker_threads_are_busy() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = Server::with(&[freed("a")]);
        let (office, _fence) = office();
        let for_the_thread = server.clone();
        let stands =
            stand_with(candidacy("a"), office, Arc::default(), async move || Ok(for_the_thread.client()));
        let mut leadership = runtime.block_on(stands).unwrap();
        runtime.block_on(leadership.won()).unwrap();
        // The test occupies both worker threads for longer than a leader may stay without a renewal.
        let busy: Vec<_> = (0..2)
            .map(|_| {
                let server = server.clone();
                runtime.spawn(async move { server.is_renewed_for(TERMS.deadline * 2) })
            })
            .collect();
        for busy in busy {
            assert!(runtime.block_on(busy).unwrap(), "the Lease was not renewed");
        }
        assert_eq!(*leadership.standing.borrow(), Standing::Leading);
        runtime.block_on(leadership.resign());
        let lease = server.leases.lock().unwrap().all[&lease_name("a")].clone();
        assert_eq!(lease["metadata"]["annotations"][names::FREED], "one", "it was given up: {lease}");
        assert_eq!(lease["metadata"]["annotations"][names::RELEASE], "town-system/town-operator");
    }

    /// The number of writes of the Lease until its holder leads.
    async fn writes_until_won(server: Arc<Server>) -> u64 {
        let (office, _fence) = office();
        let client = server.clone().client();
        let stands = stand_with(candidacy("a"), office, Arc::default(), async move || Ok(client)).await;
        let mut leadership = stands.unwrap();
        leadership.won().await.unwrap();
        let writes = server.leases.lock().unwrap().writes;
        leadership.resign().await;
        writes
    }

    // Decisions 5.3. A leader that waits for the end of another term renews its Lease meanwhile.
    #[tokio::test]
    async fn first_process_of_an_installation_leads_without_a_wait() {
        let server = Server::with(&[]);
        assert!(writes_until_won(server.clone()).await <= 3, "the mark, and the Lease");
        let mark = server.leases.lock().unwrap().all["town-operator-a.installed"].clone();
        assert_eq!(mark["spec"]["holderIdentity"], "me_1");
        assert_eq!(mark["metadata"]["annotations"][names::INSTALL], "a");
    }

    #[tokio::test]
    async fn process_waits_when_the_lease_may_have_been_deleted_under_its_holder() {
        let mark =
            json!({"metadata": {"name": "town-operator-a.installed", "uid": "m", "resourceVersion": "0"}});
        assert!(writes_until_won(Server::with(&[mark])).await > 5, "the mark is there");
        for kind in ["towns", "tombstones"] {
            let server = Server::with(&[]);
            let object = json!({"metadata": {"name": "gas", "namespace": "ns"}});
            server.leases.lock().unwrap().labelled.insert(kind.into(), vec![object]);
            assert!(writes_until_won(server).await > 5, "{kind} of the installation are there");
        }
    }

    #[tokio::test]
    async fn release_that_led_under_another_install_id_is_refused() {
        let kept = json!({"metadata": {"name": lease_name("old"), "uid": "one", "resourceVersion": "0",
            "annotations": {names::INSTALL: "old", names::RELEASE: "town-system/town-operator"}}});
        let start = async |install: &str, release: &str| {
            let (office, _fence) = office();
            let server = Server::with(std::slice::from_ref(&kept));
            let candidacy = Candidacy { release: release.into(), ..candidacy(install) };
            stand_with(candidacy, office, Arc::default(), async move || Ok(server.client())).await
        };
        let refused = start("new", "town-system/town-operator").await.err().unwrap().to_string();
        for part in ["ns/town-operator-old", "'old', not 'new'", "--install-id old"] {
            assert!(refused.contains(part), "{refused}");
        }
        for (install, release) in
            [("old", "town-system/town-operator"), ("new", "other/town-operator"), ("new", "")]
        {
            let started = start(install, release).await;
            assert!(started.is_ok(), "{install} by '{release}'");
            started.unwrap().resign().await;
        }
    }
}
