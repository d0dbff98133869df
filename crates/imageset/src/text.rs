//! The bytes of a text file as text, by its byte order mark: Excel and Notepad of Windows write UTF-16, or UTF-8 with a mark.

/// Decodes UTF-8, with or without a byte order mark, and UTF-16 of either byte order; the mark is not part of the text, and every line
/// ends in LF. The error is the first line, counted from 1, that is neither.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, usize> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        // Without a mark: text begins with a character of ASCII far more often than not, and UTF-8 has no zero bytes.
        [first, 0, ..] if *first != 0 => utf16(bytes, u16::from_le_bytes)?,
        [0, second, ..] if *second != 0 => utf16(bytes, u16::from_be_bytes)?,
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest)?,
        _ => utf8(bytes)?,
    };
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}

fn utf8(bytes: &[u8]) -> Result<String, usize> {
    let line = |valid: usize| bytes[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| line(error.valid_up_to()))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, usize> {
    let mut text = String::with_capacity(bytes.len() / 2);
    let line = |text: &str| text.matches('\n').count() + 1;
    let (pairs, rest) = bytes.as_chunks::<2>();
    for character in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        match character {
            Ok(character) => text.push(character),
            Err(_) => return Err(line(&text)),
        }
    }
    if rest.is_empty() { Ok(text) } else { Err(line(&text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_says_how_a_text_is_encoded_and_is_no_part_of_it() {
        let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let text = "señor\n猫🐈";
        let marked = format!("\u{feff}{text}");
        for bytes in [
            text.as_bytes().to_vec(),
            marked.as_bytes().to_vec(),
            utf16(&marked, u16::to_le_bytes),
            utf16(&marked, u16::to_be_bytes),
            utf16(text, u16::to_le_bytes),
            utf16(text, u16::to_be_bytes),
        ] {
            assert_eq!(decode(&bytes).as_deref(), Ok(text), "{bytes:?}");
        }
        assert_eq!(decode(b"a\r\nb\rc\n").as_deref(), Ok("a\nb\nc\n"));
        assert_eq!(decode(b"").as_deref(), Ok(""));
    }

    #[test]
    fn the_first_line_that_is_no_text_is_named() {
        assert_eq!(decode(b"a\nb\nse\xf1or"), Err(3));
        assert_eq!(decode(b"\xff\xfea\0\n\0b"), Err(2), "half a character");
        assert_eq!(decode(b"\xff\xfea\0\x00\xdc"), Err(1), "half a pair");
    }
}
