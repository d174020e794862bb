//! Token arithmetic without a tokeniser: a quarter of the characters (contract 10 §2). Pure.

use std::io;

use serde_json::Value;

use super::api::compaction::Limits;
use super::raw::RawMessage;
use super::window;

const CHARS_PER_TOKEN: u64 = 4;

/// What a picture counts, whatever its size: its base64 text is not what the model is billed for.
pub const IMAGE_TOKENS: u64 = 1_600;

/// A reported count that is so many times smaller than the estimate is not believed. The densest text has a few times more
/// characters to the token than assumed, and structured results count twice in the estimate.
const IMPLAUSIBLE: u64 = 8;

/// Estimated tokens of messages.
pub fn estimate<'a>(messages: impl IntoIterator<Item = &'a RawMessage>) -> u64 {
    messages.into_iter().map(units).sum::<u64>() / CHARS_PER_TOKEN
}

/// Characters that a message counts: the length of its compact JSON in UTF-16 code units, pictures flat.
pub fn units(message: &RawMessage) -> u64 {
    let mut counter = Counter(0);
    // Counting cannot fail; a message that could not be written would not be counted.
    let all = serde_json::to_writer(&mut counter, message).map_or(0, |()| counter.0);
    let (mut data, mut flat) = (0, 0);
    let mut open: Vec<&Value> = message.object().get("content").into_iter().collect();
    while let Some(blocks) = open.pop() {
        for block in blocks.as_array().into_iter().flatten() {
            match block.get("type").and_then(Value::as_str) {
                Some("image") => {
                    let text = block.get("data").and_then(Value::as_str);
                    data += text.map_or(0, utf16_len);
                    flat += IMAGE_TOKENS * CHARS_PER_TOKEN;
                }
                Some("function_result") => open.extend(block.get("content")),
                _ => {}
            }
        }
    }
    all.saturating_sub(data) + flat
}

/// Estimated tokens of text as it is.
pub fn of_text<'a>(pieces: impl IntoIterator<Item = &'a str>) -> u64 {
    pieces.into_iter().map(utf16_len).sum::<u64>() / CHARS_PER_TOKEN
}

/// A count of tokens; some catalogs and providers write it with a fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked"
)]
pub fn whole(value: &Value) -> Option<u64> {
    let fractional = || {
        let number = value.as_f64().filter(|number| (0.0..1e15).contains(number));
        number.map(|number| number as u64)
    };
    value.as_u64().or_else(fractional)
}

/// The limits that a catalog record tells; `None` when its window is not known.
pub fn limits_of(model: &Value) -> Option<Limits> {
    let tokens = |key: &str| model.get(key).and_then(whole).unwrap_or(0);
    let context = tokens("context_window");
    (context > 0).then(|| Limits {
        context,
        input: context,
        output: tokens("max_output_tokens"),
    })
}

/// Estimated tokens of what goes along with every request of a run: system prompt and tools. Takes the stored request.
pub fn of_request(request: &Value) -> u64 {
    let prompt = request
        .get("system_prompt")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let tools = request.get("function_schemas").and_then(Value::as_array);
    of_fixed(prompt, tools.into_iter().flatten())
}

/// Estimated tokens of a system prompt and tools.
pub fn of_fixed<'a>(system_prompt: &str, tools: impl IntoIterator<Item = &'a Value>) -> u64 {
    let tools: u64 = tools.into_iter().map(|tool| utf16_len(&tool.to_string())).sum();
    (utf16_len(system_prompt) + tools) / CHARS_PER_TOKEN
}

/// Tokens a conversation may take.
pub fn usable(limit: Limits, reserved: u64) -> u64 {
    room(limit, reserved, 0)
}

/// Tokens the messages may take beside what goes along with every request. A small window leaves them a quarter, whatever
/// is reserved. What the model may answer is kept free too, as far as a sensible answer goes (10 weaknesses 5, 14).
pub fn room(limit: Limits, reserved: u64, fixed: u64) -> u64 {
    if limit.context == 0 {
        return 0;
    }
    if limit.input == 0 {
        return limit.context.saturating_sub(limit.output).saturating_sub(fixed);
    }
    let output = limit.output.min(limit.context / 4);
    let free = limit.input.saturating_sub(reserved).min(limit.context - output);
    free.saturating_sub(fixed).max(limit.input / 4)
}

/// Tokens of a call as its provider counted them.
pub fn count(usage: &Value) -> u64 {
    let tokens = |key: &str| usage.get(key).and_then(whole).unwrap_or(0);
    match tokens("total") {
        0 => ["input", "output", "cache_read", "cache_write"]
            .into_iter()
            .map(tokens)
            .sum(),
        total => total,
    }
}

