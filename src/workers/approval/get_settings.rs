//! `approval::get_settings`: the settings in force for a session (contract 03 §2.2). Reading never writes.

use super::State;
use super::change::read;
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::api::approval::{Mode, Settings, SettingsRequest};

/// See the module.
#[derive(Debug)]
pub(super) struct GetSettings;

impl Function for GetSettings {
    const ID: &'static str = "approval::get_settings";
    const DESCRIPTION: &'static str =
        "Read the per-session approval settings; returns defaults when none persisted.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    const CLIENT: bool = true;
    type State = State;
    type Request = SettingsRequest;
    type Response = Settings;

    async fn call(cx: &Cx<State>, SettingsRequest { session_id }: SettingsRequest) -> Result<Settings> {
        if session_id.is_empty() {
            return Err(Error::missing_string("session_id"));
        }
        if session_id.contains('/') {
            return Err(Error::invalid("session_id must not contain \"/\""));
        }
        Ok(match read(cx, &session_id).await {
            Ok(record) => record.settings(cx.state().default_mode()),
            // Nobody knows what this session's people chose: ask them, whatever the default is (weakness 5).
            Err(error) => {
                tracing::warn!(session_id = session_id.as_str(), %error, "approval settings unreadable, mode manual");
                Settings {
                    mode: Mode::Manual,
                    ..Settings::default()
                }
            }
        })
    }
}
