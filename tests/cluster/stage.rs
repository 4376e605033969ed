//! The clusters of stories: the API alone, a shared cluster with the operator, or a cluster of their own.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use bed::Options;
use futures::FutureExt;
use tokio::sync::OnceCell;

use crate::common::account::Account;
use crate::common::cluster::{Cluster, given};
use crate::common::operator::Operator;
use crate::common::players::NODE;
use crate::common::story::Story;
use crate::common::suite::{Suite, record};
use crate::planes::Planes;
use crate::seats::Seats;

/// The number of stories with a place in the harness. A story without a seat only waits for one, so that the number
/// exceeds that of all stories with their own control plane: otherwise these hold back the other stories.
const PLACES: usize = 64;
/// The limit of stories with their own control plane at the same time. A control plane needs a gigabyte of memory.
const ALONE: usize = 4;
/// The limit of stories on the shared clusters at the same time.
const TOGETHER: usize = 6;

/// The reason to skip a story on a cluster that the suite did not start.
const NOT_OURS: &str = "it needs a control plane that it may break; TOWN_TEST_KUBECONFIG names another";

/// The clusters that stories share. The first story that needs one starts it.
struct Stage {
    api: OnceCell<Option<Arc<Cluster>>>,
    life: OnceCell<Option<(Arc<Cluster>, Arc<Operator>)>>,
    planes: Planes,
    alone: Seats,
    together: Seats,
}

/// The stories of the suite.
pub struct Stories {
    suite: Suite,
    stage: Arc<Stage>,
    /// The number of stories on clusters.
    number: usize,
}

impl Stories {
    pub fn new() -> Self {
        let stage = Stage {
            api: OnceCell::new(),
            life: OnceCell::new(),
            planes: Planes::default(),
            alone: Seats::new(ALONE),
            together: Seats::new(TOGETHER),
        };
        Self { suite: Suite::new(PLACES), stage: Arc::new(stage), number: 0 }
    }

    /// The number of the next story.
    fn next(&mut self) -> usize {
        self.number += 1;
        self.number
    }

    /// Runs the stories.
    pub fn tell(self) -> std::process::ExitCode {
        self.suite.run(self.stage)
    }

    /// Adds a story that needs no cluster.
    pub fn plain<F, Fut>(&mut self, story: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        self.suite.add(name_of(&story), story);
    }

    /// Adds a story about the API itself: no operator runs.
    pub fn on_the_api<F, Fut>(&mut self, story: F)
    where
        F: FnOnce(Story) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let (stage, number) = (self.stage.clone(), self.next());
        let name = name_of(&story);
        self.suite.add(name.clone(), move || async move {
            let _seat = stage.together.take(number, &name).await;
            let cluster = once(&stage.api, async || Arc::new(Cluster::any("api").await)).await;
            told(&name, cluster, None, story).await;
        });
    }

    /// Adds a story that plays the operator; no real operator may run then.
    pub fn on_the_api_without_operator<F, Fut>(&mut self, story: F)
    where
        F: FnOnce(Story) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        if given().is_some() {
            self.suite.skip(name_of(&story), "it plays the operator, and one may run on that cluster");
        } else {
            self.on_the_api(story);
        }
    }

    /// Adds a story on the shared cluster, where the operator runs all the time.
    pub fn with_the_operator<F, Fut>(&mut self, story: F)
    where
        F: FnOnce(Story) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let (stage, number) = (self.stage.clone(), self.next());
        let name = name_of(&story);
        self.suite.add(name.clone(), move || async move {
            let _seat = stage.together.take(number, &name).await;
            let start = async || {
                let cluster = Arc::new(Cluster::any("life").await);
                // Starting towns of one story must not delay those of another.
                let flags = ["--deletion-blocked-after=10s", "--max-concurrent-starts=10000"];
                let operator = cluster.operator(&flags).await;
                (cluster, Arc::new(operator))
            };
            let (cluster, operator) = once(&stage.life, start).await;
            told(&name, cluster, Some(operator), story).await;
        });
    }

    /// Adds a story with a control plane for itself. The story starts the operator itself.
    pub fn alone<F, Fut>(&mut self, story: F)
    where
        F: FnOnce(Story) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        self.alone_on(Options::default(), story);
    }

    /// Adds a story with a control plane for itself, which was started with these options.
    pub fn alone_on<F, Fut>(&mut self, options: Options, story: F)
    where
        F: FnOnce(Story) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let name = name_of(&story);
        if given().is_some() {
            self.suite.skip(name, NOT_OURS);
            return;
        }
        let (stage, number) = (self.stage.clone(), self.next());
        let flags = (options.api_server_args, options.controller_manager_args);
        self.suite.add(name.clone(), move || async move {
            stage.planes.announce(flags.clone());
            let _seat = stage.alone.take(number, &name).await;
            let plane = stage.planes.take(flags).await;
            record("has a cluster", &name);
            told(&name, plane.cluster.clone(), None, story).await;
            stage.planes.give_back(plane, &name).await;
        });
    }
}

/// Runs one story. On a foreign cluster it then removes its objects.
async fn told<F, Fut>(name: &str, cluster: Arc<Cluster>, operator: Option<Arc<Operator>>, story: F)
where
    F: FnOnce(Story) -> Fut,
    Fut: Future<Output = ()>,
{
    let begun = Story::begin(name, cluster.clone(), operator).await;
    let namespace = begun.namespace.clone();
    let told = AssertUnwindSafe(story(begun)).catch_unwind().await;
    if given().is_some() {
        cluster.remove_namespace(&namespace).await;
    }
    if let Err(cause) = told {
        resume_unwind(cause);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let clusters = [self.api.take(), self.life.take().map(|life| life.map(|(cluster, _)| cluster))];
        for cluster in clusters.into_iter().flatten().flatten().filter(|_| given().is_some()) {
            Account::remove(&cluster);
            let _ = cluster.try_kubectl(&["delete", "node", NODE, "--ignore-not-found"], "");
        }
    }
}

/// Starts a shared cluster. A failed start is not repeated by other stories.
async fn once<T: Clone>(cell: &OnceCell<Option<T>>, start: impl AsyncFnOnce() -> T) -> T {
    let mut panic = None;
    let started = cell.get_or_init(async || match AssertUnwindSafe(start()).catch_unwind().await {
        Ok(started) => Some(started),
        Err(cause) => {
            panic = Some(cause);
            None
        }
    });
    match started.await.clone() {
        Some(started) => started,
        None => match panic {
            Some(cause) => resume_unwind(cause),
            None => panic!("what this story shares with others could not be started; the first says why"),
        },
    }
}

/// The name of a story is the path of its function: `api::bad_towns_are_refused`.
fn name_of<F>(_: &F) -> String {
    let name = std::any::type_name::<F>();
    name.split_once("::").map_or(name, |(_, name)| name).to_owned()
}
