//! mirror.toml, as tests need it.

use crate::world::World;
use std::net::SocketAddr;
use std::path::Path;
use toml::{Table, Value};

/// A mirror.toml in the making.
#[derive(Clone, Debug)]
pub struct Mirror {
    table: Table,
}

impl Mirror {
    /// Mirrors opam's own repository from `world`: every host that it has by now resolves to it,
    /// and its authority is trusted. Listens on any free port. Upstream's index is asked for at
    /// the start and then only when told.
    pub fn of(world: &World) -> Self {
        let resolve: Table = world
            .hosts()
            .into_iter()
            .map(|host| (host, Value::from(world.address().to_string())))
            .collect();
        Self { table: Table::new() }
            .set("server.listen", vec!["127.0.0.1:0"])
            .set("server.hostnames", vec!["localhost", "127.0.0.1"])
            .set("upstream.extra_ca", world.ca().display().to_string())
            .set("upstream.resolve", resolve)
            .repository("default", World::OPAM)
    }

    /// Sets `section.key`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let (section, key) = key.split_once('.').expect("a key is written section.key");
        let table = self.table.entry(section).or_insert_with(|| Table::new().into());
        let table = table.as_table_mut().expect("a section is a table");
        table.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a rule for edits of one package's version.
    pub fn rule_for(self, package: &str, kind: &str, rule: &str) -> Self {
        let mut rules = Table::from_iter([(kind.to_owned(), Value::from(rule))]);
        rules.insert("packages".to_owned(), vec![package].into());
        self.set("policy.override", vec![Value::from(rules)])
    }

    /// Has `host` resolve to `address` too.
    pub fn resolve(mut self, host: &str, address: SocketAddr) -> Self {
        let resolve =
            self.table.get_mut("upstream").and_then(|upstream| upstream.get_mut("resolve"));
        let resolve = resolve.and_then(Value::as_table_mut).expect("every mirror resolves hosts");
        resolve.insert(host.to_owned(), address.to_string().into());
        self
    }

    /// Adds a repository.
    pub fn repository(mut self, name: &str, upstream: &str) -> Self {
        let repository = [("name", name), ("upstream", upstream), ("refresh", "1h")]
            .map(|(key, value)| (key.to_owned(), Value::from(value)));
        self.repositories().push(Table::from_iter(repository).into());
        self
    }

    /// Sets a key of the repository that was added last.
    pub fn of_repository(mut self, key: &str, value: impl Into<Value>) -> Self {
        let last = self.repositories().last_mut().and_then(Value::as_table_mut);
        last.expect("a repository was added").insert(key.to_owned(), value.into());
        self
    }

    /// Adds a sink of alerts, `[[alert.KIND]]`, with these lines of TOML in it.
    pub fn sink(mut self, kind: &str, lines: &str) -> Self {
        let alert = self.table.entry("alert").or_insert_with(|| Table::new().into());
        let alert = alert.as_table_mut().expect("a section is a table");
        let sinks = alert.entry(kind).or_insert_with(|| Vec::<Value>::new().into());
        let sink: Table = lines.parse().expect("a sink is TOML");
        sinks.as_array_mut().expect("sinks are a list").push(sink.into());
        self
    }

    /// Adds a webhook of this name at `url`, whose secret lies in `world`'s directory.
    pub fn webhook(self, world: &World, name: &str, url: &str) -> Self {
        let secret = world.directory().join("webhook-secret");
        std::fs::write(&secret, SECRET).expect("a file can be written");
        let secret = secret.display();
        let lines = format!("name = \"{name}\"\nurl = \"{url}\"\nsecret_file = \"{secret}\"");
        self.sink("webhook", &lines)
    }

    /// The file, with everything kept at `store`.
    pub fn text(&self, store: &Path) -> String {
        self.clone().set("store.path", store.display().to_string()).table.to_string()
    }

    fn repositories(&mut self) -> &mut Vec<Value> {
        let list = self.table.entry("repository").or_insert_with(|| Vec::<Value>::new().into());
        list.as_array_mut().expect("repositories are a list")
    }
}

/// As the Standard Webhooks specification writes a key.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
