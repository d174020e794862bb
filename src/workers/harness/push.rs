//! The tasks of the bridge: one empties a lane, push by push; one ends a suspension.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::bridge::Bridge;
use super::subscriptions::{Effect, Id, Lane, Limits, Outcome, Pushed};
use crate::bus::{Baggage, Bus, CallContext, CallOptions, Link};
use crate::error::{Error, Result};

/// Pause after a push that our own link lost: whether it is down is known a little later.
const LINK_PAUSE: Duration = Duration::from_millis(100);

/// Pause between two questions whether a browser is there, when the first one was not answered.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// So many unanswered questions count as a no.
const MOST_QUESTIONS: usize = 10;

/// Empties one lane, one push after the other. While the engine cannot be reached it waits: that is no fault of the browser.
pub(super) async fn pump(bridge: Arc<Bridge>, bus: Bus, browser: Id, lane: Lane) {
    let (handler, context) = (handler(&browser, &lane), context(&lane));
    let mut link = bus.link();
    while is_up(&bus, &mut link).await {
        let next = bridge.browsers().next(&browser, &lane, Instant::now());
        let Some(push) = next else { return };
        let event = push.what.clone().into_json();
        let payload = match &lane {
            Lane::Session(session) => json!({ "session_id": &**session, "event": event }),
            Lane::Changes => event,
        };
        let before = *link.borrow_and_update();
        let limit = CallOptions::timeout_ms(bus.config().ui.push_timeout_ms);
        let outcome = match bus.invoke(&context, &handler, payload, limit).await {
            Ok(_) => Outcome::Delivered,
            Err(error) if is_lost(&error, before, *link.borrow()) => {
                bridge.browsers().put_back(&browser, &lane, push.what);
                sleep(LINK_PAUSE).await;
                continue;
            }
            Err(error) => failed(&browser, &error),
        };
        let pushed = Pushed {
            heard: push.heard,
            outcome,
        };
        finish(&bridge, &bus, &browser, &lane, pushed);
        if outcome != Outcome::Delivered && bus.shutdown_token().is_cancelled() {
            break;
        }
    }
    bridge.browsers().abandon(&browser, &lane);
}

/// Waits until the engine can be reached. False: the program stops.
async fn is_up(bus: &Bus, link: &mut watch::Receiver<Link>) -> bool {
    tokio::select! {
        biased;
        // An error: the link will not change any more.
        _ = async { link.wait_for(|link| *link != Link::Down).await.is_ok() } => true,
        () = bus.shutdown_token().cancelled() => false,
    }
}

/// Whether a push failed because of the way to the engine.
fn is_lost(error: &Error, before: Link, after: Link) -> bool {
    match error {
        Error::Disconnected => true,
        Error::Timeout { .. } => after == Link::Down || after != before,
        _ => false,
    }
}

fn failed(browser: &str, error: &Error) -> Outcome {
    tracing::debug!(browser, %error, "push failed");
    if error.is_function_not_found() {
        Outcome::NotFound
    } else {
        Outcome::Failed
    }
}

fn finish(bridge: &Arc<Bridge>, bus: &Bus, browser: &Id, lane: &Lane, pushed: Pushed) {
    let limits = Limits::of(&bus.config());
    let effect = bridge
        .browsers()
        .finished(browser, lane, pushed, limits, Instant::now());
    match effect {
        Effect::None => {}
        Effect::Removed => tracing::info!(%browser, "browser is gone, its subscriptions are dropped"),
        Effect::Suspended(number, until) => {
            tracing::info!(%browser, "browser is not reachable, its subscriptions wait");
            let (bridge, asking, browser) = (Arc::clone(bridge), bus.clone(), Arc::clone(browser));
            bus.spawn(expire(bridge, asking, browser, number, until));
        }
    }
}

fn handler(browser: &str, lane: &Lane) -> String {
    match lane {
        Lane::Session(_) => format!("ui::session::event::{browser}"),
        Lane::Changes => format!("ui::sessions::changed::{browser}"),
    }
}

fn context(lane: &Lane) -> CallContext {
    let session_id = match lane {
        Lane::Session(session) => Some(Arc::clone(session)),
        Lane::Changes => None,
    };
    CallContext {
        baggage: Baggage {
            session_id,
            ..Baggage::default()
        },
        ..CallContext::default()
    }
}

/// Ends a suspension that no push and no subscription lifted: nobody may have had anything to tell the browser meanwhile, so
/// it is looked for first.
async fn expire(bridge: Arc<Bridge>, bus: Bus, browser: Id, number: u64, until: Instant) {
    tokio::select! {
        () = tokio::time::sleep_until(until) => {}
        () = bus.shutdown_token().cancelled() => return,
    }
    let mut link = bus.link();
    for _ in 0..MOST_QUESTIONS {
        if !is_up(&bus, &mut link).await || !bridge.browsers().is_suspended(&browser, number) {
            return;
        }
        match is_there(&bus, &browser).await {
            Ok(true) => {
                tracing::info!(%browser, "browser is there again");
                return bridge.browsers().restore(&browser, number);
            }
            Ok(false) => break,
            Err(error) => tracing::debug!(%browser, %error, "not known whether the browser is there"),
        }
        sleep(ASK_AGAIN).await;
    }
    let expired = bridge.browsers().expire(&browser, number);
    if expired {
        tracing::info!(%browser, "browser did not come back, its subscriptions are dropped");
    }
}

/// Whether somebody hosts one of the browser's handlers.
///
/// # Errors
/// Nobody could say.
async fn is_there(bus: &Bus, browser: &str) -> Result<bool> {
    for lane in [Lane::Session(Arc::from("")), Lane::Changes] {
        let handler = handler(browser, &lane);
        if bus.hosts(&handler) {
            return Ok(true);
        }
        let limit = CallOptions::timeout_ms(bus.config().ui.push_timeout_ms);
        let question = json!({ "function_id": handler });
        let context = CallContext::default();
        match bus
            .invoke(&context, "engine::functions::info", question, limit)
            .await
        {
            Ok(_) => return Ok(true),
            Err(error) if error.is_retryable() => return Err(error),
            // No such function.
            Err(_) => {}
        }
    }
    Ok(false)
}
