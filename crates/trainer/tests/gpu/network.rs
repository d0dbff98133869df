//! The networks of 2020 in all published widths, GhostNetV2 and GhostNetV3 in one: scores, gradients, running statistics and a whole
//! step, on 64×64 pixels in a batch of eight. The last maps are then 2×2, so that a batch norm sees 32 values of a channel. With the two that 32×32 and batch 2
//! leave, it is all but a step function, and rounding alone turns gradients over.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use ghostnet::{GhostNet, GhostNetConfig, NamedTensor, Variant, parameter_names};
use trainer::loss::{one_hot, soft_cross_entropy};
use trainer::mix::{BatchMix, Mix, PixelBox};
use trainer::optimizer::{Optimizer, Rule};
use trainer::step::{MicroBatch, StepSettings, Trainee};

use crate::{assert_close, gpu, length};

/// What a gradient may differ by: so much of its own norm, and so much of the norm of all. A ReLU whose input is within rounding of
/// zero may let through on one device and not on the other, and moves a gradient by up to a thousandth of the norm of all.
const OF_ITS_OWN: f64 = 1e-2;
const OF_ALL: f64 = 1e-3;

/// How much more it may be: the last norms of GhostNetV3's attention are over eight values here, behind sums of five branches.
fn slack(variant: Variant) -> f64 {
    if variant.has_branches() { 4.0 } else { 1.0 }
}

/// Gradients, or what they change, of one device beside the other's.
fn assert_gradients_close(
    what: &str,
    variant: Variant,
    found: &BTreeMap<String, Vec<f64>>,
    expected: &BTreeMap<String, Vec<f64>>,
) {
    let of_all = length(expected.values().flatten().copied());
    assert!(found.keys().eq(expected.keys()), "{what}: other parameters");
    for (parameter, expected) in expected {
        let pairs = found[parameter].iter().zip(expected);
        let difference = length(pairs.map(|(found, expected)| found - expected));
        let tolerance = slack(variant) * (OF_ITS_OWN * length(expected.iter().copied()) + OF_ALL * of_all);
        assert!(difference <= tolerance, "{parameter} of {what} differs by {difference:.1e}, above {tolerance:.1e}");
    }
}

const NETWORKS: [(f64, Variant); 8] = [
    (0.5, Variant::Ghostnet),
    (1.0, Variant::Ghostnet),
    (1.3, Variant::Ghostnet),
    (0.5, Variant::GhostnetPaddle),
    (1.0, Variant::GhostnetPaddle),
    (1.3, Variant::GhostnetPaddle),
    (1.0, Variant::GhostnetV2),
    (0.5, Variant::GhostnetV3),
];
const BATCH_SIZE: usize = 8;
const IMAGE_SIZE: usize = 64;
const NUM_CLASSES: usize = 10;

fn config(width: f64, variant: Variant) -> GhostNetConfig {
    GhostNetConfig::new(NUM_CLASSES).with_width(width).with_variant(variant).with_dropout(0.0)
}

/// The network with the weights of another.
fn model(config: &GhostNetConfig, state: &[NamedTensor], device: &Device) -> GhostNet {
    config.init(device).load_state(state.to_vec()).expect("the same network")
}

/// Weights drawn on the CPU.
fn weights(config: &GhostNetConfig) -> Vec<NamedTensor> {
    let cpu = Device::flex();
    cpu.seed(3);
    config.init(&cpu).state(0)
}

fn images(device: &Device) -> Tensor<4> {
    let shape = [BATCH_SIZE, 3, IMAGE_SIZE, IMAGE_SIZE];
    // Noise without a pattern: where images repeat themselves, values lie on the corners of the activations, and rounding
    // decides which side their gradients take.
    let mut state = 7_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_: usize| noise()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Images with smoothed labels, mixed in a way.
fn batch(mix: Mix, device: &Device) -> (Tensor<4>, Tensor<2>) {
    let labels: Vec<usize> = (0..BATCH_SIZE).map(|index| index * 3 % NUM_CLASSES).collect();
    BatchMix::Whole(mix).apply(images(device), one_hot(&labels, NUM_CLASSES, 0.1, device))
}

fn mixes() -> [(&'static str, Mix); 3] {
    let pixels = PixelBox { top: 8, bottom: 40, left: 20, right: 64 };
    [
        ("as they are", Mix::None),
        ("Mixup", Mix::Mixup { share: 0.3 }),
        ("CutMix", Mix::cut(pixels, IMAGE_SIZE, IMAGE_SIZE)),
    ]
}

/// Loss, gradients and running statistics of a training step, by name.
fn gradients(model: &GhostNet, mix: Mix, device: &Device) -> (f64, BTreeMap<String, Vec<f64>>, Vec<NamedTensor>) {
    struct Collect {
        gradients: Gradients,
        names: BTreeMap<ParamId, String>,
        found: BTreeMap<String, Vec<f64>>,
    }
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if let Some(gradient) = parameter.val().grad_remove(&mut self.gradients) {
                self.found.insert(self.names[&parameter.id].clone(), gradient.into_data().iter().collect());
            }
        }
    }
    let (images, targets) = batch(mix, device);
    let loss = soft_cross_entropy(model.forward(images), targets);
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let names = parameter_names(model).into_iter().collect();
    let mut collect = Collect { gradients: loss.backward(), names, found: BTreeMap::new() };
    model.visit(&mut collect);
    let statistics = model.valid().state(1).into_iter().filter(|tensor| tensor.name.contains("running_"));
    (value, collect.found, statistics.collect())
}

