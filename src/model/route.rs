//! Which provider serves a run (contract 02 §5.3). Pure: the caller says which names exist on the bus.

use super::key::ProviderId;

/// Providers this program brings along.
const BUILT_IN: [&str; 5] = ["anthropic", "openai", "kimi", "lmstudio", "llamacpp"];

/// Serves runs that name neither a provider nor a model whose maker is known.
const FALLBACK: &str = "anthropic";

/// Where a run's model calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To `provider::<id>::stream`.
    Provider(ProviderId),
    /// Nowhere: the caller named a provider that does not exist, spelled as given.
    Unknown(String),
}

impl Route {
    /// The provider's id, or the name that nobody has.
    pub fn name(&self) -> &str {
        match self {
            Self::Provider(id) => id,
            Self::Unknown(name) => name,
        }
    }
}

/// Chooses the provider.
///
/// `provider` and `model` are those of the run request. A built-in name counts in any letter case. Any other
/// non-empty name must satisfy `is_known`: declared through `harness::provider::register`, or
/// `provider::<name>::stream` is on the bus. It is tried as given and then lower-cased, as ids on the bus are case
/// sensitive. `is_known` is asked only when [`needs_lookup`] says so. An empty provider is chosen by model.
pub fn route(provider: &str, model: &str, is_known: impl Fn(&str) -> bool) -> Route {
    if provider.is_empty() {
        return Route::Provider(by_model(model).into());
    }
    let lower = provider.to_ascii_lowercase();
    if is_built_in(&lower) {
        return Route::Provider(lower.into());
    }
    if is_known(provider) {
        return Route::Provider(provider.into());
    }
    if is_known(&lower) {
        return Route::Provider(lower.into());
    }
    Route::Unknown(provider.to_owned())
}

/// Whether [`route`] has to know which providers exist besides the built-in ones.
pub fn needs_lookup(provider: &str) -> bool {
    !provider.is_empty() && !is_built_in(&provider.to_ascii_lowercase())
}

/// Whether a lower-cased name is one of this program's own.
pub fn is_built_in(lower: &str) -> bool {
    BUILT_IN.contains(&lower)
}

/// The maker of `model` by its name. Local providers are never guessed: their models carry any name.
fn by_model(model: &str) -> &'static str {
    let model = model.to_ascii_lowercase();
    if model.starts_with("gpt-") || is_o_series(&model) {
        "openai"
    } else if model.starts_with("kimi-") || model.starts_with("moonshot-v1-") {
        "kimi"
    } else {
        FALLBACK
    }
}

/// `o<digit>-…`, and the three that are sold without a suffix.
fn is_o_series(lower: &str) -> bool {
    let mut rest = lower.chars();
    matches!(lower, "o1" | "o3" | "o4")
        || (rest.next() == Some('o')
            && rest.next().is_some_and(|digit| digit.is_ascii_digit())
            && rest.next() == Some('-'))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn provider(id: &str) -> Route {
        Route::Provider(id.into())
    }

    fn unknown(name: &str) -> Route {
        Route::Unknown(name.to_owned())
    }

    #[test]
    fn c02_case_08_an_empty_provider_is_chosen_by_model() {
        let table = [
            ("gpt-5", "openai"),
            ("GPT-4o", "openai"),
            ("o3-mini", "openai"),
            ("O1-preview", "openai"),
            ("o9-x", "openai"),
            ("o1", "openai"),
            ("O3", "openai"),
            ("o4", "openai"),
            ("kimi-k2", "kimi"),
            ("Kimi-K2", "kimi"),
            ("moonshot-v1-128k", "kimi"),
            ("MOONSHOT-V1-8k", "kimi"),
            ("claude-sonnet-4", "anthropic"),
            ("qwen-7b", "anthropic"),
            ("", "anthropic"),
            ("o", "anthropic"),
            ("o2", "anthropic"),
            ("o10-mini", "anthropic"),
            ("o1x", "anthropic"),
            ("o٣-mini", "anthropic"),
            ("gpt", "anthropic"),
            ("my-gpt-4", "anthropic"),
            ("moonshot-v2", "anthropic"),
            ("lmstudio", "anthropic"),
            ("llamacpp", "anthropic"),
        ];
        for (model, expected) in table {
            assert_eq!(route("", model, |_| true), provider(expected), "model {model:?}");
        }
    }

    #[test]
    fn c02_case_08_a_built_in_name_counts_in_any_case_whatever_the_model() {
        let table = [
            ("OpenAI", "openai"),
            ("openai", "openai"),
            ("Anthropic", "anthropic"),
            ("KIMI", "kimi"),
            ("lmstudio", "lmstudio"),
            ("LMStudio", "lmstudio"),
            ("llamacpp", "llamacpp"),
        ];
        for (given, expected) in table {
            for model in ["x", "gpt-5", "kimi-k2", ""] {
                assert_eq!(
                    route(given, model, |_| false),
                    provider(expected),
                    "{given} {model}"
                );
            }
        }
    }

    #[test]
    fn c02_case_08_any_other_name_has_to_be_known() {
        let known = |name: &str| ["groq", "MyCloud"].contains(&name);
        let table = [
            ("groq", provider("groq")),
            ("Groq", provider("groq")),
            ("MyCloud", provider("MyCloud")),
            ("mycloud", unknown("mycloud")),
            ("Antropic", unknown("Antropic")),
            ("openai2", unknown("openai2")),
            (" ", unknown(" ")),
        ];
        for (given, expected) in table {
            assert_eq!(route(given, "gpt-5", known), expected, "provider {given:?}");
        }
    }

    #[test]
    fn the_bus_is_asked_only_when_a_lookup_is_needed() {
        let table = [
            ("", vec![]),
            ("OpenAI", vec![]),
            ("anthropic", vec![]),
            ("Groq", vec!["Groq", "groq"]),
        ];
        for (given, expected) in table {
            let asked = RefCell::new(Vec::new());
            let _route = route(given, "m", |name| {
                asked.borrow_mut().push(name.to_owned());
                false
            });
            assert_eq!(asked.into_inner(), expected, "provider {given:?}");
            assert_eq!(needs_lookup(given), !expected.is_empty(), "provider {given:?}");
        }
    }
}
