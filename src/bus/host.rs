//! How the workers of a process come onto its bus.

use super::{Bus, Link, Repeated, WorkerDef};
use crate::error::Result;

impl Bus {
    /// Registers the workers' functions, starts the transport, binds the triggers, runs each worker's preparation, then
    /// starts its background work.
    ///
    /// # Errors
    /// A registration that the program itself got wrong, or a transport that cannot start. A binding or a preparation
    /// that fails is logged: the process serves what it has.
    pub async fn host(&self, workers: Vec<WorkerDef>) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        for worker in &workers {
            for function in &worker.functions {
                self.0.registry.add(function.clone())?;
            }
        }
        self.0.transport.start(self.clone()).await?;
        for worker in &workers {
            for trigger in &worker.triggers {
                if let Err(error) = self.0.transport.bind(trigger.clone()).await {
                    tracing::warn!(worker = worker.name, trigger = %trigger.id, %error, "trigger not bound");
                    problems.push(format!("trigger {}: {error}", trigger.id));
                }
            }
        }
        if let Err(error) = self.0.transport.settle().await {
            tracing::warn!(%error, "registrations not confirmed");
        }
        let mut background = Vec::new();
        let mut reconnected = Vec::new();
        for worker in workers {
            for prepare in worker.prepare {
                if let Err(error) = prepare(self.clone()).await {
                    tracing::warn!(worker = worker.name, %error, "preparation failed");
                    problems.push(format!("{}: {error}", worker.name));
                }
            }
            background.extend(worker.background.into_iter().map(|hook| (worker.name, hook)));
            reconnected.extend(worker.reconnected.into_iter().map(|hook| (worker.name, hook)));
        }
        self.spawn(repeat_on_reconnect(self.clone(), reconnected));
        for (worker, hook) in background {
            let task = hook(self.clone());
            self.spawn(async move {
                if let Err(error) = task.await {
                    tracing::warn!(worker, %error, "background work ended");
                }
            });
        }
        Ok(problems)
    }
}

/// Runs the hooks after each connection but the first.
async fn repeat_on_reconnect(bus: Bus, hooks: Vec<(&'static str, Repeated)>) {
    let mut link = bus.link();
    let mut last = *link.borrow_and_update();
    while let Some(Ok(())) = bus.shutdown_token().run_until_cancelled(link.changed()).await {
        let now = *link.borrow_and_update();
        if now == Link::Down || now == last {
            continue;
        }
        last = now;
        for (worker, hook) in &hooks {
            if let Err(error) = hook(bus.clone()).await {
                tracing::warn!(worker, %error, "not done again after the reconnect");
            }
        }
    }
}
