//! The gate of squeeze-and-excite: two small dense layers on the mean of every channel.

use crate::cpu::matmul::{Product, Right, pack, packed_len};
use crate::cpu::simd::{InstructionSet, Simd, Task, dispatch};

/// Weights `[squeezed, channels]` and `[channels, squeezed]`, with biases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SqueezeParameters<'a> {
    pub(crate) reduce: &'a [f32],
    pub(crate) reduce_bias: &'a [f32],
    pub(crate) expand: &'a [f32],
    pub(crate) expand_bias: &'a [f32],
}

/// What the gate's gradient needs again.
#[derive(Debug)]
pub(crate) struct Squeezed {
    /// `[batch, channels]`.
    mean: Vec<f32>,
    /// `[batch, squeezed]`, after the ReLU.
    squeezed: Vec<f32>,
    /// `[batch, channels]`: the gate, between 0 and 1.
    pub(crate) gate: Vec<f32>,
    /// `[batch, channels]`: its slope, 1/6 where it is not clipped and 0 where it is.
    slope: Vec<f32>,
}

/// Gradients of the parameters, and of the mean, `[batch, channels]`.
#[derive(Debug)]
pub(crate) struct SqueezeGradients {
    pub(crate) reduce: Vec<f32>,
    pub(crate) reduce_bias: Vec<f32>,
    pub(crate) expand: Vec<f32>,
    pub(crate) expand_bias: Vec<f32>,
    pub(crate) mean: Vec<f32>,
}

/// `A · B`, `[rows, depth] · [depth, columns]`; element `(i, j)` is at `i · stride[0] + j · stride[1]` of either.
struct Dense<'a> {
    shape: [usize; 3],
    a: &'a [f32],
    a_strides: [usize; 2],
    b: &'a [f32],
    b_strides: [usize; 2],
}

impl Task for Dense<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Vec<f32> {
        let [rows, depth, columns] = self.shape;
        let mut packed = vec![0.0; packed_len(16, depth, columns)];
        pack::<S>(self.b, [depth, columns], self.b_strides, &mut packed);
        let mut c = vec![0.0; rows * columns];
        let product = Product {
            rows,
            depth,
            columns,
            a: self.a.as_ptr(),
            a_row: self.a_strides[0],
            a_depth: self.a_strides[1],
            b: Right::Packed(packed.as_ptr()),
            c: c.as_mut_ptr(),
            c_row: columns,
            accumulate: false,
        };
        // SAFETY: the slices have the sizes of the shape, which `pack` and the callers' assertions see to.
        unsafe { product.run::<S>() };
        c
    }
}

fn add_bias(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
}

fn column_sums(rows: &[f32], columns: usize) -> Vec<f32> {
    let mut sums = vec![0.0; columns];
    for row in rows.chunks_exact(columns) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
    sums
}

impl SqueezeParameters<'_> {
    fn sizes(&self) -> [usize; 2] {
        let (channels, squeezed) = (self.expand_bias.len(), self.reduce_bias.len());
        assert!(self.reduce.len() == channels * squeezed && self.expand.len() == channels * squeezed);
        [channels, squeezed]
    }

    /// The gates for the channels' means, `[batch, channels]`.
    pub(crate) fn forward(&self, set: InstructionSet, mean: Vec<f32>) -> Squeezed {
        let [channels, squeezed] = self.sizes();
        let batch = mean.len() / channels;
        let mut hidden = dispatch(
            set,
            Dense {
                shape: [batch, channels, squeezed],
                a: &mean,
                a_strides: [channels, 1],
                b: self.reduce,
                b_strides: [1, channels],
            },
        );
        add_bias(&mut hidden, self.reduce_bias);
        hidden.iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
        let mut gate = dispatch(
            set,
            Dense {
                shape: [batch, squeezed, channels],
                a: &hidden,
                a_strides: [squeezed, 1],
                b: self.expand,
                b_strides: [1, squeezed],
            },
        );
        add_bias(&mut gate, self.expand_bias);
        let mut slope = vec![0.0; gate.len()];
        for (gate, slope) in gate.iter_mut().zip(&mut slope) {
            let value = *gate / 6.0 + 0.5;
            // NaN is clipped on neither side.
            (*gate, *slope) = if value <= 0.0 {
                (0.0, 0.0)
            } else if value >= 1.0 {
                (1.0, 0.0)
            } else {
                (value, 1.0 / 6.0)
            };
        }
        Squeezed { mean, squeezed: hidden, gate, slope }
    }

    /// Gradients for that of the gates, `[batch, channels]`.
    pub(crate) fn backward(&self, set: InstructionSet, saved: &Squeezed, mut gate: Vec<f32>) -> SqueezeGradients {
        let [channels, squeezed] = self.sizes();
        let batch = gate.len() / channels;
        gate.iter_mut().zip(&saved.slope).for_each(|(gradient, slope)| *gradient *= slope);
        let mut hidden = dispatch(
            set,
            Dense {
                shape: [batch, channels, squeezed],
                a: &gate,
                a_strides: [channels, 1],
                b: self.expand,
                b_strides: [squeezed, 1],
            },
        );
        for (gradient, value) in hidden.iter_mut().zip(&saved.squeezed) {
            if *value <= 0.0 {
                *gradient = 0.0;
            }
        }
        let transposed = |rows, columns, a, b| {
            let (a_strides, b_strides) = ([1, rows], [columns, 1]);
            dispatch(set, Dense { shape: [rows, batch, columns], a, a_strides, b, b_strides })
        };
        SqueezeGradients {
            reduce: transposed(squeezed, channels, &hidden, &saved.mean),
            reduce_bias: column_sums(&hidden, squeezed),
            expand: transposed(channels, squeezed, &gate, &saved.squeezed),
            expand_bias: column_sums(&gate, channels),
            mean: dispatch(
                set,
                Dense {
                    shape: [batch, squeezed, channels],
                    a: &hidden,
                    a_strides: [squeezed, 1],
                    b: self.reduce,
                    b_strides: [channels, 1],
                },
            ),
        }
    }
}
