//! From an ECMAScript pattern without flags to the syntax of our two engines (contract 03 §3.2 item 5).
//!
//! Every construct is written out anew, so nothing that only one side understands slips through: `\d`, `\w`, `\b` mean
//! ASCII, `\s` and `.` follow the ECMAScript lists, `\u{61}` is 61 times `u`, a `[` inside a class is a plain character,
//! possessive quantifiers and inline flags are errors. Differences that remain: a character outside the basic plane counts
//! as one, not as two code units; captures are not reset when a group is repeated; a repeated lookahead is refused.

use std::fmt::Write as _;

/// A pattern in our engines' syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Translated {
    /// The pattern.
    pub(super) text: String,
    /// Whether it has lookaround or backreferences, which only the backtracking engine knows.
    pub(super) backtracking: bool,
}

/// Groups nested deeper than this are refused.
const MAX_DEPTH: usize = 50;

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Z_a-z";
const SPACE: &str = "\t-\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";
const NOTHING: &str = r"[^\s\S]";
const ANYTHING: &str = r"[\s\S]";
const BOUNDARY: &str = r"(?-u:\b)";
const NO_BOUNDARY: &str = r"(?-u:\B)";
/// The same without inline flags, which the backtracking engine lacks.
const BOUNDARY_BY_LOOKING: &str = "(?:(?<=[0-9A-Z_a-z])(?![0-9A-Z_a-z])|(?<![0-9A-Z_a-z])(?=[0-9A-Z_a-z]))";
const NO_BOUNDARY_BY_LOOKING: &str =
    "(?:(?<=[0-9A-Z_a-z])(?=[0-9A-Z_a-z])|(?<![0-9A-Z_a-z])(?![0-9A-Z_a-z]))";

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

struct Group {
    /// Number, of a capturing one.
    number: Option<usize>,
    /// Whether it may be repeated.
    repeatable: bool,
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
            '*' => self.quantify("*")?,
            '+' => self.quantify("+")?,
            '?' => self.quantify("?")?,
            '{' => match self.counts()? {
                Some(counts) => self.quantify(&counts)?,
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
        self.before = Before::Atom;
    }

    fn literal(&mut self, c: char) {
        if r"\.+*?()|[]{}^$".contains(c) {
            self.out.push('\\');
        }
        self.out.push(c);
        self.before = Before::Atom;
    }

    /// A code unit; half of a surrogate pair is in no string of ours.
    fn unit(&mut self, unit: u32) {
        match char::from_u32(unit) {
            Some(c) => self.literal(c),
            None => self.atom(NOTHING),
        }
    }

    fn quantify(&mut self, quantifier: &str) -> Result<(), String> {
        if self.before == Before::Nothing {
            return Err(format!("nothing to repeat before `{quantifier}`"));
        }
        self.out.push_str(quantifier);
        if self.eat("?") {
            self.out.push('?');
        }
        self.before = Before::Nothing;
        Ok(())
    }

    /// `{2}`, `{2,}`, `{2,3}` after the brace; anything else is a plain brace.
    fn counts(&mut self) -> Result<Option<String>, String> {
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
        let number = |digits: &str| digits.parse::<u32>().unwrap_or(u32::MAX);
        if let Some(most) = &most
            && number(&least) > number(most)
        {
            return Err(format!("`{{{least},{most}}}` is out of order"));
        }
        let most = most.unwrap_or_default();
        Ok(Some(format!("{{{least},{most}}}")))
    }

    fn decimal(&mut self) -> Option<String> {
        let mut digits = String::new();
        while let Some(c) = self.peek().filter(char::is_ascii_digit) {
            digits.push(c);
            self.at += 1;
        }
        (!digits.is_empty()).then_some(digits)
    }

