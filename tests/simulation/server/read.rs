//! The get and list requests, with pages.

use serde_json::{Value, json};

use super::call::Call;
use super::kinds::Kind;
use super::object::{self, Object};
use super::refusal::Refusal;
use super::selector::Selector;
use super::store::Key;
use super::world::{Answer, Body, World};

impl World {
    pub(super) fn read(&self, call: &Call, kind: &Kind) -> Result<Answer, Refusal> {
        let key = Key::new(kind, &call.namespace, &call.name);
        let found = self.store.get(&key).ok_or_else(|| Refusal::not_found(kind, &call.name))?;
        let object = if call.metadata_only { metadata_of(found).into() } else { found.clone() };
        Ok(Answer::object(200, object))
    }

    pub(super) fn list(&self, call: &Call, kind: &Kind) -> Result<Answer, Refusal> {
        let selector = Selector::read(call, kind)?;
        let limit = call.parameter("limit").and_then(|limit| limit.parse::<usize>().ok()).unwrap_or(0);
        let page = match call.parameter("continue") {
            None => {
                self.is_not_ahead(call)?;
                Page { version: self.store.version(), after: None }
            }
            Some(token) => {
                let page = Page::read(token)
                    .ok_or_else(|| Refusal::bad_request("continue key is not valid: invalid format"))?;
                if page.version < self.store.compacted() {
                    return Err(Refusal::expired(
                        "The provided continue parameter is too old to display a consistent list result. \
                         You can start a new list without the continue parameter, or use the continue token \
                         in this response to retrieve the remainder of the results.",
                    ));
                }
                page
            }
        };
        let mut items = Items::new(kind, limit, call.metadata_only, &selector);
        let after = |key: &Key| page.after.as_ref().is_none_or(|after| key.path > *after);
        if page.version == self.store.version() {
            for (key, object) in self.store.within(kind.id, &call.namespace).filter(|(key, _)| after(key)) {
                items.add(key, object);
            }
        } else {
            let then = self.store.as_of(page.version, kind.id, &call.namespace);
            for (key, object) in then.iter().filter(|(key, _)| after(key)) {
                items.add(key, object);
            }
        }
        Ok(items.answer(page.version))
    }

    /// Refuses a resourceVersion that is newer than the last write.
    pub(super) fn is_not_ahead(&self, call: &Call) -> Result<(), Refusal> {
        let asked = match call.parameter("resourceVersion") {
            None => 0,
            Some(version) => version
                .parse::<u64>()
                .map_err(|_| Refusal::bad_request(format!("invalid resource version: \"{version}\"")))?,
        };
        if asked > self.store.version() {
            let message =
                format!("Timeout: Too large resource version: {asked}, current: {}", self.store.version());
            let details = json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            });
            return Err(Refusal { details, ..Refusal::new(504, "Timeout", message) });
        }
        Ok(())
    }
}

/// The position of the next page.
struct Page {
    version: u64,
    after: Option<String>,
}

impl Page {
    fn read(token: &str) -> Option<Self> {
        let (version, after) = token.split_once(':')?;
        Some(Self { version: version.parse().ok()?, after: Some(after.to_owned()) })
    }
}

/// A page under construction.
pub(super) struct Items<'a> {
    kind: &'a Kind,
    limit: usize,
    metadata_only: bool,
    selector: &'a Selector,
    text: Vec<u8>,
    count: usize,
    last: String,
    more: i64,
}

impl<'a> Items<'a> {
    /// An empty page with this limit; 0: no limit.
    pub(super) fn new(kind: &'a Kind, limit: usize, metadata_only: bool, selector: &'a Selector) -> Self {
        Self {
            kind,
            limit,
            metadata_only,
            selector,
            text: Vec::new(),
            count: 0,
            last: String::new(),
            more: 0,
        }
    }

    /// Adds an object that matches the selector if the page has room. The result tells whether the object was added.
    pub(super) fn add(&mut self, key: &Key, object: &Object) -> bool {
        if !self.selector.takes(object) {
            return false;
        }
        if self.limit > 0 && self.count == self.limit {
            self.more += 1;
            return false;
        }
        if self.count > 0 {
            self.text.push(b',');
        }
        if self.metadata_only {
            write(&mut self.text, &metadata_of(object));
        } else if self.kind.definition().is_some() {
            write(&mut self.text, object);
        } else {
            write_item(&mut self.text, object);
        }
        self.count += 1;
        self.last.clone_from(&key.path);
        true
    }

    /// The list at this version.
    pub(super) fn answer(self, version: u64) -> Answer {
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if self.kind.definition().is_some() && !self.metadata_only {
            metadata["continue"] = "".into();
        }
        if self.more > 0 {
            metadata["continue"] = format!("{version}:{}", self.last).into();
            // The real server counts the remaining items only without a selector.
            if self.selector.is_all() {
                metadata["remainingItemCount"] = self.more.into();
            }
        }
        let (api_version, of) = if self.metadata_only {
            ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata")
        } else {
            (self.kind.api_version(), self.kind.kind)
        };
        let head = format!(
            "{{\"kind\":\"{of}List\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":["
        );
        let mut text = head.into_bytes();
        text.extend(self.text);
        text.extend(b"]}");
        Answer { code: 200, body: Body::List(text) }
    }
}

/// The metadata of an object, as `PartialObjectMetadata`.
pub(super) fn metadata_of(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object::meta(object),
    })
}

pub(super) fn write(text: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(text, value).expect("JSON is written to memory");
}

/// Writes an item of a list of built-in kinds. The items omit `kind` and `apiVersion`, which the list has.
fn write_item(text: &mut Vec<u8>, object: &Value) {
    let fields = object.as_object().into_iter().flatten();
    let mut separator = b'{';
    for (key, value) in fields.filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind")) {
        text.push(separator);
        separator = b',';
        text.extend(format!("\"{key}\":").into_bytes());
        write(text, value);
    }
    text.push(b'}');
}
