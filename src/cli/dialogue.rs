//! What `run` and `chat` have in common: a conversation that is shown, and calls that wait for a decision.

use std::collections::VecDeque;
use std::io::IsTerminal;

use anyhow::Result;
use serde_json::{Value, json};

use super::conversation::{Conversation, News};
use super::ears::Woken;
use super::lines;
use super::screen::Screen;
use super::view::{Outcome, Tone, View};
use crate::model::{AwaitingCall, TurnStateView};

/// Who decides about calls that wait for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Approve {
    /// They are approved.
    All,
    /// They are denied.
    None,
    /// Each is asked about; a line of stdin answers.
    Ask,
}

/// The answers at a prompt.
const CHOICES: &str = "[a]pprove, [d]eny, a[l]ways, abort";

/// Lines of the input.
struct Typed {
    /// Typed while something else was going on.
    waiting: VecDeque<String>,
    /// Whether more may come.
    open: bool,
    /// Whether a person types them. A pipe has its answers ready before the questions.
    by_hand: bool,
}

impl Default for Typed {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            open: true,
            by_hand: std::io::stdin().is_terminal(),
        }
    }
}

/// A conversation on a screen.
pub(super) struct Dialogue {
    pub(super) talk: Conversation,
    pub(super) screen: Screen,
    view: View,
    approve: Approve,
    /// Events are printed as they are; nothing else is.
    json: bool,
    running: bool,
    /// Calls that were decided here, or are being asked about; the first of the latter is the one at the prompt.
    decided: Vec<AwaitingCall>,
    asking: Option<AwaitingCall>,
    typed: Typed,
    denied: bool,
    outcome: Option<Outcome>,
}

impl Dialogue {
    pub(super) fn new(talk: Conversation, screen: Screen, approve: Approve, json: bool) -> Self {
        Self {
            talk,
            screen,
            view: View::default(),
            approve,
            json,
            running: false,
            decided: Vec::new(),
            asking: None,
            typed: Typed::default(),
            denied: false,
            outcome: None,
        }
    }

    /// Whether a run is going on.
    pub(super) fn is_running(&self) -> bool {
        self.running
    }

    /// Takes in a line, or the end of the input.
    pub(super) async fn hear(&mut self, line: Option<String>) -> Result<()> {
        match line {
            None => self.typed.open = false,
            // Only what a person typed after the question answers it.
            Some(line) if self.asking.is_some() => self.answer(Some(&line)).await?,
            Some(line) => self.typed.waiting.push_back(line),
        }
        self.attend().await
    }

    /// The next line that is no answer.
    pub(super) fn line(&mut self) -> Option<String> {
        self.typed.waiting.pop_front()
    }

    /// Whether more lines may come.
    pub(super) fn is_open(&self) -> bool {
        self.typed.open
    }

    /// Invites a person to type.
    pub(super) fn prompt(&mut self) -> Result<()> {
        if self.typed.by_hand {
            self.screen.prompt()?;
        }
        Ok(())
    }

    /// Whether a call was denied because nobody was there to approve it.
    pub(super) fn denied(&self) -> bool {
        self.denied
    }

    /// How the run ended, once it has.
    pub(super) fn outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// Begins a run. False: the one before is still going on.
    pub(super) async fn send(&mut self, text: &str) -> Result<bool> {
        self.running = self.talk.send(text).await?;
        Ok(self.running)
    }

    /// Goes over to another session, whose run may be going on; then [`Self::attend`] asks what it waits for.
    pub(super) async fn resume(&mut self, session: String) -> Result<()> {
        self.talk.switch(session).await?;
        self.reset();
        for news in self.talk.catch_up().await {
            if let News::State(state) = &news {
                self.running = !state.state.is_terminal();
            }
            self.news(news).await?;
        }
        Ok(())
    }

