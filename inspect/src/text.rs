//! Trees as text, for people.
//!
//! What could be taken for something else is quoted, and characters that would act on a terminal
//! are escaped, so that a name which a guest has chosen can't forge a line.

use crate::node::{Directory, Node};
use crate::value::{Style, Value};
use core::fmt::{self, Write};

/// Writes the tree as indented lines, without a line break at the end.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) if !directory.is_empty() => lines(f, directory, 0),
            node => leaf(f, node, Layout::Lines),
        }
    }
}

impl Node {
    /// Returns what displays the tree in one line.
    #[must_use]
    pub fn compact(&self) -> Compact<'_> {
        Compact(self)
    }
}

/// Displays a tree in one line: `{gpa: 0x1000, slots: {0: none}}`.
#[derive(Copy, Clone, Debug)]
pub struct Compact<'a>(&'a Node);

impl fmt::Display for Compact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Node::Directory(directory) = self.0 else {
            return leaf(f, self.0, Layout::Compact);
        };
        f.write_str("{")?;
        for (index, (name, node)) in directory.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            quote(f, name, is_plain_name(name))?;
            write!(f, ": {}", node.compact())?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        value(f, self, Layout::Lines)
    }
}

#[derive(Copy, Clone, PartialEq)]
enum Layout {
    Lines,
    Compact,
}

fn lines(f: &mut fmt::Formatter<'_>, directory: &Directory, level: usize) -> fmt::Result {
    for (index, (name, node)) in directory.iter().enumerate() {
        if index > 0 || level > 0 {
            f.write_str("\n")?;
        }
        for _ in 0..level {
            f.write_str("  ")?;
        }
        quote(f, name, is_plain_name(name))?;
        f.write_str(":")?;
        match node {
            Node::Directory(directory) if !directory.is_empty() => {
                lines(f, directory, level.saturating_add(1))?;
            }
            node => {
                f.write_str(" ")?;
                leaf(f, node, Layout::Lines)?;
            }
        }
    }
    Ok(())
}

/// Writes what has no children.
fn leaf(f: &mut fmt::Formatter<'_>, node: &Node, layout: Layout) -> fmt::Result {
    match node {
        Node::Value(leaf) => value(f, leaf, layout),
        Node::Directory(_) => f.write_str("{}"),
        Node::Unopened => f.write_str("..."),
    }
}

fn value(f: &mut fmt::Formatter<'_>, value: &Value, layout: Layout) -> fmt::Result {
    match value {
        Value::Null => f.write_str("none"),
        Value::Bool(truth) => write!(f, "{truth}"),
        Value::Unsigned(number, style) => integer(f, *number, *style),
        Value::Signed(number, style) => {
            if *number < 0 {
                f.write_str("-")?;
            }
            integer(f, number.unsigned_abs(), *style)
        }
        // Unlike `Display`, `Debug` keeps a float apart from an integer, and very large ones short.
        Value::Float(number) => write!(f, "{number:?}"),
        Value::Text(text) => quote(f, text, is_plain_text(text, layout)),
        Value::Bytes(bytes) => {
            f.write_str("[")?;
            for (index, byte) in bytes.iter().enumerate() {
                let space = if index > 0 { " " } else { "" };
                write!(f, "{space}{byte:02x}")?;
            }
            f.write_str("]")
        }
        Value::Duration(duration) => write!(f, "{duration:?}"),
    }
}

fn integer(f: &mut fmt::Formatter<'_>, number: u64, style: Style) -> fmt::Result {
    match style {
        Style::Decimal | Style::Counter => write!(f, "{number}"),
        Style::Hex => write!(f, "{number:#x}"),
        Style::Binary => write!(f, "{number:#b}"),
    }
}

/// Tells whether a name needs no quotes in front of a colon.
fn is_plain_name(name: &str) -> bool {
    is_plain(name)
        && !name.contains([',', '{', '}'])
        && !name.contains(": ")
        && !name.ends_with(':')
}

/// Tells whether a text needs no quotes at the end of a line, or between commas.
fn is_plain_text(text: &str, layout: Layout) -> bool {
    let taken = matches!(text, "none" | "{}" | "...");
    is_plain(text) && !taken && (layout == Layout::Lines || !text.contains([',', '{', '}']))
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.trim() == text
        && !text.starts_with('"')
        && !text.chars().any(is_hostile)
}

/// Tells whether a character would act on a terminal rather than appear on it: control characters,
/// line separators, and those that reverse the direction of text or are invisible.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

fn quote(f: &mut fmt::Formatter<'_>, text: &str, plain: bool) -> fmt::Result {
    if plain {
        return f.write_str(text);
    }
    f.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            character if is_hostile(character) => {
                write!(f, "\\u{{{:x}}}", u32::from(character))?;
            }
            character => f.write_char(character)?,
        }
    }
    f.write_str("\"")
}
