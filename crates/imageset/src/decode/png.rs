//! The chunks of a PNG file, and what a decoder for it must not see.

use super::DecodeError;

const SIGNATURE: usize = 8;

/// The chunks of a file that begins with PNG's signature: kind and data, up to the end or to one that is cut short.
pub(super) fn chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let &[l0, l1, l2, l3, k0, k1, k2, k3, ref after @ ..] = rest else { return None };
        let data = after.get(..u32::from_be_bytes([l0, l1, l2, l3]) as usize)?;
        let kind = [k0, k1, k2, k3];
        let checksum = 4;
        // Nothing after the end is part of the file.
        rest = if kind == *b"IEND" { &[] } else { after.get(data.len() + checksum..).unwrap_or_default() };
        Some((kind, data))
    })
}

/// Refuses what the decoder of the crate `png` (0.18) panics at or does not name.
pub(super) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    for (kind, data) in chunks(bytes) {
        match &kind {
            b"CgBI" => {
                return Err(DecodeError::Unsupported {
                    what: "this is Apple's variant of PNG for apps on its phones (CgBI), not a PNG image".to_owned(),
                    next_step: "convert it: `pngcrush -revert-iphone-optimizations IN.png OUT.png`",
                });
            }
            b"PLTE" if !data.len().is_multiple_of(3) => {
                let reason = format!("its palette has {} bytes, which is not a multiple of 3", data.len());
                return Err(DecodeError::Malformed { format: "PNG", reason });
            }
            // Both stand before the pixels.
            b"IDAT" => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::made::{chunk, with_chunks};
    use super::super::{DecodeLimits, decode};
    use super::*;

    fn error(bytes: &[u8]) -> String {
        decode(bytes, &DecodeLimits::default()).unwrap_err().to_string()
    }

    #[test]
    fn chunks_are_found_up_to_the_end() {
        let mut bytes = with_chunks(&chunk(b"teSt", b"abc"), &chunk(b"laTe", b""));
        bytes.extend(chunk(b"trAi", b"ler"));
        let kinds: Vec<[u8; 4]> = chunks(&bytes).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [*b"IHDR", *b"teSt", *b"IDAT", *b"laTe", *b"IEND"]);
        assert_eq!(chunks(&bytes).nth(1), Some((*b"teSt", b"abc".as_slice())));
        assert_eq!(chunks(&bytes[..20]).count(), 0);
        assert_eq!(chunks(b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR").count(), 0);
    }

    #[test]
    fn a_palette_of_odd_length_is_refused_in_words() {
        let bytes = with_chunks(&chunk(b"PLTE", &[1, 2, 3, 4]), &[]);
        assert_eq!(
            error(&bytes),
            "damaged or unsupported PNG image: its palette has 4 bytes, which is not a multiple of 3"
        );
    }

    #[test]
    fn apples_variant_is_named_with_the_command_that_mends_it() {
        let mut bytes = with_chunks(&[], &[]);
        bytes.splice(SIGNATURE..SIGNATURE, chunk(b"CgBI", &[0x50, 0, 0x20, 2]));
        assert_eq!(
            error(&bytes),
            "this is Apple's variant of PNG for apps on its phones (CgBI), not a PNG image: convert it: \
             `pngcrush -revert-iphone-optimizations IN.png OUT.png`"
        );
    }
}
