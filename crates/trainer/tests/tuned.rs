//! Compares training on an adapter, in builds that tune and fuse, with training on the CPU. With the feature `tuning-cache`, a second process
//! reads what the first one measured.

#![cfg(all(feature = "wgpu", feature = "tuned"))]

#[path = "it/scene/mod.rs"]
mod scene;

use std::process::Output;

use scene::{Scene, difference, losses};

/// Largest relative difference between the losses of two devices over two steps.
const SHARE: f64 = 1e-3;

/// Runs the program, which may tune kernels on a software adapter too, and keeps what it measures in the scene.
fn run(scene: &Scene, args: &[&str]) -> Output {
    let mut command = scene.command(args);
    command.env("GHOSTNET_TUNE_SOFTWARE", "on").env("CUBECL_AUTOTUNE_LEVEL", "minimal");
    command.env("XDG_CACHE_HOME", scene.path("cache")).output().expect("the program starts")
}

fn train(scene: &Scene, out: &str, device: &str) -> Output {
    // The six validation images are one batch too, so that evaluation needs no kernels for other shapes.
    let sets =
        ["data.image_size=32", "data.batch_size=6", "model.dropout=0.0", "train.total={steps=2}", "model.width=0.25"];
    let args = ["train", "--config", "recipe.toml", "--out", out, "--device", device, "--no-progress"];
    run(scene, &[&args[..], &sets.map(|set| ["--set", set]).concat()].concat())
}

/// The loss of a run's validation images.
fn evaluate(scene: &Scene, out: &str, device: &str) -> f64 {
    // The check of the run is enough; that of a measurement would tune for it alone.
    let args = ["eval", out, "--device", device, "--format", "json", "--no-device-check"];
    let output = run(scene, &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    report["loss"].as_f64().expect("a loss")
}

#[test]
#[ignore = "tunes for minutes on a software adapter: `cargo test -p trainer --test tuned -- --ignored`"]
fn runs_that_tune_and_that_find_what_was_tuned_are_those_of_the_cpu() {
    let scene = Scene::new();
    let train = |out: &str, device: &str| {
        let output = train(&scene, out, device);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (is_success, stderr) = train("cpu", "cpu");
    assert!(is_success, "{stderr}");
    let expected = losses(&scene, "cpu");
    assert_eq!(expected.len(), 2);
    let (is_success, stderr) = train("tuning", "wgpu:0");
    if stderr.contains("is not there") && std::env::var_os("GHOSTNET_REQUIRE_ADAPTER").is_none() {
        return;
    }
    assert!(is_success, "{stderr}");
    assert!(stderr.contains("agree with the CPU") && stderr.contains("tuning kernels"), "{stderr}");
    let found = losses(&scene, "tuning");
    assert!(difference(&found, &expected) < SHARE, "{found:?} {expected:?}");
    let kept = std::fs::read_dir(scene.path("cache/ghostnet/tuning")).map_or(0, Iterator::count);
    assert_eq!(kept > 0, cfg!(feature = "tuning-cache"));
    if kept > 0 {
        // The second process finds what the first one measured in its evaluation.
        let [found, expected] = ["wgpu:0", "cpu"].map(|device| evaluate(&scene, "tuning", device));
        assert!((found - expected).abs() < SHARE * expected, "{found} {expected}");
    }
}
