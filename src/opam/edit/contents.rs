//! What an opam file says, read into what can be compared.

use super::EditKind;
use super::canonical::{canonical, list, quoted};
use super::fact::{Fact, Facts, refused};
use super::field::{FieldRule, is_extension, rule};
use super::shape::Shape;
use super::source::{self, Source};
use crate::opam::syntax::{Field, Item, OpamFile, Section, ValueKind};
use crate::opam::{Package, archive_sources};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that an opam file says.
#[derive(Debug, Default)]
pub(super) struct Contents {
    facts: Facts,
    flags: BTreeSet<String>,
    main: Option<Source>,
    /// By name; several of one name only where opam refuses that.
    extra: BTreeMap<String, Vec<Source>>,
}

impl Contents {
    /// Reads a whole file. What opam would refuse is noted, not left out.
    pub(super) fn read(package: &Package, file: &OpamFile) -> Self {
        let mut contents = Self::default();
        for item in file.items() {
            match item {
                Item::Field(field) if is_own_name(package, field) => {}
                Item::Field(field) => contents.read_field(item, field),
                Item::Section(section) => contents.read_section(item, section),
            }
        }
        if !contents.flags.is_empty() {
            let flags: Vec<String> = std::mem::take(&mut contents.flags).into_iter().collect();
            contents.facts.say(EditKind::Constraints, "flags", list(&flags));
        }
        contents.check_format(file);
        contents.check_duplicates(file);
        if let Err(error) = archive_sources(file) {
            contents.facts.problem(error.to_string());
        }
        contents
    }

    /// Takes the source from a `url` file (before opam 2.0) where the opam file has none; says
    /// whether it did.
    pub(super) fn read_url_file(&mut self, url: &[u8]) -> bool {
        let file = of_url_file(url);
        match file.as_ref().and_then(|file| file.items().first()) {
            // opam reads it all the same.
            Some(Item::Section(_)) if self.main.is_some() => false,
            Some(Item::Section(section)) => {
                self.main = Some(Source::read("url", section, &mut self.facts));
                true
            }
            _ => {
                self.facts.problem("the file \"url\" beside the opam file can't be read".into());
                false
            }
        }
    }

    /// What opam would refuse; none if it would refuse nothing.
    pub(super) fn problems(&self) -> Option<String> {
        self.facts.problems()
    }

    /// The lines that are not the same in both states, by kind.
    pub(super) fn differences(&self, after: &Self) -> Vec<(EditKind, Fact)> {
        let mut differences = self.facts.differences(&after.facts);
        let (old, new) = (self.main.as_ref(), after.main.as_ref());
        differences.extend(source::compare("url", old, new, EditKind::SourceRewritten));
        let names: BTreeSet<&String> = self.extra.keys().chain(after.extra.keys()).collect();
        for name in names {
            let label = format!("extra-source {name}");
            let all = |contents: &Self| contents.extra.get(name).cloned().unwrap_or_default();
            let (old, new) = (all(self), all(after));
            for at in 0..old.len().max(new.len()) {
                let (old, new) = (old.get(at), new.get(at));
                differences.extend(source::compare(&label, old, new, EditKind::ExtraSource));
            }
        }
        differences
    }

    /// What would be fetched, and what for: for a version that comes or goes as a whole.
    pub(super) fn summary(&self) -> Vec<(String, String)> {
        let synopsis = self.facts.said("synopsis");
        let mut summary: Vec<(String, String)> =
            synopsis.map(|text| ("synopsis".to_owned(), text.to_owned())).into_iter().collect();
        summary.extend(self.main.iter().flat_map(|source| source.said("url")));
        for (name, sources) in &self.extra {
            let label = format!("extra-source {name}");
            summary.extend(sources.iter().flat_map(|source| source.said(&label)));
        }
        summary
    }

    fn read_field(&mut self, item: &Item, field: &Field) {
        let Some(rule) = rule(&field.name) else {
            return match is_extension(&field.name) {
                true => self.say(EditKind::Description, field),
                false => self.facts.unknown("", item),
            };
        };
        if matches!(rule.name, "flags" | "tags")
            && let Some(words) = rule.shape.elements(&field.value)
        {
            return self.read_flags_and_tags(rule, words);
        }
        match rule.shape.read(&field.value) {
            Ok(Some(text)) => self.facts.say(rule.kind, rule.name, text),
            Ok(None) => {}
            Err(error) => {
                self.facts.problem(format!("{}: {error}", rule.name));
                self.facts.say(rule.kind, rule.name, refused(&field.value));
            }
        }
    }

