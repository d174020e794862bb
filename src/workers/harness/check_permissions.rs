//! `policy::check_permissions`: what the rule file says about a call (contract 03 §2.9).

use super::Harness;
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::api::approval::{CheckRequest, Verdict};
use crate::rules::RuleArgs;

/// See the module.
#[derive(Debug)]
pub(super) struct CheckPermissions;

impl Function for CheckPermissions {
    const ID: &'static str = "policy::check_permissions";
    const DESCRIPTION: &'static str =
        "Check a function call against iii-permissions.yaml; returns allow, deny, or needs_approval.";
    const REQUIRED: &'static [&'static str] = &["function_id"];
    type State = Harness;
    type Request = CheckRequest;
    type Response = Verdict;

    async fn call(cx: &Cx<Harness>, request: CheckRequest) -> Result<Verdict> {
        let CheckRequest {
            function_id,
            args: members,
            opaque: is_opaque,
        } = request;
        // A caller in this process skips the decoding, so it is checked here as well.
        if function_id.is_empty() {
            return Err(Error::missing_string("function_id"));
        }
        let args = RuleArgs { members, is_opaque };
        let path = &cx.config().permissions_path;
        Ok(cx.state().policy.check(path, &function_id, &args))
    }
}
