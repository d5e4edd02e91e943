//! The ledger as `opam-keep log --json` tells it.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Every entry, oldest first.
#[derive(Clone, Debug)]
pub struct Ledger {
    entries: Vec<Value>,
}

impl Ledger {
    /// Reads one JSON object a line.
    pub fn read(text: &str) -> Self {
        let line = |line: &str| -> Value {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        let mut entries: Vec<Value> = text.lines().map(line).collect();
        for (position, entry) in entries.iter().enumerate() {
            assert_eq!(entry["index"], position, "entries come in order and none is left out");
        }
        Self { entries: entries.iter_mut().map(|entry| entry["entry"].take()).collect() }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry at `index`.
    pub fn at(&self, index: usize) -> &Value {
        self.entries.get(index).unwrap_or_else(|| panic!("there is no entry {index}"))
    }

    /// Where the first entry is that `is_it` means.
    pub fn index_of(&self, is_it: impl FnMut(&Value) -> bool) -> usize {
        self.entries.iter().position(is_it).expect("there is such an entry")
    }

    /// Every entry of `kind`.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.entries.iter().filter(move |entry| entry["kind"] == kind)
    }

    /// Every pin of `url`: more than one only where a strong checksum vouched for the others.
    pub fn pins(&self, url: &str) -> Vec<&Value> {
        self.of_kind("pin").filter(|entry| entry["url"] == url).collect()
    }

    /// The one pin of `url`.
    pub fn pin(&self, url: &str) -> &Value {
        let pins = self.pins(url);
        assert_eq!(pins.len(), 1, "{url} is pinned once\n{:#?}", self.entries);
        pins[0]
    }

    /// Every divergence of `url`, whichever source it was seen at.
    pub fn divergences(&self, url: &str) -> Vec<&Value> {
        let about =
            |entry: &&Value| ["url", "src", "from"].into_iter().any(|field| entry[field] == url);
        self.of_kind("divergence").filter(about).collect()
    }

    /// The indices of pins to other bytes than their URL's first ones that nobody was told of before:
    /// no divergence is about the URL, and no edit of the package was accepted.
    pub fn untold(&self) -> Vec<usize> {
        let (mut first, mut told, mut accepted) =
            (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut untold = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            match entry["kind"].as_str() {
                Some("divergence") => drop(told.insert(entry["url"].to_string())),
                Some("decision") if entry["action"] == "accept" => {
                    let about = entry["divergence"].as_u64().expect("an index");
                    let packages = &self.at(usize::try_from(about).expect("a size"))["packages"];
                    let packages = packages.as_array().into_iter().flatten();
                    accepted.extend(packages.map(ToString::to_string));
                }
                Some("pin") => {
                    let url = entry["url"].to_string();
                    let bytes = first.entry(url.clone()).or_insert_with(|| entry["sha256"].clone());
                    let mut packages = entry["packages"].as_array().into_iter().flatten();
                    let is_told = told.contains(&url)
                        || packages.any(|package| accepted.contains(&package.to_string()));
                    if *bytes != entry["sha256"] && !is_told {
                        untold.push(index);
                    }
                }
                _ => {}
            }
        }
        untold
    }
}

/// Every sha256 that an entry's `evidence` names, however deep.
pub fn evidence(divergence: &Value) -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) if is_sha256(text) => found.push(text.clone()),
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            Value::Object(fields) => fields.values().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&divergence["evidence"], &mut found);
    found
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
