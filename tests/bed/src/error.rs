//! What can go wrong, in words that say what to do or where to look.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the bed. Each message stands on its own: it names the thing that failed and, where a
/// program said why, the end of what it said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks something that the bed cannot bring along.
    #[error("{0}")]
    Impossible(String),
    /// The operating system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program that should do its work and exit 0 did not.
    #[error("{program} failed ({how}){}", heading(said))]
    Program {
        /// Its name.
        program: String,
        /// Its exit status in words.
        how: String,
        /// The end of what it said.
        said: String,
    },
    /// A component of the cluster did not become ready.
    #[error("{component} did not become ready: {why}; see {}{}", log.display(), heading(said))]
    NotReady {
        /// The component's name.
        component: String,
        /// Whether it exited or ran out of time.
        why: String,
        /// Its whole log.
        log: PathBuf,
        /// The end of its log.
        said: String,
    },
    /// The API server answered something else than asked for.
    #[error("the API server: {0}")]
    Api(String),
    /// What was asked for makes no sense in the present state.
    #[error("{0}")]
    State(String),
}

fn heading(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; the end of what it said:\n{said}") }
}

/// Adds what was being done to an error of the operating system.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing: what(), source: source.into() })
    }
}

/// The last lines of a log: enough to see why its writer failed.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
