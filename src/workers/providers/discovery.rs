//! Which models a provider offers: asked upstream, written into the catalog (contract 08 §10).

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use reqwest::StatusCode;
use serde_json::{Value, json};
use url::Url;

use super::Host;
use super::access::{Access, Secret, resolve};
use super::failure::presentable;
use super::protocol::Provider;
use crate::bus::{CallOptions, Cx};
use crate::http;
use crate::model::ErrorKind;
use crate::model::api::models::Register;

/// Limit of a page of the upstream listing: of a hosted service, of a server of one's own.
const LISTING_TIME: Duration = Duration::from_secs(8);
const LOCAL_LISTING_TIME: Duration = Duration::from_secs(5);
const MAX_LISTING_BYTES: usize = 8 * 1024 * 1024;
const MAX_PAGES: usize = 20;
/// Limit of one catalog call.
const CATALOG_MS: u64 = 5_000;
const PARALLEL_WRITES: usize = 16;

/// What asking upstream gave.
enum Listing {
    /// Records of all models that are offered.
    Models(Vec<Value>),
    /// There is, or there is no longer, a right to ask.
    Refused,
    /// Nothing is known; the catalog stays as it is.
    Unknown,
}

/// Asks, writes, prunes. Answers the ids now stored, in upstream order; any problem makes the list shorter, never fails.
pub(super) async fn refresh(cx: &Cx<Host>) -> Vec<String> {
    let _discovering = cx.state().discovering.lock().await;
    match list(cx).await {
        Listing::Models(records) => {
            let offered: HashSet<String> = records.iter().filter_map(id_of).collect();
            let registered = store(cx, records).await;
            prune(cx, &offered).await;
            registered
        }
        Listing::Refused => {
            prune(cx, &HashSet::new()).await;
            Vec::new()
        }
        Listing::Unknown => Vec::new(),
    }
}

async fn list(cx: &Cx<Host>) -> Listing {
    match resolve(cx).await {
        Ok(access) => ask(cx, &access).await,
        Err(failure) if failure.kind == ErrorKind::AuthExpired => Listing::Refused,
        Err(failure) => {
            tracing::debug!(error = %failure.message, "no model listing");
            Listing::Unknown
        }
    }
}

async fn ask(cx: &Cx<Host>, access: &Access) -> Listing {
    let provider = cx.state().provider.as_ref();
    let connect = Duration::from_millis(cx.config().provider.connect_timeout_ms);
    let client = match cx.state().clients.for_url(&access.url, connect) {
        Ok(client) => client,
        Err(error) => return unknown(provider, access, &error.to_string()),
    };
    let mut records = Vec::new();
    let mut url = provider.models_url(&access.url);
    for _ in 0..MAX_PAGES {
        let (status, body) = match get(provider, access, &client, url.clone()).await {
            Ok(answer) => answer,
            Err(problem) => return unknown(provider, access, &problem),
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Listing::Refused,
            status if status.is_success() => {}
            status => return unknown(provider, access, &format!("http {}", status.as_u16())),
        }
        let listing: Option<Value> = serde_json::from_slice(&body).ok();
        let page = listing.and_then(|json| Some((provider.models(&json)?, provider.next_page(&url, &json))));
        let Some((models, next)) = page else {
            return unknown(provider, access, "the answer is no list of models");
        };
        records.extend(models);
        match next {
            Some(next) => url = next,
            None => return Listing::Models(provider.refine(records, access, &client).await),
        }
    }
    unknown(provider, access, "the list has no end")
}

fn unknown(provider: &dyn Provider, access: &Access, problem: &str) -> Listing {
    let problem = presentable(problem, access.secret.as_ref().map(Secret::text));
    tracing::info!(provider = provider.spec().id, %problem, "models not listed");
    Listing::Unknown
}

