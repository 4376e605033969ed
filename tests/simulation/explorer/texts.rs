//! Serialised answers.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::server::object::Object;
use crate::server::world::{Answer, Body};

/// A cache of serialised objects. Objects are immutable, and the operator reads most of them many times.
#[derive(Default)]
pub struct Texts(HashMap<*const Value, (Object, Bytes)>);

impl Texts {
    /// The HTTP response of an answer.
    pub fn response(&mut self, answer: Answer) -> http::Response<Bytes> {
        let body = match answer.body {
            Body::Object(object) => self.of(object),
            Body::List(list) => list.into(),
            Body::Text(text) => Bytes::from_static(text.as_bytes()),
            Body::Watch(_) => Bytes::new(),
        };
        let response =
            http::Response::builder().status(answer.code).header("content-type", "application/json");
        response.body(body).expect("an answer")
    }

    fn of(&mut self, object: Object) -> Bytes {
        // The cache keeps the object, so that no other object can have the same address.
        let (_, text) = self.0.entry(Arc::as_ptr(&object)).or_insert_with(|| {
            let text = serde_json::to_vec(&*object).expect("an object");
            (object, text.into())
        });
        text.clone()
    }
}
