//! What the lower layers must not bring along.
//!
//! Read from the graph that cargo resolved for the whole workspace. There features are
//! united over all members; which of the members' own optional dependencies someone gets
//! who depends on the one layer alone, with its default features, is worked out from their
//! manifests. Of other packages the united graph shows at least that: a pass is sound.

use std::collections::{HashMap, VecDeque};

use cargo_metadata::{DependencyKind, Metadata, Node, PackageId};

use crate::features::Features;

/// A crate and what its dependency tree must be free of.
struct Rule {
    member: &'static str,
    /// Not even in the tree of its tests, as `cargo tree -p` shows it.
    never: &'static [&'static str],
    /// Not in the crate itself; tests may (proptest asks libc for its seed).
    never_outside_tests: &'static [&'static str],
}

/// tokio and whatever talks to a hypervisor.
const RUNTIME_AND_KVM: &[&str] = &["tokio", "kvm-ioctls", "kvm-bindings", "vmm-sys-util"];
/// Whatever makes system calls.
const SYSTEM_CALLS: &[&str] = &["libc", "nix", "rustix", "memmap2"];

const RULES: &[Rule] = &[
    // Knows no host and no guest.
    Rule {
        member: "memory_range",
        never: RUNTIME_AND_KVM,
        never_outside_tests: SYSTEM_CALLS,
    },
    // Knows no guest.
    Rule {
        member: "sparse_alloc",
        never: RUNTIME_AND_KVM,
        never_outside_tests: &[],
    },
    // Pure: no pointer, no fd, no hypervisor, no system call.
    Rule {
        member: "region_manager",
        never: RUNTIME_AND_KVM,
        never_outside_tests: SYSTEM_CALLS,
    },
    // Knows no hypervisor; tokio may come with a feature.
    Rule {
        member: "mapping_manager",
        never: &["kvm-ioctls", "kvm-bindings"],
        never_outside_tests: &[],
    },
];

/// Libraries that one member alone may use directly, in its own code; others reach what
/// they need through it. Tests may create VMs of their own.
const ONE_USER: &[(&str, &str)] = &[
    ("kvm-ioctls", "partition_mapper"),
    ("kvm-bindings", "partition_mapper"),
];

/// What to do when the step fails.
pub(crate) const MEND: &str = "move what needs it to a higher layer, or make it a feature \
     that is off by default; `cargo tree -p <crate> -i <library>` shows who asks for it";

/// Lists each forbidden library that a layer reaches, with the way to it, and each that
/// has a user it must not have.
pub(crate) fn breaches(metadata: &Metadata) -> Vec<String> {
    let mut breaches = reached(metadata);
    breaches.extend(second_users(metadata));
    breaches
}

fn second_users(metadata: &Metadata) -> Vec<String> {
    let mut breaches = Vec::new();
    for member in metadata.workspace_packages() {
        for dependency in member
            .dependencies
            .iter()
            .filter(|d| d.kind != DependencyKind::Development)
        {
            let owner = ONE_USER
                .iter()
                .find(|(library, _)| *library == dependency.name);
            if let Some((library, owner)) =
                owner.filter(|(_, owner)| *owner != member.name.as_str())
            {
                breaches.push(format!(
                    "{} -> {library}: only {owner} may use it directly",
                    member.name
                ));
            }
        }
    }
    breaches
}

fn reached(metadata: &Metadata) -> Vec<String> {
    let Some(resolve) = &metadata.resolve else {
        return vec!["cargo metadata came without a resolved graph".to_owned()];
    };
    let nodes: HashMap<&PackageId, &Node> =
        resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let names: HashMap<&PackageId, &str> = metadata
        .packages
        .iter()
        .map(|p| (&p.id, p.name.as_str()))
        .collect();

    let mut breaches = Vec::new();
    for rule in RULES {
        let Some(member) = metadata
            .workspace_packages()
            .into_iter()
            .find(|p| p.name == rule.member)
        else {
            breaches.push(format!(
                "{} is not in the workspace, but RULES in xtask/src/purity.rs names it",
                rule.member
            ));
            continue;
        };
        let mut report = |forbidden: &[&str], with_tests: bool, note: &str| {
            let features = Features::of(metadata, member, with_tests);
            for way in ways(&nodes, &names, &features, &member.id, with_tests) {
                if way
                    .last()
                    .is_some_and(|library| forbidden.contains(library))
                {
                    breaches.push(format!("{}{note}", way.join(" -> ")));
                }
            }
        };
        report(rule.never, true, "");
        report(rule.never_outside_tests, false, " (tests alone may use it)");
    }
    breaches
}

