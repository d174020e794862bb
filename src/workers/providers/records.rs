//! Catalog records out of model listings: what the listing says, then what is known of the family, then flat defaults
//! (contract 08 §10, 09 A3 and weakness 10). A table only enriches ids that were listed; it never makes records.

use serde_json::{Map, Value, json};

use super::costs::Price;
use super::listed_price;

/// Members of a listed model that name its window, tokens; the first one that is there counts. What a server has loaded a
/// model with comes before what the model could do.
const CONTEXT: &[&str] = &[
    "/loaded_context_length",
    "/context_window",
    "/context_length",
    "/max_context_length",
    "/max_model_len",
    "/max_input_tokens",
    "/meta/n_ctx",
];
const OUTPUT: &[&str] = &[
    "/max_output_tokens",
    "/max_completion_tokens",
    "/top_provider/max_completion_tokens",
    "/max_tokens",
];
const NAME: &[&str] = &["/display_name", "/name"];
const VISION: &[&str] = &[
    "/supports_vision",
    "/supports_image_in",
    "/capabilities/vision",
    "/capabilities/image_input/supported",
];
const THINKING: &[&str] = &[
    "/supports_thinking",
    "/supports_reasoning",
    "/capabilities/reasoning",
    "/capabilities/thinking/supported",
];
const XHIGH: &[&str] = &["/capabilities/effort/xhigh/supported"];
const TAKES_BUDGET: &[&str] = &["/capabilities/thinking/types/enabled/supported"];
const ADAPTS: &[&str] = &["/capabilities/thinking/types/adaptive/supported"];

/// What is known of a vendor's models beside its listing.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Label of the protocol; clients key on it.
    pub api: &'static str,
    /// Window of a model nothing else is known of, tokens.
    pub context: u64,
    /// Its output limit, tokens.
    pub output: u64,
    /// Whether it takes images; `None`: unknown.
    pub vision: Option<bool>,
    /// The first one whose prefix fits counts.
    pub families: &'static [Family],
    /// By exact id, a date or an alias at its end aside.
    pub prices: &'static [Price],
    /// Endings that stand for the newest release of a name.
    pub aliases: &'static [&'static str],
}

/// Models whose ids begin alike.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    prefix: &'static str,
    context: u64,
    output: u64,
    thinking: bool,
    vision: bool,
    caches: Option<bool>,
    xhigh: Option<bool>,
    takes_no_budget: Option<bool>,
}

/// Id prefix, window and output limit in tokens, thinking, vision.
pub const fn family(prefix: &'static str, context: u64, output: u64, thinking: bool, vision: bool) -> Family {
    Family {
        prefix,
        context,
        output,
        thinking,
        vision,
        caches: None,
        xhigh: None,
        takes_no_budget: None,
    }
}

impl Family {
    /// The same for the Messages protocol: prompts can be marked for a cache, and reasoning has a budget or none, and the highest
    /// effort or not, as far as that is known.
    pub(super) const fn of_messages(self, takes_no_budget: bool, xhigh: Option<bool>) -> Self {
        Self {
            caches: Some(true),
            xhigh,
            takes_no_budget: Some(takes_no_budget),
            ..self
        }
    }

    /// A number at the end of the prefix is a whole one: `x-1` is not the family of `x-10`.
    fn has(&self, id: &str) -> bool {
        let is_digit = |c: char| c.is_ascii_digit();
        id.strip_prefix(self.prefix)
            .is_some_and(|rest| !(self.prefix.ends_with(is_digit) && rest.starts_with(is_digit)))
    }
}

impl Known {
    /// The flat record of contract 08 §10: a label and a window.
    pub const fn flat(api: &'static str, context: u64) -> Self {
        Self {
            api,
            context,
            output: 8_192,
            vision: None,
            families: &[],
            prices: &[],
            aliases: &[],
        }
    }

