//! Who pays for a model call (contract 07 §4): the worst case is set aside before it, the real cost is recorded after it.
//!
//! ```text
//!  open: check {reserve} ─► the call, held: set aside anew while it lasts ─► pay: record {cost, reservation}
//! ```
//!
//! Whoever asks a model for a run with a budget comes by here: its turns, the models they fall back to, and the summaries of
//! its session. A call has one name, and its reservation and its record are called by it: session, call, life of the
//! process. So a step that is repeated by the same life sets aside once and is charged once; a call that a later life makes
//! again is another one, and costs again. What a life that died had set aside is found by the name ([`left`]).

use std::convert::Infallible;
use std::time::Duration;

use futures::future::{Either, select};
use serde_json::{Value, json};

use super::{CallOptions, Cx};
use crate::config::{Config, Unpriced};
use crate::error::{Error, Result};
use crate::model::api::budget::{Check, CheckRequest, Record, RecordRequest};
use crate::model::price::{self, Prices};
use crate::model::turn::BudgetWait;
use crate::model::{SessionId, Usage, Usd, tokens};

/// Limit of a call about money, milliseconds.
const LIMIT_MS: u64 = 30_000;
/// Limit of a look into the catalog, milliseconds.
const CATALOG_MS: u64 = 5_000;
/// First member of a call's name.
const KIND: &str = "model-call";
/// No tree of budgets is higher.
const MAX_LEVELS: usize = 8;

/// What a model is about to be asked.
#[derive(Debug)]
pub struct Call<'a> {
    /// Who pays.
    pub budget_id: &'a str,
    /// On whose behalf; the principal that may be exempt.
    pub session: &'a SessionId,
    /// Tells it from all other calls of the session that are not settled.
    pub name: &'a str,
    /// Provider that is asked.
    pub provider: &'a str,
    /// Catalog record of the model, null when there is none.
    pub model: &'a Value,
    /// Tokens that are sent, estimated.
    pub input: u64,
    /// Most tokens that may come back, where the request says so.
    pub output: Option<u64>,
    /// What it costs at least, for all that its caller knows.
    pub at_least: Usd,
}

/// Whether a model may be asked.
#[derive(Debug)]
pub enum Verdict {
    /// Yes; the bill is for what it costs.
    Go(Bill),
    /// No, for this reason. Nothing is set aside.
    Stop(BudgetWait),
}

/// A call that somebody pays for.
#[derive(Debug, Clone)]
pub struct Bill {
    budget_id: String,
    session: SessionId,
    id: String,
    provider: String,
    prices: Option<Prices>,
    worst: Usd,
}

/// A cost that is to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Owed(RecordRequest);

/// What a model's catalog record says; null for one that cannot be looked up, which has no price.
pub async fn catalog_record<S: Send + Sync>(cx: &Cx<S>, provider: &str, model: &str) -> Value {
    let request = json!({ "provider": provider, "model_id": model });
    let options = CallOptions::timeout_ms(CATALOG_MS);
    cx.invoke("models::get", request, options)
        .await
        .unwrap_or_default()
}

/// Sets the worst case aside.
pub async fn open<S: Send + Sync>(cx: &Cx<S>, call: Call<'_>) -> Verdict {
    let bill = Bill::of(&cx.config(), cx.bus().epoch(), &call);
    let refuses_unpriced = cx.config().budgets.unpriced == Unpriced::Refuse;
    let (reason, may_be_set_aside, is_final) = match cx.call_with::<Check>(bill.check(), limit()).await {
        // A cap that opens on an error caps nothing.
        Err(error) => (format!("budget unavailable: {error}"), true, false),
        Ok(answer) if !answer.allowed => (answer.reason.unwrap_or_else(|| "denied".to_owned()), false, false),
        // Where no cap holds there is nothing to refuse for.
        Ok(answer) if bill.prices.is_none() && refuses_unpriced && answer.reservation_id.is_some() => {
            ("model has no price".to_owned(), true, true)
        }
        Ok(_) => return Verdict::Go(bill),
    };
    if may_be_set_aside {
        let Owed(release) = bill.owed(None);
        if let Err(error) = cx.call_with::<Record>(release, limit()).await {
            tracing::debug!(%error, "a reservation that nobody needs lapses by itself");
        }
    }
    Verdict::Stop(BudgetWait {
        budget_id: bill.budget_id,
        reason: format!("budget exceeded: {reason}"),
        is_final,
    })
}

