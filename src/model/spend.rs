//! What a model call cost, in tokens, also one that did not live to say so (field lesson B4). Pure.

use super::{AssistantMessage, ContentBlock, StopReason, Usage};

/// The tokens of a call that ended with this message: as its provider counted them; where nobody did, an estimate from what
/// was sent (`input`, in tokens) and what came back, a quarter of the characters. `streamed` of them came, also those of
/// calls that a message which was cut does not show. `None` when nothing is known of it and nothing came. An explicit zero is zero, but not at the end of a stream that was cut: there it is a count that never came.
pub fn usage_of(message: &AssistantMessage, input: u64, streamed: usize) -> Option<Usage> {
    let told = message.usage.as_ref();
    let nothing_came = message.content.is_empty() && streamed == 0;
    if nothing_came || told.is_some_and(|usage| is_counted(usage) || !is_cut(message)) {
        return told.cloned();
    }
    let output: usize = message.content.iter().map(characters).sum();
    Some(Usage {
        input: Some(input),
        output: Some(output.max(streamed).div_ceil(4) as u64),
        ..Usage::default()
    })
}

/// Gives a message that ended too early the tokens of its call. Who asked is billed either way.
pub fn settle(message: &mut AssistantMessage, input: u64, streamed: usize) {
    if is_cut(message) {
        message.usage = usage_of(message, input, streamed);
    }
}

fn is_cut(message: &AssistantMessage) -> bool {
    matches!(message.stop_reason, StopReason::Error | StopReason::Aborted)
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

    use super::*;

    fn ended(stop_reason: StopReason, text: Option<&str>, usage: Option<Usage>) -> AssistantMessage {
        let mut message = AssistantMessage::synthetic(stop_reason, text, 1);
        message.usage = usage;
        message
    }

    fn tokens(input: u64, output: u64) -> Usage {
        Usage {
            input: Some(input),
            output: Some(output),
            ..Usage::default()
        }
    }

    #[test]
    fn only_what_nobody_counted_is_estimated() {
        let cut = |text, usage| usage_of(&ended(StopReason::Aborted, text, usage), 100, 0);
        assert_eq!(cut(Some("héllo"), Some(tokens(7, 0))), Some(tokens(7, 0)));
        assert_eq!(cut(Some("héllo"), Some(tokens(0, 0))), Some(tokens(100, 2)));
        assert_eq!(cut(Some("héllo"), None), Some(tokens(100, 2)));
        assert_eq!(cut(None, None), None, "nothing came");
        assert_eq!(cut(None, Some(tokens(7, 0))), Some(tokens(7, 0)));
        let whole = |usage| usage_of(&ended(StopReason::End, Some("héllo"), usage), 100, 0);
        assert_eq!(whole(Some(tokens(0, 0))), Some(tokens(0, 0)), "an explicit zero");
        assert_eq!(whole(None), Some(tokens(100, 2)));
        let call = usage_of(&ended(StopReason::Error, Some("héllo"), None), 100, 40);
        assert_eq!(call, Some(tokens(100, 10)), "half a call is not shown");
        assert_eq!(
            usage_of(&ended(StopReason::Error, None, None), 100, 3),
            Some(tokens(100, 1))
        );
    }

    #[test]
    fn only_a_message_that_was_cut_is_given_an_estimate() {
        let settled = |mut message: AssistantMessage| {
            settle(&mut message, 100, 0);
            message.usage
        };
        assert_eq!(
            settled(ended(StopReason::Error, Some("x"), None)),
            Some(tokens(100, 1))
        );
        assert_eq!(settled(ended(StopReason::End, Some("x"), None)), None);
    }
}
