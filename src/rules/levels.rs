//! The calls inside a call: what a function that calls others is told to call (contract 02 §8.1, 03 §4).

use serde_json::{Value, json};

use super::args::RuleArgs;
use crate::model::FunctionId;

/// The one tool of a model, around its calls.
pub const AGENT_TRIGGER: &str = "agent_trigger";

const ENQUEUE: &str = "engine::queue::enqueue";
const REGISTER_TRIGGER: &str = "engine::register_trigger";

/// One call as the gate looks at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// The function to be called.
    pub function_id: FunctionId,
    /// What it is called with; `None` when only an event will tell.
    pub payload: Option<Value>,
}

impl Level {
    fn new(function_id: &str, payload: Option<Value>) -> Self {
        Self {
            function_id: function_id.into(),
            payload,
        }
    }

    /// What rules see of the payload.
    pub fn args(&self) -> RuleArgs {
        self.payload.as_ref().map_or_else(RuleArgs::unknown, RuleArgs::of)
    }

    /// Whether it is told to call something, and nobody can say what.
    pub fn hides_its_target(&self) -> bool {
        match (&*self.function_id, &self.payload) {
            (AGENT_TRIGGER, Some(payload)) => RuleArgs::of(&parse_embedded(payload.clone())).is_opaque,
            (AGENT_TRIGGER | ENQUEUE | REGISTER_TRIGGER, _) => self.args().is_opaque,
            _ => false,
        }
    }

    /// The calls it is told to make.
    fn inner(&self) -> Vec<Self> {
        let Some(payload) = &self.payload else {
            return Vec::new();
        };
        match &*self.function_id {
            AGENT_TRIGGER => match inner_call(payload.clone()) {
                (target, _) if target.is_empty() => Vec::new(),
                (target, payload) => vec![Self::new(&target, Some(payload))],
            },
            ENQUEUE => {
                let data = payload.get("data").cloned().unwrap_or_default();
                let target = named(payload.get("function_id"));
                target.map(|id| Self::new(id, Some(data))).into_iter().collect()
            }
            // The handler, and what is asked before it whether an event counts.
            REGISTER_TRIGGER => ["/function_id", "/config/condition_function_id"]
                .into_iter()
                .filter_map(|place| named(payload.pointer(place)))
                .map(|id| Self::new(id, None))
                .collect(),
            _ => Vec::new(),
        }
    }
}

fn named(id: Option<&Value>) -> Option<&str> {
    id.and_then(Value::as_str).filter(|id| !id.is_empty())
}

/// The call itself first, then every call inside it, however deep.
pub fn levels(function_id: &str, payload: &Value) -> Vec<Level> {
    let mut levels = vec![Level::new(function_id, Some(payload.clone()))];
    let mut looked_at = 0;
    while let Some(level) = levels.get(looked_at) {
        let inner = level.inner();
        levels.extend(inner);
        looked_at += 1;
    }
    levels
}

/// Target and payload in the arguments of `agent_trigger`; an empty target when they name none.
pub fn inner_call(arguments: Value) -> (String, Value) {
    let Value::Object(mut arguments) = parse_embedded(arguments) else {
        return (String::new(), json!({}));
    };
    let target = match arguments.remove("function") {
        Some(Value::String(target)) => target,
        _ => String::new(),
    };
    let payload = parse_embedded(arguments.remove("payload").unwrap_or_else(|| json!({})));
    (target, payload)
}

/// Models sometimes send an object as its JSON text; such a string stands for what it encodes, any other is itself.
pub fn parse_embedded(value: Value) -> Value {
    let Value::String(text) = &value else { return value };
    let trimmed = text.trim();
    if !trimmed.starts_with(['{', '[']) {
        return value;
    }
    match serde_json::from_str::<Value>(trimmed) {
        Ok(parsed) if parsed.is_object() || parsed.is_array() => parsed,
        Ok(_) | Err(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    /// Function and payload of every level; no payload: not known.
    fn seen(function_id: &str, payload: &Value) -> Vec<(String, Option<Value>)> {
        let levels = levels(function_id, payload).into_iter();
        levels
            .map(|level| (level.function_id.to_string(), level.payload))
            .collect()
    }

    fn known(function_id: &str, payload: &Value) -> (String, Option<Value>) {
        (function_id.to_owned(), Some(payload.clone()))
    }

    #[test]
    fn p1_every_level_of_a_wrapped_call_is_looked_at() {
        let state = json!({"scope": "budgets"});
        let inner = json!({"function": "state::set", "payload": state});
        let middle = json!({"function": "agent_trigger", "payload": inner.to_string()});
        let expected = |outer: &Value| {
            [
                known("agent_trigger", outer),
                known("agent_trigger", &inner),
                known("state::set", &state),
            ]
        };
        assert_eq!(seen("agent_trigger", &middle), expected(&middle));
        // A text that stands for the object is read as the outermost level reads it.
        let text = Value::String(middle.to_string());
        assert_eq!(seen("agent_trigger", &text), expected(&text));
        for (function, payload) in [
            ("f", json!({"function": "g", "function_id": "g"})),
            ("agent_trigger", json!({"function": ""})),
            ("agent_trigger", json!({"payload": {}})),
            ("engine::queue::enqueue", json!({"queue": "q", "data": {}})),
            ("engine::queue::enqueue", json!({"function_id": 7})),
            ("engine::register_trigger", json!({"config": {}})),
        ] {
            assert_eq!(seen(function, &payload), [known(function, &payload)]);
        }
    }

    #[test]
    fn a_queued_call_is_looked_at() {
        let data = json!({"session_id": "s"});
        let job = json!({"queue": "q", "function_id": "approval::resolve", "data": data});
        assert_eq!(
            seen("engine::queue::enqueue", &job),
            [
                known("engine::queue::enqueue", &job),
                known("approval::resolve", &data)
            ]
        );
        let twice = json!({"queue": "q", "function_id": "engine::queue::enqueue", "data": job});
        assert_eq!(seen("engine::queue::enqueue", &twice).len(), 3);
    }

    #[test]
    fn what_a_trigger_would_call_is_looked_at_without_its_payload() {
        let binding =
            json!({"trigger_type": "cron", "function_id": "f", "config": {"condition_function_id": "g"}});
        assert_eq!(
            seen("engine::register_trigger", &binding),
            [
                known("engine::register_trigger", &binding),
                ("f".to_owned(), None),
                ("g".to_owned(), None)
            ]
        );
    }

    #[test]
    fn a_caller_whose_target_cannot_be_told_hides_it() {
        let hides = |function_id: &str, payload: Value| {
            let levels = levels(function_id, &payload);
            levels.iter().any(Level::hides_its_target)
        };
        assert!(hides(ENQUEUE, json!(["q", "approval::resolve", {}])));
        assert!(hides(AGENT_TRIGGER, json!(["approval::resolve"])));
        // A message published later would say what to call.
        assert!(hides(REGISTER_TRIGGER, json!({"function_id": ENQUEUE})));
        assert!(!hides(ENQUEUE, json!({"function_id": "f", "data": ["x"]})));
        assert!(!hides(REGISTER_TRIGGER, json!({"function_id": "f"})));
        assert!(!hides("f", json!(["x"])));
    }
}
