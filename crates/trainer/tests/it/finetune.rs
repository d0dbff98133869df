//! Fine-tuning through the binary: what is taken over, what is frozen, what is refused, and that it resumes.

use std::path::Path;
use std::process::Stdio;

use insta::assert_snapshot;
use trainer::finetune::stages_to_head;

use crate::scene::{Scene, tensors};

/// The scene with a finished run in `first`, and images of two other classes in `birds`.
fn scene_with_a_run() -> Scene {
    let scene = Scene::new();
    scene.photos("birds", &["robin", "wren"], 8, 2);
    scene.train("first", &[]);
    scene
}

/// Names of the tensors that differ, but for the counters of batches.
fn differing(a: &Path, b: &Path) -> Vec<String> {
    let (a, b) = (tensors(a), tensors(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let differ = |name: &&String| !name.ends_with("num_batches_tracked") && a[*name] != b[*name];
    a.keys().filter(differ).cloned().collect()
}

const LAST: &str = "checkpoints/step-00000012/model.safetensors";

#[test]
fn other_classes_get_a_new_classifier_and_everything_else_is_taken_over() {
    let scene = scene_with_a_run();
    let plan = scene.run(&["train", "--config", "recipe.toml", "--data", "birds", "--weights", "first", "--dry-run"]);
    let stdout = String::from_utf8_lossy(&plan.stdout).into_owned();
    let line = stdout.lines().find(|line| line.starts_with("weights")).expect("a line on the weights");
    assert!(
        line.ends_with("all but the classifier, which was for 3 classes of other names and starts from random values"),
        "{line}"
    );

    // Without a learning rate nothing moves, but for the running statistics of what is not frozen.
    let still = ["--set", "optimizer.learning_rate=0", "--set", "train.total={steps=1}", "--set", "schedule={}"];
    let weights = format!("first/{LAST}");
    let args = [&still[..], &["--data", "birds", "--weights", &weights]].concat();
    scene.train("tuned", &args);
    let tuned = tensors(&scene.path("tuned/checkpoints/step-00000001/model.safetensors"));
    let first = tensors(&scene.path(&weights));
    let follows = |name: &String| name.contains("running_") || name.ends_with("num_batches_tracked");
    for (name, tensor) in first.iter().filter(|(name, _)| !follows(name) && !name.starts_with("classifier.")) {
        assert!(tuned[name] == *tensor, "{name}");
    }
    assert_eq!(tuned["classifier.weight"].shape().to_vec(), [2, 1280]);
}

#[test]
fn the_same_classes_keep_their_classifier_and_frozen_stages_every_bit() {
    let scene = scene_with_a_run();
    let weights = format!("first/{LAST}");
    scene.train("tuned", &["--weights", &weights, "--set", "finetune.freeze_stages=4"]);
    let differing = differing(&scene.path(&weights), &scene.path(&format!("tuned/{LAST}")));
    assert!(differing.iter().any(|name| name == "classifier.weight"));
    assert!(differing.iter().any(|name| name.contains("running_")), "what is not frozen follows the images");
    let nearest_frozen = 10 - 3;
    for name in &differing {
        assert!(stages_to_head(name) < nearest_frozen, "{name} is frozen and has changed");
    }
    let free = tensors(&scene.path(&weights));
    let unchanged = free.keys().filter(|name| stages_to_head(name) < nearest_frozen && !differing.contains(name));
    let unchanged: Vec<_> = unchanged.filter(|name| !name.ends_with("num_batches_tracked")).collect();
    assert_eq!(unchanged, [""; 0], "everything else has learned");
}

#[test]
fn a_run_with_a_head_warm_up_layer_decay_and_frozen_stages_resumes_exactly() {
    for optimizer in ["{kind='sgd', learning_rate=0.02}", "{kind='adamw', learning_rate=1e-3}"] {
        let scene = scene_with_a_run();
        let optimizer = format!("optimizer={optimizer}");
        let changes = [
            "--weights",
            "first",
            "--data",
            "birds",
            "--set",
            "finetune={freeze_stages=2, layer_decay=0.8, head_warmup={steps=3}}",
            "--set",
            "train.total={steps=60}",
            "--set",
            "schedule.warmup={steps=5}",
            "--set",
            &optimizer,
        ];
        scene.train("whole", &changes);
        let args = [&["train", "--config", "recipe.toml", "--device", "cpu", "--out", "run"][..], &changes].concat();
        let mut child = scene.command(&args).stderr(Stdio::null()).spawn().expect("the program starts");
        while !scene.path("run/checkpoints/step-00000004").exists() {
            assert!(child.try_wait().expect("a status").is_none_or(|status| status.success()));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().expect("SIGKILL");
        child.wait().expect("it ends");
        scene.train("run", &changes);
        assert!(scene.final_model("run") == scene.final_model("whole"), "{optimizer}");
        assert_eq!(scene.metrics("run"), scene.metrics("whole"));
    }
}

#[test]
fn weights_that_cannot_be_meant_are_refused_before_anything_is_written() {
    let scene = scene_with_a_run();
    let mut exchanges = String::new();
    let mut say = |args: &[&str]| {
        let args = [&["train", "--config", "recipe.toml", "--device", "cpu", "--out", "tuned"], args].concat();
        let output = scene.run(&args);
        exchanges.push_str(&format!("$ ghostnet {}\n{}\n\n", args[7..].join(" "), scene.exchange(&output)));
        assert!(!output.status.success() && !scene.path("tuned").exists());
    };
    say(&["--weights", "nowhere"]);
    say(&["--weights", "recipe.toml"]);
    say(&["--weights", "first", "--set", "model.width=0.5"]);
    say(&["--set", "finetune={}"]);
    say(&["--weights", "first", "--set", "finetune.head_warmup={epochs=2}"]);
    say(&["--set", "train.bce={threshold=0}", "--set", "train.label_smoothing=0.1"]);
    scene.train("tuned", &["--weights", "first"]);
    scene.train("other", &["--set", "seed=5"]);
    // Without its last checkpoint the run has a step to go.
    std::fs::remove_dir_all(scene.checkpoints("tuned").last().expect("a checkpoint")).expect("a folder");
    let recipe = std::fs::read_to_string(scene.path("tuned/recipe.toml")).expect("a recipe");
    let weights = recipe.lines().find(|line| line.starts_with("weights")).expect("the weights");
    assert!(
        weights.contains("first/checkpoints/step-"),
        "what was really used, and not the run that was named: {weights}"
    );
    let output =
        scene.run(&["train", "--config", "recipe.toml", "--device", "cpu", "--out", "tuned", "--weights", "other"]);
    assert!(!output.status.success());
    assert_eq!(std::fs::read_to_string(scene.path("tuned/recipe.toml")).expect("a recipe"), recipe, "as it was");
    exchanges.push_str(&format!("$ the same run with other weights\n{}", scene.exchange(&output)));
    // Which checkpoint is the best may hang on the last bits, and those on the machine.
    for step in 1..=12 {
        exchanges = exchanges.replace(&format!("step-{step:08}"), "step-[N]");
    }
    assert_snapshot!(exchanges);
}

#[test]
fn a_run_goes_on_without_the_weights_that_it_began_with() {
    let scene = scene_with_a_run();
    let weights = std::fs::read(scene.path(&format!("first/{LAST}"))).expect("a model");
    scene.write("weights.safetensors", weights);
    let args = ["--weights", "weights.safetensors"];
    scene.train("whole", &args);
    scene.train("run", &args);
    std::fs::remove_dir_all(scene.checkpoints("run").last().expect("a checkpoint")).expect("a folder");
    std::fs::remove_file(scene.path("weights.safetensors")).expect("a file");
    scene.train("run", &args);
    assert!(scene.final_model("run") == scene.final_model("whole"));
    let fresh = scene.run(&[
        "train",
        "--config",
        "recipe.toml",
        "--device",
        "cpu",
        "--out",
        "run",
        "--fresh",
        "--weights",
        "weights.safetensors",
    ]);
    let stderr = String::from_utf8_lossy(&fresh.stderr).into_owned();
    assert!(!fresh.status.success() && stderr.contains("does not exist"), "{stderr}");
}

#[test]
fn a_run_ends_when_evaluations_have_not_been_better_for_too_long_and_stays_ended() {
    let scene = Scene::new();
    // A rate of zero never gets better than its first evaluation.
    let changes = [
        "--set",
        "optimizer.learning_rate=0",
        "--set",
        "train.total={steps=100}",
        "--set",
        "eval={every={steps=3}, patience=2, splits=['train']}",
        "--set",
        "schedule={}",
    ];
    scene.train("run", &changes);
    let evaluations = |out| scene.metrics(out).iter().filter(|line| line["event"] == "eval").count();
    let (found, model) = (evaluations("run"), scene.final_model("run"));
    assert!((3..20).contains(&found), "{found} evaluations");
    scene.train("run", &changes);
    assert_eq!((evaluations("run"), scene.final_model("run") == model), (found, true), "the end is the end");
    let log = std::fs::read_to_string(scene.path("run/metrics.jsonl")).expect("metrics");
    assert!(log.lines().last().is_some_and(|line| line.contains("no_longer_better")), "{log}");
}
