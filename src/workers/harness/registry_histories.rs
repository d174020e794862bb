//! No key is ever lost: random histories of a configuration worker that hangs, fails and restarts, of programs that restart, and
//! of an operator who stores keys in between (contract 09 weakness 1).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::entry;
use super::testing::{bare, call, host, settle};
use crate::bus::{Bus, FunctionDef};
use crate::config::{Config, MapEnv};
use crate::error::{Error, Result};

/// What becomes of one call.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It is lost on the way; no answer.
    Lost,
    /// It is done, and the answer is lost.
    Unheard,
    /// It fails.
    Fails,
    /// It is done, and says that it failed.
    SaysItFailed,
}

#[derive(Debug, Clone)]
enum Event {
    /// The next call meets this, the one after that the next one.
    Meets(Fault),
    /// The operator stores a key, if the engine lets him.
    Stores,
    /// A provider of somebody else declares itself, or declares itself anew.
    Declares(u8),
    /// The engine restarts: values stay, schemas are gone.
    EngineRestarts,
    /// The program restarts.
    ProgramRestarts,
    Passes(u64),
}

/// The part of an engine that keeps the entry, as contract 09 B1 describes it.
#[derive(Default)]
struct Engine {
    value: Option<Value>,
    schema: Option<Value>,
    faults: VecDeque<Fault>,
}

type Shared = Arc<Mutex<Engine>>;

impl Engine {
    fn answer(&mut self, verb: &str, request: &Value) -> Result<Value> {
        match verb {
            "get" => match &self.value {
                Some(value) => Ok(json!({"id": "harness", "value": value})),
                None => Err(Error::coded("NOT_FOUND", "no such entry")),
            },
            "register" => {
                match request.get("initial_value") {
                    Some(initial) => self.value = Some(initial.clone()),
                    None if self.value.is_none() => self.value = Some(Value::Null),
                    None => {}
                }
                self.schema = Some(request["schema"].clone());
                Ok(json!({}))
            }
            _ => Ok(json!({"id": "harness", "schema": self.schema})),
        }
    }

    /// Stores what is valid, as `configuration::set` does.
    fn store(&mut self, value: &Value) -> bool {
        let Some(schema) = &self.schema else { return false };
        let is_valid = jsonschema::draft7::new(schema).unwrap().is_valid(value);
        if is_valid {
            self.value = Some(value.clone());
        }
        is_valid
    }
}

/// A program on this engine.
async fn program(engine: &Shared) -> Bus {
    let bus = bare(Config::default(), MapEnv::default());
    for verb in ["get", "register", "schema"] {
        let engine = Arc::clone(engine);
        let handler = move |request: Value, _| {
            let outcome = {
                let mut engine = engine.lock().unwrap();
                let failed = || Err(Error::coded("ADAPTER_ERROR", "disk"));
                match engine.faults.pop_front() {
                    None => Some(engine.answer(verb, &request)),
                    Some(Fault::Lost) => None,
                    Some(Fault::Unheard) => engine.answer(verb, &request).ok().and(None),
                    Some(Fault::Fails) => Some(failed()),
                    Some(Fault::SaysItFailed) => Some(engine.answer(verb, &request).and_then(|_| failed())),
                }
            };
            async move {
                if outcome.is_none() {
                    // Nobody waits for so long.
                    settle(10_000).await;
                }
                outcome.unwrap_or(Err(Error::Stopped))
            }
        };
        bus.register(FunctionDef::ad_hoc(format!("configuration::{verb}"), handler))
            .unwrap();
    }
    host(&bus).await;
    bus
}

/// Plays a history and looks at the stored key after each event.
async fn play(history: Vec<Event>) {
    let engine = Shared::default();
    let mut bus = program(&engine).await;
    let (mut stored, mut keys) = (None, 0..);
    for event in history {
        match event {
            Event::Meets(fault) => engine.lock().unwrap().faults.push_back(fault),
            Event::Stores => {
                let key = format!("sk-{}", keys.next().unwrap());
                let value = json!({"permissions": {"default_mode": "auto"}, "providers": {"openai": {"api_key": key}}});
                if engine.lock().unwrap().store(&value) {
                    stored = Some(value);
                }
            }
            Event::Declares(n) => {
                let declaration = json!({"id": format!("p{}", n % 2), "display_name": n.to_string()});
                let answer = call(&bus, "harness::provider::register", declaration).await;
                assert_eq!(answer, Ok(json!({"ok": true})));
            }
            Event::EngineRestarts => engine.lock().unwrap().schema = None,
            Event::ProgramRestarts => {
                assert!(bus.shutdown(Duration::from_mins(1)).await);
                bus = program(&engine).await;
            }
            Event::Passes(ms) => settle(ms).await,
        }
        if let Some(value) = &stored {
            assert_eq!(engine.lock().unwrap().value.as_ref(), Some(value));
        }
    }
    // Once nothing fails any more, the entry and its schema are there, and the key still is.
    engine.lock().unwrap().faults.clear();
    settle(120_000).await;
    let kept = engine.lock().unwrap().value.clone();
    assert_eq!(kept, Some(stored.unwrap_or_else(entry::seed)));
    assert!(engine.lock().unwrap().schema.is_some());
    assert!(bus.shutdown(Duration::from_mins(1)).await);
}

fn event() -> impl Strategy<Value = Event> {
    let fault = prop_oneof![
        Just(Fault::Lost),
        Just(Fault::Unheard),
        Just(Fault::Fails),
        Just(Fault::SaysItFailed)
    ];
    prop_oneof![
        4 => fault.prop_map(Event::Meets),
        2 => Just(Event::Stores),
        2 => any::<u8>().prop_map(Event::Declares),
        1 => Just(Event::EngineRestarts),
        2 => Just(Event::ProgramRestarts),
        2 => (0_u64..40_000).prop_map(Event::Passes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn weakness_1_no_key_is_ever_lost(history in prop::collection::vec(event(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(history));
    }
}
