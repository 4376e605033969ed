//! Access to the metrics. The API server authenticates each token, and authorizes its user.
//!
//! Invariants kept here: a token gives access only if the API server confirms it. An answer is valid for a minute. A
//! flood of wrong tokens costs the API server only a few reviews at a time, and this process no memory.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::cluster::sync::lock;
use crate::telemetry::Admission;

/// How long an answer of the API server is valid.
const COUNTS_FOR: Duration = Duration::from_mins(1);
/// The largest number of stored answers.
const KEPT: usize = 256;
/// The largest number of concurrent reviews.
const AT_ONCE: usize = 4;

/// The reviews of tokens.
pub struct MetricsAccess {
    client: Client,
    places: Semaphore,
    known: Mutex<HashMap<[u8; 32], (Instant, Admission)>>,
}

impl MetricsAccess {
    /// A cache without answers.
    pub fn new(client: Client) -> Self {
        Self { client, places: Semaphore::new(AT_ONCE), known: Mutex::default() }
    }

    /// Whether the user of this token may read the path.
    pub async fn admits(&self, token: &str, path: &str) -> Admission {
        let digest: [u8; 32] = Sha256::digest(format!("{path} {token}")).into();
        if let Some(known) = self.known(&digest) {
            return known;
        }
        let Ok(_place) = self.places.acquire().await else { return Admission::Unknown };
        // A concurrent call may have reviewed the same token.
        if let Some(known) = self.known(&digest) {
            return known;
        }
        match self.review(token, path).await {
            Ok(answer) => {
                self.keep(digest, answer);
                answer
            }
            Err(error) => {
                tracing::warn!(%error, "a token for the metrics could not be reviewed");
                Admission::Unknown
            }
        }
    }

    async fn review(&self, token: &str, path: &str) -> Result<Admission, kube::Error> {
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let status = reviews.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Ok(Admission::Unauthenticated);
        };
        let UserInfo { username, uid, groups, extra } = user;
        let attributes = NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) };
        let spec = SubjectAccessReviewSpec {
            user: username,
            uid,
            groups,
            extra,
            non_resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let status = reviews.create(&PostParams::default(), &review).await?.status;
        let allowed = status.is_some_and(|status| status.allowed);
        Ok(if allowed { Admission::Allowed } else { Admission::Forbidden })
    }

    fn known(&self, digest: &[u8; 32]) -> Option<Admission> {
        let known = lock(&self.known);
        known.get(digest).filter(|(at, _)| at.elapsed() < COUNTS_FOR).map(|(_, answer)| *answer)
    }

    fn keep(&self, digest: [u8; 32], answer: Admission) {
        let mut known = lock(&self.known);
        known.retain(|_, (at, _)| at.elapsed() < COUNTS_FOR);
        if known.len() < KEPT {
            known.insert(digest, (Instant::now(), answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;

    /// A cache with an API server that accepts two tokens, and the requests that it received.
    fn access() -> (MetricsAccess, Arc<Mutex<Vec<String>>>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = asked.clone();
        let server = service_fn(move |request: Request<Body>| {
            let log = log.clone();
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut review: Value = serde_json::from_slice(&body).unwrap();
                review["status"] = if path.ends_with("tokenreviews") {
                    let name =
                        review["spec"]["token"].as_str().unwrap().strip_prefix("token-of-").unwrap_or("");
                    let user = json!({"username": name, "groups": ["scrapers"]});
                    json!({"authenticated": !name.is_empty(), "user": user})
                } else {
                    let spec = &review["spec"];
                    let path = &spec["nonResourceAttributes"];
                    assert_eq!((&path["path"], &path["verb"]), (&json!("/metrics"), &json!("get")));
                    assert_eq!(spec["groups"], json!(["scrapers"]));
                    json!({"allowed": spec["user"] == "prometheus"})
                };
                lock(&log).push(path.rsplit('/').next().unwrap().to_owned());
                Ok::<_, std::io::Error>(Response::new(Body::from(review.to_string().into_bytes())))
            }
        });
        (MetricsAccess::new(Client::new(server, "ns")), asked)
    }

    // S10.
    #[tokio::test]
    async fn metrics_endpoint_admits_only_tokens_that_the_api_server_allows() {
        let (access, asked) = access();
        for (token, wanted, reviews) in [
            ("forged", Admission::Unauthenticated, 1),
            ("token-of-mallory", Admission::Forbidden, 2),
            ("token-of-prometheus", Admission::Allowed, 2),
        ] {
            assert_eq!(access.admits(token, "/metrics").await, wanted, "{token}");
            assert_eq!(lock(&asked).drain(..).count(), reviews, "{token}");
            assert_eq!(access.admits(token, "/metrics").await, wanted, "{token}");
            assert_eq!(lock(&asked).len(), 0, "{token}: the answer counts for a while");
        }
        for number in 0..2 * KEPT {
            access.admits(&format!("forged-{number}"), "/metrics").await;
        }
        assert!(lock(&access.known).len() <= KEPT);
    }
}
