//! Matrix products on blocks that lie in cache: a convolution's forward pass, and both halves of its backward pass.

use rayon::prelude::*;

use crate::cpu::simd::{InstructionSet, Simd, Task, dispatch};

/// `C = A · B` or `C += A · B`, where `A` is `[rows, depth]`, `B` `[depth, columns]` and `C` `[rows, columns]`.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
    /// Element `(row, k)` of `A` is at `row · a_row + k · a_depth`.
    pub(crate) a: *const f32,
    pub(crate) a_row: usize,
    pub(crate) a_depth: usize,
    pub(crate) b: Right,
    /// Element `(row, column)` of `C` is at `row · c_row + column`.
    pub(crate) c: *mut f32,
    pub(crate) c_row: usize,
    /// Add to what is in `C`.
    pub(crate) accumulate: bool,
}

/// What is done to results on their way to memory. Its own type, and not a flag, for those of which nothing is wanted to lose
/// no time (a fifth of a training step at 32 pixels).
pub(crate) trait Finish: Copy {
    /// # Safety
    /// The column exists.
    unsafe fn apply<S: Simd>(self, column: usize, value: S::Vector) -> S::Vector;
}

impl Finish for () {
    #[inline(always)]
    unsafe fn apply<S: Simd>(self, _: usize, value: S::Vector) -> S::Vector {
        value
    }
}

/// Bias and activation.
#[derive(Clone, Copy)]
pub(crate) struct BiasRelu {
    /// One value for each column, readable up to a whole vector.
    pub(crate) bias: *const f32,
    pub(crate) relu: bool,
}

// SAFETY: an address; `apply` says who answers for it.
unsafe impl Send for BiasRelu {}
// SAFETY: as above.
unsafe impl Sync for BiasRelu {}

impl Finish for BiasRelu {
    #[inline(always)]
    unsafe fn apply<S: Simd>(self, column: usize, value: S::Vector) -> S::Vector {
        // SAFETY: the caller's: the column exists.
        unsafe {
            let value = S::add(value, S::load(self.bias.add(column)));
            if self.relu { S::relu(value) } else { value }
        }
    }
}

/// The right operand.
#[derive(Clone, Copy)]
pub(crate) enum Right {
    /// Made by [`pack`].
    Packed(*const f32),
    /// Rows with this distance; columns are readable up to a whole vector.
    Rows(*const f32, usize),
}

/// Vectors in each panel of columns: as many as the registers allow, shared out evenly.
///
/// A tile of the product has `ROWS` x `VECTORS` accumulators, which with the vectors of `B` and one of `A` fill the registers:
/// 6x4, 8x3, 12x2 or 12x1 of 32; 6x2 or 8x1 of 16.
#[inline(always)]
fn panel_vectors<S: Simd>(vectors_left: usize) -> usize {
    let most = if S::REGISTERS == 32 { 4 } else { 2 };
    vectors_left.div_ceil(vectors_left.div_ceil(most))
}

/// Floats that [`pack`] writes.
pub(crate) fn packed_len(lanes: usize, depth: usize, columns: usize) -> usize {
    depth * columns.next_multiple_of(lanes)
}

/// A matrix to be laid out for [`Right::Packed`]; element `(k, column)` is at `k · strides[0] + column · strides[1]`, and one of
/// the strides is 1.
#[derive(Clone, Copy)]
pub(crate) struct Pack<'a> {
    pub(crate) from: &'a [f32],
    /// Depth and columns.
    pub(crate) shape: [usize; 2],
    pub(crate) strides: [usize; 2],
}

impl Pack<'_> {
    /// Writes [`packed_len`] floats.
    pub(crate) fn run(self, set: InstructionSet, to: &mut [f32]) {
        let [depth, columns] = self.shape;
        let mut panels = Vec::new();
        let mut rest = to;
        for (start, width) in self::panels(set, columns) {
            let (panel, after) = rest.split_at_mut(depth * width);
            panels.push((start, width, panel));
            rest = after;
        }
        let pack = |(start, width, to)| dispatch(set, PackPanel { pack: self, start, width, to });
        // Two threads take some microseconds to start, the time of some ten thousand floats.
        if depth * columns < 16_384 {
            panels.into_iter().for_each(pack);
        } else {
            panels.into_par_iter().for_each(pack);
        }
    }
}

/// The panels of so many columns: where each starts, and its width. One after the other they make up what [`Pack`] writes.
pub(crate) fn panels(set: InstructionSet, columns: usize) -> Vec<(usize, usize)> {
    dispatch(set, Panels(columns))
}

struct Panels(usize);

impl Task for Panels {
    type Output = Vec<(usize, usize)>;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Self::Output {
        let mut panels = Vec::new();
        let mut start = 0;
        while start < self.0 {
            let width = panel_vectors::<S>((self.0 - start).div_ceil(S::LANES)) * S::LANES;
            panels.push((start, width));
            start += width;
        }
        panels
    }
}

struct PackPanel<'a> {
    pack: Pack<'a>,
    start: usize,
    width: usize,
    to: &'a mut [f32],
}

