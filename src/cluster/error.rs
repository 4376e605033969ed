//! The errors of requests to the API server, and their consequences.

use std::time::Duration;

use crate::api::condition::reason;
use crate::cluster::client::fence::Fenced;
use crate::cluster::client::overload::Overloaded;
use crate::lifecycle::{Failure, ObjectKey, Unknown};

/// An error of a read or a write. Every error is retried. No error counts as absence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused the request or did not answer, or the connection failed.
    #[error("{what}: {}", said(source))]
    Api {
        /// The attempted operation.
        what: String,
        /// The error of the client.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer within the timeout.
    #[error("{what}: no answer within {seconds} s")]
    NoAnswer {
        /// The attempted operation.
        what: String,
        /// The timeout in seconds.
        seconds: u64,
    },
    /// The request was not sent: this process does not lead.
    #[error("{what}: {}", Fenced { begun: false })]
    NotLeading {
        /// The operation that was not sent.
        what: String,
    },
    /// The API server, or a proxy before it, is overloaded and rejected the request.
    #[error("{}", OVERLOADED)]
    Overloaded {
        /// The delay that the answer asks for.
        wait: Option<Duration>,
    },
    /// The object changed since the last read. The operator reads it again immediately.
    #[error("{what}: the object has changed since the last read")]
    Conflict {
        /// The attempted operation.
        what: String,
    },
    /// An object with a different owner has the name.
    #[error(
        "{kind} {name} exists and belongs to another owner; delete it, or use another name for the town or agent"
    )]
    NameTaken {
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
    },
    /// A Secret in the spec, or a key in it, does not exist.
    #[error("{}", missing(secret, *key, field))]
    SecretNotFound {
        /// The Secret.
        secret: ObjectKey,
        /// The required key; `None`: any key is enough.
        key: Option<&'static str>,
        /// The field that names the Secret.
        field: &'static str,
    },
    /// The owner is not provably alive, so the operator creates nothing for it.
    #[error("the operator creates nothing: {why}")]
    NotLive {
        /// The reason.
        why: String,
    },
    /// A definition of ours is not installed, so the operator creates nothing.
    #[error(
        "the operator creates nothing: the CustomResourceDefinition {name} is not installed; apply the files in crds/, \
         or install the chart with crds.install=true"
    )]
    NoDefinition {
        /// Name of the definition.
        name: &'static str,
    },
    /// A fact that the decision needs could not be read.
    #[error("{kind}: {message}")]
    Unread {
        /// The requested kind.
        kind: &'static str,
        /// The message of the error.
        message: String,
    },
    /// An object cannot be decoded.
    #[error("{kind} {name} cannot be read: {message}")]
    Undecodable {
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
        /// The error in the object.
        message: String,
    },
}

/// The text is the same for all requests. Otherwise each refused request would change the status.
const OVERLOADED: &str = "the API server is overloaded and refused a request (429 Too Many Requests); the operator waits \
                          and tries again";

/// Names the missing Secret, the field that refers to it, and the remedy.
fn missing(secret: &ObjectKey, key: Option<&str>, field: &str) -> String {
    let what = match key {
        Some(key) => format!("Secret {secret} with the key {key}"),
        None => format!("Secret {secret}"),
    };
    format!("{what} does not exist, but {field} names it; create it, and the operator starts the pod")
}

/// The message of the API server if it answered, otherwise the error of the connection.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(error) = cause {
                let more = error.to_string();
                if !text.contains(&more) {
                    text = format!("{text}: {more}");
                }
                cause = error.source();
            }
            text
        }
    }
}

/// Whether a patch with the UID of one object met another object that has taken the name. The API server answers that
/// the patch is invalid.
fn is_of_another(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422 && causes.into_iter().any(|cause| cause.field == "metadata.uid")
}

/// Whether an admission policy or a webhook refused the request. Both choose the status code themselves, and may
/// choose the code of a conflict or of an invalid patch. The API server always adds these words.
pub(crate) fn is_denied_by_admission(status: &kube::core::Status) -> bool {
    status.message.contains("denied request") || status.message.contains("denied the request")
}

