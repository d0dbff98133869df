//! The build that people have by default, which tunes kernels and fuses operations, on an adapter: against the CPU.

#![cfg(all(feature = "wgpu", feature = "tuned"))]

mod scene;

use std::process::Output;

use scene::{Scene, difference, losses};

/// Losses of two devices may part by this share in two steps.
const SHARE: f64 = 1e-3;

fn train(scene: &Scene, out: &str, device: &str) -> Output {
    let sets =
        ["data.image_size=32", "data.batch_size=4", "model.dropout=0.0", "train.total={steps=2}", "model.width=0.25"];
    let mut command =
        scene.command(&["train", "--config", "recipe.toml", "--out", out, "--device", device, "--no-progress"]);
    sets.iter().for_each(|set| {
        command.args(["--set", set]);
    });
    command.env("GHOSTNET_TUNE_SOFTWARE", "on").env("CUBECL_AUTOTUNE_LEVEL", "minimal");
    command.env("XDG_CACHE_HOME", scene.path("cache")).output().expect("the program starts")
}

#[test]
#[ignore = "tunes for minutes on a software adapter: `cargo test -p trainer --test tuned -- --ignored`"]
fn runs_that_tune_and_that_find_what_was_tuned_are_those_of_the_cpu() {
    let scene = Scene::new();
    let [cpu, tuning, tuned] = [("cpu", "cpu"), ("tuning", "wgpu:0"), ("tuned", "wgpu:0")].map(|(out, device)| {
        let output = train(&scene, out, device);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), stderr, out)
    });
    if tuning.1.contains("is not there") && std::env::var_os("GHOSTNET_REQUIRE_ADAPTER").is_none() {
        return;
    }
    for (is_success, stderr, out) in [&cpu, &tuning, &tuned] {
        assert!(is_success, "{out}: {stderr}");
    }
    let expected = losses(&scene, "cpu");
    assert_eq!(expected.len(), 2);
    for out in ["tuning", "tuned"] {
        let found = losses(&scene, out);
        assert!(difference(&found, &expected) < SHARE, "{out}: {found:?} {expected:?}");
    }
    let kept = std::fs::read_dir(scene.path("cache/ghostnet/tuning")).expect("what was tuned").count();
    assert!(kept > 0);
    assert!(tuning.1.contains("tuning kernels"), "{}", tuning.1);
}
