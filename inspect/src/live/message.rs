//! Requests and answers as JSON.

use crate::live::error::Refusal;
use crate::live::wire::{self, Wire};
use crate::node::Node;
use crate::path::{MAX_DEPTH, Path};
use crate::request::Sensitivity;
use serde_core::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value as Json;

/// The version of the protocol.
const VERSION: u64 = 1;

/// The longest request, in bytes.
pub(super) const LONGEST_REQUEST: usize = 64 * 1024;

/// The longest answer, in bytes.
pub(super) const LONGEST_ANSWER: usize = 256 * 1024 * 1024;

/// The most names that a refusal lists.
pub(super) const MOST_CHILDREN: usize = 256;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Get {
        path: Path,
        depth: usize,
        sensitivity: Sensitivity,
    },
    Set {
        path: Path,
        value: String,
    },
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Tree(Node),
    Value(Node),
    Refused(Refusal),
}

/// Tells why a request was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The message is no request that the server understands.
    BadRequest,
    /// Nothing stands at the path.
    NotFound,
    /// What stands at the path can't be changed, or the server changes nothing.
    ReadOnly,
    /// The value is none of those that the path takes.
    InvalidValue,
    /// There are too many connections, or too many requests in too short a time.
    Busy,
    /// The answer would be too large.
    TooLarge,
    /// Something that a newer server says.
    Other,
}

const KINDS: [(RefusalKind, &str); 7] = [
    (RefusalKind::BadRequest, "bad_request"),
    (RefusalKind::NotFound, "not_found"),
    (RefusalKind::ReadOnly, "read_only"),
    (RefusalKind::InvalidValue, "invalid_value"),
    (RefusalKind::Busy, "busy"),
    (RefusalKind::TooLarge, "too_large"),
    (RefusalKind::Other, "other"),
];

const SENSITIVITIES: [(Sensitivity, &str); 3] = [
    (Sensitivity::Safe, "safe"),
    (Sensitivity::Default, "default"),
    (Sensitivity::Sensitive, "sensitive"),
];

impl Ask {
    pub(super) fn encode(&self) -> String {
        let (word, body) = match self {
            Self::Get {
                path,
                depth,
                sensitivity,
            } => {
                let level = SENSITIVITIES.iter().find(|(level, _)| level == sensitivity);
                let level = level.map_or("default", |(_, name)| *name);
                let parts = [
                    ("path", Json::from(path.to_string())),
                    ("depth", Json::from(*depth)),
                    ("sensitivity", Json::from(level)),
                ];
                ("get", object(parts))
            }
            Self::Set { path, value } => {
                let parts = [
                    ("path", Json::from(path.to_string())),
                    ("value", Json::from(value.as_str())),
                ];
                ("set", object(parts))
            }
        };
        object([("version", Json::from(VERSION)), (word, body)]).to_string()
    }

    /// Reads a request. Whatever is not understood is refused, and nothing is ignored.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let bad = |message: String| Refusal::new(RefusalKind::BadRequest, message);
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|error| bad(format!("a request must be JSON: {error}")))?;
        let Json::Object(mut request) = json else {
            return Err(bad("a request must be a JSON object".into()));
        };
        match request
            .remove("version")
            .and_then(|version| version.as_u64())
        {
            Some(VERSION) => {}
            other => {
                let given = other.map_or_else(|| "none".to_owned(), |other| other.to_string());
                return Err(bad(format!(
                    "this server speaks version {VERSION} of the protocol, and the request has {given}"
                )));
            }
        }
        let mut words = request.into_iter();
        let (Some((word, Json::Object(mut parts))), None) = (words.next(), words.next()) else {
            return Err(bad(
                "a request has one object, `get` or `set`, beside its version".into(),
            ));
        };
        let path = match parts.remove("path") {
            Some(Json::String(text)) => text
                .parse::<Path>()
                .map_err(|error| bad(error.to_string()))?,
            _ => return Err(bad("`path` is missing, or is no text".into())),
        };
        let ask = match word.as_str() {
            "get" => Self::Get {
                path,
                depth: match parts.remove("depth") {
                    None => MAX_DEPTH,
                    Some(depth) => {
                        let depth = depth.as_u64();
                        let depth =
                            depth.ok_or_else(|| bad("`depth` is no number of levels".into()))?;
                        usize::try_from(depth).unwrap_or(MAX_DEPTH).min(MAX_DEPTH)
                    }
                },
                sensitivity: match parts.remove("sensitivity") {
                    None => Sensitivity::Default,
                    Some(level) => SENSITIVITIES
                        .iter()
                        .find(|(_, name)| level == *name)
                        .map(|(level, _)| *level)
                        .ok_or_else(|| {
                            bad("`sensitivity` is `safe`, `default` or `sensitive`".into())
                        })?,
                },
            },
            "set" => Self::Set {
                path,
                value: match parts.remove("value") {
                    Some(Json::String(text)) => text,
                    _ => return Err(bad("`value` is missing, or is no text".into())),
                },
            },
            _ => return Err(bad("a request is `get` or `set`".into())),
        };
        match parts.keys().next() {
            None => Ok(ask),
            Some(name) => Err(bad(format!(
                "`{}` is no part of a request",
                name.escape_debug()
            ))),
        }
    }
}