/// Whether an answer proves that an object does not exist. The API server also answers 404 where it does not serve a
/// path, for example for a short time after its start. Such an answer proves nothing about an object.
pub(crate) fn says_gone(status: &kube::core::Status) -> bool {
    status.code == 404 && status.reason == "NotFound"
}

impl From<Unknown> for Error {
    fn from(unknown: Unknown) -> Self {
        Self::Unread { kind: unknown.kind, message: unknown.message }
    }
}

impl Error {
    /// Wraps a client error. A conflict becomes [`Error::Conflict`].
    pub(crate) fn api(what: impl Into<String>, source: kube::Error) -> Self {
        let what = what.into();
        match &source {
            kube::Error::Api(status) if is_denied_by_admission(status) => {
                Self::Api { what, source: Box::new(source) }
            }
            kube::Error::Api(status) if status.is_conflict() || is_of_another(status) => {
                Self::Conflict { what }
            }
            kube::Error::Api(status) if status.code == 429 => {
                let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                Self::Overloaded { wait: (seconds > 0).then(|| Duration::from_secs(seconds.into())) }
            }
            kube::Error::Service(error) if let Some(overloaded) = error.downcast_ref::<Overloaded>() => {
                Self::Overloaded { wait: overloaded.wait }
            }
            kube::Error::Service(stopped) if stopped.downcast_ref() == Some(&Fenced { begun: false }) => {
                Self::NotLeading { what }
            }
            _ => Self::Api { what, source: Box::new(source) },
        }
    }

    /// A write that the API server refused, and not because of a conflict, with its message.
    pub(crate) fn refused(what: impl Into<String>, status: Box<kube::core::Status>) -> Self {
        Self::Api { what: what.into(), source: Box::new(kube::Error::Api(status)) }
    }

    /// Wraps an error about an object that was read a moment ago. If the object is gone, this is a conflict too.
    pub(crate) fn known(what: impl Into<String>, source: kube::Error) -> Self {
        match &source {
            kube::Error::Api(status) if says_gone(status) => Self::Conflict { what: what.into() },
            _ => Self::api(what, source),
        }
    }

