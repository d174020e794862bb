//! The way of the events to the reader: as they are for a reader of this process, with the message so far for others.
//!
//! A frame with the message so far costs as much as the message, so a long one must not be sent per token: from
//! [`MERGE_FROM_BYTES`] on, deltas that follow one another within [`WINDOW`] go out as one frame. Short messages are
//! never merged: there is nothing to save.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::assembly::Assembly;
use crate::bus::{ChannelWriter, Frame, to_json};
use crate::error::Result;
use crate::model::event::DeltaKind;
use crate::model::{AssistantEvent, AssistantMessage};

const MERGE_FROM_BYTES: usize = 4096;
const WINDOW: Duration = Duration::from_millis(25);

/// Sends the events of one turn. Without a writer it only counts as sent: nobody listens to a drained turn.
#[derive(Debug)]
pub(super) struct Outbox<'a> {
    writer: Option<&'a ChannelWriter>,
    started: bool,
    held: Option<Held>,
    last_frame: Option<Instant>,
}

/// Deltas that wait to be sent as one.
#[derive(Debug)]
struct Held {
    kind: DeltaKind,
    text: String,
    due: Instant,
}

impl<'a> Outbox<'a> {
    pub(super) fn new(writer: Option<&'a ChannelWriter>) -> Self {
        Self {
            writer,
            started: false,
            held: None,
            last_frame: None,
        }
    }

    /// `start`, once per turn however many attempts there are.
    pub(super) async fn start(&mut self, assembly: &Assembly) -> Result<()> {
        if std::mem::replace(&mut self.started, true) {
            return Ok(());
        }
        self.send(AssistantEvent::Start { partial: None }, assembly, &mut None)
            .await
    }

    /// Everything the assembly has to tell.
    pub(super) async fn pass_on(&mut self, assembly: &mut Assembly) -> Result<()> {
        let mut snapshot = None;
        for event in assembly.take_events() {
            if let Some((kind, text)) = event.delta().filter(|_| self.merges(assembly)) {
                if self.held.as_ref().is_some_and(|held| held.kind != kind) {
                    self.flush(assembly).await?;
                }
                self.hold(kind, text);
            } else {
                self.flush(assembly).await?;
                self.send(event, assembly, &mut snapshot).await?;
            }
        }
        if self.held.as_ref().is_some_and(|held| held.due <= Instant::now()) {
            self.flush(assembly).await?;
        }
        Ok(())
    }

    /// An event that carries no message so far.
    pub(super) async fn tell(&self, event: AssistantEvent) -> Result<()> {
        match self.writer {
            Some(writer) if writer.is_slim() => writer.send(Frame::Event(event)).await,
            Some(writer) => writer.send(Frame::Text(wire_form(&event)?)).await,
            None => Ok(()),
        }
    }

    /// When held deltas are due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.due)
    }

    /// Sends held deltas.
    pub(super) async fn flush(&mut self, assembly: &Assembly) -> Result<()> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        let (partial, delta) = (None, held.text);
        let event = match held.kind {
            DeltaKind::Text => AssistantEvent::TextDelta { partial, delta },
            DeltaKind::Thinking => AssistantEvent::ThinkingDelta { partial, delta },
            DeltaKind::FunctionCall => AssistantEvent::FunctioncallDelta { partial, delta },
        };
        self.last_frame = Some(Instant::now());
        self.send(event, assembly, &mut None).await
    }

    fn merges(&self, assembly: &Assembly) -> bool {
        let whole_frames = self.writer.is_some_and(|writer| !writer.is_slim());
        whole_frames && assembly.content_bytes() > MERGE_FROM_BYTES
    }

    fn hold(&mut self, kind: DeltaKind, text: &str) {
        let due = self.last_frame.map_or_else(Instant::now, |last| last + WINDOW);
        let held = self.held.get_or_insert_with(|| Held {
            kind,
            text: String::new(),
            due,
        });
        held.text.push_str(text);
    }

    /// `snapshot` is shared by the events of one upstream frame.
    async fn send(
        &self,
        mut event: AssistantEvent,
        assembly: &Assembly,
        snapshot: &mut Option<Arc<AssistantMessage>>,
    ) -> Result<()> {
        let is_whole = self.writer.is_some_and(|writer| !writer.is_slim());
        if let Some(partial) = event.partial_mut().filter(|_| is_whole) {
            let message = snapshot.get_or_insert_with(|| Arc::new(assembly.snapshot()));
            *partial = Some(Arc::clone(message));
        }
        self.tell(event).await
    }
}

/// An event as JSON text. Messages in it name their role there (contract 08 §1.4); the Rust type leaves that to the list
/// a message stands in.
fn wire_form(event: &AssistantEvent) -> Result<String> {
    let mut json = to_json(event)?;
    for member in ["partial", "message", "error"] {
        if let Some(Value::Object(message)) = json.get_mut(member) {
            message.shift_insert(0, "role".into(), "assistant".into());
        }
    }
    Ok(json.to_string())
}
