//! One actor per active session (design §4): every input of the session goes through it, in order; sessions never wait
//! for one another. An actor ends, and its memory is freed, as soon as its mailbox is empty.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use tokio::sync::{Notify, mpsc, oneshot};

use super::backoff::Backoff;
use super::record::TurnRecord;
use super::session::Session;
use super::start::Begun;
use super::step::StepReply;
use super::stop::{Ask, Stop};
use super::{Turns, later, runner, start};
use crate::bus::{Baggage, CallContext, Cx};
use crate::error::{Error, Result};
use crate::model::api::run::{StartRequest, StartResponse};
use crate::model::{SessionId, TurnState};

/// Inputs that may wait for one session.
const MAILBOX: usize = 64;

/// An input of a session.
pub(super) enum Input {
    /// `run::start`.
    Start {
        request: Box<StartRequest>,
        reply: oneshot::Sender<Result<StartResponse>>,
    },
    /// `turn::<state>`.
    Step {
        state: TurnState,
        reply: oneshot::Sender<Result<StepReply>>,
    },
    /// `run::abort`, or the same wish from another process.
    Abort(Ask),
    /// A decision may have been made, or the session is to be continued after a restart.
    Resume,
}

/// What an input has the actor do from what is stored then: one that waits does it for all that come meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Errand {
    Step(TurnState),
    Abort,
    Resume,
}

impl Input {
    /// A start brings something of its own.
    fn errand(&self) -> Option<Errand> {
        match self {
            Self::Start { .. } => None,
            Self::Step { state, .. } => Some(Errand::Step(*state)),
            Self::Abort(_) => Some(Errand::Abort),
            Self::Resume => Some(Errand::Resume),
        }
    }
}

/// The actors that are awake.
#[derive(Default)]
pub(super) struct Actors(Mutex<HashMap<SessionId, Handle>>);

struct Handle {
    mailbox: mpsc::Sender<Input>,
    status: Arc<Status>,
}

/// What others can see of an actor.
#[derive(Default)]
struct Status {
    /// A run is under way; inputs are answered on the spot instead of waiting for its end.
    running: AtomicBool,
    /// An input came while a step ran: look at the decisions once more.
    missed: AtomicBool,
    recheck: Arc<Notify>,
    stop: Arc<Stop>,
    /// Those in the mailbox.
    errands: Mutex<Vec<Errand>>,
}

impl Status {
    /// Notes that an input goes into the mailbox; false when one there does all that it would.
    fn waits(&self, input: &Input) -> bool {
        let Some(errand) = input.errand() else { return true };
        let mut errands = self.errands();
        let is_new = !errands.contains(&errand);
        if is_new {
            errands.push(errand);
        }
        is_new
    }

    /// Notes that an input has left the mailbox, before it is seen to: what comes from now on may need another look.
    fn taken(&self, input: &Input) {
        let errand = input.errand();
        self.errands().retain(|waiting| Some(*waiting) != errand);
    }

    fn errands(&self) -> MutexGuard<'_, Vec<Errand>> {
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Actors {
    /// Hands an input to the session's actor; wakes one if there is none.
    pub(super) fn submit(&self, cx: &Cx<Turns>, session: &SessionId, input: Input) {
        let mut actors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that gave up takes nothing any more.
        if actors
            .get(session)
            .is_none_or(|handle| handle.mailbox.is_closed())
        {
            actors.insert(session.clone(), spawn(cx, session));
        }
        let Some(handle) = actors.get(session) else { return };
        if handle.status.running.load(Ordering::SeqCst) {
            return answer_while_running(&handle.status, session, input);
        }
        if !handle.status.waits(&input) {
            return join(&handle.status, input);
        }
        // Of several starts at once the first one decides; the others need not wait to hear that it does.
        handle
            .status
            .running
            .store(matches!(input, Input::Start { .. }), Ordering::SeqCst);
        if let Err(refused) = handle.mailbox.try_send(input) {
            let input = refused.into_inner();
            handle.status.taken(&input);
            let full = Error::Transient(format!("session {session} has too many waiting inputs"));
            refuse(input, full);
        }
    }
}

fn answer_while_running(status: &Status, session: &SessionId, input: Input) {
    match input {
        Input::Start { reply, .. } => send(reply, Ok(start::busy(session.clone()))),
        Input::Step { reply, .. } => {
            look_again(status);
            send(reply, Ok(StepReply::skipped("running")));
        }
        Input::Abort(ask) => status.stop.ask(ask),
        Input::Resume => look_again(status),
    }
}

/// An input whose errand waits already.
fn join(status: &Status, input: Input) {
    match input {
        Input::Step { reply, .. } => send(reply, Ok(StepReply::skipped("running"))),
        Input::Abort(ask) => status.stop.ask(ask),
        Input::Start { .. } | Input::Resume => {}
    }
}

fn look_again(status: &Status) {
    status.missed.store(true, Ordering::SeqCst);
    status.recheck.notify_one();
}

fn refuse(input: Input, error: Error) {
    match input {
        Input::Start { reply, .. } => send(reply, Err(error)),
        Input::Step { reply, .. } => send(reply, Err(error)),
        Input::Abort(ask) => ask.answer(Err(error)),
        Input::Resume => tracing::warn!(%error, "session not resumed"),
    }
}

fn send<T>(reply: oneshot::Sender<T>, answer: T) {
    if reply.send(answer).is_err() {
        tracing::debug!("the caller went away before its answer");
    }
}

fn spawn(cx: &Cx<Turns>, session: &SessionId) -> Handle {
    let (mailbox, inputs) = mpsc::channel(MAILBOX);
    let status = Arc::new(Status::default());
    let baggage = Baggage {
        session_id: Some(Arc::from(session.as_str())),
        ..Baggage::default()
    };
    let cx = cx.with_context(CallContext {
        baggage,
        ..CallContext::default()
    });
    let actor = Actor {
        session: Session::new(
            cx.clone(),
            session.clone(),
            Arc::clone(&status.recheck),
            Arc::clone(&status.stop),
        ),
        inputs,
        status: Arc::clone(&status),
    };
    cx.spawn(live(actor));
    Handle { mailbox, status }
}

/// Runs an actor. One that panics goes on from what is stored, like after a kill, a few times; then its run ends.
async fn live(mut actor: Actor) {
    let mut pause = Backoff::of(&actor.session.cx);
    let mut resumes = false;
    while AssertUnwindSafe(actor.run(resumes)).catch_unwind().await.is_err() {
        tracing::error!(session_id = %actor.session.id, "an actor panicked");
        actor.session.restart();
        let panicked = Error::Panicked {
            function: "turn".into(),
            detail: "the actor of the session panicked".into(),
        };
        if let Err(error) = pause.wait(panicked).await {
            return actor.end(&error).await;
        }
        resumes = true;
    }
}

struct Actor {
    session: Session,
    inputs: mpsc::Receiver<Input>,
    status: Arc<Status>,
}

impl Actor {
    async fn run(&mut self, resumes: bool) {
        if resumes {
            self.handle(Input::Resume).await;
        }
        loop {
            while let Ok(input) = self.inputs.try_recv() {
                self.status.taken(&input);
                self.handle(input).await;
            }
            self.session.release_lease().await;
            if self.retire() {
                return;
            }
        }
    }

