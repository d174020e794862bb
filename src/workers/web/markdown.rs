//! HTML as Markdown.

use std::rc::Rc;

use htmd::{HtmlToMarkdown, Node};

/// Most nodes of a page: the time to convert it grows faster than their number.
const NODES: usize = 50_000;

/// Deepest nesting: the converter recurses.
const DEPTH: usize = 200;

/// Most levels of all nodes together: what is in quotes or lists is indented anew at each level.
const LEVELS: usize = 2_000_000;

/// Elements that hold nothing to read.
const SKIPPED: [&str; 8] = [
    "head", "iframe", "noscript", "object", "script", "style", "svg", "template",
];

/// The page as Markdown; `None` when it is none that anybody wrote for reading.
pub(super) fn of(html: &str) -> Option<String> {
    let converter = HtmlToMarkdown::builder().skip_tags(SKIPPED.to_vec()).build();
    let page = converter.html_to_tree(html).ok()?;
    is_reasonable(&page).then(|| converter.tree_to_markdown(&page))
}

/// Whether a page is small and flat enough, found out without recursion.
fn is_reasonable(page: &Rc<Node>) -> bool {
    let mut open = vec![(Rc::clone(page), 0)];
    let (mut nodes, mut levels) = (0, 0);
    while let Some((node, depth)) = open.pop() {
        nodes += 1;
        levels += depth;
        if nodes > NODES || depth > DEPTH || levels > LEVELS {
            return false;
        }
        open.extend(
            node.children
                .borrow()
                .iter()
                .map(|child| (Rc::clone(child), depth + 1)),
        );
    }
    true
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_is_readable() {
        let page = "<!doctype html><html><head><title>T</title><style>p{}</style></head><body><h1>One &amp; two</h1>\
            <script>alert(1)</script><p>Some <b>bold</b> <a href=\"/x\">link</a>.</p><ul><li>a<li>b</ul>\
            <table><tr><th>h</th></tr><tr><td>c</td></tr></table><pre><code>x = 1\n</code></pre></body></html>";
        let expected = "# One & two\n\nSome **bold** [link](/x).\n\n*   a\n*   b\n\n| h |\n| - |\n| c |\n\n```\nx = 1\n```";
        let markdown = of(page).unwrap();
        let squeezed: Vec<&str> = markdown.lines().map(str::trim_end).collect();
        assert_eq!(squeezed.join("\n"), expected);
    }

    #[test]
    fn pages_made_to_break_the_converter_are_left_alone() {
        let deep = "<b>".repeat(300_000);
        let deep_blocks = format!("{}x{}", "<div>".repeat(10_000), "</div>".repeat(10_000));
        let many = "<b>a</b>".repeat(100_000);
        let both = |nodes: usize| format!("{}{}", "<blockquote>".repeat(150), "<p>a".repeat(nodes));
        for page in [deep, deep_blocks, many, both(10_000)] {
            assert_eq!(of(&page), None);
        }
        assert!(of(&both(100)).is_some());
        assert!(of(&"<div>".repeat(DEPTH - 10)).is_some());
    }

    #[test]
    fn what_is_cut_in_the_middle_still_converts() {
        assert_eq!(
            of("<p>one</p><p>two <b>thr").as_deref(),
            Some("one\n\ntwo **thr**")
        );
        assert_eq!(of("").as_deref(), Some(""));
        assert_eq!(of("plain").as_deref(), Some("plain"));
    }

    proptest! {
        #[test]
        fn no_page_breaks_it(parts in proptest::collection::vec(
            prop_oneof![
                Just("<p>"), Just("</p>"), Just("<b>"), Just("</i>"), Just("<table>"), Just("<tr><td>"), Just("<li>"), Just("<ul>"),
                Just("<?pi?>"), Just("<!--"), Just("-->"), Just("<pre>"), Just("<code>"), Just("</code>"), Just("<a href='x'>"),
                Just("<img src=a alt=']('>"), Just("<svg>"), Just("<math>"), Just("<select><option>"), Just("<frameset>"),
                Just("&#x0;"), Just("é"), Just("\n"), Just(" text "), Just("<template>"), Just("<h1>"), Just("<blockquote>"),
            ], 0..60)
        ) {
            prop_assert!(of(&parts.concat()).is_some());
        }
    }
}