    fn say(&mut self, kind: EditKind, field: &Field) {
        self.facts.say(kind, &field.name.to_string(), canonical(&field.value));
    }

    /// A tag `flags:x` is a flag (`opamFile.ml`: `flag_of_tag`).
    fn read_flags_and_tags(&mut self, rule: FieldRule, words: Vec<String>) {
        let mut tags = Vec::new();
        for word in words {
            let flag = word.strip_prefix("\"flags:").map(|flag| flag.trim_end_matches('"'));
            match flag {
                None if rule.name == "tags" => tags.push(word),
                _ => {
                    self.flags.insert(flag.unwrap_or(&word).to_owned());
                }
            }
        }
        if !tags.is_empty() {
            self.facts.say(rule.kind, rule.name, list(&tags));
        }
    }

    fn read_section(&mut self, item: &Item, section: &Section) {
        if section.kind == *"url" && self.main.is_none() {
            if let Some(label) = &section.label {
                self.facts.problem("url: it should have no label".into());
                self.facts.say(EditKind::Build, "url label", quoted(label.as_bytes()));
            }
            self.main = Some(Source::read("url", section, &mut self.facts));
        } else if section.kind == *"extra-source" {
            let name = section.label.as_ref().map_or(&b""[..], |label| label.as_bytes());
            let name = quoted(name.strip_prefix(b"./").unwrap_or(name));
            let source = Source::read(&format!("extra-source {name}"), section, &mut self.facts);
            self.extra.entry(name).or_default().push(source);
        } else {
            self.facts.unknown("", item);
        }
    }

    fn check_format(&mut self, file: &OpamFile) {
        match is_of_a_readable_format(file) {
            Some(true) => {}
            Some(false) => self.facts.problem(OTHER_FORMAT.into()),
            None => self.facts.problem(NO_FORMAT.into()),
        }
    }

    /// Of two fields or sections where opam allows one, clients disagree about which counts.
    fn check_duplicates(&mut self, file: &OpamFile) {
        let mut names = BTreeSet::new();
        for item in file.items() {
            let Item::Field(field) = item else { continue };
            let Some(rule) = rule(&field.name) else { continue };
            if !names.insert(rule.name) {
                self.facts.several(rule.kind, rule.name);
            }
        }
        for (name, sources) in &self.extra {
            if sources.len() > 1 {
                self.facts.problem(format!("extra-source {name}: it is there several times"));
            }
        }
    }
}

/// Whether some opam may read nothing of a repository that has this opam file, or this `url` file
/// beside one: it can't be parsed (2.6 reads none with a number beyond 63 bits), or says no format, or
/// another one (2.1 reads none above 2.0).
pub fn stops_clients(opam: &[u8], url: Option<&[u8]>) -> bool {
    let file = OpamFile::parse(opam);
    let is_readable = file.is_ok_and(|file| is_of_a_readable_format(&file) == Some(true));
    !is_readable || url.is_some_and(|url| of_url_file(url).is_none())
}

/// The one section that a `url` file stands for: its fields are those of that.
fn of_url_file(url: &[u8]) -> Option<OpamFile> {
    let file = OpamFile::parse(&[b"url {\n", url, b"\n}"].concat()).ok()?;
    matches!(file.items(), [Item::Section(_)]).then_some(file)
}

/// `None` where the file does not say what it is of.
fn is_of_a_readable_format(file: &OpamFile) -> Option<bool> {
    let version = Shape::Text.read(&file.field("opam-version")?.value);
    let is_readable = |version: &str| READABLE_FORMATS.contains(&version.trim_matches('"'));
    Some(matches!(version, Ok(Some(version)) if is_readable(&version)))
}

/// Whether the field says nothing but what the directory is called, by which opam goes.
fn is_own_name(package: &Package, field: &Field) -> bool {
    let ValueKind::String(text) = &field.value.kind else { return false };
    (field.name == *"name" && *text == *package.name.as_str())
        || (field.name == *"version" && *text == *package.version.as_str())
}

/// The versions of the format that opam 2.1 to 2.6 read: of any other one, 2.1 takes no update at all.
const READABLE_FORMATS: [&str; 5] = ["1", "1.0", "1.1", "1.2", "2.0"];
const OTHER_FORMAT: &str = "opam-version: it is none up to 2.0, so that opam 2.1 reads nothing of a \
                            repository that has it";
const NO_FORMAT: &str = "there is no 'opam-version', so that opam may read nothing of a repository \
                         that has it";
