//! How a queue is worked off: declarations of named queues (contract 00 §6.2) and of durable subscribers (§6.5).

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Attempts of a job when nothing else is declared.
const MAX_ATTEMPTS: u32 = 3;
/// Jobs in parallel when nothing else is declared.
const CONCURRENCY: usize = 10;
/// First pause before a retry when nothing else is declared, milliseconds.
const BACKOFF_MS: u64 = 1_000;
/// Longest time a job may take when nothing else is declared, milliseconds.
const TIMEOUT_MS: u64 = 1_800_000;
/// Longest pause before a retry, milliseconds: doubling must end somewhere.
const MAX_PAUSE_MS: u64 = 24 * 3_600_000;
/// Most jobs of one queue in parallel.
const MAX_CONCURRENCY: usize = 1_024;

/// In which order jobs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Discipline {
    /// Any job, up to the concurrency.
    Standard,
    /// One job per group at a time, oldest first; groups in parallel up to the concurrency.
    Fifo,
}

/// How the jobs of one queue are worked off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// Order.
    pub(super) discipline: Discipline,
    /// Jobs in parallel, at least 1.
    pub(super) concurrency: usize,
    /// Attempts in all, at least 1.
    pub(super) max_attempts: u32,
    /// Pause before the first retry; doubles each time. Milliseconds.
    pub(super) backoff_ms: u64,
    /// Longest time one attempt may take, milliseconds.
    pub(super) timeout_ms: u64,
    /// Member of the payload that names the group; always there for a named fifo queue.
    pub(super) group_field: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            discipline: Discipline::Standard,
            concurrency: CONCURRENCY,
            max_attempts: MAX_ATTEMPTS,
            backoff_ms: BACKOFF_MS,
            timeout_ms: TIMEOUT_MS,
            group_field: None,
        }
    }
}

impl Policy {
    /// Reads a declaration of a named queue. Unknown members, such as those for other brokers, are ignored.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the member.
    pub(super) fn of_queue(config: &Value) -> Result<Self> {
        let declared: Declared = read(config)?;
        let discipline = match declared.discipline.as_deref() {
            None | Some("standard") => Discipline::Standard,
            Some("fifo") => Discipline::Fifo,
            Some(other) => return Err(Error::invalid(format!("type: unknown queue type '{other}'"))),
        };
        let group_field = declared.message_group_field.filter(|field| !field.is_empty());
        if discipline == Discipline::Fifo && group_field.is_none() {
            return Err(Error::invalid("message_group_field: required for a fifo queue"));
        }
        Ok(Self {
            discipline,
            concurrency: concurrency(declared.concurrency)?,
            max_attempts: attempts(declared.max_retries)?,
            backoff_ms: declared.backoff_ms.unwrap_or(BACKOFF_MS),
            timeout_ms: declared.timeout_ms.unwrap_or(TIMEOUT_MS).max(1),
            group_field,
        })
    }

    /// Reads the `queue_config` of a durable subscriber. Its fifo is one line without groups; `maxRetries` counts the
    /// attempts after the first.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the member.
    pub(super) fn of_subscriber(config: Option<&Value>) -> Result<Self> {
        let Some(config) = config.filter(|config| !config.is_null()) else {
            return Ok(Self::default());
        };
        let declared: DeclaredSubscriber = read(config)?;
        let discipline = match declared.discipline.as_deref() {
            None | Some("concurrent" | "standard") => Discipline::Standard,
            Some("fifo") => Discipline::Fifo,
            Some(other) => return Err(Error::invalid(format!("type: unknown queue type '{other}'"))),
        };
        Ok(Self {
            discipline,
            concurrency: concurrency(declared.concurrency)?,
            max_attempts: declared
                .max_retries
                .map_or(MAX_ATTEMPTS, |retries| retries.saturating_add(1)),
            backoff_ms: declared.backoff_delay_ms.unwrap_or(BACKOFF_MS),
            timeout_ms: TIMEOUT_MS,
            group_field: None,
        })
    }

