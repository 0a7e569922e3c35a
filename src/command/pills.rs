//! The text of an HTML message, with its links to rooms and users as links.
//!
//! Clients write a mention as `<a href="https://matrix.to/#/…">Name</a>` (a pill), and only the name
//! is in the plain body. Nothing is sanitised here, since nothing of it is shown.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ruma::html::{Children, ElementData, Html, NodeData};

use super::reference;

/// Longest HTML that is parsed, in bytes. Events are at most 65,536 bytes.
const MAX_HTML_BYTES: usize = 64 * 1024;

/// Most `<` in HTML that is parsed. Bounds the depth of the tree: it is freed recursively, and a
/// message must not be able to overflow the stack.
const MAX_HTML_TAGS: usize = 400;

/// Characters that end or bend a word of a command; percent-encoded in links.
const NOT_IN_A_WORD: &str = "\"'\\“”„‟‘’‚‛";

/// The text with links, or `None` if there is no link of Matrix in it: then the plain body is what
/// the sender typed, while HTML may have lost characters to Markdown.
///
/// Also `None` for HTML over the limits, so that such a message is still read by its body.
pub(super) fn text_with_links(html: &str) -> Option<String> {
    if html.len() > MAX_HTML_BYTES || html.matches('<').count() > MAX_HTML_TAGS {
        return None;
    }
    let document = Html::parse(html);
    let mut text = String::new();
    let mut has_links = false;
    let mut open: Vec<Children> = vec![document.children()];
    while let Some(children) = open.last_mut() {
        let Some(node) = children.next() else {
            open.pop();
            continue;
        };
        match node.data() {
            NodeData::Text(content) => text.push_str(&content.borrow()),
            NodeData::Element(element) => match &*element.name.local {
                // The quotation in front of a reply.
                "mx-reply" => {}
                "a" if let Some(link) = matrix_link(element) => {
                    has_links = true;
                    text.push_str(&link);
                }
                name => {
                    // Text flows on over these; every other element begins a new line.
                    if !matches!(
                        name,
                        "a" | "b"
                            | "code"
                            | "del"
                            | "em"
                            | "font"
                            | "i"
                            | "s"
                            | "span"
                            | "strong"
                            | "sub"
                            | "sup"
                            | "u"
                    ) {
                        text.push('\n');
                    }
                    open.push(node.children());
                }
            },
            NodeData::Document | NodeData::Other => {}
        }
    }
    has_links.then_some(text)
}

/// The target of an `<a>`, if it is a link of Matrix, such that it stays in one word.
fn matrix_link(element: &ElementData) -> Option<String> {
    let attributes = element.attrs.borrow();
    let href = attributes
        .iter()
        .find(|attribute| &*attribute.name.local == "href")?;
    if !reference::is_link(&href.value) {
        return None;
    }
    let mut link = String::new();
    for c in href.value.chars() {
        if c.is_whitespace() || NOT_IN_A_WORD.contains(c) {
            link.extend(utf8_percent_encode(
                c.encode_utf8(&mut [0; 4]),
                NON_ALPHANUMERIC,
            ));
        } else {
            link.push(c);
        }
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_replace_their_names() {
        let cases = [
            (
                r#"!upgrade <a href="https://matrix.to/#/%23a%3Ab.org">A room</a> 12"#,
                Some("!upgrade https://matrix.to/#/%23a%3Ab.org 12"),
            ),
            (
                r#"x --creator=<a href="matrix:u/a:b">A</a>"#,
                Some("x --creator=matrix:u/a:b"),
            ),
            (
                r#"<mx-reply>a <a href="matrix:r/x:y">X</a></mx-reply>b <a href="matrix:r/a:b">A</a>"#,
                Some("b matrix:r/a:b"),
            ),
            (
                r#"x<br>y <em>z</em> <a href="https://example.org">w</a> <a href="matrix:r/a:b">A</a>"#,
                Some("x\ny z w matrix:r/a:b"),
            ),
            (
                r#"<a href="matrix:r/a&quot; b:c">A</a>"#,
                Some("matrix:r/a%22%20b:c"),
            ),
            (r#"<a href="https://example.org">w</a>"#, None),
            ("plain", None),
            ("", None),
        ];
        for (html, expected) in cases {
            assert_eq!(text_with_links(html).as_deref(), expected, "{html}");
        }
    }

    #[test]
    fn deep_and_long_html_is_not_parsed() {
        let link = r#"<a href="matrix:r/a:b">A</a>"#;
        for tag in ["<div>", "<b>", "<blockquote>", "<table><td>"] {
            let deep = tag.repeat(MAX_HTML_TAGS / 2 - 1);
            assert!(text_with_links(&format!("{deep}{link}")).is_some(), "{tag}");
            let deep = tag.repeat(20_000);
            assert_eq!(text_with_links(&format!("{deep}{link}")), None, "{tag}");
        }
        let long = "x".repeat(MAX_HTML_BYTES);
        assert_eq!(text_with_links(&format!("{long}{link}")), None);
    }
}
