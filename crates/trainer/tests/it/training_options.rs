//! What a recipe can ask of training, through the binary: a teacher, growing images, weighted classes, a rate that follows the
//! evaluations, the range test, and the average of checkpoints.

use std::collections::BTreeMap;

use insta::assert_snapshot;

use crate::scene::{Scene, tensors};

/// Tensors of the last checkpoint of a run; its card names the recipe and differs with it.
fn last_tensors(scene: &Scene, out: &str) -> BTreeMap<String, burn::tensor::TensorData> {
    tensors(&scene.checkpoints(out).pop().expect("a checkpoint").join("model.safetensors"))
}

#[test]
fn a_network_learns_from_a_teacher_and_goes_on_only_with_the_same_one() {
    let scene = Scene::new();
    scene.train("teacher", &[]);
    scene.train("alone", &[]);
    scene.train("student", &["--teacher", "teacher"]);
    assert!(scene.final_model("alone") == scene.final_model("teacher"));
    assert!(last_tensors(&scene, "student") != last_tensors(&scene, "alone"));

    // With no weight on the labels, smoothing does not matter.
    let of_teacher = ["--teacher", "teacher", "--set", "distill.task_weight=0"];
    scene.train("smooth", &of_teacher);
    scene.train("hard", &[&of_teacher[..], &["--set", "train.label_smoothing=0"]].concat());
    assert!(last_tensors(&scene, "smooth") == last_tensors(&scene, "hard"));

    // Best or last may differ: a teacher that went on is another one.
    let longer = ["--teacher", "teacher", "--set", "train.total={epochs=4}"];
    let train = |more: &[&str]| {
        let args = ["train", "--config", "recipe.toml", "--device", "cpu", "--out", "long", "-q"];
        scene.run(&[&args[..], more].concat())
    };
    let teacher_file = "teacher/checkpoints/step-00000012/model.safetensors";
    scene.write("copy.safetensors", std::fs::read(scene.path(teacher_file)).expect("a model"));
    let mut child = {
        let args = [
            "train",
            "--config",
            "recipe.toml",
            "--device",
            "cpu",
            "--out",
            "long",
            "-q",
            "--teacher",
            "copy.safetensors",
        ];
        scene.command(&[&args[..], &longer[2..]].concat()).spawn().expect("the program starts")
    };
    // A program that fails must end the test, and not keep it waiting.
    while !scene.path("long/checkpoints/step-00000002").exists() && child.try_wait().expect("a status").is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("it ends");
    scene.write("copy.safetensors", scene.final_model("student"));
    let changed = train(&["--teacher", "copy.safetensors", "--set", "train.total={epochs=4}"]);
    let stderr = String::from_utf8_lossy(&changed.stderr).into_owned();
    assert!(stderr.contains("the teacher is not the one that this run began with"), "{stderr}");

    scene.photos("birds", &["robin", "wren"], 8, 2);
    let other =
        scene.run(&["train", "--config", "recipe.toml", "--data", "birds", "--teacher", "teacher", "--dry-run"]);
    assert_snapshot!(scene.exchange(&other), @r"
    exit code 1
    --- stderr
    error: the teacher in `teacher/checkpoints/step-00000003/model.safetensors` is for other classes: where the data have `robin`, it has `cat`

    hint: train the teacher on the same class folders, or name the classes of weights of another program with `ghostnet import --classes`
    ");
    let missing = scene.run(&["train", "--config", "recipe.toml", "--set", "distill.temperature=2", "--dry-run"]);
    assert_snapshot!(scene.exchange(&missing), @r"
    exit code 2
    --- stderr
    error: the recipe distills, and no teacher is named

    hint: `--teacher RUN`, the folder of a run, or a model file; or leave the section `[distill]` out
    ");
}

#[test]
fn images_grow_where_the_stages_say_so_and_nowhere_else() {
    let scene = Scene::new();
    scene.train("plain", &[]);
    scene.train("same", &["--set", "train.stage=[{until={steps=5}, image_size=32}]"]);
    assert!(last_tensors(&scene, "same") == last_tensors(&scene, "plain"), "a stage of the same size changes nothing");
    scene
        .train("grown", &["--set", "train.stage=[{until={steps=4}, image_size=32}, {until={steps=8}, image_size=64}]"]);
    let losses = |out: &str| -> Vec<f64> {
        let metrics = scene.metrics(out);
        metrics.iter().filter(|line| line["event"] == "step").filter_map(|line| line["loss"].as_f64()).collect()
    };
    let (plain, grown) = (losses("plain"), losses("grown"));
    assert_eq!(plain[..4], grown[..4]);
    assert!(plain[4] != grown[4]);
    let late =
        ["train", "--config", "recipe.toml", "--dry-run", "--set", "train.stage=[{until={epochs=2}, image_size=64}]"];
    assert_snapshot!(scene.exchange(&scene.run(&late)), @r"
    exit code 2
    --- stderr
    error: the stages of `train.stage` must end one after the other, and the last before step 12, the end of the run, but one ends at step 12

    hint: `until` counts from the start of the run
    ");
}

#[test]
fn balanced_weights_matter_where_classes_are_of_different_sizes() {
    let scene = Scene::new();
    let balanced = ["--set", "train.class_weights=balanced"];
    scene.train("equal", &[]);
    scene.train("equal-balanced", &balanced);
    assert!(last_tensors(&scene, "equal") == last_tensors(&scene, "equal-balanced"), "eight images of each class");
    scene.photos("photos", &["cat"], 12, 2);
    scene.train("more-cats", &[]);
    scene.train("more-cats-balanced", &balanced);
    assert!(last_tensors(&scene, "more-cats") != last_tensors(&scene, "more-cats-balanced"));
}

#[test]
fn a_plateau_schedule_lowers_the_rate_after_evaluations_that_are_no_better() {
    let scene = Scene::new();
    // No measurement is better than the first by a factor of 101.
    let schedule = "schedule={kind='plateau', patience=0, threshold=100, decay_rate=0.5}";
    scene.train("run", &["--set", schedule, "--set", "eval.every={steps=2}"]);
    let rates =
        |out| -> Vec<f64> { scene.metrics(out).iter().filter_map(|line| line["learning_rate"].as_f64()).collect() };
    let halved = [0.05, 0.05, 0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125, 0.00625, 0.00625, 0.003125, 0.003125];
    assert_eq!(rates("run"), halved);
    // What is measured in the warm-up does not count.
    let warmed = "schedule={kind='plateau', patience=0, threshold=100, decay_rate=0.5, warmup={steps=4}}";
    scene.train("warmed", &["--set", warmed, "--set", "eval.every={steps=2}"]);
    assert_eq!(rates("warmed")[4..], [0.05, 0.05, 0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125]);
}

#[test]
fn the_range_test_shows_losses_and_writes_nothing() {
    let scene = Scene::new();
    let args = [
        &["train", "--config", "recipe.toml", "--device", "cpu", "--out", "run", "--lr-find"][..],
        &["--set", "train.mix_probability=0", "--set", "data.batch_size=12"],
    ]
    .concat();
    let text = scene.run(&args);
    let stdout = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.status.success() && stdout.starts_with("smoothed loss by learning rate"), "{stdout}");
    assert!(stdout.contains("the recipe has 5.0e-2"), "{stdout}");
    // A rate for 24 images is twice that of a step of twelve.
    let scaled = scene.run(&[&args[..], &["--format", "json", "-q", "--set", "optimizer.lr_per=24"]].concat());
    let scaled: serde_json::Value = serde_json::from_slice(&scaled.stdout).expect("JSON");
    let json = scene.run(&[&args[..], &["--format", "json", "-q"]].concat());
    assert!(json.stderr.is_empty());
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let points = found["points"].as_array().expect("points");
    assert!((20..=100).contains(&points.len()));
    assert_eq!(points[0]["learning_rate"], 1e-6);
    assert_eq!((&found["recipe"], &scaled["recipe"]), (&0.05.into(), &0.05.into()));
    let rates = [&scaled, &found].map(|found| found["suggestion"].as_f64().expect("it fell"));
    assert!((rates[0] / rates[1] - 2.0).abs() < 1e-9, "{rates:?}");
    assert!(!scene.path("run").exists());
}

#[test]
fn checkpoints_are_averaged_into_a_model_file() {
    let scene = Scene::new();
    scene.train("run", &["--set", "checkpoint.keep=3", "--set", "eval.every={epochs=5}"]);
    let averaged = scene.run(&["average", "run", "--last", "2", "-o", "average.safetensors"]);
    assert_snapshot!(scene.exchange(&averaged), @r"
    exit code 0
    --- stdout
    average.safetensors: the average of
      run/checkpoints/step-00000010/model.safetensors
      run/checkpoints/step-00000012/model.safetensors
    ");
    let found = tensors(&scene.path("average.safetensors"));
    let [first, last] =
        ["10", "12"].map(|step| tensors(&scene.path(&format!("run/checkpoints/step-000000{step}/model.safetensors"))));
    for (name, found) in &found {
        if name.ends_with("num_batches_tracked") {
            assert!(*found == last[name]);
            continue;
        }
        let means = first[name].iter::<f64>().zip(last[name].iter::<f64>()).map(|(a, b)| ((a + b) / 2.0) as f32);
        assert!(found.iter::<f32>().eq(means), "{name}");
    }
    let eval = scene.run(&["eval", "average.safetensors", "--data", "photos", "--device", "cpu"]);
    assert!(eval.status.success(), "{}", String::from_utf8_lossy(&eval.stderr));
    let too_many = scene.run(&["average", "run", "--last", "5"]);
    assert_snapshot!(scene.exchange(&too_many), @r"
    exit code 1
    --- stderr
    error: `run` keeps its last 3 checkpoints, fewer than the 5 to average

    hint: train with `--set checkpoint.keep=5`, or leave `--last` out
    ");
}

#[test]
fn maps_made_anew_change_no_bit_and_may_be_so_from_the_middle_of_a_run_on() {
    let scene = Scene::new();
    let anew = ["--set", "train.checkpoint_activations=true"];
    for variant in ["ghostnet", "ghostnetv3"] {
        let variant = format!("model.variant={variant}");
        let sets = ["--fresh", "--set", &variant, "--set", "data.image_size=48"];
        scene.train("kept", &sets);
        scene.train("anew", &[&sets[..], &anew].concat());
        assert!(scene.final_model("anew") == scene.final_model("kept"), "{variant}");
        assert_eq!(scene.metrics("anew"), scene.metrics("kept"), "{variant}");
        for later in &scene.checkpoints("kept")[1..] {
            std::fs::remove_dir_all(later).expect("a checkpoint");
        }
        scene.train("kept", &[&sets[1..], &anew].concat());
        assert!(scene.final_model("anew") == scene.final_model("kept"), "{variant}, from the middle on");
    }
}

#[test]
fn every_norm_follows_the_batches_that_it_sees_the_stems_too() {
    let scene = Scene::new();
    scene.train("run", &[]);
    let statistics: Vec<_> =
        last_tensors(&scene, "run").into_iter().filter(|(name, _)| name.contains(".running_")).collect();
    assert!(statistics.iter().any(|(name, _)| name == "bn1.running_mean"), "the stem is there");
    for (name, data) in statistics {
        let first = if name.ends_with("running_var") { 1.0 } else { 0.0 };
        assert!(data.iter::<f64>().all(|value| value != first), "{name} is what it was at first");
    }
}
