//! A repository as opam itself fetches it: one `index.tar.gz` over HTTP.

use super::{Fetched, MAX_REVISION_LENGTH, RepositoryError, Revision};
use crate::digest::Sha256;
use crate::safe_url::SafeUrl;
use crate::upstream::{Client, Request, Response};
use bytes::BytesMut;

/// Fetches `index.tar.gz` from below a URL.
#[derive(Debug)]
pub(super) struct HttpSource {
    client: Client,
    index: SafeUrl,
}

impl HttpSource {
    pub(super) fn new(url: &SafeUrl, client: &Client) -> Result<Self, RepositoryError> {
        let mut index = url.expose().clone();
        index
            .path_segments_mut()
            .map_err(|()| RepositoryError::UnusableUrl {
                url: Box::new(url.clone()),
                reason: "there is nothing below such a URL",
            })?
            .pop_if_empty()
            .push("index.tar.gz");
        Ok(Self { client: client.clone(), index: index.into() })
    }

    pub(super) async fn fetch(&self, known: Option<&Revision>) -> Result<Fetched, RepositoryError> {
        let mut request = Request::new(self.index.clone(), MAX_INDEX_SIZE);
        if let Some(known) = known.map(Revision::as_str) {
            if let Some(etag) = known.strip_prefix(ETAG) {
                request = request.if_none_match(etag);
            } else if let Some(date) = known.strip_prefix(DATE) {
                request = request.if_modified_since(date);
            }
        }
        let mut response = self.client.get(request).await?;
        if response.is_not_modified() {
            return Ok(Fetched::Unchanged);
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = response.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        let revision = revision_of(&response, &bytes);
        // Bytes that came are looked at, also under a name that others had.
        if known == Some(&revision) && revision.as_str().starts_with(HASH) {
            return Ok(Fetched::Unchanged);
        }
        Ok(Fetched::Index { bytes: bytes.freeze(), revision })
    }
}

/// What upstream calls this state, or the hash of its bytes where upstream has no name for it.
fn revision_of(response: &Response, bytes: &[u8]) -> Revision {
    let named = |prefix: &str, name: &Option<String>| {
        let text = format!("{prefix}{}", name.as_deref()?);
        let fits = text.len() <= MAX_REVISION_LENGTH
            && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        fits.then_some(Revision(text))
    };
    named(ETAG, &response.etag)
        .or_else(|| named(DATE, &response.last_modified))
        .unwrap_or_else(|| Revision(format!("{HASH}{}", Sha256::of(bytes))))
}

const ETAG: &str = "etag:";
const DATE: &str = "date:";
const HASH: &str = "sha256:";
/// The largest known index has about 5 MB.
const MAX_INDEX_SIZE: u64 = 256 << 20;
