//! Names out of a file as they may be printed: a stranger chose them, so they are cut and their control characters escaped.

/// Characters of a name that are shown.
const MAX_CHARS: usize = 120;
/// Names of a list that are shown.
const MAX_NAMES: usize = 8;

/// A name out of a file, cut and escaped, in backticks.
pub fn shown(name: &str) -> String {
    let mut text = String::new();
    for character in name.chars().take(MAX_CHARS) {
        match character {
            '\'' | '"' | '\\' => text.push(character),
            other => text.extend(other.escape_debug()),
        }
    }
    if name.chars().nth(MAX_CHARS).is_some() {
        text.push('…');
    }
    format!("`{text}`")
}

/// The first of several names out of a file, cut and escaped, in backticks, and how many more there are.
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let first: Vec<_> = names.iter().take(MAX_NAMES).map(|name| shown(name.as_ref())).collect();
    match names.len().saturating_sub(MAX_NAMES) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_move_the_cursor_or_fill_the_screen() {
        assert_eq!(shown("a\u{1b}[2Jb"), "`a\\u{1b}[2Jb`");
        assert_eq!(shown("it's\u{202e}"), "`it's\\u{202e}`");
        assert_eq!(shown(&"x".repeat(5000)).chars().count(), MAX_CHARS + 3);
    }

    #[test]
    fn a_long_list_is_counted() {
        assert_eq!(listed(&["a", "b"]), "`a`, `b`");
        assert!(listed(&vec!["a"; 20]).ends_with("and 12 more"));
    }
}
