//! Compares optimizers, clipping, losses and Mixup with PyTorch and timm. `gen_traces.py`, one of the generators in the crate `ghostnet`,
//! writes the traces; `tests/fixtures/traces.json` contains those of the features that are implemented here.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;
use trainer::loss::{Distillation, Loss, one_hot};
use trainer::mix::{BatchMix, Mix, PixelBox};
use trainer::optimizer::{Optimizer, Parameter, Rule};
use trainer::step::{MicroBatch, StepSettings, Trainee, adaptive_clip, clip_factor};

use crate::hash_rule::uniform::uniform;

fn traces() -> Value {
    let text = include_str!("../fixtures/traces.json");
    serde_json::from_str(text).expect("the fixture is JSON")
}

/// `(u − 0.5) · 2 · scale`, the rule of the generator's inputs.
fn signed(key: &str, count: usize, scale: f64) -> Vec<f32> {
    uniform(key, count).into_iter().map(|u| ((u - 0.5) * 2.0 * scale) as f32).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap_or_else(|| panic!("{other} is no number"))],
    }
}

fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = tolerance * (1.0 + expected.abs());
        assert!((found - expected).abs() <= allowed, "{what}[{index}]: {found} instead of {expected}");
    }
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

#[test]
fn optimizers_take_pytorchs_steps() {
    let traces = traces();
    let device = Device::flex();
    let cases = traces["optimizers"].as_object().expect("cases");
    assert_eq!(cases.len(), 12);
    for (name, case) in cases {
        let hyper = &case["hyper"];
        let number = |key: &str| hyper[key].as_f64().unwrap_or(0.0);
        let betas = || {
            let betas = numbers(&hyper["betas"]);
            [betas[0], betas[1]]
        };
        let momentum = number("momentum");
        let rule = match name.split('_').next() {
            Some("adamw") => Rule::AdamW { betas: betas(), epsilon: number("eps") },
            Some("lamb") => Rule::Lamb { betas: betas(), epsilon: number("eps") },
            Some("lion") => Rule::Lion { betas: betas() },
            Some("muon") => {
                Rule::Muon { momentum, nesterov: hyper["nesterov"] == true, betas: [0.9, 0.999], epsilon: 1e-8 }
            }
            Some("rmsprop") => Rule::RmspropTf { alpha: number("alpha"), epsilon: number("eps"), momentum },
            _ => Rule::Sgd { momentum, nesterov: hyper["nesterov"].as_bool().unwrap_or(false) },
        };
        let mut optimizer = Optimizer::new(rule, number("weight_decay"));
        let mut parameters = [("p0", "g0", 12), ("p1", "g1", 5)].map(|(name, gradient, count)| {
            (name, gradient, Tensor::<1>::from_floats(signed(name, count, 1.0).as_slice(), &device))
        });
        let steps = case["after_step"].as_array().expect("steps");
        assert_eq!(steps.len(), 5);
        for (step, expected) in steps.iter().enumerate() {
            let learning_rate = case["lr_per_step"].get(step).and_then(Value::as_f64).unwrap_or(number("lr"));
            optimizer.begin_step();
            let gradients = parameters.each_ref().map(|(_, gradient, value)| {
                let gradient = signed(&format!("{gradient}_{}", step + 1), value.dims()[0], 1.0);
                Tensor::<1>::from_floats(gradient.as_slice(), &device)
            });
            // timm's LAMB clips by itself; here the step does it for every rule.
            let norm = ghostnet_kernels::global_norm(&gradients);
            let factor = hyper["max_grad_norm"].as_f64().map_or(1.0, |most| (most / norm).min(1.0));
            for ((parameter, _, value), gradient) in parameters.iter_mut().zip(gradients) {
                let update = Parameter {
                    name: parameter,
                    value: value.clone(),
                    gradient: gradient.mul_scalar(factor),
                    outputs: Some(if *parameter == "p0" { 3 } else { 1 }),
                };
                *value = optimizer.update(update, learning_rate);
                let what = format!("{name}, step {}, {parameter}", step + 1);
                assert_close(&what, &values(value), &numbers(&expected[*parameter]), 2e-6);
            }
        }
    }
}

#[test]
fn an_optimizers_state_written_and_read_gives_the_same_steps() {
    let device = Device::flex();
    let betas = [0.9, 0.999];
    for rule in [
        Rule::Sgd { momentum: 0.9, nesterov: true },
        Rule::AdamW { betas, epsilon: 1e-8 },
        Rule::RmspropTf { alpha: 0.9, epsilon: 1e-3, momentum: 0.9 },
        Rule::Lamb { betas, epsilon: 1e-6 },
        Rule::Lion { betas },
        Rule::Muon { momentum: 0.95, nesterov: true, betas, epsilon: 1e-8 },
    ] {
        let step = |optimizer: &mut Optimizer, value: Tensor<1>, index: usize| {
            optimizer.begin_step();
            let gradient = Tensor::from_floats(signed(&format!("g{index}"), 7, 1.0).as_slice(), &device);
            optimizer.update(Parameter { name: "a.b", value, gradient, outputs: Some(7) }, 0.1)
        };
        let mut whole = Optimizer::new(rule, 0.01);
        let start = Tensor::<1>::from_floats(signed("p", 7, 1.0).as_slice(), &device);
        let value = step(&mut whole, start, 0);
        let mut resumed = Optimizer::new(rule, 0.01);
        resumed.load_state(whole.steps(), whole.state(), &device).expect("its own state");
        let expected = step(&mut whole, value.clone(), 1);
        step(&mut resumed, value, 1).into_data().assert_eq(&expected.into_data(), true);
    }
}

