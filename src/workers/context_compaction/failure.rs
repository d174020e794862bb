//! Which failures of a summary are worth a second attempt (contract 10 §7.8). Pure.

use crate::model::turn::BudgetWait;

/// Words of failures that stay.
const FINAL: [&str; 9] = [
    "400",
    "401",
    "403",
    "404",
    "405",
    "auth",
    "unauthorized",
    "forbidden",
    "malformed",
];

/// Why a summary could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) message: String,
    /// Asking again would give the same.
    pub(super) is_final: bool,
    /// Set when a budget did not let the model be asked.
    pub(super) budget_wait: Option<BudgetWait>,
}

impl Failure {
    /// Judged by its text.
    pub(super) fn of(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            is_final: is_final(&message),
            message,
            budget_wait: None,
        }
    }

    /// One that stays, whatever its text.
    pub(super) fn finally(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_final: true,
            budget_wait: None,
        }
    }

    /// Nobody pays for it.
    pub(super) fn refused(why: BudgetWait) -> Self {
        Self {
            budget_wait: Some(why.clone()),
            ..Self::finally(why.reason)
        }
    }
}

fn is_final(message: &str) -> bool {
    let lower = message.to_lowercase();
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    lower
        .split(|character| !is_word(character))
        .any(|word| FINAL.contains(&word))
        || names_invalid_request(&lower)
}

/// `invalid` with a key or a request behind it, joined by a blank, an underscore, or nothing.
fn names_invalid_request(lower: &str) -> bool {
    let words: Vec<&str> = lower
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    words.iter().enumerate().any(|(at, word)| {
        let Some(rest) = word.strip_prefix("invalid") else {
            return false;
        };
        let next = |offset: usize| words.get(at + offset).copied().unwrap_or_default();
        let (first, second) = if rest.is_empty() {
            (next(1), next(2))
        } else {
            (rest, next(1))
        };
        matches!(first, "key" | "request" | "apikey") || (first == "api" && second == "key")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_fail_again_is_final() {
        for (message, expected) in [
            ("401 unauthorized: invalid_api_key", true),
            ("HTTP 403", true),
            ("Bad request (400): x", true),
            ("Forbidden.", true),
            ("invalid api key", true),
            ("Invalid_Request", true),
            ("invalid key given", true),
            ("invalidrequest", true),
            ("malformed JSON", true),
            ("auth failed", true),
            ("transient provider failure", false),
            ("model: gpt-5-mini", false),
            ("429 rate limited", false),
            ("500 internal", false),
            ("author unknown", false),
            ("14001 tokens", false),
            ("auth_expired", false),
            ("invalid response", false),
            ("", false),
        ] {
            assert_eq!(Failure::of(message).is_final, expected, "{message}");
        }
    }
}
