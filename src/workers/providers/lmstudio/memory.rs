//! LM Studio's API for its memory: `/api/v1/models/load` and `/unload` (contract 08 §8).

use std::time::Duration;

use serde_json::{Value, json};

use crate::http;
use crate::workers::providers::access::{Door, Secret};
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

/// Loads the model that a body names. Answers what the server answers, or why not, for people.
pub(super) async fn load(door: Door, body: Value) -> Result<Value, String> {
    let (status, answer) = post(&door, "/api/v1/models/load", &body, LOAD_TIME).await?;
    if (200..300).contains(&status) {
        return Ok(serde_json::from_str(&answer).unwrap_or_else(|_| json!({ "status": "loaded" })));
    }
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    let hint = if status == 404 { TOO_OLD } else { CAUSES };
    let answer = shown(&door, &answer);
    Err(format!(
        "lmstudio load failed ({status}) for model \"{model}\": {answer}; {hint}"
    ))
}

/// Unloads an instance.
pub(super) async fn unload(door: Door, instance: &str) -> Result<Value, String> {
    let body = json!({ "instance_id": instance });
    let (status, answer) = post(&door, "/api/v1/models/unload", &body, UNLOAD_TIME).await?;
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let answer = shown(&door, &answer);
    Err(format!("lmstudio unload failed ({status}): {answer}"))
}

fn shown(door: &Door, answer: &str) -> String {
    let shown = excerpt(answer, door.access.secret.as_ref().map(Secret::text));
    if shown.is_empty() {
        "no body".to_owned()
    } else {
        shown
    }
}

async fn post(door: &Door, path: &str, body: &Value, limit: Duration) -> Result<(u16, String), String> {
    let url = local::at_root(&door.access.url, path);
    let request = door.client.post(url).headers(door.headers.clone()).json(body);
    let exchange = async {
        let response = request.send().await.map_err(http::explain)?;
        let status = response.status().as_u16();
        let answer = http::body_up_to(response, MAX_ANSWER_BYTES, limit).await;
        Ok((status, String::from_utf8_lossy(&answer).into_owned()))
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("timed out after {}s", limit.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use reqwest::header::HeaderMap;
    use tokio::net::TcpListener;
    use url::Url;

    use super::*;
    use crate::workers::providers::access::Access;

    /// The server takes the connection and says nothing.
    #[tokio::test(start_paused = true)]
    async fn c08_8_a_load_has_two_minutes_and_an_unload_ten_seconds() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/chat/completions", server.local_addr().unwrap());
        let door = || Door {
            access: Access {
                url: Url::parse(&url).unwrap(),
                secret: None,
                max_tokens: None,
            },
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            headers: HeaderMap::new(),
        };
        let load = load(door(), json!({ "model": "m" })).await;
        assert_eq!(load, Err("timed out after 120s".to_owned()));
        let unload = unload(door(), "i").await;
        assert_eq!(unload, Err("timed out after 10s".to_owned()));
    }
}
