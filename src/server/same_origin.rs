//! Whether a request that changes something comes from this server's own pages, and not from a
//! page of another site that a logged-in browser happens to show.

use http::Uri;
use http::header::{HOST, HeaderMap, ORIGIN};

/// Whether the browser says that the request comes from here. One that says nothing at all is none
/// of those that send cookies along since 2020, and is not believed.
pub(super) fn comes_from_here(headers: &HeaderMap, uri: &Uri, public_url: &str) -> bool {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if site.is_some_and(|site| site != b"same-origin") {
        return false;
    }
    match headers.get(ORIGIN) {
        Some(origin) => {
            origin.to_str().is_ok_and(|origin| is_here(origin, headers, uri, public_url))
        }
        None => site.is_some(),
    }
}

/// Whether nothing says that it comes from elsewhere: programs say nothing.
pub(super) fn comes_from_nowhere_else(headers: &HeaderMap, uri: &Uri, public_url: &str) -> bool {
    let is_browser = headers.contains_key("sec-fetch-site") || headers.contains_key(ORIGIN);
    !is_browser || comes_from_here(headers, uri, public_url)
}

fn is_here(origin: &str, headers: &HeaderMap, uri: &Uri, public_url: &str) -> bool {
    if origin.eq_ignore_ascii_case(public_url) {
        return true;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or(uri.authority().map(|authority| authority.as_str()));
    let of_origin = origin.split_once("://").map(|(_, host)| host);
    matches!((host, of_origin), (Some(host), Some(origin)) if host.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_own_pages_are_here() {
        let uri: Uri = "/login".parse().unwrap();
        let public = "https://mirror.example";
        for (pairs, here, nowhere_else) in [
            (&[("host", "localhost:8443"), ("origin", "https://localhost:8443")][..], true, true),
            (&[("host", "a"), ("origin", "https://mirror.example")], true, true),
            (
                &[("host", "a"), ("origin", "https://a"), ("sec-fetch-site", "same-origin")],
                true,
                true,
            ),
            (&[("host", "a"), ("sec-fetch-site", "same-origin")], true, true),
            (
                &[("host", "a"), ("origin", "https://a"), ("sec-fetch-site", "same-site")],
                false,
                false,
            ),
            (&[("host", "a"), ("origin", "https://a"), ("sec-fetch-site", "none")], false, false),
            (&[("host", "a"), ("origin", "https://b")], false, false),
            (&[("host", "a"), ("origin", "https://a:444")], false, false),
            (&[("host", "a"), ("origin", "null")], false, false),
            (&[("host", "a")], false, true),
        ] {
            let headers = headers(pairs);
            assert_eq!(comes_from_here(&headers, &uri, public), here, "{pairs:?}");
            assert_eq!(comes_from_nowhere_else(&headers, &uri, public), nowhere_else, "{pairs:?}");
        }
    }
}
