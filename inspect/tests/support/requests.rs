//! Plays bytes as a request to a small tree, for the fuzz target and for the test of its corpus.

use inspect::live::ServerOptions;
use inspect::{Inspect, Request, Sensitivity};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// A tree with something of every sort in it.
#[derive(Default)]
struct Tree {
    limit: AtomicU64,
}

impl Inspect for Tree {
    fn inspect(&self, req: Request<'_>) {
        req.respond()
            .field_mut("limit", &mut &self.limit)
            .value("negative", -5_i64)
            .value("not a number", f64::NAN)
            .value("a/b \u{1b}\"", "\0\u{202e}")
            .bytes("bytes", &[0, 255])
            .value("time", Duration::from_nanos(1))
            .child("deep", |req| {
                req.by_index([[1_u8, 2], [3, 4]].iter().map(|pair| &pair[..]))
            })
            .child("never", |req| drop(req.defer()))
            .child_at(Sensitivity::Sensitive, "secret", |req| {
                req.value("secret-words")
            });
    }
}

/// Whatever the bytes are, there is one answer, it is JSON, it is one of the three sorts, and it tells
/// no secret.
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what it finds it stops at"
)]
pub fn play(request: &[u8]) -> &'static str {
    let tree = Tree::default();
    let answer = ServerOptions::new().answer(&tree, request);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert!(!answer.to_string().contains("secret-words"), "{answer}");
    let children = answer.as_object().unwrap();
    assert_eq!(children.len(), 1, "{answer}");
    let sorts = ["tree", "value", "error"];
    let Some(sort) = sorts.iter().find(|sort| children.contains_key(**sort)) else {
        panic!("{answer}");
    };
    sort
}
