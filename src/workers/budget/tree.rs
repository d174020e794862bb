//! A spend and the budgets that pay for it, without I/O (contract 07 §3.6, §3.7).

use super::rows::Chain;
use super::stored::Reservation;
use crate::error::{Error, Result};
use crate::model::Usd;
use crate::model::api::budget::{CheckResponse, RecordResponse};

/// Why a check is denied.
const EXCEEDED: &str = "ceiling_exceeded";

/// May this be spent?
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) estimate: Usd,
    pub(super) principal_id: Option<String>,
    /// Sets it aside when it may.
    pub(super) reserve: Option<Reserve>,
}

/// How an estimate is set aside.
#[derive(Debug, Clone)]
pub(super) struct Reserve {
    pub(super) reservation_id: String,
    pub(super) ttl_ms: i64,
}

/// This was spent.
#[derive(Debug, Clone)]
pub(super) struct Spend {
    pub(super) cost: Usd,
    pub(super) reservation_id: Option<String>,
    /// Hash of the spend's id.
    pub(super) record: Option<String>,
}

/// Asks every budget of the chain; all of them must agree.
pub(super) fn check(chain: &mut Chain<'_>, ask: &Ask) -> Result<CheckResponse> {
    chain.roll()?;
    let (at, levels) = (chain.at, chain.levels());
    let principal = ask.principal_id.as_deref();
    let own_id = ask
        .reserve
        .as_ref()
        .map(|reserve| reserve.reservation_id.as_str());
    let mut limiting = Vec::new();
    let mut exceeded = None;
    for level in 0..levels {
        let budget = chain.level(level)?;
        budget.prune(at.now_ms);
        if budget.unlimited(principal).is_some() {
            continue;
        }
        limiting.push(level);
        if exceeded.is_none() && budget.remaining() - budget.reserved(own_id) < ask.estimate {
            exceeded = Some((level, budget.id.clone()));
        }
    }
    let mut reservation_id = None;
    if let (None, Some(reserve)) = (&exceeded, &ask.reserve) {
        for level in &limiting {
            let reservation = Reservation {
                id: reserve.reservation_id.clone(),
                amount_usd: ask.estimate,
                expires_at: at.now_ms.saturating_add(reserve.ttl_ms),
            };
            chain.level(*level)?.reserve(reservation, at.now_ms);
            reservation_id = Some(reserve.reservation_id.clone());
        }
    }
    let own = chain.level(0)?;
    let reason = match &exceeded {
        Some(_) => Some(EXCEEDED),
        None => own.unlimited(principal),
    };
    Ok(CheckResponse {
        allowed: exceeded.is_none(),
        remaining_usd: own.remaining(),
        reason: reason.map(str::to_owned),
        reservation_id,
        reserved_usd: ask.reserve.as_ref().map(|_| own.reserved(None)),
        exceeded_budget_id: exceeded.and_then(|(level, id)| (level > 0).then_some(id)),
    })
}

/// Charges every budget of the chain, whether its cap holds or not, and ends the reservation.
pub(super) fn record(chain: &mut Chain<'_>, spend: &Spend) -> Result<RecordResponse> {
    chain.roll()?;
    let (at, levels) = (chain.at, chain.levels());
    let sums = (0..levels)
        .map(|level| sum(chain, level, spend))
        .collect::<Result<Vec<_>>>()?;
    for (level, sum) in sums.into_iter().enumerate() {
        let budget = chain.level(level)?;
        if let Some(reservation_id) = &spend.reservation_id {
            budget.release(reservation_id, at.now_ms);
        }
        let Some(sum) = sum else { continue };
        budget.spent_usd = sum;
        budget.spend_records += 1;
        budget.updated_at = at.now_ms;
        budget.fire(at);
        if let (Some(hash), Some(row)) = (&spend.record, chain.row(level)) {
            row.add_record(hash.clone());
        }
    }
    let own = chain.level(0)?;
    Ok(RecordResponse {
        spent_usd: own.spent_usd,
        remaining_usd: own.remaining(),
    })
}

/// What a level will have spent; none when the spend is recorded there.
fn sum(chain: &mut Chain<'_>, level: usize, spend: &Spend) -> Result<Option<Usd>> {
    if let (Some(hash), Some(row)) = (&spend.record, chain.row(level))
        && row.has_record(hash)
    {
        return Ok(None);
    }
    let sum = chain.level(level)?.spent_usd.checked_add(spend.cost);
    sum.map(Some)
        .ok_or_else(|| Error::invalid(format!("cost_usd: more than {} US dollars in a period", Usd::MAX)))
}

#[cfg(test)]
mod tests;