/// Records a cost. Repeated, it is recorded once.
///
/// # Errors
/// It is not known to be recorded.
pub async fn pay<S: Send + Sync>(cx: &Cx<S>, Owed(request): Owed) -> Result<()> {
    let budget_id = request.budget_id.clone();
    match cx.call_with::<Record>(request, limit()).await {
        Ok(_) => Ok(()),
        // The budget was deleted meanwhile: nobody is left to pay.
        Err(Error::Invalid(text)) => {
            tracing::warn!(budget_id, text, "the cost of a model call is not recorded");
            Ok(())
        }
        Err(error) => Err(Error::Transient(format!(
            "the cost of the call is not recorded: {error}"
        ))),
    }
}

/// Does the work while the reservation is kept alive: a call may take longer than one lives.
pub async fn held<S: Send + Sync, T>(cx: &Cx<S>, bill: Option<&Bill>, work: impl Future<Output = T>) -> T {
    let Some(bill) = bill else { return work.await };
    let renew = renew(cx, bill);
    tokio::pin!(work, renew);
    match select(work, renew).await {
        Either::Left((done, _)) => done,
        Either::Right((never, _)) => match never {},
    }
}

/// Sets the same aside again and again.
async fn renew<S: Send + Sync>(cx: &Cx<S>, bill: &Bill) -> Infallible {
    loop {
        let half = cx.config().budgets.reservation_ttl_ms / 2;
        tokio::time::sleep(Duration::from_millis(half.max(1))).await;
        // A cap that was lowered meanwhile does not take back what runs already.
        if let Err(error) = cx.call_with::<Check>(bill.check(), limit()).await {
            tracing::warn!(%error, "the reservation of a model call was not renewed");
        }
    }
}

/// A call of an earlier life that is set aside and was never settled: that life ended between the two.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    budget_id: String,
    id: String,
    amount: Usd,
    /// Its name, as in [`Call`].
    pub name: String,
    /// The life.
    pub epoch: String,
}

/// What earlier lives left of this session's calls.
///
/// # Errors
/// The budgets cannot be asked.
pub async fn left<S: Send + Sync>(cx: &Cx<S>, budget_id: &str, session: &SessionId) -> Result<Vec<Left>> {
    let mut found: Vec<Left> = Vec::new();
    let mut level = Some(budget_id.to_owned());
    // A budget whose own cap is off sets nothing aside; the ones above it may.
    for _ in 0..MAX_LEVELS {
        let Some(id) = level else { break };
        let request = json!({ "budget_id": id });
        let budget = match cx.invoke("budget::get", request, limit()).await {
            Ok(mut answer) => answer.get_mut("budget").map(Value::take).unwrap_or_default(),
            Err(Error::Invalid(_)) => break,
            Err(error) => return Err(error),
        };
        let reservations = budget.get("reservations").and_then(Value::as_array);
        for reservation in reservations.into_iter().flatten() {
            let dead = Left::read(reservation, budget_id, session, cx.bus().epoch());
            found.extend(dead.filter(|dead| found.iter().all(|known| known.id != dead.id)));
        }
        level = budget.get("parent_id").and_then(Value::as_str).map(str::to_owned);
    }
    Ok(found)
}

impl Left {
    fn read(reservation: &Value, budget_id: &str, session: &SessionId, epoch: &str) -> Option<Self> {
        let id = reservation.get("reservation_id")?.as_str()?;
        let [kind, of, name, life] = serde_json::from_str::<[String; 4]>(id).ok()?;
        let is_left = kind == KIND && *of == **session && life != epoch;
        is_left.then_some(Self {
            budget_id: budget_id.to_owned(),
            id: id.to_owned(),
            amount: serde_json::from_value(reservation.get("amount_usd")?.clone()).ok()?,
            name,
            epoch: life,
        })
    }

    /// All of it: how much it cost nobody can tell, and a cap must hold.
    pub fn whole(self) -> Owed {
        let cost = self.amount;
        self.costing(cost)
    }

    /// So much of it.
    pub fn costing(self, cost: Usd) -> Owed {
        Owed::new(self.budget_id, self.id, cost)
    }
}

impl Owed {
    /// Who pays.
    pub fn budget_id(&self) -> &str {
        &self.0.budget_id
    }

    /// The cost of a call by the name that an earlier life gave it, which may have recorded it already.
    pub fn of_life(budget_id: &str, session: &SessionId, name: &str, epoch: &str, cost: Usd) -> Self {
        Self::new(budget_id.to_owned(), id(session, name, epoch), cost)
    }

