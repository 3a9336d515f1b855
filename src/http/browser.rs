//! Requests that a browser makes for another site. A browser shows its user's certificate to whatever page sends it
//! here, so the certificate alone does not say that its owner asked. What a browser says about who asks (Fetch Metadata:
//! `Sec-Fetch-Site`; RFC 6454: `Origin`) does, and no page can change it. A client that is no browser sends neither.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};

/// A header of our own, which a page of another site cannot send without asking first (Fetch, CORS preflight), and
/// whoever asks is not answered.
const OWN: &str = "sallyport-page";

/// Whether a browser asks this for another site than this gateway. `document` is the one path to which others may link.
pub(super) fn asks_for_another(parts: &Parts, document: &str) -> bool {
    let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
    let is_ours = match (one(&parts.headers, "sec-fetch-site"), origin(parts)) {
        (Header::Twice, _) => return true,
        (Header::None, None) => return false,
        (Header::None, Some(is_ours)) => is_ours,
        (Header::Once("same-origin"), _) => true,
        // The user typed the address, or has it among the bookmarks.
        (Header::Once("none"), _) => is_read,
        (Header::Once(_), _) => is_link(parts, document),
    };
    !is_ours || (!is_read && !parts.headers.contains_key(OWN))
}

enum Header<'a> {
    None,
    Once(&'a str),
    Twice,
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Header<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Header::None,
        (Some(value), None) => value.to_str().map_or(Header::Twice, Header::Once),
        (Some(_), Some(_)) => Header::Twice,
    }
}

/// Whether the origin that is named, if one is, is the one that was asked.
fn origin(parts: &Parts) -> Option<bool> {
    let origin = match one(&parts.headers, "origin") {
        Header::None => return None,
        Header::Twice => return Some(false),
        Header::Once(origin) => origin,
    };
    let host = parts
        .uri
        .authority()
        .map(axum::http::uri::Authority::as_str);
    let host = host.or_else(|| parts.headers.get("host")?.to_str().ok());
    Some(host.is_some_and(|host| origin.strip_prefix("https://") == Some(host)))
}

/// Whether somebody followed a link to the page itself, in a window of its own.
fn is_link(parts: &Parts, document: &str) -> bool {
    let says =
        |name, wanted| matches!(one(&parts.headers, name), Header::Once(value) if value == wanted);
    parts.method == Method::GET
        && parts.uri.path() == document
        && says("sec-fetch-mode", "navigate")
        && says("sec-fetch-dest", "document")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;
    use axum::http::Request;

    fn asks(method: &str, path: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "gw.example:8443");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        asks_for_another(&request.body(()).unwrap().into_parts().0, "/auditor")
    }

    #[test]
    fn another_site_is_told_from_our_own_page_and_from_no_browser() {
        let (site, own) = ("sec-fetch-site", (OWN, "1"));
        let origin = |value| ("origin", value);
        assert!(!asks("POST", "/reviews/7", &[]), "no browser");
        assert!(!asks("GET", "/log/checkpoint", &[(site, "same-origin")]));
        assert!(!asks("GET", "/auditor", &[(site, "none")]));
        assert!(!asks("POST", "/reviews/7", &[(site, "same-origin"), own]));
        assert!(!asks(
            "POST",
            "/reviews/7",
            &[origin("https://gw.example:8443"), own]
        ));
        for headers in [
            &[(site, "cross-site"), own][..],
            &[(site, "same-site"), own],
            &[(site, "none"), own],
            &[(site, "same-origin")],
            &[(site, "same-origin"), (site, "cross-site"), own],
            &[origin("https://evil.example"), own],
            &[origin("http://gw.example:8443"), own],
            &[origin("null"), own],
            &[origin("https://gw.example:8443")],
        ] {
            assert!(asks("POST", "/reviews/7", headers), "{headers:?}");
        }
    }

    #[test]
    fn others_may_link_to_the_page_and_to_nothing_else() {
        let link = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert!(!asks("GET", "/auditor", &link));
        assert!(asks("GET", "/log/tile/entries/000", &link));
        assert!(asks("GET", "/auditor/state", &link));
        assert!(asks("POST", "/auditor", &link));
        let frame = [
            link.first().copied().unwrap(),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "iframe"),
        ];
        assert!(asks("GET", "/auditor", &frame));
    }
}