    fn open_group(&mut self) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("groups are nested deeper than {MAX_DEPTH}"));
        }
        let look = ["?=", "?!", "?<=", "?<!"];
        let group = if self.eat("?:") {
            self.out.push_str("(?:");
            Group {
                number: None,
                repeatable: true,
            }
        } else if let Some(text) = look.into_iter().find(|text| self.eat(text)) {
            self.needs_backtracking = true;
            self.out.push('(');
            self.out.push_str(text);
            Group {
                number: None,
                repeatable: false,
            }
        } else if self.eat("?<") {
            self.group_name()?;
            self.capturing()
        } else if self.peek() == Some('?') {
            return Err("unknown kind of group, or inline flags".into());
        } else {
            self.capturing()
        };
        self.open.push(group);
        self.before = Before::Nothing;
        Ok(())
    }

    fn capturing(&mut self) -> Group {
        self.out.push('(');
        self.begun += 1;
        Group {
            number: Some(self.begun),
            repeatable: true,
        }
    }

    fn group_name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        loop {
            match self.next() {
                Some('>') if !name.is_empty() => return Ok(name),
                Some(c) if c == '_' || c == '$' || c.is_alphanumeric() => name.push(c),
                _ => return Err("bad group name".into()),
            }
        }
    }

    fn close_group(&mut self) -> Result<(), String> {
        let group = self.open.pop().ok_or("`)` without `(`")?;
        self.out.push(')');
        if let Some(closed) = group.number.and_then(|number| self.closed.get_mut(number - 1)) {
            *closed = true;
        }
        self.before = if group.repeatable {
            Before::Atom
        } else {
            Before::Nothing
        };
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let c = self.next().ok_or("the pattern ends in `\\`")?;
        match c {
            'b' => self.boundary(BOUNDARY, BOUNDARY_BY_LOOKING),
            'B' => self.boundary(NO_BOUNDARY, NO_BOUNDARY_BY_LOOKING),
            'k' if self.names.iter().any(Option::is_some) => {
                if !self.eat("<") {
                    return Err("`\\k` without a name".into());
                }
                let name = self.group_name()?;
                let number = self.names.iter().position(|known| known.as_ref() == Some(&name));
                let number = number.ok_or_else(|| format!("no group is named `{name}`"))?;
                self.reference(number + 1);
            }
            '1'..='9' => {
                let start = self.at - 1;
                self.at = start;
                let number = self.decimal().and_then(|digits| digits.parse().ok());
                match number {
                    Some(number) if number <= self.names.len() => self.reference(number),
                    _ => {
                        self.at = start + 1;
                        let unit = self.legacy_octal(c);
                        self.unit(unit);
                    }
                }
            }
            c => match set(c) {
                Some((negated, members)) => {
                    let text = format!("[{}{members}]", if negated { "^" } else { "" });
                    self.atom(&text);
                }
                None => {
                    let unit = self.character_escape(c, false);
                    self.unit(unit);
                }
            },
        }
        Ok(())
    }

    fn boundary(&mut self, linear: &str, by_looking: &str) {
        self.assertion(if self.backtracking { by_looking } else { linear });
    }

    /// A group that has no value matches nothing at all, not no text, in our engine; ECMAScript wants no text.
    fn reference(&mut self, number: usize) {
        self.needs_backtracking = true;
        if self.closed.get(number - 1).copied().unwrap_or(false) {
            let text = format!(r"(?:(?({number})\{number}|))");
            self.atom(&text);
        } else {
            self.atom("(?:)");
        }
    }

    /// Code unit of an escape that stands for one character.
    fn character_escape(&mut self, c: char, in_class: bool) -> u32 {
        match c {
            't' => 0x09,
            'n' => 0x0a,
            'v' => 0x0b,
            'f' => 0x0c,
            'r' => 0x0d,
            'b' if in_class => 0x08,
            '0'..='7' => self.legacy_octal(c),
            'x' => self.hex(2).unwrap_or(u32::from('x')),
            'u' => self.utf16().unwrap_or(u32::from('u')),
            'c' => match self.peek() {
                Some(letter)
                    if letter.is_ascii_alphabetic()
                        || (in_class && (letter.is_ascii_digit() || letter == '_')) =>
                {
                    self.at += 1;
                    u32::from(letter) % 32
                }
                // The backslash is then a character of its own, and so is the `c`.
                _ => {
                    self.at -= 1;
                    u32::from('\\')
                }
            },
            c => u32::from(c),
        }
    }

    fn legacy_octal(&mut self, first: char) -> u32 {
        let Some(mut value) = first.to_digit(8) else {
            return u32::from(first);
        };
        for _ in 0..2 {
            match self.peek().and_then(|c| c.to_digit(8)) {
                Some(digit) if value * 8 + digit <= 0o377 => {
                    value = value * 8 + digit;
                    self.at += 1;
                }
                _ => break,
            }
        }
        value
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let text = self.chars.get(self.at..self.at + digits)?;
        let value = text
            .iter()
            .try_fold(0, |value, c| Some(value * 16 + c.to_digit(16)?))?;
        self.at += digits;
        Some(value)
    }

    /// `XXXX` after `\u`; two that form a surrogate pair are one character.
    fn utf16(&mut self) -> Option<u32> {
        let high = self.hex(4)?;
        let start = self.at;
        if (0xd800..0xdc00).contains(&high) && self.eat("\\u") {
            match self.hex(4) {
                Some(low) if (0xdc00..0xe000).contains(&low) => {
                    return Some(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                }
                _ => self.at = start,
            }
        }
        Some(high)
    }

    fn class(&mut self) -> Result<(), String> {
        let negated = self.eat("^");
        let mut members = String::new();
        loop {
            let Some(first) = self.member(&mut members)? else {
                break;
            };
            let (Some(low), true) = (
                first,
                self.peek() == Some('-') && self.chars.get(self.at + 1) != Some(&']'),
            ) else {
                if let Some(unit) = first {
                    push_range(&mut members, unit, unit);
                }
                continue;
            };
            self.at += 1;
            let Some(second) = self.member(&mut members)? else {
                return Err("a class is not closed".into());
            };
            match second {
                Some(high) if low > high => return Err("a range of a class is out of order".into()),
                Some(high) => push_range(&mut members, low, high),
                // `a-\d` is the three of them.
                None => {
                    push_range(&mut members, low, low);
                    push_range(&mut members, u32::from('-'), u32::from('-'));
                }
            }
        }
        match (members.is_empty(), negated) {
            (true, false) => self.atom(NOTHING),
            (true, true) => self.atom(ANYTHING),
            (false, false) => self.atom(&format!("[{members}]")),
            (false, true) => self.atom(&format!("[^{members}]")),
        }
        Ok(())
    }

    /// The next member of a class: `None` at its end, `Some(None)` for a set, which is written at once.
    fn member(&mut self, members: &mut String) -> Result<Option<Option<u32>>, String> {
        match self.next().ok_or("a class is not closed")? {
            ']' => Ok(None),
            '\\' => {
                let c = self.next().ok_or("the pattern ends in `\\`")?;
                let Some((negated, set)) = set(c) else {
                    return Ok(Some(Some(self.character_escape(c, true))));
                };
                // Writing to a String cannot fail.
                write!(members, "[{}{set}]", if negated { "^" } else { "" }).ok();
                Ok(Some(None))
            }
            c => Ok(Some(Some(u32::from(c)))),
        }
    }
}

