//! Work shared out among threads.
//!
//! Work is cut into groups by its shape alone, each group's sums are its own, and they are added up in order: results are the
//! same bits whatever the number of threads, and from run to run.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use rayon::prelude::*;

/// `total` items in at most `most` contiguous groups of at least `least` items; sizes are multiples of `unit` but for the last.
pub(crate) fn groups(total: usize, unit: usize, least: usize, most: usize) -> Vec<Range<usize>> {
    let size = total.div_ceil(most).max(least).next_multiple_of(unit).max(1);
    (0..total.div_ceil(size)).map(|group| group * size..((group + 1) * size).min(total)).collect()
}

thread_local! {
    static SERIAL: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on this thread alone, every [`map`] in it included: for work that is shared out already.
pub(crate) fn serially<T>(work: impl FnOnce() -> T) -> T {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            SERIAL.set(self.0);
        }
    }
    let _reset = Reset(SERIAL.replace(true));
    work()
}

/// Results of the groups, in order.
pub(crate) fn map<T: Send>(groups: &[Range<usize>], work: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    if groups.len() == 1 || SERIAL.get() {
        return groups.iter().map(|group| work(group.clone())).collect();
    }
    groups.par_iter().map(|group| work(group.clone())).collect()
}

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Slices for intermediate values, with anything in them, from memory that the thread keeps. Calls may be nested.
pub(crate) fn with_scratch<const N: usize, T>(sizes: [usize; N], work: impl FnOnce([&mut [f32]; N]) -> T) -> T {
    // Each slice starts on a cache line of its own.
    let round = |size: usize| size.next_multiple_of(16);
    let mut buffer = SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default();
    let needed = sizes.iter().map(|&size| round(size)).sum::<usize>() + 16;
    if buffer.len() < needed {
        buffer = vec![0.0; needed];
    }
    let skip = buffer.as_ptr().align_offset(64).min(16);
    let mut rest = &mut buffer[skip..];
    let slices = sizes.map(|size| {
        let (slice, after) = std::mem::take(&mut rest).split_at_mut(round(size));
        rest = after;
        &mut slice[..size]
    });
    let result = work(slices);
    SCRATCH.with_borrow_mut(|buffers| buffers.push(buffer));
    result
}
