//! Where a key and its value stand in the text of a recipe.

use std::ops::Range;

use toml_edit::{Array, Document, Item, Value};

/// Where a key and its value stand, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: Option<Range<usize>>,
    pub(super) value: Option<Range<usize>>,
}

impl Place {
    /// The place of a path of keys; a number is an index into a list.
    pub(super) fn find<S: AsRef<str>>(document: &Document<&str>, path: &[S]) -> Option<Self> {
        let mut item = Node::Item(document.as_item());
        let mut place = None;
        for segment in path {
            let (next, found) = item.child(segment.as_ref())?;
            place = Some(found);
            item = next;
        }
        place
    }
}

/// A node of the document: lists hold values, tables hold items.
enum Node<'a> {
    Item(&'a Item),
    Value(&'a Value),
}

impl<'a> Node<'a> {
    fn child(&self, segment: &str) -> Option<(Self, Place)> {
        match self {
            Self::Item(item) => {
                if let Some(array) = item.as_array() {
                    return element(array, segment);
                }
                let (key, item) = item.as_table_like()?.get_key_value(segment)?;
                Some((Self::Item(item), Place { key: key.span(), value: item.span() }))
            }
            Self::Value(value) => {
                if let Some(array) = value.as_array() {
                    return element(array, segment);
                }
                let (key, item) = value.as_inline_table()?.get_key_value(segment)?;
                Some((Self::Item(item), Place { key: key.span(), value: item.span() }))
            }
        }
    }
}

fn element<'a>(array: &'a Array, index: &str) -> Option<(Node<'a>, Place)> {
    let value = array.get(index.parse().ok()?)?;
    Some((Node::Value(value), Place { key: None, value: value.span() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_sections_inline_tables_and_lists() {
        let text = "[a]\nb = { c = 12 }\nd = ['x', { e = 3 }]\n";
        let document = Document::parse(text).expect("the text is TOML");
        let find = |path: &str| {
            let place = Place::find(&document, &path.split('.').collect::<Vec<_>>())?;
            Some((place.key.map(|span| &text[span]), place.value.map(|span| &text[span])))
        };
        assert_eq!(find("a.b.c"), Some((Some("c"), Some("12"))));
        assert_eq!(find("a.d.0"), Some((None, Some("'x'"))));
        assert_eq!(find("a.d.1.e"), Some((Some("e"), Some("3"))));
        assert_eq!(find("a.x"), None);
    }
}
