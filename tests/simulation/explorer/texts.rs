//! Answers as they come over the line.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::server::object::Object;
use crate::server::world::{Answer, Body};

/// Objects as they were sent before. An object never changes, and most are asked for again and again.
#[derive(Default)]
pub struct Texts(HashMap<*const Value, (Object, Bytes)>);

impl Texts {
    /// An answer as it comes over the line.
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
        // It is kept with its text, so that no other has its place.
        let (_, text) = self.0.entry(Arc::as_ptr(&object)).or_insert_with(|| {
            let text = serde_json::to_vec(&*object).expect("an object");
            (object, text.into())
        });
        text.clone()
    }
}
