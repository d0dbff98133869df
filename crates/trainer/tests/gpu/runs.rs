//! Runs of the program on the adapter: against the CPU, against themselves, cut off, and moved from one device to the other.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::adapter;
use crate::scene::{COMPARABLE, Scene, difference, losses, tensors};

pub(crate) const GPU: &str = "wgpu:0";

fn arguments<'a>(out: &'a str, device: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args =
        ["train", "--config", "recipe.toml", "--out", out, "--device", device, "--no-progress", "--no-device-check"];
    [&args[..], more].concat()
}

/// What was written to stderr.
pub(crate) fn train(scene: &Scene, out: &str, device: &str, more: &[&str]) -> String {
    let output = scene.run(&arguments(out, device, more));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    stderr
}

pub(crate) fn json(scene: &Scene, args: &[&str]) -> Value {
    let output = scene.run(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Largest relative difference between the losses of two devices in the first steps, before training amplifies rounding.
const AT_FIRST: f64 = 1e-4;

/// Largest relative difference between the losses of two devices in the two steps after a run moves. On software Vulkan, rounding causes
/// a difference of 4e-6, and an optimizer that loses its momentum causes 5e-5.
const AFTER_A_MOVE: f64 = 2e-5;

/// Largest relative difference between the losses of two devices over twenty steps. Rounding moves activations across the kink of a
/// nonlinearity, and training amplifies the difference: on the CPU, the losses with and without the kernels differ by 1e-3 to 5e-3,
/// depending on the seed. This limit is ten times as large.
const IN_TWENTY_STEPS: f64 = 5e-2;

#[test]
fn the_curve_of_twenty_steps_is_that_of_the_cpu() {
    if adapter().is_none() {
        return;
    }
    let scene = Scene::new();
    train(&scene, "cpu", "cpu", &COMPARABLE);
    train(&scene, "gpu", GPU, &COMPARABLE);
    let (found, expected) = (losses(&scene, "gpu"), losses(&scene, "cpu"));
    assert_eq!(found.len(), 20);
    let [first, all] = [3, 20].map(|steps| difference(&found[..steps], &expected[..steps]));
    assert!(first < AT_FIRST && all < IN_TWENTY_STEPS, "{first:.1e} {all:.1e}: {found:?} {expected:?}");

    // The same model on both devices.
    let at = |device| json(&scene, &["eval", "cpu", "--device", device, "--format", "json"]);
    let (found, expected) = (at(GPU), at("cpu"));
    for key in ["num_images", "top1", "top5", "confusion"] {
        assert_eq!(found[key], expected[key], "{key}");
    }
    let loss = |value: &Value| value["loss"].as_f64().expect("a loss");
    assert!((loss(&found) - loss(&expected)).abs() < 1e-4 * loss(&expected), "{} {}", found["loss"], expected["loss"]);
    let files = ["photos/val/dog/000.png", "photos/val/cat/001.png"];
    let on =
        |device| json(&scene, &[&["predict", "cpu"], &files[..], &["--device", device, "--format", "json"]].concat());
    let (found, expected) = (on(GPU), on("cpu"));
    for (found, expected) in found.as_array().expect("a list").iter().zip(expected.as_array().expect("a list")) {
        for (found, expected) in [0, 1, 2].map(|place| (&found["guesses"][place], &expected["guesses"][place])) {
            assert_eq!(found["class"], expected["class"]);
            let probability = |guess: &Value| guess["probability"].as_f64().expect("a probability");
            assert!((probability(found) - probability(expected)).abs() < 1e-4, "{found} {expected}");
        }
    }
}

#[test]
fn the_bundled_images_are_learnt() {
    if adapter().is_none() {
        return;
    }
    let scene = Scene::empty();
    let sets = [
        "model.width=0.25",
        "train.total={steps=24}",
        "train.log_every=1",
        "schedule.warmup={steps=4}",
        "eval.every={steps=1000}",
    ];
    let mut args = vec!["train", "--config", "ghostnet_1x.toml", "--device", GPU, "--out", "run", "-q"];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    let output = scene.run(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let losses = losses(&scene, "run");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..4]), mean(&losses[20..]));
    assert!(last < first - 0.3, "{first} {last}: {losses:?}");
}

