//! Versions that some clients take for one another, so that one can stand in for the other.

use super::package::Package;
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// Where a version is, of two states of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// In both.
    Both,
    /// Only in the later one.
    After,
    /// Only in the earlier one.
    Before,
    /// In neither, but once it was there.
    Once,
}

/// The versions that some clients take for one another, where there are several.
pub struct Alike<'a> {
    groups: HashMap<String, Vec<(Presence, &'a Package)>>,
    presence: HashMap<&'a Package, Presence>,
}

impl<'a> Alike<'a> {
    /// Those among `all` that concern any of `these`.
    pub fn of(these: &[&Package], all: Vec<(Presence, &'a Package)>) -> Self {
        let name = |package: &Package| package.name.as_str().to_ascii_lowercase();
        let names: HashSet<String> = these.iter().map(|package| name(package)).collect();
        let near = all.into_par_iter().filter(|(_, package)| names.contains(&name(package)));
        let near: Vec<_> = near.map(|it| (it.1.likeness(), it)).collect();
        let mut groups: HashMap<String, Vec<_>> = HashMap::new();
        for (likeness, it) in near {
            groups.entry(likeness).or_default().push(it);
        }
        groups.retain(|_, group| group.len() > 1);
        groups.values_mut().for_each(|group| group.sort_unstable());
        let presence = groups.values().flatten().map(|(presence, it)| (*it, *presence)).collect();
        Self { groups, presence }
    }

    /// The version that a new one could be taken for, or that could be taken for one that is gone.
    pub fn taken_for(&self, package: &Package) -> Option<&'a Package> {
        let presence = self.presence.get(package)?;
        let other = self.groups.get(&package.likeness())?.iter().find(|(_, it)| *it != package)?;
        let stands_in = match presence {
            Presence::After => true,
            Presence::Before => other.0 <= Presence::After,
            Presence::Both | Presence::Once => false,
        };
        stands_in.then_some(other.1)
    }

    /// All that are taken for one another, by one text for each of these groups.
    pub fn groups(&self) -> impl Iterator<Item = (&str, Vec<&'a Package>)> {
        self.groups
            .iter()
            .map(|(likeness, group)| (&**likeness, group.iter().map(|(_, it)| *it).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_stand_in_for_another_is_found_and_nothing_else() {
        let package = |text: &str| text.parse::<Package>().unwrap();
        let all = [
            (Presence::Both, "a.1"),
            (Presence::After, "a.01"),
            (Presence::Before, "b.1.0"),
            (Presence::After, "B.1.0"),
            (Presence::After, "c.2"),
            (Presence::Once, "c.2."),
            (Presence::Before, "d.1"),
            (Presence::Once, "d.1-0"),
            (Presence::Before, "d.01"),
            (Presence::After, "e.1"),
            (Presence::After, "e.1.1"),
            (Presence::After, "f.1"),
            (Presence::After, "f.01"),
        ];
        let all = all.map(|(presence, text)| (presence, package(text)));
        let these: Vec<&Package> = all.iter().map(|(_, package)| package).collect();
        let alike = Alike::of(&these, all.iter().map(|(at, package)| (*at, package)).collect());
        let found =
            all.iter().filter_map(|(_, package)| Some((package, alike.taken_for(package)?)));
        let found: Vec<String> =
            found.map(|(package, other)| format!("{package} {other}")).collect();
        let expected =
            ["a.01 a.1", "b.1.0 B.1.0", "B.1.0 b.1.0", "c.2 c.2.", "f.1 f.01", "f.01 f.1"];
        assert_eq!(found, expected);
    }
}
