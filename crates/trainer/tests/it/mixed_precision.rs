//! Mixed precision on the CPU, whose 16-bit floats are slow and as good as any: against 32 bits, over a kill, and where gradients leave
//! the range of 16 bits. What a GPU makes of it is in `tests/gpu/`.

use burn::tensor::Device;

use crate::scene::{self, COMPARABLE, Scene, difference, losses};
use crate::{alone, mixed};

/// Losses of the two precisions may part by this share: 16 bits round by 5e-4, and a network adds such errors up.
const SHARE: f64 = 2e-2;

#[test]
fn the_curve_is_that_of_32_bits() {
    let scene = Scene::new();
    scene.train("single", &COMPARABLE);
    scene.train("mixed", &[&COMPARABLE[..], &mixed::MIXED].concat());
    let [single, half] = ["single", "mixed"].map(|out| losses(&scene, out));
    let share = difference(&half, &single);
    assert!(share > 0.0 && share < SHARE, "{share:.1e}: {half:?} {single:?}");
    let scales: Vec<_> = scene.metrics("mixed").iter().filter_map(|line| line["loss_scale"].as_f64()).collect();
    assert_eq!(scales.len(), 20, "{scales:?}");
    assert!(scene.metrics("single").iter().all(|line| line.get("loss_scale").is_none()));
    // The file is one of 32 bits.
    let tensors = scene::tensors(&scene.checkpoints("mixed").pop().expect("a checkpoint").join("model.safetensors"));
    assert!(tensors.values().all(|data| data.dtype() != burn::tensor::DType::F16));
}

#[test]
fn a_run_goes_on_bit_for_bit_with_its_loss_scale() {
    let scene = Scene::new();
    scene.train("whole", &mixed::MIXED);
    scene.train("cut", &mixed::MIXED);
    for checkpoint in scene.checkpoints("cut").iter().filter(|path| !path.ends_with("step-00000004")) {
        std::fs::remove_dir_all(checkpoint).expect("a folder");
    }
    scene.train("cut", &mixed::MIXED);
    assert_eq!(scene.metrics("cut"), scene.metrics("whole"));
    assert!(scene.final_model("cut") == scene.final_model("whole"));
}

#[test]
fn a_step_out_of_the_range_of_16_bits_changes_the_scale_and_no_weight() {
    // The network is drawn from the device's seed, which is process-wide.
    alone::run("mixed_precision::a_step_out_of_the_range_of_16_bits_changes_the_scale_and_no_weight", || {
        mixed::steps_out_of_range_are_skipped(&Device::flex(), &mixed::RULES);
    });
}
