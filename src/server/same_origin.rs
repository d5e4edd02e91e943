//! Whether a request that changes something comes from this server's own pages, and not from a
//! page of another site that a logged-in browser happens to show.

use super::listener::Speaks;
use http::header::{HOST, ORIGIN};
use http::request::Parts;

/// Whether the browser says that the request comes from here. One that says nothing at all is none
/// of those that send cookies along since 2020, and is not believed.
pub(super) fn comes_from_here(request: &Parts, speaks: &Speaks, public_url: &str) -> bool {
    let headers = &request.headers;
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if site.is_some_and(|site| site != b"same-origin") {
        return false;
    }
    match headers.get(ORIGIN) {
        Some(origin) => {
            origin.to_str().is_ok_and(|origin| is_here(origin, request, speaks, public_url))
        }
        None => site.is_some(),
    }
}

/// Whether nothing says that it comes from elsewhere: programs say nothing.
pub(super) fn comes_from_nowhere_else(request: &Parts, speaks: &Speaks, public_url: &str) -> bool {
    let headers = &request.headers;
    let is_browser = headers.contains_key("sec-fetch-site") || headers.contains_key(ORIGIN);
    !is_browser || comes_from_here(request, speaks, public_url)
}

fn is_here(origin: &str, request: &Parts, speaks: &Speaks, public_url: &str) -> bool {
    if origin.eq_ignore_ascii_case(public_url) {
        return true;
    }
    let Some((scheme, of_origin)) = origin.split_once("://") else { return false };
    let host = request.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or(request.uri.authority().map(|authority| authority.as_str()));
    is_scheme_of(scheme, speaks) && host.is_some_and(|host| host.eq_ignore_ascii_case(of_origin))
}

/// Whether a page that this server gave out may have that scheme.
fn is_scheme_of(scheme: &str, speaks: &Speaks) -> bool {
    let is = |name| scheme.eq_ignore_ascii_case(name);
    match speaks {
        Speaks::Https { .. } | Speaks::HttpForHttps => is("https"),
        // A proxy may speak HTTPS for this server.
        Speaks::Http => is("http") || is("https"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pairs: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::get("/login");
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_the_own_pages_are_here() {
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
            let request = request(pairs);
            let speaks = Speaks::Https { certificate: None };
            assert_eq!(comes_from_here(&request, &speaks, public), here, "{pairs:?}");
            assert_eq!(
                comes_from_nowhere_else(&request, &speaks, public),
                nowhere_else,
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn a_page_of_another_scheme_is_elsewhere() {
        for (origin, over_https, over_http) in [
            ("https://a", true, true),
            ("HTTPS://A", true, true),
            // A proxy may have spoken either for a server that speaks plain HTTP.
            ("http://a", false, true),
            ("x://a", false, false),
            ("://a", false, false),
            ("a", false, false),
        ] {
            let request = request(&[("host", "a"), ("origin", origin)]);
            let is_here = |speaks| comes_from_here(&request, &speaks, "https://mirror.example");
            assert_eq!(is_here(Speaks::Https { certificate: None }), over_https, "{origin}");
            assert_eq!(is_here(Speaks::Http), over_http, "{origin}");
        }
    }
}
