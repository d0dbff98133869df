//! A program that has nothing to do with GhostNet but its kernels: two Ghost modules that learn to tell stripes from checks.
//!
//!     cargo run -p ghostnet-kernels --example own_program

#![expect(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use ghostnet_kernels::{ConvNormTensors, GhostModuleTensors, NormTensors, ghost_module};

/// Parameters by layer: a convolution's weight, its norm's weight and bias.
type Layer = (Tensor<4>, Tensor<1>, Tensor<1>);

fn layer(dims: [usize; 4], device: &Device) -> Layer {
    let len: usize = dims.iter().product();
    let bound = 1.0 / ((dims[1] * dims[2] * dims[3]) as f32).sqrt();
    // Any numbers will do that are not all alike.
    let values: Vec<f32> = (0..len).map(|at| bound * ((at as f32 * 12.9898).sin() * 43758.547).fract()).collect();
    let weight = Tensor::from_data(TensorData::new(values, dims), device);
    (weight, Tensor::ones([dims[0]], device), Tensor::zeros([dims[0]], device))
}

fn conv((weight, norm_weight, norm_bias): &Layer, groups: usize) -> ConvNormTensors {
    let norm = NormTensors { weight: norm_weight.clone(), bias: norm_bias.clone(), running: None, epsilon: 1e-5 };
    ConvNormTensors { weight: weight.clone(), norm, stride: 1, groups }
}

fn module(primary: &Layer, cheap: &Layer) -> GhostModuleTensors {
    let half = primary.0.dims()[0];
    GhostModuleTensors { primary: conv(primary, 1), cheap: conv(cheap, half), relu: true, out_channels: 2 * half }
}

fn main() {
    let device = Device::flex().autodiff();
    // Sixteen images of 8x8: stripes of different phase in the first half, checks in the second.
    let pixels: Vec<f32> = (0..16 * 64)
        .map(|at| {
            let (image, row, column) = (at / 64, at / 8 % 8, at % 8);
            let on = if image < 8 { (column + image) / 2 % 2 } else { ((column + image) / 2 + row / 2) % 2 };
            on as f32
        })
        .collect();
    let images = Tensor::<4>::from_data(TensorData::new(pixels, [16, 1, 8, 8]), &device);
    let targets: Vec<f32> = (0..16).flat_map(|image| if image < 8 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
    let targets = Tensor::<2>::from_data(TensorData::new(targets, [16, 2]), &device);

    let device = device.inner();
    let mut layers = [
        layer([4, 1, 1, 1], &device),
        layer([4, 1, 3, 3], &device),
        layer([1, 8, 1, 1], &device),
        layer([1, 1, 5, 5], &device),
    ];
    for step in 0..=60 {
        let tracked = layers.clone().map(|(a, b, c)| (track(a), track(b), track(c)));
        let [first, second, third, fourth] = &tracked;
        let map = ghost_module(images.clone(), module(first, second)).output;
        let map = ghost_module(map, module(third, fourth)).output; // [16, 2, 8, 8]
        let logits = map.powi_scalar(2).mean_dim(3).mean_dim(2).flatten::<2>(1, 3); // [16, 2]
        let loss = -(log_softmax(logits, 1) * targets.clone()).sum() / 16.0;
        if step % 20 == 0 {
            println!("step {step:2}: loss {:.4}", loss.clone().into_scalar::<f32>());
        }
        let gradients = loss.backward();
        layers = tracked.map(|(a, b, c)| (moved(a, &gradients), moved(b, &gradients), moved(c, &gradients)));
    }
}

fn track<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(tensor).require_grad()
}

/// One step of gradient descent.
fn moved<const D: usize>(tensor: Tensor<D>, gradients: &Gradients) -> Tensor<D> {
    match tensor.grad(gradients) {
        Some(gradient) => tensor.inner() - gradient * 0.5,
        None => tensor.inner(),
    }
}
