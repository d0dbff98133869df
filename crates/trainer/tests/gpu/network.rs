//! Compares the networks in all published widths with the CPU: scores, gradients and running statistics, and for two of them a whole step,
//! on 48×48 pixels in a batch of four. The last maps are then 2×2, so that a batch norm sees 16 values of a channel. With the two that 32×32 and
//! batch 2 leave, it is all but a step function, and rounding alone turns gradients over.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use ghostnet::{GhostNet, GhostNetConfig, NamedTensor, Variant, parameter_names};
use trainer::loss::{one_hot, soft_cross_entropy};
use trainer::mix::{BatchMix, Mix, PixelBox};
use trainer::optimizer::{Optimizer, Rule};
use trainer::step::{MicroBatch, StepSettings, Trainee};

use crate::{assert_close, distance, gpu, length};

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

/// The networks that take a whole step. The gradients of the others are compared without one, and the step does not depend on the network.
const STEPPING_NETWORKS: [(f64, Variant); 2] = [(0.5, Variant::Ghostnet), (0.5, Variant::GhostnetV3)];
const BATCH_SIZE: usize = 4;
const IMAGE_SIZE: usize = 48;
const NUM_CLASSES: usize = 10;
const LEARNING_RATE: f64 = 0.1;

/// What running statistics may differ by, as a share of their length: norms of small batches blow rounding up on the way to the last.
const STATISTICS: f64 = 1e-4;

/// What the gradient of a tensor may differ by, as a share of its length. Rounding takes it to a third of this.
const GRADIENT: f64 = 5e-4;

/// A network's share in both: GhostNetV3 adds the rounding of up to five branches where others have one convolution.
fn slack(variant: Variant) -> f64 {
    if variant == Variant::GhostnetV3 { 4.0 } else { 1.0 }
}

/// Gradients that are shorter than this share of all of them are all but rounding.
const SHORT: f64 = 1e-3;

/// How often new images are drawn.
const DRAWS: u32 = 8;

/// Holds gradients to what they must be, for some images. An activation that lies on the corner of a ReLU or of a gate takes another
/// slope when rounding moves it to the other side, and everything before it differs by a hundredth: for two of eight draws on the CPU
/// alone as well, if its images are made brighter by a millionth. That is chance, and other images have no such activation; what is
/// wrong with a device is wrong with all images.
fn for_some_images(what: &str, agree: impl Fn(u32) -> Result<(), String>) {
    let mut faults = Vec::new();
    for draw in 0..DRAWS {
        match agree(draw) {
            Ok(()) => return,
            Err(fault) => faults.push(fault),
        }
    }
    panic!("{what}, {DRAWS} draws of images:\n{}", faults.join("\n"));
}

fn config(width: f64, variant: Variant) -> GhostNetConfig {
    GhostNetConfig::new(NUM_CLASSES).with_width(width).with_variant(variant).with_dropout(0.0)
}

/// The network with the weights of another.
fn model(config: &GhostNetConfig, state: &[NamedTensor], device: &Device) -> GhostNet {
    config.load(state.to_vec(), device).expect("the same network")
}

/// Weights drawn on the CPU.
fn weights(config: &GhostNetConfig) -> Vec<NamedTensor> {
    let cpu = Device::flex();
    cpu.seed(3);
    config.init(&cpu).state(0)
}

fn images(draw: u32, device: &Device) -> Tensor<4> {
    let shape = [BATCH_SIZE, 3, IMAGE_SIZE, IMAGE_SIZE];
    // Noise without a pattern: where images repeat themselves, values lie on the corners of the activations, and rounding
    // decides which side their gradients take.
    let mut state = 7 + draw;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_: usize| noise()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Images with smoothed labels, mixed in a way.
fn batch(mix: Mix, draw: u32, device: &Device) -> (Tensor<4>, Tensor<2>) {
    let labels: Vec<usize> = (0..BATCH_SIZE).map(|index| index * 3 % NUM_CLASSES).collect();
    BatchMix::Whole(mix).apply(images(draw, device), one_hot(&labels, NUM_CLASSES, 0.1, device))
}

fn mixes() -> [(&'static str, Mix); 3] {
    let pixels = PixelBox { top: 6, bottom: 30, left: 15, right: 48 };
    [
        ("as they are", Mix::None),
        ("Mixup", Mix::Mixup { share: 0.3 }),
        ("CutMix", Mix::cut(pixels, IMAGE_SIZE, IMAGE_SIZE)),
    ]
}

/// Loss, gradients and running statistics of a training step, by name.
struct Step {
    loss: f64,
    gradients: BTreeMap<String, TensorData>,
    statistics: Vec<NamedTensor>,
}

fn forward_and_back(model: &GhostNet, images: Tensor<4>, targets: Tensor<2>) -> Step {
    struct Collect {
        gradients: Gradients,
        names: BTreeMap<ParamId, String>,
        found: BTreeMap<String, TensorData>,
    }
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if let Some(gradient) = parameter.val().grad_remove(&mut self.gradients) {
                self.found.insert(self.names[&parameter.id].clone(), gradient.into_data());
            }
        }
    }
    let loss = soft_cross_entropy(model.forward(images), targets);
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let names = parameter_names(model).into_iter().collect();
    let mut collect = Collect { gradients: loss.backward(), names, found: BTreeMap::new() };
    model.visit(&mut collect);
    let statistics = model.valid().state(1).into_iter().filter(|tensor| tensor.name.contains("running_")).collect();
    Step { loss: value, gradients: collect.found, statistics }
}

