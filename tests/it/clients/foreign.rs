//! Clients in other languages: `tests/clients/<language>`. `.ci/run` installs what they need; without it they are left out,
//! unless `HARNESS_TEST_CLIENTS=required`.

use std::path::{Path, PathBuf};
use std::process::Command;

use pretty_assertions::assert_eq;
use serde_json::Value;

use super::process::{Process, Program};
use super::story::{self, Client};
use crate::support::installed::is_installed;

/// How a language is run, and how it is installed.
struct Language {
    /// Absolute, or found on the path.
    program: PathBuf,
    script: PathBuf,
    /// There once it is installed.
    needs: PathBuf,
    install: &'static str,
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

impl Language {
    async fn plays(&self, client: impl FnOnce(&Program) -> Client) {
        if !is_installed(&self.needs, "HARNESS_TEST_CLIENTS", self.install) {
            return;
        }
        let program = Program::start().await;
        let client = &client(&program);
        let mut command = Command::new(&self.program);
        command.arg(&self.script).args([
            &program.url(),
            client.name,
            &client.large.to_string(),
            &client.models,
        ]);
        let mut process = Process::start(command, &program.dir, client.name);
        let output = process.output().await;
        let told: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
        assert_eq!(told, story::told(client));
        story::has_gone(&program, client.name).await;
    }
}

/// The newest of this language is the oldest of all that must work.
#[tokio::test]
async fn the_node_sdk() {
    let node = Language {
        program: "node".into(),
        script: clients().join("node/client.mjs"),
        needs: clients().join("node/node_modules/iii-sdk"),
        install: "npm ci --prefix tests/clients/node --ignore-scripts",
    };
    let client = |program: &Program| Client {
        name: "node-client",
        runtime: "node",
        // It sends any message as one frame; beyond 16 MiB that is refused.
        large: 12 * 1024 * 1024,
        models: program.models(),
        failed: "on purpose",
    };
    node.plays(client).await;
}

#[tokio::test]
async fn the_python_sdk() {
    let python = Language {
        program: clients().join("python/.venv/bin/python"),
        script: clients().join("python/client.py"),
        needs: clients().join("python/.venv/bin/python"),
        install: "python3 -m venv tests/clients/python/.venv && \
                  tests/clients/python/.venv/bin/pip install -r tests/clients/python/requirements.txt",
    };
    let client = |program: &Program| Client {
        name: "python-client",
        runtime: "python",
        large: 20 * 1024 * 1024,
        models: program.models(),
        failed: "on purpose",
    };
    python.plays(client).await;
}
