//! Alerts by HTTP: signed as the Standard Webhooks specification (standardwebhooks.com, 1.0.0)
//! says, or as Slack and Mattermost take them.

use super::secret::read_key;
use super::{Alert, DeliveryError, SinkError};
use crate::config::{self, WebhookBody};
use crate::upstream::{Posted, Poster};
use base64::Engine as _;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::json;
use sha2::Sha256;
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// A URL that takes alerts.
pub(super) struct Webhook {
    poster: Poster,
    key: Option<Zeroizing<Vec<u8>>>,
    body: WebhookBody,
}

impl Webhook {
    pub(super) fn new(
        settings: &config::Webhook,
        upstream: &config::Upstream,
    ) -> Result<Self, SinkError> {
        let url = settings.url.get_ref().expose();
        let key = settings.secret_file.as_ref().map(|file| read_key(file.get_ref())).transpose()?;
        let poster = Poster::new(url, upstream, settings.direct)?;
        Ok(Self { poster, key, body: settings.body })
    }

    pub(super) async fn deliver(&self, alert: &Alert) -> Result<(), DeliveryError> {
        let body = match self.body {
            WebhookBody::Standard => alert.to_json(),
            WebhookBody::Slack => json!({ "text": slack_text(alert) }),
        };
        let body = Bytes::from(body.to_string());
        let headers = self.headers(&alert.id, Timestamp::now().as_second(), &body);
        match self.poster.post(headers, body).await {
            Ok(posted) => judge(&posted, Timestamp::now()),
            Err(error) => Err(DeliveryError::unavailable(error.to_string())),
        }
    }

    fn headers(&self, id: &str, at: i64, body: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut insert = |name: HeaderName, value: String| {
            // Ids, numbers and base64 are header values.
            headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
        };
        insert(ID, id.to_owned());
        insert(TIMESTAMP, at.to_string());
        if let Some(key) = &self.key {
            insert(SIGNATURE, signature(key, id, at, body));
        }
        headers
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("body", &self.body).finish_non_exhaustive()
    }
}

/// The specification's symmetric signature: of id, time and body, with full stops between them.
fn signature(key: &[u8], id: &str, at: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{at}.").as_bytes());
    mac.update(body);
    let mac = mac.finalize().into_bytes();
    format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac))
}

/// What an answer means: the specification's "Deliverability and reliability".
fn judge(posted: &Posted, now: Timestamp) -> Result<(), DeliveryError> {
    let status = posted.status;
    let retry_after = posted.headers.get(RETRY_AFTER).and_then(|value| wait(value, now));
    let unavailable = || {
        let reason = format!("it answered {status}");
        DeliveryError::Unavailable { reason, retry_after }
    };
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Err(unavailable())
        }
        status if status.is_redirection() => Err(DeliveryError::refused(format!(
            "it answered {status}, and no redirect is followed: name the URL that it leads to"
        ))),
        status if status.is_client_error() => {
            Err(DeliveryError::refused(format!("it answered {status}")))
        }
        _ => Err(unavailable()),
    }
}

/// `Retry-After`, as seconds or as a date.
fn wait(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// One bold line and the rest as it is, with Slack's three special characters escaped.
fn slack_text(alert: &Alert) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // A star would end the bold line early, and backquotes the block.
    let title = escape(&alert.title).replace('*', "∗");
    let text = escape(&alert.text).replace("```", "'''");
    format!("*{title}*\n```\n{}\n```", text.trim_end())
}

const ID: HeaderName = HeaderName::from_static("webhook-id");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specifications_reference_libraries() {
        let key = base64::engine::general_purpose::STANDARD
            .decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn an_answer_says_whether_to_come_back() {
        let now: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        let judged = |status: u16, after: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.extend(after.map(|after| (RETRY_AFTER, after.parse().unwrap())));
            judge(&Posted { status: StatusCode::from_u16(status).unwrap(), headers }, now)
        };
        assert_eq!((judged(200, None), judged(204, None)), (Ok(()), Ok(())));
        for status in [301, 302, 307, 400, 401, 404, 410] {
            assert!(matches!(judged(status, None), Err(DeliveryError::Refused { .. })), "{status}");
        }
        for (after, seconds) in [
            (None, None),
            (Some("120"), Some(120)),
            (Some("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60)),
            (Some("Sun, 06 Nov 1994 08:48:37 GMT"), Some(0)),
            (Some("-1"), None),
            (Some("soon"), None),
        ] {
            for status in [408, 425, 429, 500, 503, 599] {
                let Err(DeliveryError::Unavailable { retry_after, .. }) = judged(status, after)
                else {
                    panic!("{status}");
                };
                assert_eq!(retry_after, seconds.map(Duration::from_secs), "{after:?}");
            }
        }
    }

    #[test]
    fn slack_gets_no_markup_from_upstream() {
        let alert = Alert {
            id: "i".to_owned(),
            kind: "test".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            title: "a*b <!channel>".to_owned(),
            text: "``` & <https://x|y>\n".to_owned(),
            data: json!({}),
        };
        let text = slack_text(&alert);
        assert_eq!(text, "*a∗b &lt;!channel&gt;*\n```\n''' &amp; &lt;https://x|y&gt;\n```");
    }
}
