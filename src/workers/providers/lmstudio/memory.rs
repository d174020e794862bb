//! LM Studio's API for its memory: `/api/v1/models/load` and `/unload` (contract 08 §8).

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use url::Url;

use crate::http;
use crate::workers::providers::failure::excerpt;
use crate::workers::providers::local;

/// A large model takes a while to be read from disk.
const LOAD_TIME: Duration = Duration::from_mins(2);
const UNLOAD_TIME: Duration = Duration::from_secs(10);
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Why a model cannot be loaded, most of the time.
const CAUSES: &str = "common causes: the model is not downloaded, its chat template is broken, there is not enough VRAM or RAM, \
                      the quantization is not supported; LM Studio's Developer panel has the details";
const TOO_OLD: &str = "this endpoint needs LM Studio 0.4+";

/// Loads a model with the server's own settings. Answers what the server answers, or why not, for people.
pub(super) fn load(
    client: reqwest::Client,
    endpoint: Url,
    headers: HeaderMap,
    model: &str,
) -> impl Future<Output = Result<Value, String>> + Send + 'static {
    load_with(client, endpoint, headers, json!({ "model": model }))
}

/// The same with a body of one's own, which names the model.
pub(super) async fn load_with(
    client: reqwest::Client,
    endpoint: Url,
    headers: HeaderMap,
    body: Value,
) -> Result<Value, String> {
    let url = local::at_root(&endpoint, "/api/v1/models/load");
    let (status, answer) = post(&client, url, headers, &body, LOAD_TIME).await?;
    if (200..300).contains(&status) {
        return Ok(serde_json::from_str(&answer).unwrap_or_else(|_| json!({ "status": "loaded" })));
    }
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    let hint = if status == 404 { TOO_OLD } else { CAUSES };
    let answer = or_no_body(&answer);
    Err(format!(
        "lmstudio load failed ({status}) for model \"{model}\": {answer}; {hint}"
    ))
}

/// Unloads an instance.
pub(super) async fn unload(
    client: reqwest::Client,
    endpoint: Url,
    headers: HeaderMap,
    instance: &str,
) -> Result<Value, String> {
    let url = local::at_root(&endpoint, "/api/v1/models/unload");
    let body = json!({ "instance_id": instance });
    let (status, answer) = post(&client, url, headers, &body, UNLOAD_TIME).await?;
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let answer = or_no_body(&answer);
    Err(format!("lmstudio unload failed ({status}): {answer}"))
}

fn or_no_body(answer: &str) -> String {
    let shown = excerpt(answer, None);
    if shown.is_empty() {
        "no body".to_owned()
    } else {
        shown
    }
}

async fn post(
    client: &reqwest::Client,
    url: Url,
    headers: HeaderMap,
    body: &Value,
    limit: Duration,
) -> Result<(u16, String), String> {
    let exchange = async {
        let response = client.post(url).headers(headers).json(body).send().await;
        let response = response.map_err(http::explain)?;
        let status = response.status().as_u16();
        let answer = http::body_up_to(response, MAX_ANSWER_BYTES, limit).await;
        Ok((status, String::from_utf8_lossy(&answer).into_owned()))
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("timed out after {}s", limit.as_secs())),
    }
}
