//! What every manifest of the workspace must say.
//!
//! Cargo does not report where a setting came from, so the files are read. They are not
//! parsed as TOML: headers and `key = value` lines are all that the rules are about.

use std::path::Path;

use cargo_metadata::{Metadata, Package};

/// Settings that every member takes from the workspace.
const SHARED: &[&str] = &["version", "edition", "rust-version", "license"];

/// Lints that the workspace must deny: nothing that a guest or a caller passes may stop
/// the VMM.
pub(crate) const DENIED: &[&str] = &[
    "unwrap_used",
    "expect_used",
    "panic",
    "todo",
    "unimplemented",
    "unreachable",
];

/// Folders whose name is not their crate's: (folder, crate).
const FOLDER_EXCEPTIONS: &[(&str, &str)] = &[
    ("inspect/derive", "inspect_derive"),
    ("inspect/cli", "inspect_cli"),
];

/// What to do when the step fails.
pub(crate) const MEND: &str = "copy the form from another member's Cargo.toml";

/// Lists every manifest that breaks a rule, and how.
pub(crate) fn breaches(metadata: &Metadata) -> Vec<String> {
    let root = metadata.workspace_root.as_std_path();
    let mut breaches = read_and(&root.join("Cargo.toml"), |text| {
        root_breaches(&Manifest::read(text))
    });
    for member in metadata.workspace_packages() {
        breaches.extend(folder_breach(root, member));
        let manifest = member.manifest_path.as_std_path();
        let of_member = read_and(manifest, |text| member_breaches(&Manifest::read(text)));
        breaches.extend(
            of_member
                .into_iter()
                .map(|breach| format!("{}: {breach}", member.name)),
        );
    }
    breaches
}

fn read_and(path: &Path, rules: impl FnOnce(&str) -> Vec<String>) -> Vec<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => rules(&text),
        Err(error) => vec![format!("{} cannot be read: {error}", path.display())],
    }
}

fn folder_breach(root: &Path, member: &Package) -> Option<String> {
    let folder = member
        .manifest_path
        .parent()?
        .as_std_path()
        .strip_prefix(root)
        .ok()?
        .to_str()?;
    let name = member.name.as_str();
    let matches = folder == name || FOLDER_EXCEPTIONS.contains(&(folder, name));
    (!matches).then(|| format!("{name} lies in {folder}: a crate's folder has the crate's name"))
}

fn root_breaches(manifest: &Manifest<'_>) -> Vec<String> {
    let not_denied = |lint: &&&str| {
        let level = manifest.value("workspace.lints.clippy", lint);
        !level.is_some_and(|level| level.contains("\"deny\"") || level.contains("\"forbid\""))
    };
    let complain = |lint: &&str| {
        format!("workspace: clippy::{lint} is not denied in [workspace.lints.clippy]")
    };
    DENIED.iter().filter(not_denied).map(complain).collect()
}

fn member_breaches(manifest: &Manifest<'_>) -> Vec<String> {
    let mut breaches = Vec::new();
    let lints = manifest
        .value("lints", "workspace")
        .or_else(|| manifest.value("", "lints.workspace"));
    if lints != Some("true") {
        breaches.push("has no `[lints] workspace = true`".to_owned());
    }
    for key in SHARED {
        if manifest.value("package", &format!("{key}.workspace")) != Some("true") {
            breaches.push(format!("has no `{key}.workspace = true`"));
        }
    }
    for entry in &manifest.entries {
        if is_dependency_table(entry.header) && !from_workspace(entry.key, entry.value) {
            breaches.push(format!(
                "`{}` in [{}] is not `workspace = true`",
                entry.key, entry.header
            ));
        }
    }
    breaches
}

fn is_dependency_table(header: &str) -> bool {
    let last = header.rsplit('.').next().unwrap_or(header);
    matches!(
        last,
        "dependencies" | "dev-dependencies" | "build-dependencies"
    )
}

fn from_workspace(key: &str, value: &str) -> bool {
    let squeezed: String = value.chars().filter(|c| !c.is_whitespace()).collect();
    (key.ends_with(".workspace") && squeezed == "true") || squeezed.contains("workspace=true")
}

