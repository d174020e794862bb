//! What a failure means: by status, then by text (contract 08 §9).

use reqwest::StatusCode;

use super::protocol::ModelFacts;
use crate::model::ErrorKind;

/// Of a request, roughly; code and JSON have fewer than prose.
const BYTES_PER_TOKEN: usize = 3;

/// Texts of servers whose model's window is exceeded; lower case.
const OVERFLOW: &[&str] = &[
    "prompt is too long",
    "request_too_large",
    "input is too long",
    "exceeds the context window",
    "context window exceed",
    "maximum context length",
    "context length exceeded",
    "context_length_exceeded",
    "context length_exceeded",
    "context_length exceeded",
    "exceeds the available context size",
    "exceed_context_size",
    "greater than the context length",
    "exceeded model token limit",
    "reduce the length of the messages",
    "too many tokens",
    "token limit exceeded",
    "model_context_window_exceeded",
    "n_ctx",
];

/// Followed by a number.
const PROMPT_LENGTH: &str = "maximum prompt length is ";

/// Texts of a spent quota: another attempt cannot help (field lesson of many gateways that answer 429 for it).
const QUOTA: &[&str] = &[
    "insufficient_quota",
    "insufficient quota",
    "exceeded your current quota",
    "quota_exceeded",
    "quota exceeded",
    "credit balance",
    "insufficient balance",
    "billing",
    "monthly limit",
    "usage limit",
];

/// Kind of a non-2xx answer.
pub(super) fn kind_of_answer(status: StatusCode, body: &str) -> ErrorKind {
    match status.as_u16() {
        401 | 403 => ErrorKind::AuthExpired,
        429 => ErrorKind::RateLimited,
        413 => ErrorKind::ContextOverflow,
        code => match kind_of_text(body) {
            Some(kind) => kind,
            None if matches!(code, 408 | 409) || code >= 500 => ErrorKind::Transient,
            None => ErrorKind::Permanent,
        },
    }
}

/// What a text alone says: too large for the model, or nothing.
pub(super) fn kind_of_text(text: &str) -> Option<ErrorKind> {
    let text = text.to_lowercase();
    let limited = text.contains("rate limit") || text.contains("too many requests");
    let numbered = text
        .split(PROMPT_LENGTH)
        .skip(1)
        .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let overflow = numbered || OVERFLOW.iter().any(|pattern| text.contains(pattern));
    (overflow && !limited).then_some(ErrorKind::ContextOverflow)
}

/// Whether a refusal that says nothing, a 400 without a body, is about the size of the prompt: some servers say it so (field lesson
/// V9). Only when it can hardly have fitted; a small request was refused for something else.
pub(super) fn is_silent(status: StatusCode, body: &str, request_bytes: usize, model: &ModelFacts) -> bool {
    let is_mute = status == StatusCode::BAD_REQUEST && body.trim().is_empty();
    let prompt = u64::try_from(request_bytes / BYTES_PER_TOKEN).unwrap_or(u64::MAX);
    let needed = prompt.saturating_add(model.max_tokens);
    is_mute && model.window.is_some_and(|window| needed > window)
}

/// Whether a 429 means a spent quota.
pub(super) fn is_quota(body: &str) -> bool {
    let body = body.to_lowercase();
    QUOTA.iter().any(|pattern| body.contains(pattern))
}

/// Whether an answer may be another one next time: 408, 429 unless the quota is spent, 5xx.
pub(super) fn is_worth_a_retry(status: StatusCode, body: &str) -> bool {
    match status.as_u16() {
        429 => !is_quota(body),
        code => code == 408 || code >= 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn kind(code: u16, body: &str) -> ErrorKind {
        kind_of_answer(StatusCode::from_u16(code).unwrap(), body)
    }

    #[test]
    fn c08_case_12_kinds_by_status() {
        for (code, expected) in [
            (401, ErrorKind::AuthExpired),
            (403, ErrorKind::AuthExpired),
            (429, ErrorKind::RateLimited),
            (413, ErrorKind::ContextOverflow),
            (408, ErrorKind::Transient),
            (409, ErrorKind::Transient),
            (500, ErrorKind::Transient),
            (529, ErrorKind::Transient),
            (400, ErrorKind::Permanent),
            (404, ErrorKind::Permanent),
            (302, ErrorKind::Permanent),
        ] {
            assert_eq!(kind(code, "bad field"), expected, "{code}");
        }
    }

    #[test]
    fn c08_case_13_kinds_by_text() {
        for text in [
            "prompt is too long: 210000 tokens > 200000 maximum",
            "This model's maximum context length is 8192 tokens",
            "Invalid request: Your request exceeded model token limit: 262144",
            "{\"code\":\"context_length_exceeded\"}",
            "input exceeds the context window of this model",
            "maximum prompt length is 131072",
            "the request exceeds the available context size (n_ctx)",
        ] {
            assert_eq!(kind(400, text), ErrorKind::ContextOverflow, "{text}");
        }
        for text in [
            "unknown context_management field",
            "maximum prompt length is unknown",
            "rate limit: too many tokens per minute",
        ] {
            assert_eq!(kind(400, text), ErrorKind::Permanent, "{text}");
        }
        assert_eq!(kind(500, "n_ctx exceeded"), ErrorKind::ContextOverflow);
    }

    #[test]
    fn v9_too_large_without_a_word_is_overflow_and_a_limit_of_rate_never_is() {
        assert_eq!(kind(413, ""), ErrorKind::ContextOverflow);
        assert_eq!(kind(400, ""), ErrorKind::Permanent);
        for text in [
            "Too many requests: too many tokens",
            "rate limit exceeded: prompt is too long",
        ] {
            assert_eq!(kind(429, text), ErrorKind::RateLimited);
            assert_eq!(kind_of_text(text), None, "{text}");
        }
    }

    #[test]
    fn v9_a_refusal_without_a_word_is_overflow_when_the_prompt_can_hardly_have_fitted() {
        let silent = |code, body, request_bytes, window| {
            let model = ModelFacts {
                max_tokens: 1_000,
                window,
                ..ModelFacts::default()
            };
            is_silent(StatusCode::from_u16(code).unwrap(), body, request_bytes, &model)
        };
        assert!(silent(400, " \n", 27_003, Some(10_000)));
        assert!(!silent(400, "", 27_000, Some(10_000)));
        assert!(!silent(400, "", 27_003, None));
        assert!(!silent(400, "bad field", 27_003, Some(10_000)));
        assert!(!silent(422, "", 27_003, Some(10_000)));
        assert!(!silent(500, "", 27_003, Some(10_000)));
    }

    #[test]
    fn w5_a_spent_quota_is_not_worth_a_retry() {
        let worth = |code, body| is_worth_a_retry(StatusCode::from_u16(code).unwrap(), body);
        assert!(worth(429, "slow down"));
        assert!(worth(503, "") && worth(529, "") && worth(408, ""));
        assert!(!worth(429, r#"{"error":{"code":"insufficient_quota"}}"#));
        assert!(!worth(400, "") && !worth(404, "") && !worth(409, "") && !worth(413, ""));
    }
}
