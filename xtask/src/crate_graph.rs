//! Which crate of the workspace may use which.
//!
//! The table below is the layering: a crate may use the crates beneath it that its row
//! names, and no others. Everything a manifest *declares* counts, so an optional or
//! platform-specific dependency is judged also while nothing switches it on.
//!
//! Dev-dependencies obey the same table: a layer is tested against fakes of its
//! neighbours, so its tests need no edge that the layer itself may not have. The one row
//! with more (`in_tests`) is the derive macro, which is tested by deriving.

use cargo_metadata::{Dependency, DependencyKind, Metadata};

/// One row of the table.
#[derive(Copy, Clone)]
struct Row {
    name: &'static str,
    /// May be used always.
    uses: &'static [&'static str],
    /// May be used only behind a feature (`optional = true`).
    uses_optionally: &'static [&'static str],
    /// May be used by tests, benches and examples besides.
    in_tests: &'static [&'static str],
}

impl Row {
    const fn new(name: &'static str, uses: &'static [&'static str]) -> Self {
        Self {
            name,
            uses,
            uses_optionally: &[],
            in_tests: &[],
        }
    }
}

const ALL_LAYERS: &[&str] = &[
    "memory_range",
    "inspect",
    "sparse_alloc",
    "region_manager",
    "mapping_manager",
    "partition_mapper",
    "guest_memory_manager",
];

const TABLE: &[Row] = &[
    Row {
        uses_optionally: &["inspect"],
        ..Row::new("memory_range", &[])
    },
    // The trait's crate re-exports its derive, as serde does; nobody else uses the derive crate.
    Row::new("inspect", &["inspect_derive"]),
    Row {
        in_tests: &["inspect"],
        ..Row::new("inspect_derive", &[])
    },
    // It draws what a tree says, also one of a VMM that was built from other layers than these.
    Row::new("inspect_cli", &["inspect"]),
    Row::new("sparse_alloc", &["memory_range", "inspect"]),
    Row::new("region_manager", &["memory_range", "inspect"]),
    Row::new(
        "mapping_manager",
        &["memory_range", "sparse_alloc", "inspect"],
    ),
    Row::new(
        "partition_mapper",
        &["memory_range", "sparse_alloc", "region_manager", "inspect"],
    ),
    Row::new(
        "guest_memory_manager",
        &[
            "memory_range",
            "inspect",
            "sparse_alloc",
            "region_manager",
            "mapping_manager",
            "partition_mapper",
        ],
    ),
    Row::new("xtask", &[]),
];

/// Crates that fit the stack into another ecosystem; they may use every layer, and none
/// of the layers may use them.
const ADAPTERS: &[&str] = &["vm_memory_adapter"];

/// What to do when the step fails.
pub(crate) const MEND: &str = "remove the dependency, or have the lower crate own a \
     trait that the upper one implements; a new crate gets a row in the table of xtask/src/crate_graph.rs";

fn row(name: &str) -> Option<Row> {
    let adapters = ADAPTERS.iter().map(|name| Row::new(name, ALL_LAYERS));
    let mut rows = TABLE.iter().copied().chain(adapters);
    rows.find(|row| row.name == name)
}

/// Lists every edge that the table does not allow, and every crate it does not know.
pub(crate) fn breaches(metadata: &Metadata) -> Vec<String> {
    let members = metadata.workspace_packages();
    let mut breaches = Vec::new();
    for member in &members {
        let Some(row) = row(&member.name) else {
            breaches.push(format!(
                "{} is not in the table of crates: give it a row that names what it may use \
                 (TABLE), or, if it fits the stack into another ecosystem, an entry among \
                 ADAPTERS, both in xtask/src/crate_graph.rs",
                member.name
            ));
            continue;
        };
        for dependency in &member.dependencies {
            let Some(path) = &dependency.path else {
                // From the registry: not a crate of this workspace, whatever its name.
                continue;
            };
            let inside = members
                .iter()
                .any(|m| m.manifest_path.parent() == Some(path.as_path()));
            if !inside {
                breaches.push(format!(
                    "{} -> {} ({path}) leads out of the workspace: a path dependency must be a member",
                    member.name, dependency.name
                ));
            } else if let Some(breach) = judge(&row, dependency) {
                breaches.push(breach);
            }
        }
    }
    breaches.sort();
    breaches.dedup();
    breaches
}

/// Judges one edge between two members.
fn judge(row: &Row, dependency: &Dependency) -> Option<String> {
    let to = dependency.name.as_str();
    let kind = match dependency.kind {
        DependencyKind::Normal => "",
        DependencyKind::Development => " (dev-dependency)",
        DependencyKind::Build => " (build-dependency)",
        _ => " (dependency of an unknown kind)",
    };
    let in_tests = dependency.kind == DependencyKind::Development;

    if row.uses.contains(&to) || (in_tests && row.in_tests.contains(&to)) {
        return None;
    }
    if row.uses_optionally.contains(&to) {
        if dependency.optional || in_tests {
            return None;
        }
        return Some(format!(
            "{} -> {to}{kind} must be optional: without its features the crate stands alone",
            row.name
        ));
    }
    let allowed = match row.uses {
        [] => "no other crate of the workspace".to_owned(),
        uses => format!("only {}", uses.join(", ")),
    };
    Some(format!(
        "{} -> {to}{kind} is not allowed: {} may use {allowed}",
        row.name, row.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::made_up::{Edge, workspace};

    fn check(edges: &[(&str, Edge<'_>)]) -> Vec<String> {
        breaches(&workspace(&[], edges))
    }

    #[test]
    fn the_table_is_a_layering() {
        // Each row uses only rows already settled; so no cycle can be allowed by mistake.
        let mut settled: Vec<&str> = Vec::new();
        while settled.len() < TABLE.len() {
            let ready = |row: &&Row| {
                !settled.contains(&row.name)
                    && row
                        .uses
                        .iter()
                        .chain(row.uses_optionally)
                        .all(|used| settled.contains(used))
            };
            let next = TABLE
                .iter()
                .find(ready)
                .expect("a cycle in the table, or a name that has no row");
            settled.push(next.name);
        }
        assert!(ALL_LAYERS.iter().all(|layer| settled.contains(layer)));
    }

    #[test]
    fn the_allowed_edges_pass() {
        let mut edges = vec![("memory_range", Edge::optional("inspect"))];
        for row in TABLE {
            edges.extend(row.uses.iter().map(|used| (row.name, Edge::normal(used))));
            edges.extend(row.uses.iter().map(|used| (row.name, Edge::dev(used))));
            edges.extend(row.in_tests.iter().map(|used| (row.name, Edge::dev(used))));
        }
        assert_eq!(check(&edges), Vec::<String>::new());
    }

    #[test]
    fn every_other_edge_between_two_crates_fails_whatever_its_kind() {
        for from in TABLE {
            for to in TABLE {
                if from.name == to.name || from.uses.contains(&to.name) {
                    continue;
                }
                let optional_is_fine = from.uses_optionally.contains(&to.name);
                let dev_is_fine = optional_is_fine || from.in_tests.contains(&to.name);
                assert_eq!(
                    check(&[(from.name, Edge::normal(to.name))]).len(),
                    1,
                    "{} -> {}",
                    from.name,
                    to.name
                );
                assert_eq!(
                    check(&[(from.name, Edge::build(to.name))]).len(),
                    1,
                    "{} -> {}",
                    from.name,
                    to.name
                );
                let optional = check(&[(from.name, Edge::optional(to.name))]);
                assert_eq!(optional.is_empty(), optional_is_fine, "{optional:?}");
                let dev = check(&[(from.name, Edge::dev(to.name))]);
                assert_eq!(dev.is_empty(), dev_is_fine, "{dev:?}");
            }
        }
    }

    #[test]
    fn a_breach_names_the_edge_and_what_would_be_allowed() {
        assert_eq!(
            check(&[("mapping_manager", Edge::normal("region_manager"))]),
            ["mapping_manager -> region_manager is not allowed: \
                 mapping_manager may use only memory_range, sparse_alloc, inspect"]
        );
        assert_eq!(
            check(&[("xtask", Edge::dev("memory_range"))]),
            ["xtask -> memory_range (dev-dependency) is not allowed: \
                 xtask may use no other crate of the workspace"]
        );
        assert_eq!(
            check(&[("memory_range", Edge::normal("inspect"))]),
            [
                "memory_range -> inspect must be optional: without its features the crate stands alone"
            ]
        );
    }

    #[test]
    fn a_crate_that_is_not_in_the_table_is_an_error_that_says_what_to_do() {
        let breaches = breaches(&workspace(&["snapshot"], &[]));
        assert_eq!(breaches.len(), 1);
        assert!(
            breaches[0].starts_with("snapshot is not in the table")
                && breaches[0].contains("ADAPTERS")
        );
    }

    #[test]
    fn a_registry_crate_of_the_same_name_is_no_layer() {
        assert_eq!(
            check(&[("xtask", Edge::registry("inspect"))]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_path_out_of_the_workspace_fails() {
        let breaches = check(&[("guest_memory_manager", Edge::outside("elsewhere"))]);
        assert_eq!(breaches.len(), 1);
        assert!(
            breaches[0].contains("leads out of the workspace"),
            "{breaches:?}"
        );
    }
}
