//! Sessions that an earlier life of the process left open are continued (design §4).

use std::time::Duration;

use super::Turns;
use super::actor::Input;
use super::lease::Lease;
use super::record::{RECORDS, TurnRecord};
use crate::bus::Cx;
use crate::error::Result;
use crate::model::SessionId;

const SCAN_EVERY: Duration = Duration::from_secs(30);

/// Finds the open sessions before anything new can begin. They are resumed once every worker is prepared.
pub(super) async fn find(cx: Cx<Turns>) -> Result<()> {
    let open = scan(&cx).await?;
    if !open.is_empty() {
        tracing::info!(open = open.len(), "sessions of an earlier run are open");
        cx.state().boot(open);
    }
    Ok(())
}

/// Resumes what was found, and looks again: on an engine that others use too a session whose process died elsewhere is
/// taken over once its lease has lapsed. On an exclusive one nobody else can leave a session open: one second look, for
/// what the first could not read, is enough.
pub(super) async fn run(cx: Cx<Turns>) -> Result<()> {
    resume(&cx, cx.state().left_open()).await;
    loop {
        let pause = tokio::time::sleep(SCAN_EVERY);
        if cx.shutdown_token().run_until_cancelled(pause).await.is_none() {
            return Ok(());
        }
        match scan(&cx).await {
            Ok(open) => {
                resume(&cx, open).await;
                if cx.bus().transport().is_exclusive() {
                    return Ok(());
                }
            }
            Err(error) => tracing::warn!(%error, "open sessions not looked for"),
        }
    }
}

/// Other workers lose the engine when we do: they get their time to come back.
pub(super) async fn watch_link(cx: Cx<Turns>) -> Result<()> {
    let mut link = cx.bus().link();
    while let Some(Ok(())) = cx.shutdown_token().run_until_cancelled(link.changed()).await {
        // The first connection is behind us. Also when the link is lost, so that nothing can come between its return and
        // this.
        cx.state().await_others();
    }
    Ok(())
}

/// Looks once more, now: a reconnected engine may have missed the end of a step.
pub(super) async fn again(cx: Cx<Turns>) -> Result<()> {
    resume(&cx, scan(&cx).await?).await;
    Ok(())
}

/// Sessions whose run is not over, or whose end was not announced.
async fn scan(cx: &Cx<Turns>) -> Result<Vec<SessionId>> {
    let rows = cx.scope(RECORDS).list().await?;
    let records = rows.into_iter().filter_map(|row| TurnRecord::read(Some(row)));
    let open =
        records.filter(|record| !record.state.is_terminal() || record.agent_end_emitted == Some(false));
    Ok(open.map(|record| record.session_id).collect())
}

async fn resume(cx: &Cx<Turns>, open: Vec<SessionId>) {
    for session in open {
        // One that is awake may only have told somebody that the session is busy: it is told as well.
        match Lease::is_held(cx.bus(), &session).await {
            Ok(true) => {}
            Ok(false) => cx.state().actors.submit(cx, &session, Input::Resume),
            Err(error) => tracing::warn!(session_id = %session, %error, "session not resumed"),
        }
    }
}
