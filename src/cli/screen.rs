//! Prints pieces: the answer on one output, the lines about it on another or on the same.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use anyhow::Result;

use super::view::{Piece, Tone};
use crate::config::{Env, ProcessEnv};

/// Where things are printed.
pub(super) struct Screen {
    answer: Output,
    /// Without one, lines go where the answer goes.
    notes: Option<Output>,
    /// Whether a person sees both in one place, so that a line must not begin in the midst of the answer.
    together: bool,
    /// Whether the answer stands in the midst of a line.
    open: bool,
    /// Whether that line is the prompt.
    prompted: bool,
}

struct Output {
    to: Box<dyn Write>,
    terminal: bool,
    colour: bool,
}

impl Output {
    fn new(to: Box<dyn Write>, terminal: bool) -> Self {
        let plain = ProcessEnv.var("NO_COLOR").is_some() || ProcessEnv.var("TERM").as_deref() == Some("dumb");
        Self {
            to,
            terminal,
            colour: terminal && !plain,
        }
    }
}

impl Screen {
    /// Everything on stdout.
    pub(super) fn whole() -> Self {
        Self {
            answer: Output::new(Box::new(io::stdout()), io::stdout().is_terminal()),
            notes: None,
            together: true,
            open: false,
            prompted: false,
        }
    }

    /// The answer on stdout, all else on stderr.
    pub(super) fn split() -> Self {
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            answer: Output::new(Box::new(io::stdout()), out),
            notes: Some(Output::new(Box::new(io::stderr()), err)),
            together: out && err,
            open: false,
            prompted: false,
        }
    }

    /// Prints.
    pub(super) fn show(&mut self, piece: &Piece) -> Result<()> {
        match piece {
            Piece::Text(text) => {
                if self.prompted {
                    self.close()?;
                }
                let shown = safe(text, self.answer.terminal);
                self.answer.to.write_all(shown.as_bytes())?;
                self.open = !text.ends_with('\n');
            }
            Piece::TextEnd => self.close()?,
            Piece::Note(tone, text) => {
                if self.together {
                    self.close()?;
                }
                let output = self.notes.as_mut().unwrap_or(&mut self.answer);
                let text = safe(text, output.terminal);
                match (output.colour, tone) {
                    (true, Tone::Quiet) => writeln!(output.to, "\x1b[2m{text}\x1b[0m")?,
                    (true, Tone::Bad) => writeln!(output.to, "\x1b[31m{text}\x1b[0m")?,
                    (true, Tone::Ask) => writeln!(output.to, "\x1b[1m{text}\x1b[0m")?,
                    (false, _) => writeln!(output.to, "{text}")?,
                }
                output.to.flush()?;
            }
        }
        Ok(self.answer.to.flush()?)
    }

    /// A line about what happens.
    pub(super) fn note(&mut self, tone: Tone, text: impl Into<String>) -> Result<()> {
        self.show(&Piece::Note(tone, text.into()))
    }

    /// A line of the answer's output.
    pub(super) fn line(&mut self, text: &str) -> Result<()> {
        self.close()?;
        Ok(writeln!(self.answer.to, "{text}")?)
    }

    /// Invites a person to type, unless it stands there already.
    pub(super) fn prompt(&mut self) -> Result<()> {
        if self.prompted {
            return Ok(());
        }
        self.close()?;
        self.answer.to.write_all(b"> ")?;
        (self.open, self.prompted) = (true, true);
        Ok(self.answer.to.flush()?)
    }

    /// A line was typed; its end is the end of the prompt's line as well.
    pub(super) fn typed(&mut self) {
        if std::mem::take(&mut self.prompted) {
            self.open = false;
        }
    }

    /// Ends the line that stands open.
    pub(super) fn close(&mut self) -> Result<()> {
        self.prompted = false;
        if std::mem::take(&mut self.open) {
            writeln!(self.answer.to)?;
        }
        Ok(())
    }
}

/// A text of a model or a function, without what would command a terminal.
fn safe(text: &str, terminal: bool) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && c != '\n' && c != '\t';
    if terminal && text.contains(commands) {
        Cow::Owned(text.replace(commands, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use pretty_assertions::assert_eq;

    use super::*;

    /// What was printed, outputs told apart by a mark.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<String>>);

    struct Pen(Paper, &'static str);

    impl Write for Pen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = std::str::from_utf8(bytes).unwrap();
            let mut paper = self.0.0.lock().unwrap();
            paper.push_str(&text.replace('\n', &format!("{}\n", self.1)));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printed(terminal: bool, split: bool, pieces: &[Piece]) -> String {
        let paper = Paper::default();
        let output = |mark| Output {
            to: Box::new(Pen(paper.clone(), mark)),
            terminal,
            colour: terminal,
        };
        let mut screen = Screen {
            answer: output("."),
            notes: split.then(|| output("!")),
            together: terminal || !split,
            open: false,
            prompted: false,
        };
        for piece in pieces {
            screen.show(piece).unwrap();
        }
        drop(screen);
        Arc::into_inner(paper.0).unwrap().into_inner().unwrap()
    }

    fn pieces() -> [Piece; 5] {
        [
            Piece::Text("a\u{1b}[2J".into()),
            Piece::Note(Tone::Bad, "n".into()),
            Piece::Text("b".into()),
            Piece::Text("c\n".into()),
            Piece::TextEnd,
        ]
    }

    #[test]
    fn a_pipe_gets_the_answer_as_it_is() {
        assert_eq!(printed(false, true, &pieces()), "a\u{1b}[2Jn!\nbc.\n");
    }

    #[test]
    fn lines_stand_on_their_own_where_both_are_seen() {
        assert_eq!(printed(false, false, &pieces()), "a\u{1b}[2J.\nn.\nbc.\n");
        assert_eq!(
            printed(true, true, &pieces()),
            "a\u{fffd}[2J.\n\u{1b}[31mn\u{1b}[0m!\nbc.\n"
        );
    }
}
