//! What a GPU does when it fails, as an error. burn's runtime panics, at the next value that is read or in a thread of its own,
//! with a long account of what depended on what; here the panics are collected and the account is read for its cause.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A GPU that did not do what it was told.
#[derive(Debug, thiserror::Error)]
#[error("{device} {failure}\n\nhint: {}", .failure.hint())]
pub struct DeviceFailed {
    /// The device, for people.
    pub device: String,
    /// In what way.
    pub failure: Failure,
}

/// In what way a GPU failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A tensor is larger than its buffers can be, or its memory is full.
    #[error("has not enough memory: {0}")]
    OutOfMemory(String),
    /// The driver gave it up.
    #[error("was lost: {0}")]
    Lost(String),
    /// Anything else.
    #[error("failed: {0}")]
    Other(String),
}

impl Failure {
    fn hint(&self) -> &'static str {
        match self {
            Self::OutOfMemory(_) => {
                "take fewer images at a time: `--set train.micro_batch_size=N` in a run, `--batch-size N` elsewhere; or smaller ones, \
                 or `--device cpu`"
            }
            Self::Lost(_) => {
                "the same command goes on from a run's last checkpoint; if it happens again, look at the driver, or take smaller \
                 batches or `--device cpu`"
            }
            Self::Other(_) if cfg!(feature = "tuning-cache") => {
                "try `--device cpu`, or `CUBECL_AUTOTUNE_CACHE=off` to tune the kernels again; `ghostnet devices` says what there is"
            }
            Self::Other(_) => "try `--device cpu`; `ghostnet devices` says what there is",
        }
    }

    /// Reads the runtime's account.
    fn of(account: &str) -> Self {
        let cause = cause(account);
        let has = |words: &[&str]| words.iter().any(|word| account.contains(word));
        if has(&LOST) {
            Self::Lost(cause)
        } else if has(&OUT_OF_MEMORY) {
            Self::OutOfMemory(cause)
        } else {
            Self::Other(cause)
        }
    }
}

/// Whether an error is that of a GPU without the memory for its work.
pub fn is_out_of_memory(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(DeviceFailed { failure: Failure::OutOfMemory(_), .. }))
}

/// Does work whose panics are a device's failures, if they come from the runtime; those from elsewhere stay panics.
pub(super) fn caught<T>(device: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let is_ours = Arc::new(AtomicBool::new(false));
    let before = Arc::new(take_hook());
    set_hook(Box::new({
        let (heard, is_ours, before) = (Arc::clone(&heard), Arc::clone(&is_ours), Arc::clone(&before));
        let worker = std::thread::current().id();
        move |panic| {
            let account = account(panic);
            if std::thread::current().id() == worker {
                is_ours.store(account.is_none(), Ordering::SeqCst);
            }
            match account {
                Some(account) => heard.lock().unwrap_or_else(PoisonError::into_inner).push(account),
                None => before(panic),
            }
        }
    }));
    let result = catch_unwind(AssertUnwindSafe(work));
    drop(take_hook());
    set_hook(Box::new(move |panic| before(panic)));
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner)).join("\n");
    let failed = |failure| Err(DeviceFailed { device: device.to_string(), failure }.into());
    match result {
        // The runtime may have come through what it panicked at, as when it tries kernels out.
        Ok(Ok(value)) => Ok(value),
        // Nor is an error a device's: those come as panics, and what was heard may be long past.
        Ok(Err(error)) => Err(error),
        Err(payload) if heard.is_empty() || is_ours.load(Ordering::SeqCst) => resume_unwind(payload),
        Err(_) => failed(Failure::of(&heard)),
    }
}

/// What the runtime says when the driver has given the device up.
const LOST: [&str; 4] = ["device is poisoned", "device was poisoned", "device was lost", "device is lost"];

/// What it says when there is no room.
const OUT_OF_MEMORY: [&str; 6] = [
    "can't allocate buffer",
    "the reservation behind it failed",
    "out of device memory",
    "out-of-memory",
    "Out of Memory",
    "Not enough memory",
];

/// Path fragments that identify panics from a device's runtime. Turso is the database that the feature `tuning-cache` uses.
const RUNTIME: [&str; 6] = ["/burn-", "/cubecl-", "/cubek-", "/turso", "/wgpu-", "ghostnet-kernels/src/gpu/border/"];

