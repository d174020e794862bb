//! What a model call cost that did not live to say so. Pure.

use crate::model::{AssistantMessage, ContentBlock, RawMessage, StopReason, Usage, tokens};

/// Gives a message that ended too early the tokens of its call, when its provider has counted none: an estimate from what
/// was sent and what came back, a quarter of the characters each. Who asked is billed either way.
pub(super) fn settle(message: &mut AssistantMessage, sent: &[RawMessage]) {
    let is_cut = matches!(message.stop_reason, StopReason::Error | StopReason::Aborted);
    if !is_cut || message.content.is_empty() || message.usage.as_ref().is_some_and(is_counted) {
        return;
    }
    let output: usize = message.content.iter().map(characters).sum();
    message.usage = Some(Usage {
        input: Some(tokens::estimate(sent)),
        output: Some(output.div_ceil(4) as u64),
        ..Usage::default()
    });
}

fn is_counted(usage: &Usage) -> bool {
    [usage.input, usage.output, usage.cache_read, usage.cache_write]
        .into_iter()
        .flatten()
        .any(|tokens| tokens > 0)
}

fn characters(block: &ContentBlock) -> usize {
    match block {
        ContentBlock::Text { text } | ContentBlock::Thinking { text, .. } => text.chars().count(),
        ContentBlock::FunctionCall { arguments, .. } => arguments.to_string().len(),
        ContentBlock::Image { .. } | ContentBlock::FunctionResult { .. } | ContentBlock::Other(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    fn cut(text: &str, usage: Option<Usage>) -> AssistantMessage {
        let mut message = AssistantMessage::synthetic(StopReason::Aborted, Some(text), 1);
        message.usage = usage;
        message
    }

    #[test]
    fn only_what_nobody_counted_is_estimated() {
        let sent = [RawMessage::new(json!({ "role": "user", "content": "x".repeat(400) })).unwrap()];
        let counted = Usage {
            input: Some(7),
            ..Usage::default()
        };
        let zero = Usage {
            input: Some(0),
            output: Some(0),
            ..Usage::default()
        };
        let settled = |mut message: AssistantMessage| {
            settle(&mut message, &sent);
            message.usage
        };
        assert_eq!(settled(cut("héllo", Some(counted.clone()))), Some(counted));
        let estimate = Usage {
            input: Some(tokens::estimate(&sent)),
            output: Some(2),
            ..Usage::default()
        };
        assert_eq!(settled(cut("héllo", Some(zero))), Some(estimate.clone()));
        assert_eq!(settled(cut("héllo", None)), Some(estimate));
        let nothing_came = AssistantMessage::synthetic(StopReason::Aborted, None, 1);
        assert_eq!(settled(nothing_came), None);
        assert_eq!(
            settled(AssistantMessage::synthetic(StopReason::End, Some("x"), 1)),
            None
        );
    }
}
