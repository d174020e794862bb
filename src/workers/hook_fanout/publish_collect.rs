//! `hook-fanout::publish_collect`: one message to a topic, the replies to it merged into one answer (contract 04 §5).

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::REPLIES;
use super::collector::Collector;
use super::collectors::{Collection, Collectors};
use super::gather::{Limits, gather};
use super::merge::MergeRule;
use crate::bus::{self, CallOptions, Cx, Function};
use crate::error::{Error, Result};
use crate::model::text::clip;

/// Longest part of an unknown rule that its refusal repeats, in characters.
const SHOWN_CHARS: usize = 64;

/// `hook-fanout::publish_collect`.
#[derive(Debug)]
pub struct PublishCollect;

/// Request of `hook-fanout::publish_collect`. Numbers of another type count as absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// Topic; not empty.
    pub topic: String,
    /// What the subscribers get; `{}` when it is missing or null. Two of the rules start with it.
    #[serde(default)]
    pub payload: Value,
    /// How the replies become one answer.
    pub merge_rule: MergeRule,
    /// Longest wait, in milliseconds; `hook_fanout.default_timeout_ms` when absent. At least
    /// `hook_fanout.min_timeout_ms`, at most 600000.
    #[serde(default)]
    pub timeout_ms: Option<f64>,
    /// So many replies are enough.
    #[serde(default)]
    pub expected_replies: Option<f64>,
    /// Quiet time after the last reply that ends the wait, in milliseconds; `hook_fanout.quiescence_ms` when absent, never
    /// when 0.
    #[serde(default)]
    pub quiescence_ms: Option<f64>,
}

/// Response of `hook-fanout::publish_collect`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// Id of the message; the group of its replies in stream `agent::hook_reply`.
    pub event_id: String,
    /// Replies in the order of their arrival.
    pub replies: Vec<Value>,
    /// What the rule makes of them.
    pub merged: Value,
    /// How the publishing went.
    pub publish: Published,
    /// True when it failed, else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_failed: Option<bool>,
}

/// How the publishing went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Published {
    /// Whether the engine took the message.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Function for PublishCollect {
    const ID: &'static str = "hook-fanout::publish_collect";
    const DESCRIPTION: &'static str =
        "Publish a topic, collect subscriber replies until timeout, apply merge_rule.";
    type State = Collectors;
    type Request = Request;
    type Response = Response;

    fn decode(payload: Value) -> Result<Request> {
        if payload.is_null() {
            return Err(no_object());
        }
        match bus::decode(payload, &[], false)? {
            Value::Object(members) => read(members),
            _ => Err(no_object()),
        }
    }

    /// Errors: `too_many_collections`, `replies_too_large`; a failed publish is none.
    async fn call(cx: &Cx<Collectors>, request: Request) -> Result<Response> {
        let limits = Limits::of(
            request.timeout_ms,
            request.expected_replies,
            request.quiescence_ms,
            &cx.config().hook_fanout,
        );
        let collection = Collection::open(cx, Collector::new(request.merge_rule, limits.expected))?;
        let collecting = collect(cx, &request, &limits, &collection);
        let outcome = tokio::select! {
            outcome = collecting => outcome?,
            () = cx.context().cancelled() => return Err(Error::Stopped),
            () = cx.shutdown_token().cancelled() => return Err(Error::Stopped),
        };
        let replies = collection.end();
        Ok(Response {
            event_id: collection.event_id.to_string(),
            merged: request.merge_rule.merge(&request.payload, &replies),
            replies,
            publish_failed: outcome.is_err().then_some(true),
            publish: Published {
                ok: outcome.is_ok(),
                error: outcome.err().map(|error| error.to_string()),
            },
        })
    }
}

