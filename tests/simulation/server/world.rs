//! The cluster as a single value. A request goes in, an answer comes out. The caller sets the time. Random numbers come
//! from a seed and a counter, so that the same requests produce the same cluster.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::task::Waker;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::access::Access;
use super::call::{Call, Verb};
use super::kinds::{Form, Kind, KindId, id, kinds};
use super::object::{self, Object};
use super::refusal::Refusal;
use super::store::{Event, Key, Store};
use super::watch::Watch;

/// The version that the server reports.
const VERSION: (&str, &str) = ("1", "36");

#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Body,
}

/// The body of an answer.
#[derive(Clone, Debug)]
pub enum Body {
    Object(Object),
    /// A list, as serialised JSON.
    List(Vec<u8>),
    /// Text that is not an object.
    Text(&'static str),
    Watch(Watch),
}

impl Answer {
    pub fn object(code: u16, object: Object) -> Self {
        Self { code, body: Body::Object(object) }
    }

    /// The object of an answer that has one.
    pub fn value(&self) -> Value {
        match &self.body {
            Body::Object(object) => (**object).clone(),
            Body::List(text) => serde_json::from_slice(text).expect("a list is JSON"),
            Body::Text(text) => Value::from(*text),
            Body::Watch(_) => Value::Null,
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        if refusal.code == 404 && refusal.reason.is_empty() {
            return Self { code: refusal.code, body: Body::Text("404 page not found\n") };
        }
        Self::object(refusal.code, refusal.status().into())
    }
}

/// The cluster.
pub struct World {
    /// The time of all components. The driver of the world advances it.
    pub now: Timestamp,
    pub access: Access,
    /// The name of a container that a webhook adds to each new pod.
    pub injects: Option<&'static str>,
    pub(super) store: Store,
    pub(super) hung_up: u64,
    pub(super) held: BTreeMap<KindId, u64>,
    seed: u64,
    drawn: u64,
    listening: Vec<Waker>,
}

/// The copy has its own history and random numbers from now on. No watch of the original belongs to the copy.
impl Clone for World {
    fn clone(&self) -> Self {
        let (store, access, held) = (self.store.clone(), self.access.clone(), self.held.clone());
        Self { access, store, held, listening: Vec::new(), ..*self }
    }
}

impl World {
    /// A cluster with our definitions and the namespaces `default` and `kube-system`, which were created long before
    /// `now`.
    pub fn new(now: Timestamp, seed: u64) -> Self {
        static FIRST: LazyLock<World> = LazyLock::new(World::first);
        Self { now, seed, ..FIRST.clone() }
    }

    /// The initial world. Other worlds are copies because the creation of the large definitions is slow.
    fn first() -> Self {
        let mut world = Self {
            now: Timestamp::UNIX_EPOCH,
            access: Access::default(),
            injects: None,
            store: Store::default(),
            hung_up: 0,
            held: BTreeMap::new(),
            seed: 0,
            drawn: 0,
            listening: Vec::new(),
        };
        for definition in kinds().iter().filter_map(Kind::definition) {
            world.create(id::DEFINITION, "", definition.object.clone()).expect("a definition");
        }
        for name in ["default", "kube-system"] {
            world.create(id::NAMESPACE, "", json!({"metadata": {"name": name}})).expect("a namespace");
        }
        world.store.compact();
        world
    }

    pub fn handle(&mut self, call: &Call) -> Answer {
        self.answer(call).unwrap_or_else(Answer::from)
    }

    fn answer(&mut self, call: &Call) -> Result<Answer, Refusal> {
        if call.resource.is_empty() {
            return match call.path.as_str() {
                "/version" => {
                    let (major, minor) = VERSION;
                    let git = format!("v{major}.{minor}.0");
                    let version = json!({
                        "major": major, "minor": minor, "gitVersion": git, "gitCommit": "", "gitTreeState": "",
                        "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
                    });
                    Ok(Answer::object(200, version.into()))
                }
                _ => Err(no_such_path()),
            };
        }
        let kind = self.served(call).ok_or_else(|| Self::not_served(call))?;
        self.access.check(call, kind)?;
        match (call.verb, call.subresource.as_str()) {
            (_, "status") if !kind.status => Err(no_such_path()),
            (Verb::Get, "" | "status") => self.read(call, kind),
            (Verb::List, "") => self.list(call, kind),
            (Verb::Watch, "") => self.watch(call, kind),
            (Verb::Create, "") => self.create_of(call, kind),
            (Verb::Create, "binding") if kind.id == id::POD => self.bind(call),
            (Verb::Update, "" | "status") => self.replace_of(call, kind),
            (Verb::Update, "finalize") if kind.id == id::NAMESPACE => self.replace_of(call, kind),
            (Verb::Patch, "" | "status") => self.patch_of(call, kind),
            (Verb::Delete, "") => self.delete_of(call, kind),
            (Verb::DeleteCollection, "") => self.delete_all_of(call, kind),
            _ => Err(no_such_path()),
        }
    }

