//! Panics of decoders: caught, and silent where the program asks for it.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether this thread is in a decoder, whose panic becomes an error.
    static IS_DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Leaves the thread as it found it, also after a panic.
struct Decoding {
    before: bool,
}

impl Decoding {
    fn begin() -> Self {
        Self { before: IS_DECODING.replace(true) }
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        IS_DECODING.set(self.before);
    }
}

/// The result of `decode`, or the message of its panic.
///
/// `decode` may only read what it shares with others, so that a panic leaves no state half changed.
pub(super) fn caught<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    let _decoding = Decoding::begin();
    catch_unwind(AssertUnwindSafe(decode)).map_err(|payload| panic_message(payload.as_ref()))
}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}

/// Keeps a panic of a decoder from printing its message and stack: [`decode`](super::decode) returns it as an error.
///
/// Every other panic goes to the hook that was there before. The hook belongs to the whole process, so this is for a program
/// to call, once, and not for a library; a second call does nothing.
pub fn quiet_decoder_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A thread that is ending has no such variable any more, and no decoder either.
            if !IS_DECODING.try_with(Cell::get).unwrap_or(false) {
                before(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_the_thread_goes_on() {
        assert_eq!(caught(|| 3), Ok(3));
        let result: Result<(), String> = caught(|| panic!("at byte {}", 7));
        assert_eq!(result, Err("at byte 7".to_owned()));
        assert!(!IS_DECODING.get());
        let nested = caught(|| (caught(|| IS_DECODING.get()), IS_DECODING.get()));
        assert_eq!(nested, Ok((Ok(true), true)));
        assert!(!IS_DECODING.get());
    }
}
