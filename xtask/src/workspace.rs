//! The workspace as cargo describes it.

use std::path::PathBuf;

use cargo_metadata::{Metadata, MetadataCommand};

use crate::run::cargo_program;

/// The only platform the graph is resolved for: the stack is for Linux, so crates that
/// other systems pull in say nothing about it.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// The crate graph could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cargo does not describe the workspace")]
pub(crate) struct MetadataError(#[from] cargo_metadata::Error);

/// Asks cargo for the members, their manifests and the resolved graph (default features).
pub(crate) fn read() -> Result<Metadata, MetadataError> {
    let mut command = MetadataCommand::new();
    command.cargo_path(cargo_program());
    command.other_options(["--filter-platform".to_owned(), PLATFORM.to_owned()]);
    Ok(command.exec()?)
}

/// Finds the workspace's root folder and its target folder without resolving anything.
pub(crate) fn places() -> Result<Places, MetadataError> {
    let metadata = MetadataCommand::new()
        .cargo_path(cargo_program())
        .no_deps()
        .exec()?;
    Ok(Places {
        root: metadata.workspace_root.into_std_path_buf(),
        target: metadata.target_directory.into_std_path_buf(),
    })
}

/// Two folders every command needs.
pub(crate) struct Places {
    /// Where the virtual manifest lies.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
}

/// Made-up workspaces for the tests of the rules.
#[cfg(test)]
pub(crate) mod made_up {
    use cargo_metadata::{Metadata, MetadataCommand};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    /// The real members; each made-up workspace has them all.
    const MEMBERS: &[&str] = &[
        "memory_range",
        "inspect",
        "inspect_derive",
        "inspect_cli",
        "sparse_alloc",
        "region_manager",
        "mapping_manager",
        "partition_mapper",
        "guest_memory_manager",
        "xtask",
    ];

    /// A dependency on another package.
    #[derive(Copy, Clone)]
    pub(crate) struct Edge<'a> {
        to: &'a str,
        kind: Option<&'a str>,
        optional: bool,
        path: Option<&'a str>,
        feature: Option<&'a str>,
    }

    impl<'a> Edge<'a> {
        pub(crate) fn normal(to: &'a str) -> Self {
            Self {
                to,
                kind: None,
                optional: false,
                path: Some("/made_up"),
                feature: None,
            }
        }
        /// Asks for a feature: `use-name` switches the optional dependency `name` on, and `all` all.
        pub(crate) fn with(self, feature: &'a str) -> Self {
            Self {
                feature: Some(feature),
                ..self
            }
        }
        pub(crate) fn optional(to: &'a str) -> Self {
            Self {
                optional: true,
                ..Self::normal(to)
            }
        }
        pub(crate) fn dev(to: &'a str) -> Self {
            Self {
                kind: Some("dev"),
                ..Self::normal(to)
            }
        }
        pub(crate) fn build(to: &'a str) -> Self {
            Self {
                kind: Some("build"),
                ..Self::normal(to)
            }
        }
        pub(crate) fn registry(to: &'a str) -> Self {
            Self {
                path: None,
                ..Self::normal(to)
            }
        }
        pub(crate) fn outside(to: &'a str) -> Self {
            Self {
                path: Some("/elsewhere"),
                ..Self::normal(to)
            }
        }
    }

    fn id(name: &str) -> String {
        format!("path+file:///made_up/{name}#{name}@0.1.0")
    }

    /// Builds what `cargo metadata` would say of the real members, `more` members, and
    /// these edges.
    pub(crate) fn workspace(more: &[&str], edges: &[(&str, Edge<'_>)]) -> Metadata {
        let names: Vec<&str> = MEMBERS.iter().chain(more).copied().collect();
        let edges_of = |name: &str| {
            edges
                .iter()
                .filter(move |(from, _)| *from == name)
                .map(|(_, edge)| *edge)
                .collect::<Vec<_>>()
        };
        let packages: Vec<Value> = names
            .iter()
            .map(|name| {
                let dependencies: Vec<Value> = edges_of(name)
                    .iter()
                    .map(|edge| {
                        json!({
                            "name": edge.to, "source": null, "req": "*", "kind": edge.kind, "rename": null,
                            "optional": edge.optional, "uses_default_features": true, "features": edge.feature.as_slice(),
                            "target": null, "registry": null,
                            "path": edge.path.map(|folder| format!("{folder}/{}", edge.to)),
                        })
                    })
                    .collect();
                let edges = edges_of(name);
                let optional = edges.iter().filter(|edge| edge.optional);
                let mut features: BTreeMap<String, Vec<String>> = optional
                    .map(|edge| (format!("use-{}", edge.to), vec![format!("dep:{}", edge.to)]))
                    .collect();
                features.insert("all".to_owned(), features.keys().cloned().collect());
                json!({
                    "name": name, "version": "0.1.0", "id": id(name), "edition": "2024",
                    "dependencies": dependencies, "targets": [], "features": features,
                    "manifest_path": format!("/made_up/{name}/Cargo.toml"),
                })
            })
            .collect();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| {
                let edges = edges_of(name);
                let deps: Vec<Value> = edges
                    .iter()
                    .filter(|edge| names.contains(&edge.to))
                    .map(|edge| {
                        let kinds = [json!({"kind": edge.kind, "target": null})];
                        json!({"name": edge.to, "pkg": id(edge.to), "dep_kinds": kinds})
                    })
                    .collect();
                let dependencies: Vec<&Value> = deps.iter().map(|dep| &dep["pkg"]).collect();
                json!({"id": id(name), "deps": deps, "dependencies": dependencies, "features": []})
            })
            .collect();
        let document = json!({
            "packages": packages,
            "workspace_members": names.iter().map(|name| id(name)).collect::<Vec<_>>(),
            "resolve": {"nodes": nodes, "root": null},
            "workspace_root": "/made_up", "target_directory": "/made_up/target", "version": 1,
        });
        MetadataCommand::parse(document.to_string()).expect("a document as cargo writes it")
    }
}
