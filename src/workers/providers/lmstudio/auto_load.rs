//! A turn that finds its model not loaded has it loaded, once, with one load per server and model however many turns wait for
//! it (contract 08 §7 and weakness 14).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use serde_json::Value;
use url::Url;

use crate::model::ErrorKind;
use crate::workers::providers::failure::Failure;

/// Texts of a server whose model is not in memory, or fell out of it; lower case.
const LOAD_FAILURES: &[&str] = &[
    "no model loaded",
    "no model is loaded",
    "model not found",
    "please load",
    "model has crashed",
    "model_load_failed",
    "failed to load llm",
    "failed to load model",
    "exit code",
];

const HINT: &str = "LM Studio has no usable model in memory; load one with provider::lmstudio::load_model";

type Load = BoxFuture<'static, Result<(), Failure>>;

/// Loads under way, by server and model. One that nobody waits for any more is dropped, and its request with it.
#[derive(Debug, Default)]
pub(super) struct Loads(Mutex<HashMap<(String, String), WeakShared<Load>>>);

impl Loads {
    /// Waits for the load of a model: the one under way, or else the given one.
    pub(super) fn join(
        &self,
        server: &Url,
        model: &str,
        load: impl Future<Output = Result<Value, String>> + Send + 'static,
    ) -> Shared<Load> {
        let key = (server.to_string(), model.to_owned());
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loads.retain(|_, load| load.upgrade().is_some_and(|load| load.peek().is_none()));
        if let Some(under_way) = loads.get(&key).and_then(WeakShared::upgrade) {
            return under_way;
        }
        let load = async move {
            let loaded = load.await;
            loaded
                .map(drop)
                .map_err(|why| Failure::transient(format!("auto-load failed: {why}")))
        };
        let load = load.boxed().shared();
        if let Some(weak) = load.downgrade() {
            loads.insert(key, weak);
        }
        load
    }
}

/// Whether a failure means that the model is not loaded.
pub(super) fn is_load_failure(failure: &Failure) -> bool {
    let told = failure.told().to_lowercase();
    LOAD_FAILURES.iter().any(|text| told.contains(text))
}

/// Such a failure passes when somebody loads the model; people are told how.
pub(super) fn explain(failure: Failure) -> Failure {
    if !is_load_failure(&failure) || failure.message.starts_with("auto-load failed") {
        return failure;
    }
    Failure {
        kind: ErrorKind::Transient,
        message: format!("{HINT}: {}", failure.message),
        ..failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use tokio::sync::oneshot;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn c08_section_7_load_failures_are_known_by_their_text() {
        for text in [
            "No models loaded. Please load a model in the developer page",
            "no model is loaded",
            "Model not found: x",
            "The model has crashed without additional information. (Exit code: null)",
            "MODEL_LOAD_FAILED",
            "Failed to load LLM \"x\"",
            "Failed to load model",
        ] {
            assert!(is_load_failure(&Failure::transient(text)), "{text}");
        }
        for text in [
            "non-SSE body (text/html)",
            "context length exceeded",
            "",
            "loaded",
        ] {
            assert!(!is_load_failure(&Failure::transient(text)), "{text}");
        }
    }

    #[test]
    fn a_load_failure_passes_and_names_the_function_that_helps() {
        let told = explain(Failure::new(ErrorKind::Permanent, "model not found"));
        assert_eq!(told.kind, ErrorKind::Transient);
        assert_eq!(told.message, format!("{HINT}: model not found"));
        for other in [
            Failure::new(ErrorKind::Permanent, "bad field"),
            Failure::transient("auto-load failed: model not found"),
        ] {
            assert_eq!(explain(other.clone()), other);
        }
    }

    #[tokio::test]
    async fn c08_weakness_14_turns_share_one_load() {
        let loads = Loads::default();
        let (loaded, wait) = oneshot::channel::<()>();
        let server = url("http://h/v1/chat/completions");
        let first = loads.join(&server, "m", async {
            wait.await.map_err(|error| error.to_string())?;
            Ok(Value::Null)
        });
        let never = || async { panic!("a second load") };
        let others = (0..5).map(|_| loads.join(&server, "m", never()));
        let other_model = loads.join(&server, "n", async { Err("full".to_owned()) });
        let all = async { futures::join!(first, futures::future::join_all(others)) };
        let go = async {
            let outcome = other_model.await;
            loaded.send(()).unwrap();
            outcome
        };
        let ((first, others), other_model) = futures::join!(all, go);
        assert_eq!(first, Ok(()));
        assert_eq!(others, vec![Ok(()); 5]);
        assert_eq!(other_model, Err(Failure::transient("auto-load failed: full")));
        // Over, so the next one loads again.
        let again = loads.join(&server, "m", async { Err("again".to_owned()) }).await;
        assert_eq!(again, Err(Failure::transient("auto-load failed: again")));
    }

    #[tokio::test]
    async fn a_load_goes_on_for_those_who_still_wait() {
        let loads = Loads::default();
        let server = url("http://h/v1/chat/completions");
        let (loaded, wait) = oneshot::channel::<()>();
        let load = async {
            wait.await.map_err(|error| error.to_string())?;
            Ok(Value::Null)
        };
        let first = loads.join(&server, "m", load);
        let second = loads.join(&server, "m", async { panic!("a second load") });
        assert_eq!(first.now_or_never(), None);
        loaded.send(()).unwrap();
        assert_eq!(second.await, Ok(()));
    }
}
