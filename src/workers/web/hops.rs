//! From the first request over its redirects to the response that counts. Each hop is checked from the start.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, Response};
use url::Url;

use super::clients::Clients;
use super::guard::{Reach, Refused};
use super::redirect::{Outgoing, location};
use super::reply::Failure;
use super::request::Request;
use super::{addresses::Range, headers, target};
use crate::config;
use crate::http;

/// What a call may do, and what is known about this program.
#[derive(Debug)]
pub(super) struct Terms<'a> {
    pub(super) config: &'a config::Web,
    /// Of the whole call.
    pub(super) limit: Duration,
    /// Ports that this program or its engine listens on.
    pub(super) own_ports: HashSet<u16>,
}

/// What a call has done so far, for its log line; outlives a call that was cut.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// Host and port of the last hop.
    pub(super) host: String,
    /// Redirects followed.
    pub(super) redirects: usize,
}

/// The response that counts, with its body unread.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) response: Response,
    pub(super) url: Url,
    pub(super) redirect_chain: Vec<String>,
}

/// Why loopback is closed for a hop.
#[derive(Debug, Clone, Copy)]
enum Closed {
    /// `web.allow_loopback` is false.
    BySetting,
    /// The redirect came from another machine.
    FromOutside,
    /// The port is one that this program listens on.
    OwnPort(u16),
}

/// The first request.
pub(super) fn first(request: &Request, user_agent: &str) -> Result<Outgoing, Failure> {
    let method = Method::from_bytes(request.method.as_bytes());
    let method = method.map_err(|_| Failure::invalid_payload("method: is no HTTP method"))?;
    let has_body = !matches!(method, Method::GET | Method::HEAD);
    let body = match &request.json {
        Some(json) => Some(Bytes::from(json.to_string())),
        None => request.body.clone().map(Bytes::from),
    };
    Ok(Outgoing {
        method,
        url: target::parse(&request.url)?,
        headers: headers::outgoing(request, user_agent),
        body: body.filter(|_| has_body),
    })
}

/// Sends a request, and follows where it leads.
pub(super) async fn follow(
    clients: &Clients,
    terms: &Terms<'_>,
    request: &Request,
    trail: &mut Trail,
) -> Result<Arrived, Failure> {
    let mut next = first(request, &terms.config.user_agent)?;
    let mut redirect_chain = Vec::new();
    // As it was given, but for its secrets.
    let mut asked = if next.url.username().is_empty() && next.url.password().is_none() {
        request.url.clone()
    } else {
        target::shown(&next.url)
    };
    let mut was_outside = false;
    loop {
        trail.host = target::authority(&next.url);
        let response = send(clients, terms, &mut next, was_outside).await?;
        let found = location(response.status(), response.headers(), &next.url);
        let Some(found) = found.filter(|_| request.follow_redirects) else {
            return Ok(Arrived {
                response,
                url: next.url,
                redirect_chain,
            });
        };
        if redirect_chain.len() >= terms.config.max_redirects {
            return Err(Failure::too_many_redirects(terms.config.max_redirects));
        }
        let found = found?;
        target::check(&found)?;
        let peer = response.remote_addr().map(|peer| peer.ip());
        was_outside |= !peer.is_some_and(|peer| clients.net().is_loopback(peer));
        redirect_chain.push(asked);
        asked = target::shown(&found);
        next = next.redirected(response.status(), found);
        trail.redirects += 1;
    }
}

/// One hop. Credentials of the URL become a header, and are gone from the URL.
async fn send(
    clients: &Clients,
    terms: &Terms<'_>,
    next: &mut Outgoing,
    was_outside: bool,
) -> Result<Response, Failure> {
    let (reach, closed) = reach(terms, &next.url, was_outside);
    if let Some(address) = target::literal(&next.url) {
        let checked = clients.net().check(reach, None, address);
        checked.map_err(|refused| blocked(&refused, closed))?;
    }
    let unusable =
        |error: reqwest::Error| Failure::transport(format!("HTTP client: {}", http::explain(error)));
    let client = clients.get(reach, terms.limit).map_err(unusable)?;
    let request = client.request(next.method.clone(), next.url.clone());
    let mut request = request.headers(next.headers.clone());
    if let Some(body) = &next.body {
        request = request.body(body.clone());
    }
    let request = request
        .build()
        .map_err(|error| Failure::invalid_url(format!("it cannot be requested: {}", http::explain(error))))?;
    if let Some(credentials) = request.headers().get(AUTHORIZATION) {
        next.headers.insert(AUTHORIZATION, credentials.clone());
    }
    next.url = request.url().clone();

    let response = Box::pin(client.execute(request)).await;
    let response = response.map_err(|error| failed(error, terms, closed))?;
    let peer = response.remote_addr();
    if let Some(peer) = peer.filter(|peer| clients.net().is_loopback(peer.ip())) {
        tracing::info!(host = target::authority(&next.url), %peer, "fetching from loopback");
    }
    let size = headers::size(response.headers());
    if size > headers::MOST_BYTES {
        let most = headers::MOST_BYTES;
        return Err(Failure::transport(format!(
            "the headers have {size} bytes, more than {most}"
        )));
    }
    Ok(response)
}

/// How far a hop may go, and why not to loopback.
fn reach(terms: &Terms<'_>, url: &Url, was_outside: bool) -> (Reach, Option<Closed>) {
    let port = url.port_or_known_default();
    if let Some(port) = port.filter(|port| terms.own_ports.contains(port)) {
        (Reach::Elsewhere, Some(Closed::OwnPort(port)))
    } else if !terms.config.allow_loopback {
        (Reach::Public, Some(Closed::BySetting))
    } else if was_outside {
        (Reach::Public, Some(Closed::FromOutside))
    } else {
        (Reach::Loopback, None)
    }
}

/// What the client says, in our words.
fn failed(error: reqwest::Error, terms: &Terms<'_>, closed: Option<Closed>) -> Failure {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return blocked(refused, closed);
        }
        cause = inner.source();
    }
    if error.is_timeout() {
        return Failure::timeout(limit_ms(terms.limit));
    }
    if error.is_builder() {
        return Failure::invalid_url(format!("it cannot be requested: {}", http::explain(error)));
    }
    Failure::transport(http::explain(error))
}

/// A limit in ms.
pub(super) fn limit_ms(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

fn blocked(refused: &Refused, closed: Option<Closed>) -> Failure {
    let is_here = match refused {
        Refused::Blocked { range, .. } => *range == Range::Loopback,
        Refused::Own { .. } => true,
        Refused::Unresolved { .. } => false,
    };
    let why = match closed.filter(|_| is_here) {
        None => String::new(),
        Some(Closed::BySetting) => "; web.allow_loopback=true would open it".into(),
        Some(Closed::FromOutside) => "; a redirect from another machine does not lead there".into(),
        Some(Closed::OwnPort(port)) => format!("; port {port} is this program's own"),
    };
    Failure::blocked(format!("{refused}{why}"))
}

/// The ports among addresses.
pub(super) fn ports(addresses: &[SocketAddr]) -> HashSet<u16> {
    addresses.iter().map(SocketAddr::port).collect()
}
