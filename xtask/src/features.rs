//! Which optional dependencies come along with one layer alone.
//!
//! Cargo resolves the workspace as one, where a feature that any member switches on is on for all. So
//! a program on top would bring its libraries into the graph of the layers below.

use std::collections::{HashMap, HashSet};

use cargo_metadata::{Dependency, DependencyKind, Metadata, Package, PackageId};

/// The features of members that are on for someone who depends on one of them alone, with its
/// default features.
pub(crate) struct Features<'a> {
    members: HashMap<&'a str, &'a Package>,
    layer: &'a str,
    with_tests: bool,
    /// The features that are on, and `dep:name` for dependencies, of each member that is reached.
    on: HashMap<&'a str, HashSet<String>>,
}

impl<'a> Features<'a> {
    pub(crate) fn of(metadata: &'a Metadata, layer: &'a Package, with_tests: bool) -> Self {
        let members = metadata.workspace_packages().into_iter();
        let mut features = Self {
            members: members
                .map(|member| (member.name.as_str(), member))
                .collect(),
            layer: layer.name.as_str(),
            with_tests,
            on: HashMap::new(),
        };
        let mut asked = vec![(features.layer, "default".to_owned())];
        while let Some((name, feature)) = asked.pop() {
            let Some(&member) = features.members.get(name) else {
                continue;
            };
            let first = !features.on.contains_key(name);
            let is_new = features.on.entry(name).or_default().insert(feature.clone());
            if is_new {
                let implied = member.features.get(&feature).into_iter().flatten();
                asked.extend(implied.flat_map(|item| features.implied(member, item)));
            }
            if first || is_new {
                asked.extend(features.asked_of_others(member));
            }
        }
        features
    }

    /// What an item in the list of a feature asks for.
    fn implied(&self, member: &'a Package, item: &str) -> Vec<(&'a str, String)> {
        let own = member.name.as_str();
        match item.split_once('/') {
            None => vec![(own, item.to_owned())],
            Some((dependency, feature)) => {
                let weak = dependency.ends_with('?');
                let dependency = dependency.trim_end_matches('?');
                let switches_on = (own, format!("dep:{dependency}"));
                let other = self.members.get_key_value(dependency);
                let other = other.map(|(name, _)| (*name, feature.to_owned()));
                let own = (!weak).then_some(switches_on);
                own.into_iter().chain(other).collect()
            }
        }
    }

    /// What a member's dependencies on other members ask for.
    fn asked_of_others(&self, member: &'a Package) -> Vec<(&'a str, String)> {
        let others = member.dependencies.iter().filter(|dependency| {
            dependency.path.is_some() && self.is_on(member.name.as_str(), dependency)
        });
        let asked = others.flat_map(|dependency| {
            let default = dependency
                .uses_default_features
                .then(|| "default".to_owned());
            // An empty feature is none, but makes the member known as reached.
            let all = dependency
                .features
                .iter()
                .cloned()
                .chain(default)
                .chain([String::new()]);
            let name = self.members.get_key_value(dependency.name.as_str());
            let name = name.map(|(name, _)| *name);
            all.filter_map(move |feature| Some((name?, feature)))
        });
        asked.collect()
    }

    fn is_on(&self, member: &str, dependency: &Dependency) -> bool {
        let in_tests = self.with_tests && member == self.layer;
        if dependency.kind == DependencyKind::Development && !in_tests {
            return false;
        }
        let name = dependency.rename.as_ref().unwrap_or(&dependency.name);
        let on = self.on.get(member);
        !dependency.optional || on.is_some_and(|on| on.contains(&format!("dep:{name}")))
    }

    /// Tells whether the package `from` really uses the library `to`. Of packages that are no members
    /// only the workspace as a whole is known, so what it says stands.
    pub(crate) fn uses(&self, from: &PackageId, to: &str) -> bool {
        let Some((name, member)) = self.members.iter().find(|(_, member)| member.id == *from)
        else {
            return true;
        };
        let mut dependencies = member.dependencies.iter().filter(|one| one.name == to);
        dependencies.any(|dependency| self.is_on(name, dependency))
    }
}
