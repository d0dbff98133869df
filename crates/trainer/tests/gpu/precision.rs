//! Mixed precision on the adapter.

use crate::runs::{GPU, cut_back, train};
use crate::scene::{COMPARABLE, Scene, difference, losses};
use crate::{adapter, gpu, mixed};

/// Losses of two devices may part by this share: each rounds maps to 16 bits in places of its own, and 16 bits round by 5e-4.
const SHARE: f64 = 2e-2;

fn has_f16() -> bool {
    gpu().is_some_and(|device| device.supports_dtype(burn::tensor::DType::F16))
}

#[test]
fn the_curve_is_that_of_the_cpu_and_a_run_goes_on_exactly_with_its_loss_scale() {
    if !has_f16() {
        return;
    }
    let scene = Scene::new();
    let more = [&COMPARABLE[..], &mixed::MIXED, &["--set", "train.total={steps=8}"]].concat();
    train(&scene, "cpu", "cpu", &more);
    train(&scene, "gpu", GPU, &more);
    let (found, expected) = (losses(&scene, "gpu"), losses(&scene, "cpu"));
    let share = difference(&found, &expected);
    assert!(share < SHARE, "{share:.1e}: {found:?} {expected:?}");

    let (whole, model) = (scene.metrics("gpu"), scene.final_model("gpu"));
    assert!(whole.iter().any(|line| line["loss_scale"].as_f64().is_some()));
    cut_back(&scene, "gpu", 4);
    train(&scene, "gpu", GPU, &more);
    assert_eq!(scene.metrics("gpu"), whole);
    assert!(scene.final_model("gpu") == model);
}

#[test]
fn a_step_out_of_the_range_of_16_bits_changes_the_scale_and_no_weight() {
    if has_f16() {
        // `Optimizer::update_if` takes back the update of any optimizer, and the test on the CPU covers them all. AdamW has two moments and a
        // number of steps to take back.
        let [_, _, adamw, ..] = mixed::RULES;
        mixed::steps_out_of_range_are_skipped(&adapter().expect("an adapter").device, &[adamw]);
    }
}