    /// The record of one listed model; what is unknown stays out of it.
    pub fn record(&self, provider: &str, id: &str, entry: &Value) -> Value {
        let family = self.family(id);
        let context = tokens(entry, CONTEXT).or_else(|| family.map(|family| family.context));
        let output = tokens(entry, OUTPUT).or_else(|| family.map(|family| family.output));
        let name = NAME.iter().find_map(|at| entry.pointer(at)?.as_str());
        let mut record = json!({
            "id": id,
            "provider": provider,
            "api": self.api,
            "display_name": name.filter(|name| !name.is_empty()).unwrap_or(id),
            "context_window": context.unwrap_or(self.context),
            "max_output_tokens": output.unwrap_or(self.output),
            "supports_tools": true,
            "transports": ["sse"],
        });
        let thinking = flag(entry, THINKING).or_else(|| family.map(|family| family.thinking));
        let vision = sees(entry)
            .or_else(|| family.map(|family| family.vision))
            .or(self.vision);
        let xhigh = flag(entry, XHIGH).or_else(|| family.and_then(|family| family.xhigh));
        let caches = family.and_then(|family| family.caches);
        let no_budget = refuses_budget(entry).or_else(|| family.and_then(|family| family.takes_no_budget));
        if let Value::Object(members) = &mut record {
            insert(members, "supports_thinking", thinking.map(Value::from));
            insert(members, "supports_xhigh", xhigh.map(Value::from));
            insert(members, "supports_vision", vision.map(Value::from));
            insert(members, "supports_cache", caches.map(Value::from));
            insert(members, "takes_no_thinking_budget", no_budget.map(Value::from));
            let pricing = if listed_price::is_named(entry) {
                listed_price::of(entry)
            } else {
                self.pricing(id)
            };
            insert(members, "pricing", pricing);
        }
        record
    }

    /// Whether a model refuses a budget for its reasoning, as far as is known.
    pub(super) fn takes_no_budget(&self, id: &str) -> bool {
        let known = self.family(id).and_then(|family| family.takes_no_budget);
        known == Some(true)
    }

    fn family(&self, id: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.has(id))
    }

    /// A dated release may cost something else than the name without the date.
    fn pricing(&self, id: &str) -> Option<Value> {
        let of = |id: &str| self.prices.iter().find(|(known, _)| *known == id);
        let (_, costs) = of(id).or_else(|| of(self.newest(id)))?;
        Some(costs.pricing())
    }

    /// The name without the ending that says which of its releases.
    fn newest<'a>(&self, id: &'a str) -> &'a str {
        let alias = self.aliases.iter().find_map(|ending| id.strip_suffix(ending));
        alias.unwrap_or_else(|| undated(id))
    }
}

fn insert(record: &mut Map<String, Value>, member: &str, value: Option<Value>) {
    if let Some(value) = value {
        record.insert(member.to_owned(), value);
    }
}

fn tokens(entry: &Value, places: &[&str]) -> Option<u64> {
    let numbers = places.iter().filter_map(|at| entry.pointer(at)?.as_u64());
    numbers.into_iter().find(|tokens| *tokens > 0)
}

fn flag(entry: &Value, places: &[&str]) -> Option<bool> {
    places.iter().find_map(|at| entry.pointer(at)?.as_bool())
}

/// LM Studio says it by the kind of the model, routers by a list of inputs, others by a flag.
fn sees(entry: &Value) -> Option<bool> {
    let kind = || match entry.get("type")?.as_str()? {
        "vlm" => Some(true),
        "llm" => Some(false),
        _ => None,
    };
    let inputs = || entry.pointer("/architecture/input_modalities")?.as_array();
    flag(entry, VISION)
        .or_else(kind)
        .or_else(|| inputs().map(|inputs| inputs.iter().any(|input| input == "image")))
}

/// A model that adapts its reasoning itself may refuse a budget for it.
fn refuses_budget(entry: &Value) -> Option<bool> {
    let refuses = !flag(entry, TAKES_BUDGET)?;
    Some(refuses && flag(entry, ADAPTS).unwrap_or(true))
}

