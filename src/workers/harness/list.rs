//! `harness::provider::list`: the declared providers, without anything secret (contract 09 B3).

use serde_json::Value;

use super::{Harness, registry};
use crate::bus::{self, Cx, Function};
use crate::error::Result;
use crate::model::api::provider::{Empty, ListResponse, ProviderRow};

/// `harness::provider::list`.
#[derive(Debug)]
pub(super) struct List;

impl Function for List {
    const ID: &'static str = "harness::provider::list";
    const DESCRIPTION: &'static str = "List providers declared to the harness.";
    const CLIENT: bool = true;
    type State = Harness;
    type Request = Empty;
    type Response = ListResponse;

    fn decode(payload: Value) -> Result<Empty> {
        // Whatever it is; but a very deep value must not be dropped by recursion.
        bus::dismantle(payload);
        Ok(Empty {})
    }

    async fn call(cx: &Cx<Harness>, _: Empty) -> Result<ListResponse> {
        let declared = cx.state().registry.all(&cx.config());
        let configured = registry::configured(cx, &declared).await;
        let providers = declared
            .into_iter()
            .zip(configured)
            .map(|(declaration, configured)| ProviderRow {
                display_name: declaration
                    .display_name
                    .unwrap_or_else(|| declaration.id.to_string()),
                id: declaration.id,
                supports_model_listing: declaration.supports_model_listing,
                configured,
            })
            .collect();
        Ok(ListResponse { providers })
    }
}
