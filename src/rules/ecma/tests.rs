//! The translation against a naive matcher that follows the words of the ECMAScript standard.

use std::fmt::Write as _;

use proptest::prelude::*;

use crate::rules::pattern::{Found, Pattern};

/// A pattern as a tree.
#[derive(Debug, Clone)]
enum Node {
    Char(char),
    Dot,
    Class {
        negated: bool,
        members: Vec<Member>,
    },
    Sequence(Vec<Node>),
    Either(Box<Node>, Box<Node>),
    Repeat {
        inner: Box<Node>,
        least: usize,
        most: Option<usize>,
        lazy: bool,
    },
    Look {
        ahead: bool,
        negated: bool,
        inner: Box<Node>,
    },
    Start,
    End,
    Boundary {
        negated: bool,
    },
    /// Only in the outermost sequence, so that no repetition resets it.
    Capture(Box<Node>),
    /// Of the one group.
    Reference,
}

#[derive(Debug, Clone)]
enum Member {
    Char(char),
    Range(char, char),
    Set(char),
}

/// Everything that has a meaning somewhere, and something that has none.
const ALPHABET: &[char] = &[
    'a',
    'b',
    'z',
    '5',
    '_',
    ' ',
    '-',
    '&',
    '~',
    '[',
    ']',
    '^',
    '$',
    '\\',
    '.',
    '/',
    '#',
    '{',
    '\n',
    '\u{2028}',
    'é',
    '\u{661}',
    '\u{1f600}',
];

fn write(node: &Node, out: &mut String) {
    match node {
        Node::Char(c) => {
            if r"\^$.*+?()[]{}|".contains(*c) {
                out.push('\\');
            }
            out.push(*c);
        }
        Node::Dot => out.push('.'),
        Node::Class { negated, members } => {
            out.push_str(if *negated { "[^" } else { "[" });
            for member in members {
                match member {
                    Member::Char(c) => write_member(*c, out),
                    Member::Range(low, high) => {
                        write_member(*low, out);
                        out.push('-');
                        write_member(*high, out);
                    }
                    Member::Set(c) => out.extend(['\\', *c]),
                }
            }
            out.push(']');
        }
        Node::Sequence(nodes) => nodes.iter().for_each(|node| write(node, out)),
        Node::Either(left, right) => {
            out.push_str("(?:");
            write(left, out);
            out.push('|');
            write(right, out);
            out.push(')');
        }
        Node::Repeat {
            inner,
            least,
            most,
            lazy,
        } => {
            out.push_str("(?:");
            write(inner, out);
            out.push(')');
            match (least, most) {
                (0, None) => out.push('*'),
                (1, None) => out.push('+'),
                (0, Some(1)) => out.push('?'),
                (least, None) => write!(out, "{{{least},}}").unwrap(),
                (least, Some(most)) if least == most => write!(out, "{{{least}}}").unwrap(),
                (least, Some(most)) => write!(out, "{{{least},{most}}}").unwrap(),
            }
            if *lazy {
                out.push('?');
            }
        }
        Node::Look {
            ahead,
            negated,
            inner,
        } => {
            out.push_str(match (ahead, negated) {
                (true, false) => "(?=",
                (true, true) => "(?!",
                (false, false) => "(?<=",
                (false, true) => "(?<!",
            });
            write(inner, out);
            out.push(')');
        }
        Node::Start => out.push('^'),
        Node::End => out.push('$'),
        Node::Boundary { negated } => out.push_str(if *negated { r"\B" } else { r"\b" }),
        Node::Capture(inner) => {
            out.push('(');
            write(inner, out);
            out.push(')');
        }
        // Apart from a digit after it.
        Node::Reference => out.push_str(r"(?:\1)"),
    }
}

fn write_member(c: char, out: &mut String) {
    if r"\]^-".contains(c) {
        out.push('\\');
    }
    out.push(c);
}

/// Tries everything, and counts its steps.
struct Naive<'a> {
    text: &'a [char],
    steps: usize,
}

