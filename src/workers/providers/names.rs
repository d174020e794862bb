//! Tool names as upstream servers accept them, with the way back.

use std::collections::HashMap;

use super::conversation::{Entry, Part};
use super::protocol::Call;

const MAX_CHARS: usize = 64;

/// The names of one request. A name that is fine as it is always keeps its form; what another one becomes is unique.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    encoded: HashMap<String, String>,
    original: HashMap<String, String>,
}

impl Names {
    /// The names of a turn: of the tools that are offered, and of those that were called before.
    pub(super) fn of_turn(call: &Call, entries: &[Entry<'_>]) -> Self {
        let parts = entries.iter().flat_map(|entry| match entry {
            Entry::Assistant(parts) => parts.as_slice(),
            Entry::User(_) | Entry::Answer(_) => &[],
        });
        let called = parts.filter_map(|part| match part {
            Part::Call { name, .. } => Some(*name),
            Part::Text(_) | Part::Image { .. } | Part::Thinking { .. } => None,
        });
        let offered = call.tools.iter().map(|tool| tool.name.as_str());
        Self::of(offered.chain(called))
    }

    /// Learns every name of a request before any is used, so that no made-up form takes a real one.
    fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Self {
        let mut all = Self::default();
        for name in names.clone().filter(|name| is_fine(name)) {
            all.insert(name, name.to_owned());
        }
        for name in names {
            if !all.encoded.contains_key(name) {
                let form = all.free_form(name);
                all.insert(name, form);
            }
        }
        all
    }

    /// The form of a learnt name.
    pub(super) fn encode<'a>(&'a self, name: &'a str) -> &'a str {
        self.encoded.get(name).map_or(name, String::as_str)
    }

    /// The name behind a form the model used; a form nobody gave it is taken as it is.
    pub(super) fn decode<'a>(&'a self, form: &'a str) -> &'a str {
        self.original(form).unwrap_or(form)
    }

    /// The name behind a form of this request.
    pub(super) fn original(&self, form: &str) -> Option<&str> {
        self.original.get(form).map(String::as_str)
    }

    fn insert(&mut self, name: &str, form: String) {
        self.original.insert(form.clone(), name.to_owned());
        self.encoded.insert(name.to_owned(), form);
    }

    fn free_form(&self, name: &str) -> String {
        let plain: String = name
            .replace("::", "__")
            .chars()
            .map(|c| if is_allowed(c) { c } else { '_' })
            .take(MAX_CHARS)
            .collect();
        let plain = if plain.is_empty() { "_".to_owned() } else { plain };
        let numbered = (2_u32..).map(|n| {
            let suffix = format!("_{n}");
            let head: String = plain.chars().take(MAX_CHARS - suffix.len()).collect();
            head + &suffix
        });
        std::iter::once(plain.clone())
            .chain(numbered)
            .find(|form| !self.original.contains_key(form))
            .unwrap_or(plain)
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn is_fine(name: &str) -> bool {
    (1..=MAX_CHARS).contains(&name.len()) && name.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn c08_case_04_names_come_back_as_they_were() {
        let long = "x::".repeat(40);
        let given = [
            "agent_trigger",
            "a::b",
            "a__b",
            "a:b",
            "a.b",
            "my__tool::run",
            "",
            "é",
            &long,
        ];
        let names = Names::of(given.into_iter());
        let forms: Vec<_> = given.iter().map(|name| names.encode(name)).collect();
        assert_eq!(
            forms[..8],
            [
                "agent_trigger",
                "a__b_2",
                "a__b",
                "a_b",
                "a_b_2",
                "my__tool__run",
                "_",
                "__2"
            ]
        );
        for (name, form) in given.iter().zip(&forms) {
            assert!(is_fine(form), "{form}");
            assert_eq!(names.decode(form), *name);
        }
        assert_eq!(names.decode("made_up"), "made_up");
    }
}
