//! The command line. Exit codes: 0 done, 1 failed, 2 unusable configuration or arguments.

mod policy;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use crate::bus::{FunctionInfo, WorkerDef};
use crate::config::{Config, Flags, LoadInput, Loaded, ProcessEnv};
use crate::{app, demo, workers};

const UNUSABLE: u8 = 2;

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
    /// Show the main job: the real program on its embedded engine with a scripted model, no key needed.
    Demo,
    /// List the functions of the bus.
    Functions(FunctionsArgs),
    /// Check the configuration and say everything that is wrong with it.
    CheckConfig,
    /// Check the permission rules, or ask them about a call.
    #[command(subcommand)]
    Policy(policy::Policy),
}

#[derive(Debug, Args)]
struct FunctionsArgs {
    /// As JSON, with request and response schemas.
    #[arg(long)]
    json: bool,
}

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = if cli.manifest {
        print_manifest()
    } else {
        dispatch(cli)
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    let input = LoadInput {
        path: cli.config,
        flags: Flags { url: cli.url },
        env: Arc::new(ProcessEnv),
    };
    match cli.command.unwrap_or(Command::Serve) {
        Command::Functions(args) => print_functions(&args),
        Command::CheckConfig => check_config(&input),
        Command::Policy(command) => policy::run(&command, &input),
        Command::Demo => {
            on_runtime(async { demo::run(&mut std::io::stdout(), workers::all()).await })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Serve => with_config(&input, |loaded| {
            on_runtime(app::serve(loaded, input.clone(), workers::all()))?;
            Ok(ExitCode::SUCCESS)
        }),
    }
}

/// Runs a future to its end; whatever it left running is dropped with the runtime.
fn on_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

fn with_config(input: &LoadInput, work: impl FnOnce(Loaded) -> Result<ExitCode>) -> Result<ExitCode> {
    match Config::load(input) {
        Ok(loaded) => work(loaded),
        Err(findings) => {
            complain(&format!("{findings}"));
            Ok(ExitCode::from(UNUSABLE))
        }
    }
}

fn check_config(input: &LoadInput) -> Result<ExitCode> {
    with_config(input, |loaded| {
        for warning in &loaded.warnings {
            complain(&format!("warning: {warning}"));
        }
        print(&format!("{}: ok", input.file().display()))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn print_manifest() -> Result<ExitCode> {
    let rows: Vec<Value> = workers::all()
        .iter()
        .map(|worker| json!({ "name": worker.name, "description": worker.description }))
        .collect();
    print(&serde_json::to_string_pretty(&rows)?)?;
    Ok(ExitCode::SUCCESS)
}

fn print_functions(args: &FunctionsArgs) -> Result<ExitCode> {
    let catalog = catalog(&workers::all());
    if args.json {
        let rows: Vec<Value> = catalog.iter().map(row).collect();
        print(&serde_json::to_string_pretty(&rows)?)?;
    } else {
        let width = catalog
            .iter()
            .map(|function| function.id.len())
            .max()
            .unwrap_or_default();
        for function in &catalog {
            print(&format!("{:width$}  {}", function.id, function.description))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All functions of the workers, sorted by id.
pub fn catalog(workers: &[WorkerDef]) -> Vec<FunctionInfo> {
    let mut all: Vec<FunctionInfo> = workers
        .iter()
        .flat_map(|worker| worker.functions.iter().map(crate::bus::FunctionDef::info))
        .collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

fn row(function: &FunctionInfo) -> Value {
    json!({
        "id": function.id,
        "description": function.description,
        "request_schema": function.request_schema,
        "response_schema": function.response_schema,
        "metadata": function.metadata,
    })
}

/// A line on stdout. A reader that went away is an error of ours only if we have more to say.
fn print(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn complain(line: &str) {
    // Nobody is left to tell when even stderr is closed.
    if writeln!(std::io::stderr(), "{line}").is_err() {}
}
