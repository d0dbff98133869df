//! Memory for maps, kept for the next step.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};

use crate::cpu::rows::View;

/// A cache line, on which vectors of 16 floats are read and written without touching a second one.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Floats with anything in them at first; their memory goes back to the pool when they are dropped.
///
/// Memory that is given back to the system is faulted in again page by page at the next step, which costs as much as a pass
/// over it.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

/// Memory that waits to be used again.
struct Pool {
    lines: Vec<(u64, Vec<Line>)>,
    /// Buffers asked for so far.
    clock: u64,
}

/// A buffer that has not been wanted while so many others were, some ten training steps, is given back to the system.
const KEPT_FOR: u64 = 4096;

static POOL: Mutex<Pool> = Mutex::new(Pool { lines: Vec::new(), clock: 0 });

impl Pool {
    fn lock() -> MutexGuard<'static, Self> {
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The smallest that is large enough, and not more than a half larger.
    fn take(&mut self, needed: usize) -> Option<Vec<Line>> {
        self.clock += 1;
        if self.clock.is_multiple_of(256) {
            let clock = self.clock;
            self.lines.retain(|(since, _)| clock - since < KEPT_FOR);
        }
        let fits = |lines: &[Line]| lines.len() >= needed && lines.len() <= needed + needed / 2;
        let candidates = self.lines.iter().enumerate().filter(|(_, (_, lines))| fits(lines));
        let (at, _) = candidates.min_by_key(|(_, (_, lines))| lines.len())?;
        Some(self.lines.swap_remove(at).1)
    }
}

impl Buffer {
    pub(crate) fn new(len: usize) -> Self {
        let needed = len.div_ceil(16);
        let kept = Pool::lock().take(needed);
        Self { lines: kept.unwrap_or_else(|| vec![Line([0.0; 16]); needed]), len }
    }

    /// To read from, also while others write to other parts of it: unlike a slice, a view borrows nothing.
    pub(crate) fn view(&self, channels: usize) -> View {
        View::new(self.lines.as_ptr().cast_mut().cast(), channels, channels)
    }

    /// To write to.
    pub(crate) fn view_mut(&mut self, channels: usize) -> View {
        View::new(self.lines.as_mut_ptr().cast(), channels, channels)
    }

    /// The same memory as burn keeps it.
    pub(crate) fn into_bytes(self) -> Bytes {
        let len = self.len * size_of::<f32>();
        // SAFETY: a buffer is initialised in its whole length.
        unsafe { Bytes::from_controller(Box::new(self), len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if !lines.is_empty() {
            let mut pool = Pool::lock();
            let clock = pool.clock;
            pool.lines.push((clock, lines));
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: lines are arrays of initialised floats, and there are enough of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the buffer is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl AllocationController for Buffer {
    fn alloc_align(&self) -> usize {
        align_of::<Line>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let floats: &mut [f32] = self;
        // SAFETY: any float is four bytes; the caller writes initialised ones only.
        Ok(unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), size_of_val(floats)) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let floats: &[f32] = self;
        // SAFETY: any float is four bytes.
        Ok(unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), size_of_val(floats)) })
    }
}
