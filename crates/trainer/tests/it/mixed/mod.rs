//! What the CPU and a GPU are asked alike about mixed precision.

#![allow(dead_code, unreachable_pub, clippy::allow_attributes, reason = "each test binary uses only part of it")]

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ghostnet::GhostNetConfig;
use trainer::loss::one_hot;
use trainer::optimizer::{Optimizer, Rule};
use trainer::precision::LossScale;
use trainer::recipe::Precision;
use trainer::step::{MicroBatch, StepReport, StepSettings, Trainee};

/// What makes a recipe's run one of mixed precision.
pub const MIXED: [&str; 2] = ["--set", "train.precision=mixed"];

/// Every optimizer.
pub const RULES: [Rule; 7] = [
    Rule::Sgd { momentum: 0.0, nesterov: false },
    Rule::Sgd { momentum: 0.9, nesterov: true },
    Rule::AdamW { betas: [0.9, 0.999], epsilon: 1e-8 },
    Rule::RmspropTf { alpha: 0.9, epsilon: 1e-3, momentum: 0.9 },
    Rule::Lamb { betas: [0.9, 0.999], epsilon: 1e-6 },
    Rule::Lion { betas: [0.9, 0.99] },
    Rule::Muon { momentum: 0.95, nesterov: true, betas: [0.9, 0.95], epsilon: 1e-8 },
];

/// Parameters and what the optimizer remembers of them.
fn state(trainee: &Trainee) -> Vec<(String, TensorData)> {
    let model = trainee.model.valid().state(0).into_iter().map(|tensor| (tensor.name, tensor.data));
    // Running statistics follow the batch, whose maps were in range.
    model.filter(|(name, _)| !name.contains("running_")).chain(trainee.optimizer.state()).collect()
}

/// Checks for each optimizer that a step whose scaled loss overflows is skipped, both as the very first step and after an ordinary one,
/// and that the ordinary step after it is not skipped.
pub fn steps_out_of_range_are_skipped(device: &Device, rules: &[Rule]) {
    let config = GhostNetConfig::new(3).with_width(0.25).with_dropout(0.0);
    for &rule in rules {
        let images: Vec<f32> = (0..4 * 3 * 32 * 32).map(|index| (index * 7919 % 1009) as f32 / 504.5 - 1.0).collect();
        let step = |trainee: Trainee| -> (Trainee, StepReport) {
            let batch = MicroBatch {
                images: Tensor::from_data(TensorData::new(images.clone(), [4, 3, 32, 32]), device),
                targets: one_hot(&[0, 1, 2, 0], 3, 0.1, device),
                teacher: None,
            };
            let settings = StepSettings { learning_rate: 1e-3, ..StepSettings::default() };
            let (trainee, measured) = trainee.step(vec![batch], settings).expect("not waited for");
            (trainee, measured.read().expect("a finite loss"))
        };
        device.seed(1);
        let model = config.init(&device.clone().autodiff());
        let mut trainee = Trainee::new(model, Optimizer::new(rule, 0.05)).with_precision(Precision::Mixed);
        for _ in 0..2 {
            trainee.loss_scale = Some(LossScale::from_state([2f32.powi(126), 7.0], device));
            let before = state(&trainee);
            let (skipped, report) = step(trainee);
            assert!(report.was_skipped() && report.loss.is_finite(), "{rule:?} {report:?}");
            let after = state(&skipped);
            for (name, data) in &before {
                let (_, found) = after.iter().find(|(other, _)| other == name).expect("the same names");
                assert!(found == data, "{rule:?} {name}");
            }
            assert_eq!(skipped.loss_scale.as_ref().map(LossScale::state), Some([2f32.powi(125), 0.0]));
            trainee = skipped;
            trainee.loss_scale = Some(LossScale::from_state([16.0, 7.0], device));
            let (stepped, report) = step(trainee);
            assert!(!report.was_skipped(), "{rule:?} {report:?}");
            assert_eq!(stepped.loss_scale.as_ref().map(LossScale::state), Some([16.0, 8.0]));
            let changed = state(&stepped).iter().zip(&after).filter(|(new, old)| new.1 != old.1).count();
            assert!(changed > 100, "{rule:?}: {changed} tensors changed");
            trainee = stepped;
        }
    }
}
