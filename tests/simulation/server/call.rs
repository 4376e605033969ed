//! A request as the server reads it.

use std::fmt;

use bytes::Bytes;
use http::Method;

use super::refusal::Refusal;

/// The verb of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The name of the verb in access rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Call {
    /// The user who sends the request.
    pub user: String,
    pub verb: Verb,
    pub path: String,
    /// API group; empty for the core group and for a path without a resource.
    pub group: String,
    pub version: String,
    /// The plural name of the resource; empty for a path without a resource.
    pub resource: String,
    /// Empty for cluster-scoped objects, and for requests to all namespaces.
    pub namespace: String,
    /// Empty for requests to collections.
    pub name: String,
    /// For example `status`.
    pub subresource: String,
    pub query: Vec<(String, String)>,
    /// The media type of the body.
    pub content_type: String,
    /// Whether the client accepts only `PartialObjectMetadata`.
    pub metadata_only: bool,
    pub body: Bytes,
}

impl Call {
    /// Parses the request of a user.
    pub fn read(user: &str, head: &http::request::Parts, body: Bytes) -> Result<Self, Refusal> {
        let header = |name: http::HeaderName| {
            head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let query: Vec<(String, String)> = head.uri.query().map(pairs).unwrap_or_default();
        let path = head.uri.path();
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // The server does not check the permission to impersonate: no test needs the check.
        let user = match header(http::HeaderName::from_static("impersonate-user")) {
            "" => user,
            other => other,
        };
        let mut call = Self {
            user: user.to_owned(),
            verb: Verb::Get,
            path: path.to_owned(),
            group: String::new(),
            version: String::new(),
            resource: String::new(),
            namespace: String::new(),
            name: String::new(),
            subresource: String::new(),
            content_type: header(http::header::CONTENT_TYPE).split(';').next().unwrap_or_default().to_owned(),
            metadata_only: header(http::header::ACCEPT).contains("as=PartialObjectMetadata"),
            query,
            body,
        };
        let rest = match parts.first().copied() {
            Some("api") if parts.len() > 2 => {
                call.version = parts[1].into();
                parts.split_off(2)
            }
            Some("apis") if parts.len() > 3 => {
                call.group = parts[1].into();
                call.version = parts[2].into();
                parts.split_off(3)
            }
            _ => return Ok(call),
        };
        // `namespaces/NAME` and its subresources are paths of the namespace itself, not of an object in it.
        let rest = match rest.as_slice() {
            ["namespaces", namespace, resource, ..] if !matches!(*resource, "status" | "finalize") => {
                call.namespace = (*namespace).into();
                rest[2..].to_vec()
            }
            _ => rest,
        };
        let at = |place: usize| rest.get(place).copied().unwrap_or_default().to_owned();
        (call.resource, call.name, call.subresource) = (at(0), at(1), at(2));
        call.verb = call.verb_of(&head.method)?;
        Ok(call)
    }

    fn verb_of(&self, method: &Method) -> Result<Verb, Refusal> {
        let one = !self.name.is_empty();
        Ok(match *method {
            Method::GET if self.flag("watch") => Verb::Watch,
            Method::GET if one => Verb::Get,
            Method::GET => Verb::List,
            Method::POST => Verb::Create,
            Method::PUT if one => Verb::Update,
            Method::PATCH if one => Verb::Patch,
            Method::DELETE if one => Verb::Delete,
            Method::DELETE => Verb::DeleteCollection,
            _ => {
                let words = "the server does not allow this method on the requested resource";
                return Err(Refusal::new(405, "MethodNotAllowed", words));
            }
        })
    }

    /// The value of a parameter; `None` if the value is empty.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The value of a boolean parameter.
    pub fn flag(&self, name: &str) -> bool {
        self.query.iter().any(|(key, value)| key == name && matches!(value.as_str(), "" | "true" | "1"))
    }

    /// Whether the request can change an object.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }
}

/// The request in the format of an audit log: `patch towns/status ns/gas`.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.resource.is_empty() {
            return write!(f, "{} {}", self.verb.as_str(), self.path);
        }
        write!(f, "{} {}", self.verb.as_str(), self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        match (self.namespace.as_str(), self.name.as_str()) {
            ("", "") => Ok(()),
            ("", name) => write!(f, " {name}"),
            (namespace, "") => write!(f, " {namespace}/"),
            (namespace, name) => write!(f, " {namespace}/{name}"),
        }
    }
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    };
    query.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).unwrap_or(0);
                u8::try_from(digit() * 16 + digit()).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
