//! The OpenAPI document, written from the table of operations and from the types that are
//! answered.

use super::lines;
use super::operations::{Answer, OPERATIONS, Operation, Parameter};
use super::problem::Problem;
use crate::VERSION;
use crate::keeper::browse::StateFilter;
use crate::server::answer;
use crate::server::body::Body;
use bytes::Bytes;
use http::{Method, Response};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

pub(super) fn answer() -> Response<Body> {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec_pretty(&document()).unwrap_or_default().into());
    answer::plain(DOCUMENT.clone(), "application/json", "max-age=3600")
}

/// OpenAPI 3.1, whose schemas are JSON Schema 2020-12.
fn document() -> Value {
    let settings = || {
        SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
    };
    // What is optional when it is sent is always there when it is answered.
    let mut answered = settings().for_serialize().into_generator();
    let mut sent = settings().for_deserialize().into_generator();
    let problem = answered.subschema_for::<Problem>();
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_lowercase()] =
            described(operation, &mut answered, &mut sent);
    }
    let mut schemas = sent.take_definitions(true);
    schemas.extend(answered.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "opam-keep",
            "version": VERSION.number,
            "description": "What an opam-keep mirror has pinned, what it saw upstream, and what \
                            was decided about it. Lists have 50 items a page. Errors are problem \
                            details (RFC 9457).",
            "license": { "name": "ISC", "identifier": "ISC" },
        },
        "servers": [{ "url": "/api/v1" }],
        // Reading may be open.
        "security": [{}, { "bearer": [] }, { "basic": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "Any user name, and the token as the password",
                },
            },
            "responses": {
                "problem": {
                    "description": "What is wrong, and what to do about it",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
        },
    })
}

fn described(
    operation: &Operation,
    answered: &mut SchemaGenerator,
    sent: &mut SchemaGenerator,
) -> Value {
    let in_path = operation.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({ "name": name, "in": "path", "required": true, "schema": of_path(name) }))
    });
    let in_query = operation.query.iter().map(|parameter| parameter.described(sent));
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let (kind, schema) = match &operation.answer {
        Answer::Json(schema) => ("application/json", schema(answered)),
        Answer::Lines(schema) => (lines::CONTENT_TYPE, schema(answered)),
        Answer::Document => ("application/json", Schema::from(Map::from_iter([object()]))),
    };
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": match operation.answer {
                    Answer::Lines(_) => "One JSON value a line, as the work goes on",
                    Answer::Json(_) | Answer::Document => "The answer",
                },
                "content": { kind: { "schema": schema } },
            },
            "default": { "$ref": "#/components/responses/problem" },
        },
    });
    if let Some(schema) = operation.body {
        described["requestBody"] =
            json!({ "content": { "application/json": { "schema": schema(sent) } } });
    }
    if operation.method == Method::POST {
        described["security"] = json!([{ "bearer": [] }, { "basic": [] }]);
        described["description"] = json!("Needs an admin token.");
    }
    described
}

fn object() -> (String, Value) {
    ("type".to_owned(), json!("object"))
}

/// Names are texts and everything else is a ledger index.
fn of_path(name: &str) -> Value {
    match name {
        "id" | "entry" | "index" => json!({ "type": "integer", "minimum": 0 }),
        _ => json!({ "type": "string" }),
    }
}

impl Parameter {
    fn described(self, sent: &mut SchemaGenerator) -> Value {
        let (name, description, schema) = match self {
            Self::Query => ("q", "Words to search for", json!({ "type": "string" })),
            Self::Repository => {
                ("repository", "One repository; all without it", json!({ "type": "string" }))
            }
            Self::State => {
                ("state", "Which ones", Value::from(sent.subschema_for::<StateFilter>()))
            }
            Self::Page => (
                "page",
                "Which page of the list",
                json!({ "type": "integer", "minimum": 1, "maximum": 100_000, "default": 1 }),
            ),
        };
        json!({ "name": name, "in": "query", "description": description, "schema": schema })
    }
}
