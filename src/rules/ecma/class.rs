//! Character classes.

use std::fmt::Write as _;

use super::Translator;

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Z_a-z";
const SPACE: &str = "\t-\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";
/// A class no character is in.
pub(super) const NOTHING: &str = r"[^\s\S]";
const ANYTHING: &str = r"[\s\S]";

impl Translator<'_> {
    pub(super) fn class(&mut self) -> Result<(), String> {
        let negated = self.eat("^");
        let mut members = String::new();
        loop {
            match self.member(&mut members)? {
                Member::End => break,
                Member::Set => {}
                Member::Unit(low) if self.range_follows() => self.range(&mut members, low)?,
                Member::Unit(unit) => push_range(&mut members, unit, unit),
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

    /// A `-` that is not the last member.
    fn range_follows(&self) -> bool {
        self.peek() == Some('-') && self.chars.get(self.at + 1) != Some(&']')
    }

    fn range(&mut self, members: &mut String, low: u32) -> Result<(), String> {
        self.at += 1;
        match self.member(members)? {
            Member::End => return Err("a class is not closed".into()),
            Member::Unit(high) if low > high => return Err("a range of a class is out of order".into()),
            Member::Unit(high) => push_range(members, low, high),
            // `a-\d` is the three of them.
            Member::Set => {
                push_range(members, low, low);
                push_range(members, DASH, DASH);
            }
        }
        Ok(())
    }

    /// The next member of a class; a set is written at once.
    fn member(&mut self, members: &mut String) -> Result<Member, String> {
        match self.next().ok_or("a class is not closed")? {
            ']' => Ok(Member::End),
            '\\' => {
                let c = self.next().ok_or("the pattern ends in `\\`")?;
                let Some((negated, set)) = set(c) else {
                    return Ok(Member::Unit(self.character_escape(c, true)));
                };
                // Writing to a String cannot fail.
                write!(members, "[{}{set}]", if negated { "^" } else { "" }).ok();
                Ok(Member::Set)
            }
            c => Ok(Member::Unit(u32::from(c))),
        }
    }
}

/// One step through a class.
enum Member {
    End,
    Set,
    Unit(u32),
}

const DASH: u32 = '-' as u32;

/// Members of `\d`, `\s`, `\w` and whether the escape means all others.
pub(super) fn set(escape: char) -> Option<(bool, &'static str)> {
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