/// Publishes, then waits. What is inside is how the publishing went: without a message nobody answers.
async fn collect(
    cx: &Cx<Collectors>,
    request: &Request,
    limits: &Limits,
    collection: &Collection<'_>,
) -> Result<Result<()>> {
    let deadline = Instant::now() + limits.timeout;
    if let Err(error) = publish(cx, request, &collection.event_id, limits.timeout).await {
        tracing::warn!(topic = request.topic, %error, "hook not published");
        return Ok(Err(error));
    }
    let exit = gather(&collection.collector, limits, deadline).await?;
    tracing::debug!(topic = request.topic, ?exit, "hook replies are in");
    Ok(Ok(()))
}

async fn publish(cx: &Cx<Collectors>, request: &Request, event_id: &str, limit: Duration) -> Result<()> {
    let data = json!({ "event_id": event_id, "reply_stream": REPLIES, "payload": request.payload });
    let message = json!({ "topic": request.topic, "data": data });
    let options = CallOptions {
        timeout: Some(limit),
        ..CallOptions::default()
    };
    cx.invoke("iii::durable::publish", message, options).await?;
    Ok(())
}

fn no_object() -> Error {
    Error::invalid("payload must be an object")
}

fn read(mut members: Map<String, Value>) -> Result<Request> {
    let topic = text(&mut members, "topic")?;
    let rule = text(&mut members, "merge_rule")?;
    let Some(merge_rule) = MergeRule::named(&rule) else {
        return Err(Error::invalid(format!(
            "unknown merge_rule: {}",
            clip(&rule, SHOWN_CHARS)
        )));
    };
    let number = |name: &str| members.get(name).and_then(Value::as_f64);
    Ok(Request {
        timeout_ms: number("timeout_ms"),
        expected_replies: number("expected_replies"),
        quiescence_ms: number("quiescence_ms"),
        payload: match members.remove("payload") {
            None | Some(Value::Null) => json!({}),
            Some(payload) => payload,
        },
        topic,
        merge_rule,
    })
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<String> {
    match members.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        _ => Err(Error::invalid(format!("missing required field: {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn c04_case_28_what_is_missing_or_unknown_is_named() {
        for (payload, expected) in [
            (json!(null), "payload must be an object"),
            (json!("x"), "payload must be an object"),
            (json!([{"topic": "t"}]), "payload must be an object"),
            (json!({}), "missing required field: topic"),
            (json!({"topic": ""}), "missing required field: topic"),
            (
                json!({"topic": 5, "merge_rule": "field_merge"}),
                "missing required field: topic",
            ),
            (json!({"topic": "t"}), "missing required field: merge_rule"),
            (
                json!({"topic": "t", "merge_rule": ["field_merge"]}),
                "missing required field: merge_rule",
            ),
            (
                json!({"topic": "t", "merge_rule": "weird"}),
                "unknown merge_rule: weird",
            ),
        ] {
            assert_eq!(PublishCollect::decode(payload).unwrap_err().to_string(), expected);
        }
        let long = json!({"topic": "t", "merge_rule": "w".repeat(1 << 20)});
        assert!(PublishCollect::decode(long).unwrap_err().to_string().len() < 100);
    }

    #[test]
    fn numbers_of_another_type_count_as_absent() {
        let request = json!({"topic": "t", "merge_rule": "field_merge", "payload": null, "timeout_ms": "9",
            "expected_replies": [], "quiescence_ms": {}});
        let expected = Request {
            topic: "t".into(),
            payload: json!({}),
            merge_rule: MergeRule::FieldMerge,
            timeout_ms: None,
            expected_replies: None,
            quiescence_ms: None,
        };
        assert_eq!(PublishCollect::decode(request).unwrap(), expected);
        let request = json!({"topic": "t", "merge_rule": "field_merge", "payload": [1], "timeout_ms": 1.5,
            "expected_replies": 2, "quiescence_ms": 0});
        let expected = Request {
            payload: json!([1]),
            timeout_ms: Some(1.5),
            expected_replies: Some(2.0),
            quiescence_ms: Some(0.0),
            ..expected
        };
        assert_eq!(PublishCollect::decode(request).unwrap(), expected);
    }
}
