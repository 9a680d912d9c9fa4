//! Trees as text, for people.
//!
//! What could be taken for something else is quoted, and characters that would act on a terminal
//! are escaped, so that a name which a guest has chosen can't forge a line.

use crate::node::Node;
use crate::snapshot::Snapshot;
use crate::tree::{Leaf, Split, Tree};
use crate::value::{Style, Value};
use alloc::string::String;
use core::fmt::{self, Write};

/// Writes the tree as indented lines, without a line break at the end.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_text(&self))
    }
}

/// Writes the tree as indented lines, without a line break at the end.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl Node {
    /// Returns what displays the tree in one line.
    #[must_use]
    pub fn compact(&self) -> Compact<'_> {
        Compact(Either::Node(self))
    }
}

impl Snapshot {
    /// Returns what displays the tree in one line.
    #[must_use]
    pub fn compact(&self) -> Compact<'_> {
        Compact(Either::Snapshot(self))
    }

    /// Returns the tree as indented lines, without a line break at the end: what `Display` writes,
    /// without a copy.
    #[must_use]
    pub fn to_text(&self) -> String {
        to_text(&self.root())
    }
}

/// Displays a tree in one line: `{gpa: 0x1000, slots: {0: none}}`.
#[derive(Copy, Clone, Debug)]
pub struct Compact<'a>(Either<'a>);

#[derive(Copy, Clone, Debug)]
enum Either<'a> {
    Node(&'a Node),
    Snapshot(&'a Snapshot),
}

impl fmt::Display for Compact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Either::Node(node) => compact(f, &node),
            Either::Snapshot(snapshot) => compact(f, &snapshot.root()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        value(f, Leaf::from(self), Layout::Lines)
    }
}

#[derive(Copy, Clone, PartialEq)]
enum Layout {
    Lines,
    Compact,
}

fn compact<'t>(f: &mut impl Write, tree: &impl Tree<'t>) -> fmt::Result {
    let directory = match tree.split() {
        Split::Directory(directory) => directory,
        other => return end(f, other, Layout::Compact),
    };
    f.write_str("{")?;
    for (index, (name, node)) in directory.enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        quote(f, name, is_plain_name(name))?;
        f.write_str(": ")?;
        compact(f, &node)?;
    }
    f.write_str("}")
}

/// Writes the lines to a string first: that is faster than to write pieces to a formatter.
fn to_text<'t>(tree: &impl Tree<'t>) -> String {
    let mut text = String::new();
    // A string takes everything.
    let _ = lines(&mut text, tree);
    text
}

fn lines<'t, T: Tree<'t>>(f: &mut impl Write, tree: &T) -> fmt::Result {
    match tree.split() {
        Split::Directory(directory) if directory.len() > 0 => children::<T>(f, directory, 0),
        other => end(f, other, Layout::Lines),
    }
}

fn children<'t, T: Tree<'t>>(
    f: &mut impl Write,
    directory: T::Children,
    level: usize,
) -> fmt::Result {
    for (index, (name, node)) in directory.enumerate() {
        if index > 0 || level > 0 {
            f.write_str("\n")?;
        }
        indent(f, level)?;
        quote(f, name, is_plain_name(name))?;
        f.write_str(":")?;
        match node.split() {
            Split::Directory(directory) if directory.len() > 0 => {
                children::<T>(f, directory, level.saturating_add(1))?;
            }
            other => {
                f.write_str(" ")?;
                end(f, other, Layout::Lines)?;
            }
        }
    }
    Ok(())
}

fn indent(f: &mut impl Write, level: usize) -> fmt::Result {
    const SPACES: &str = "                ";

    let mut width = level.saturating_mul(2);
    while width > 0 {
        let spaces = SPACES.get(..width).unwrap_or(SPACES);
        f.write_str(spaces)?;
        width = width.saturating_sub(spaces.len());
    }
    Ok(())
}

/// Writes what has no children.
fn end<C>(f: &mut impl Write, split: Split<'_, C>, layout: Layout) -> fmt::Result {
    match split {
        Split::Leaf(leaf) => value(f, leaf, layout),
        Split::Directory(_) => f.write_str("{}"),
        Split::Unopened => f.write_str("..."),
        Split::Unresolved(why) => write!(f, "... ({why})"),
    }
}

fn value(f: &mut impl Write, leaf: Leaf<'_>, layout: Layout) -> fmt::Result {
    match leaf {
        Leaf::Null => f.write_str("none"),
        Leaf::Bool(true) => f.write_str("true"),
        Leaf::Bool(false) => f.write_str("false"),
        Leaf::Unsigned(number, style) => integer(f, number, style),
        Leaf::Signed(number, style) => {
            if number < 0 {
                f.write_str("-")?;
            }
            integer(f, number.unsigned_abs(), style)
        }
        // Unlike `Display`, `Debug` keeps a float apart from an integer, and very large ones short.
        Leaf::Float(number) => write!(f, "{number:?}"),
        Leaf::Text(text) => quote(f, text, is_plain_text(text, layout)),
        Leaf::Bytes(bytes) => {
            f.write_str("[")?;
            for (index, byte) in bytes.iter().enumerate() {
                let space = if index > 0 { " " } else { "" };
                write!(f, "{space}{byte:02x}")?;
            }
            f.write_str("]")
        }
        Leaf::Duration(duration) => write!(f, "{duration:?}"),
    }
}

/// Writes an integer. Most values are integers, and `format_args!` takes several times as long.
fn integer(f: &mut impl Write, number: u64, style: Style) -> fmt::Result {
    let (prefix, radix) = match style {
        Style::Decimal | Style::Counter => ("", 10),
        Style::Hex => ("0x", 16),
        Style::Binary => ("0b", 2),
    };
    // The last digits first, from the end of what the longest number takes.
    let mut digits = [b'0'; 64];
    let mut start = digits.len();
    let mut rest = number;
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        *digit = match u8::try_from(rest % radix) {
            Ok(value @ 0..=9) => b'0' + value,
            Ok(value @ 10..=15) => b'a' + (value - 10),
            _ => b'?',
        };
        start = index;
        rest /= radix;
        if rest == 0 {
            break;
        }
    }
    f.write_str(prefix)?;
    let digits = digits.get(start..).map(core::str::from_utf8);
    f.write_str(digits.and_then(Result::ok).unwrap_or_default())
}

/// Tells whether a name needs no quotes in front of a colon.
fn is_plain_name(name: &str) -> bool {
    is_identifier(name)
        || is_plain(name)
            && !name.contains([',', '{', '}'])
            && !name.contains(": ")
            && !name.ends_with(':')
}

/// Tells whether a text needs no quotes at the end of a line, or between commas.
fn is_plain_text(text: &str, layout: Layout) -> bool {
    if is_identifier(text) {
        return text != "none";
    }
    let taken = text == "{}" || text.starts_with("...");
    is_plain(text) && !taken && (layout == Layout::Lines || !text.contains([',', '{', '}']))
}

/// Tells whether a text is like an identifier, as nearly all names are: this is found out fast.
fn is_identifier(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.bytes().all(is_part)
}

fn is_plain(text: &str) -> bool {
    // Nearly all text is of this kind, and decoding characters takes much longer.
    if let [first, .., last] | [first @ last] = text.as_bytes()
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    {
        return *first != b' ' && *last != b' ' && *first != b'"';
    }
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

fn quote(f: &mut impl Write, text: &str, plain: bool) -> fmt::Result {
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
