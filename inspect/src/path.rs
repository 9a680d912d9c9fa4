//! Paths that lead to a place in the tree.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use thiserror::Error;

/// The most levels of directories that a tree has, and the most names in a path.
///
/// Objects that refer to each other in a circle end here, rather than with an exhausted stack. It
/// is low enough for JSON parsers that limit nesting (to 128 levels, commonly).
pub const MAX_DEPTH: usize = 100;

/// Leads from the root of a tree to one place in it, as a sequence of names.
///
/// Written, the names are separated by `/`. Empty parts don't count, so `/a//b/` is `a/b`, and the
/// empty path is the root. Inside a name, `\/` stands for `/` and `\\` for `\`; `\e` as a whole
/// part stands for the empty name. So every name, whatever it contains, has a path.
///
/// ```
/// let path: inspect::Path = "regions/ram\\/0".parse()?;
/// assert_eq!(path.names().collect::<Vec<_>>(), ["regions", "ram/0"]);
/// assert_eq!(path.to_string(), "regions/ram\\/0");
/// # Ok::<(), inspect::PathError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path {
    /// Invariant: at most `MAX_DEPTH` names.
    names: Vec<String>,
}

/// Says why a text is no path.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathError {
    /// A backslash is followed by something that it doesn't escape, or by nothing.
    #[error(
        "path part {part:?}: a backslash must be followed by `/` or `\\`, or the part be `\\e`"
    )]
    BadEscape {
        /// The part of the path, as it was written.
        part: String,
    },
    /// The path has more names than a tree has levels.
    #[error("path has more than {MAX_DEPTH} names, the most levels that a tree has")]
    TooLong,
}

impl Path {
    /// The root.
    pub const ROOT: Self = Self { names: Vec::new() };

    /// Makes a path of names, each taken as it is.
    ///
    /// # Errors
    ///
    /// [`PathError::TooLong`] if there are more than [`MAX_DEPTH`] names.
    pub fn from_names<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
    ) -> Result<Self, PathError> {
        // One more than allowed is enough to know, however many follow.
        let names: Vec<String> = names
            .into_iter()
            .take(MAX_DEPTH + 1)
            .map(Into::into)
            .collect();
        if names.len() > MAX_DEPTH {
            return Err(PathError::TooLong);
        }
        Ok(Self { names })
    }

    /// Tells whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns the names from the root downwards.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.names.iter().map(String::as_str)
    }

    pub(crate) fn as_slice(&self) -> &[String] {
        &self.names
    }

    /// Returns the path of the directory that this one lies in, and the name in it. `None` for
    /// the root.
    #[must_use]
    pub fn split_last(&self) -> Option<(Self, &str)> {
        let (last, parents) = self.names.split_last()?;
        let names = parents.to_vec();
        Some((Self { names }, last))
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let mut names = Vec::new();
        let mut rest = text;
        loop {
            let (part, after) = split_part(rest);
            if !part.is_empty() {
                if names.len() == MAX_DEPTH {
                    return Err(PathError::TooLong);
                }
                names.push(unescape(part)?);
            }
            match after {
                Some(after) => rest = after,
                None => return Ok(Self { names }),
            }
        }
    }
}

/// Splits at the first `/` that no backslash precedes; the second half is `None` if there is none.
fn split_part(text: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '/' => {
                let (part, rest) = text.split_at(index);
                return (part, rest.strip_prefix('/'));
            }
            _ => {}
        }
    }
    (text, None)
}

fn unescape(part: &str) -> Result<String, PathError> {
    if part == "\\e" {
        return Ok(String::new());
    }
    let mut name = String::with_capacity(part.len());
    let mut characters = part.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            name.push(character);
            continue;
        }
        match characters.next() {
            Some(escaped @ ('/' | '\\')) => name.push(escaped),
            _ => return Err(PathError::BadEscape { part: part.into() }),
        }
    }
    Ok(name)
}

/// Writes the path so that it reads back as itself. The root is the empty text.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            if name.is_empty() {
                f.write_str("\\e")?;
            }
            for part in name.split_inclusive(['/', '\\']) {
                match part.strip_suffix(['/', '\\']) {
                    Some(plain) if part.ends_with('/') => write!(f, "{plain}\\/")?,
                    Some(plain) => write!(f, "{plain}\\\\")?,
                    None => f.write_str(part)?,
                }
            }
        }
        Ok(())
    }
}