#[test]
fn losses_and_their_gradients_are_pytorchs() {
    let losses = &traces()["losses"];
    let device = Device::flex().autodiff();
    let labels: Vec<usize> = numbers(&losses["targets"]).into_iter().map(|label| label as usize).collect();
    let hard = |smoothing| one_hot(&labels, 5, smoothing, &device);
    let mixed: Vec<f32> = numbers(&losses["mixed_targets"]).into_iter().map(|share| share as f32).collect();
    let mixed = Tensor::from_data(TensorData::new(mixed, [4, 5]), &device);
    let teacher = Tensor::<2>::from_data(TensorData::new(signed("teacher", 20, 3.0), [4, 5]), &device);
    let class_weights = Tensor::<1>::from_floats([0.5, 1.0, 2.0, 0.25, 1.25], &device).reshape([1, 5]);
    let check = |name: &str, loss: &dyn Fn(Tensor<2>) -> Tensor<1>| {
        let logits = TensorData::new(signed("logits", 20, 3.0), [4, 5]);
        let logits = Tensor::<2>::from_data(logits, &device).require_grad();
        let loss = loss(logits.clone());
        let case = &losses["cases"][name];
        assert_close(name, &values(&loss), &numbers(&case["loss"]), 1e-6);
        let gradient = logits.grad(&loss.backward()).expect("a gradient");
        assert_close(name, &values(&gradient), &numbers(&case["grad"]), 1e-6);
    };
    let binary = |threshold, sum_classes| Loss::BinaryCrossEntropy { threshold, sum_classes };
    for (name, loss, targets) in [
        ("ce", Loss::CrossEntropy, hard(0.0)),
        ("ce_smoothing_0.1", Loss::CrossEntropy, hard(0.1)),
        ("soft_ce_mixed", Loss::CrossEntropy, mixed.clone()),
        ("bce_smoothing_0.1", binary(None, false), hard(0.1)),
        ("bce_smoothing_0.1_sum_classes", binary(None, true), hard(0.1)),
        ("bce_mixed_threshold_0.2", binary(Some(0.2), false), mixed.clone()),
        ("ce_weighted_mixed", Loss::CrossEntropy, mixed * class_weights),
    ] {
        check(name, &|logits| loss.of(logits, targets.clone()));
    }
    let distillation = |temperature| Distillation { temperature, weight: 1.0, task_weight: 1.0 };
    for (name, temperature) in [("kd_kl_T1", 1.0), ("kd_kl_T4", 4.0)] {
        check(name, &|logits| distillation(temperature).of_teacher(logits, teacher.clone()));
    }
    check("ce_smoothing_0.1_plus_kd_kl_T4", &|logits| {
        let of_labels = Loss::CrossEntropy.of(logits.clone(), hard(0.1));
        distillation(4.0).add(of_labels, logits, teacher.clone())
    });
}

#[test]
fn clipping_scales_gradients_as_pytorch_does() {
    let case = &traces()["clipping"]["global_norm"];
    let gradients =
        [signed("g0_1", 12, 1.0), signed("g1_1", 5, 1.0)].map(|g| g.into_iter().map(f64::from).collect::<Vec<_>>());
    let norm = gradients.iter().flatten().map(|value| value * value).sum::<f64>().sqrt();
    assert_close("norm", &[norm], &numbers(&case["norm_before"]), 1e-6);
    let factor = clip_factor(norm, case["max_norm"].as_f64().expect("a number"));
    for (gradient, name) in gradients.iter().zip(["p0", "p1"]) {
        let clipped: Vec<f64> = gradient.iter().map(|value| value * factor).collect();
        assert_close(name, &clipped, &numbers(&case["grads_after"][name]), 1e-6);
    }
    assert_eq!(clip_factor(0.5, 1.0), 1.0, "small gradients stay as they are");

    let case = &traces()["clipping"]["agc"];
    let factor = case["clip_factor"].as_f64().expect("a number");
    for (gradient, name, shape) in [("g0_1", "p0", [3, 4]), ("g1_1", "p1", [1, 5])] {
        let tensor = |key: &str| {
            let values = TensorData::new(signed(key, shape[0] * shape[1], 1.0), shape);
            Tensor::<2>::from_data(values, &Device::flex())
        };
        let clipped = adaptive_clip(tensor(name), tensor(gradient), factor);
        assert_close(name, &values(&clipped), &numbers(&case["grads_after"][name]), 1e-6);
    }
}

