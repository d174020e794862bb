//! Calls that go out. One is on its way when [`call`] returns, so that the order of calls is the order of frames.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::ready;
use iii_helpers::observability::extract_context;
use iii_helpers::observability::opentelemetry::trace::FutureExt as _;
use iii_sdk::protocol::{TriggerRequest, TriggerRequestWithMetadata};
use iii_sdk::{Dispatch, TriggerAction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Core, error};
use crate::bus::{CallFuture, Invocation, Link};
use crate::error::{Error, Result};

/// Limit of a call whose caller has none.
pub(super) const DEFAULT_LIMIT: Duration = Duration::from_secs(30);

/// How long a call that was not sent waits for the link: one attempt of the SDK to reconnect, and a little.
const RECONNECT_WAIT: Duration = Duration::from_secs(3);

/// Calls that may wait at a time; further ones fail at once.
const MAX_WAITING: usize = 1_024;

/// Waiting calls go out over this many milliseconds, not all in one burst at an engine that just came up.
const SPREAD_MS: usize = 64;

/// How long after a connection the parts of an engine may be starting.
const STARTING: Duration = Duration::from_secs(10);

/// Pauses between attempts at a part that is not there yet.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Calls that the engine may have to answer at a time; further ones wait here and not in the SDK, whose queue has no end.
const MAX_OPEN: usize = 4_096;

/// Room for calls.
pub(super) struct Room {
    /// For those that wait for the link.
    waiting: Semaphore,
    /// For those that are sent.
    open: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            waiting: Semaphore::new(MAX_WAITING),
            open: Arc::new(Semaphore::new(MAX_OPEN)),
        }
    }
}

/// Makes a call.
pub(super) fn call(
    core: &Arc<Core>,
    invocation: Invocation,
    action: Option<TriggerAction>,
    limit: Duration,
) -> CallFuture {
    match core.link.now() {
        Link::Up(_) if may_be_starting(core, &invocation.function_id) => {
            patiently(core, invocation, action, limit)
        }
        Link::Up(_) => send(core, invocation, action, limit),
        Link::Down => {
            let core = Arc::clone(core);
            async move {
                wait_for_link(&core).await?;
                send(&core, invocation, action, limit).await
            }
            .boxed()
        }
    }
}

/// Whether a part of an engine that just came up may not have registered this id yet.
fn may_be_starting(core: &Core, id: &str) -> bool {
    let parts = ["configuration::", "state::", "stream::"];
    core.link.age() < STARTING && parts.iter().any(|part| id.starts_with(part))
}

/// Sends now, and again while nobody answers to the id and the engine is young.
fn patiently(
    core: &Arc<Core>,
    invocation: Invocation,
    action: Option<TriggerAction>,
    limit: Duration,
) -> CallFuture {
    let mut answer = send(core, invocation.clone(), action.clone(), limit);
    let core = Arc::clone(core);
    async move {
        let mut pause = FIRST_PAUSE;
        loop {
            let outcome = answer.await;
            let is_early = matches!(&outcome, Err(error) if error.is_function_not_found());
            if !is_early || !may_be_starting(&core, &invocation.function_id) {
                return outcome;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            answer = send(&core, invocation.clone(), action.clone(), limit);
        }
    }
    .boxed()
}

async fn wait_for_link(core: &Core) -> Result<()> {
    if core.link.is_over() || core.link.is_stand_by() {
        return Err(Error::Disconnected);
    }
    let waiting = &core.room.waiting;
    let _room = waiting.try_acquire().map_err(|_| Error::Disconnected)?;
    let place = MAX_WAITING - waiting.available_permits();
    if tokio::time::timeout(RECONNECT_WAIT, core.link.up())
        .await
        .is_err()
    {
        return Err(Error::Disconnected);
    }
    let turn = u64::try_from(place % SPREAD_MS).unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(turn)).await;
    Ok(())
}

/// Sends now, whatever the state of the link, or as soon as there is room; the answer comes with what is returned.
pub(super) fn send(
    core: &Arc<Core>,
    invocation: Invocation,
    action: Option<TriggerAction>,
    limit: Duration,
) -> CallFuture {
    if let Ok(room) = Arc::clone(&core.room.open).try_acquire_owned() {
        return begin(core, invocation, action, limit, room);
    }
    let core = Arc::clone(core);
    async move {
        let room = Arc::clone(&core.room.open).acquire_owned().await;
        let room = room.map_err(|_| Error::Stopped)?;
        begin(&core, invocation, action, limit, room).await
    }
    .boxed()
}

fn begin(
    core: &Arc<Core>,
    invocation: Invocation,
    action: Option<TriggerAction>,
    limit: Duration,
    room: OwnedSemaphorePermit,
) -> CallFuture {
    let client = match core.client() {
        Ok(client) => client.clone(),
        Err(error) => return ready(Err(error)).boxed(),
    };
    let Invocation {
        function_id,
        payload,
        context,
    } = invocation;
    let baggage = context.baggage.render(&function_id);
    let trace = extract_context(context.traceparent.as_deref(), baggage.as_deref());
    let request = TriggerRequest {
        function_id: function_id.to_string(),
        payload,
        action,
        timeout_ms: Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
    };
    let mut request = TriggerRequestWithMetadata::from(request).dispatch(Dispatch::Remote);
    if let Some(metadata) = context.metadata {
        request = request.metadata(Arc::unwrap_or_clone(metadata));
    }
    let mut call = async move {
        let outcome = client.trigger(request).await;
        outcome.map_err(|error| error::from_sdk(&function_id, limit, error))
    }
    .with_context(trace)
    .boxed();
    let mut link = core.link.subscribe();
    let sent_over = *link.borrow_and_update();
    // The first poll sends.
    if let Some(outcome) = (&mut call).now_or_never() {
        return ready(outcome).boxed();
    }
    // The rest runs to its end or its limit whatever becomes of the caller: only then the SDK forgets the call.
    let (answer, answered) = oneshot::channel();
    core.tasks.spawn(async move {
        tokio::select! {
            biased;
            outcome = &mut call => {
                answer.send(outcome).ok();
                return;
            }
            // What the probe sends goes out before the link is up.
            _ = link.wait_for(|now| sent_over != Link::Down && *now != sent_over) => {
                answer.send(Err(Error::Disconnected)).ok();
            }
        }
        drop(room);
        // Nobody waits for it any more.
        call.await.ok();
    });
    async move { answered.await.unwrap_or(Err(Error::Stopped)) }.boxed()
}
