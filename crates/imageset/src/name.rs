//! Names of files and classes: kept as they are, shown without loss, and compared in one form.

use std::collections::BTreeMap;
use std::path::Path;

use unicode_normalization::UnicodeNormalization;

/// A name as text. Bytes that are not UTF-8 are written as `\x` and two hexadecimal digits, so that no two names become one.
pub fn text(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// A path as text, by the rule of [`text`].
pub fn path_text(path: &Path) -> String {
    text(path.as_os_str().as_encoded_bytes())
}

/// The form in which names are compared: Unicode's normal form C. macOS used to write `é` as `e` and an accent.
pub fn normal(name: &str) -> String {
    name.nfc().collect()
}

/// A sentence about each two classes whose names differ in case alone.
pub(crate) fn case_warnings(classes: &[String]) -> Vec<String> {
    let mut seen: BTreeMap<String, &String> = BTreeMap::new();
    let mut warnings = Vec::new();
    for class in classes {
        if let Some(twin) = seen.insert(normal(class).to_lowercase(), class) {
            warnings.push(format!(
                "the names of the classes `{twin}` and `{class}` differ in case alone: if they are one class, give them one name"
            ));
        }
    }
    warnings
}

/// Whether a name has the form of a pattern of `*`, `?` and characters that stand for themselves.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at_pattern, mut at_name) = (0, 0);
    // Where the last `*` was, and how far it has been stretched: there is never a need to go back beyond it.
    let mut star: Option<(usize, usize)> = None;
    while at_name < name.len() {
        match pattern.get(at_pattern) {
            Some('*') => {
                star = Some((at_pattern, at_name));
                at_pattern += 1;
            }
            Some(&character) if character == '?' || character == name[at_name] => {
                at_pattern += 1;
                at_name += 1;
            }
            _ => match star {
                Some((place, stretched)) => {
                    star = Some((place, stretched + 1));
                    (at_pattern, at_name) = (place + 1, stretched + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at_pattern..].iter().all(|character| *character == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_utf8_stay_apart() {
        assert_eq!([text(b"caf\xe8"), text(b"caf\xe9")], ["caf\\xe8", "caf\\xe9"]);
        assert_eq!(text("Ähre 犬".as_bytes()), "Ähre 犬");
    }

    #[test]
    fn letters_with_accents_are_the_same_however_they_are_written() {
        assert_eq!(normal("cafe\u{301}"), "café");
        assert_ne!(normal("Café"), "café");
    }

    #[test]
    fn classes_that_differ_in_case_alone_are_named() {
        let warnings =
            |classes: &[&str]| case_warnings(&classes.iter().map(|&class| class.to_owned()).collect::<Vec<_>>());
        assert_eq!(
            warnings(&["Cat", "cat", "dog"]),
            [
                "the names of the classes `Cat` and `cat` differ in case alone: if they are one class, give them one name"
            ]
        );
        assert!(warnings(&["cat", "cats", "dog"]).is_empty());
    }
}
