//! The GPU path against the CPU: forward, gradients and one optimizer step of a small GhostNet, 64×64, batch 4.
//! The last maps are then 2×2, so that a batch norm sees 16 values of a channel. With the two that 32×32 and batch 2 leave, it
//! is all but a step function, and rounding alone turns gradients over.
//!
//! Any adapter will do, a software one included, where the build does not tune kernels: on software Vulkan tuning takes hours.
//! `GHOSTNET_REQUIRE_ADAPTER=1` makes a missing adapter a failure.

#![cfg(all(feature = "wgpu", not(feature = "tuned")))]

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ghostnet::{GhostNet, GhostNetConfig, NamedTensor};
use trainer::device::{DeviceChoice, choose};
use trainer::loss::one_hot;
use trainer::optimizer::{Optimizer, Rule};
use trainer::step::{MicroBatch, StepSettings, Trainee};

fn adapter() -> Option<Device> {
    match choose(DeviceChoice::Wgpu(Some(0))) {
        Ok(chosen) => Some(chosen.device),
        Err(error) => {
            assert!(std::env::var_os("GHOSTNET_REQUIRE_ADAPTER").is_none(), "{error:#}");
            None
        }
    }
}

fn model(device: &Device, state: Option<Vec<NamedTensor>>) -> GhostNet {
    let model = GhostNetConfig::new(4).with_width(0.25).with_dropout(0.0).init(device);
    match state {
        Some(state) => model.load_state(state).expect("the same network"),
        None => model,
    }
}

fn images(device: &Device) -> Tensor<4> {
    let values: Vec<f32> = (0..4 * 3 * 64 * 64).map(|i| ((i * 7919 % 1000) as f32 / 500.0) - 1.0).collect();
    Tensor::from_data(TensorData::new(values, [4, 3, 64, 64]), device)
}

fn assert_close(what: &str, found: &TensorData, expected: &TensorData, tolerance: f64) {
    let scale = expected.iter::<f64>().fold(1e-3, |largest, value| value.abs().max(largest));
    for (index, (found, expected)) in found.iter::<f64>().zip(expected.iter::<f64>()).enumerate() {
        assert!((found - expected).abs() <= tolerance * scale, "{what}[{index}]: {found} instead of {expected}");
    }
}

#[test]
fn forward_gradients_and_one_step_agree_with_the_cpu() {
    let Some(gpu) = adapter() else { return };
    let cpu = Device::flex();
    cpu.seed(3);
    let state = model(&cpu, None).state(0);

    let logits = |device: &Device| model(device, Some(state.clone())).forward(images(device)).into_data();
    assert_close("logits", &logits(&gpu), &logits(&cpu), 1e-3);

    // Without momentum and with rate 1 a step's change of the weights is the gradient.
    let stepped = |device: &Device, rule: Rule, learning_rate: f64| {
        let model = model(&device.clone().autodiff(), Some(state.clone()));
        let batch =
            MicroBatch { images: images(device), targets: one_hot(&[1, 3, 0, 2], 4, 0.1, device), teacher: None };
        let settings = StepSettings { learning_rate, clip_norm: Some(5.0), ..StepSettings::default() };
        let trainee = Trainee::new(model, Optimizer::new(rule, 1e-2));
        let (trainee, measured) = trainee.step(vec![batch], settings).expect("finite");
        let report = measured.read().expect("finite");
        (trainee.model.valid().state(1), report)
    };
    for (rule, learning_rate) in
        [(Rule::Sgd { momentum: 0.0, nesterov: false }, 1.0), (Rule::Sgd { momentum: 0.9, nesterov: true }, 0.1)]
    {
        let (found, found_report) = stepped(&gpu, rule, learning_rate);
        let (expected, expected_report) = stepped(&cpu, rule, learning_rate);
        assert!((found_report.loss - expected_report.loss).abs() < 1e-3, "{found_report:?} {expected_report:?}");
        let norm = expected_report.gradient_norm;
        assert!((found_report.gradient_norm - norm).abs() < 5e-3 * norm, "{found_report:?} {expected_report:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.name, expected.name);
            assert_close(&expected.name, &found.data, &expected.data, 1e-2);
        }
    }
}
