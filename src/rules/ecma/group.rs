//! Groups: capturing ones with their numbers and names, and lookaround.

use super::{Before, Translator};

/// Groups nested deeper than this are refused.
const MAX_DEPTH: usize = 50;

/// A group that is open at the place of the translator.
pub(super) struct Group {
    /// Number, of a capturing one.
    number: Option<usize>,
    /// Whether it may be repeated.
    repeatable: bool,
    /// Weight of what stands before it in the group around it.
    weight_before: usize,
}

impl Translator<'_> {
    pub(super) fn open_group(&mut self) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("groups are nested deeper than {MAX_DEPTH}"));
        }
        let look = ["?=", "?!", "?<=", "?<!"];
        let group = if self.eat("?:") {
            self.out.push_str("(?:");
            Group {
                number: None,
                repeatable: true,
                weight_before: self.weight,
            }
        } else if let Some(text) = look.into_iter().find(|text| self.eat(text)) {
            self.needs_backtracking = true;
            self.out.push('(');
            self.out.push_str(text);
            Group {
                number: None,
                repeatable: false,
                weight_before: self.weight,
            }
        } else if self.eat("?<") {
            let name = self.group_name()?;
            if self
                .names
                .iter()
                .flatten()
                .filter(|other| **other == name)
                .count()
                > 1
            {
                return Err(format!("two groups are named `{name}`"));
            }
            self.capturing()
        } else if self.peek() == Some('?') {
            return Err("unknown kind of group, or inline flags".into());
        } else {
            self.capturing()
        };
        self.open.push(group);
        self.weight = 0;
        self.before = Before::Nothing;
        Ok(())
    }

    fn capturing(&mut self) -> Group {
        self.out.push('(');
        self.begun += 1;
        Group {
            number: Some(self.begun),
            repeatable: true,
            weight_before: self.weight,
        }
    }

    pub(super) fn group_name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        loop {
            match self.next() {
                Some('>') if !name.is_empty() => return Ok(name),
                Some(c) if c == '_' || c == '$' || c.is_alphanumeric() => name.push(c),
                _ => return Err("bad group name".into()),
            }
        }
    }

    pub(super) fn close_group(&mut self) -> Result<(), String> {
        let group = self.open.pop().ok_or("`)` without `(`")?;
        self.out.push(')');
        if let Some(closed) = group.number.and_then(|number| self.closed.get_mut(number - 1)) {
            *closed = true;
        }
        let weight = self.weight.max(1);
        self.weight = group.weight_before;
        self.end_atom(weight);
        if !group.repeatable {
            self.before = Before::Nothing;
        }
        Ok(())
    }
}

/// Capturing groups in order, with their names.
pub(super) fn capturing_groups(chars: &[char]) -> Vec<Option<String>> {
    let mut groups = Vec::new();
    let mut in_class = false;
    let mut at = 0;
    while let Some(c) = chars.get(at) {
        at += 1;
        match c {
            '\\' => at += 1,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => {
                let rest = chars.get(at..).unwrap_or_default();
                match rest {
                    ['?', '<', next, ..] if !matches!(next, '=' | '!') => {
                        groups.push(Some(rest.iter().skip(2).take_while(|c| **c != '>').collect()));
                    }
                    ['?', ..] => {}
                    _ => groups.push(None),
                }
            }
            _ => {}
        }
    }
    groups
}
