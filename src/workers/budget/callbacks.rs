//! Calls of alerts' callbacks: repeated until one answers, also after a restart (contract 07 §3.7, weakness 5).
//!
//! A call is owed from the write that marks the alert as fired, and is in the budget's row until it was answered. So a
//! callback is called at least once, and a second time only when it failed or nobody knows whether it ran.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::lanes::change;
use super::rows::Needs;
use super::stored::Delivery;
use super::{Budgets, index};
use crate::bus::{CallContext, CallOptions, Cx};
use crate::error::Result;

/// Limit of one call.
const LIMIT_MS: u64 = 10_000;

/// First pause between two calls; each further one is twice as long, up to a minute.
const PAUSE: Duration = Duration::from_millis(250);

/// Calls before it is given up, after about ten minutes.
const CALLS: usize = 17;

/// Calls under way or waiting for their next attempt.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<HashSet<String>>);

/// Calls what is owed from before.
pub(super) async fn deliver_owed(cx: Cx<Budgets>) -> Result<()> {
    for budget in index::budgets(&cx).await? {
        for delivery in budget.ledger.deliveries {
            deliver(&cx, &budget.id, delivery);
        }
    }
    Ok(())
}

/// Calls a callback beside everything else.
pub(super) fn deliver(cx: &Cx<Budgets>, budget_id: &str, delivery: Delivery) {
    let cx = cx.with_context(CallContext::default());
    let budget_id = budget_id.to_owned();
    if !cx.state().under_way.begin(&delivery.id) {
        return;
    }
    let bus = cx.bus().clone();
    bus.spawn(async move {
        if call(&cx, &delivery).await
            && let Err(error) = settle(&cx, &budget_id, delivery.id.clone()).await
        {
            tracing::warn!(budget_id, %error, "an alert that was told may be told again after a restart");
        }
        cx.state().under_way.end(&delivery.id);
    });
}

/// Whether nothing more is to be done: it was told, or given up.
async fn call(cx: &Cx<Budgets>, delivery: &Delivery) -> bool {
    let mut pauses = pauses();
    loop {
        let options = CallOptions::timeout_ms(LIMIT_MS);
        let answer = cx.invoke(&delivery.function_id, delivery.payload.clone(), options);
        let Err(error) = answer.await else { return true };
        let (alert, function) = (&delivery.alert_id, &delivery.function_id);
        let Some(pause) = pauses.next() else {
            tracing::warn!(alert, function, %error, "budget alert given up");
            return true;
        };
        tracing::info!(alert, function, %error, ?pause, "budget alert failed; it is repeated");
        let pause = tokio::time::sleep(pause);
        if cx.shutdown_token().run_until_cancelled(pause).await.is_none() {
            return false;
        }
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(PAUSE)
        .with_max_delay(Duration::from_mins(1))
        .with_max_times(CALLS - 1)
        .build()
}

async fn settle(cx: &Cx<Budgets>, budget_id: &str, delivery_id: String) -> Result<()> {
    change(cx, budget_id, Needs::Budgets, move |chain| {
        let owed = &mut chain.level(0)?.ledger.deliveries;
        owed.retain(|owed| owed.id != delivery_id);
        Ok(())
    })
    .await
}

impl UnderWay {
    fn begin(&self, delivery_id: &str) -> bool {
        self.ids().insert(delivery_id.to_owned())
    }

    fn end(&self, delivery_id: &str) {
        self.ids().remove(delivery_id);
    }

    fn ids(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_callback_is_repeated_for_about_ten_minutes() {
        let all: Vec<Duration> = pauses().collect();
        assert_eq!(
            (all.len(), all[0], all[15]),
            (CALLS - 1, PAUSE, Duration::from_mins(1))
        );
        assert!(all.windows(2).all(|pair| pair[0] <= pair[1]), "{all:?}");
        let sum: Duration = all.iter().sum();
        assert!((9 * 60..11 * 60).contains(&sum.as_secs()), "{sum:?}");
    }
}