/// A small network, the same every time, and its state after one step.
fn stepped(weight_decay: f64, batches: usize) -> Vec<ghostnet::NamedTensor> {
    let device = Device::flex();
    let network = ghostnet::GhostNetConfig::new(3).with_width(0.25).with_dropout(0.0).init(&device.clone().autodiff());
    let tensors = network.state(0).into_iter().filter(|tensor| !tensor.name.ends_with("num_batches_tracked"));
    let tensors = tensors
        .map(|tensor| {
            let values = signed(&tensor.name, tensor.data.num_elements(), 0.2);
            let is_variance = tensor.name.ends_with("running_var");
            let values: Vec<f32> =
                values.into_iter().map(|value| if is_variance { value + 1.0 } else { value }).collect();
            ghostnet::NamedTensor { name: tensor.name, data: TensorData::new(values, tensor.data.shape().clone()) }
        })
        .collect();
    let network = network.load_state(tensors).expect("the same network");
    let images = TensorData::new(signed("images", 4 * 3 * 32 * 32, 1.0), [4, 3, 32, 32]);
    let batch = MicroBatch {
        images: Tensor::from_data(images, &device),
        targets: one_hot(&[0, 1, 2, 1], 3, 0.1, &device),
        teacher: None,
    };
    let rule = Rule::Sgd { momentum: 0.9, nesterov: true };
    let settings = StepSettings { learning_rate: 0.5, ..StepSettings::default() };
    let trainee = Trainee::new(network, Optimizer::new(rule, weight_decay));
    let (trainee, _) = trainee.step(vec![batch; batches], settings).expect("finite");
    trainee.model.valid().state(0)
}

#[test]
fn weight_decay_skips_norms_and_biases_and_nothing_else() {
    for (with, without) in stepped(0.1, 1).iter().zip(&stepped(0.0, 1)) {
        let is_running = with.name.contains("running_") || with.name.ends_with("num_batches_tracked");
        let decays = with.data.shape().num_dims() > 1 && !is_running;
        assert_eq!(with.data != without.data, decays, "{}", with.name);
    }
}

#[test]
fn accumulation_averages() {
    for (twice, once) in stepped(0.1, 2).iter().zip(&stepped(0.1, 1)) {
        if !twice.name.contains("running_") {
            let [twice_values, once_values] = [twice, once].map(|tensor| tensor.data.iter::<f64>().collect::<Vec<_>>());
            assert_close(&twice.name, &twice_values, &once_values, 1e-6);
        }
    }
}

#[test]
fn mixup_and_cutmix_mix_images_and_targets_as_timm_does() {
    let mixing = &traces()["mixing"];
    let device = Device::flex();
    let labels: Vec<usize> = numbers(&mixing["targets"]).into_iter().map(|label| label as usize).collect();
    for (name, case) in mixing["cases"].as_object().expect("cases") {
        let images = TensorData::new(signed("mix_x", 4 * 2 * 6 * 5, 1.0), [4, 2, 6, 5]);
        let images = Tensor::<4>::from_data(images, &device);
        let targets = one_hot(&labels, 5, 0.1, &device);
        let flags = |key: &str| case[key].as_array().map(|flags| flags.iter().map(|flag| flag == true).collect());
        let corners: Vec<usize> =
            numbers(&case["boxes_yl_yh_xl_xh"]).into_iter().map(|corner| corner as usize).collect();
        let mut boxes = corners.chunks_exact(4);
        let cuts: Vec<bool> = flags("use_cutmix").unwrap_or(vec![case["use_cutmix"] == true]);
        let mixes = numbers(&case["lam_drawn"]).into_iter().zip(cuts).map(|(share, is_cut)| match (is_cut, share) {
            (true, _) => {
                let Some(&[top, bottom, left, right]) = boxes.next() else { panic!("{name} has too few boxes") };
                Mix::cut(PixelBox { top, bottom, left, right }, 6, 5)
            }
            (false, 1.0) => Mix::None,
            (false, share) => Mix::Mixup { share },
        });
        let mut mixes: Vec<Mix> = mixes.collect();
        let mix = match case["mode"].as_str() {
            Some("batch") => BatchMix::Whole(mixes[0]),
            Some("pair") => {
                let partners: Vec<Mix> = mixes.iter().rev().copied().collect();
                mixes.extend(partners);
                BatchMix::Each(mixes)
            }
            _ => BatchMix::Each(mixes),
        };
        let (images, targets) = mix.apply(images, targets);
        assert_close(&format!("{name} images"), &values(&images), &numbers(&case["x"]), 1e-6);
        assert_close(&format!("{name} targets"), &values(&targets), &numbers(&case["targets"]), 1e-6);
    }
}