    /// Gives up. Whoever waits hears of it; the next input wakes another actor, and so does time.
    async fn end(mut self, why: &Error) {
        if !self.session.cx.shutdown_token().is_cancelled() {
            let given_up = AssertUnwindSafe(runner::give_up(&mut self.session, why));
            if !matches!(given_up.catch_unwind().await, Ok(Ok(()))) {
                later::look_again(&self.session);
            }
        }
        self.session.release_lease().await;
        lock(&self.session.cx).remove(&self.session.id);
        self.inputs.close();
        while let Ok(input) = self.inputs.try_recv() {
            refuse(input, why.clone());
        }
        self.status.stop.leave(&Err(why.clone()));
    }

    async fn handle(&mut self, input: Input) {
        match input {
            Input::Start { request, reply } => {
                let (answer, record) = match start::begin(&mut self.session, *request).await {
                    Ok(Begun { response, record }) => (Ok(response), record),
                    Err(error) => (Err(error), None),
                };
                send(reply, answer);
                // A run of before may have been decided on while this one asked.
                if record.is_some() || self.missed_something() {
                    self.drive(record, None).await;
                }
            }
            Input::Step { state, reply } => self.drive(None, Some((state, reply))).await,
            Input::Abort(ask) => {
                self.status.stop.ask(ask);
                self.drive(None, None).await;
            }
            Input::Resume => self.drive(None, None).await,
        }
    }

    /// Runs the session's steps until it rests, from a record that was stored just now or from the stored one. A parked
    /// session is looked at again when something came meanwhile.
    async fn drive(
        &mut self,
        mut stored: Option<TurnRecord>,
        mut first: Option<(TurnState, oneshot::Sender<Result<StepReply>>)>,
    ) {
        loop {
            let (id, cx) = (self.session.id.clone(), self.session.cx.clone());
            let (status, inputs) = (&self.status, &mut self.inputs);
            // From here on inputs are answered on the spot; those that slipped in before are answered now.
            let begin = || {
                {
                    let _inputs_are_held = lock(&cx);
                    status.running.store(true, Ordering::SeqCst);
                }
                while let Ok(input) = inputs.try_recv() {
                    status.taken(&input);
                    answer_while_running(status, &id, input);
                }
            };
            let ending = || status.running.store(false, Ordering::SeqCst);
            let (record, caller) = (stored.take(), first.take());
            runner::run(&mut self.session, record, caller, begin, ending).await;
            if !self.missed_something() {
                return;
            }
        }
    }

    /// Whether an input came while the last step ran that still has to be seen to. If not, inputs go to the mailbox again.
    fn missed_something(&self) -> bool {
        let _inputs_are_held = lock(&self.session.cx);
        let missed = self.status.missed.swap(false, Ordering::SeqCst) || self.status.stop.is_asked();
        if !missed {
            self.status.running.store(false, Ordering::SeqCst);
        }
        missed
    }

    /// Takes the actor off the list, unless an input arrived meanwhile.
    fn retire(&self) -> bool {
        let mut actors = lock(&self.session.cx);
        let idle = self.inputs.is_empty();
        if idle {
            actors.remove(&self.session.id);
        }
        idle
    }
}

/// Holds the list of actors, and with it every input on its way.
fn lock(cx: &Cx<Turns>) -> MutexGuard<'_, HashMap<SessionId, Handle>> {
    cx.state().actors.0.lock().unwrap_or_else(PoisonError::into_inner)
}
