//! Watches: the events of a kind after a version, one JSON line each.

use serde_json::{Value, json};

use super::call::Call;
use super::kinds::{Kind, KindId, kinds};
use super::object::{self, Object};
use super::read::{metadata_of, write};
use super::refusal::Refusal;
use super::selector::Selector;
use super::store::{Change, Event};
use super::world::{Answer, Body, World};

/// An open watch.
#[derive(Clone, Debug)]
pub struct Watch {
    kind: KindId,
    namespace: String,
    selector: Selector,
    metadata_only: bool,
    bookmarks: bool,
    at: u64,
    /// The existing objects that the watch has not sent yet.
    first: Vec<Object>,
    hung_up: u64,
    ended: bool,
}

/// The result of a read from a watch.
pub enum News {
    /// New lines.
    Lines(Vec<u8>),
    /// No new line yet.
    None,
    /// The watch has ended.
    End,
}

impl World {
    pub(super) fn watch(&self, call: &Call, kind: &Kind) -> Result<Answer, Refusal> {
        let mut selector = Selector::read(call, kind)?;
        if !call.name.is_empty() {
            selector = selector.only(&call.name);
        }
        let mut watch = Watch {
            kind: kind.id,
            namespace: call.namespace.clone(),
            selector,
            metadata_only: call.metadata_only,
            bookmarks: call.flag("allowWatchBookmarks"),
            at: self.store.version(),
            first: Vec::new(),
            hung_up: self.hung_up,
            ended: false,
        };
        match call.parameter("resourceVersion") {
            None | Some("0") => {
                let there = self.store.within(kind.id, &call.namespace);
                let first = there.map(|(_, object)| object).filter(|object| watch.selector.takes(object));
                watch.first = first.cloned().collect();
                watch.first.reverse();
            }
            Some(version) => {
                self.is_not_ahead(call)?;
                watch.at = version.parse().unwrap_or_default();
            }
        }
        Ok(Answer { code: 200, body: Body::Watch(watch) })
    }

    /// The lines that the watch has not sent yet.
    pub fn news(&self, watch: &mut Watch) -> News {
        let mut lines = Vec::new();
        if watch.ended {
            return News::End;
        }
        while let Some(object) = watch.first.pop() {
            watch.line(&mut lines, "ADDED", &object);
        }
        if watch.at < self.store.compacted() {
            watch.ended = true;
            let words = format!("too old resource version: {} ({})", watch.at, self.store.compacted());
            let status = Refusal::expired(words).status();
            write(&mut lines, &json!({"type": "ERROR", "object": status}));
            lines.push(b'\n');
            return News::Lines(lines);
        }
        for event in self.store.since(watch.at) {
            if event.key.kind == watch.kind && self.held_back(event) {
                break;
            }
            watch.at = event.version;
            watch.tell(&mut lines, event);
        }
        if watch.hung_up != self.hung_up {
            watch.ended = true;
            watch.bookmark(&mut lines);
        }
        match (lines.is_empty(), watch.ended) {
            (false, _) => News::Lines(lines),
            (true, true) => News::End,
            (true, false) => News::None,
        }
    }

    /// Holds back the events of this kind from all watches until the test releases them.
    pub fn hold_back(&mut self, kind: KindId) {
        self.held.insert(kind, self.store.version());
    }

    /// Releases the next event of this kind that is held back. The result is false if there is none.
    pub fn let_one_through(&mut self, kind: KindId) -> bool {
        let Some(told) = self.held.get(&kind).copied() else { return false };
        let next =
            self.store.since(told).iter().find(|event| event.key.kind == kind).map(|event| event.version);
        if let Some(next) = next {
            self.held.insert(kind, next);
            self.tell();
        }
        next.is_some()
    }

    /// Releases all events of this kind and stops holding back.
    pub fn let_through(&mut self, kind: KindId) {
        self.held.remove(&kind);
        self.tell();
    }

    fn held_back(&self, event: &Event) -> bool {
        self.held.get(&event.key.kind).is_some_and(|told| event.version > *told)
    }
}

impl Watch {
    fn tell(&mut self, lines: &mut Vec<u8>, event: &Event) {
        let here = event.key.kind == self.kind
            && (self.namespace.is_empty() || event.key.namespace() == self.namespace);
        if !here {
            return;
        }
        let was = event.before.as_ref().is_some_and(|before| self.selector.takes(before));
        let is = event.change != Change::Deleted && self.selector.takes(&event.object);
        match (was, is) {
            (false, true) => self.line(lines, "ADDED", &event.object),
            (true, true) => self.line(lines, "MODIFIED", &event.object),
            (true, false) if event.change == Change::Deleted => self.line(lines, "DELETED", &event.object),
            // The object no longer matches the selector. The event has the last state that matched.
            (true, false) => {
                let mut last = event.before.as_deref().cloned().unwrap_or_default();
                object::meta_mut(&mut last)
                    .insert("resourceVersion".into(), event.version.to_string().into());
                self.line(lines, "DELETED", &last);
            }
            (false, false) => {}
        }
    }

    fn line(&self, lines: &mut Vec<u8>, what: &str, object: &Value) {
        lines.extend(format!("{{\"type\":\"{what}\",\"object\":").into_bytes());
        if self.metadata_only {
            write(lines, &metadata_of(object));
        } else {
            write(lines, object);
        }
        lines.extend(b"}\n");
    }

    fn bookmark(&self, lines: &mut Vec<u8>) {
        if self.bookmarks {
            let kind = kinds().at(self.kind);
            let mark = json!({
                "kind": kind.kind, "apiVersion": kind.api_version(),
                "metadata": {"resourceVersion": self.at.to_string()},
            });
            self.line(lines, "BOOKMARK", &mark);
        }
    }
}