/// `gpt-4o-2024-08-06` → `gpt-4o`, `claude-opus-4-1-20250805` → `claude-opus-4-1`.
fn undated(id: &str) -> &str {
    let form = |text: &str| -> String {
        let digits = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c });
        digits.collect()
    };
    let without = |date: &str| {
        let (name, tail) = id.split_at_checked(id.len().checked_sub(date.len())?)?;
        (form(tail) == date && !name.is_empty()).then_some(name)
    };
    without("-0000-00-00")
        .or_else(|| without("-00000000"))
        .unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::super::costs::costs;
    use super::*;
    use pretty_assertions::assert_eq;

    const KNOWN: Known = Known {
        families: &[
            family("f-1-mini", 1_000, 100, false, false),
            family("f-1", 2_000, 200, true, true),
        ],
        prices: &[("f-1", costs(1.0, 2.0).cached(0.5))],
        ..Known::flat("openai-completions", 32_768)
    };

    fn record(id: &str, entry: &Value) -> Value {
        KNOWN.record("p", id, entry)
    }

    #[test]
    fn an_unknown_model_gets_the_flat_record() {
        let flat = json!({
            "id": "g-9",
            "provider": "p",
            "api": "openai-completions",
            "display_name": "g-9",
            "context_window": 32_768,
            "max_output_tokens": 8192,
            "supports_tools": true,
            "transports": ["sse"]
        });
        assert_eq!(record("g-9", &json!({"id": "g-9"})), flat);
        let odd = json!({"context_length": "many", "max_output_tokens": 0, "name": "", "supports_vision": "no",
            "architecture": {"input_modalities": "text"}, "type": 7, "meta": []});
        assert_eq!(record("g-9", &odd), flat);
    }

    #[test]
    fn the_listing_beats_the_family_and_the_family_the_default() {
        let listed = json!({"name": "One", "context_length": 64_000, "supports_image_in": false});
        assert_eq!(
            record("f-1-2026-08-06", &listed),
            json!({
                "id": "f-1-2026-08-06",
                "provider": "p",
                "api": "openai-completions",
                "display_name": "One",
                "context_window": 64_000,
                "max_output_tokens": 200,
                "supports_tools": true,
                "transports": ["sse"],
                "supports_thinking": true,
                "supports_vision": false,
                "pricing": {"input_per_1m": 1.0, "output_per_1m": 2.0, "cache_read_per_1m": 0.5}
            })
        );
        let routed = json!({"pricing": {"prompt": "0.000003", "completion": "0.000004"}});
        assert_eq!(
            record("f-1", &routed)["pricing"],
            json!({"input_per_1m": 3.0, "output_per_1m": 4.0})
        );
        let unclear = json!({"pricing": {"prompt": "-1", "completion": "-1"}});
        assert_eq!(record("f-1", &unclear).get("pricing"), None);
        assert_eq!(record("f-12", &json!({}))["context_window"], 32_768);
        let smaller = record("f-1-mini", &json!({}));
        assert_eq!(
            (
                &smaller["context_window"],
                &smaller["supports_thinking"],
                smaller.get("pricing")
            ),
            (&json!(1_000), &json!(false), None)
        );
    }

    #[test]
    fn servers_name_the_same_thing_differently() {
        for (entry, context, vision) in [
            (
                json!({"loaded_context_length": 4096, "max_context_length": 32_768, "type": "llm"}),
                4096,
                json!(false),
            ),
            (
                json!({"max_context_length": 8192, "type": "vlm"}),
                8192,
                json!(true),
            ),
            (
                json!({"loaded_context_length": 0, "max_context_length": 8192}),
                8192,
                Value::Null,
            ),
            (json!({"max_model_len": 5}), 5, Value::Null),
            (json!({"meta": {"n_ctx": 6, "n_ctx_train": 9}}), 6, Value::Null),
            (
                json!({"context_length": 7, "architecture": {"input_modalities": ["text", "image"]}}),
                7,
                json!(true),
            ),
            (
                json!({"context_length": 7, "architecture": {"input_modalities": ["text"]}}),
                7,
                json!(false),
            ),
        ] {
            let record = record("x", &entry);
            assert_eq!(record["context_window"], context, "{entry}");
            assert_eq!(record["supports_vision"], vision, "{entry}");
        }
    }

    #[test]
    fn only_a_date_is_cut_off() {
        for (id, expected) in [
            ("o3-2025-04-16", "o3"),
            ("gpt-5", "gpt-5"),
            ("gpt-5-pro-2025-10-06", "gpt-5-pro"),
            ("claude-opus-4-1-20250805", "claude-opus-4-1"),
            ("gpt-4-0613", "gpt-4-0613"),
            ("20250805", "20250805"),
            ("-20250805", "-20250805"),
            ("é-2025-04-16", "é"),
            ("éééééé", "éééééé"),
        ] {
            assert_eq!(undated(id), expected);
        }
    }
}