impl Answer {
    pub(super) fn encode(&self) -> String {
        // All keys are strings, and a string takes all that is written, so this can't fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads an answer; `None` if it is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let Json::Object(mut answer) = serde_json::from_slice(bytes).ok()? else {
            return None;
        };
        if let Some(tree) = answer.remove("tree") {
            return Some(Self::Tree(wire::read(tree)?));
        }
        if let Some(value) = answer.remove("value") {
            return Some(Self::Value(wire::read(value)?));
        }
        let error = answer.remove("error")?;
        let kind = error.get("kind")?.as_str()?;
        let known = KINDS.iter().find(|(_, name)| *name == kind);
        let children = error.get("children").and_then(Json::as_array);
        let children = children.into_iter().flatten().filter_map(Json::as_str);
        Some(Self::Refused(Refusal {
            kind: known.map_or(RefusalKind::Other, |(kind, _)| *kind),
            message: error.get("message")?.as_str()?.to_owned(),
            found: error
                .get("found")
                .and_then(Json::as_u64)
                .and_then(|found| usize::try_from(found).ok())
                .unwrap_or(0),
            children: children.map(str::to_owned).collect(),
        }))
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Tree(node) => map.serialize_entry("tree", &Wire(node))?,
            Self::Value(node) => map.serialize_entry("value", &Wire(node))?,
            Self::Refused(refusal) => {
                let kind = KINDS.iter().find(|(kind, _)| *kind == refusal.kind);
                let children = refusal.children.iter().take(MOST_CHILDREN);
                let error = object([
                    ("kind", Json::from(kind.map_or("other", |(_, name)| *name))),
                    ("message", Json::from(refusal.message.as_str())),
                    ("found", Json::from(refusal.found)),
                    ("children", children.map(String::as_str).collect()),
                ]);
                map.serialize_entry("error", &error)?;
            }
        }
        map.end()
    }
}

fn object<const N: usize>(parts: [(&str, Json); N]) -> Json {
    let parts = parts.into_iter();
    Json::Object(parts.map(|(name, json)| (name.to_owned(), json)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test may stop at the first surprise, in its helpers too"
    )]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn requests_come_back(
            names in prop::collection::vec(any::<String>(), 0..5),
            depth in 0..=MAX_DEPTH,
            value: String,
            level in 0_usize..3,
        ) {
            let path = Path::from_names(names).unwrap();
            let get = Ask::Get { path: path.clone(), depth, sensitivity: SENSITIVITIES[level].0 };
            prop_assert_eq!(Ask::decode(get.encode().as_bytes()), Ok(get));
            let set = Ask::Set { path, value };
            prop_assert_eq!(Ask::decode(set.encode().as_bytes()), Ok(set));
        }

        #[test]
        fn any_bytes_are_a_request_or_are_refused(bytes: Vec<u8>) {
            let _ = Ask::decode(&bytes);
            let _ = Answer::decode(&bytes);
        }
    }

    #[test]
    fn refusals_come_back() {
        for (kind, _) in KINDS {
            let refusal = Refusal {
                kind,
                message: "a \"message\"".into(),
                found: 3,
                children: vec!["a".into(), "b".into()],
            };
            let answer = Answer::Refused(refusal);
            assert_eq!(Answer::decode(answer.encode().as_bytes()), Some(answer));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_said() {
        let check = |request: &str, part: &str| {
            let refusal = Ask::decode(request.as_bytes()).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::BadRequest);
            assert!(
                refusal.message.contains(part),
                "{request}: {}",
                refusal.message
            );
        };
        check("", "must be JSON");
        check(&"[".repeat(10_000), "must be JSON");
        check("[1]", "a JSON object");
        check("{}", "has none");
        check(r#"{"version": 2, "get": {"path": ""}}"#, "has 2");
        check(r#"{"version": 1}"#, "one object");
        check(
            r#"{"version": 1, "get": {"path": ""}, "set": {}}"#,
            "one object",
        );
        check(r#"{"version": 1, "put": {"path": ""}}"#, "`get` or `set`");
        check(r#"{"version": 1, "get": {}}"#, "`path`");
        check(r#"{"version": 1, "get": {"path": "\\x"}}"#, "backslash");
        check(
            r#"{"version": 1, "get": {"path": "", "depth": -1}}"#,
            "`depth`",
        );
        check(
            r#"{"version": 1, "get": {"path": "", "sensitivity": 3}}"#,
            "`sensitivity`",
        );
        check(
            r#"{"version": 1, "get": {"path": "", "deep": 1}}"#,
            "`deep`",
        );
        check(r#"{"version": 1, "set": {"path": ""}}"#, "`value`");
    }
}
