//! `harness run`: one prompt, one run. The answer goes to stdout as it comes, everything else to stderr.

use anyhow::{Result, bail};

use super::conversation::{Conversation, Settings};
use super::dialogue::{Approve, Dialogue};
use super::ears::{Ears, Woken};
use super::screen::Screen;
use super::view::{Outcome, Tone};
use super::{Exit, Trouble, given};
use crate::config::Loaded;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to ask; `-` reads it from stdin.
    prompt: String,
    #[command(flatten)]
    settings: Settings,
    /// Session to continue; a new one when absent.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Print each event of the run as a line of JSON, as it is on `agent::events`.
    #[arg(long)]
    json: bool,
    /// Calls that wait for a person.
    #[arg(long, value_enum, default_value = "none")]
    approve: Approve,
}

pub(super) async fn run(args: Args, loaded: Loaded) -> Result<Exit> {
    let prompt = prompt(&args)?;
    let (talk, mut ears) = Conversation::open(loaded, args.session, args.settings).await?;
    if args.approve == Approve::Ask {
        ears.read_lines();
    }
    let mut dialogue = Dialogue::new(talk, Screen::split(), args.approve, args.json);
    if !dialogue.send(&prompt).await? {
        bail!(
            "session {} is busy: its run is still going on",
            dialogue.talk.session()
        );
    }
    let exit = follow(&mut dialogue, &mut ears).await?;
    dialogue.talk.leave().await;
    Ok(exit)
}

async fn follow(dialogue: &mut Dialogue, ears: &mut Ears) -> Result<Exit> {
    let mut stopping = false;
    loop {
        match ears.next().await {
            Woken::Interrupt if stopping => return Ok(Exit::Interrupted),
            Woken::Interrupt => {
                stopping = true;
                if !dialogue.talk.abort().await? {
                    let session = dialogue.talk.session().to_owned();
                    let text = format!("this engine cannot stop a run; that of session {session} goes on");
                    dialogue.screen.note(Tone::Bad, text)?;
                    return Ok(Exit::Interrupted);
                }
            }
            Woken::Line(line) => dialogue.hear(line).await?,
            woken @ (Woken::Frame(_) | Woken::Link(_) | Woken::Tick) => dialogue.absorb(woken).await?,
        }
        if let Some(outcome) = dialogue.outcome() {
            return Ok(match outcome {
                _ if stopping => Exit::Interrupted,
                Outcome::Done if dialogue.denied() => Exit::Unapproved,
                Outcome::Done => Exit::Done,
                Outcome::Aborted => Exit::Stopped,
                Outcome::Failed => Exit::Failed,
            });
        }
    }
}

fn prompt(args: &Args) -> Result<String> {
    if args.prompt == "-" && args.approve == Approve::Ask {
        return Err(
            Trouble::Unusable("--approve ask: stdin has the prompt, so it cannot answer".into()).into(),
        );
    }
    let text = given(args.prompt.clone())?;
    if text.trim().is_empty() {
        return Err(Trouble::Unusable("the prompt is empty".into()).into());
    }
    Ok(text)
}
