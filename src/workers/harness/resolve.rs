//! `harness::provider::resolve`: credential and settings of a provider, for the server side only (contract 09 B3).

use super::{Harness, registry};
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::provider::{ResolveRequest, Resolved};

/// `harness::provider::resolve`.
#[derive(Debug)]
pub(super) struct Resolve;

impl Function for Resolve {
    const ID: &'static str = "harness::provider::resolve";
    const DESCRIPTION: &'static str = "Resolve a provider credential + settings (api_url, max_tokens) from the harness configuration. Server-side only.";
    const REQUIRED: &'static [&'static str] = &["provider"];
    type State = Harness;
    type Request = ResolveRequest;
    type Response = Resolved;

    async fn call(cx: &Cx<Harness>, request: ResolveRequest) -> Result<Resolved> {
        Ok(registry::resolve(cx, &request.provider).await)
    }
}
