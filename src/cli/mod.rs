//! The command line: one file per command, and [`Exit`] for how each may end.
//!
//! `serve`, `demo`, `policy`, `check-config` and the static lists need no engine. `budget`, `call`, `functions --engine`, `models`, `run` and `chat` are
//! clients of one: [`client`] connects, [`feed`] brings the events of a session in order, [`view`] turns them into lines
//! without any I/O, [`screen`] prints those, and [`dialogue`] is what `run` and `chat` have in common.

mod budget;
mod call;
mod chat;
mod check_config;
mod client;
mod conversation;
mod dialogue;
mod ears;
mod feed;
mod functions;
mod lines;
mod models;
mod policy;
mod run;
mod screen;
mod view;
mod visible;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};

use crate::config::{Config, Flags, LoadInput, Loaded, ProcessEnv};
use crate::{app, demo, workers};

pub use functions::catalog;

/// The complete agent backend for the iii engine, in one process.
#[derive(Debug, Parser)]
#[command(name = "harness", version, about)]
struct Cli {
    /// Configuration file.
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Address of an iii engine.
    #[arg(long, global = true, value_name = "WS_URL")]
    url: Option<String>,
    /// Print the workers as JSON and exit.
    #[arg(long)]
    manifest: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the workers until a signal (the default).
    Serve,
    /// Run the embedded engine alone until a signal, for programs that connect to it.
    Engine,
    /// Show the main job: the real program on its embedded engine with a scripted model, no key needed.
    Demo,
    /// Show the budgets: what is spent, set aside and left, and where it is heading.
    Budget(budget::Args),
    /// Call a function of the engine; prints what it answers as JSON.
    Call(call::Args),
    /// Ask an agent one thing; prints its answer as it comes.
    Run(run::Args),
    /// Talk with an agent.
    Chat(chat::Args),
    /// List the functions of this program, or all of an engine.
    Functions(functions::Args),
    /// List the models of an engine's providers.
    Models(models::Args),
    /// Check the permission rules, or ask them about a call.
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Check the configuration and say everything that is wrong with it.
    CheckConfig,
}

/// How a command ended; the number is its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// It did what it was asked to.
    Done = 0,
    /// It did not: the function answered an error, the run failed.
    Failed = 1,
    /// Arguments, input or configuration are not usable; nothing was done.
    Unusable = 2,
    /// No engine answers.
    NoEngine = 3,
    /// Somebody else stopped the run.
    Stopped = 4,
    /// The run ended, but a call in it was denied because nobody approved it.
    Unapproved = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Errors with an exit code of their own; every other one is [`Exit::Failed`].
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// See [`Exit::Unusable`].
    #[error("{0}")]
    Unusable(String),
    /// See [`Exit::NoEngine`].
    #[error(
        "no engine answers at {place}: {why}\nstart one with `harness serve`, or name another with --url"
    )]
    NoEngine {
        /// Its address.
        place: String,
        /// What happened.
        why: String,
    },
}

impl Trouble {
    fn exit(error: &anyhow::Error) -> Exit {
        match error.downcast_ref::<Self>() {
            Some(Self::Unusable(_)) => Exit::Unusable,
            Some(Self::NoEngine { .. }) => Exit::NoEngine,
            None => Exit::Failed,
        }
    }
}

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = if cli.manifest {
        print_manifest()
    } else {
        dispatch(cli)
    };
    let exit = outcome.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        Trouble::exit(&error)
    });
    exit.into()
}

fn dispatch(cli: Cli) -> Result<Exit> {
    let input = LoadInput {
        path: cli.config,
        flags: Flags { url: cli.url },
        env: Arc::new(ProcessEnv),
    };
    let load = || load(&input);
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => on_runtime(app::serve(load()?, input.clone(), workers::all())).map(|()| Exit::Done),
        Command::Engine => on_runtime(app::serve_engine(load()?, input.clone())).map(|()| Exit::Done),
        Command::Demo => {
            on_runtime(async { demo::run(&mut std::io::stdout(), workers::all()).await }).map(|()| Exit::Done)
        }
        Command::Budget(args) => on_runtime(budget::budget(args, load()?)),
        Command::Call(args) => on_runtime(call::call(args, load()?)),
        Command::Run(args) => on_runtime(run::run(args, load()?)),
        Command::Chat(args) => on_runtime(chat::chat(args, load()?)),
        Command::Functions(args) if args.engine => on_runtime(functions::of_engine(args, load()?)),
        Command::Functions(args) => functions::of_this_program(&args),
        Command::Models(args) => on_runtime(models::models(args, load()?)),
        Command::Policy(command) => policy::run(command, &input),
        Command::CheckConfig => check_config::check(&input, &load()?),
    }
}

/// Runs a future to its end; whatever it left running is dropped with the runtime.
fn on_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

fn load(input: &LoadInput) -> Result<Loaded> {
    Config::load(input).map_err(|findings| Trouble::Unusable(findings.to_string()).into())
}

/// What was given, or with `-` all of stdin.
fn given(argument: String) -> Result<String> {
    if argument == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("stdin")?;
        return Ok(text);
    }
    Ok(argument)
}

fn print_manifest() -> Result<Exit> {
    let rows: Vec<Value> = workers::all()
        .iter()
        .map(|worker| json!({ "name": worker.name, "description": worker.description }))
        .collect();
    print(&serde_json::to_string_pretty(&rows)?)?;
    Ok(Exit::Done)
}

/// A line on stdout. A reader that went away is an error of ours only if we have more to say.
fn print(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn complain(line: &str) {
    // Nobody is left to tell when even stderr is closed.
    if writeln!(std::io::stderr(), "{line}").is_err() {}
}