    fn new(budget_id: String, id: String, cost: Usd) -> Self {
        Self(RecordRequest {
            budget_id,
            cost_usd: Some(cost.dollars()),
            reservation_id: Some(id.clone()),
            record_id: Some(id),
        })
    }
}

impl Bill {
    fn of(config: &Config, epoch: &str, call: &Call<'_>) -> Self {
        let prices = Prices::of(call.model, call.provider);
        let most = call.model.get("max_output_tokens").and_then(tokens::whole);
        let output = [most, call.output].into_iter().flatten();
        let output = output.fold(config.provider.output_token_max, u64::min);
        let priced = prices
            .as_ref()
            .map_or(Usd::ZERO, |prices| prices.worst(call.input, output));
        Self {
            budget_id: call.budget_id.to_owned(),
            session: call.session.clone(),
            id: id(call.session, call.name, epoch),
            provider: call.provider.to_owned(),
            prices,
            worst: priced.max(call.at_least),
        }
    }

    /// What the call costs that took so many tokens; without any it costs nothing, and what was set aside is released.
    pub fn owed(&self, usage: Option<&Usage>) -> Owed {
        let Some(usage) = usage else {
            // Not a spend: the same call may be made again.
            return Owed(RecordRequest {
                record_id: None,
                ..Owed::new(self.budget_id.clone(), self.id.clone(), Usd::ZERO).0
            });
        };
        let cost = price::of_call(Some(usage), self.prices.as_ref(), &self.provider);
        Owed::new(self.budget_id.clone(), self.id.clone(), cost)
    }

    fn check(&self) -> CheckRequest {
        CheckRequest {
            budget_id: self.budget_id.clone(),
            estimated_cost_usd: Some(json!(self.worst)),
            principal_id: Some(self.session.to_string()),
            reserve: true,
            reservation_id: Some(self.id.clone()),
        }
    }
}

/// Members of any kind stay apart in it.
fn id(session: &SessionId, name: &str, epoch: &str) -> String {
    json!([KIND, session, name, epoch]).to_string()
}

fn limit() -> CallOptions {
    CallOptions::timeout_ms(LIMIT_MS)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn only_calls_of_dead_lives_and_of_this_session_are_left() {
        let reservation = |session: &str, epoch: &str| {
            let id = id(&session.into(), "r/1", epoch);
            json!({ "reservation_id": id, "amount_usd": 0.5, "expires_at": 1 })
        };
        let read = |reservation: &Value| Left::read(reservation, "b", &"a".into(), "now");
        let left = read(&reservation("a", "then")).unwrap();
        assert_eq!((left.name.as_str(), left.epoch.as_str()), ("r/1", "then"));
        let spent = Owed::of_life("b", &"a".into(), "r/1", "then", Usd::from_micros(500_000));
        assert_eq!(left.whole(), spent);
        assert_eq!(read(&reservation("a", "now")), None);
        assert_eq!(read(&reservation("a/b", "then")), None);
        for foreign in ["a", "[\"a\"]", "[\"x\",\"a\",\"r\",\"then\"]"] {
            let foreign = json!({ "reservation_id": foreign, "amount_usd": 0.5, "expires_at": 1 });
            assert_eq!(read(&foreign), None);
        }
    }

    #[test]
    fn the_worst_case_is_the_least_of_the_limits_on_an_answer() {
        let mut config = Config::default();
        config.provider.output_token_max = 300;
        let worst = |model: Value, output: Option<u64>, at_least: i64| {
            let session = "s".into();
            let call = Call {
                budget_id: "b",
                session: &session,
                name: "n",
                provider: "p",
                model: &model,
                input: 7,
                output,
                at_least: Usd::from_micros(at_least),
            };
            Bill::of(&config, "e", &call).worst.micros()
        };
        let model = |most: u64| json!({ "max_output_tokens": most, "pricing": { "input_per_1m": 1, "output_per_1m": 10 } });
        assert_eq!(worst(model(1_000), None, 0), 3_007);
        assert_eq!(worst(model(200), None, 0), 2_007);
        assert_eq!(worst(model(200), Some(100), 0), 1_007);
        assert_eq!(worst(model(200), Some(100), 1_008), 1_008);
        assert_eq!(worst(Value::Null, None, 5), 5);
    }
}