/// Whether a call was as large as a conversation may be.
pub fn is_overflow(usage: &Value, limit: Limits, reserved: u64) -> bool {
    limit.context > 0 && count(usage) >= usable(limit, reserved)
}

/// Tokens of recent messages that stay verbatim. A small window keeps at most half of what is usable.
pub fn tail_budget(usable: u64, preset: Option<u64>) -> u64 {
    preset.unwrap_or_else(|| match usable {
        0 => 2_000,
        usable => (usable / 4).clamp(2_000, 8_000).min(usable / 2),
    })
}

/// Tokens of the messages that a model is to see. Where its provider has counted most of them already, that count stands for
/// them, and only what came after it is estimated. `fixed` goes along with every request and is part of such a count.
pub fn of_view(view: &[RawMessage], fixed: u64, model: &str) -> u64 {
    if let Some((at, reported)) = last_report(view, model) {
        let (counted, after) = view.split_at(at + 1);
        if reported.saturating_mul(IMPLAUSIBLE) >= estimate(counted) + fixed {
            return reported.saturating_sub(fixed) + estimate(after);
        }
    }
    estimate(view)
}

/// Place and size of the last call that was counted and had all of this view in it. Counts from before a compaction or a
/// pruning tell nothing of what is left.
fn last_report(view: &[RawMessage], model: &str) -> Option<(usize, u64)> {
    let summarised = view.first().filter(|first| window::is_summary(first));
    let shrunk = view
        .iter()
        .filter_map(pruned_at)
        .chain(summarised.map(timestamp))
        .max();
    view.iter().enumerate().rev().find_map(|(at, message)| {
        let is_answer = message.role() == "assistant" && message.text_member("model") == Some(model);
        let is_cut = matches!(message.text_member("stop_reason"), Some("error" | "aborted"));
        let is_late = shrunk.is_none_or(|shrunk| timestamp(message) > shrunk);
        let tokens = message.object().get("usage").map_or(0, count);
        (is_answer && !is_cut && is_late && tokens > 0).then_some((at, tokens))
    })
}

fn timestamp(message: &RawMessage) -> i64 {
    let timestamp = message.object().get("timestamp").and_then(Value::as_i64);
    timestamp.unwrap_or(0)
}

/// When the output of a result was pruned, Unix milliseconds.
pub fn pruned_at(message: &RawMessage) -> Option<i64> {
    let at = message.object().get("details")?.get("compacted_at")?;
    at.as_i64().or_else(|| at.is_number().then_some(0))
}

fn utf16_len(text: &str) -> u64 {
    text.bytes().map(utf16_units).sum()
}

/// UTF-16 code units that begin with this byte of UTF-8.
fn utf16_units(byte: u8) -> u64 {
    match byte {
        0x80..=0xBF => 0,
        0xF0.. => 2,
        _ => 1,
    }
}

