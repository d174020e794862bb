//! Call ids in the form an upstream takes, each only once in a conversation.
//!
//! Ids of other providers do not fit everywhere: `functions.ls:0`, `call_0` again in each turn, or longer than is allowed (field
//! lesson V8).

use std::collections::{HashMap, HashSet};

/// What ids an upstream takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) max_chars: usize,
    /// Other characters become `_`.
    pub(super) is_allowed: fn(char) -> bool,
}

/// The ids of one request, given in wire order: a longer conversation gives its old part the same ids.
#[derive(Debug)]
pub(super) struct Ids {
    rule: Rule,
    taken: HashSet<String>,
    /// Of the newest message with calls: our id, its form.
    newest: HashMap<String, String>,
}

impl Ids {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            rule,
            taken: HashSet::new(),
            newest: HashMap::new(),
        }
    }

    /// The next message with calls begins; results belong to it from here on.
    pub(super) fn begin(&mut self) {
        self.newest.clear();
    }

    /// The form of the id of a call.
    pub(super) fn give(&mut self, id: &str) -> String {
        let form = self.free_form(id);
        self.taken.insert(form.clone());
        self.newest.insert(id.to_owned(), form.clone());
        form
    }

    /// The form of the id of a result.
    pub(super) fn of(&self, id: &str) -> String {
        self.newest.get(id).cloned().unwrap_or_else(|| self.plain(id))
    }

    fn free_form(&self, id: &str) -> String {
        let plain = self.plain(id);
        if !self.taken.contains(&plain) {
            return plain;
        }
        let numbered = (2_u32..).map(|n| {
            let suffix = format!("_{n}");
            let head: String = plain.chars().take(self.rule.max_chars - suffix.len()).collect();
            head + &suffix
        });
        let mut free = numbered.filter(|form| !self.taken.contains(form));
        free.next().unwrap_or_default()
    }

    fn plain(&self, id: &str) -> String {
        let Rule {
            max_chars,
            is_allowed,
        } = self.rule;
        let allowed = id.chars().map(|c| if is_allowed(c) { c } else { '_' });
        let form: String = allowed.take(max_chars).collect();
        if form.is_empty() { "_".to_owned() } else { form }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    const MAX_CHARS: usize = 20;
    const RULE: Rule = Rule {
        max_chars: MAX_CHARS,
        is_allowed: |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'),
    };

    #[test]
    fn v8_ids_of_other_providers_get_a_form_and_their_results_follow() {
        let mut ids = Ids::new(RULE);
        ids.begin();
        let long = "fc_".repeat(200);
        let given = ["toolu_01A", "functions.ls:0", "functions.ls.0", "", "é", &long];
        let forms: Vec<_> = given.iter().map(|id| ids.give(id)).collect();
        assert_eq!(
            forms[..5],
            ["toolu_01A", "functions_ls_0", "functions_ls_0_2", "_", "__2"]
        );
        assert_eq!(forms[5].len(), MAX_CHARS);
        for (id, form) in given.iter().zip(&forms) {
            assert_eq!(ids.of(id), *form);
        }
        ids.begin();
        assert_eq!(ids.give("toolu_01A"), "toolu_01A_2");
        assert_eq!(ids.of("toolu_01A"), "toolu_01A_2");
        assert_eq!(ids.of("of:nobody"), "of_nobody");
    }

    proptest! {
        #[test]
        fn v8_forms_are_allowed_and_differ(given in prop::collection::vec(".{0,70}|call_0|call_[0-9]", 0..40)) {
            let mut ids = Ids::new(RULE);
            let forms: Vec<_> = given.iter().map(|id| { ids.begin(); ids.give(id) }).collect();
            for form in &forms {
                prop_assert!((1..=MAX_CHARS).contains(&form.len()));
                prop_assert!(form.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')));
            }
            prop_assert_eq!(forms.iter().collect::<HashSet<_>>().len(), forms.len());
        }
    }
}