/// The shortest way, as names, to each package that `start` reaches by normal and build
/// dependencies; its own dev-dependencies are followed `with_tests` (those of its
/// dependencies are never built).
fn ways<'a>(
    nodes: &HashMap<&'a PackageId, &'a Node>,
    names: &HashMap<&'a PackageId, &'a str>,
    features: &Features<'_>,
    start: &'a PackageId,
    with_tests: bool,
) -> Vec<Vec<&'a str>> {
    let name = |id: &PackageId| names.get(id).copied().unwrap_or("?");
    let mut reached: HashMap<&PackageId, Vec<&str>> = HashMap::from([(start, vec![name(start)])]);
    let mut queue = VecDeque::from([start]);
    let mut found = Vec::new();
    while let Some(id) = queue.pop_front() {
        let way = reached.get(id).cloned().unwrap_or_default();
        for dep in nodes.get(id).map_or(&[][..], |node| &node.deps) {
            let counts = |kind| kind != DependencyKind::Development || (with_tests && id == start);
            if !dep.dep_kinds.iter().any(|info| counts(info.kind))
                || reached.contains_key(&dep.pkg)
                || !features.uses(id, name(&dep.pkg))
            {
                continue;
            }
            let mut longer = way.clone();
            longer.push(name(&dep.pkg));
            found.push(longer.clone());
            reached.insert(&dep.pkg, longer);
            queue.push_back(&dep.pkg);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::made_up::{Edge, workspace};

    fn check(edges: &[(&str, Edge<'_>)]) -> Vec<String> {
        breaches(&workspace(
            &[
                "helper",
                "tokio",
                "kvm-ioctls",
                "vmm-sys-util",
                "libc",
                "nix",
            ],
            edges,
        ))
    }

    #[test]
    fn each_forbidden_library_is_found_also_far_away() {
        assert_eq!(
            check(&[("memory_range", Edge::normal("tokio"))]),
            ["memory_range -> tokio"]
        );
        assert_eq!(
            check(&[
                ("sparse_alloc", Edge::normal("helper")),
                ("helper", Edge::build("vmm-sys-util"))
            ]),
            ["sparse_alloc -> helper -> vmm-sys-util"]
        );
        assert_eq!(
            check(&[
                ("region_manager", Edge::normal("memory_range")),
                ("memory_range", Edge::normal("tokio"))
            ]),
            [
                "memory_range -> tokio",
                "region_manager -> memory_range -> tokio"
            ]
        );
    }

    #[test]
    fn a_layer_s_own_tests_count_but_not_those_of_its_dependencies() {
        assert_eq!(
            check(&[("sparse_alloc", Edge::dev("tokio"))]),
            ["sparse_alloc -> tokio"]
        );
        assert_eq!(
            check(&[
                ("sparse_alloc", Edge::normal("helper")),
                ("helper", Edge::dev("tokio"))
            ]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn system_calls_are_for_tests_only_where_a_layer_is_pure() {
        assert_eq!(
            check(&[("region_manager", Edge::dev("libc"))]),
            Vec::<String>::new()
        );
        assert_eq!(
            check(&[("region_manager", Edge::normal("libc"))]),
            ["region_manager -> libc (tests alone may use it)"]
        );
        assert_eq!(
            check(&[("sparse_alloc", Edge::normal("nix"))]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_feature_that_only_others_switch_on_is_off_for_a_layer() {
        let live = Edge::optional("nix");
        let base = [("memory_range", Edge::normal("inspect")), ("inspect", live)];
        let with = |edge| check(&[base[0], base[1], edge]);
        assert_eq!(
            with(("inspect_cli", Edge::normal("inspect").with("use-nix"))),
            Vec::<String>::new()
        );
        let breach = ["memory_range -> inspect -> nix (tests alone may use it)"];
        assert_eq!(
            with(("memory_range", Edge::normal("inspect").with("use-nix"))),
            breach
        );
        assert_eq!(
            with(("memory_range", Edge::normal("inspect").with("all"))),
            breach
        );
        // A layer's own tests may, where they may use the library at all.
        assert_eq!(
            with(("memory_range", Edge::dev("inspect").with("use-nix"))),
            Vec::<String>::new()
        );
        // By way of another member that the layer uses.
        assert_eq!(
            check(&[
                ("region_manager", Edge::normal("memory_range")),
                ("memory_range", Edge::normal("inspect").with("use-nix")),
                ("inspect", live),
            ]),
            [
                "memory_range -> inspect -> nix (tests alone may use it)",
                "region_manager -> memory_range -> inspect -> nix (tests alone may use it)",
            ]
        );
    }

    #[test]
    fn the_hypervisor_has_one_user_but_for_tests() {
        assert_eq!(
            check(&[("guest_memory_manager", Edge::optional("kvm-ioctls"))]),
            ["guest_memory_manager -> kvm-ioctls: only partition_mapper may use it directly"]
        );
        assert_eq!(
            check(&[("guest_memory_manager", Edge::dev("kvm-ioctls"))]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn higher_layers_may_and_cycles_through_tests_end() {
        assert_eq!(
            check(&[
                ("partition_mapper", Edge::normal("kvm-ioctls")),
                ("guest_memory_manager", Edge::normal("tokio")),
                ("inspect", Edge::normal("inspect_derive")),
                ("inspect_derive", Edge::dev("inspect")),
                ("memory_range", Edge::normal("inspect")),
            ]),
            Vec::<String>::new()
        );
    }
}
