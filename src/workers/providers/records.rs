//! Catalog records out of model listings: what the listing says, then what is known of the family, then flat defaults
//! (contract 08 §10, 09 A3 and weakness 10). A table only enriches ids that were listed; it never makes records.

use serde_json::{Map, Value, json};

use super::listed_price;

/// Members of a listed model that name its window, tokens; the first one that is there counts. What a server has loaded a
/// model with comes before what the model could do.
const CONTEXT: &[&str] = &[
    "/loaded_context_length",
    "/context_window",
    "/context_length",
    "/max_context_length",
    "/max_model_len",
    "/meta/n_ctx",
];
const OUTPUT: &[&str] = &[
    "/max_output_tokens",
    "/max_completion_tokens",
    "/top_provider/max_completion_tokens",
];
const NAME: &[&str] = &["/display_name", "/name"];
const VISION: &[&str] = &["/supports_vision", "/supports_image_in", "/capabilities/vision"];
const THINKING: &[&str] = &[
    "/supports_thinking",
    "/supports_reasoning",
    "/capabilities/reasoning",
];

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
    /// The first prefix that fits counts.
    pub families: &'static [Family],
    /// By exact id, a date at its end aside.
    pub prices: &'static [Price],
}

/// Models whose ids begin alike.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    prefix: &'static str,
    context: u64,
    output: u64,
    thinking: bool,
    vision: bool,
}

/// Id prefix, window and output limit in tokens, thinking, vision.
pub const fn family(prefix: &'static str, context: u64, output: u64, thinking: bool, vision: bool) -> Family {
    Family {
        prefix,
        context,
        output,
        thinking,
        vision,
    }
}

/// Id, and what its tokens cost.
pub type Price = (&'static str, Costs);

/// US dollars per million tokens.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    long: Option<Long>,
}

/// Calls with long prompts cost so many times as much.
#[derive(Debug, Clone, Copy)]
pub struct Long {
    /// Prompts of more tokens are long, cached ones included.
    pub above: u64,
    /// For the prompt, cached or not.
    pub input: f64,
    /// For the output.
    pub output: f64,
}

/// Prompt and output; cached tokens cost the same.
pub const fn costs(input: f64, output: f64) -> Costs {
    Costs {
        input,
        output,
        cache_read: None,
        cache_write: None,
        long: None,
    }
}

impl Costs {
    /// With a price of cached tokens.
    #[must_use]
    pub const fn cached(mut self, price: f64) -> Self {
        self.cache_read = Some(price);
        self
    }

    /// With a price of tokens that are written to the cache.
    #[must_use]
    pub const fn written(mut self, price: f64) -> Self {
        self.cache_write = Some(price);
        self
    }

    /// With other prices for long prompts.
    #[must_use]
    pub const fn long(mut self, long: Long) -> Self {
        self.long = Some(long);
        self
    }

    /// The member `pricing` of a record.
    pub(super) fn pricing(&self) -> Value {
        let mut pricing = self.times(1.0, 1.0);
        if let Some(Long { above, input, output }) = self.long {
            let mut tier = self.times(input, output);
            tier["above_tokens"] = above.into();
            pricing["tiers"] = json!([tier]);
        }
        pricing
    }

    fn times(&self, input: f64, output: f64) -> Value {
        /// Finer than any price.
        const STEPS: f64 = 1e6;
        let price = |price: f64, times: f64| Value::from((price * times * STEPS).round() / STEPS);
        let mut rates = json!({
            "input_per_1m": price(self.input, input),
            "output_per_1m": price(self.output, output),
        });
        let cached = [
            ("cache_read_per_1m", self.cache_read),
            ("cache_write_per_1m", self.cache_write),
        ];
        for (member, cost) in cached {
            if let Some(cost) = cost {
                rates[member] = price(cost, input);
            }
        }
        rates
    }
}

impl Known {
    /// The record of one listed model.
    pub fn record(&self, provider: &str, id: &str, entry: &Value) -> Value {
        let family = self.families.iter().find(|family| id.starts_with(family.prefix));
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
        if let Value::Object(members) = &mut record {
            insert(members, "supports_thinking", thinking.map(Value::from));
            insert(members, "supports_vision", vision.map(Value::from));
            let pricing = if listed_price::is_named(entry) {
                listed_price::of(entry)
            } else {
                self.pricing(id)
            };
            insert(members, "pricing", pricing);
        }
        record
    }

    /// A dated release may cost something else than the name without the date.
    fn pricing(&self, id: &str) -> Option<Value> {
        let of = |id: &str| self.prices.iter().find(|(known, _)| *known == id);
        let (_, costs) = of(id).or_else(|| of(undated(id)))?;
        Some(costs.pricing())
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

/// `gpt-4o-2024-08-06` → `gpt-4o`.
fn undated(id: &str) -> &str {
    let is_date = |tail: &str| {
        let form: String = tail
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        form == "-0000-00-00"
    };
    let cut = id.len().saturating_sub("-0000-00-00".len());
    match id.split_at_checked(cut) {
        Some((name, tail)) if is_date(tail) => name,
        _ => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    const KNOWN: Known = Known {
        api: "openai-completions",
        context: 32_768,
        output: 8_192,
        vision: None,
        families: &[
            family("f-1-mini", 1_000, 100, false, false),
            family("f-1", 2_000, 200, true, true),
        ],
        prices: &[("f-1", costs(1.0, 2.0).cached(0.5))],
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
    fn prices_of_long_prompts_are_a_tier() {
        let long = Long {
            above: 100_000,
            input: 2.0,
            output: 1.5,
        };
        let costs = costs(0.2, 1.2).cached(0.02).written(0.25).long(long);
        assert_eq!(
            costs.pricing(),
            json!({"input_per_1m": 0.2, "output_per_1m": 1.2, "cache_read_per_1m": 0.02, "cache_write_per_1m": 0.25,
                "tiers": [{"above_tokens": 100_000, "input_per_1m": 0.4, "output_per_1m": 1.8,
                    "cache_read_per_1m": 0.04, "cache_write_per_1m": 0.5}]})
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
            ("é-2025-04-16", "é"),
            ("éééééé", "éééééé"),
        ] {
            assert_eq!(undated(id), expected);
        }
    }
}