#[test]
fn scores_gradients_and_running_statistics_agree_with_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let cpu = Device::flex();
    for (width, variant) in NETWORKS {
        let config = config(width, variant);
        let weights = weights(&config);
        let network = format!("{variant:?} {width}x");
        let scores = |device: &Device| model(&config, &weights, device).forward(images(device)).into_data();
        assert_close(&format!("scores of {network}"), &scores(&gpu), &scores(&cpu), 0.0, 1e-5);
        // Mixing is the same whatever the network.
        for (name, mix) in mixes().into_iter().take(if width == 0.5 { 3 } else { 1 }) {
            let [found, expected] = [&gpu, &cpu]
                .map(|device| gradients(&model(&config, &weights, &device.clone().autodiff()), mix, device));
            let what = format!("{network}, images {name}");
            assert!((found.0 - expected.0).abs() < 1e-5 * expected.0, "loss of {what}: {} {}", found.0, expected.0);
            assert_eq!(found.1.len(), parameter_names(&model(&config, &weights, &cpu)).len());
            assert_gradients_close(&format!("the gradient, {what}"), variant, &found.1, &expected.1);
            for (found, expected) in found.2.iter().zip(&expected.2) {
                assert_eq!(found.name, expected.name);
                assert_close(&format!("{}, {what}", found.name), &found.data, &expected.data, 1e-2, 1e-4);
            }
        }
    }
}

#[test]
fn a_whole_step_with_clipped_gradients_agrees_with_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (width, variant) in NETWORKS {
        let config = config(width, variant);
        let weights = weights(&config);
        let step = |device: &Device| {
            let (images, targets) = batch(mixes()[1].1, device);
            let settings = StepSettings { learning_rate: 0.1, clip_norm: Some(1.0), ..StepSettings::default() };
            let rule = Rule::Sgd { momentum: 0.9, nesterov: true };
            let trainee =
                Trainee::new(model(&config, &weights, &device.clone().autodiff()), Optimizer::new(rule, 1e-2));
            let batch = MicroBatch { images, targets, teacher: None };
            let (trainee, measured) = trainee.step(vec![batch], settings).expect("finite");
            let report = measured.read().expect("finite");
            (trainee.model.valid().state(1), report)
        };
        let ((found, found_report), (expected, expected_report)) = (step(&gpu), step(&Device::flex()));
        let norm = expected_report.gradient_norm;
        let difference = (found_report.gradient_norm - norm).abs();
        assert!(difference < slack(variant) * OF_ALL * norm, "{found_report:?} {expected_report:?}");
        assert!(norm > 1.0, "the gradients were clipped");
        let network = format!("{variant:?} {width}x");
        let [mut found_changes, mut expected_changes] = [BTreeMap::new(), BTreeMap::new()];
        for ((found, expected), before) in found.iter().zip(&expected).zip(&weights) {
            assert_eq!((&found.name, &found.name), (&expected.name, &before.name));
            if found.name.contains("running_") {
                assert_close(&format!("{} of {network}", found.name), &found.data, &expected.data, 1e-2, 1e-4);
            } else if !found.name.ends_with("num_batches_tracked") {
                let change = |after: &TensorData| {
                    let pairs = after.iter::<f64>().zip(before.data.iter::<f64>());
                    pairs.map(|(after, before)| after - before).collect::<Vec<f64>>()
                };
                found_changes.insert(found.name.clone(), change(&found.data));
                expected_changes.insert(found.name.clone(), change(&expected.data));
            }
        }
        assert_gradients_close(&format!("the change of {network}"), variant, &found_changes, &expected_changes);
    }
}
