//! A place in a tree that knows how it was reached, so that errors can name it.

use crate::map::MapError;
use crate::range::ByteRange;
use inspect::{Directory, Node, Path, Value};

/// Refers to a node, and to the way to it.
#[derive(Copy, Clone)]
pub(crate) struct Cursor<'a> {
    pub(crate) node: &'a Node,
    way: Way<'a>,
}

#[derive(Copy, Clone)]
enum Way<'a> {
    /// The root of what is read, somewhere in a larger tree.
    From(&'a Path),
    /// A child of something.
    Child(&'a Cursor<'a>, &'a str),
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(path: &'a Path, node: &'a Node) -> Self {
        Self {
            node,
            way: Way::From(path),
        }
    }

    /// The path from the root of the tree, extended by `name`.
    pub(crate) fn path(&self, name: Option<&str>) -> String {
        let mut names = Vec::new();
        names.extend(name);
        let mut at = *self;
        let root = loop {
            match at.way {
                Way::From(path) => break path,
                Way::Child(parent, name) => {
                    names.push(name);
                    at = *parent;
                }
            }
        };
        let all = root.names().chain(names.into_iter().rev());
        // A tree is no deeper than a path can be, but for one that was made by hand.
        Path::from_names(all).map_or_else(|_| "...".to_owned(), |path| path.to_string())
    }

    pub(crate) fn child(&'a self, name: &'a str) -> Option<Cursor<'a>> {
        Some(self.at(name, self.node.child(name)?))
    }

    pub(crate) fn need(&'a self, name: &'a str) -> Result<Cursor<'a>, MapError> {
        self.directory()?;
        self.child(name).ok_or_else(|| MapError::Missing {
            path: self.path(Some(name)),
        })
    }

    pub(crate) fn at(&'a self, name: &'a str, node: &'a Node) -> Cursor<'a> {
        Cursor {
            node,
            way: Way::Child(self, name),
        }
    }

    pub(crate) fn directory(&self) -> Result<&'a Directory, MapError> {
        match self.node {
            Node::Directory(directory) => Ok(directory),
            Node::Unopened => Err(MapError::Unopened {
                path: self.path(None),
            }),
            _ => Err(self.wrong("a directory")),
        }
    }

    pub(crate) fn number(&self) -> Result<u64, MapError> {
        let number = self.node.as_value().and_then(Value::as_u64);
        number.ok_or_else(|| self.wrong("a number that is not negative"))
    }

    pub(crate) fn text(&self) -> Result<&'a str, MapError> {
        let text = self.node.as_value().and_then(Value::as_str);
        text.ok_or_else(|| self.wrong("text"))
    }

    pub(crate) fn range(&self) -> Result<ByteRange, MapError> {
        self.range_of(self.text()?)
    }

    /// Reads a range that stands in `text`, at this place.
    pub(crate) fn range_of(&self, text: &str) -> Result<ByteRange, MapError> {
        text.parse().map_err(|source| MapError::NotARange {
            path: self.path(None),
            text: text.to_owned(),
            source,
        })
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.node, Node::Value(Value::Null))
    }

    pub(crate) fn is_true(&self) -> bool {
        self.node.as_value().and_then(Value::as_bool) == Some(true)
    }

    fn wrong(&self, expected: &'static str) -> MapError {
        MapError::WrongKind {
            path: self.path(None),
            expected,
        }
    }
}
