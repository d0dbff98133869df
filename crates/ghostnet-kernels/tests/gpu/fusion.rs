//! What burn fuses, once it is restricted, against the same on the CPU, and why it is restricted.

use std::process::Command;

use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::drawn::{Numbers, floats};
use crate::{Gpu, assert_close, first_adapter};

/// Largest difference, relative to the largest value of a tensor or to one if that is smaller: some hundred roundings in `f32`.
const TOLERANCE: f64 = 1e-5;

/// The same for what was in `f16` in between: a rounding may go the other way.
const HALF_TOLERANCE: f64 = 1e-2;

/// A tensor whose axes lie in memory in another order.
fn map(numbers: &mut Numbers, shape: [usize; 4], device: &Device) -> Tensor<4> {
    let mut order = [0, 1, 2, 3];
    (1..4).for_each(|at| order.swap(at, numbers.next() as usize % (at + 1)));
    let stored = order.map(|axis| shape[axis]);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| numbers.value()).collect();
    let mut back = [0isize; 4];
    order.into_iter().enumerate().for_each(|(at, axis)| back[axis] = at as isize);
    Tensor::<4>::from_data(TensorData::new(values, stored), device).permute(back)
}

/// Tensors of a program that is drawn: each of its operations adds one, and some take one away.
struct Program {
    numbers: Numbers,
    device: Device,
    /// What masks are made of: bits that are the same on all devices.
    inputs: Vec<Tensor<4>>,
    tensors: Vec<Tensor<4>>,
    supports_half: bool,
    has_half: bool,
    text: String,
}

impl Program {
    fn new(seed: u64, device: &Device, supports_half: bool) -> Self {
        let mut numbers = Numbers(seed);
        // The first numbers of neighbouring seeds are much alike.
        (0..8).for_each(|_| {
            numbers.next();
        });
        let shape: [usize; 4] = std::array::from_fn(|_| numbers.pick(&[1, 2, 3, 4, 5, 8, 12]));
        let [batch, channels, height, width] = shape;
        let shapes = [shape, shape, shape, [1, channels, 1, 1], [batch, channels, 1, 1], [1, 1, height, width]];
        let inputs: Vec<_> = shapes.iter().map(|&shape| map(&mut numbers, shape, device)).collect();
        device.sync().expect("a device");
        let (tensors, text) = (inputs.clone(), format!("{shape:?}"));
        Self { numbers, device: device.clone(), inputs, tensors, supports_half, has_half: false, text }
    }

    fn any(&mut self) -> (usize, Tensor<4>) {
        let at = self.numbers.next() as usize % self.tensors.len();
        (at, self.tensors[at].clone())
    }

    fn unary(&mut self, x: Tensor<4>) -> Tensor<4> {
        match self.numbers.next() % 8 {
            0 => x * 0.7,
            1 => x + 0.3,
            2 => (x.clone() * x + 1.0).sqrt(),
            3 => x.clamp(-0.6, 0.8),
            4 => x.clamp(-2.0, 1.0).exp(),
            5 => (x.abs() + 1.0).recip(),
            6 => relu(x),
            _ => -x,
        }
    }

    fn binary(&mut self, x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
        match self.numbers.next() % 4 {
            0 => x + y,
            1 => x - y,
            2 => (x * y).clamp(-4.0, 4.0),
            _ => x / (y.abs() + 1.0),
        }
    }

    /// One of the operations that the networks, their gradients and their optimizers are made of.
    fn step(&mut self) {
        let (at, x) = self.any();
        let (other, y) = self.any();
        let ([batch, channels, height, width], shape) = (x.dims(), x.dims());
        let axis = self.numbers.next() as usize % 4;
        let fits = |x: [usize; 4], y: [usize; 4]| x.iter().zip(y).all(|(&x, y)| x == y || x == 1 || y == 1);
        let choice = self.numbers.next() % 24;
        let is_large = x.shape().num_elements() > 20_000;
        let result = match choice {
            0..=5 => self.unary(x),
            6..=11 if fits(shape, y.dims()) => self.binary(x, y),
            12 => {
                let mask =
                    self.inputs.iter().find(|input| input.dims() == shape).map(|input| input.clone().lower_elem(0.2));
                let Some(mask) = mask else { return };
                if y.dims() == shape { x.mask_where(mask, y) } else { x.mask_fill(mask, 0.5) }
            }
            13 if !is_large && (0..4).all(|it| it == axis || shape[it] == y.dims()[it]) => {
                Tensor::cat(vec![x, y], axis)
            }
            14 => {
                let count = (shape[axis] as i32).min(4);
                let indices: Vec<i32> = (0..count).rev().collect();
                let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [count as usize]), &self.device);
                x.select(axis, indices)
            }
            15 => x.swap_dims(axis, (axis + 1) % 4),
            16 => {
                let shapes = [[batch, channels, height * width, 1], [batch * channels, 1, height, width]];
                x.reshape(shapes[axis % 2])
            }
            // As burn's norms do it. Sums over an axis of another layout are not always right, fused or not.
            17 => {
                let flat = x.swap_dims(0, 1).reshape([channels, batch * height * width]);
                flat.mean_dim(1).reshape([1, channels, 1, 1])
            }
            // As in mixed precision.
            18 if self.supports_half => {
                self.has_half = true;
                let half = x.clamp(-4.0, 4.0).cast(DType::F16);
                let full = (half.clone() * half.clone() - half.clone()).cast(DType::F32) + 0.1;
                // What nobody asks for.
                if axis == 0 {
                    drop(half.clone() * 0.9);
                }
                if axis == 1 { (half * 0.9).cast(DType::F32) } else { full }
            }
            19 => {
                self.device.sync().expect("a device");
                x.slice_dim(axis, 0..shape[axis].div_ceil(2))
            }
            // As optimizers, which know no shapes.
            20 => {
                let flat = x.flatten::<1>(0, 3);
                let other = flat.clone() * 0.9 + 0.1;
                (flat * other).clamp(-4.0, 4.0).reshape(shape)
            }
            // As scores and their losses.
            21 => {
                let rows = x.reshape([batch * channels, height * width]);
                let row = rows.clone().slice_dim(0, 0..1) - 0.2;
                (rows.clone() - row.abs() * rows).reshape(shape)
            }
            // Beside the tensor that it is a view of.
            22 => {
                self.tensors.push(x.clone() * 0.5);
                x.reshape([channels, batch, height, width]) * 0.9
            }
            // As clipped gradients and scaled losses, which are multiplied by a tensor of one value.
            23 => {
                let flat = x.flatten::<1>(0, 3);
                let factor = (flat.clone().slice_dim(0, 0..1).abs() + 1.0).recip();
                (flat * factor).reshape(shape)
            }
            _ => return,
        };
        self.text += &format!("; {choice} of {at}, {other}, axis {axis}: {:?}", result.dims());
        self.tensors.push(result);
        // Only what nothing else needs is written over.
        if self.numbers.next().is_multiple_of(2) {
            let (at, _) = self.any();
            self.tensors.remove(at);
            self.text += &format!("; without {at}");
        }
    }

    fn run(seed: u64, device: &Device, supports_half: bool) -> (Vec<Vec<f64>>, f64, String) {
        let mut program = Self::new(seed, device, supports_half);
        let steps = 3 + program.numbers.next() % 12;
        (0..steps).for_each(|_| program.step());
        program.inputs.clear();
        let tolerance = if program.has_half { HALF_TOLERANCE } else { TOLERANCE };
        (program.tensors.into_iter().map(floats).collect(), tolerance, program.text)
    }
}

