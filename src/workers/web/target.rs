//! Which URLs are fetched, and how they are shown.

use url::{Host, Url};

use super::reply::Failure;

/// The most of a URL that is repeated in a message, in characters.
const SHOWN_CHARS: usize = 200;

/// Stands for what only the caller may know.
const MASK: &str = "***";

/// Reads the URL of a request. WHATWG rules: every spelling of an IPv4 address becomes the usual one.
pub(super) fn parse(text: &str) -> Result<Url, Failure> {
    let url = Url::parse(text).map_err(|error| {
        let text = crate::model::text::clip(text, SHOWN_CHARS);
        // A password in a text that is no URL cannot be told from the rest of it.
        if text.contains('@') {
            Failure::invalid_url(format!("not an absolute URL: {error}"))
        } else {
            Failure::invalid_url(format!("not an absolute URL: {text}: {error}"))
        }
    })?;
    check(&url)?;
    Ok(url)
}

/// Whether a URL can be fetched at all.
pub(super) fn check(url: &Url) -> Result<(), Failure> {
    if !matches!(url.scheme(), "http" | "https") {
        let scheme = crate::model::text::clip(url.scheme(), SHOWN_CHARS);
        return Err(Failure::invalid_url(format!(
            "scheme {scheme} is not http or https"
        )));
    }
    if url.host().is_none() {
        return Err(Failure::invalid_url("the URL has no host"));
    }
    if url.port() == Some(0) {
        return Err(Failure::invalid_url("port 0 cannot be connected to"));
    }
    Ok(())
}

/// A URL without its secrets: the password, or what stands alone in its place, is `***` (contract 05 weakness 14).
pub(super) fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    let masked = match (url.username(), url.password()) {
        ("", None) => Ok(()),
        (_, Some(_)) => shown.set_password(Some(MASK)),
        (_, None) => shown.set_username(MASK),
    };
    // Only refused for URLs that have no place for them.
    masked.map_or_else(|()| url.origin().ascii_serialization(), |()| shown.into())
}

/// Host, and port unless it is the usual one; IPv6 in brackets. What decides whether two URLs are of one host.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The address, when the URL names one.
pub(super) fn literal(url: &Url) -> Option<std::net::IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::super::reply::ErrorCode;
    use super::*;

    #[test]
    fn c05_case_03_what_is_no_http_url() {
        for text in [
            "file:///etc/passwd",
            "ftp://h/",
            "javascript:alert(1)",
            "data:text/plain,hi",
            "not a url",
            "http://",
            "//h/path",
            "/path",
            "h.example",
            "http://[::1",
            "http://h:99999/",
            "http://h:0/",
            "http://1.2.3.4.5/",
            "http://256.0.0.1/",
            "http://0x100000000/",
            "http://a b/",
            "http://%00/",
            "ws://h/",
            // Zones of IPv6, and what is no address in brackets.
            "http://[fe80::1%25eth0]/",
            "http://[fe80::1%eth0]/",
            "http://[::1%lo]/",
            "http://[127.0.0.1]/",
            "http://[::ffff:127.0.0.256]/",
            "http://[::1]evil/",
            "http://[localhost]/",
            // Numbers that are none.
            "http://127.0.0.0x100/",
            "http://4294967296/",
            "http://127.0.0.08/",
            // Names that no name server may be asked for.
            "http://local\u{ad}host:\u{ad}/",
            "http://xn--/",
            "http://a%2fb/",
            "http://a%40b/",
        ] {
            let error = parse(text).map(String::from).unwrap_err();
            assert_eq!(error.error, ErrorCode::InvalidUrl, "{text}");
        }
    }

    /// Whom a URL names, whatever stands around it.
    #[test]
    fn the_host_is_what_is_connected_to() {
        for (text, expected) in [
            ("http://8.8.8.8@10.0.0.1/", "10.0.0.1"),
            ("http://8.8.8.8:80@10.0.0.1:81/", "10.0.0.1"),
            ("http://8.8.8.8%2f@10.0.0.1/", "10.0.0.1"),
            ("http://8.8.8.8@9.9.9.9@10.0.0.1/", "10.0.0.1"),
            ("http://10.0.0.1/@8.8.8.8/", "10.0.0.1"),
            ("http://10.0.0.1\\@8.8.8.8/", "10.0.0.1"),
            ("http://10.0.0.1;@8.8.8.8/", "8.8.8.8"),
            ("http:10.0.0.1", "10.0.0.1"),
            ("http:////10.0.0.1", "10.0.0.1"),
            ("http://10.0.0.1.", "10.0.0.1"),
            ("http://10\u{ff61}0\u{ff0e}0\u{3002}1/", "10.0.0.1"),
            ("http://1\u{ad}0.0.0.1/", "10.0.0.1"),
            ("http://\u{1d7d8}x0a.1/", "10.0.0.1"),
            ("http://10.\t0.0\n.1/", "10.0.0.1"),
            ("http://[::FFFF:0A00:0001]/", "::ffff:10.0.0.1"),
            (
                "http://[0000:0000:0000:0000:0000:ffff:10.0.0.1]/",
                "::ffff:10.0.0.1",
            ),
        ] {
            let url = parse(text).unwrap();
            assert_eq!(literal(&url).unwrap().to_string(), expected, "{text}");
        }
        for (text, expected) in [
            ("http://\u{24db}ocalhost/", "localhost"),
            ("http://LOCAL\u{ad}HOST/", "localhost"),
            ("http://localhost./", "localhost."),
            (
                "http://metadata\u{3002}google\u{3002}internal/",
                "metadata.google.internal",
            ),
            ("http://b\u{fc}cher.test/", "xn--bcher-kva.test"),
            ("http://user:p%40ss@h.test/", "h.test"),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((literal(&url), url.host_str()), (None, Some(expected)), "{text}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        for (text, expected) in [
            ("http://h/p?q", "http://h/p?q"),
            ("http://u:geheim@h/", "http://u:***@h/"),
            ("http://:geheim@h/", "http://:***@h/"),
            ("http://geheim@h:8/", "http://***@h:8/"),
        ] {
            assert_eq!(shown(&Url::parse(text).unwrap()), expected);
        }
        let error = parse("http://u:geheim@h:99999/").unwrap_err();
        assert_eq!(error.message, "not an absolute URL: invalid port number");
    }

    #[test]
    fn a_host_includes_its_port() {
        for (text, expected) in [
            ("https://h/", "h"),
            ("https://h:443/", "h"),
            ("http://h:443/", "h:443"),
            ("http://[::1]:8/", "[::1]:8"),
            ("http://H.Example/", "h.example"),
        ] {
            assert_eq!(authority(&Url::parse(text).unwrap()), expected);
        }
    }
}
