//! A single probe of a pod, over its own connection.
//!
//! Invariants kept here:
//! - Only a bounded part of an answer is ever stored.
//! - The probe goes only to the pod: it uses no proxy, and follows no redirect.
//! - Text from a pod is shown to users only after truncation and in plain characters.

use std::error::Error;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::api::{ActivityReport, names};
use crate::cluster::client::connect;
use crate::lifecycle::Ask;

/// The longest head of an answer, in bytes.
const HEAD: usize = 16 * 1024;
/// The longest answer, in bytes: room for 500 agents, each with a message.
const BODY: usize = 256 * 1024;
/// The largest number of agents in an answer.
const AGENTS: usize = 1000;
/// The longest text of a pod that is shown, in characters.
const TEXT: usize = 200;

/// The reason of a failed probe, as users see it. The metric counts each variant under its own name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The pod answered with a status other than 2xx.
    #[error("the pod answered {0}")]
    Refused(StatusCode),
    /// The pod did not answer completely within the timeout.
    #[error("no complete answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The answer is too large.
    #[error("the answer is too large: {0}")]
    TooLarge(String),
    /// The answer has an unknown format.
    #[error("the answer cannot be read: {0}")]
    Malformed(String),
    /// The connection failed.
    #[error("the pod cannot be reached: {0}")]
    Unreachable(String),
    /// The address must not be probed.
    #[error("{0}")]
    NotAllowed(String),
    /// The pod has no token, or refuses the token.
    #[error("{0}")]
    Unauthorized(String),
    /// The Secret with the token does not exist.
    #[error("{0}")]
    NoSecret(String),
}

impl NoAnswer {
    /// The result label.
    pub(super) fn result(&self) -> &'static str {
        match self {
            Self::Refused(_) => "Refused",
            Self::TimedOut(_) => "TimedOut",
            Self::TooLarge(_) => "TooLarge",
            Self::Malformed(_) => "Malformed",
            Self::Unreachable(_) | Self::NotAllowed(_) => "Unreachable",
            Self::Unauthorized(_) | Self::NoSecret(_) => "Unauthorized",
        }
    }
}

/// Sends the probe. The function has no timeout of its own: the caller sets it.
pub(super) async fn put(
    ask: &Ask,
    token: HeaderValue,
    may_ask: fn(IpAddr) -> bool,
) -> Result<ActivityReport, NoAnswer> {
    let address = address(ask).filter(|address| may_ask(address.ip()));
    let address = address.ok_or_else(|| {
        NoAnswer::Unreachable(format!("{} is not a valid address for a probe", plain(&ask.address)))
    })?;
    let request = request(ask, address, token)
        .map_err(|error| NoAnswer::Unreachable(format!("the request is not valid: {error}")))?;
    let stream =
        TcpStream::connect(address).await.map_err(|error| NoAnswer::Unreachable(error.to_string()))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| broken(&e))?;
    let answer = async { read(ask, sender.send_request(request).await.map_err(|e| broken(&e))?).await };
    // The connection lives as long as the request. An error of the connection also ends the request.
    tokio::select! {
        answer = answer => answer,
        never = async { drop(connection.await); pending().await } => never,
    }
}

/// The address of the probe. `SocketAddr` adds the brackets of an IPv6 address.
fn address(ask: &Ask) -> Option<SocketAddr> {
    Some(SocketAddr::new(ask.address.parse().ok()?, ask.probe.port.try_into().ok()?))
}

fn request(
    ask: &Ask,
    address: SocketAddr,
    token: HeaderValue,
) -> Result<Request<Empty<&'static [u8]>>, http::Error> {
    Request::get(Uri::try_from(ask.probe.path.as_str())?)
        .header(HOST, address.to_string())
        .header(USER_AGENT, connect::USER_AGENT)
        .header(ACCEPT, "application/json")
        .header(AUTHORIZATION, token)
        .header(CONNECTION, "close")
        .body(Empty::new())
}

async fn read(ask: &Ask, response: Response<Incoming>) -> Result<ActivityReport, NoAnswer> {
    match response.status() {
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            let secret = &ask.secret;
            return Err(NoAnswer::Unauthorized(format!(
                "the pod answered {status} to the token of Secret {secret}. If this continues, the pod has an older \
                 token: set the annotation {} on its town or agent to another value to replace the pod",
                names::RESTART_AT
            )));
        }
        status if !status.is_success() => return Err(NoAnswer::Refused(status)),
        _ => {}
    }
    let body = Limited::new(response.into_body(), BODY).collect().await.map_err(unread)?.to_bytes();
    let report = ActivityReport::parse(&body).map_err(NoAnswer::Malformed)?;
    if report.agents.len() > AGENTS {
        return Err(NoAnswer::TooLarge(format!("more than {AGENTS} agents")));
    }
    Ok(report)
}

/// The error for an incomplete body.
fn unread(error: Box<dyn Error + Send + Sync>) -> NoAnswer {
    if error.is::<LengthLimitError>() {
        return NoAnswer::TooLarge(format!("more than {} KiB", BODY / 1024));
    }
    match error.downcast::<hyper::Error>() {
        Ok(error) => broken(&error),
        Err(error) => NoAnswer::Unreachable(plain(&error.to_string())),
    }
}

/// The error for a missing answer.
fn broken(error: &hyper::Error) -> NoAnswer {
    if error.is_parse_too_large() {
        return NoAnswer::TooLarge(format!("more than {} KiB of headers", HEAD / 1024));
    }
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    let text = plain(&format!("{error}{cause}"));
    if error.is_parse() { NoAnswer::Malformed(text) } else { NoAnswer::Unreachable(text) }
}

/// A text from others, truncated and in plain characters.
pub(super) fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(TEXT).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ActivityProbe;
    use crate::lifecycle::{ObjectKey, Uid};

    fn ask(address: &str, port: i32, path: &str) -> Ask {
        Ask {
            pod: ObjectKey { namespace: "ns".into(), name: "pod".into() },
            uid: Uid::new("pod"),
            address: address.into(),
            probe: ActivityProbe { port, path: path.into(), token_secret_name: None },
            secret: "s".into(),
        }
    }

    #[test]
    fn host_header_has_the_port_and_brackets_around_ipv6() {
        for (at, host) in [("10.1.2.3", "10.1.2.3:8080"), ("fd00::7", "[fd00::7]:8080")] {
            let ask = ask(at, 8080, "/activity?deep=1");
            let address = address(&ask).unwrap();
            assert_eq!(address.to_string(), host);
            let request = request(&ask, address, HeaderValue::from_static("Bearer t")).unwrap();
            assert_eq!(request.headers()[HOST], host);
            assert_eq!(request.uri(), "/activity?deep=1");
        }
    }

    #[test]
    fn probe_address_is_none_when_host_or_port_is_invalid() {
        for (at, port) in
            [("", 80), ("a.name", 80), ("10.1.2.3:80", 80), ("10.1.2.3", 65_536), ("10.1.2.3", -1)]
        {
            assert_eq!(address(&ask(at, port, "/")), None, "{at} {port}");
        }
    }

    #[test]
    fn foreign_text_is_shortened_and_unprintable_characters_are_replaced() {
        assert_eq!(plain("a\tb\r\n\u{1b}[31m\u{202e}c\u{200b} d"), "a?b???[31m?c? d");
        assert_eq!(plain(&"x".repeat(1000)), "x".repeat(200));
    }
}
