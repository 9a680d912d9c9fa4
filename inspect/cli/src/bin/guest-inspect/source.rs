//! Where a tree comes from: a running VMM, or a file.

use crate::failure::Failure;
use inspect::live::Client;
use inspect::{Directory, Node, Path, Sensitivity};
use std::os::unix::fs::FileTypeExt;
use std::path::Path as FilePath;

/// The largest file that is read.
const LARGEST: u64 = 1 << 30;

/// A place that trees are read from.
pub(crate) enum Source {
    Live(Client),
    Saved(Node),
}

impl Source {
    /// Connects to a socket, or reads a file.
    pub(crate) fn open(path: &FilePath) -> Result<Self, Failure> {
        let file = std::fs::metadata(path);
        if file.as_ref().is_ok_and(|file| file.is_file()) {
            return read(path);
        }
        if let Ok(file) = file
            && !file.file_type().is_socket()
        {
            return Err(Failure::NoSource {
                path: path.to_owned(),
            });
        }
        Ok(Self::Live(Client::connect(path)?))
    }

    /// Returns what stands at a path.
    pub(crate) fn get(
        &mut self,
        path: &Path,
        depth: usize,
        sensitivity: Sensitivity,
    ) -> Result<Node, Failure> {
        match self {
            Self::Live(client) => client
                .get(path, depth, sensitivity)
                .map_err(|error| Failure::of_request(error, path)),
            Self::Saved(tree) => match tree.get(path) {
                Some(node) => Ok(cut(node, depth)),
                None => Err(not_found(tree, path)),
            },
        }
    }
}

fn read(path: &FilePath) -> Result<Source, Failure> {
    let failed = |source| Failure::Read {
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > LARGEST {
        return Err(Failure::TooLarge {
            path: path.to_owned(),
        });
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let json = serde_json::from_slice(&bytes).map_err(|source| Failure::NotJson {
        path: path.to_owned(),
        source,
    })?;
    Ok(Source::Saved(Node::from_json(&json)))
}

/// Closes the directories below a depth, as a query would.
fn cut(node: &Node, depth: usize) -> Node {
    match (node.as_directory(), depth.checked_sub(1)) {
        (Some(_), None) => Node::Unopened,
        (Some(directory), Some(below)) => {
            let children = directory.iter();
            let children = children.map(|(name, node)| (name.to_owned(), cut(node, below)));
            Node::Directory(children.collect::<Directory>())
        }
        (None, _) => node.clone(),
    }
}

fn not_found(tree: &Node, path: &Path) -> Failure {
    let mut at = tree;
    let mut found = 0;
    for name in path.names() {
        match at.child(name) {
            Some(child) => at = child,
            None => break,
        }
        found += 1;
    }
    let children = at.as_directory().into_iter().flat_map(Directory::iter);
    Failure::NotFound {
        path: path.clone(),
        found,
        children: children.map(|(name, _)| name.to_owned()).collect(),
    }
}
