//! `approval::on_harness_config`: the configuration entry `harness` changed (contract 03 §2.8, 09 §B5).
//!
//! Only wakes the follower and returns: an engine waits for its subscribers.

use serde_json::Value;

use super::State;
use crate::bus::{self, Cx, Function};
use crate::error::Result;
use crate::model::api::provider::Empty;

/// See the module.
#[derive(Debug)]
pub(super) struct OnHarnessConfig;

impl Function for OnHarnessConfig {
    const ID: &'static str = "approval::on_harness_config";
    const DESCRIPTION: &'static str = "";
    type State = State;
    type Request = Empty;
    type Response = ();

    /// The payload holds secrets and is not looked at: the entry is read anew.
    fn decode(payload: Value) -> Result<Empty> {
        bus::dismantle(payload);
        Ok(Empty {})
    }

    async fn call(cx: &Cx<State>, _: Empty) -> Result<()> {
        cx.state().changed.notify_one();
        Ok(())
    }
}
