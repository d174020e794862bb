//! `turn::provisioning`: build the system prompt, attach the tool, go on to the model (contract 02 §4).

use std::sync::Arc;

use serde_json::{Value, json};

use super::prompt::{self, Voice};
use super::record::TurnRecord;
use super::session::{Outcome, Session};
use super::step::{self, StepReply, StepRequest};
use super::{Turns, aborted, provider_call};
use crate::bus::{Cx, Function, to_json};
use crate::error::Result;
use crate::model::TurnState;

const CATALOG_MS: u64 = 5_000;

/// `turn::provisioning`.
#[derive(Debug)]
pub(super) struct Provisioning;

impl Function for Provisioning {
    const ID: &'static str = "turn::provisioning";
    const DESCRIPTION: &'static str = "Run one durable FSM transition for session in state provisioning: build the system prompt, attach the agent_trigger function schema, advance to assistant_streaming.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Turns;
    type Request = StepRequest;
    type Response = StepReply;

    async fn call(cx: &Cx<Turns>, request: StepRequest) -> Result<StepReply> {
        step::run::<Self>(cx, request.session_id, TurnState::Provisioning).await
    }
}

pub(super) async fn run(session: &mut Session, record: &mut TurnRecord) -> Result<Outcome> {
    let mut request = session.request().await?.as_ref().clone();
    let stop = Arc::clone(&session.stop);
    let looked_up = async {
        let provider = provider_call::route_of(session, &request).await?;
        let model = catalog_record(session, provider.name(), &request.model).await;
        Ok((provider, model))
    };
    let Some(looked_up) = stop.unless_asked(looked_up).await else {
        return aborted::end(session, record, Vec::new()).await;
    };
    let (provider, model) = looked_up?;
    request.system_prompt = prompt::build(
        &request.system_prompt,
        request.mode,
        Voice::for_provider(provider.name()),
    );
    request.function_schemas = vec![to_json(&prompt::agent_trigger())?];
    record.model_meta = model;
    let stored = session.set_request(request)?;
    record.go(TurnState::AssistantStreaming, session.cx.now_ms());
    Ok(Outcome {
        writes: vec![stored],
        ..Outcome::default()
    })
}

/// The model's catalog record; the run does well without one.
async fn catalog_record(
    session: &Session,
    provider: &str,
    model: &str,
) -> Option<serde_json::Map<String, Value>> {
    let request = json!({ "provider": provider, "model_id": model });
    match session.invoke("models::get", request, CATALOG_MS).await {
        Ok(Value::Object(record)) => Some(record),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(session_id = %session.id, %error, "model not looked up");
            None
        }
    }
}