#[test]
fn chains_of_any_operations_on_any_layouts_give_what_they_give_on_the_cpu() {
    let Some(gpu) = Gpu::open() else { return };
    let device = gpu.device.clone().inner();
    let supports_half = device.supports_dtype(DType::F16);
    // More of them find more: three thousand were right.
    let count = std::env::var("GHOSTNET_FUSION_PROGRAMS").map_or(400, |count| count.parse().expect("a number"));
    for seed in 1..=count {
        let (found, tolerance, text) = Program::run(seed, &device, supports_half);
        let (expected, ..) = Program::run(seed, &Device::flex(), supports_half);
        assert_eq!(found.len(), expected.len());
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_close(&format!("program {seed}, tensor {at}: {text}"), [found, expected], tolerance);
        }
    }
}

/// What burn cannot do without a restriction. Each runs in a process of its own, since what is fused is decided once.
mod alone {
    use super::*;

    /// A tensor that lies channels-last, as convolutions leave it, and one that does not.
    fn maps(shape: [usize; 4]) -> [Tensor<4>; 2] {
        let device = first_adapter().expect("the caller found one");
        let [batch, channels, height, width] = shape;
        let count = (0..shape.iter().product()).map(|value: usize| value as f32);
        let ordered = |shape| Tensor::from_data(TensorData::new(count.clone().collect(), shape), &device);
        let last = ordered([batch, height, width, channels]).permute([0, 3, 1, 2]);
        let first = ordered(shape);
        device.sync().expect("a device");
        [last, first]
    }

    #[test]
    #[ignore = "fails: started by the test of what goes wrong"]
    fn difference_of_maps_of_one_channel() {
        let [last, first] = maps([2, 1, 9, 6]);
        // One operation alone is not fused.
        assert_eq!(floats(last * 2.0 - first.clone() - first), vec![0.0; 108]);
    }

    #[test]
    #[ignore = "fails: started by the test of what goes wrong"]
    fn gradient_of_a_mean_of_one_pixel() {
        let [last, first] = maps([3, 8, 1, 1]);
        let (half, sum) = (Tensor::ones_like(&first) * 0.5, (last * first).sum_dim(3));
        let expected: Vec<f64> = (0..24).map(|value| f64::from(value * value) / 2.0).collect();
        assert_eq!(floats(half * sum), expected);
    }

    #[test]
    #[ignore = "fails: started by the test of what goes wrong"]
    fn half_precision_that_nobody_asks_for() {
        let [_, first] = maps([2, 8, 3, 4]);
        let more = first.clone() + 1.0;
        drop(first.cast(DType::F16) * 0.5);
        let expected: Vec<f64> = (1..193).map(f64::from).collect();
        assert_eq!(floats(more), expected);
    }
}

#[test]
fn without_the_restriction_burn_fails_or_gives_wrong_numbers() {
    let Some(gpu) = Gpu::open() else { return };
    for (name, reason) in [
        ("difference_of_maps_of_one_channel", "left == right"),
        ("gradient_of_a_mean_of_one_pixel", "An error occurred during kernel expansion"),
        ("half_precision_that_nobody_asks_for", "`f16` enable extension is not enabled"),
    ] {
        if name.starts_with("half") && !gpu.device.supports_dtype(DType::F16) {
            continue;
        }
        let program = std::env::current_exe().expect("a path");
        let output = Command::new(program).args(["--ignored", "--exact", &format!("fusion::alone::{name}")]).output();
        let stdout = String::from_utf8_lossy(&output.expect("the program starts").stdout).into_owned();
        assert!(
            stdout.contains(reason),
            "{name} may be right by now; then `gpu/fusion.rs` need not keep burn from it\n{stdout}"
        );
    }
}
