//! What happens to one budget, without I/O (contract 07 §2).
//!
//! A spend is never dropped: it is in `spent_usd`, in a log row, or in a log that waits in `ledger.unarchived` for its row.

use super::periods::{self, Period};
use super::stored::{Alert, Budget, Delivery, Ledger, Reservation, SpendLog};
use crate::error::Result;
use crate::model::Usd;
use serde_json::{Map, Value, json};

/// When something happens.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    /// Unix milliseconds.
    pub(super) now_ms: i64,
    /// Makes ids.
    pub(super) uuid: &'a (dyn Fn() -> String + Sync),
}

impl Budget {
    /// Brings it to the present: the running period is the one around now, and what is set aside is not void (§2.2).
    pub(super) fn roll(&mut self, at: Moment<'_>) -> Result<()> {
        let live = self.reservations.len();
        self.reservations
            .retain(|reservation| reservation.expires_at > at.now_ms);
        if self.reservations.len() < live {
            self.updated_at = at.now_ms;
        }
        if at.now_ms < self.period_resets_at {
            return Ok(());
        }
        let ended = self.period_resets_at;
        let zone = periods::zone(self.time_zone.as_deref())?;
        let bounds = self.period.around(at.now_ms, &zone)?;
        // Periods in which nothing was spent have no log: nothing is what is missing then.
        if self.spent_usd != Usd::ZERO || self.spend_records > 0 {
            self.archive(ended, "rollover", at);
        }
        self.begin(bounds.start.max(ended), bounds.end, at);
        self.ledger.record_ids.renew();
        Ok(())
    }

    /// Drops exemptions that are over (§2.3).
    pub(super) fn prune(&mut self, now_ms: i64) {
        let before = self.exemptions.len();
        self.exemptions.retain(|exemption| exemption.expires_at > now_ms);
        if self.exemptions.len() < before {
            self.updated_at = now_ms;
        }
    }

    /// Ceiling less spent.
    pub(super) fn remaining(&self) -> Usd {
        self.ceiling_usd - self.spent_usd
    }

    /// All that is set aside, without the reservation `except`.
    pub(super) fn reserved(&self, except: Option<&str>) -> Usd {
        self.reservations
            .iter()
            .filter(|reservation| Some(reservation.id.as_str()) != except)
            .map(|reservation| reservation.amount_usd)
            .sum()
    }

    /// Why it does not limit somebody, when it does not (§3.6, rules 1 to 3).
    pub(super) fn unlimited(&self, principal_id: Option<&str>) -> Option<&'static str> {
        let is_exempt = |principal| {
            self.exemptions
                .iter()
                .any(|exemption| exemption.principal_id == principal)
        };
        if self.paused {
            Some("paused")
        } else if !self.enforced {
            Some("not_enforced")
        } else if principal_id.is_some_and(is_exempt) {
            Some("exempt")
        } else {
            None
        }
    }

    /// Sets something aside; what has this id makes room.
    pub(super) fn reserve(&mut self, reservation: Reservation, now_ms: i64) {
        self.release(&reservation.id, now_ms);
        self.reservations.push(reservation);
        self.updated_at = now_ms;
    }

    /// Sets it aside no longer.
    pub(super) fn release(&mut self, reservation_id: &str, now_ms: i64) {
        let before = self.reservations.len();
        self.reservations
            .retain(|reservation| reservation.id != reservation_id);
        if self.reservations.len() < before {
            self.updated_at = now_ms;
        }
    }

    /// Marks the alerts that are reached and did not fire in this period; they are owed a call from then on (§3.7).
    pub(super) fn fire(&mut self, at: Moment<'_>) {
        let ratio = self.spent_usd.share_of(self.ceiling_usd);
        let (id, spent_usd, ceiling_usd) = (&self.id, self.spent_usd, self.ceiling_usd);
        let start = self.period_start_at;
        for alert in &mut self.alerts {
            if ratio >= alert.threshold_pct && alert.last_fired_period_start != Some(start) {
                alert.last_fired_period_start = Some(start);
                self.ledger.deliveries.push(Delivery {
                    id: (at.uuid)(),
                    alert_id: alert.id.clone(),
                    function_id: alert.callback_function_id.clone(),
                    payload: alert.payload(id, spent_usd, ceiling_usd),
                });
            }
        }
    }

    /// Begins anew within the period (§3.8); answers what was spent.
    pub(super) fn reset(&mut self, at: Moment<'_>) -> Result<Usd> {
        let previous = self.spent_usd;
        self.archive(at.now_ms, "reset", at);
        let zone = periods::zone(self.time_zone.as_deref())?;
        let bounds = self.period.around(at.now_ms, &zone)?;
        self.begin(bounds.start, bounds.end, at);
        Ok(previous)
    }

    /// Counts by another period from now on (§3.4).
    pub(super) fn count_by(&mut self, period: Period, at: Moment<'_>) -> Result<()> {
        let zone = periods::zone(self.time_zone.as_deref())?;
        let bounds = period.around(at.now_ms, &zone)?;
        self.archive(at.now_ms, "change", at);
        self.period = period;
        self.begin(bounds.start, bounds.end, at);
        self.ledger.record_ids.renew();
        Ok(())
    }

    fn begin(&mut self, start: i64, end: i64, at: Moment<'_>) {
        self.period_start_at = start;
        self.period_resets_at = end;
        self.spent_usd = Usd::ZERO;
        self.spend_records = 0;
        self.updated_at = at.now_ms;
        for alert in &mut self.alerts {
            alert.last_fired_period_start = None;
        }
    }

    /// Moves the running spend to a log. A period start has the plain key once; a second log of it, or one of a reset,
    /// has a key of its own (contract 07 weakness 2).
    fn archive(&mut self, period_end: i64, why: &str, at: Moment<'_>) {
        let start = self.period_start_at;
        let Ledger {
            archived_until,
            unarchived,
            ..
        } = &mut self.ledger;
        let is_plain = why != "reset" && archived_until.is_none_or(|until| start > until);
        if is_plain {
            *archived_until = Some(start);
        }
        unarchived.push(SpendLog {
            budget_id: self.id.clone(),
            period_start: start,
            period_end,
            spent_usd: self.spent_usd,
            records_count: 0,
            spend_records: self.spend_records,
            log_id: (!is_plain).then(|| format!("{why}-{}-{}", at.now_ms, (at.uuid)())),
        });
    }
}

impl Alert {
    fn payload(&self, budget_id: &str, spent_usd: Usd, ceiling_usd: Usd) -> Value {
        let mut payload = match &self.callback_payload {
            Some(Value::Object(members)) => members.clone(),
            Some(_) | None => Map::new(),
        };
        let ours = json!({
            "alert_id": self.id,
            "budget_id": budget_id,
            "spent_usd": spent_usd,
            "ceiling_usd": ceiling_usd,
            "threshold_pct": self.threshold_pct,
        });
        if let Value::Object(ours) = ours {
            payload.extend(ours);
        }
        Value::Object(payload)
    }
}

#[cfg(test)]
mod tests;
