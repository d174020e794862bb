//! `harness chat`: a conversation in a terminal, or over pipes.

mod command;

use anyhow::Result;
use serde_json::Value;

use super::Exit;
use super::conversation::{Conversation, Settings};
use super::dialogue::{Approve, Dialogue};
use super::ears::{Ears, Woken};
use super::lines;
use super::screen::Screen;
use super::view::Tone;
use crate::config::Loaded;
use command::{Command, HELP};

/// Messages of a resumed session that are shown.
const RECALLED: usize = 10;
/// Sessions that are listed.
const LISTED: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Session to continue; a new one when absent.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
}

pub(super) async fn chat(args: Args, loaded: Loaded) -> Result<Exit> {
    let (talk, mut ears) = Conversation::open(loaded, args.session.clone(), args.settings).await?;
    ears.read_lines();
    let mut chat = Chat {
        dialogue: Dialogue::new(talk, Screen::whole(), Approve::Ask, false),
        stopping: false,
    };
    match args.session {
        Some(session) => chat.resume(session).await?,
        None => chat.greet()?,
    }
    let exit = chat.go_on(&mut ears).await?;
    chat.dialogue.screen.close()?;
    chat.dialogue.talk.leave().await;
    Ok(exit)
}

struct Chat {
    dialogue: Dialogue,
    /// Whether Ctrl-C was pressed in this run.
    stopping: bool,
}

impl Chat {
    async fn go_on(&mut self, ears: &mut Ears) -> Result<Exit> {
        loop {
            while !self.dialogue.is_running() {
                match self.dialogue.line().map(|line| Command::read(&line)) {
                    Some(Command::Quit) => return Ok(Exit::Done),
                    Some(command) => {
                        if let Err(error) = self.obey(command).await {
                            self.complain(&error)?;
                        }
                    }
                    None if !self.dialogue.is_open() => return Ok(Exit::Done),
                    None => break,
                }
            }
            if !self.dialogue.is_running() {
                self.dialogue.prompt()?;
            }
            if let Some(exit) = self.wake(ears.next().await).await? {
                return Ok(exit);
            }
        }
    }

    async fn wake(&mut self, woken: Woken) -> Result<Option<Exit>> {
        match woken {
            Woken::Interrupt if !self.dialogue.is_running() => return Ok(Some(Exit::Done)),
            Woken::Interrupt if self.stopping => return Ok(Some(Exit::Interrupted)),
            Woken::Interrupt => {
                self.stopping = true;
                match self.dialogue.talk.abort().await {
                    Ok(true) => {}
                    Ok(false) => {
                        self.say("this engine cannot stop a run: it goes on; Ctrl-C again leaves it")?;
                    }
                    Err(error) => self.complain(&error)?,
                }
            }
            Woken::Line(line) => {
                self.dialogue.screen.typed();
                if let Err(error) = self.dialogue.hear(line).await {
                    self.complain(&error)?;
                }
            }
            woken @ (Woken::Frame(_) | Woken::Link(_) | Woken::Tick) => {
                if let Err(error) = self.dialogue.absorb(woken).await {
                    self.complain(&error)?;
                }
            }
        }
        if self.dialogue.outcome().is_some() {
            self.stopping = false;
        }
        Ok(None)
    }

    async fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Nothing | Command::Quit => Ok(()),
            Command::Say(text) => {
                if self.dialogue.send(&text).await? {
                    return Ok(());
                }
                self.say("the run before is still going on; nothing was sent")
            }
            Command::Help => self.say(HELP),
            Command::New => {
                self.dialogue.begin().await?;
                self.greet()
            }
            Command::Resume(session) => self.resume(session).await,
            Command::Sessions => {
                let rows = self.dialogue.talk.sessions(LISTED).await?;
                self.list(rows.iter().map(session_line))
            }
            Command::Model(None) => {
                let model = self.dialogue.talk.settle_model().await?;
                self.say(&format!("model {model}"))
            }
            Command::Model(Some(model)) => {
                self.say(&format!("model {model}"))?;
                self.dialogue.talk.choose_model(model);
                Ok(())
            }
            Command::Models => {
                let models = self.dialogue.talk.models().await?;
                self.list(models.into_iter())
            }
            Command::Compact => {
                let outcome = self.dialogue.talk.compact().await?;
                self.say(&outcome)
            }
            Command::Unknown(line) => self.say(&format!("no such command: {line}; /help lists them")),
        }
    }

    async fn resume(&mut self, session: String) -> Result<()> {
        self.dialogue.resume(session).await?;
        self.greet()?;
        let messages = self.dialogue.talk.messages().await?;
        let lines: Vec<String> = messages.iter().filter_map(message_line).collect();
        for line in lines.iter().skip(lines.len().saturating_sub(RECALLED)) {
            self.say(line)?;
        }
        self.dialogue.attend().await
    }

    fn greet(&mut self) -> Result<()> {
        let session = self.dialogue.talk.session();
        let text = format!("session {session}; /help lists the commands");
        self.say(&text)
    }

    fn list(&mut self, mut lines: impl ExactSizeIterator<Item = String>) -> Result<()> {
        if lines.len() == 0 {
            return self.say("there are none");
        }
        lines.try_for_each(|line| self.say(&line))
    }

    fn say(&mut self, text: &str) -> Result<()> {
        self.dialogue.screen.note(Tone::Quiet, text)
    }

    fn complain(&mut self, error: &anyhow::Error) -> Result<()> {
        self.dialogue.screen.note(Tone::Bad, format!("✗ {error:#}"))
    }
}

fn session_line(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let summary = lines::line(text("last_message_summary"));
    format!(
        "{}  {} entries  {summary}",
        text("session_id"),
        row["entry_count"]
    )
}

/// A message of the transcript in one line; those without text say nothing.
fn message_line(message: &Value) -> Option<String> {
    let blocks = message["content"].as_array()?.iter();
    let text: Vec<&str> = blocks.filter_map(|block| block["text"].as_str()).collect();
    let mark = match message["role"].as_str()? {
        "user" => ">",
        "assistant" => "<",
        _ => return None,
    };
    (!text.is_empty()).then(|| format!("{mark} {}", lines::line(&text.join(" "))))
}
