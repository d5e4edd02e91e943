//! One alert, as every sink is given it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Something that people should know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Always the same for the same thing; of letters, digits and `_`.
    pub id: String,
    /// What happened, in words with full stops between them: `divergence.mismatch`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened.
    pub at: Timestamp,
    /// The same in one line.
    pub title: String,
    /// The same for a person to read, in short lines.
    pub text: String,
    /// The same for a program to read.
    pub data: Value,
}

impl Alert {
    /// The event as JSON, as the Standard Webhooks specification shapes it, with the id and the
    /// words for people added.
    pub fn to_json(&self) -> Value {
        let Self { id, kind, at, title, text, data } = self;
        let at = at.to_string();
        json!({
            "id": id, "type": kind, "timestamp": at, "title": title, "text": text, "data": data,
        })
    }
}