/// Members of `\d`, `\s`, `\w` and whether the escape means all others.
fn set(escape: char) -> Option<(bool, &'static str)> {
    let members = match escape.to_ascii_lowercase() {
        'd' => DIGIT,
        's' => SPACE,
        'w' => WORD,
        _ => return None,
    };
    Some((escape.is_ascii_uppercase(), members))
}

/// Adds code units to a class. All surrogates together stand for the characters outside the basic plane.
fn push_range(members: &mut String, low: u32, high: u32) {
    const SURROGATES: (u32, u32) = (0xd800, 0xdfff);
    if low <= SURROGATES.0 && high >= SURROGATES.1 && high <= 0xffff {
        push_range(members, 0x1_0000, 0x10_ffff);
    }
    for (low, high) in [
        (low, high.min(SURROGATES.0 - 1)),
        (low.max(SURROGATES.1 + 1), high),
    ] {
        if let (true, Some(low), Some(high)) = (low <= high, char::from_u32(low), char::from_u32(high)) {
            push_chars(members, low, high);
        }
    }
}

fn push_chars(members: &mut String, low: char, high: char) {
    // Doubled, these three are operators, and an escape of them does not survive the backtracking engine.
    let special = |c: char| "-&~".contains(c);
    let push = |members: &mut String, c: char| {
        if r"\[]^".contains(c) {
            members.push('\\');
        }
        members.push(c);
    };
    if special(low) || special(high) {
        for end in [low, high].into_iter().filter(|end| special(*end)) {
            // Writing to a String cannot fail.
            write!(members, "[{end}]").ok();
        }
        let low = if special(low) { next_ascii(low) } else { low };
        let high = if special(high) { previous_ascii(high) } else { high };
        if low <= high {
            push_chars(members, low, high);
        }
        return;
    }
    push(members, low);
    if low != high {
        members.push('-');
        push(members, high);
    }
}

fn next_ascii(c: char) -> char {
    char::from_u32(u32::from(c) + 1).unwrap_or(c)
}

fn previous_ascii(c: char) -> char {
    char::from_u32(u32::from(c) - 1).unwrap_or(c)
}

/// Capturing groups in order, with their names.
fn capturing_groups(chars: &[char]) -> Vec<Option<String>> {
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
