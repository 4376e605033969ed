//! Answers of an overloaded API server.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use tower::BoxError;

/// The API server, or a proxy before it, answered 429: the request was not executed.
#[derive(Debug, thiserror::Error)]
#[error("the API server is overloaded (429 Too Many Requests)")]
pub(crate) struct Overloaded {
    /// The delay from the header Retry-After.
    pub(crate) wait: Option<Duration>,
}

/// Converts an answer 429 to an error. The client itself drops the header Retry-After, and the answers 429 of the API
/// server have the delay only there.
pub(crate) fn refuse_overload<B>(answer: Result<Response<B>, BoxError>) -> Result<Response<B>, BoxError> {
    let answer = answer?;
    let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match asked {
        Some(seconds) if answer.status() == StatusCode::TOO_MANY_REQUESTS => {
            Err(Box::new(Overloaded { wait: Some(Duration::from_secs(seconds)) }))
        }
        // A webhook may choose this code for its refusal. Then the body has the reason.
        _ => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // reports:P30
    #[test]
    fn answer_429_keeps_the_wait_of_its_retry_after_header() {
        let answered = |status: u16, retry_after: Option<&str>| {
            let mut answer = Response::builder().status(status);
            if let Some(value) = retry_after {
                answer = answer.header(RETRY_AFTER, value);
            }
            refuse_overload(Ok(answer.body(()).unwrap()))
        };
        let error = answered(429, Some("7")).unwrap_err();
        assert_eq!(error.downcast_ref::<Overloaded>().unwrap().wait, Some(Duration::from_secs(7)));
        for (status, retry_after) in [(200, None), (503, Some("7")), (429, None), (429, Some("tomorrow"))] {
            assert_eq!(answered(status, retry_after).unwrap().status(), status, "{retry_after:?}");
        }
    }
}
