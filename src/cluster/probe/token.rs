//! The tokens for probes: kept in memory while the pod exists, and never shown.

use http::HeaderValue;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;

use super::question::NoAnswer;
use crate::cluster::error::Error;
use crate::lifecycle::ObjectKey;

/// The key of the token in the Secret.
const KEY: &str = "token";

/// Reads the token of a Secret as a header value. A line end that an editor added after the token is not a part of
/// it.
pub(super) async fn read(client: &Client, secret: &ObjectKey) -> Result<HeaderValue, NoAnswer> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace);
    let read = api.get_opt(&secret.name).await.map_err(|e| Error::api(format!("read Secret {secret}"), e));
    let found = match read {
        Ok(Some(found)) => found,
        Ok(None) => {
            let text = format!("Secret {secret} with the key '{KEY}' does not exist");
            return Err(NoAnswer::NoSecret(text));
        }
        Err(error) => return Err(no_token(error.to_string())),
    };
    let Some(token) = found.data.as_ref().and_then(|data| data.get(KEY)) else {
        return Err(no_token(format!("Secret {secret} has no key '{KEY}'")));
    };
    header(&token.0).ok_or_else(|| no_token(format!("the key '{KEY}' of Secret {secret} holds no token")))
}

fn no_token(why: String) -> NoAnswer {
    NoAnswer::Unauthorized(why)
}

fn header(token: &[u8]) -> Option<HeaderValue> {
    let token = token.trim_ascii();
    let mut header = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).ok()?;
    // A sensitive value is hidden in debug output of requests.
    header.set_sensitive(true);
    (!token.is_empty()).then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_valid_only_when_a_header_can_carry_it() {
        assert_eq!(header(b"abc\n").unwrap(), "Bearer abc");
        for wrong in [&b""[..], b" \n", b"two\nlines", b"\0"] {
            assert_eq!(header(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn token_is_hidden_in_debug_output() {
        assert!(!format!("{:?}", header(b"abc")).contains("abc"));
    }
}
