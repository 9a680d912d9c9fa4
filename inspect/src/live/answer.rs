//! From a request to its answer.

use crate::live::error::Refusal;
use crate::live::message::{Answer, Ask, LONGEST_ANSWER, MOST_CHILDREN, RefusalKind};
use crate::live::server::Rules;
use crate::node::Node;
use crate::query::{NotFound, Query};
use crate::request::Inspect;
use crate::update::{Update, UpdateError};

/// Asks the object, or changes it.
pub(super) fn answer(object: &dyn Inspect, ask: Ask, rules: &Rules) -> Answer {
    match ask {
        Ask::Get {
            path,
            depth,
            sensitivity,
        } => {
            let query = Query::new()
                .path(path)
                .depth(depth)
                .sensitivity(sensitivity.min(rules.sensitivity))
                .deadline(rules.deadline);
            match query.run(object) {
                Ok(tree) => Answer::Tree(tree),
                Err(error) => Answer::Refused(not_found(&error)),
            }
        }
        Ask::Set { .. } if !rules.updates => Answer::Refused(Refusal::new(
            RefusalKind::ReadOnly,
            "this process lets nobody change anything",
        )),
        Ask::Set { path, value } => {
            let update = Update::new(path, value)
                .sensitivity(rules.sensitivity)
                .deadline(rules.deadline);
            match update.run(object) {
                Ok(value) => Answer::Value(Node::Value(value)),
                Err(UpdateError::NotFound(error)) => Answer::Refused(not_found(&error)),
                Err(error) => {
                    let kind = match error {
                        UpdateError::ReadOnly { .. } => RefusalKind::ReadOnly,
                        UpdateError::Invalid { .. } => RefusalKind::InvalidValue,
                        _ => RefusalKind::Other,
                    };
                    Answer::Refused(Refusal::new(kind, error.to_string()))
                }
            }
        }
    }
}

/// Writes an answer, or that it would be too long.
pub(super) fn encode(answer: &Answer) -> String {
    let text = answer.encode();
    if text.len() <= LONGEST_ANSWER {
        return text;
    }
    let message = format!(
        "the answer has {} bytes, and may have {LONGEST_ANSWER}; ask for less depth, or for one \
         child after the other",
        text.len()
    );
    Answer::Refused(Refusal::new(RefusalKind::TooLarge, message)).encode()
}

fn not_found(error: &NotFound) -> Refusal {
    let children = error.children().iter().take(MOST_CHILDREN);
    Refusal {
        kind: RefusalKind::NotFound,
        message: error.to_string(),
        found: error.found(),
        children: children.cloned().collect(),
    }
}
