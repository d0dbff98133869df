//! Dense layers: products of matrices that are small beside those of the convolutions, where packing and idle threads show.

use crate::cpu::matmul::{Pack, Product, Right, packed_len};
use crate::cpu::parallel::{groups, map, with_scratch};
use crate::cpu::rows::View;
use crate::cpu::simd::{InstructionSet, Simd, Task, dispatch};

/// A dense layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DenseLayer<'a> {
    pub(crate) weight: &'a [f32],
    /// Whether the weight is `[in, out]` rather than `[out, in]`.
    pub(crate) weight_in_out: bool,
    /// In and out.
    pub(crate) channels: [usize; 2],
    pub(crate) bias: Option<&'a [f32]>,
}

/// Gradients of a dense layer, in the layouts of what they are gradients of.
#[derive(Debug)]
pub(crate) struct DenseGradients {
    pub(crate) x: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

impl DenseLayer<'_> {
    /// Strides of the weight's input and output channels.
    fn strides(&self) -> [usize; 2] {
        let [input, output] = self.channels;
        if self.weight_in_out { [output, 1] } else { [1, input] }
    }

    /// `x` is `[batch, in]`, the output `[batch, out]`.
    pub(crate) fn forward(&self, set: InstructionSet, x: &[f32]) -> Vec<f32> {
        let [input, output] = self.channels;
        let shape = [x.len() / input, input, output];
        let mut y =
            MatrixProduct { shape, a: x, a_strides: [input, 1], b: self.weight, b_strides: self.strides() }.run(set);
        if let Some(bias) = self.bias {
            add_bias(&mut y, bias);
        }
        y
    }

    /// Gradients for that of the output, `[batch, out]`.
    pub(crate) fn backward(&self, set: InstructionSet, x: &[f32], dy: &[f32]) -> DenseGradients {
        let [input, output] = self.channels;
        let batch = x.len() / input;
        let [in_stride, out_stride] = self.strides();
        let shape = [batch, output, input];
        let b_strides = [out_stride, in_stride];
        let dx = MatrixProduct { shape, a: dy, a_strides: [output, 1], b: self.weight, b_strides }.run(set);
        let ((rows, a), (columns, b)) =
            if self.weight_in_out { ((input, x), (output, dy)) } else { ((output, dy), (input, x)) };
        let shape = [rows, batch, columns];
        let weight = MatrixProduct { shape, a, a_strides: [1, rows], b, b_strides: [columns, 1] }.run(set);
        DenseGradients { x: dx, weight, bias: column_sums(dy, output) }
    }
}

/// `A · B`, `[rows, depth] · [depth, columns]`; element `(i, j)` is at `i · stride[0] + j · stride[1]` of either.
struct MatrixProduct<'a> {
    shape: [usize; 3],
    a: &'a [f32],
    a_strides: [usize; 2],
    b: &'a [f32],
    b_strides: [usize; 2],
}

impl MatrixProduct<'_> {
    fn run(self, set: InstructionSet) -> Vec<f32> {
        let Self { shape: [rows, depth, columns], a, a_strides, b, b_strides } = self;
        assert!(a.len() == rows * depth && b.len() == depth * columns);
        let mut c = vec![0.0; rows * columns];
        let to = View::of_mut(&mut c, columns);
        with_scratch([packed_len(16, depth, columns)], |[packed]| {
            Pack { from: b, shape: [depth, columns], strides: b_strides }.run(set, packed);
            // A group has the work of some ten microseconds.
            let least = (500_000 / (depth * columns)).clamp(12, 240) / 12 * 12;
            map(&groups(rows, 12, least, 16), |range| {
                let product = Product {
                    rows: range.len(),
                    depth,
                    columns,
                    a: a[range.start * a_strides[0]..].as_ptr(),
                    a_row: a_strides[0],
                    a_depth: a_strides[1],
                    b: Right::Packed(packed.as_ptr()),
                    c: to.pixel(range.start),
                    c_row: columns,
                    accumulate: false,
                };
                dispatch(set, Rows(product));
            });
        });
        c
    }
}

struct Rows(Product);

impl Task for Rows {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the slices have the sizes of the shape, as `MatrixProduct::run` asserts, and the rows are this task's alone.
        unsafe { self.0.run::<S>() };
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
