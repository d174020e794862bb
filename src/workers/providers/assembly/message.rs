//! The message that the blocks make: so far, finished, or failed.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::block::{Block, Kind};
use super::{Assembly, Key};
use crate::model::{AssistantMessage, ContentBlock, StopReason};
use crate::workers::providers::failure::Failure;

impl Assembly {
    /// The message so far.
    pub(in super::super) fn snapshot(&self) -> AssistantMessage {
        let mut message = self.head.clone();
        message.content = self.content(|_| true);
        message.usage = self.has_content().then(|| self.usage.clone());
        message
    }

    /// The finished message. Calls and the stop reason agree in it, whatever the server said (contract 08 §6.3).
    pub(in super::super) fn done(&self, reason: StopReason) -> AssistantMessage {
        let mut message = self.head.clone();
        message.content = self.content(|_| true);
        let has_calls = message.calls().next().is_some();
        message.stop_reason = match reason {
            StopReason::End if has_calls => StopReason::FunctionCall,
            StopReason::FunctionCall if !has_calls => StopReason::End,
            StopReason::Length => {
                unfinished_call_is_no_call_without_arguments(&mut message, &self.blocks);
                reason
            }
            StopReason::End | StopReason::FunctionCall | StopReason::Aborted | StopReason::Error => reason,
        };
        message.usage = Some(self.usage.clone());
        message
    }

    /// The message of a turn that failed or was stopped: what was streamed, but no call that is cut.
    pub(in super::super) fn failed(&self, reason: StopReason, failure: &Failure) -> AssistantMessage {
        let mut message = self.snapshot();
        message.content = self.content(Block::is_complete);
        message.stop_reason = reason;
        message.error_message = Some(failure.message.clone());
        message.error_kind = Some(failure.kind);
        // What upstream has counted is paid for, also when it came before any content.
        if self.usage.total.is_some() {
            message.usage = Some(self.usage.clone());
        }
        message
    }

    fn content(&self, keep: impl Fn(&Block) -> bool) -> Vec<ContentBlock> {
        let mut ids = HashSet::new();
        let blocks = self.blocks.iter().filter_map(|(key, block)| match block.kind {
            Kind::Text => (!block.text.is_empty()).then(|| ContentBlock::text(block.text.clone())),
            Kind::Thinking => {
                let signature = (!block.signature.is_empty()).then(|| block.signature.clone());
                let says_something = !block.text.is_empty() || signature.is_some();
                says_something.then(|| ContentBlock::Thinking {
                    text: block.text.clone(),
                    signature,
                })
            }
            Kind::Call if !block.name.is_empty() && keep(block) => {
                let given = !block.id.is_empty() && ids.insert(block.id.clone());
                let id = if given {
                    block.id.clone()
                } else {
                    self.made_id(*key)
                };
                Some(ContentBlock::FunctionCall {
                    id: id.into(),
                    function_id: block.name.as_str().into(),
                    arguments: block.arguments(),
                })
            }
            Kind::Call => None,
        });
        blocks.collect()
    }

    fn made_id(&self, (place, order): Key) -> String {
        format!("call_{}_{place}_{order}", self.nonce)
    }
}

/// A message cut by the output limit right after the name of a call: that call has no `{}`, it has nothing.
fn unfinished_call_is_no_call_without_arguments(
    message: &mut AssistantMessage,
    blocks: &BTreeMap<Key, Block>,
) {
    let cut = blocks.values().next_back().is_some_and(|block| {
        block.kind == Kind::Call && block.text.trim().is_empty() && !block.name.is_empty()
    });
    if let Some(ContentBlock::FunctionCall { arguments, .. }) = message.content.last_mut().filter(|_| cut) {
        *arguments = Value::Null;
    }
}