    /// Pause after the nth failed attempt: `backoff_ms · 2^(n-1)`.
    pub(super) fn pause_ms(&self, attempts: u32) -> u64 {
        let doubled = 1_u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX);
        self.backoff_ms.saturating_mul(doubled).min(MAX_PAUSE_MS)
    }

    /// As it is shown to others.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "type": match self.discipline { Discipline::Standard => "standard", Discipline::Fifo => "fifo" },
            "max_retries": self.max_attempts,
            "concurrency": self.concurrency,
            "backoff_ms": self.backoff_ms,
            "timeout_ms": self.timeout_ms,
            "message_group_field": self.group_field,
        })
    }

    /// The group of a payload on a named queue.
    ///
    /// # Errors
    /// The contract's texts (§6.3) when a fifo queue gets a payload without its group.
    pub(super) fn group(&self, queue: &str, payload: &Value) -> Result<Option<String>> {
        let Some(field) = self
            .group_field
            .as_ref()
            .filter(|_| self.discipline == Discipline::Fifo)
        else {
            return Ok(None);
        };
        match payload.get(field) {
            None => Err(Error::coded(
                "enqueue_error",
                format!("FIFO queue '{queue}' requires field '{field}' in data, but it was not found"),
            )),
            Some(Value::Null) => Err(Error::coded(
                "enqueue_error",
                format!("FIFO queue '{queue}': field '{field}' must not be null"),
            )),
            Some(Value::String(group)) => Ok(Some(group.clone())),
            Some(other) => Ok(Some(other.to_string())),
        }
    }
}

#[derive(Deserialize)]
struct Declared {
    #[serde(rename = "type")]
    discipline: Option<String>,
    max_retries: Option<u32>,
    concurrency: Option<usize>,
    message_group_field: Option<String>,
    backoff_ms: Option<u64>,
    timeout_ms: Option<u64>,
}

// `visibilityTimeout`, `delaySeconds`, `backoffType` and `maxPriority` are accepted and ignored (contract 00 §6.5).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeclaredSubscriber {
    #[serde(rename = "type")]
    discipline: Option<String>,
    max_retries: Option<u32>,
    concurrency: Option<usize>,
    backoff_delay_ms: Option<u64>,
}

fn read<'a, T: Deserialize<'a>>(config: &'a Value) -> Result<T> {
    if !config.is_object() {
        return Err(Error::invalid("queue config must be an object"));
    }
    serde_path_to_error::deserialize(config)
        .map_err(|error| Error::invalid(format!("{}: {}", error.path(), error.inner())))
}

fn concurrency(declared: Option<usize>) -> Result<usize> {
    match declared {
        None => Ok(CONCURRENCY),
        Some(some) if (1..=MAX_CONCURRENCY).contains(&some) => Ok(some),
        Some(_) => Err(Error::invalid(format!(
            "concurrency: must be between 1 and {MAX_CONCURRENCY}"
        ))),
    }
}

fn attempts(declared: Option<u32>) -> Result<u32> {
    match declared {
        None => Ok(MAX_ATTEMPTS),
        Some(0) => Err(Error::invalid(
            "max_retries: counts all attempts, must be at least 1",
        )),
        Some(some) => Ok(some),
    }
}

