//! Waiting for a state, with a deadline and the last thing that was seen in the message.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};

/// The shortest time between two looks at a state that is awaited.
pub const LOOK: Duration = Duration::from_millis(60);
/// The longest.
const RARELY: Duration = Duration::from_millis(500);

/// How long a state may take to come where nothing else is said: ample on a loaded machine, and no test
/// that passes ever waits so long.
pub const PATIENCE: Duration = Duration::from_secs(45);
/// Ample for a request of an operator before this one, which may take effect a minute later: as long a finished pod is
/// kept under its name.
pub const CREATES_SETTLE: Duration = Duration::from_secs(110);

/// Looks until `look` gives a value, ever more rarely; panics past the deadline with what it said last.
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

/// Waits until `look` gives a value for something that comes; panics past the deadline with what it said last.
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

/// Looks for as long as `during` and panics at the first look that says no: for what must *not* happen.
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
