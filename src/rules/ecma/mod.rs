//! From an ECMAScript pattern without flags to the syntax of our two engines (contract 03 §3.2 item 5).
//!
//! Every construct is written out anew, so nothing that only one side understands slips through: `\d`, `\w`, `\b` mean
//! ASCII, `\s` and `.` follow the ECMAScript lists, `\u{61}` is 61 times `u`, a `[` inside a class is a plain character,
//! possessive quantifiers and inline flags are errors. Differences that remain: a character outside the basic plane counts
//! as one, not as two code units; captures are not reset when a group is repeated; a repeated lookahead is refused.

mod class;
mod escape;
mod group;
#[cfg(test)]
mod tests;

use class::NOTHING;
use group::{Group, capturing_groups};

/// A pattern in our engines' syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Translated {
    /// The pattern.
    pub(super) text: String,
    /// Whether it has lookaround or backreferences, which only the backtracking engine knows.
    pub(super) backtracking: bool,
}

/// Characters that a backtracking pattern may stand for with its counts written out; its engine has no limit of its own
/// for all that it builds.
const MAX_WEIGHT: usize = 20_000;

/// Translates a pattern, or says what is wrong with it.
pub(super) fn translate(source: &str) -> Result<Translated, String> {
    let chars: Vec<char> = source.chars().collect();
    let linear = Translator::new(&chars, false).run()?;
    if linear.backtracking {
        Translator::new(&chars, true).run()
    } else {
        Ok(linear)
    }
}

/// What stands before the place, as far as a quantifier cares.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Atom,
}

struct Translator<'a> {
    chars: &'a [char],
    at: usize,
    out: String,
    open: Vec<Group>,
    /// Capturing groups of the whole pattern; the name of each that has one.
    names: Vec<Option<String>>,
    begun: usize,
    /// By group number - 1: whether it is closed here, so that a reference can have a value.
    closed: Vec<bool>,
    backtracking: bool,
    needs_backtracking: bool,
    before: Before,
    /// Characters that the innermost open group stands for so far, counts written out.
    weight: usize,
    /// Those of its last atom.
    last_weight: usize,
}

impl<'a> Translator<'a> {
    fn new(chars: &'a [char], backtracking: bool) -> Self {
        let names = capturing_groups(chars);
        Self {
            chars,
            at: 0,
            out: String::new(),
            open: Vec::new(),
            closed: vec![false; names.len()],
            names,
            begun: 0,
            backtracking,
            needs_backtracking: false,
            before: Before::Nothing,
            weight: 0,
            last_weight: 0,
        }
    }

    fn run(mut self) -> Result<Translated, String> {
        while let Some(c) = self.next() {
            self.term(c)?;
        }
        if !self.open.is_empty() {
            return Err("a group is not closed".into());
        }
        Ok(Translated {
            text: self.out,
            backtracking: self.needs_backtracking,
        })
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let rest = self.chars.get(self.at..).unwrap_or_default();
        let found = text.chars().count() <= rest.len() && text.chars().zip(rest).all(|(a, b)| a == *b);
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn term(&mut self, c: char) -> Result<(), String> {
        match c {
            '^' => self.assertion(r"\A"),
            '$' => self.assertion(r"\z"),
            '|' => self.assertion("|"),
            '(' => self.open_group()?,
            ')' => self.close_group()?,
            '.' => self.atom("[^\n\r\u{2028}\u{2029}]"),
            '[' => self.class()?,
            '\\' => self.escape()?,
            '*' => self.quantify("*", 1)?,
            '+' => self.quantify("+", 1)?,
            '?' => self.quantify("?", 1)?,
            '{' => match self.counts()? {
                Some((counts, times)) => self.quantify(&counts, times)?,
                None => self.literal('{'),
            },
            c => self.literal(c),
        }
        Ok(())
    }

    fn assertion(&mut self, text: &str) {
        self.out.push_str(text);
        self.before = Before::Nothing;
    }

    fn atom(&mut self, text: &str) {
        self.out.push_str(text);
        self.end_atom(1);
    }

    fn literal(&mut self, c: char) {
        if r"\.+*?()|[]{}^$".contains(c) {
            self.out.push('\\');
        }
        self.out.push(c);
        self.end_atom(1);
    }

    fn end_atom(&mut self, weight: usize) {
        self.before = Before::Atom;
        self.last_weight = weight;
        self.weight = self.weight.saturating_add(weight);
    }

    /// A code unit; half of a surrogate pair is in no string of ours.
    fn unit(&mut self, unit: u32) {
        match char::from_u32(unit) {
            Some(c) => self.literal(c),
            None => self.atom(NOTHING),
        }
    }

    /// Writes a quantifier that lets the atom before it be written out up to `times` times.
    fn quantify(&mut self, quantifier: &str, times: usize) -> Result<(), String> {
        if self.before == Before::Nothing {
            return Err(format!("nothing to repeat before `{quantifier}`"));
        }
        self.out.push_str(quantifier);
        if self.eat("?") {
            self.out.push('?');
        }
        self.before = Before::Nothing;
        let more = self.last_weight.saturating_mul(times.saturating_sub(1));
        self.weight = self.weight.saturating_add(more);
        if self.backtracking && self.weight > MAX_WEIGHT {
            return Err(format!(
                "too large: its counts stand for more than {MAX_WEIGHT} characters beside lookaround or backreferences"
            ));
        }
        Ok(())
    }

    /// `{2}`, `{2,}`, `{2,3}` after the brace, with the larger number; anything else is a plain brace.
    fn counts(&mut self) -> Result<Option<(String, usize)>, String> {
        let start = self.at;
        let least = self.decimal();
        let most = match (&least, self.eat(",")) {
            (Some(_), true) => self.decimal(),
            _ => least.clone(),
        };
        let Some(least) = least.filter(|_| self.eat("}")) else {
            self.at = start;
            return Ok(None);
        };
        let number = |digits: &str| digits.parse::<usize>().unwrap_or(usize::MAX);
        let times = number(most.as_deref().unwrap_or(&least));
        if let Some(most) = &most
            && number(&least) > times
        {
            return Err(format!("`{{{least},{most}}}` is out of order"));
        }
        let most = most.unwrap_or_default();
        Ok(Some((format!("{{{least},{most}}}"), times)))
    }

    fn decimal(&mut self) -> Option<String> {
        let mut digits = String::new();
        while let Some(c) = self.peek().filter(char::is_ascii_digit) {
            digits.push(c);
            self.at += 1;
        }
        (!digits.is_empty()).then_some(digits)
    }
}
