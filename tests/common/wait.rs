//! Waits for a state, with a timeout. The message of a timeout has the last observed state.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};

/// The shortest interval between two polls.
pub const LOOK: Duration = Duration::from_millis(60);
/// The longest interval between two polls.
const RARELY: Duration = Duration::from_millis(500);

/// The default timeout: ample on a loaded machine. No successful test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(45);
/// A timeout for a request of an earlier operator, which can take effect a minute later. The operator keeps a finished
/// pod for the same time under its name.
pub const CREATES_SETTLE: Duration = Duration::from_secs(110);

/// Polls until `look` returns a value, with growing intervals. Panics after the timeout with the last error.
#[track_caller]
pub fn until<T, F>(what: &str, within: Duration, mut look: F) -> impl Future<Output = T> + use<'_, T, F>
where
    F: AsyncFnMut() -> Result<T, String>,
{
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        loop {
            match look().await {
                Ok(value) => return value,
                Err(last) if began.elapsed() > within => {
                    panic!("awaited at {caller}, not within {within:?}: {what}\nseen last: {last}")
                }
                Err(_) => tokio::time::sleep((began.elapsed() / 4).clamp(LOOK, RARELY)).await,
            }
        }
    }
}

/// Polls for the next event until `look` returns a value. Panics after the timeout with the last error.
#[track_caller]
pub fn until_comes<T, U>(
    what: String,
    within: Duration,
    coming: impl Stream<Item = T>,
    mut look: impl FnMut(T) -> Result<U, String>,
) -> impl Future<Output = U> {
    let caller = std::panic::Location::caller();
    async move {
        let mut last = String::from("nothing");
        let mut coming = pin!(coming);
        let found = async {
            while let Some(one) = coming.next().await {
                match look(one) {
                    Ok(value) => return value,
                    Err(said) => last = said,
                }
            }
            std::future::pending().await
        };
        let found = tokio::time::timeout(within, found).await;
        found.unwrap_or_else(|_| {
            panic!("awaited at {caller}, not within {within:?}: {what}\nseen last: {last}")
        })
    }
}

/// Polls for this time, and panics at the first error: for a state that must *not* change.
#[track_caller]
pub fn always<F>(what: &str, during: Duration, mut look: F) -> impl Future<Output = ()> + use<'_, F>
where
    F: AsyncFnMut() -> Result<(), String>,
{
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        while began.elapsed() < during {
            if let Err(seen) = look().await {
                panic!("at {caller}, after {:?} no longer: {what}\nseen: {seen}", began.elapsed());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
