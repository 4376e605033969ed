//! The errors of the bed. Each message names the remedy or the log.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the bed. Each message is complete: it names the failed operation and, for a program, the end of its
/// output.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks something that the bed cannot provide.
    #[error("{0}")]
    Impossible(String),
    /// An operation of the operating system failed.
    #[error("{doing}: {source}")]
    Io {
        /// The operation.
        doing: String,
        /// The cause.
        source: io::Error,
    },
    /// A program did not exit with 0.
    #[error("{program} failed ({how}){}", heading(said))]
    Program {
        /// The name of the program.
        program: String,
        /// The exit status as a text.
        how: String,
        /// The end of its output.
        said: String,
    },
    /// A component of the cluster did not become ready.
    #[error("{component} did not become ready: {why}; see {}{}", log.display(), heading(said))]
    NotReady {
        /// The name of the component.
        component: String,
        /// The reason: an exit or a timeout.
        why: String,
        /// The path of its log.
        log: PathBuf,
        /// The end of its log.
        said: String,
    },
    /// The API server gave an unexpected answer.
    #[error("the API server: {0}")]
    Api(String),
    /// The request is not valid in the present state.
    #[error("{0}")]
    State(String),
}

fn heading(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; the end of what it said:\n{said}") }
}

/// Adds the operation to an error of the operating system.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing: what(), source: source.into() })
    }
}

/// The last lines of a log, for the message of an error.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
