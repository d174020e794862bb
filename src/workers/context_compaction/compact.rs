//! The compaction itself: prune, summarise, append, tell (contract 10 §6.1, §7).
//!
//! Only what the model still sees verbatim is read, pruned and summarised, together with the summary before it: the cost of a
//! compaction does not grow with the session (weakness 3).

use serde_json::{Value, json};

use super::lease::Lease;
use super::summariser::{self, Question, Summary};
use super::tail::{self, Cut, Keep};
use super::{announce, files, prompt, prune, resolve, session};
use crate::bus::Cx;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::api::compaction::{CompactModel, CompactResult, Limits};
use crate::model::api::session::MessageRow;
use crate::model::event::CompactionMode;
use crate::model::{AgentEvent, EntryId, RawMessage, SessionId, tokens, window};

/// State scope of the times of the last compactions, key = session.
const LAST: &str = "last_compaction_at";

/// Longest wait for messages, where nobody asked for another one.
pub(super) const MESSAGES_MS: u64 = 10_000;

/// A background compaction behind another one has to take at least so many tokens out: less is not worth a model call.
const WORTH_IT: u64 = 500;

/// What is to be compacted.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) session: &'a SessionId,
    pub(super) model: &'a CompactModel,
    pub(super) mode: CompactionMode,
    /// Entry of the user message that waits for its answer; `""` without one.
    pub(super) open_question: &'a str,
    /// Longest wait for the messages.
    pub(super) read_ms: u64,
    /// Who pays; the session's own budget when absent.
    pub(super) budget_id: Option<&'a str>,
}

/// The part of a conversation that a compaction is about.
struct Part<'a> {
    /// Rows to be summarised, oldest first.
    head: Vec<&'a MessageRow>,
    tail_start: Option<EntryId>,
    /// Whether an open question follows.
    replayed: bool,
}

/// Compacts a session under its lease.
///
/// # Errors
/// The session worker does not answer, or the lease was lost meanwhile. The session is as it was, but for pruned outputs.
pub(super) async fn run<S: Send + Sync>(cx: &Cx<S>, lease: &Lease, job: Job<'_>) -> Result<CompactResult> {
    let config = cx.config();
    let transcript = session::read(cx, job.session, job.read_ms).await?;
    let last = transcript.rows.last().map(|row| &row.entry_id);
    let previous = transcript.compaction.as_ref();
    let visible = window::verbatim(&transcript.rows, previous);
    let part = part(&visible, &job, &config);
    prune(cx, &job, &transcript.rows, &config).await?;

    let head: Vec<&RawMessage> = part.head.iter().map(|row| &row.message).collect();
    let waits = job.mode == CompactionMode::Sync;
    let tokens_before = match previous {
        _ if !head.is_empty() => tokens::estimate(head.iter().copied()),
        // Nothing is new, but somebody asked: the summary itself is made anew.
        Some(previous) if waits && visible.is_empty() => {
            tokens::estimate([&window::summary_message(&previous.summary, previous.timestamp)])
        }
        _ => return Ok(CompactResult::Empty),
    };
    let span = tracing::Span::current();
    span.record("tokens_before", tokens_before);
    span.record("replayed", part.replayed);
    span.record("auto_continued", part.replayed);
    span.record("used_prior_summary", previous.is_some());
    if !waits && previous.is_some() && tokens_before < WORTH_IT {
        return Ok(CompactResult::Empty);
    }

    let budget_id = match job.budget_id {
        Some(id) => Some(id.to_owned()),
        None => resolve::budget(cx, job.session).await?,
    };
    let question = Question {
        session: job.session,
        budget_id: budget_id.as_deref(),
        model: job.model,
        space: prompt::space(window_of(cx, job.model).await, config.compaction.reserved_tokens),
        previous: previous
            .map(|row| row.summary.as_str())
            .filter(|text| !text.is_empty()),
        head: &head,
        output_chars: config.compaction.tool_output_max_chars,
    };
    let summary = match summariser::ask(cx, &question).await {
        Ok(summary) => summary,
        Err(failure) => {
            return Ok(CompactResult::Overflow {
                message: failure.message,
                budget_wait: failure.budget_wait,
            });
        }
    };
    if summary.text.trim().is_empty() {
        tracing::warn!(session_id = %job.session, "the model answered without a summary; nothing is compacted");
        return Ok(CompactResult::Empty);
    }
    if !lease.is_held().await {
        return Err(Error::Transient("the compaction lease is lost".into()));
    }
    // An append would make a session again that was deleted meanwhile.
    if let Some(last) = last
        && !session::has(cx, job.session, last).await?
    {
        return Err(Error::invalid("what was summarised was deleted meanwhile"));
    }
    let details = details(&head, previous.map(|row| &row.details), &job, &summary);
    let tail = append(cx, &job, last, &part, tokens_before, &summary.text, &details).await?;
    Ok(CompactResult::Ok {
        tail_start_id: tail,
        tokens_before,
        auto_continued: part.replayed,
        summary_text: summary.text,
    })
}