    /// Goes over to a new session.
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.talk.begin().await?;
        self.reset();
        Ok(())
    }

    fn reset(&mut self) {
        self.view = View::default();
        self.running = false;
        self.asking = None;
        self.decided.clear();
    }

    /// Takes in what woke it, unless that is for the command itself.
    pub(super) async fn absorb(&mut self, woken: Woken) -> Result<()> {
        let news = match woken {
            Woken::Frame(frame) => self.talk.frame(frame).await,
            Woken::Link(link) => self.talk.linked(link).await,
            Woken::Tick if self.running => self.talk.look().await,
            Woken::Tick | Woken::Interrupt | Woken::Line(_) => Vec::new(),
        };
        for news in news {
            self.news(news).await?;
        }
        self.attend().await
    }

    async fn news(&mut self, news: News) -> Result<()> {
        match news {
            News::Event(event) => self.event(&event),
            News::State(state) if self.running => self.state(state).await,
            News::State(_) => Ok(()),
            News::Notice(text) => self.screen.note(Tone::Quiet, text),
        }
    }

    fn event(&mut self, event: &Value) -> Result<()> {
        if self.json {
            self.screen.line(&event.to_string())?;
        }
        self.fold(event)?;
        self.settle();
        Ok(())
    }

    fn fold(&mut self, event: &Value) -> Result<()> {
        for piece in self.view.event(event) {
            if !self.json {
                self.screen.show(&piece)?;
            }
        }
        Ok(())
    }

    /// The events of the end may have been missed, when another process wrote them; then the transcript has the answer.
    async fn state(&mut self, state: TurnStateView) -> Result<()> {
        let over = state.state.is_terminal();
        let shown = self.view.state(state);
        if let Some(piece) = shown.filter(|_| !self.json) {
            self.screen.show(&piece)?;
        }
        if over
            && !self.view.has_answer()
            && let Some(message) = self.talk.messages().await?.pop()
        {
            self.screen.note(
                Tone::Quiet,
                "the end of the run was missed; this is its last message",
            )?;
            self.fold(&json!({ "type": "message_complete", "message": message }))?;
        }
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        if let Some(outcome) = self.view.ended() {
            self.running = false;
            self.decided.clear();
            self.outcome = Some(outcome);
        }
    }

    /// Sees to the calls that wait: decides them, or asks, and takes the answers that are there already.
    pub(super) async fn attend(&mut self) -> Result<()> {
        loop {
            self.look_at_parked().await?;
            if self.asking.is_none() {
                return Ok(());
            }
            let answer = match self.typed.waiting.pop_front_if(|_| !self.typed.by_hand) {
                Some(line) => Some(line),
                None if self.typed.open => return Ok(()),
                None => None,
            };
            self.answer(answer.as_deref()).await?;
        }
    }

    async fn look_at_parked(&mut self) -> Result<()> {
        let parked = self.view.parked().to_vec();
        if self.asking.as_ref().is_some_and(|call| !parked.contains(call)) {
            // Somebody else decided, or the run is over.
            self.asking = None;
        }
        self.decided.retain(|call| parked.contains(call));
        for call in parked {
            if self.asking.is_some() || self.decided.contains(&call) {
                continue;
            }
            let (asked, why) = (lines::call(&call.function_id, &call.args), lines::why(&call));
            match self.approve {
                Approve::All => {
                    self.screen.note(Tone::Ask, format!("? {asked}: approved{why}"))?;
                    self.decide(call, "allow", None).await?;
                }
                Approve::None => {
                    self.screen.note(
                        Tone::Ask,
                        format!("? {asked}: denied, nobody is asked (--approve){why}"),
                    )?;
                    self.refuse(call).await?;
                }
                Approve::Ask => {
                    let asked = lines::whole_call(&call.function_id, &call.args);
                    self.screen
                        .note(Tone::Ask, format!("? {asked}{why}\n  {CHOICES}"))?;
                    self.asking = Some(call);
                }
            }
        }
        Ok(())
    }

    /// Decides the call at the prompt; `None` is the end of the input.
    async fn answer(&mut self, line: Option<&str>) -> Result<()> {
        let Some(call) = self.asking.take() else {
            return Ok(());
        };
        let Some(line) = line else {
            return self.refuse(call).await;
        };
        let line = line.trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word.to_lowercase().as_str() {
            "a" | "approve" | "y" | "yes" => self.decide(call, "allow", None).await,
            "d" | "deny" | "n" | "no" => {
                let reason = Some(rest.trim()).filter(|reason| !reason.is_empty());
                self.decide(call, "deny", reason).await
            }
            "l" | "always" => {
                if let Err(error) = self.talk.approve_always(&call).await {
                    self.screen
                        .note(Tone::Bad, format!("✗ not remembered: {error:#}"))?;
                }
                self.decide(call, "allow", None).await
            }
            "abort" if self.talk.abort().await? => {
                self.decided.push(call);
                Ok(())
            }
            // Where runs cannot be stopped, at least this call does not happen.
            "abort" => self.decide(call, "aborted", None).await,
            _ => {
                self.asking = Some(call);
                self.screen.note(Tone::Ask, format!("  {CHOICES}"))
            }
        }
    }

    async fn refuse(&mut self, call: AwaitingCall) -> Result<()> {
        self.denied = true;
        let reason = "nobody is there to approve it";
        self.decide(call, "deny", Some(reason)).await
    }

    /// A decision that does not arrive is asked for again.
    async fn decide(&mut self, call: AwaitingCall, decision: &str, reason: Option<&str>) -> Result<()> {
        match self.talk.resolve(&call, decision, reason).await {
            Ok(()) => self.decided.push(call),
            Err(error) if self.approve == Approve::Ask => {
                self.screen.note(Tone::Bad, format!("✗ not decided: {error:#}"))?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
