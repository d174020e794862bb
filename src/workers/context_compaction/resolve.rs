//! Which model summarises: the session's own (contract 10 §6.2, §6.3).

use serde_json::{Value, json};

use super::session;
use crate::bus::{CallOptions, Cx};
use crate::error::Result;
use crate::model::SessionId;
use crate::model::api::compaction::{CompactModel, Limits};
use crate::model::api::session::MessageRow;
use crate::model::tokens;

const LOOKUP_MS: u64 = 5_000;

/// State scope of the requests of runs, by session.
const REQUESTS: &str = "run_request";

/// For models whose window nobody knows.
pub(super) const UNKNOWN_WINDOW: Limits = Limits {
    context: 32_000,
    input: 32_000,
    output: 4_000,
};

/// Provider and model.
pub(super) type Name = (String, String);

/// The newest provider and, independently, the newest model that answered in a session. Looked for from its end.
pub(super) async fn answered<S: Send + Sync>(cx: &Cx<S>, session: &SessionId) -> Result<Option<Name>> {
    let mut newest = Newest::default();
    let mut before = None;
    loop {
        let page = session::page(cx, session, None, before.as_ref()).await?;
        newest.look_at(&page.rows);
        if let Newest {
            provider: Some(provider),
            model: Some(model),
        } = newest
        {
            return Ok(Some((provider, model)));
        }
        match page.older {
            Some(older) => before = Some(older),
            None => return Ok(None),
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Newest {
    provider: Option<String>,
    model: Option<String>,
}

impl Newest {
    /// Takes what is still open from rows that are older than all before, oldest first.
    fn look_at(&mut self, rows: &[MessageRow]) {
        let newest = |key: &str| {
            let mut answers = rows.iter().rev().filter(|row| row.message.role() == "assistant");
            let name = answers.find_map(|row| row.message.text_member(key).filter(|name| !name.is_empty()));
            name.map(str::to_owned)
        };
        self.provider = self.provider.take().or_else(|| newest("provider"));
        self.model = self.model.take().or_else(|| newest("model"));
    }
}

/// The limits of a model; `None` when nobody knows them.
pub(super) async fn limits<S: Send + Sync>(cx: &Cx<S>, (provider, model): &Name) -> Option<Limits> {
    let request = json!({ "provider": provider, "model_id": model });
    let row = cx
        .invoke("models::get", request, CallOptions::timeout_ms(LOOKUP_MS))
        .await;
    row.ok().as_ref().and_then(tokens::limits_of)
}

/// The model of a session at rest: the one asked for, else the one that answered last, else the one of the last run. The
/// first with a known window is taken; without any, the first that is named, with a modest window.
///
/// # Errors
/// The session worker does not answer.
pub(super) async fn of_session<S: Send + Sync>(
    cx: &Cx<S>,
    wanted: Option<CompactModel>,
    session: &SessionId,
) -> Result<CompactModel> {
    let wanted = wanted.filter(|model| !model.id.is_empty() && !model.provider_id.is_empty());
    if let Some(model) = &wanted
        && model.limit.context > 0
    {
        return Ok(with_input(model.clone()));
    }
    let asked = wanted.map(|model| (model.provider_id, model.id));
    let mut first = None;
    for source in [Source::Asked(asked), Source::Answered, Source::LastRun] {
        let name = match source {
            Source::Asked(name) => name,
            Source::Answered => answered(cx, session).await?,
            Source::LastRun => of_last_run(cx, session).await,
        };
        let Some(name) = name else { continue };
        if let Some(limit) = limits(cx, &name).await {
            return Ok(named(name, limit));
        }
        first.get_or_insert(name);
    }
    let unknown = || ("unknown".to_owned(), "unknown".to_owned());
    Ok(named(first.unwrap_or_else(unknown), UNKNOWN_WINDOW))
}

enum Source {
    Asked(Option<Name>),
    Answered,
    LastRun,
}

/// What was asked for in the session's last run.
async fn of_last_run<S: Send + Sync>(cx: &Cx<S>, session: &str) -> Option<Name> {
    let request = last_run(cx, session).await?;
    let text = |key: &str| {
        request
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    // Without a provider the model's name decides.
    Some((text("provider"), text("model"))).filter(|(_, model)| !model.is_empty())
}

/// The request of the session's last run.
pub(super) async fn last_run<S: Send + Sync>(cx: &Cx<S>, session: &str) -> Option<Value> {
    let key = json!({ "scope": REQUESTS, "key": session });
    let request = cx
        .invoke("state::get", key, CallOptions::timeout_ms(LOOKUP_MS))
        .await;
    request.ok().filter(Value::is_object)
}

/// Who pays for a summary of a session: the budget of its last run, else the one for all runs.
///
/// # Errors
/// That run cannot be read: it may have a budget.
pub(super) async fn budget<S: Send + Sync>(cx: &Cx<S>, session: &SessionId) -> Result<Option<String>> {
    let request = cx.scope(REQUESTS).get(session).await?;
    let own = request
        .as_ref()
        .and_then(|request| request.get("budget_id")?.as_str());
    let own = own.filter(|id| !id.is_empty()).map(str::to_owned);
    Ok(own.or_else(|| cx.config().budgets.default_budget_id.clone()))
}

fn named((provider_id, id): Name, limit: Limits) -> CompactModel {
    CompactModel {
        id,
        provider_id,
        limit,
    }
}

/// A limit without an input part has the whole window for it.
fn with_input(mut model: CompactModel) -> CompactModel {
    if model.limit.input == 0 {
        model.limit.input = model.limit.context;
    }
    model
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::model::RawMessage;

    #[test]
    fn provider_and_model_are_the_newest_of_each() {
        let row = |role: &str, provider: &str, model: &str| MessageRow {
            entry_id: "e".into(),
            message: RawMessage::new(
                json!({ "role": role, "content": [], "provider": provider, "model": model }),
            )
            .unwrap(),
            metadata: None,
        };
        let newest = |pages: &[&[MessageRow]]| {
            let mut newest = Newest::default();
            for rows in pages {
                newest.look_at(rows);
            }
            (
                newest.provider.unwrap_or_default(),
                newest.model.unwrap_or_default(),
            )
        };
        assert_eq!(newest(&[&[]]), (String::new(), String::new()));
        assert_eq!(
            newest(&[&[row("assistant", "p", "")]]),
            ("p".to_owned(), String::new())
        );
        let rows = [
            row("assistant", "old", "m"),
            row("assistant", "p", ""),
            row("user", "u", "u"),
            row("assistant", "", ""),
        ];
        let found = ("p".to_owned(), "m".to_owned());
        assert_eq!(newest(&[&rows]), found);
        assert_eq!(newest(&[&rows[1..], &rows[..1]]), found);
    }
}
