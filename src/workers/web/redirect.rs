//! What a redirect makes of a request (contract 05 §4.1, weaknesses 3 and 4).

use bytes::Bytes;
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, StatusCode};
use url::Url;

use super::reply::Failure;
use super::{headers, target};

/// A request on its way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
}

/// Where a response sends its reader; `None` when it is the result itself.
pub(super) fn location(status: StatusCode, answered: &HeaderMap, url: &Url) -> Option<Result<Url, Failure>> {
    if !status.is_redirection() {
        return None;
    }
    let location = headers::text(answered.get(LOCATION)?);
    Some(match url.join(&location) {
        Ok(next) => Ok(next),
        Err(error) => Err(Failure::transport(format!(
            "the redirect leads to no URL: {error}"
        ))),
    })
}

impl Outgoing {
    /// The request to the place that the answer to this one named. Credentials in that URL are not used: they are not the
    /// caller's.
    pub(super) fn redirected(mut self, status: StatusCode, mut next: Url) -> Self {
        // Only refused for URLs that have no place for them.
        if next
            .set_username("")
            .and_then(|()| next.set_password(None))
            .is_err()
        {
            return Self { url: next, ..self };
        }
        let is_downgrade = self.url.scheme() == "https" && next.scheme() == "http";
        if is_downgrade || target::authority(&self.url) != target::authority(&next) {
            headers::drop_secrets(&mut self.headers);
        }
        let becomes_get = match status {
            StatusCode::SEE_OTHER => self.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            self.method = Method::GET;
            self.body = None;
            headers::drop_content(&mut self.headers);
        }
        self.url = next;
        self
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;

    fn request(method: &str, url: &str) -> Outgoing {
        let headers = [
            ("accept", "a"),
            ("authorization", "b"),
            ("content-type", "c"),
            ("content-language", "d"),
            ("cookie", "e"),
            ("proxy-authorization", "f"),
            ("x-api-key", "g"),
        ];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Outgoing {
            method: method.parse().unwrap(),
            url: Url::parse(url).unwrap(),
            headers: HeaderMap::from_iter(headers),
            body: Some("x".into()),
        }
    }

    fn after(method: &str, status: u16, from: &str, to: &str) -> (String, Vec<String>, bool) {
        let status = StatusCode::from_u16(status).unwrap();
        let next = request(method, from).redirected(status, Url::parse(to).unwrap());
        let names = next.headers.keys().map(|name| name.as_str().to_owned()).collect();
        (next.method.to_string(), names, next.body.is_some())
    }

    #[test]
    fn w3_methods_and_bodies() {
        for (method, status, expected, keeps_body) in [
            ("POST", 301, "GET", false),
            ("POST", 302, "GET", false),
            ("POST", 303, "GET", false),
            ("POST", 307, "POST", true),
            ("POST", 308, "POST", true),
            ("PUT", 301, "PUT", true),
            ("PUT", 302, "PUT", true),
            ("PUT", 303, "GET", false),
            ("DELETE", 303, "GET", false),
            ("HEAD", 303, "HEAD", true),
            ("GET", 303, "GET", false),
            ("PATCH", 308, "PATCH", true),
            ("POST", 300, "POST", true),
        ] {
            let (became, names, has_body) = after(method, status, "http://h/", "http://h/b");
            assert_eq!(
                (became.as_str(), has_body),
                (expected, keeps_body),
                "{method} {status}"
            );
            assert_eq!(
                names.iter().any(|name| name.starts_with("content-")),
                keeps_body,
                "{method} {status}"
            );
        }
    }

    #[test]
    fn c05_case_22_secrets_stay_with_their_host() {
        let kept = [
            "accept",
            "authorization",
            "content-language",
            "content-type",
            "cookie",
            "proxy-authorization",
            "x-api-key",
        ];
        let stripped = ["accept", "content-language", "content-type"];
        for (from, to, keeps) in [
            ("http://h/", "http://h/b", true),
            ("http://h/", "https://h/", true),
            ("http://h:80/", "http://h/", true),
            ("https://h/", "https://h:443/b", true),
            ("https://h/", "http://h/", false),
            ("http://h/", "http://g/", false),
            ("http://h/", "http://sub.h/", false),
            ("http://h:1/", "http://h:2/", false),
            ("http://h/", "http://h:8080/", false),
        ] {
            let (_, mut names, _) = after("GET", 307, from, to);
            names.sort();
            let expected: &[&str] = if keeps { &kept } else { &stripped };
            assert_eq!(names, expected, "{from} -> {to}");
        }
    }

    #[test]
    fn credentials_of_a_location_are_not_used() {
        let next =
            request("GET", "http://h/").redirected(StatusCode::FOUND, "http://u:p@h/".parse().unwrap());
        assert_eq!(next.url.as_str(), "http://h/");
    }

    #[test]
    fn only_a_3xx_with_a_location_leads_on() {
        let url = Url::parse("http://h/a/b?c").unwrap();
        let to = |status: u16, name: Option<&str>| {
            let headers = HeaderMap::from_iter(name.map(|name| (LOCATION, name.parse().unwrap())));
            let found = location(StatusCode::from_u16(status).unwrap(), &headers, &url)?;
            Some(found.map(String::from).map_err(|failure| failure.message))
        };
        assert_eq!(to(200, Some("/x")), None);
        assert_eq!(to(302, None), None);
        for (location, expected) in [
            ("/x", "http://h/x"),
            ("x", "http://h/a/x"),
            ("//g/x", "http://g/x"),
            ("?y", "http://h/a/b?y"),
            ("https://g:8/", "https://g:8/"),
            ("file:///etc/passwd", "file:///etc/passwd"),
            ("", "http://h/a/b?c"),
        ] {
            assert_eq!(to(302, Some(location)), Some(Ok(expected.into())), "{location}");
        }
        let wrong = "the redirect leads to no URL: invalid port number".to_owned();
        assert_eq!(to(302, Some("http://h:99999/")), Some(Err(wrong)));
    }

    proptest! {
        /// A secret never comes back, however many hops follow.
        #[test]
        fn what_was_stripped_stays_stripped(hops in proptest::collection::vec((0..4_usize, 0..4_usize), 1..8)) {
            let hosts = ["http://h/", "http://g/", "https://h/", "http://h:8/"];
            let statuses = [301, 302, 307, 308].map(|status| StatusCode::from_u16(status).unwrap());
            let mut request = request("POST", "http://h/");
            let mut stripped = false;
            for (host, status) in hops {
                let next = Url::parse(hosts[host]).unwrap();
                let same = request.url.host_str() == next.host_str() && request.url.port() == next.port();
                stripped |= !same || (request.url.scheme() == "https" && next.scheme() == "http");
                request = request.redirected(statuses[status], next);
                prop_assert_eq!(request.headers.contains_key("authorization"), !stripped);
                prop_assert_eq!(request.headers.contains_key("x-api-key"), !stripped);
                prop_assert!(request.headers.contains_key("accept"));
            }
        }
    }
}
