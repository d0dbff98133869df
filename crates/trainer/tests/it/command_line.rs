//! What the user types and what the user sees: help, plans, and a table of bad inputs with exit code and message.

use crate::scene::{self, Scene, jpeg, png};

/// Help is frozen: a new knob is a recipe's key and not a flag, and a change here is seen in review.
#[test]
fn help_is_what_it_was() {
    let scene = Scene::empty();
    for command in [
        "",
        "train",
        "eval",
        "predict",
        "inspect",
        "report",
        "export",
        "import",
        "verify",
        "average",
        "data",
        "data check",
        "data stats",
        "bench",
        "bench step",
        "bench loader",
        "devices",
        "completions",
    ] {
        let args: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let name = format!("help {command}").trim().replace(' ', "_");
        insta::assert_snapshot!(name, scene.exchange(&scene.run(&args)));
    }
}

#[test]
fn every_built_in_recipe_makes_a_plan() {
    let scene = Scene::new();
    scene.train("trained", &["--set", "model.width=1.0", "--set", "train.total={steps=1}", "--set", "schedule={}"]);
    for (name, _) in trainer::recipe::BUILT_IN {
        // The published recipes ask for 1,024 images in a step and more: let 24 images do.
        let args = [
            "--config",
            name,
            "--data",
            "photos",
            "--device",
            "cpu",
            "--dry-run",
            "--set",
            "data.batch_size=3",
            "--set",
            "model.num_classes=3",
        ];
        let weights: &[&str] = if *name == "finetune.toml" { &["--weights", "trained"] } else { &[] };
        let output = scene.run(&[&args, weights].concat());
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let name = format!("plan_{}", name.replace(['/', '.'], "_"));
        insta::assert_snapshot!(
            name,
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter(|l| !l.starts_with("recipe "))
                .collect::<Vec<_>>()
                .join("\n")
        );
    }
}

#[test]
fn the_default_recipe_makes_a_plan_without_any_file() {
    let scene = Scene::empty();
    let output = scene.run(&["--dry-run", "--format", "json"]);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(plan["num_train_images"], 3000);
    assert_eq!(plan["num_val_images"], 600);
    assert_eq!(plan["num_classes"], 10);
}

