//! Who may come in, and to what: the request of an upgrade is looked at before it is granted (contract 00 §1.1, §16).

use std::hint::black_box;

use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response, StatusCode, header};

use crate::bus::{Bus, ChannelReader, ChannelWriter};
use crate::config::Secret;
use crate::error::Result;
use crate::model::api::provider::{ChannelRef, Direction};

const CHANNELS: &str = "/ws/channels/";

/// What a socket is for.
pub(super) enum Purpose {
    /// `/`: a worker.
    Worker,
    /// `/otel`: telemetry, which is not kept.
    Telemetry,
    /// The writing end of a channel.
    ChannelWriter(ChannelWriter),
    /// The reading end of a channel.
    ChannelReader(ChannelReader),
    /// An end of a channel that somebody else has; upgraded and closed.
    Taken,
}

/// Grants or refuses an upgrade. The end of a channel is taken here.
///
/// # Errors
/// 401 without the token; where none is asked for, 403 for a web page of another host; 404 for an unknown path or
/// channel.
pub(super) fn admit(request: &Request, token: Option<&Secret>, bus: &Bus) -> Result<Purpose, StatusCode> {
    let path = request.uri().path();
    if let Some(id) = path.strip_prefix(CHANNELS) {
        // Guarded by its access key alone, like on the iii engine: clients send nothing else here.
        return channel(request, id, bus);
    }
    match token {
        Some(token) if !shows(request, token) => return Err(StatusCode::UNAUTHORIZED),
        None if !is_local(request) => return Err(StatusCode::FORBIDDEN),
        Some(_) | None => {}
    }
    match path {
        "" | "/" => Ok(Purpose::Worker),
        "/otel" => Ok(Purpose::Telemetry),
        _ => Err(StatusCode::NOT_FOUND),
    }
}

/// The answer of a refusal.
pub(super) fn refusal(status: StatusCode) -> ErrorResponse {
    let text = status.canonical_reason().unwrap_or_default().to_owned();
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(Some(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn channel(request: &Request, id: &str, bus: &Bus) -> Result<Purpose, StatusCode> {
    let direction = match query(request, "dir").as_deref() {
        Some("write") => Direction::Write,
        Some("read") => Direction::Read,
        Some(_) | None => return Err(StatusCode::NOT_FOUND),
    };
    let channel = ChannelRef {
        channel_id: id.to_owned(),
        access_key: query(request, "key").unwrap_or_default(),
        direction,
    };
    match direction {
        Direction::Write => end(bus.channels().take_writer(&channel), Purpose::ChannelWriter),
        Direction::Read => end(bus.channels().take_reader(&channel), Purpose::ChannelReader),
    }
}

fn end<T>(taken: Option<Result<T>>, purpose: impl FnOnce(T) -> Purpose) -> Result<Purpose, StatusCode> {
    match taken {
        Some(Ok(end)) => Ok(purpose(end)),
        Some(Err(error)) if error.wire_code() == "channel_taken" => Ok(Purpose::Taken),
        Some(Err(_)) | None => Err(StatusCode::NOT_FOUND),
    }
}

fn shows(request: &Request, token: &Secret) -> bool {
    let bearer = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| token.trim().to_owned())
        });
    let shown = bearer.or_else(|| query(request, "token"));
    shown.is_some_and(|shown| same(shown.as_bytes(), token.expose().as_bytes()))
}

/// Whether a request may come in without a token: from a program, which names no origin, or from a page served by this
/// machine, such as the console. A browser lets any page open a socket to loopback; what that page may do is up to us.
fn is_local(request: &Request) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return true;
    };
    let url = origin
        .to_str()
        .ok()
        .and_then(|origin| url::Url::parse(origin).ok());
    match url.as_ref().and_then(url::Url::host) {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Compares in a time that tells nothing but the length.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    a.len() == b.len() && differences == 0
}

fn query(request: &Request, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(uri: &str, authorization: Option<&str>) -> bool {
        let mut request = Request::new(());
        *request.uri_mut() = uri.parse().unwrap();
        if let Some(text) = authorization {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, text.parse().unwrap());
        }
        shows(&request, &Secret::from("s3 cret".to_owned()))
    }

    #[test]
    fn the_token_is_taken_from_the_header_or_the_query() {
        assert!(shown("/", Some("Bearer s3 cret")));
        assert!(shown("/", Some("bearer  s3 cret")));
        assert!(shown("/?x=1&token=s3+cret", None));
        assert!(shown("/?token=s3%20cret", None));
        assert!(!shown("/?token=s3%20cret", Some("Bearer other")));
        assert!(!shown("/", None));
        assert!(!shown("/?token=", None));
        assert!(!shown("/?token=s3+cre", None));
        assert!(!shown("/?token=s3+cret2", None));
        assert!(!shown("/", Some("Basic s3 cret")));
    }

    #[test]
    fn pages_of_other_hosts_do_not_get_in_without_a_token() {
        let local = |origin: Option<&str>| {
            let mut request = Request::new(());
            if let Some(origin) = origin {
                request
                    .headers_mut()
                    .insert(header::ORIGIN, origin.parse().unwrap());
            }
            is_local(&request)
        };
        for origin in [
            "http://localhost:3113",
            "http://127.0.0.1:8080",
            "https://[::1]",
            "http://console.localhost",
        ] {
            assert!(local(Some(origin)), "{origin}");
        }
        for origin in [
            "https://example.com",
            "http://localhost.example.com",
            "http://10.0.0.1",
            "null",
            "file://",
        ] {
            assert!(!local(Some(origin)), "{origin}");
        }
        assert!(local(None));
    }
}
