//! All calls of the API, in the order in which the OpenAPI document has them.

use super::call::Call;
use super::deciding::{Decide, RecheckLine, RecheckWhat, RefreshedHere, SyncLine, SyncWhat};
use super::{EntryProof, LedgerEntry, LedgerHead};
use crate::keeper::Decided;
use crate::keeper::browse::{
    DivergencePage, Explained, Found, PackageDetails, SnapshotChanges, SnapshotPage, VersionDetails,
};
use crate::server::given::{
    entry, package_name, page_number, parameter, repository, state, version,
};
use crate::server::refusal::Refusal;
use crate::server::status::Status;
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// One call: how it is asked for, what it answers, and how a request for it is understood.
pub(super) struct Operation {
    /// Its name in clients that are made from the document.
    pub id: &'static str,
    pub method: Method,
    /// Below `/api/v1`; what stands in braces is given by who asks.
    pub path: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    pub query: &'static [Parameter],
    /// What is sent along, as JSON.
    pub body: Option<SchemaOf>,
    pub answer: Answer,
    /// Understands what stands in the braces, and the query.
    pub read: fn(&[&str], &str) -> Result<Call, Refusal>,
}

/// Writes a type's schema.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What is answered.
pub(super) enum Answer {
    /// One JSON value.
    Json(SchemaOf),
    /// Lines as they come, one JSON value each.
    Lines(SchemaOf),
    /// The OpenAPI document.
    Document,
}

/// What a query may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    /// Words to search for.
    Query,
    /// One repository's name.
    Repository,
    /// Which divergences.
    State,
    /// Which page of a list, from 1 on.
    Page,
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "getDocument",
        method: Method::GET,
        path: "/openapi.json",
        summary: "This document",
        query: &[],
        body: None,
        answer: Answer::Document,
        read: |_, _| Ok(Call::Document),
    },
    Operation {
        id: "getStatus",
        method: Method::GET,
        path: "/status",
        summary: "How repositories, rechecks, alerts and the store stand",
        query: &[],
        body: None,
        answer: Answer::Json(schema::<Status>),
        read: |_, _| Ok(Call::Status),
    },
    Operation {
        id: "searchPackages",
        method: Method::GET,
        path: "/packages",
        summary: "Packages with every word of the query in name or synopsis, the best first",
        query: &[Parameter::Query, Parameter::Repository, Parameter::Page],
        body: None,
        answer: Answer::Json(schema::<Found>),
        read: |_, query| {
            Ok(Call::Packages {
                repository: repository(query),
                query: parameter(query, "q").unwrap_or_default(),
                page: page_number(query)?,
            })
        },
    },
    Operation {
        id: "getPackage",
        method: Method::GET,
        path: "/repositories/{repository}/packages/{name}",
        summary: "A package and its versions, the newest first",
        query: &[],
        body: None,
        answer: Answer::Json(schema::<PackageDetails>),
        read: |given, _| {
            let name = package_name(nth(given, 1))?;
            Ok(Call::Package { repository: nth(given, 0).to_owned(), name })
        },
    },
    Operation {
        id: "getVersion",
        method: Method::GET,
        path: "/repositories/{repository}/packages/{name}/{package}",
        summary: "A version, given as name.version: its archives and pins, opam file, edits, \
                  dependents and divergences",
        query: &[],
        body: None,
        answer: Answer::Json(schema::<VersionDetails>),
        read: |given, _| {
            let package = version(nth(given, 1), nth(given, 2))?;
            Ok(Call::Version { repository: nth(given, 0).to_owned(), package })
        },
    },
    Operation {
        id: "refreshRepository",
        method: Method::POST,
        path: "/repositories/{repository}/refresh",
        summary: "Asks a repository's upstream now",
        query: &[],
        body: None,
        answer: Answer::Json(schema::<RefreshedHere>),
        read: |given, _| Ok(Call::Refresh(nth(given, 0).to_owned())),
    },
    Operation {
        id: "listDivergences",
        method: Method::GET,
        path: "/divergences",
        summary: "Divergences in one state, the newest first; the open ones unless said otherwise",
        query: &[Parameter::State, Parameter::Page],
        body: None,
        answer: Answer::Json(schema::<DivergencePage>),
        read: |_, query| Ok(Call::Divergences { filter: state(query)?, page: page_number(query)? }),
    },
    Operation {
        id: "getDivergence",
        method: Method::GET,
        path: "/divergences/{id}",
        summary: "A divergence with its explanation, diffs and decisions",
        query: &[],
        body: None,
        answer: Answer::Json(schema::<Explained>),
        read: |given, _| entry(nth(given, 0)).map(Call::Divergence),
    },
    Operation {
        id: "decideDivergence",
        method: Method::POST,
        path: "/divergences/{id}",
        summary: "Acknowledges or accepts a divergence, in the name of the token",
        query: &[],
        body: Some(schema::<Decide>),
        answer: Answer::Json(schema::<Decided>),
        read: |given, _| entry(nth(given, 0)).map(Call::Decide),
    },
    Operation {
        id: "listSnapshots",
        method: Method::GET,
        path: "/snapshots",
        summary: "Admitted states of repositories, the newest first",
        query: &[Parameter::Repository, Parameter::Page],
        body: None,
        answer: Answer::Json(schema::<SnapshotPage>),
        read: |_, query| {
            Ok(Call::Snapshots { repository: repository(query), page: page_number(query)? })
        },
    },
    Operation {
        id: "getSnapshot",
        method: Method::GET,
        path: "/snapshots/{entry}",
        summary: "A snapshot and the versions that it changed",
        query: &[],
        body: None,
        answer: Answer::Json(schema::<SnapshotChanges>),
        read: |given, _| entry(nth(given, 0)).map(Call::Snapshot),
    },
    Operation {
        id: "getLedger",
        method: Method::GET,
        path: "/ledger",
        summary: "The ledger's newest checkpoint, and the key that signs it",
        query: &[],
        body: None,
        answer: Answer::Json(schema::<LedgerHead>),
        read: |_, _| Ok(Call::Ledger),
    },
    Operation {
        id: "getEntry",
        method: Method::GET,
        path: "/ledger/entries/{index}",
        summary: "One entry of the ledger",
        query: &[],
        body: None,
        answer: Answer::Json(schema::<LedgerEntry>),
        read: |given, _| entry(nth(given, 0)).map(Call::Entry),
    },
    Operation {
        id: "getEntryProof",
        method: Method::GET,
        path: "/ledger/entries/{index}/proof",
        summary: "The proof that the ledger has an entry",
        query: &[],
        body: None,
        answer: Answer::Json(schema::<EntryProof>),
        read: |given, _| entry(nth(given, 0)).map(Call::Proof),
    },
    Operation {
        id: "recheck",
        method: Method::POST,
        path: "/recheck",
        summary: "Fetches again what is pinned, and tells what came of each URL as it is done",
        query: &[],
        body: Some(schema::<RecheckWhat>),
        answer: Answer::Lines(schema::<RecheckLine>),
        read: |_, _| Ok(Call::Recheck),
    },
    Operation {
        id: "sync",
        method: Method::POST,
        path: "/sync",
        summary: "Fetches archives ahead of time, and tells what became of each as it is done",
        query: &[],
        body: Some(schema::<SyncWhat>),
        answer: Answer::Lines(schema::<SyncLine>),
        read: |_, _| Ok(Call::Sync),
    },
];

/// What stands in the braces; the templates have as many as are asked for.
fn nth<'a>(given: &[&'a str], place: usize) -> &'a str {
    given.get(place).copied().unwrap_or_default()
}
