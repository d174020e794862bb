//! The deny floor: calls that no mode, list, rule or click lets an agent make (contract 03 §4 item 6).

use serde_json::Value;

use super::args::Args;
use super::file;
use super::finding::RuleFileError;
use super::set::RuleSet;

/// The compiled entries of `permissions.deny_floor`.
#[derive(Debug, Clone, Default)]
pub struct Floor(RuleSet);

impl Floor {
    /// Compiles the entries: a function id or glob, or an object with `function` and `args` as in a rule file.
    ///
    /// # Errors
    /// The entries that are neither; one with an action or a `!` is refused too, to leave no doubt about its sense.
    pub fn compile(entries: &[Value]) -> Result<Self, RuleFileError> {
        file::floor_entries(entries).map(|rules| Self(RuleSet::of(rules)))
    }

    /// Whether the call is on the floor; `args` are the caller's own arguments.
    pub fn holds<'a>(&self, function_id: &str, args: impl Into<Args<'a>>) -> bool {
        self.entry(function_id, args).is_some()
    }

    /// The function of the entry that holds the call.
    pub(super) fn entry<'a>(&self, function_id: &str, args: impl Into<Args<'a>>) -> Option<&str> {
        self.0.find(function_id, args.into()).map(|rule| &*rule.id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::RuleArgs;
    use super::*;
    use serde_json::json;

    #[test]
    fn entries_are_denials_with_the_syntax_of_rules() {
        let floor = Floor::compile(&[
            json!("approval::*"),
            json!({"function": "state::set", "args": {"scope": {"matches": "^(approvals|budgets)$"}}}),
        ])
        .unwrap();
        let holds = |id, args: Value| floor.holds(id, args.as_object().unwrap());
        assert!(holds("approval::resolve", json!({})));
        assert!(holds("state::set", json!({"scope": "budgets"})));
        assert!(!holds("state::set", json!({"scope": "notes"})));
        assert!(!holds("state::set", json!({})));
        assert!(!holds("shell::exec", json!({})));
        // Whoever reads an array by position finds a scope in it.
        let hidden = RuleArgs::of(&json!(["approvals", "s1/A", {}]));
        assert!(floor.holds("state::set", &hidden));
        assert!(floor.holds("state::set", &RuleArgs::unknown()));
        assert!(!floor.holds("state::set", &RuleArgs::of(&json!(null))));
        assert!(!floor.holds("shell::exec", &hidden));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for entry in [
            json!("!a"),
            json!(""),
            json!(null),
            json!(1),
            json!([]),
            json!({}),
            json!({"function": "f", "action": "allow"}),
            json!({"function": "f", "args": {"x": {"matches": "("}}}),
        ] {
            assert!(Floor::compile(std::slice::from_ref(&entry)).is_err(), "{entry}");
        }
    }
}