/// Asks a provider's server for something small: status and body, or what went wrong.
async fn get(
    provider: &dyn Provider,
    access: &Access,
    client: &reqwest::Client,
    url: Url,
) -> Result<(StatusCode, Vec<u8>), String> {
    let limit = if provider.is_local() {
        LOCAL_LISTING_TIME
    } else {
        LISTING_TIME
    };
    let headers = provider.headers(access).map_err(|failure| failure.message)?;
    let exchange = async {
        let response = client.get(url).headers(headers).send().await;
        let response = response.map_err(http::explain)?;
        let status = response.status();
        Ok((status, http::body_up_to(response, MAX_LISTING_BYTES, limit).await))
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err("timed out".to_owned()),
    }
}

/// The same for an answer that is JSON and a success.
pub(super) async fn get_json(
    provider: &dyn Provider,
    access: &Access,
    client: &reqwest::Client,
    url: Url,
) -> Result<Value, String> {
    let (status, body) = get(provider, access, client, url).await?;
    if !status.is_success() {
        return Err(format!("http {}", status.as_u16()));
    }
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

async fn store(cx: &Cx<Host>, records: Vec<Value>) -> Vec<String> {
    stream::iter(records)
        .map(|record| async move {
            let id = id_of(&record)?;
            register(cx, record).await.then_some(id)
        })
        .buffered(PARALLEL_WRITES)
        .filter_map(futures::future::ready)
        .collect()
        .await
}

/// Removes this provider's records that are no longer offered.
async fn prune(cx: &Cx<Host>, offered: &HashSet<String>) {
    let provider = cx.state().provider.spec().id;
    let request = json!({ "provider": provider });
    let listed = cx
        .invoke("models::list", request, CallOptions::timeout_ms(CATALOG_MS))
        .await;
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) => {
            tracing::debug!(provider, %error, "catalog not read; nothing pruned");
            return;
        }
    };
    let models = listed
        .get("models")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let gone = models
        .iter()
        .filter(|model| model.get("provider").and_then(Value::as_str) == Some(provider))
        .filter_map(id_of)
        .filter(|id| !offered.contains(id));
    for id in gone {
        register(cx, json!({ "provider": provider, "id": id, "removed": true })).await;
    }
}

async fn register(cx: &Cx<Host>, record: Value) -> bool {
    let answer = cx
        .call_with::<Register>(record, CallOptions::timeout_ms(CATALOG_MS))
        .await;
    if let Err(error) = &answer {
        tracing::debug!(%error, "catalog record not written");
    }
    answer.is_ok()
}

fn id_of(record: &Value) -> Option<String> {
    record.get("id")?.as_str().map(str::to_owned)
}

/// The listing beside a chat endpoint.
pub(super) fn models_url(endpoint: &Url) -> Url {
    let mut url = endpoint.clone();
    let path = endpoint.path().trim_end_matches('/');
    let known = ["/chat/completions", "/messages", "/completions"];
    let base = known.iter().find_map(|suffix| path.strip_suffix(suffix));
    let path = base.map_or_else(|| "/v1/models".to_owned(), |base| format!("{base}/models"));
    if base.is_none() {
        url.set_query(None);
    }
    url.set_path(&path);
    url
}

/// Non-empty string ids of an OpenAI style listing, with their entries; `None` when it is no listing.
pub(super) fn entries(listing: &Value) -> Option<impl Iterator<Item = (&str, &Value)>> {
    let data = listing.get("data")?.as_array()?;
    Some(data.iter().filter_map(|entry| {
        let id = entry.get("id")?.as_str().filter(|id| !id.is_empty())?;
        Some((id, entry))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn the_listing_is_beside_the_endpoint() {
        for (endpoint, expected) in [
            (
                "https://api.openai.com/v1/chat/completions",
                "https://api.openai.com/v1/models",
            ),
            ("http://h/v1/chat/completions/", "http://h/v1/models"),
            ("http://h/v1/messages", "http://h/v1/models"),
            ("http://h/v1/completions", "http://h/v1/models"),
            (
                "http://h/proxy/chat/completions?key=1",
                "http://h/proxy/models?key=1",
            ),
            ("http://h:1/other?key=1", "http://h:1/v1/models"),
        ] {
            assert_eq!(models_url(&Url::parse(endpoint).unwrap()).as_str(), expected);
        }
    }
}
