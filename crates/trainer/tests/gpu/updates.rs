//! What is random or optimised on the device.

use burn::nn::DropoutConfig;
use burn::tensor::{Device, Tensor, TensorData};
use ghostnet_kernels::global_norm;
use trainer::optimizer::{Optimizer, Parameter, Rule};

use crate::mixed::RULES;
use crate::{assert_close, gpu};

/// Numbers between -1 and 1, none of them near 0, where Lion's step turns over.
fn values(len: usize, seed: usize) -> Vec<f32> {
    let value = |index: usize| ((index * 7919 + seed * 104_729) % 1000) as f32 / 1000.0;
    (0..len).map(value).map(|value| if value < 0.5 { value - 1.0 } else { value }).collect()
}

/// A parameter after each of three updates, and what the optimizer remembered of it: read in between, and looked at by the caller, when
/// the device has gone on.
fn updated(rule: Rule, shape: [usize; 2], device: &Device) -> Vec<TensorData> {
    let len = shape[0] * shape[1];
    let tensor = |seed| Tensor::<1>::from_data(TensorData::new(values(len, seed), [len]), device);
    let mut optimizer = Optimizer::new(rule, 0.05);
    let (mut value, mut read) = (tensor(1), Vec::new());
    for step in 0..3 {
        optimizer.begin_step();
        let parameter =
            Parameter { name: "conv_head.weight", value, gradient: tensor(10 + step), outputs: Some(shape[0]) };
        value = optimizer.update(parameter, 0.01);
        read.push(ghostnet::read_now(value.clone()));
        read.extend(optimizer.state().into_iter().map(|(_, data)| data));
    }
    read
}

#[test]
fn every_optimizer_takes_the_steps_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for rule in RULES {
        let [found, expected] = [&gpu, &Device::flex()].map(|device| updated(rule, [24, 40], device));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(&format!("{rule:?}"), found, expected, 0.0, 1e-5);
        }
    }
}

#[test]
fn the_norm_of_gradients_is_that_of_the_cpu_and_the_same_every_time() {
    let Some(gpu) = gpu() else { return };
    let lengths = [1, 300_000, 777, 40_000];
    let norm = |device: &Device| {
        let of = |(seed, len): (usize, usize)| Tensor::from_data(TensorData::new(values(len, seed), [len]), device);
        let gradients: Vec<Tensor<1>> = lengths.into_iter().enumerate().map(of).collect();
        global_norm(&gradients)
    };
    let first = norm(&gpu);
    let expected = norm(&Device::flex());
    assert!((first - expected).abs() < 1e-6 * expected, "{first} {expected}");
    for _ in 0..50 {
        assert_eq!(norm(&gpu), first, "else a run that goes on is not bit for bit what it would have been");
    }
}

/// Which of a hundred thousand values dropout lets through on a device.
fn mask(device: &Device, seed: u64) -> Vec<bool> {
    device.seed(seed);
    let ones = Tensor::<2>::ones([100, 1000], &device.clone().autodiff());
    DropoutConfig::new(0.2).init().forward(ones).into_data().iter::<f32>().map(|value| value != 0.0).collect()
}

#[test]
fn dropout_keeps_the_share_that_it_should_and_a_seed_gives_the_same_mask() {
    let Some(gpu) = gpu() else { return };
    for device in [&gpu, &Device::flex()] {
        let first = mask(device, 1);
        assert!(first == mask(device, 1), "the same seed, another mask");
        let second = mask(device, 2);
        for mask in [&first, &second] {
            let kept = mask.iter().filter(|kept| **kept).count() as f64 / mask.len() as f64;
            // Six standard deviations of a hundred thousand draws.
            assert!((kept - 0.8).abs() < 6.0 * (0.8 * 0.2 / 1e5_f64).sqrt(), "{kept} of the values were kept");
        }
        let equal = first.iter().zip(&second).filter(|(first, second)| first == second).count() as f64 / 1e5;
        assert!((equal - 0.68).abs() < 0.01, "masks of two seeds agree in {equal} of the values, and not in 0.68");
        // Neighbours are independent of each other, in a row and from row to row.
        for step in [1, 1000] {
            let pairs = first.iter().zip(&first[step..]).filter(|(a, b)| !**a && !**b).count() as f64 / 1e5;
            assert!((pairs - 0.04).abs() < 0.005, "{pairs} of the pairs are dropped together, and not 0.04");
        }
    }
}
