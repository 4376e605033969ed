//! A suite of stories: async functions on one runtime. A test harness runs them concurrently, and its output has the
//! format of other tests.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Runtime;

/// The default number of concurrent stories. Stories mostly wait, so that the number exceeds that of the processors.
pub const SIDE_BY_SIDE: usize = 12;

/// The environment variable with the path of a file: the suite appends the time of each step of a story.
const TIMES: &str = "TOWN_TEST_TIMES";

/// The stack size of a story in bytes: without optimisation its futures are large.
const STACK: usize = 16 << 20;

thread_local! {
    /// The message of a story's panic, and the notes that explain it.
    static SAID: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Adds a text to the message of the story that fails on this thread.
pub fn note(text: String) {
    SAID.with_borrow_mut(|said| match said {
        Some(lines) => lines.push(text),
        None => eprintln!("{text}"),
    });
}

/// Appends a step of a story to the file of times, with the seconds since the first step.
pub fn record(step: &str, story: &str) {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let Some(path) = std::env::var_os(TIMES) else { return };
    let line = format!("{:.1} {step} {story}\n", BEGAN.elapsed().as_secs_f64());
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a file of times");
}

pub struct Suite {
    side_by_side: usize,
    runtime: Arc<Runtime>,
    trials: Vec<Trial>,
}

impl Suite {
    /// An empty suite with its runtime, which runs this number of stories concurrently.
    pub fn new(side_by_side: usize) -> Self {
        let default_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let ours = SAID.with_borrow_mut(|said| said.as_mut().map(|lines| lines.push(panic.to_string())));
            if ours.is_none() {
                default_hook(panic);
            }
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self { side_by_side, runtime: Arc::new(runtime.expect("a runtime")), trials: Vec::new() }
    }

    /// Runs a future on the suite's runtime, outside of any story.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn add<F, Fut>(&mut self, name: impl Into<String>, body: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let runtime = self.runtime.clone();
        let name: String = name.into();
        let label = name.clone();
        let tell = move || {
            SAID.set(Some(Vec::new()));
            record("begins", &label);
            let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(body())));
            record("ends", &label);
            let said = SAID.take().unwrap_or_default();
            outcome.map_err(|_| Failed::from(said.join("\n")))
        };
        self.trials.push(Trial::test(name, move || {
            let thread = std::thread::Builder::new().stack_size(STACK).spawn(tell)?;
            thread.join().unwrap_or_else(|_| Err("it ended without a word".into()))
        }));
    }

    /// Adds a story that cannot run here, with the reason.
    pub fn skip(&mut self, name: impl Into<String>, reason: &str) {
        let reason = reason.to_owned();
        self.trials.push(Trial::ignorable_test(name, move || Ok(Completion::ignored_with(reason))));
    }

    /// Runs the stories that the command line selects. The function drops `shared`, so that the shared resources end
    /// before it returns.
    pub fn run<T>(self, shared: T) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads = arguments.test_threads.or(Some(self.side_by_side));
        let conclusion = libtest_mimic::run(&arguments, self.trials);
        self.runtime.block_on(async { drop(shared) });
        conclusion.exit_code()
    }
}
