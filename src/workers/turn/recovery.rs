//! Sessions that an earlier life of the process left open are continued (design §4).

use std::time::Duration;

use super::Turns;
use super::actor::Input;
use super::lease::Lease;
use super::record::{RECORDS, TurnRecord};
use crate::bus::Cx;
use crate::error::Result;

const SCAN_EVERY: Duration = Duration::from_secs(30);

/// Scans at start. On an engine that others use too it scans on: a session whose process died elsewhere is taken over once
/// its lease has lapsed. On an exclusive one nobody else can leave a session open.
pub(super) async fn run(cx: Cx<Turns>) -> Result<()> {
    let open = scan(&cx).await;
    if open > 0 {
        tracing::info!(open, "resuming sessions of an earlier run");
        cx.state().boot();
    }
    if cx.bus().transport().is_exclusive() {
        return Ok(());
    }
    while cx
        .shutdown_token()
        .run_until_cancelled(tokio::time::sleep(SCAN_EVERY))
        .await
        .is_some()
    {
        scan(&cx).await;
    }
    Ok(())
}

async fn scan(cx: &Cx<Turns>) -> usize {
    let rows = match cx.scope(RECORDS).list().await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(%error, "open sessions not looked for");
            return 0;
        }
    };
    let mut open = 0;
    for record in rows.into_iter().filter_map(|row| TurnRecord::read(Some(row))) {
        let over = record.state.is_terminal() && record.agent_end_emitted != Some(false);
        if over || cx.state().actors.is_awake(&record.session_id) {
            continue;
        }
        match Lease::is_held(cx.bus(), &record.session_id).await {
            Ok(true) => {}
            Ok(false) => {
                open += 1;
                cx.state().actors.submit(cx, &record.session_id, Input::Resume);
            }
            Err(error) => tracing::warn!(session_id = %record.session_id, %error, "session not resumed"),
        }
    }
    open
}
