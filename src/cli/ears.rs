//! Everything that wakes a command that waits: events, time, Ctrl-C, and lines typed.
//!
//! Lines come from a plain reader: a terminal in its usual mode lets a person correct a line, and a line editor would take the
//! terminal over while an answer streams into it.

use std::io::BufRead;
use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::feed::Frame;
use crate::bus::Link;

/// How often it is looked whether the session has been quiet for long.
const TICK: Duration = Duration::from_millis(500);
/// Lines read ahead.
const AHEAD: usize = 64;

/// What woke it.
#[derive(Debug)]
pub(super) enum Woken {
    /// A frame of the session's events.
    Frame(Frame),
    /// The link to the engine went down or came up.
    Link(Link),
    /// Time passed.
    Tick,
    /// Ctrl-C.
    Interrupt,
    /// A line, or the end of the input.
    Line(Option<String>),
}

/// Waits for all of it. Nothing is lost when the wait is given up.
pub(super) struct Ears {
    frames: mpsc::Receiver<Frame>,
    link: watch::Receiver<Link>,
    tick: Interval,
    interrupts: Signal,
    lines: Option<mpsc::Receiver<String>>,
}

impl Ears {
    /// From now on Ctrl-C does not end the process by itself.
    pub(super) fn new(frames: mpsc::Receiver<Frame>, mut link: watch::Receiver<Link>) -> Result<Self> {
        link.mark_unchanged();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            frames,
            link,
            tick,
            interrupts: signal(SignalKind::interrupt())?,
            lines: None,
        })
    }

    /// Listens to stdin as well.
    pub(super) fn read_lines(&mut self) {
        let (sender, lines) = mpsc::channel(AHEAD);
        // Ends with the process: a read of stdin cannot be given up.
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if sender.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        self.lines = Some(lines);
    }

    pub(super) async fn next(&mut self) -> Woken {
        let lines = &mut self.lines;
        let line = async {
            match lines {
                Some(lines) => lines.recv().await,
                None => std::future::pending().await,
            }
        };
        let woken = tokio::select! {
            biased;
            _ = self.interrupts.recv() => Woken::Interrupt,
            Some(frame) = self.frames.recv() => Woken::Frame(frame),
            Ok(()) = self.link.changed() => Woken::Link(*self.link.borrow_and_update()),
            line = line => Woken::Line(line),
            _ = self.tick.tick() => Woken::Tick,
        };
        if matches!(woken, Woken::Line(None)) {
            self.lines = None;
        }
        woken
    }
}