/// What a panic says, if it is a device's.
fn account(panic: &PanicHookInfo<'_>) -> Option<String> {
    let message = panic.payload_as_str().unwrap_or_default();
    let place = panic.location().map_or("", |location| location.file()).replace('\\', "/");
    // A value that cannot be read is reported from the place that wanted it.
    let is_of_device =
        message.starts_with("Error while reading data") || RUNTIME.iter().any(|part| place.contains(part));
    is_of_device.then(|| message.to_string())
}

/// What went wrong first, by an account: the last in its chain of causes, or all that it says.
fn cause(account: &str) -> String {
    const CAUSED_BY: &str = "Caused by:";
    const READING: &str = "error at runtime: ";
    let from = account.rfind(CAUSED_BY).map_or(account, |place| &account[place + CAUSED_BY.len()..]);
    let mut lines = from.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.next().unwrap_or_default();
    // wgpu says where first, and then what.
    if line.starts_with("In ") {
        return std::iter::once(line).chain(lines.next()).collect::<Vec<_>>().join(": ");
    }
    line.split_once(READING).map_or(line, |(_, rest)| rest).to_string()
}

/// Panic hooks belong to the whole process, so tests of what sets them take turns.
#[cfg(test)]
pub(super) fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read_for_its_first_cause() {
        let account = "Error while reading data: use `try_into_data` instead to catch the error at runtime: An error happened during \
                       execution\nCaused by:\n  The bytes were never written (failure #7, still claiming 5 buffer(s))\n  skipped `Copy`: it \
                       needed memory 3, which carried the failure\nCaused by:\n  An IO error happened\nCaused by:\n  can't allocate \
                       buffer of size: 269746176\nNo backtrace available\nAsked at:\n   0: main";
        assert_eq!(Failure::of(account), Failure::OutOfMemory("can't allocate buffer of size: 269746176".to_string()));
        let account = "The device is poisoned\nCaused by:\n  Unknown: the driver was reset\nBacktrace:\n";
        assert_eq!(Failure::of(account), Failure::Lost("Unknown: the driver was reset".to_string()));
        let account = "Caused by:\n  couldn't find resource for that handle: memory 5 was never allocated: the reservation behind it failed";
        assert!(matches!(Failure::of(account), Failure::OutOfMemory(_)));
        let account = "wgpu error: Validation Error\n\nIn a call";
        assert_eq!(Failure::of(account), Failure::Other("wgpu error: Validation Error".to_string()));
    }

    #[test]
    fn panics_of_our_own_stay_panics_and_errors_stay_errors() {
        let _turn = turn();
        let error = caught::<()>("a device", || anyhow::bail!("a full disk")).expect_err("it failed");
        assert_eq!(error.to_string(), "a full disk");
        assert_eq!(caught("a device", || Ok(3)).expect("it did not fail"), 3);
        let panic = catch_unwind(|| caught::<()>("a device", || panic!("a bug"))).expect_err("it panicked");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a bug"));
    }

    const UNREAD: &str = "Error while reading data: use this instead to catch the error at runtime: no";

    #[test]
    fn what_the_runtime_cannot_read_is_an_error_with_a_hint() {
        let _turn = turn();
        let error = caught::<()>("a device", || panic!("{UNREAD}")).expect_err("it failed").to_string();
        assert_eq!(error.lines().next(), Some("a device failed: no"));
        assert!(error.contains("hint: "), "{error}");
    }

    #[test]
    fn what_the_runtime_came_through_hides_nothing_that_happens_later() {
        let _turn = turn();
        let tried = || catch_unwind(|| panic!("{UNREAD}")).expect_err("it panicked");
        let error = caught::<()>("a device", || {
            tried();
            anyhow::bail!("a full disk")
        });
        assert_eq!(error.expect_err("it failed").to_string(), "a full disk");
        let panic = catch_unwind(|| {
            caught::<()>("a device", || {
                tried();
                panic!("a bug")
            })
        });
        assert_eq!(panic.expect_err("it panicked").downcast_ref::<&str>(), Some(&"a bug"));
    }
}