    /// The answer of the API server, if there was one.
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the write may have taken effect, or may still take effect: there was no answer, or the answer leaves
    /// it open.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Api { .. } => self.status().is_none_or(|s| s.code >= 500 || s.code == 408),
            Self::NoAnswer { .. } => true,
            _ => false,
        }
    }

    /// The delay that the API server asks for before the next request.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { wait } => *wait,
            _ => None,
        }
    }

    /// Whether the API server answered that the object does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status().is_some_and(says_gone)
    }

    /// Whether the API server does not know the path: the kind is not defined, or not served yet.
    pub(crate) fn is_not_served(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404 && !says_gone(status))
    }

    /// Whether the API server answered that the name is taken.
    pub(crate) fn is_already_exists(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(source.as_ref(), kube::Error::Api(s) if s.is_already_exists()))
    }

    /// Whether the API server refused a create because the namespace is being deleted.
    pub fn is_namespace_terminating(&self) -> bool {
        self.status().is_some_and(|s| {
            s.code == 403
                && (s.message.contains("being terminated")
                    || s.details
                        .as_ref()
                        .is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating")))
        })
    }

    /// The reason in one word: the reason of the condition that shows the error, or else the name of the error.
    pub fn reason(&self) -> &'static str {
        if let Some(failure) = self.failure() {
            return failure.reason;
        }
        match self {
            Self::Conflict { .. } => "Conflict",
            Self::NotLeading { .. } => "NotLeading",
            Self::NotLive { .. } => "NotLive",
            Self::Undecodable { .. } => "Undecodable",
            // The only error of these variants without a condition is the one of a terminating namespace.
            Self::NameTaken { .. }
            | Self::SecretNotFound { .. }
            | Self::NoDefinition { .. }
            | Self::NoAnswer { .. }
            | Self::Overloaded { .. }
            | Self::Unread { .. }
            | Self::Api { .. } => "NamespaceTerminating",
        }
    }

    /// The condition that shows the error; `None`: the next reconcile resolves the error without a report.
    pub fn failure(&self) -> Option<Failure> {
        let failure = |stalled, reason| Some(Failure { stalled, reason, message: self.to_string() });
        match self {
            Self::Conflict { .. }
            | Self::NotLeading { .. }
            | Self::NotLive { .. }
            | Self::Undecodable { .. } => None,
            // The deletion of the object itself comes next, so no user needs to act.
            Self::Api { .. } if self.is_namespace_terminating() => None,
            Self::NameTaken { .. } => failure(true, reason::NAME_TAKEN),
            Self::SecretNotFound { .. } => failure(false, reason::SECRET_NOT_FOUND),
            Self::NoDefinition { .. } => failure(false, reason::DEFINITION_MISSING),
            Self::NoAnswer { .. } | Self::Overloaded { .. } | Self::Unread { .. } => {
                failure(false, reason::API_ERROR)
            }
            Self::Api { .. } => match self.status() {
                Some(s) if s.code == 403 && s.message.contains("exceeded quota") => {
                    failure(false, reason::QUOTA_EXCEEDED)
                }
                Some(s) if (400..500).contains(&s.code) => failure(false, reason::REQUEST_REFUSED),
                _ => failure(false, reason::API_ERROR),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;
    use crate::telemetry::Metrics;

    fn answer(code: u16, message: &str) -> Error {
        let status = Status { code, ..Status::failure(message, "") };
        Error::Api { what: "a test".into(), source: Box::new(kube::Error::Api(Box::new(status))) }
    }

    #[test]
    fn patch_is_a_conflict_when_another_object_has_the_name() {
        let refused = |field: &str| {
            let cause =
                json!({"reason": "FieldValueInvalid", "message": "field is immutable", "field": field});
            let status = json!({"status": "Failure", "code": 422, "reason": "Invalid", "message": "it is invalid",
                "details": {"causes": [cause]}});
            Error::api("a test", kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())))
        };
        assert_eq!(refused("metadata.uid").reason(), "Conflict");
        assert_eq!(refused("spec.ports").reason(), "RequestRefused");
    }

    // code:P2: the default reason of a policy is Invalid (422), and a webhook may answer 409.
    #[test]
    fn admission_refusal_is_no_conflict_with_any_status_code() {
        for (code, message) in [
            (
                422,
                "pods \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: audit",
            ),
            (409, "admission webhook \"w.example\" denied the request: audit"),
            (403, "admission webhook \"w.example\" denied the request: audit"),
            (429, "admission webhook \"w.example\" denied the request: audit"),
        ] {
            let reason = if code == 409 { "Conflict" } else { "Invalid" };
            let status = Status::failure(message, reason).with_code(code);
            let error = Error::api("a test", kube::Error::Api(status.boxed()));
            assert_eq!(error.reason(), "RequestRefused", "{code}");
            assert!(error.failure().unwrap().message.contains("audit"), "{code}: {error}");
        }
    }

    // reports:P30
    #[test]
    fn overloaded_api_server_gives_one_message_and_its_retry_wait_is_kept() {
        let json = json!({"status": "Failure", "code": 429, "reason": "TooManyRequests", "message": "slow down",
            "details": {"retryAfterSeconds": 7}});
        let said = kube::Error::Api(Box::new(serde_json::from_value(json).unwrap()));
        let by_header = kube::Error::Service(Box::new(Overloaded { wait: Some(Duration::from_secs(7)) }));
        let (one, other) = (Error::api("create Pod a", said), Error::api("create Service b", by_header));
        for error in [&one, &other] {
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
            assert!(error.failure().unwrap().message.contains("overloaded"), "{error}");
            assert!(!error.outcome_unknown(), "the request was not carried out");
        }
        assert_eq!(one.failure(), other.failure(), "no status write for each request");
        let silent = Error::api("a test", kube::Error::Api(Status::failure("", "").with_code(429).boxed()));
        assert_eq!(silent.retry_after(), None);
        assert_eq!(silent.failure(), one.failure());
    }

    #[test]
    fn error_has_a_reason_that_the_metrics_know() {
        let what = || "a test".to_owned();
        let name = what;
        for (error, word) in [
            (answer(500, "down"), "APIError"),
            (Error::NoAnswer { what: what(), seconds: 1 }, "APIError"),
            (Error::Overloaded { wait: None }, "APIError"),
            (answer(422, "no"), "RequestRefused"),
            (answer(403, "exceeded quota: q"), "QuotaExceeded"),
            (answer(403, "because it is being terminated"), "NamespaceTerminating"),
            (Error::NameTaken { kind: "Pod", name: name() }, "NameTaken"),
            (Error::Conflict { what: what() }, "Conflict"),
            (Error::NotLeading { what: what() }, "NotLeading"),
            (Error::NotLive { why: what() }, "NotLive"),
            (Error::NoDefinition { name: "towns.gastown.dev" }, "DefinitionMissing"),
            (Error::Undecodable { kind: "Pod", name: name(), message: what() }, "Undecodable"),
        ] {
            assert_eq!(error.reason(), word, "{error}");
            let metrics = Metrics::default();
            metrics.reconcile_failed("Town", error.reason());
            let series = format!("reconcile_errors_total{{kind=\"Town\",reason=\"{word}\"}}");
            assert_eq!(metrics.value(&series), Some(1.0), "{series}");
        }
    }

    #[test]
    fn answer_404_means_not_found_only_with_the_reason_not_found() {
        let answered = |reason: &str| {
            let status = Status::failure("404", reason).with_code(404);
            Error::known("a test", kube::Error::Api(status.boxed()))
        };
        assert!(matches!(answered("NotFound"), Error::Conflict { .. }), "it has changed meanwhile");
        for reason in ["", "Failed to parse error data"] {
            let error = answered(reason);
            assert!(!error.is_not_found() && error.is_not_served(), "no such path, {reason}: {error}");
        }
    }

    // The fault explorer (tests/simulation) tries only one error of each of these classes.
    #[test]
    fn refused_request_has_no_effect_and_server_error_has_an_unknown_outcome() {
        let treated = |error: Error| {
            let is_conflict = matches!(error, Error::Conflict { .. });
            let gone = (error.is_not_found(), error.is_not_served(), error.is_namespace_terminating());
            (error.outcome_unknown(), is_conflict, error.is_already_exists(), gone)
        };
        let answered = |code, reason: &str| {
            let status = Status::failure("no", reason).with_code(code);
            treated(Error::api("a test", kube::Error::Api(status.boxed())))
        };
        let nothing_happened = (false, false, false, (false, false, false));
        for (code, reason) in [(403, "Forbidden"), (422, "Invalid"), (429, "TooManyRequests")] {
            assert_eq!(answered(code, reason), nothing_happened, "{code}");
        }
        // For a kind that every API server has, the code does not check whether the kind is served.
        assert_eq!(answered(404, ""), (false, false, false, (false, true, false)));
        let broken = kube::Error::Service("connection reset by peer".into());
        let unknown = (true, false, false, (false, false, false));
        assert_eq!(treated(Error::api("a test", broken)), unknown);
        for (code, reason) in [(500, "InternalError"), (504, "Timeout")] {
            assert_eq!(answered(code, reason), unknown, "{code}");
        }
    }

    #[test]
    fn fenced_request_has_an_unknown_outcome_only_when_it_was_begun() {
        let stopped = |begun| {
            let source = kube::Error::Service(Box::new(Fenced { begun }));
            Error::api("a test", source)
        };
        assert!(matches!(stopped(false), Error::NotLeading { .. }));
        assert!(!stopped(false).outcome_unknown() && !stopped(false).is_not_found());
        assert!(stopped(true).outcome_unknown(), "it may have been sent");
        assert!(stopped(true).to_string().contains("no longer the leader"), "{}", stopped(true));
        assert!(stopped(false).failure().is_none(), "no condition says so: it could not be written");
    }
}