/// The `key = value` lines of a manifest, each with the header above it.
struct Manifest<'a> {
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    header: &'a str,
    key: &'a str,
    /// What stands on the key's own line; the rest of a long array is left out.
    value: &'a str,
}

impl<'a> Manifest<'a> {
    fn read(text: &'a str) -> Self {
        let mut header = "";
        let mut entries = Vec::new();
        for line in text.lines() {
            let line = without_comment(line).trim();
            if let Some(inner) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                header = inner.trim();
            } else if let Some((key, value)) = line.split_once('=') {
                entries.push(Entry {
                    header,
                    key: key.trim(),
                    value: value.trim(),
                });
            }
        }
        Self { entries }
    }

    fn value(&self, header: &str, key: &str) -> Option<&'a str> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.header == header && entry.key == key)?;
        Some(entry.value)
    }
}

/// Cuts a line at the first `#` that is not in quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '#' => return &line[..at],
            None => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [package]
        name = "x" # the [lints] of this one
        description = "C# and more"
        version.workspace = true
        edition.workspace = true
        rust-version.workspace = true
        license.workspace = true
        [lints]
        workspace=true
        [dependencies]
        libc.workspace = true
        nix = { workspace = true, features = [
            "fs",
        ] }
        [target.'cfg(unix)'.dependencies]
        log = {workspace=true}
    "#;

    fn check(text: &str) -> Vec<String> {
        member_breaches(&Manifest::read(text))
    }

    #[test]
    fn a_manifest_in_the_usual_form_passes() {
        assert_eq!(check(GOOD), Vec::<String>::new());
    }

    #[test]
    fn each_missing_line_is_named() {
        for key in SHARED {
            let text = GOOD.replace(
                &format!(" {key}.workspace = true"),
                &format!(" {key} = \"1\""),
            );
            assert_eq!(check(&text), [format!("has no `{key}.workspace = true`")]);
        }
        let text = GOOD.replace(
            "workspace=true\n        [dep",
            "# workspace=true\n        [dep",
        );
        assert_eq!(check(&text), ["has no `[lints] workspace = true`"]);
    }

    #[test]
    fn a_dependency_with_a_version_of_its_own_is_named_in_every_table() {
        let more = "[dependencies]\na = \"1\"\n[dev-dependencies]\nb = { version = \"2\" }\n\
                    [target.'cfg(unix)'.build-dependencies]\nc.workspace = false\n";
        assert_eq!(
            check(&format!("{GOOD}\n{more}")),
            [
                "`a` in [dependencies] is not `workspace = true`",
                "`b` in [dev-dependencies] is not `workspace = true`",
                "`c.workspace` in [target.'cfg(unix)'.build-dependencies] is not `workspace = true`",
            ]
        );
    }

    #[test]
    fn the_workspace_must_deny_every_lint_of_the_list() {
        let lines: String = DENIED
            .iter()
            .map(|lint| format!("{lint} = \"deny\"\n"))
            .collect();
        let good = format!("[workspace.lints.clippy]\n{lines}");
        assert_eq!(root_breaches(&Manifest::read(&good)), Vec::<String>::new());
        let weak = good.replace("todo = \"deny\"", "todo = \"warn\"");
        assert_eq!(
            root_breaches(&Manifest::read(&weak)),
            ["workspace: clippy::todo is not denied in [workspace.lints.clippy]"]
        );
        assert_eq!(root_breaches(&Manifest::read("")).len(), DENIED.len());
    }

    #[test]
    fn a_folder_has_its_crate_s_name_or_a_listed_exception() {
        let metadata = crate::workspace::made_up::workspace(&[], &[]);
        let breaches: Vec<String> = metadata
            .workspace_packages()
            .iter()
            .filter_map(|m| folder_breach(Path::new("/made_up"), m))
            .collect();
        assert_eq!(breaches, Vec::<String>::new());
        let moved: Vec<String> = metadata
            .workspace_packages()
            .iter()
            .filter_map(|m| folder_breach(Path::new("/"), m))
            .collect();
        assert_eq!(moved.len(), metadata.workspace_members.len());
        assert_eq!(
            moved[0],
            "memory_range lies in made_up/memory_range: a crate's folder has the crate's name"
        );
    }
}