    /// The kind that a path names, if the server serves it. A custom kind needs its definition.
    fn served(&self, call: &Call) -> Option<&'static Kind> {
        let kind = kinds().of_path(&call.group, &call.version, &call.resource)?;
        let defined = match kind.form {
            Form::Typed(_) => true,
            Form::Custom(_) => self.definition(kind).is_some(),
        };
        defined.then_some(kind)
    }

    /// The error for a kind that is not served. The error for an unknown resource in a built-in group has another form.
    fn not_served(call: &Call) -> Refusal {
        let own = kinds().iter().any(|kind| kind.group == call.group && kind.definition().is_none());
        if own {
            let words = "the server could not find the requested resource";
            return Refusal { details: json!({}), ..Refusal::new(404, "NotFound", words) };
        }
        no_such_path()
    }

    /// The stored definition of a custom kind.
    pub(super) fn definition(&self, kind: &Kind) -> Option<&Object> {
        self.store.get(&Key::new(kinds().at(id::DEFINITION), "", &kind.qualified()))
    }

    /// An object by kind, namespace (empty: cluster-scoped) and name.
    pub fn get(&self, kind: KindId, namespace: &str, name: &str) -> Option<&Object> {
        self.store.get(&Key::new(kinds().at(kind), namespace, name))
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The events after the last compaction, in order. A test that delivers events itself reads them here.
    pub fn log(&self) -> &[Event] {
        self.store.log()
    }

    /// Discards the history. A watch from an older version must list again.
    pub fn compact(&mut self) {
        self.store.compact();
        self.tell();
    }

    /// Ends all open watches, as their time limit does.
    pub fn hang_up(&mut self) {
        self.hung_up += 1;
        self.tell();
    }

    /// Wakes all watches that wait for events.
    pub(super) fn tell(&mut self) {
        self.listening.drain(..).for_each(Waker::wake);
    }

    /// Registers a watch that waits for events.
    pub(super) fn listen(&mut self, waker: &Waker) {
        if !self.listening.iter().any(|known| known.will_wake(waker)) {
            self.listening.push(waker.clone());
        }
    }

    pub(super) fn put(&mut self, key: Key, value: Value) -> Object {
        let object = self.store.put(key, value);
        self.tell();
        object
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Object> {
        let object = self.store.remove(key);
        self.tell();
        object
    }

    /// The next pseudo-random number. The sequence depends only on the seed.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        let mut bits = self.seed.wrapping_add(self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(super) fn new_uid(&mut self) -> String {
        let (high, low) = (self.draw(), self.draw());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            low >> 52,
            low & 0xffff_ffff_ffff
        )
    }

    /// Refuses a create in a namespace that does not exist or is being deleted.
    pub(super) fn namespace_takes(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(), Refusal> {
        if !kind.namespaced {
            return Ok(());
        }
        let namespaces = kinds().at(id::NAMESPACE);
        let Some(found) = self.store.get(&Key::new(namespaces, "", namespace)) else {
            return Err(Refusal::not_found(namespaces, namespace));
        };
        if found["status"]["phase"] != "Terminating" {
            return Ok(());
        }
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut refusal = Refusal::forbidden(kind, name, &why);
        refusal.details["causes"] = json!([{
            "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        Err(refusal)
    }
}

/// The error for an unknown path.
fn no_such_path() -> Refusal {
    Refusal::new(404, "", "404 page not found")
}

/// Refuses an object whose namespace differs from the namespace in the path.
pub(super) fn in_place(call: &Call, kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
    let said = object::namespace(object);
    if said.is_empty() {
        if kind.namespaced {
            object::meta_mut(object).insert("namespace".into(), call.namespace.clone().into());
        }
    } else if said != call.namespace {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}
