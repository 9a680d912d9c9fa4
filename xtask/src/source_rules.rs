//! Attributes that sources must have, and those they must not.
//!
//! Only inner attributes (`#![...]`) are looked at. They hold for a whole crate or module
//! and can stand only at the start of a file, so no Rust has to be parsed. An attribute on
//! one function, with its reason, is that function's affair and a reviewer's.

use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, Package};

use crate::manifest_rules::DENIED;

/// Crates that must not contain any `unsafe`.
const WITHOUT_UNSAFE: &[&str] = &["memory_range", "region_manager", "xtask"];

/// What to do when the step fails.
pub(crate) const MEND: &str = "return an error instead of stopping; where a panic is documented, put \
     `#[expect(clippy::panic, reason = \"...\")]` on that function alone";

/// Lists every source file that breaks a rule, and how.
pub(crate) fn breaches(metadata: &Metadata) -> Vec<String> {
    let root = metadata.workspace_root.as_std_path();
    let mut breaches = Vec::new();
    for member in metadata.workspace_packages() {
        if let Err(error) = member_breaches(root, member, &mut breaches) {
            breaches.push(format!(
                "{}: its sources cannot be read: {error}",
                member.name
            ));
        }
    }
    breaches
}

fn member_breaches(
    root: &Path,
    member: &Package,
    breaches: &mut Vec<String>,
) -> std::io::Result<()> {
    for target in member
        .targets
        .iter()
        .filter(|t| t.is_lib() || t.is_bin() || t.is_proc_macro())
    {
        let text = std::fs::read_to_string(&target.src_path)?;
        if WITHOUT_UNSAFE.contains(&member.name.as_str()) && !forbids_unsafe(&text) {
            breaches.push(format!(
                "{} has no `#![forbid(unsafe_code)]` in {}",
                member.name, target.src_path
            ));
        }
    }
    let Some(folder) = member.manifest_path.parent() else {
        return Ok(());
    };
    for path in sources(&folder.as_std_path().join("src"))? {
        let text = std::fs::read_to_string(&path)?;
        let shown = path.strip_prefix(root).unwrap_or(&path).display();
        breaches.extend(
            weakened(&text)
                .map(|lint| format!("{shown} switches off clippy::{lint} for all its code")),
        );
    }
    Ok(())
}

/// Lists the `.rs` files below `folder`, except those that hold only tests.
fn sources(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.file_stem().is_some_and(|name| name == "tests") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn forbids_unsafe(text: &str) -> bool {
    inner_attributes(text)
        .iter()
        .any(|attribute| attribute == "forbid(unsafe_code)")
}

/// The lints of the denied list that the file's inner attributes allow or only warn of.
fn weakened(text: &str) -> impl Iterator<Item = &'static str> {
    let attributes = inner_attributes(text);
    let only_tests = attributes.iter().any(|attribute| attribute == "cfg(test)");
    let weakens = |attribute: &String| {
        let for_tests = attribute.starts_with("cfg_attr(test,");
        !for_tests
            && ["allow(", "expect(", "warn("]
                .iter()
                .any(|level| attribute.contains(level))
    };
    let weakening: Vec<String> = attributes.into_iter().filter(weakens).collect();
    let names = |attribute: &String, lint: &str| {
        let path = format!("clippy::{lint}");
        attribute
            .split(['(', ')', ',', '='])
            .any(|word| word == path || word == "clippy::restriction")
    };
    DENIED
        .iter()
        .copied()
        .filter(move |lint| !only_tests && weakening.iter().any(|attribute| names(attribute, lint)))
}

/// The contents of the `#![...]` at the start of a file, without spaces and comments;
/// quoted text is replaced by `""`.
fn inner_attributes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    loop {
        rest = skip_blank(rest);
        let Some(mut inside) = rest.strip_prefix("#![") else {
            return found;
        };
        let mut attribute = String::new();
        let mut depth = 1_usize;
        loop {
            inside = skip_blank(inside);
            let Some(c) = inside.chars().next() else {
                return found;
            };
            inside = &inside[c.len_utf8()..];
            match c {
                '[' => depth += 1,
                ']' => depth -= 1,
                '"' => {
                    inside = after_quoted(inside);
                    attribute.push('"');
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
            attribute.push(c);
        }
        found.push(attribute);
        rest = inside;
    }
}

/// Skips white space and comments, documentation included.
fn skip_blank(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        rest = if let Some(comment) = rest.strip_prefix("//") {
            comment.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, after)| after)
        } else {
            return rest;
        }
        .trim_start();
    }
}

/// Skips to behind the closing quote.
fn after_quoted(text: &str) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weak(text: &str) -> Vec<&'static str> {
        weakened(text).collect()
    }

    #[test]
    fn attributes_are_found_behind_docs_and_comments() {
        let text = "//! Docs with #![allow(x)].\n\n/* a */ #![no_std] // b\n\
                    #![doc(\n  alias = \"a]\\\"b\",\n)]\nfn f() {}\n#![late]";
        assert_eq!(inner_attributes(text), ["no_std", "doc(alias=\"\",)"]);
        assert_eq!(inner_attributes("#![cut(off"), Vec::<String>::new());
        assert_eq!(inner_attributes(""), Vec::<String>::new());
    }

    #[test]
    fn forbid_counts_only_as_an_attribute() {
        assert!(forbids_unsafe(
            "//! Docs.\n#![no_std]\n#![forbid( unsafe_code )]\n"
        ));
        assert!(!forbids_unsafe("// #![forbid(unsafe_code)]\n"));
        assert!(!forbids_unsafe("#![deny(unsafe_code)]\n"));
    }

    #[test]
    fn switching_a_denied_lint_off_for_a_file_is_found_in_every_form() {
        assert_eq!(weak("#![allow(clippy::unwrap_used)]"), ["unwrap_used"]);
        assert_eq!(
            weak("#![warn(dead_code, clippy::todo, clippy::panic)]"),
            ["panic", "todo"]
        );
        assert_eq!(
            weak("#![expect(clippy::expect_used, reason = \"a\")]"),
            ["expect_used"]
        );
        assert_eq!(
            weak("#![cfg_attr(not(test), allow(clippy::panic))]"),
            ["panic"]
        );
        assert_eq!(weak("#![allow(clippy::restriction)]").len(), DENIED.len());
    }

    #[test]
    fn tests_and_other_lints_are_left_alone() {
        let fine = [
            "#![allow(clippy::too_many_arguments)]",
            "#![deny(clippy::unwrap_used)]",
            "#![cfg_attr(test, allow(clippy::unwrap_used))]",
            "#![cfg(test)]\n#![allow(clippy::unwrap_used)]",
            "#![doc = \"allow(clippy::panic)\"]",
            "fn f() { #![allow(clippy::panic)] }",
        ];
        for text in fine {
            assert_eq!(weak(text), Vec::<&str>::new(), "{text}");
        }
    }
}
