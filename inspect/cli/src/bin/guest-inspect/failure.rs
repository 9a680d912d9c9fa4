//! What can go wrong, and what to do then.

use inspect::Path;
use inspect::live::{ConnectError, RefusalKind, RequestError};
use inspect_cli::MapError;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path as FilePath, PathBuf};

/// The most names that a message lists.
const LISTED: usize = 10;

/// Says why the program failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Request(RequestError),
    #[error("nothing stands at `{path}`")]
    NotFound {
        path: Path,
        found: usize,
        children: Vec<String>,
    },
    #[error("`{}` is neither a socket nor a file", path.display())]
    NoSource { path: PathBuf },
    #[error("could not read `{}`", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("`{}` is larger than any tree", path.display())]
    TooLarge { path: PathBuf },
    #[error("`{}` is no JSON", path.display())]
    NotJson {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("could not write `{}`", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("could not write the output")]
    Output(#[source] std::io::Error),
    #[error("a tree that was saved can't be changed, and its counters stand still")]
    OnlyLive,
    #[error(transparent)]
    Map(#[from] MapError),
}

impl Failure {
    pub(crate) fn of_request(error: RequestError, path: &Path) -> Self {
        match error {
            RequestError::Refused(refusal) if refusal.kind() == RefusalKind::NotFound => {
                Self::NotFound {
                    path: path.clone(),
                    found: refusal.found(),
                    children: refusal.children().to_vec(),
                }
            }
            other => Self::Request(other),
        }
    }

    /// Says what to do next; `None` where the message says it all.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Connect(ConnectError::NoSocket { path }) => Some(match sockets_beside(path) {
                Some(sockets) => format!("sockets in that folder: {sockets}"),
                None => "a VMM makes its socket when it calls `inspect::live::serve`; check the path, \
                         and whether the VMM runs"
                    .to_owned(),
            }),
            Self::Connect(ConnectError::NobodyListens { .. }) => Some(
                "the VMM that made this socket has ended; the next one at this path replaces it"
                    .to_owned(),
            ),
            Self::Connect(ConnectError::NotAllowed { .. }) => {
                Some("run this program as the user that runs the VMM".to_owned())
            }
            Self::NotFound {
                path,
                found,
                children,
            } => Some(nearest(path, *found, children)),
            Self::NoSource { .. } => {
                Some("give the socket of a running VMM, or a file saved with --json".to_owned())
            }
            Self::NotJson { .. } => {
                Some("save a tree with `guest-inspect SOCKET --json > FILE`".to_owned())
            }
            Self::Request(RequestError::Refused(refusal)) => match refusal.kind() {
                RefusalKind::Busy => Some("try again in a moment".to_owned()),
                _ => None,
            },
            Self::OnlyLive => Some("give the socket of a running VMM".to_owned()),
            Self::Map(_) => Some(
                "a memory map is drawn from the tree of a guest memory manager; --depth and a path \
                 leave parts of it out"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

fn sockets_beside(path: &FilePath) -> Option<String> {
    let folder = match path.parent() {
        Some(folder) if folder != FilePath::new("") => folder,
        _ => FilePath::new("."),
    };
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    let mut names: Vec<String> = sockets
        .map(|entry| format!("`{}`", entry.file_name().to_string_lossy().escape_debug()))
        .collect();
    names.sort();
    names.truncate(LISTED);
    (!names.is_empty()).then(|| names.join(", "))
}

/// Names what could have been meant, the likeliest first.
fn nearest(path: &Path, found: usize, children: &[String]) -> String {
    let names: Vec<&str> = path.names().collect();
    let (before, missed) = names.split_at(found.min(names.len()));
    let at = |name: Option<&str>| {
        let names = before.iter().copied().chain(name);
        Path::from_names(names).map_or_else(|_| "...".to_owned(), |path| format!("`{path}`"))
    };
    let place = match before {
        [] => "the root".to_owned(),
        _ => at(None),
    };
    if children.is_empty() {
        return format!("{place} has no children");
    }
    let missed = missed.first().copied().unwrap_or_default();
    let mut ranked: Vec<(usize, &String)> = children
        .iter()
        .map(|child| (distance(missed, child), child))
        .collect();
    ranked.sort_by_key(|(distance, _)| *distance);
    match ranked.first() {
        // More than a slip of the fingers is no suggestion.
        Some((distance, child)) if *distance <= 1 + missed.chars().count() / 3 => {
            format!("did you mean {}?", at(Some(child)))
        }
        _ => {
            let shown = ranked.iter().take(LISTED);
            let shown: Vec<String> = shown
                .map(|(_, child)| format!("`{}`", child.escape_debug()))
                .collect();
            let more = match children.len().checked_sub(LISTED) {
                Some(more @ 1..) => format!(" and {more} more"),
                _ => String::new(),
            };
            format!("{place} has {}{more}", shown.join(", "))
        }
    }
}

/// How many letters must be changed, added or left out to make one name of the other, without regard
/// to case (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left
        .chars()
        .take(100)
        .flat_map(char::to_lowercase)
        .collect();
    let right: Vec<char> = right
        .chars()
        .take(100)
        .flat_map(char::to_lowercase)
        .collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.iter().enumerate() {
        let mut next = vec![index + 1];
        for (other, pair) in right.iter().zip(row.windows(2)) {
            let (diagonal, above) = match pair {
                [diagonal, above] => (*diagonal, *above),
                _ => (0, 0),
            };
            let beside = next.last().copied().unwrap_or(0);
            let replaced = diagonal + usize::from(letter != other);
            next.push(replaced.min(above + 1).min(beside + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (left, right, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("regoins", "regions", 2),
            ("VIEW", "view", 0),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
            assert_eq!(distance(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn hints_name_what_is_near() {
        let check = |path: &str, found, children: &[&str], expected: &str| {
            let children: Vec<String> = children.iter().map(|&name| name.to_owned()).collect();
            let path: Path = path.parse().expect("a path");
            assert_eq!(nearest(&path, found, &children), expected);
        };
        check("veiw", 0, &["mapper", "view"], "did you mean `view`?");
        check(
            "view/xyz",
            1,
            &["slots", "regions"],
            "`view` has `slots`, `regions`",
        );
        check("view/x", 1, &[], "`view` has no children");
        check("x", 0, &[], "the root has no children");
    }
}