/// What of the visible rows is summarised. An open question, and what stands behind it, is not.
fn part<'a>(visible: &[&'a MessageRow], job: &Job<'_>, config: &Config) -> Part<'a> {
    let compaction = &config.compaction;
    let said: Vec<&MessageRow> = visible
        .iter()
        .copied()
        .filter(|row| !window::is_nudge(row))
        .collect();
    let is_open = |row: &&MessageRow| *row.entry_id == *job.open_question && window::is_user(row);
    let question = said.iter().position(is_open);
    let (before, behind) = said.split_at(question.unwrap_or(said.len()));
    let usable = tokens::usable(job.model.limit, compaction.reserved_tokens);
    let Cut { head, tail } = tail::cut(
        before,
        Keep {
            turns: compaction.tail_turns,
            budget: tokens::tail_budget(usable, compaction.preserve_recent_tokens),
            last_step: question.is_none(),
        },
    );
    // A question with more behind it would be taken for an answered one, and all of it would be lost.
    let tail = tail
        .and_then(|at| before.get(at))
        .or_else(|| behind.first().filter(|_| behind.len() > 1));
    Part {
        head: before.iter().take(head).copied().collect(),
        tail_start: tail.map(|row| row.entry_id.clone()),
        replayed: question.is_some(),
    }
}

/// Drops old tool outputs. A small window protects less of them.
async fn prune<S: Send + Sync>(
    cx: &Cx<S>,
    job: &Job<'_>,
    rows: &[MessageRow],
    config: &Config,
) -> Result<()> {
    let mut limits = prune::Limits::of(&config.compaction);
    let usable = tokens::usable(job.model.limit, config.compaction.reserved_tokens);
    if usable > 0 {
        limits.protect = limits.protect.min(usable / 2);
        limits.min_free = limits.min_free.min(usable / 8);
    }
    let plan = prune::plan(rows, limits);
    if plan.entries.is_empty() {
        return Ok(());
    }
    session::prune(cx, job.session, &plan.entries).await
}

/// The window of a model; a modest one where nobody knows it.
async fn window_of<S: Send + Sync>(cx: &Cx<S>, model: &CompactModel) -> Limits {
    if model.limit.context > 0 {
        return model.limit;
    }
    let name = (model.provider_id.clone(), model.id.clone());
    resolve::limits(cx, &name)
        .await
        .unwrap_or(resolve::UNKNOWN_WINDOW)
}

/// What a Compaction entry tells beside its summary: the files, and what the summary itself took (weakness 19).
fn details(head: &[&RawMessage], previous: Option<&Value>, job: &Job<'_>, summary: &Summary) -> Value {
    let mut details = files::details(head, previous);
    if let Some(usage) = &summary.usage {
        details.insert("usage".to_owned(), json!(usage));
        details.insert("provider".to_owned(), json!(summary.provider));
        details.insert("model".to_owned(), json!(job.model.id));
    }
    Value::Object(details)
}

/// Appends the entry, and what goes with it; answers where the tail begins.
#[expect(clippy::too_many_arguments, reason = "one place, each of another kind")]
async fn append<S: Send + Sync>(
    cx: &Cx<S>,
    job: &Job<'_>,
    last: Option<&EntryId>,
    part: &Part<'_>,
    tokens_before: u64,
    summary: &str,
    details: &Value,
) -> Result<Option<EntryId>> {
    let mut tail = part.tail_start.clone();
    let add = async |tail: Option<&EntryId>| {
        session::compact(cx, job.session, summary, tokens_before, tail, details).await
    };
    let mut entry = add(tail.as_ref()).await?;
    if tail.is_none()
        && let Some(first) = missed(cx, job.session, last, &entry).await
    {
        entry = add(Some(&first)).await?;
        tail = Some(first);
    }
    if let Err(error) = cx.scope(LAST).set(job.session, &cx.now_ms()).await {
        tracing::warn!(session_id = %job.session, %error, "time of the compaction not stored");
    }
    if part.replayed
        && let Err(error) = session::nudge(cx, job.session, &entry).await
    {
        tracing::warn!(session_id = %job.session, %error, "no prompt behind the compaction");
    }
    let event = AgentEvent::CompactionDone {
        mode: job.mode,
        summary_text: summary.to_owned(),
        tokens_before,
        compaction_entry_id: entry,
        tail_start_id: tail.clone(),
    };
    announce::done(cx, job.session, &event).await;
    Ok(tail)
}

/// The first message behind the last known one that came while the summary was made. Without a tail what stands before the
/// entry counts as summarised, and that message stands before it (weakness 8).
async fn missed<S: Send + Sync>(
    cx: &Cx<S>,
    session: &SessionId,
    last: Option<&EntryId>,
    entry: &EntryId,
) -> Option<EntryId> {
    let last = last?;
    let (mut first, mut before) = (None, None);
    loop {
        let page = session::page(cx, session, Some(entry), before.as_ref())
            .await
            .ok()?;
        for row in page.rows.into_iter().rev() {
            if row.entry_id == *last {
                return first;
            }
            first = Some(row.entry_id);
        }
        before = Some(page.older?);
    }
}
