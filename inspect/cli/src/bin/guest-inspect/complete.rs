//! Completion of paths: the shell runs this program with what was typed so far.

use crate::source::Source;
use clap_complete::engine::CompletionCandidate;
use inspect::{Directory, Node, Path, Sensitivity};
use std::ffi::OsStr;
use std::path::Path as FilePath;

/// Completes a path in the tree of the source that stands before it.
pub(crate) fn path(typed: &OsStr) -> Vec<CompletionCandidate> {
    candidates(typed, "")
}

/// Completes the path of `PATH=VALUE`.
pub(crate) fn assignment(typed: &OsStr) -> Vec<CompletionCandidate> {
    candidates(typed, "=")
}

/// Lists what may follow. A directory ends with `/`, a value with `after_value`.
fn candidates(typed: &OsStr, after_value: &str) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else {
        return Vec::new();
    };
    let (above, _) = typed.rsplit_once('/').unwrap_or_default();
    let Ok(above) = above.parse::<Path>() else {
        return Vec::new();
    };
    // The parser hands over only the word itself. A completion that fails is none: the shell is no
    // place for a message.
    let Some(mut source) = std::env::args_os().skip(1).find_map(|word| {
        let path = FilePath::new(&word);
        let exists = path.exists() && !path.is_dir();
        exists.then(|| Source::open(path).ok()).flatten()
    }) else {
        return Vec::new();
    };
    let Ok(node) = source.get(&above, 1, Sensitivity::Default) else {
        return Vec::new();
    };
    let children = node.as_directory().into_iter().flat_map(Directory::iter);
    let texts = children.filter_map(|(name, node)| {
        let path = Path::from_names(above.names().chain([name])).ok()?;
        let end = match node {
            Node::Directory(_) | Node::Unopened => "/",
            _ => after_value,
        };
        Some(format!("{path}{end}"))
    });
    texts
        .filter(|text| text.starts_with(typed))
        .map(CompletionCandidate::new)
        .collect()
}