#[test]
fn a_run_repeats_itself_and_goes_on_exactly_after_it_was_killed() {
    if adapter().is_none() {
        return;
    }
    let scene = Scene::new();
    // An epoch with CutMix and two steps without; Mixup and dropout included.
    let more = ["--set", "train.total={steps=8}"];
    train(&scene, "whole", GPU, &more);
    let mut child =
        scene.command(&arguments("cut", GPU, &more)).stderr(Stdio::null()).spawn().expect("the program starts");
    while !scene.path("cut/checkpoints/step-00000004").exists() {
        assert!(child.try_wait().expect("a status").is_none(), "the run ended too early");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("it ends");
    let stderr = train(&scene, "cut", GPU, &more);
    assert!(!stderr.contains("bit for bit"), "{stderr}");
    assert_eq!(scene.metrics("cut"), scene.metrics("whole"));
    assert!(scene.final_model("cut") == scene.final_model("whole"));
}

#[test]
fn maps_that_are_made_anew_change_no_bit() {
    if adapter().is_none() {
        return;
    }
    let scene = Scene::new();
    let steps = "train.total={steps=6}";
    train(&scene, "kept", GPU, &["--set", steps]);
    train(&scene, "anew", GPU, &["--set", steps, "--set", "train.checkpoint_activations=true"]);
    assert_eq!(scene.metrics("anew"), scene.metrics("kept"));
    let [kept, anew] = ["kept", "anew"]
        .map(|out| tensors(&scene.checkpoints(out).pop().expect("a checkpoint").join("model.safetensors")));
    assert!(kept == anew);
}

/// Leaves a run as it was after a step that it has a checkpoint of.
pub(crate) fn cut_back(scene: &Scene, out: &str, step: u64) {
    let is_later = |path: &Path| path.file_name().is_some_and(|name| *name > *format!("step-{step:08}"));
    for checkpoint in scene.checkpoints(out).iter().filter(|path| is_later(path)) {
        std::fs::remove_dir_all(checkpoint).expect("a folder");
    }
}

#[test]
fn a_run_moves_from_one_device_to_the_other_and_says_so() {
    let Some(chosen) = adapter() else { return };
    let scene = Scene::new();
    let more = [&COMPARABLE[..], &["--set", "train.total={steps=10}"]].concat();
    train(&scene, "cpu", "cpu", &more);
    let expected = losses(&scene, "cpu");
    for (out, first, second) in [("to_gpu", "cpu", GPU), ("to_cpu", GPU, "cpu")] {
        train(&scene, out, first, &more);
        let whole = losses(&scene, out);
        cut_back(&scene, out, 4);
        let stderr = train(&scene, out, second, &more);
        let warning = stderr.lines().find(|line| line.contains("not bit for bit")).unwrap_or_default();
        assert!(warning.starts_with("warning: the run was on `"), "{stderr}");
        let names = [warning.find(&chosen.name), warning.find("cpu (")].map(|place| place.expect("both devices"));
        assert_eq!(names[0] > names[1], first == "cpu", "{warning}");
        let moved = losses(&scene, out);
        assert_eq!(moved[..4], whole[..4], "what was done before stays");
        // The loss of the fifth step shows whether the weights were carried over, and that of the sixth whether the optimizer state was.
        let [next, all] = [difference(&moved[4..6], &whole[4..6]), difference(&moved, &expected)];
        assert!(next < AFTER_A_MOVE && all < IN_TWENTY_STEPS, "{next:.1e} {all:.1e}: {moved:?} {whole:?} {expected:?}");
        // From now on it is a run of the second device.
        cut_back(&scene, out, 8);
        assert!(!train(&scene, out, second, &more).contains("bit for bit"));
        let environment = std::fs::read_to_string(scene.path(out).join("environment.json")).expect("a file");
        assert_eq!(environment.contains(&chosen.name), second == GPU, "{environment}");
    }
}
