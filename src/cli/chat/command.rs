//! What a typed line means.

/// Shown by `/help`.
pub(super) const HELP: &str = "\
/new             begin a new session
/resume <id>     go over to another session
/sessions        list the sessions
/model [id]      say which model answers, or choose another one
/models          list the models
/compact         replace the history by a summary
/quit            leave, as Ctrl-D does
Ctrl-C           stop the run; once more, or while nothing runs: leave
At a call that waits: a approves, d [reason] denies, l approves this function for the whole session, abort stops the run.";

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Nothing,
    /// For the agent.
    Say(String),
    Help,
    New,
    Resume(String),
    Sessions,
    /// A model to go on with, or the question which one it is.
    Model(Option<String>),
    Models,
    Compact,
    Quit,
    /// Looks like a command and is none; nothing is sent.
    Unknown(String),
}

impl Command {
    pub(super) fn read(line: &str) -> Self {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return if line.is_empty() {
                Self::Nothing
            } else {
                Self::Say(line.to_owned())
            };
        };
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let argument = Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty());
        match (name, argument) {
            ("help", None) => Self::Help,
            ("new", None) => Self::New,
            ("resume", Some(id)) => Self::Resume(id),
            ("sessions", None) => Self::Sessions,
            ("model", model) => Self::Model(model),
            ("models", None) => Self::Models,
            // Clients take a text behind it (contract 11 §6).
            ("compact", _) => Self::Compact,
            ("quit" | "exit", None) => Self::Quit,
            _ => Self::Unknown(line.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn lines_are_told_apart() {
        for (line, expected) in [
            ("", Command::Nothing),
            ("   ", Command::Nothing),
            (" hello /new ", Command::Say("hello /new".into())),
            ("/help", Command::Help),
            ("/new", Command::New),
            ("/resume  cli-1 ", Command::Resume("cli-1".into())),
            ("/sessions", Command::Sessions),
            ("/model", Command::Model(None)),
            (
                "/model openai::gpt-5",
                Command::Model(Some("openai::gpt-5".into())),
            ),
            ("/models", Command::Models),
            ("/compact", Command::Compact),
            ("/compact please", Command::Compact),
            ("/quit", Command::Quit),
            ("/resume", Command::Unknown("/resume".into())),
            ("/new now", Command::Unknown("/new now".into())),
            ("/compactor", Command::Unknown("/compactor".into())),
            (
                "/etc/hosts is what?",
                Command::Unknown("/etc/hosts is what?".into()),
            ),
        ] {
            assert_eq!(Command::read(line), expected, "{line}");
        }
    }

    #[test]
    fn the_help_names_every_command() {
        for name in [
            "/new",
            "/resume",
            "/sessions",
            "/model ",
            "/models",
            "/compact",
            "/quit",
        ] {
            assert!(HELP.contains(name), "{name}");
        }
    }
}