struct Counter(u64);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.iter().copied().map(utf16_units).sum::<u64>();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn limit(context: u64, input: u64, output: u64) -> Limits {
        Limits {
            context,
            input,
            output,
        }
    }

    fn user(text: &str) -> RawMessage {
        RawMessage::new(
            json!({ "role": "user", "content": [{ "type": "text", "text": text }], "timestamp": 0 }),
        )
        .unwrap()
    }

    fn answer(timestamp: i64, total: u64) -> RawMessage {
        RawMessage::new(
            json!({ "role": "assistant", "content": [], "stop_reason": "end", "model": "m",
            "usage": { "total": total }, "timestamp": timestamp }),
        )
        .unwrap()
    }

    #[test]
    fn c10_case_01_usable() {
        assert_eq!(usable(limit(200_000, 180_000, 20_000), 20_000), 160_000);
        assert_eq!(usable(limit(100_000, 0, 8_000), 20_000), 92_000);
        assert_eq!(usable(limit(0, 0, 0), 20_000), 0);
        assert_eq!(usable(limit(32_000, 32_000, 4_000), 20_000), 12_000);
    }

    #[test]
    fn a_small_window_keeps_a_quarter_and_a_large_answer_its_place() {
        assert_eq!(usable(limit(8_192, 8_192, 4_096), 20_000), 2_048);
        assert_eq!(room(limit(8_192, 8_192, 4_096), 20_000, 3_000), 2_048);
        assert_eq!(usable(limit(200_000, 200_000, 64_000), 20_000), 150_000);
        assert_eq!(usable(limit(128_000, 128_000, 128_000), 20_000), 96_000);
        assert_eq!(room(limit(200_000, 200_000, 4_096), 20_000, 3_000), 177_000);
        assert_eq!(room(limit(1_000, 0, 100), 20_000, 300), 600);
    }

    #[test]
    fn c10_case_02_overflow() {
        let window = limit(200_000, 180_000, 20_000);
        let parts = |input: u64| json!({ "input": input, "output": 50_000, "cache_read": 10_000, "cache_write": 1_000 });
        for (usage, expected) in [
            (json!({ "total": 161_000 }), true),
            (parts(100_000), true),
            (parts(98_999), false),
            (parts(99_000), true),
            (json!({ "total": 0, "input": 160_000.9 }), true),
            (json!({ "total": "many", "input": null }), false),
        ] {
            assert_eq!(is_overflow(&usage, window, 20_000), expected, "{usage}");
            assert!(!is_overflow(&usage, limit(0, 0, 0), 20_000));
        }
    }

    #[test]
    fn c10_case_03_tail_budget() {
        for (usable, preset, expected) in [
            (180_000, None, 8_000),
            (12_000, None, 3_000),
            (5_000, None, 2_000),
            (180_000, Some(5_000), 5_000),
            (0, None, 2_000),
            (2_048, None, 1_024),
        ] {
            assert_eq!(tail_budget(usable, preset), expected);
        }
    }

    #[test]
    fn c10_case_04_estimate() {
        assert_eq!(estimate([]), 0);
        assert_eq!(estimate([&user("hello")]), 18);
        assert_eq!(estimate([&user(&"x".repeat(4_000))]), 1_016);
        assert_eq!(estimate([&user(&"🦀".repeat(10))]), 21);
        assert_eq!(estimate([&user("a"), &user("b")]), 136 / 4);
    }

    #[test]
    fn pictures_count_the_same_whatever_their_size() {
        let picture = |bytes: usize, nested: bool| {
            let image = json!({ "type": "image", "mime": "image/png", "data": "A".repeat(bytes) });
            let block = if nested {
                json!({ "type": "function_result", "function_call_id": "c", "content": [image] })
            } else {
                image
            };
            RawMessage::new(json!({ "role": "user", "content": [block] })).unwrap()
        };
        for nested in [false, true] {
            let small = estimate([&picture(0, nested)]);
            assert_eq!(estimate([&picture(1_000_000, nested)]), small);
            assert!((IMAGE_TOKENS..IMAGE_TOKENS + 40).contains(&small), "{small}");
        }
    }

    #[test]
    fn a_count_of_the_provider_stands_for_what_it_counted() {
        let view = [user(&"x".repeat(4_000)), answer(5, 3_000), user("next")];
        let after = estimate([&view[2]]);
        assert_eq!(of_view(&view, 500, "m"), 2_500 + after);
        assert_eq!(of_view(&view, 500, "another"), estimate(&view));
        // Nobody counts so little.
        let odd = [view[0].clone(), answer(5, 2), view[2].clone()];
        assert_eq!(of_view(&odd, 500, "m"), estimate(&odd));
    }

    #[test]
    fn field_lesson_k2_counts_from_before_a_compaction_or_a_pruning_tell_nothing() {
        let view = |answered: i64| {
            [
                window::summary_message("S", 10),
                user("a"),
                answer(answered, 90_000),
            ]
        };
        assert_eq!(of_view(&view(11), 0, "m"), 90_000);
        for answered in [9, 10] {
            assert_eq!(of_view(&view(answered), 0, "m"), estimate(&view(answered)));
        }
        let pruned = RawMessage::new(json!({ "role": "function_result", "content": [],
            "details": { "compacted_at": 20 } }))
        .unwrap();
        let view = [pruned, answer(11, 90_000)];
        assert_eq!(of_view(&view, 0, "m"), estimate(&view));
    }

    #[test]
    fn a_catalog_record_without_a_window_tells_no_limits() {
        assert_eq!(
            limits_of(&json!({ "context_window": 8192.0, "max_output_tokens": "x" })),
            Some(limit(8_192, 8_192, 0))
        );
        for row in [
            json!(null),
            json!({}),
            json!({ "context_window": "8192" }),
            json!({ "context_window": 0 }),
        ] {
            assert_eq!(limits_of(&row), None, "{row}");
        }
    }

    proptest! {
        #[test]
        fn room_never_passes_the_window(context in 1_u64..2_000_000, output in 0_u64..300_000, reserved in 0_u64..50_000,
            fixed in 0_u64..50_000) {
            let room = room(limit(context, context, output), reserved, fixed);
            prop_assert!(room <= context && room >= context / 4);
            prop_assert!(room <= (context - reserved.min(context)).max(context / 4));
        }

        #[test]
        fn a_text_counts_its_utf16_units(text in ".*") {
            prop_assert_eq!(utf16_len(&text), text.encode_utf16().count() as u64);
        }
    }
}
