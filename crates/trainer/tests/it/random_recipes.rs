//! Whatever options a recipe combines, a run that was killed goes on as if nothing had happened. Recipes are drawn from a seed; a
//! failure names the recipe, whose arguments can be typed again.

use std::process::Stdio;
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scene::Scene;

/// Recipes drawn; `GHOSTNET_RECIPES=50` for the long test.
fn num_recipes() -> u64 {
    std::env::var("GHOSTNET_RECIPES").ok().and_then(|count| count.parse().ok()).unwrap_or(4)
}

/// One of each row is drawn; an empty one leaves the scene's recipe as it is. Several arguments are separated by a semicolon.
const CHOICES: &[&[&str]] = &[
    &[
        "",
        "optimizer={kind='adamw', learning_rate=1e-3, weight_decay=0.05}",
        "optimizer={kind='rmsprop_tf', learning_rate=1e-3, weight_decay=1e-5}",
        "optimizer={kind='lamb', learning_rate=5e-3, weight_decay=0.02}",
        "optimizer={kind='lion', learning_rate=1e-4, weight_decay=0.1}",
        "optimizer={kind='muon', learning_rate=1e-3, weight_decay=0.1}",
        "optimizer={kind='sgd', learning_rate=0.1, lr_per=16, momentum=0.0}",
    ],
    &[
        "",
        "schedule={kind='linear', minimum=1e-5, cooldown={steps=2}}",
        "schedule={kind='step', decay_every={epochs=0.4}, decay_rate=0.9, warmup={steps=3}, warmup_prefix=false}",
        "schedule={kind='exponential', decay_every={epochs=0.4}, decay_rate=0.9}",
        "schedule={kind='plateau', patience=0, decay_rate=0.5}",
        "schedule={kind='constant', noise={from=0.2, to=0.9}}",
    ],
    &["", "train.label_smoothing=0", "train.bce={threshold=0.2}", "train.class_weights=balanced"],
    &["", "train.mix_mode=pair", "train.mix_mode=elem"],
    &["", "train.ema={decay=0.99}", "train.ema={decay=0.9, warmup=false}"],
    &["", "train.clip_norm=0.5", "train={total={epochs=2}, adaptive_clip=0.02, log_every=3}"],
    &["", "train.accumulate=2", "train.micro_batch_size=2"],
    &["", "", "train.precision=mixed"],
    &["", "train.stage=[{until={steps=3}, image_size=48}, {until={steps=5}, image_size=40}]"],
    &[
        "",
        "data.train=[{random_resized_crop={}}, {rand_augment={magnitude_std=0.5, increasing=true}}, {random_erasing={mode='pixel'}}]",
        "data.train=[{random_resized_crop={}}, {trivial_augment={}}]",
        "data.train=[{pad_random_crop={}}, {auto_augment={}}]",
        "data.train=[{random_resized_crop={}}, {aug_mix={}}]",
        "data.train=[{random_resized_crop={}}, {three_augment={}}, {color_jitter={}}]",
    ],
    &["", "data.sampling=balanced", "data.sampling={repeated=3}"],
    &[
        "",
        "finetune={weights='base', freeze_stages=3}",
        "finetune={weights='base', head_warmup={steps=3}, layer_decay=0.8}",
    ],
    &["", "distill={teacher='base', temperature=2.0}"],
    &["", "eval.every={steps=1};eval.splits=['train', 'val']", "eval.patience=2"],
    &["", "checkpoint.every={steps=1}", "checkpoint.keep=1"],
    &["", "data.workers=0"],
    &["", "model.variant=ghostnet_paddle"],
];

/// All that the last checkpoint holds, but for what depends on the clock.
fn last_checkpoint(scene: &Scene, out: &str) -> Vec<(String, Vec<u8>)> {
    let checkpoint = scene.checkpoints(out).pop().expect("a checkpoint");
    let files = ["model.safetensors", "ema.safetensors", "optimizer.safetensors"];
    let mut found: Vec<(String, Vec<u8>)> = files
        .iter()
        .filter_map(|name| Some(((*name).to_string(), std::fs::read(checkpoint.join(name)).ok()?)))
        .collect();
    let state = std::fs::read(checkpoint.join("state.json")).expect("a state");
    let mut progress = serde_json::from_slice::<serde_json::Value>(&state).expect("JSON")["progress"].take();
    // What depends on the clock.
    for key in ["seconds", "metrics_bytes"] {
        progress.as_object_mut().expect("an object").remove(key);
    }
    found.push(("progress".to_string(), progress.to_string().into_bytes()));
    found
}

fn last_step(scene: &Scene, out: &str) -> String {
    let checkpoint = scene.checkpoints(out).pop().expect("a checkpoint");
    checkpoint.file_name().expect("a name").to_string_lossy().into_owned()
}

#[test]
fn a_run_of_any_recipe_that_is_killed_ends_as_the_run_that_was_never_killed() {
    let scene = Scene::new();
    // Classes of different sizes, so that weights and sampling by class matter.
    scene.photos("photos", &["cat"], 14, 2);
    scene.train("base", &["--set", "train.total={steps=3}"]);
    let mut num_cut_off = 0;
    for number in 0..num_recipes() {
        let mut random = ChaCha8Rng::seed_from_u64(number);
        let mut drawn: Vec<&str> = CHOICES
            .iter()
            .flat_map(|choices| choices.choose(&mut random).expect("a choice").split(';'))
            .filter(|change| !change.is_empty())
            .collect();
        // The pairs that are refused; `base` is of the official lineage.
        if drawn.contains(&"train.class_weights=balanced") {
            drawn.retain(|change| *change != "data.sampling=balanced");
        }
        if drawn.iter().any(|change| change.starts_with("finetune")) {
            drawn.retain(|change| !change.starts_with("model.variant"));
        }
        let changes: Vec<&str> = drawn.iter().flat_map(|change| ["--set", change]).collect();
        for out in ["whole", "run"] {
            if scene.path(out).exists() {
                std::fs::remove_dir_all(scene.path(out)).expect("a folder");
            }
        }
        scene.train("whole", &changes);
        let stop_at = scene.path("run/checkpoints").join(format!("step-{:08}", 2 * random.random_range(1..=2)));
        let args =
            [&["train", "--config", "recipe.toml", "--device", "cpu", "--out", "run", "-q"], &changes[..]].concat();
        let mut child = scene.command(&args).stderr(Stdio::null()).spawn().expect("the program starts");
        while !stop_at.exists() && child.try_wait().expect("a status").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(random.random_range(0..40)));
        child.kill().expect("SIGKILL");
        child.wait().expect("it ends");
        num_cut_off += u64::from(last_step(&scene, "run") < last_step(&scene, "whole"));
        scene.train("run", &changes);
        assert!(last_checkpoint(&scene, "run") == last_checkpoint(&scene, "whole"), "numbers differ: {drawn:?}");
        assert_eq!(scene.metrics("run"), scene.metrics("whole"), "metrics differ: {drawn:?}");
    }
    assert!(num_cut_off > 0, "no kill came before the end");
}
