//! Calendar periods: day, week from Monday, month (contract 07 §2.1, field lesson B6).
//!
//! The zone is UTC unless a budget names one; then its days are those of that zone's calendar, 23 to 25 hours long where
//! clocks are changed.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::text::clip;

/// Milliseconds of 24 hours.
pub(super) const DAY_MS: i64 = 86_400_000;

/// How long spend is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Period {
    /// From midnight.
    Day,
    /// From Monday's midnight.
    Week,
    /// From the first of the month.
    Month,
}

/// Start and end of a period, Unix milliseconds; the end is the start of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Period {
    /// The period of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "day" => Some(Self::Day),
            "week" => Some(Self::Week),
            "month" => Some(Self::Month),
            _ => None,
        }
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The period that a moment falls in.
    ///
    /// # Errors
    /// The moment is outside the years that a calendar has.
    pub(super) fn around(self, now_ms: i64, zone: &TimeZone) -> Result<Bounds> {
        self.bounds(now_ms, zone)
            .map_err(|error| Error::invalid(format!("no calendar period at {now_ms}: {error}")))
    }

    fn bounds(self, now_ms: i64, zone: &TimeZone) -> Result<Bounds, jiff::Error> {
        let today = Timestamp::from_millisecond(now_ms)?.to_zoned(zone.clone()).date();
        let first = self.first_day(today)?;
        let next = match self {
            Self::Day => first.checked_add(1.day())?,
            Self::Week => first.checked_add(1.week())?,
            Self::Month => first.checked_add(1.month())?,
        };
        Ok(Bounds {
            start: midnight(first, zone)?,
            end: midnight(next, zone)?,
        })
    }

    fn first_day(self, today: Date) -> Result<Date, jiff::Error> {
        match self {
            Self::Day => Ok(today),
            Self::Week => {
                let since_monday = today.weekday().to_monday_zero_offset();
                today.checked_sub(i64::from(since_monday).days())
            }
            Self::Month => Ok(today.first_of_month()),
        }
    }
}

/// The first moment of a day; where clocks go forward at midnight that is later than 00:00.
fn midnight(day: Date, zone: &TimeZone) -> Result<i64, jiff::Error> {
    day.to_zoned(zone.clone())
        .and_then(|zoned: Zoned| zoned.start_of_day())
        .map(|zoned| zoned.timestamp().as_millisecond())
}

/// The zone of this name; UTC without one.
///
/// # Errors
/// There is none of this name here.
pub(super) fn zone(name: Option<&str>) -> Result<TimeZone> {
    match name {
        None => Ok(TimeZone::UTC),
        Some(name) => {
            TimeZone::get(name).map_err(|_| Error::invalid(format!("invalid time_zone: {}", clip(name, 64))))
        }
    }
}

/// Days since the start of a period, at least 1.
pub(super) fn days_elapsed(start: i64, now_ms: i64) -> f64 {
    days(now_ms.saturating_sub(start)).max(1.0)
}

/// Days until the end of a period, at least 0.
pub(super) fn days_remaining(now_ms: i64, resets: i64) -> f64 {
    days(resets.saturating_sub(now_ms)).max(0.0)
}

/// Milliseconds as days.
#[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
pub(super) fn days(ms: i64) -> f64 {
    ms as f64 / DAY_MS as f64
}

#[cfg(test)]
mod tests;
