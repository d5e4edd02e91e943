//! A request's head: understood in one way, or refused with a status that is meant for it.

use http::{HeaderMap, HeaderValue, Method, Uri, Version, header::HOST};
use opam_keep::server::understood;

/// Method and target as a request's first line has them.
pub fn request_target(bytes: &[u8]) {
    let Ok(line) = std::str::from_utf8(bytes) else { return };
    let Some((method, uri)) = line.split_once(' ') else { return };
    let (Ok(method), Ok(uri)) = (method.parse::<Method>(), uri.parse::<Uri>()) else { return };
    let ask = |uri: &Uri, version| {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("localhost"))]);
        understood(&method, uri, version, &headers)
    };
    let target = ask(&uri, Version::HTTP_11);
    assert_eq!(ask(&uri, Version::HTTP_11), target);
    match &target {
        Ok(_) => assert_eq!(ask(&uri, Version::HTTP_2), target),
        Err(status) => assert!([400, 404, 405, 414].contains(&status.as_u16()), "{status}"),
    }
    let dots = uri.path().split('/').any(|segment| matches!(segment, "." | ".."));
    assert!(!(dots && target.is_ok()));
    // opam keeps doubled slashes of a configured URL, so they mean nothing.
    let doubled = uri.to_string().replacen(uri.path(), &uri.path().replace('/', "//"), 1);
    if let (None, true, Ok(doubled)) =
        (uri.authority(), doubled.len() < LONGEST, doubled.parse::<Uri>())
    {
        assert_eq!(ask(&doubled, Version::HTTP_11), target);
    }
    assert!(understood(&method, &uri, Version::HTTP_11, &HeaderMap::new()).is_err());
}

/// Longer paths are refused for their length.
const LONGEST: usize = 1_000;