#[test]
fn a_plan_says_whose_memory_a_step_takes_and_needs_no_gpu_for_that() {
    let scene = Scene::empty();
    for (device, memory_of) in [("cpu", "cpu"), ("wgpu:7", "gpu")] {
        let output = scene.run(&["--dry-run", "--format", "json", "--device", device]);
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(plan["memory_of"], memory_of);
        let mebibytes = plan["memory_bytes"].as_u64().expect("bytes").div_ceil(1 << 20);
        let text = String::from_utf8(scene.run(&["--dry-run", "--device", device]).stdout).expect("text");
        let line = format!("memory         about {mebibytes} MiB for a step on the {}\n", memory_of.to_uppercase());
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn inspect_counts_the_published_networks() {
    let scene = Scene::empty();
    for (recipe, parameters, multiply_adds) in [
        ("imagenet/ghostnet_0.5x.toml", 2_587_292, 42_328_152),
        ("imagenet/ghostnet_1x.toml", 5_182_508, 141_150_512),
        ("imagenet/ghostnet_1.3x.toml", 7_358_820, 227_003_256),
    ] {
        let output = scene.run(&["inspect", recipe, "--format", "json"]);
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(found["parameters"], parameters);
        assert_eq!(found["multiply_adds"], multiply_adds);
        assert_eq!(found["tensors"], 512);
        assert_eq!(found["variant"], "ghostnet");
    }
    let paddle = ["inspect", "imagenet/ghostnet_1x.toml", "--set", "model.variant=ghostnet_paddle"];
    let found: serde_json::Value =
        serde_json::from_slice(&scene.run(&[&paddle[..], &["--format", "json"]].concat()).stdout).expect("JSON");
    assert_eq!((&found["parameters"], &found["tensors"]), (&5_183_016.into(), &516.into()));
    assert_eq!(found["variant"], "ghostnet_paddle");
    let text = String::from_utf8_lossy(&scene.run(&paddle).stdout).into_owned();
    assert!(text.starts_with("GhostNet of PaddleClas 1x, 1000 classes, 224 px"), "{text}");
}

#[test]
fn bench_times_steps_inference_and_loading_with_the_kernels_and_without() {
    let scene = Scene::new();
    let small = ["--device", "cpu", "--image-size", "32", "--batch-size", "2", "--width", "0.5", "--seconds", "0.05"];
    for (work, kernels) in [("step", "on"), ("infer", "on"), ("step", "off")] {
        let args: Vec<&str> = ["bench", work, "--per-layer", "--format", "json"].into_iter().chain(small).collect();
        let output = scene.command(&args).env("GHOSTNET_KERNELS", kernels).output().expect("ghostnet runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        for key in ["median_ms", "min_ms", "images_per_second", "threads", "arithmetic_floor_ms", "bandwidth_floor_ms"]
        {
            assert!(report[key].as_f64().is_some_and(|value| value > 0.0), "{work}: `{key}` is {}", report[key]);
        }
        assert_eq!(report["kernels"] == "off", kernels == "off", "{report}");
        let layers = report["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), 20, "stem, sixteen bottlenecks, last convolution, hidden layer, classifier");
        assert_eq!(layers[0]["backward_ms"].is_number(), work == "step");
        assert!(layers.iter().all(|layer| layer["multiply_adds"].as_u64() > Some(0)));
    }
    let output = scene.run(&[
        "bench",
        "loader",
        "--data",
        "photos",
        "--batch-size",
        "6",
        "--image-size",
        "32",
        "--seconds",
        "0.05",
        "--workers",
        "1",
        "--format",
        "json",
    ]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["images_per_second"].as_f64() > Some(0.0), "{report}");
    assert_eq!(report["workers"], 1);
}

#[test]
fn what_was_trained_is_evaluated_inspected_and_used_on_files() {
    let scene = Scene::new();
    scene.train("run", &[]);
    let json = |args: &[&str]| -> serde_json::Value {
        let output = scene.run(args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let found = json(&["eval", "run", "--device", "cpu", "--format", "json"]);
    assert_eq!(found["num_images"], 6);
    let best = scene
        .metrics("run")
        .iter()
        .filter(|line| line["event"] == "eval")
        .fold(0.0, |best: f64, line| best.max(line["top1"].as_f64().expect("a number")));
    assert_eq!(found["top1"], best, "a run means its best checkpoint");
    let train = json(&["eval", "run", "--split", "train", "--device", "cpu", "--format", "json"]);
    assert_eq!(train["num_images"], 24);
    // The same images in another batch size, through the file alone, with the data named.
    let model = scene.checkpoints("run").pop().expect("a checkpoint").join("model.safetensors");
    std::fs::copy(&model, scene.path("alone.safetensors")).expect("a copy");
    let last = json(&[
        "eval",
        "alone.safetensors",
        "--data",
        "photos",
        "--split",
        "val",
        "--batch-size",
        "5",
        "--device",
        "cpu",
        "--format",
        "json",
    ]);
    let metrics = scene.metrics("run");
    let told = metrics.iter().rfind(|line| line["event"] == "eval").expect("an evaluation");
    assert_eq!((&last["top1"], &last["top5"]), (&told["top1"], &told["top5"]));
    let (a, b) = (last["loss"].as_f64().expect("a loss"), told["loss"].as_f64().expect("a loss"));
    assert!((a - b).abs() < 1e-5, "{a} {b}");

    scene.write("one.jpg", jpeg(0, 5000));
    let files = ["photos/val/dog/000.png", "one.jpg"];
    let predictions = json(
        &[&["predict", "alone.safetensors"], &files[..], &["--device", "cpu", "--top", "2", "--format", "json"]]
            .concat(),
    );
    assert_eq!(predictions.as_array().map(Vec::len), Some(2));
    for (prediction, file) in predictions.as_array().expect("a list").iter().zip(files) {
        assert_eq!(prediction["image"], file);
        assert_eq!(prediction["guesses"].as_array().map(Vec::len), Some(2));
    }
    let inspected = json(&["inspect", "run", "--format", "json"]);
    assert_eq!(inspected["card"]["classes"], serde_json::json!(["cat", "dog", "señor-übel"]));
    assert_eq!(inspected["tensors"], 512);
}

#[test]
fn skipped_images_are_counted_and_told_at_the_end_of_each_epoch() {
    let scene = Scene::new();
    scene.write("photos/train/cat/003.png", "not a picture");
    let args = ["train", "--config", "recipe.toml", "--out", "run", "--device", "cpu", "--set", "data.on_corrupt=skip"];
    let output = scene.run(&args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    let skipped: Vec<_> = scene.metrics("run").into_iter().filter(|line| line["event"] == "skipped").collect();
    assert_eq!(skipped.iter().map(|line| line["step"].as_u64()).collect::<Vec<_>>(), [Some(6), Some(12)]);
    assert!(
        skipped.iter().all(|line| line["num_images"] == 1
            && line["names"][0].as_str().is_some_and(|name| name.contains("cat/003.png")))
    );
    assert!(stderr.contains("003.png"), "{stderr}");
}

#[test]
fn a_complete_run_says_so_and_does_nothing() {
    let scene = Scene::new();
    scene.train("run", &[]);
    let before = scene.final_model("run");
    let output = scene.run(&["train", "--config", "recipe.toml", "--out", "run", "--device", "cpu"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the run in `run` is complete"));
    assert!(scene.final_model("run") == before);
    scene.train("run", &["--fresh"]);
    assert!(scene.path("run.old-1/recipe.toml").is_file(), "the old run is kept");
    assert!(scene.final_model("run") == before);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_before_the_weights_and_names_the_last_checkpoint() {
    let scene = Scene::new();
    let args = ["train", "--config", "recipe.toml", "--device", "cpu", "--out", "run", "-q"];
    let output =
        scene.run(&[&args[..], &["--set", "optimizer.learning_rate=1e30", "--set", "train.clip_norm=1e30"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("finite") || stderr.contains("the loss is "), "{stderr}");
    for checkpoint in scene.checkpoints("run") {
        let model = checkpoint.display().to_string();
        assert!(scene.run(&["inspect", &model]).status.success(), "every checkpoint can be read");
    }
}

#[test]
fn the_hint_of_a_damaged_image_can_be_followed() {
    let scene = Scene::new();
    scene.write("photos/train/cat/003.png", "not a picture");
    let args = ["train", "--config", "recipe.toml", "--device", "cpu", "--out", "run", "-q"];
    let output = scene.run(&args);
    assert!(String::from_utf8_lossy(&output.stderr).contains("`--set data.on_corrupt=skip`"));
    assert!(!scene.path("run").exists(), "nothing is left of a run that did not begin");
    assert!(scene.run(&[&args[..], &["--set", "data.on_corrupt=skip"]].concat()).status.success());
}

#[test]
fn a_damaged_image_met_in_an_evaluation_costs_no_step_and_the_run_can_go_on_without_it() {
    let scene = Scene::new();
    let args = ["train", "--config", "recipe.toml", "--device", "cpu", "--out", "run", "-q"];
    let skip = [&args[..], &["--set", "data.on_corrupt=skip"]].concat();
    scene.write("photos/val/cat/001.png", "not a picture");
    let stop = [&skip[..], &["--set", "train.total={steps=3}", "--set", "schedule.kind='constant'"]].concat();
    let output = scene.run(&stop);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let skipped: Vec<_> = scene.metrics("run").into_iter().filter(|line| line["event"] == "skipped").collect();
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0]["num_images"], 1);
    let evaluation = scene.metrics("run").into_iter().find(|line| line["event"] == "eval").expect("an evaluation");
    assert_eq!(evaluation["num_images"], 5);
}

#[test]
fn the_same_recipe_with_other_images_goes_to_a_directory_of_its_own() {
    let scene = Scene::new();
    let args = ["--config", "recipe.toml", "--device", "cpu", "-q"];
    assert!(scene.run(&args).status.success());
    std::fs::rename(scene.path("photos"), scene.path("pictures")).expect("a move");
    assert!(scene.run(&[&args[..], &["--data", "pictures/"]].concat()).status.success());
    assert!(scene.path("runs/recipe/recipe.toml").is_file());
    assert!(scene.path("runs/recipe-pictures/recipe.toml").is_file());
}

#[test]
fn a_damaged_checkpoint_is_not_evaluated() {
    let scene = Scene::new();
    scene.train("run", &[]);
    for checkpoint in scene.checkpoints("run") {
        scene::flip_a_byte(&checkpoint.join("model.safetensors"));
    }
    let output = scene.run(&["eval", "run", "--device", "cpu"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("`model.safetensors` is damaged"), "{stderr}");
}

/// A bad input: what it is, how it comes about, what is typed.
struct Case {
    name: &'static str,
    prepare: fn(&Scene),
    args: &'static [&'static str],
}

const fn case(name: &'static str, prepare: fn(&Scene), args: &'static [&'static str]) -> Case {
    Case { name, prepare, args }
}

/// `train` with the scene's recipe, and what makes it go wrong.
macro_rules! train {
    ($($arg:literal),*) => { &["train", "--config", "recipe.toml", "--device", "cpu", "--out", "run" $(, $arg)*] };
}

fn nothing(_: &Scene) {}

fn trained(scene: &Scene) {
    scene.train("run", &[]);
}

fn edited(scene: &Scene, from: &str, to: &str) {
    assert!(scene::RECIPE.contains(from));
    scene.write("recipe.toml", scene::RECIPE.replace(from, to));
}

const CASES: &[Case] = &[
    case("a recipe that is not there", nothing, &["train", "--config", "ghostnet_2x.toml"]),
    case("a typo in a key", |scene| edited(scene, "batch_size", "batchsize"), train!()),
    case("a typo in a section", |scene| edited(scene, "[optimizer]", "[optimiser]"), train!()),
    case("a typo in --set", nothing, train!("--set", "optimizer.learning_rat=0.1")),
    case("--set without a value", nothing, train!("--set", "seed")),
    case("a value out of range", nothing, train!("--set", "model.width=0")),
    case("a value of the wrong type", |scene| edited(scene, "batch_size = 4", "batch_size = \"four\""), train!()),
    case("a transform that does not exist", |scene| edited(scene, "horizontal_flip", "horizontal_flop"), train!()),
    case("transforms that do not give one size", nothing, train!("--set", "data.val=[{ resize = {} }]")),
    case("TOML that does not parse", |scene| edited(scene, "width = 0.25", "width 0.25"), train!()),
    case(
        "a benchmark of a step on one image",
        nothing,
        &["bench", "step", "--batch-size", "1", "--image-size", "32", "--device", "cpu"],
    ),
    case("a benchmark of no length", nothing, &["bench", "infer", "--seconds", "0", "--device", "cpu"]),
    case("an unknown flag", nothing, train!("--epochs", "3")),
    case("an unknown device", nothing, &["train", "--device", "gpu"]),
    case("a device that is not compiled in", nothing, &["train", "--config", "recipe.toml", "--device", "ndarray"]),
    case("a path that is not there", nothing, train!("--data", "fotos")),
    case("a text file as data", |scene| scene.write("notes.txt", "hello"), train!("--data", "notes.txt")),
    case("a damaged tar file", |scene| scene.write("photos.tar", [7; 1500]), train!("--data", "photos.tar")),
    case(
        "an empty folder",
        |scene| std::fs::create_dir(scene.path("empty")).expect("a folder"),
        train!("--data", "empty"),
    ),
    case("images without class folders", |scene| scene.write("flat/a.png", png(0, 0)), train!("--data", "flat")),
    case(
        "one image in each class",
        |scene| scene.photos("few", &["cat", "dog", "emu"], 1, 0),
        train!("--data", "few/train", "--set", "data.batch_size=2"),
    ),
    case("a class without images", |scene| scene.write("photos/train/emu/notes.txt", "words"), train!()),
    case("one class", |scene| scene.photos("one", &["cat"], 4, 2), train!("--data", "one")),
    case("a class in val only", |scene| scene.write("photos/val/emu/000.png", png(3, 0)), train!()),
    case("a truncated JPEG", |scene| scene.write("photos/train/cat/003.jpg", &jpeg(0, 1)[..600]), train!()),
    case("a text named .jpg", |scene| scene.write("photos/train/cat/003.jpg", "hello"), train!()),
    case("an image of huge dimensions", |scene| scene.write("photos/val/dog/big.png", huge_png()), train!()),
    case("a batch larger than the set", nothing, train!("--set", "data.batch_size=25")),
    case("a batch of one", nothing, train!("--set", "data.batch_size=1")),
    case("micro-batches of one", nothing, train!("--set", "train.micro_batch_size=1")),
    case("micro-batches of nothing", nothing, train!("--set", "train.micro_batch_size=0")),
    case("an unknown precision", nothing, train!("--set", "train.precision=f16")),
    case("a step of less than no time", nothing, &["bench", "loader", "--step-ms=-1"]),
    case("another number of classes", nothing, train!("--set", "model.num_classes=4")),
    case("more accumulation than an epoch has", nothing, train!("--set", "train.accumulate=7")),
    case("a run directory that is a file", |scene| scene.write("run", ""), train!()),
    case("another recipe in the run directory", trained, train!("--set", "optimizer.learning_rate=0.1")),
    case("other images than the run began with", other_images, train!("-q")),
    case(
        "a warm-up longer than the run",
        |scene| edited(scene, "warmup = { steps = 2 }", "warmup = { steps = 200 }"),
        train!(),
    ),
    case("every checkpoint damaged", every_checkpoint_damaged, train!("-q")),
    case("a checkpoint of another model", checkpoint_of_another_model, train!("-q")),
    case("evaluating a run that is not there", nothing, &["eval", "run"]),
    case("evaluating a folder without a model", nothing, &["eval", "photos"]),
    case("evaluating a text file", |scene| scene.write("model.safetensors", "hello"), &["eval", "model.safetensors"]),
    case("evaluating a file without a card", foreign_weights, &["eval", "foreign.safetensors"]),
    case("evaluating a lone file without data", lone_model, &["eval", "alone.safetensors", "--device", "cpu"]),
    case(
        "evaluating on unknown classes",
        unknown_classes,
        &["eval", "alone.safetensors", "--data", "birds", "--device", "cpu"],
    ),
    case("a report on nothing", nothing, &["report"]),
    case("a report on a run that is not there", nothing, &["report", "run"]),
    case("a report on a folder that is no run", nothing, &["report", "photos"]),
    case("a report that would be a folder", trained, &["report", "run", "-o", "photos"]),
    case("a report in a folder that is not there", trained, &["report", "run", "-o", "pages/report.html"]),
    case("predicting without images", nothing, &["predict", "run"]),
    case(
        "predicting on bad files",
        bad_files,
        &["predict", "alone.safetensors", "nowhere.png", "text.png", "--device", "cpu"],
    ),
    case(
        "checking damaged data",
        |scene| scene.write("photos/train/cat/003.jpg", "hello"),
        &["data", "check", "photos"],
    ),
    case("inspecting something unknown", nothing, &["inspect", "what"]),
    case("completions for an unknown shell", nothing, &["completions", "cmd"]),
];

/// A PNG whose header claims 60,000 × 60,000 pixels.
fn huge_png() -> Vec<u8> {
    let mut bytes = png(0, 0);
    bytes[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
    // Checksum of the header with these dimensions, 8-bit RGB.
    let header = bytes[12..29].to_vec();
    let crc = crc32(&header);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn other_images(scene: &Scene) {
    trained(scene);
    scene.write("photos/train/cat/new.png", png(0, 77));
}

fn every_checkpoint_damaged(scene: &Scene) {
    trained(scene);
    for checkpoint in scene.checkpoints("run") {
        scene::flip_a_byte(&checkpoint.join("model.safetensors"));
    }
}

/// A checkpoint of a wider network, whole in itself, in the place of the run's own.
fn checkpoint_of_another_model(scene: &Scene) {
    trained(scene);
    scene.train("wide", &["--set", "model.width=0.5"]);
    for checkpoint in scene.checkpoints("run") {
        std::fs::remove_dir_all(checkpoint).expect("a folder");
    }
    let wide = scene.checkpoints("wide").pop().expect("a checkpoint");
    let place = scene.path("run/checkpoints").join(wide.file_name().expect("a name"));
    std::fs::rename(wide, place).expect("a move");
}

fn lone_model(scene: &Scene) {
    trained(scene);
    let model = scene.checkpoints("run").pop().expect("a checkpoint").join("model.safetensors");
    std::fs::copy(model, scene.path("alone.safetensors")).expect("a copy");
}

fn unknown_classes(scene: &Scene) {
    lone_model(scene);
    scene.photos("birds", &["dog", "emu"], 2, 2);
}

fn bad_files(scene: &Scene) {
    lone_model(scene);
    scene.write("text.png", "hello");
}

/// Weights as another program writes them: one tensor, no metadata.
fn foreign_weights(scene: &Scene) {
    let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  "#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend([0; 4]);
    scene.write("foreign.safetensors", bytes);
}

#[test]
fn bad_inputs_end_with_an_error_that_says_what_to_do() {
    let mut table = String::new();
    for case in CASES {
        let scene = Scene::new();
        (case.prepare)(&scene);
        let output = scene.run(case.args);
        assert!(!output.status.success(), "{} passed silently", case.name);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{}: {stderr}", case.name);
        let shown = scene.exchange(&output);
        table.push_str(&format!("## {}\n$ ghostnet {}\n{shown}\n\n", case.name, case.args.join(" ")));
    }
    assert!(CASES.len() >= 25);
    insta::assert_snapshot!("bad_inputs", table);
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let scene = Scene::new();
    // Even the superuser cannot make a folder there.
    let output = scene.run(&["train", "--config", "recipe.toml", "--device", "cpu", "--out", "/proc/run"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.starts_with("error: cannot make the run directory\n  cause: ") && stderr.contains("/proc/run"),
        "{stderr}"
    );
}

#[test]
fn a_second_run_in_the_same_directory_is_refused() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("run")).expect("a folder");
    let lock = std::fs::File::create(scene.path("run/run.lock")).expect("a file");
    lock.lock().expect("a lock");
    let output = scene.run(&["train", "--config", "recipe.toml", "--device", "cpu", "--out", "run"]);
    insta::assert_snapshot!("second_run", scene.exchange(&output));
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_that_lists_what_is() {
    let scene = Scene::new();
    let output = scene.run(&["train", "--config", "recipe.toml", "--device", "wgpu:99", "--out", "run"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    if cfg!(feature = "wgpu") {
        assert!(stderr.contains("device `wgpu:99` is not there: ") && stderr.contains("hint: "), "{stderr}");
    } else {
        assert!(stderr.contains("no GPU support"), "{stderr}");
    }
}

#[test]
fn devices_says_what_there_is_which_one_auto_takes_and_why_not_the_others() {
    let scene = Scene::empty();
    let output = scene.run(&["devices", "--format", "json"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["gpu_support"], cfg!(feature = "wgpu"));
    assert_eq!(found["tuned"], cfg!(feature = "tuned"));
    let (cpu, adapters) = found["devices"].as_array().and_then(|devices| devices.split_last()).expect("devices");
    assert_eq!((&cpu["device"], &cpu["kind"]), (&"cpu".into(), &"cpu".into()));
    assert_eq!(cpu["threads"], std::thread::available_parallelism().map_or(1, usize::from));
    assert!(cpu["kernels"].as_str().is_some_and(|kernels| !kernels.is_empty()));
    let text = String::from_utf8(scene.run(&["devices"]).stdout).expect("text");
    for (index, adapter) in adapters.iter().enumerate() {
        assert_eq!(adapter["device"], format!("wgpu:{index}"));
        assert!(
            ["name", "kind", "api", "driver", "driver_version", "reason"].iter().all(|key| adapter[key].is_string())
        );
        assert!(["f16", "subgroups", "timestamp_queries"].iter().all(|key| adapter[key].is_boolean()));
        assert!(adapter["max_buffer_bytes"].as_u64() > Some(0));
        assert!(text.contains(adapter["name"].as_str().expect("a name")), "{text}");
        if adapter["kind"] == "software" {
            assert_ne!(found["auto"], adapter["device"]);
            assert_eq!(adapter["refusal"].is_string() || index > 0, cfg!(feature = "tuned") || index > 0);
        }
        if let Some(refusal) = adapter["refusal"].as_str() {
            let device = adapter["device"].as_str().expect("a name");
            let output = scene.run(&["bench", "infer", "--device", device]);
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1));
            assert!(stderr.contains(refusal) && stderr.contains("hint: "), "{stderr}");
        }
    }
    let is_taken = |device: &&serde_json::Value| device["reason"].as_str().is_some_and(|why| why.starts_with("taken"));
    let devices = || found["devices"].as_array().into_iter().flatten();
    let taken: Vec<_> = devices().filter(is_taken).collect();
    assert_eq!(taken.iter().map(|device| &device["device"]).collect::<Vec<_>>(), [&found["auto"]]);
    assert!(
        text.ends_with(&format!("`--device auto` takes `{}`\n", found["auto"].as_str().expect("a name"))),
        "{text}"
    );
}