impl Task for PackPanel<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { pack: Pack { from, shape: [depth, columns], strides: [k_stride, column_stride] }, start, width, to } =
            self;
        let valid = width.min(columns - start);
        if column_stride == 1 {
            for (k, row) in to.chunks_exact_mut(width).enumerate() {
                row[..valid].copy_from_slice(&from[k * k_stride + start..][..valid]);
                row[valid..].fill(0.0);
            }
            return;
        }
        let whole = [depth / S::LANES * S::LANES, valid / S::LANES * S::LANES];
        assert!(k_stride == 1 && from.len() >= (columns - 1) * column_stride + depth && to.len() >= depth * width);
        for column in (0..whole[1]).step_by(S::LANES) {
            for k in (0..whole[0]).step_by(S::LANES) {
                // SAFETY: the block lies in both, by the assertion above.
                unsafe {
                    let from = from.as_ptr().add((start + column) * column_stride + k);
                    S::transpose(from, column_stride, to.as_mut_ptr().add(k * width + column), width);
                }
            }
        }
        for (k, row) in to.chunks_exact_mut(width).enumerate() {
            let done = if k < whole[0] { whole[1] } else { 0 };
            for (column, value) in row.iter_mut().enumerate().skip(done) {
                *value = if column < valid { from[(start + column) * column_stride + k] } else { 0.0 };
            }
        }
    }
}

impl Product {
    /// # Safety
    /// The machine has `S`; the pointers are valid for what the strides and sizes say, and nothing else writes to `C`.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's.
        unsafe { self.finished::<S, _>(()) }
    }

    /// The same with something done to the results on their way to memory.
    ///
    /// # Safety
    /// As of [`run`](Self::run); the finish has all columns.
    #[inline(always)]
    pub(crate) unsafe fn finished<S: Simd, F: Finish>(self, finish: F) {
        let mut start = 0;
        let mut packed_offset = 0;
        while start < self.columns {
            let vectors = panel_vectors::<S>((self.columns - start).div_ceil(S::LANES));
            let width = vectors * S::LANES;
            // SAFETY: the panel lies inside the operands, by the contract of this function.
            unsafe {
                let (b, b_depth) = match self.b {
                    Right::Packed(b) => (b.add(packed_offset), width),
                    Right::Rows(b, stride) => (b.add(start), stride),
                };
                let panel = Panel {
                    finish,
                    product: self,
                    b,
                    b_depth,
                    start,
                    last_lanes: (self.columns - start).min(width) - (width - S::LANES),
                };
                match vectors {
                    1 if S::REGISTERS == 32 => panel.run::<S, 12, 1>(),
                    2 if S::REGISTERS == 32 => panel.run::<S, 12, 2>(),
                    3 => panel.run::<S, 8, 3>(),
                    4 => panel.run::<S, 6, 4>(),
                    1 => panel.run::<S, 8, 1>(),
                    _ => panel.run::<S, 6, 2>(),
                }
            }
            packed_offset += self.depth * width;
            start += width;
        }
    }
}

#[derive(Clone, Copy)]
struct Panel<F> {
    product: Product,
    finish: F,
    b: *const f32,
    b_depth: usize,
    /// Its first column.
    start: usize,
    /// Valid lanes of the last vector.
    last_lanes: usize,
}

impl<F: Finish> Panel<F> {
    #[inline(always)]
    unsafe fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self) {
        let mut row = 0;
        // SAFETY: as for `Product::run`.
        unsafe {
            while row + ROWS <= self.product.rows {
                self.tile::<S, ROWS, VECTORS>(row);
                row += ROWS;
            }
            while row + 4 <= self.product.rows {
                self.tile::<S, 4, VECTORS>(row);
                row += 4;
            }
            while row < self.product.rows {
                self.tile::<S, 1, VECTORS>(row);
                row += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(self, row: usize) {
        // SAFETY: as for `Product::run`.
        unsafe {
            let Product { depth, a_row, a_depth, c_row, accumulate, .. } = self.product;
            let mut a = self.product.a.add(row * a_row);
            let mut b = self.b;
            let mut sums = [[S::splat(0.0); VECTORS]; ROWS];
            for _ in 0..depth {
                let mut right = [S::splat(0.0); VECTORS];
                for vector in 0..VECTORS {
                    right[vector] = S::load(b.add(vector * S::LANES));
                }
                for row in 0..ROWS {
                    let left = S::splat(*a.add(row * a_row));
                    for vector in 0..VECTORS {
                        sums[row][vector] = S::mul_add(left, right[vector], sums[row][vector]);
                    }
                }
                a = a.wrapping_add(a_depth);
                b = b.wrapping_add(self.b_depth);
            }
            for (i, sums) in sums.iter().enumerate() {
                let c = self.product.c.add(self.start + (row + i) * c_row);
                for (vector, &sum) in sums.iter().enumerate() {
                    let c = c.add(vector * S::LANES);
                    let column = self.start + vector * S::LANES;
                    if vector + 1 < VECTORS || self.last_lanes == S::LANES {
                        let sum = if accumulate { S::add(S::load(c), sum) } else { sum };
                        S::store(c, self.finish.apply::<S>(column, sum));
                    } else {
                        let lanes = self.last_lanes;
                        let sum = if accumulate { S::add(S::load_first(c, lanes), sum) } else { sum };
                        S::store_first(c, lanes, self.finish.apply::<S>(column, sum));
                    }
                }
            }
        }
    }
}