type Then<'a> = &'a mut dyn FnMut(&mut Naive<'_>, usize, Option<(usize, usize)>) -> bool;

const MOST_STEPS: usize = 200_000;

impl Naive<'_> {
    fn found(&mut self, pattern: &Node) -> bool {
        (0..=self.text.len()).any(|start| self.run(pattern, start, None, &mut |_, _, _| true))
    }

    fn run(&mut self, node: &Node, at: usize, group: Option<(usize, usize)>, then: Then<'_>) -> bool {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return false;
        }
        let here = self.text.get(at).copied();
        let one = |fits: bool| fits.then_some(at + 1);
        let next = match node {
            Node::Char(c) => one(here == Some(*c)),
            Node::Dot => one(here.is_some_and(|c| !is_line_end(c))),
            Node::Class { negated, members } => {
                one(here.is_some_and(|c| members.iter().any(|member| is_in(c, member)) != *negated))
            }
            Node::Start => (at == 0).then_some(at),
            Node::End => (at == self.text.len()).then_some(at),
            Node::Boundary { negated } => {
                let before = at.checked_sub(1).and_then(|at| self.text.get(at)).copied();
                ((before.is_some_and(is_word) != here.is_some_and(is_word)) != *negated).then_some(at)
            }
            Node::Look {
                ahead,
                negated,
                inner,
            } => {
                let seen = if *ahead {
                    self.run(inner, at, group, &mut |_, _, _| true)
                } else {
                    (0..=at).any(|from| self.run(inner, from, group, &mut |_, end, _| end == at))
                };
                (seen != *negated).then_some(at)
            }
            Node::Reference => match group {
                None => Some(at),
                Some((from, to)) => {
                    let wanted = self.text.get(from..to).unwrap_or_default();
                    let end = at + wanted.len();
                    (self.text.get(at..end) == Some(wanted)).then_some(end)
                }
            },
            Node::Either(left, right) => {
                return self.run(left, at, group, then) || self.run(right, at, group, then);
            }
            Node::Sequence(nodes) => return self.sequence(nodes, at, group, then),
            Node::Capture(inner) => {
                return self.run(inner, at, group, &mut |naive, end, _| {
                    then(naive, end, Some((at, end)))
                });
            }
            Node::Repeat {
                inner, least, most, ..
            } => return self.repeat(inner, (*least, *most), at, group, then),
        };
        next.is_some_and(|next| then(self, next, group))
    }

    fn sequence(&mut self, nodes: &[Node], at: usize, group: Option<(usize, usize)>, then: Then<'_>) -> bool {
        match nodes.split_first() {
            None => then(self, at, group),
            Some((first, rest)) => self.run(first, at, group, &mut |naive, at, group| {
                naive.sequence(rest, at, group, then)
            }),
        }
    }

    fn repeat(
        &mut self,
        inner: &Node,
        (least, most): (usize, Option<usize>),
        at: usize,
        group: Option<(usize, usize)>,
        then: Then<'_>,
    ) -> bool {
        if least == 0 && then(self, at, group) {
            return true;
        }
        if most == Some(0) {
            return false;
        }
        let left = (least.saturating_sub(1), most.map(|most| most - 1));
        self.run(inner, at, group, &mut |naive, next, group| {
            // A round beyond the least that ate nothing does not count.
            (least > 0 || next > at) && naive.repeat(inner, left, next, group, then)
        })
    }
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_in(c: char, member: &Member) -> bool {
    match member {
        Member::Char(other) => c == *other,
        Member::Range(low, high) => (*low..=*high).contains(&c),
        Member::Set(set) => {
            let inside = match set.to_ascii_lowercase() {
                'd' => c.is_ascii_digit(),
                'w' => is_word(c),
                // Of the alphabet.
                _ => c == ' ' || is_line_end(c),
            };
            inside != set.is_ascii_uppercase()
        }
    }
}

fn character() -> impl Strategy<Value = char> {
    prop_oneof![6 => prop::sample::select(&['a', 'b'][..]), 4 => prop::sample::select(ALPHABET)]
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let member = prop_oneof![
        character().prop_map(Member::Char),
        // Within the basic plane: beyond it, code units and characters differ.
        (character(), character()).prop_filter_map("a range runs upwards", |(low, high)| {
            (low <= high && high <= '\u{ffff}').then_some(Member::Range(low, high))
        }),
        prop::sample::select(&['d', 'D', 'w', 'W', 's', 'S'][..]).prop_map(Member::Set),
    ];
    prop::collection::vec(member, 0..4)
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        8 => character().prop_map(Node::Char),
        1 => Just(Node::Dot),
        3 => (any::<bool>(), members()).prop_map(|(negated, members)| Node::Class { negated, members }),
        1 => Just(Node::Start),
        1 => Just(Node::End),
        1 => any::<bool>().prop_map(|negated| Node::Boundary { negated }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            3 => prop::collection::vec(inner, 0..4).prop_map(Node::Sequence),
            2 => (boxed.clone(), boxed.clone()).prop_map(|(left, right)| Node::Either(left, right)),
            3 => (boxed.clone(), 0_usize..3, prop::option::of(0_usize..3), any::<bool>()).prop_map(
                |(inner, least, more, lazy)| Node::Repeat { inner, least, most: more.map(|more| least + more), lazy }
            ),
            1 => (any::<bool>(), any::<bool>(), boxed).prop_map(
                |(ahead, negated, inner)| Node::Look { ahead, negated, inner }
            ),
        ]
    })
}

/// Pieces side by side; one may be a group, and references to it follow.
fn pattern() -> impl Strategy<Value = Node> {
    let group = prop::option::weighted(0.4, (node(), prop::option::of(node())));
    (node(), group, node()).prop_map(|(first, group, last)| {
        let mut pieces = vec![first];
        if let Some((inner, between)) = group {
            pieces.push(Node::Capture(Box::new(inner)));
            pieces.extend(between);
            pieces.push(Node::Reference);
        }
        pieces.push(last);
        Node::Sequence(pieces)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn agrees_with_the_naive_matcher(pattern in pattern(), text in prop::collection::vec(character(), 0..7)) {
        let mut source = String::new();
        write(&pattern, &mut source);
        let Ok(compiled) = Pattern::new(&source) else {
            // What the fallback engine cannot do is refused, never answered wrongly; all else is.
            prop_assume!(source.contains("(?<"));
            return Ok(());
        };
        let mut naive = Naive { text: &text, steps: 0 };
        let expected = naive.found(&pattern);
        prop_assume!(naive.steps <= MOST_STEPS);
        let found = compiled.search(&text.iter().collect::<String>());
        prop_assert_eq!(found, if expected { Found::Yes } else { Found::No }, "/{}/ in {:?}", source, text);
    }

    #[test]
    fn any_text_compiles_or_is_refused(source in "\\PC{0,20}|[a()\\[\\]{}?*+|^$.\\\\<>=!:,0-9kbBcxu-]{0,24}", text in "\\PC{0,20}") {
        if let Ok(pattern) = Pattern::new(&source) {
            // That it comes back at all is the test.
            let again = pattern.search(&text);
            prop_assert_eq!(pattern.search(&text), again);
        }
    }
}
