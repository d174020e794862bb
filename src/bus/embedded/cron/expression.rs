//! When a cron expression is due (contract 00 §10).

use std::str::FromStr;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::error::{Error, Result};

/// An expression of 6 or 7 fields, seconds first, in UTC.
#[derive(Debug, Clone)]
pub(super) struct Expression(Cron);

impl FromStr for Expression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fields = text.split_whitespace().count();
        if !(6..=7).contains(&fields) {
            return Err(Error::invalid(format!(
                "Invalid cron expression '{text}': {fields} fields, expected 6 or 7 (seconds first)"
            )));
        }
        CronParser::builder()
            .seconds(Seconds::Required)
            .year(Year::Optional)
            .build()
            .parse(text)
            .map(Self)
            .map_err(|error| Error::invalid(format!("Invalid cron expression '{text}': {error}")))
    }
}

impl Expression {
    /// The first due time after `after_ms` (Unix milliseconds); `None` when there is none any more.
    pub(super) fn next_after(&self, after_ms: i64) -> Option<i64> {
        let after = Timestamp::from_millisecond(after_ms)
            .ok()?
            .to_zoned(TimeZone::UTC);
        let next = self.0.find_next_occurrence(&after, false).ok()?;
        Some(next.timestamp().as_millisecond())
    }
}

/// RFC 3339 in UTC.
pub(super) fn rfc3339(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn runs(expression: &str, after: &str, count: usize) -> Vec<String> {
        let expression: Expression = expression.parse().unwrap();
        let mut at = after.parse::<Timestamp>().unwrap().as_millisecond();
        let mut runs = Vec::new();
        while runs.len() < count
            && let Some(next) = expression.next_after(at)
        {
            runs.push(rfc3339(next));
            at = next;
        }
        runs
    }

    #[test]
    fn six_fields_begin_with_seconds_and_are_utc() {
        assert_eq!(
            runs("*/20 * * * * *", "2026-03-01T23:59:21.5Z", 3),
            [
                "2026-03-01T23:59:40Z",
                "2026-03-02T00:00:00Z",
                "2026-03-02T00:00:20Z"
            ]
        );
        assert_eq!(
            runs("0 30 2 * * *", "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T02:30:00Z", "2026-03-30T02:30:00Z"]
        );
    }

    #[test]
    fn a_seventh_field_is_the_year_and_may_be_over() {
        assert_eq!(
            runs("0 0 0 1 1 * 2027", "2026-06-01T00:00:00Z", 5),
            ["2027-01-01T00:00:00Z"]
        );
        assert_eq!(
            runs("0 0 0 1 1 * 2020", "2026-06-01T00:00:00Z", 5),
            [] as [&str; 0]
        );
    }

    #[test]
    fn the_time_itself_is_not_due_again() {
        assert_eq!(
            runs("0 0 * * * *", "2026-01-01T10:00:00Z", 1),
            ["2026-01-01T11:00:00Z"]
        );
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_text() {
        for (text, start) in [
            (
                "* * * * *",
                "Invalid cron expression '* * * * *': 5 fields, expected 6 or 7 (seconds first)",
            ),
            ("", "Invalid cron expression '': 0 fields"),
            ("61 * * * * *", "Invalid cron expression '61 * * * * *': "),
            ("a b c d e f", "Invalid cron expression 'a b c d e f': "),
        ] {
            let error = text.parse::<Expression>().unwrap_err().to_string();
            assert!(error.starts_with(start), "{error}");
        }
    }
}