/// JSON Schema of configuration id `queue`.
pub(super) fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "queue_configs": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "properties": {
                        "type": {"enum": ["standard", "fifo"]},
                        "max_retries": {"type": "integer", "minimum": 1, "maximum": u32::MAX},
                        "concurrency": {"type": "integer", "minimum": 1, "maximum": MAX_CONCURRENCY},
                        "message_group_field": {"type": "string", "minLength": 1},
                        "backoff_ms": {"type": "integer", "minimum": 0},
                        "timeout_ms": {"type": "integer", "minimum": 1},
                    },
                    "if": {"properties": {"type": {"const": "fifo"}}, "required": ["type"]},
                    "then": {"required": ["message_group_field"]},
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_queue_without_members_has_the_defaults() {
        assert_eq!(Policy::of_queue(&json!({})).unwrap(), Policy::default());
        assert_eq!(
            Policy::default(),
            Policy {
                discipline: Discipline::Standard,
                concurrency: 10,
                max_attempts: 3,
                backoff_ms: 1000,
                timeout_ms: 1_800_000,
                group_field: None,
            }
        );
    }

    #[test]
    fn a_queue_with_all_members() {
        let declared = json!({"type": "fifo", "max_retries": 5, "concurrency": 2, "message_group_field": "session_id",
            "backoff_ms": 7, "timeout_ms": 9, "poll_interval_ms": 100, "max_priority": 3});
        assert_eq!(
            Policy::of_queue(&declared).unwrap(),
            Policy {
                discipline: Discipline::Fifo,
                concurrency: 2,
                max_attempts: 5,
                backoff_ms: 7,
                timeout_ms: 9,
                group_field: Some("session_id".into()),
            }
        );
    }

    #[test]
    fn wrong_declarations_name_the_member() {
        let cases = [
            (
                json!({"type": "fifo"}),
                "message_group_field: required for a fifo queue",
            ),
            (json!({"type": "lifo"}), "type: unknown queue type 'lifo'"),
            (
                json!({"concurrency": 0}),
                "concurrency: must be between 1 and 1024",
            ),
            (
                json!({"concurrency": 1025}),
                "concurrency: must be between 1 and 1024",
            ),
            (
                json!({"max_retries": 0}),
                "max_retries: counts all attempts, must be at least 1",
            ),
            (
                json!({"max_retries": "x"}),
                "max_retries: invalid type: string \"x\", expected u32",
            ),
            (json!([]), "queue config must be an object"),
        ];
        for (config, text) in cases {
            assert_eq!(Policy::of_queue(&config).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn a_subscriber_counts_retries_after_the_first_attempt() {
        assert_eq!(Policy::of_subscriber(None).unwrap(), Policy::default());
        let declared = json!({"type": "fifo", "maxRetries": 4, "concurrency": 3, "backoffDelayMs": 20,
            "visibilityTimeout": 30, "delaySeconds": 1, "backoffType": "fixed"});
        assert_eq!(
            Policy::of_subscriber(Some(&declared)).unwrap(),
            Policy {
                discipline: Discipline::Fifo,
                concurrency: 3,
                max_attempts: 5,
                backoff_ms: 20,
                timeout_ms: 1_800_000,
                group_field: None,
            }
        );
    }

    #[test]
    fn pauses_double_and_end() {
        let policy = Policy::default();
        let pauses: Vec<u64> = [1, 2, 3, 4].map(|n| policy.pause_ms(n)).to_vec();
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(policy.pause_ms(64), MAX_PAUSE_MS);
        assert_eq!(policy.pause_ms(u32::MAX), MAX_PAUSE_MS);
        assert_eq!(
            Policy {
                backoff_ms: 0,
                ..policy
            }
            .pause_ms(3),
            0
        );
    }

    #[test]
    fn c00_case_27_group_field_texts() {
        let policy = Policy::of_queue(&json!({"type": "fifo", "message_group_field": "sid"})).unwrap();
        let text = |payload| policy.group("q", &payload).unwrap_err().to_string();
        assert_eq!(
            text(json!({})),
            "FIFO queue 'q' requires field 'sid' in data, but it was not found"
        );
        assert_eq!(
            text(json!(7)),
            "FIFO queue 'q' requires field 'sid' in data, but it was not found"
        );
        assert_eq!(
            text(json!({"sid": null})),
            "FIFO queue 'q': field 'sid' must not be null"
        );
        assert_eq!(policy.group("q", &json!({"sid": "a"})).unwrap(), Some("a".into()));
        assert_eq!(policy.group("q", &json!({"sid": 1})).unwrap(), Some("1".into()));
        assert_eq!(Policy::default().group("q", &json!({})).unwrap(), None);
    }
}