/// What is wrong with the gradients first, if anything.
fn compare(
    found: &BTreeMap<String, TensorData>,
    expected: &BTreeMap<String, TensorData>,
    tolerance: f64,
) -> Result<(), String> {
    let norm = length(expected.values().flat_map(|gradient| gradient.iter::<f64>()));
    let share = |(parameter, expected): (&String, &TensorData)| {
        let length = length(expected.iter::<f64>()).max(SHORT * norm);
        (distance(&found[parameter], expected) / length, parameter.clone())
    };
    let worst = expected.iter().map(share).max_by(|a, b| a.0.total_cmp(&b.0));
    let (share, parameter) = worst.expect("gradients");
    if share <= tolerance { Ok(()) } else { Err(format!("the gradient of {parameter} differs by {share:.1e}")) }
}

#[test]
fn scores_gradients_and_running_statistics_agree_with_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let cpu = Device::flex();
    for (width, variant) in NETWORKS {
        let config = config(width, variant);
        let weights = weights(&config);
        let network = format!("{variant:?} {width}x");
        let scores = |device: &Device| model(&config, &weights, device).forward(images(0, device)).into_data();
        assert_close(&format!("scores of {network}"), &scores(&gpu), &scores(&cpu), 0.0, 1e-5);
        // How images are mixed does not depend on the network.
        let mixes = if (width, variant) == NETWORKS[0] { &mixes()[..] } else { &mixes()[..1] };
        for (name, mix) in mixes {
            let what = format!("{network}, images {name}");
            for_some_images(&what, |draw| {
                let [found, expected] = [&gpu, &cpu].map(|device| {
                    let (images, targets) = batch(*mix, draw, device);
                    forward_and_back(&model(&config, &weights, &device.clone().autodiff()), images, targets)
                });
                let losses = [found.loss, expected.loss];
                assert!((losses[0] - losses[1]).abs() < 1e-5 * losses[1], "loss of {what}: {losses:?}");
                for (found, expected) in found.statistics.iter().zip(&expected.statistics) {
                    assert_eq!(found.name, expected.name);
                    let tolerance = slack(variant) * STATISTICS;
                    assert_close(&format!("{}, {what}", found.name), &found.data, &expected.data, 1e-2, tolerance);
                }
                let parameters = parameter_names(&model(&config, &weights, &cpu)).len();
                assert_eq!([found.gradients.len(), expected.gradients.len()], [parameters; 2]);
                compare(&found.gradients, &expected.gradients, slack(variant) * GRADIENT)
            });
        }
    }
}

#[test]
fn a_whole_step_with_clipped_gradients_agrees_with_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (width, variant) in STEPPING_NETWORKS {
        let config = config(width, variant);
        let weights = weights(&config);
        let step = |draw: u32, device: &Device| {
            let (images, targets) = batch(mixes()[1].1, draw, device);
            let settings =
                StepSettings { learning_rate: LEARNING_RATE, clip_norm: Some(1.0), ..StepSettings::default() };
            let rule = Rule::Sgd { momentum: 0.9, nesterov: true };
            let trainee =
                Trainee::new(model(&config, &weights, &device.clone().autodiff()), Optimizer::new(rule, 1e-2));
            let batch = MicroBatch { images, targets, teacher: None };
            let (trainee, measured) = trainee.step(vec![batch], settings).expect("finite");
            let report = measured.read().expect("finite");
            (trainee.model.valid().state(1), report)
        };
        for_some_images(&format!("a step of {variant:?} {width}x"), |draw| {
            let ((found, found_report), (expected, expected_report)) = (step(draw, &gpu), step(draw, &Device::flex()));
            let (norm, gradient) = (expected_report.gradient_norm, slack(variant) * GRADIENT);
            assert!(norm > 1.0, "the gradients were clipped");
            if (found_report.gradient_norm - norm).abs() > gradient * norm {
                return Err(format!("{found_report:?} {expected_report:?}"));
            }
            for ((found, expected), before) in found.iter().zip(&expected).zip(&weights) {
                assert_eq!((&found.name, &found.name), (&expected.name, &before.name));
                if found.name.contains("running_") {
                    let tolerance = slack(variant) * STATISTICS;
                    assert_close(&found.name, &found.data, &expected.data, 1e-2, tolerance);
                    continue;
                }
                // Clipped, all gradients are 1 long, and Nesterov's momentum takes a first step of 1.9 times that.
                let moved = distance(&expected.data, &before.data).max(SHORT * 1.9 * LEARNING_RATE);
                let rounding = f64::from(f32::EPSILON) * length(expected.data.iter::<f64>());
                let difference = distance(&found.data, &expected.data);
                if difference > gradient * moved + rounding {
                    return Err(format!("{} moved by {moved:.1e}, with a difference of {difference:.1e}", found.name));
                }
            }
            Ok(())
        });
    }
}
