//! Exported files through the binary, and through the readers of others: tract, which every export runs, and onnxruntime, where
//! `GHOSTNET_PYTHON` names a Python that has the packages `onnx`, `onnxruntime` and `pillow` (`python3` is tried without it).

use std::path::Path;
use std::process::{Command, Output};

use burn::tensor::{Device, TensorData};
use ghostnet::{GhostNetConfig, Variant};
use insta::assert_snapshot;
use serde_json::Value;

use crate::hash_rule;
use crate::scene::{Scene, tensors};

/// A trained run.
fn trained() -> Scene {
    let scene = Scene::new();
    scene.train("run", &[]);
    scene
}

fn export(scene: &Scene, args: &[&str]) -> Value {
    export_of(scene, "run", args)
}

fn export_of(scene: &Scene, model: &str, args: &[&str]) -> Value {
    let output = scene.run(&[&["export", model], args, &["--format", "json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn predict(scene: &Scene, model: &str, images: &[&str]) -> Vec<Value> {
    let output = scene.run(&[&["predict", model], images, &["--device", "cpu", "--format", "json"]].concat());
    assert!(output.status.success(), "{model}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Probabilities in the order of the classes.
fn probabilities(prediction: &Value) -> Vec<f64> {
    ["cat", "dog", "señor-übel"]
        .map(|class| {
            let guesses = prediction["guesses"].as_array().expect("guesses");
            let guess = guesses.iter().find(|guess| guess["class"] == class).expect("every class");
            guess["probability"].as_f64().expect("a number")
        })
        .to_vec()
}

fn assert_near(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "{what}: {found} and not {expected}");
    }
}

const PHOTOS: [&str; 3] = ["photos/val/cat/000.png", "photos/val/dog/001.png", "photos/val/señor-übel/000.png"];

/// onnxruntime, if it is there; it must be if somebody named it.
fn onnxruntime(scene: &Scene, args: &[&str]) -> Option<Output> {
    let named = std::env::var("GHOSTNET_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".to_string());
    let imports = ["-c", "import onnx, onnxruntime, PIL"];
    let has_packages = Command::new(&python).args(imports).output().is_ok_and(|output| output.status.success());
    assert!(has_packages || named.is_none(), "`{python}` lacks one of the packages `onnx`, `onnxruntime` and `pillow`");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/onnx_check.py");
    has_packages.then(|| {
        let mut command = Command::new(&python);
        command.arg(script).args(args).current_dir(scene.path(""));
        let output = command.output().expect("it starts");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    })
}

#[test]
fn exported_safetensors_are_the_network_and_need_nothing_beside_them() {
    let scene = trained();
    let expected = predict(&scene, "run", &PHOTOS);
    let plain = export(&scene, &["plain.safetensors"]);
    assert_eq!(plain["comparison"]["largest_difference"], 0.0);
    let best = scene.run(&["inspect", "run", "--format", "json"]);
    let step = serde_json::from_slice::<Value>(&best.stdout).expect("JSON")["card"]["step"].as_u64().expect("a step");
    let checkpoint = scene.path(&format!("run/checkpoints/step-{step:08}/model.safetensors"));
    assert!(tensors(&scene.path("plain.safetensors")) == tensors(&checkpoint));
    assert_eq!(predict(&scene, "plain.safetensors", &PHOTOS), expected);
    for (file, args, tolerance) in [
        ("folded.safetensors", &["--fold"][..], 1e-5),
        ("half.safetensors", &["--dtype", "f16"], 0.01),
        ("bf16.safetensors", &["--dtype", "bf16"], 0.05),
        ("small.safetensors", &["--fold", "--dtype", "f16"], 0.01),
    ] {
        export(&scene, &[&[file], args].concat());
        for (found, expected) in predict(&scene, file, &PHOTOS).iter().zip(&expected) {
            assert_near(file, &probabilities(found), &probabilities(expected), tolerance);
        }
        assert!(!tensors(&scene.path(file)).keys().any(|name| name.contains("running") && args.contains(&"--fold")));
    }
    let bytes = |file| std::fs::metadata(scene.path(file)).expect("a file").len();
    assert!(bytes("half.safetensors") < bytes("plain.safetensors") * 6 / 10);
    // What is exported can be exported again, and measured.
    let output = scene.run(&["export", "folded.safetensors", "again.onnx"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = scene.run(&["eval", "small.safetensors", "--data", "photos", "--device", "cpu"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn exported_onnx_gives_our_scores_in_tract_and_in_onnxruntime() {
    let scene = trained();
    assert!(scene.run(&["verify", "run", "--write", "reference.json"]).status.success());
    for args in [
        &[][..],
        &["--fold=false"],
        &["--dynamic-batch"],
        &["--opset", "13"],
        &["--opset", "22", "--dynamic-batch", "--fold=false"],
    ] {
        let report = export(&scene, &[&["model.onnx"], args].concat());
        let comparison = &report["comparison"];
        assert!(comparison["largest_difference"].as_f64().expect("a number") <= 1e-5, "{args:?}: {comparison}");
        assert_eq!(comparison["same_top1"], comparison["num_images"]);
        onnxruntime(&scene, &["scores", "model.onnx", "reference.json"]);
    }
}

#[test]
fn every_variant_and_another_stem_are_exported_as_they_are() {
    let scene = Scene::new();
    for changes in [
        &["--set", "model.variant=ghostnet_paddle"][..],
        &["--set", "model.stem_stride=1", "--set", "model.width=0.5"],
        // Maps of 2, 3, 6, 12 and 24 pixels, and their halves.
        &["--set", "model.variant=ghostnetv2", "--set", "data.image_size=48"],
        &["--set", "model.variant=ghostnetv3", "--set", "data.image_size=57"],
    ] {
        scene.train("run", &[changes, &["--fresh", "--set", "train.total={steps=3}", "--set", "schedule={}"]].concat());
        for file in ["model.onnx", "folded.safetensors"] {
            let report = export(&scene, &[file, "--fold"]);
            assert!(
                report["comparison"]["largest_difference"].as_f64().expect("a number") <= 1e-5,
                "{changes:?} {file}"
            );
        }
        assert!(scene.run(&["verify", "run", "--write", "reference.json"]).status.success());
        onnxruntime(&scene, &["scores", "model.onnx", "reference.json"]);
        let (expected, found) = (predict(&scene, "run", &PHOTOS), predict(&scene, "model.onnx", &PHOTOS));
        for (found, expected) in found.iter().zip(&expected) {
            assert_near("tract", &probabilities(found), &probabilities(expected), 1e-5);
        }
    }
}

#[test]
fn decoded_pictures_of_any_size_go_into_a_graph_with_preprocessing() {
    let scene = trained();
    export(&scene, &["model.onnx", "--with-preprocessing", "--dynamic-batch"]);
    // Wide and high pictures, and one that is made larger.
    let mut images: Vec<String> = PHOTOS.map(str::to_string).to_vec();
    for (name, width, height) in
        [("wide.png", 301, 90), ("high.png", 77, 240), ("screenshot.png", 135, 300), ("tiny.png", 9, 13)]
    {
        let pixel = |x: u32, y: u32| image::Rgb([(x * 5) as u8, (y * 3) as u8, (x * y) as u8]);
        image::RgbImage::from_fn(width, height, pixel).save(scene.path(name)).expect("a picture");
        images.push(name.to_string());
    }
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let expected = predict(&scene, "run", &images);
    let Some(output) = onnxruntime(&scene, &[&["pictures", "model.onnx"], &images[..]].concat()) else { return };
    for (line, expected) in String::from_utf8_lossy(&output.stdout).lines().zip(&expected) {
        let found: Vec<f64> = serde_json::from_str(line).expect("numbers");
        assert_near(expected["image"].as_str().expect("a name"), &found, &probabilities(expected), 0.01);
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), images.len());
}

#[test]
fn a_very_long_picture_gets_the_same_scores_from_a_run_and_from_its_graph() {
    let scene = trained();
    export(&scene, &["model.onnx", "--with-preprocessing", "--dynamic-batch"]);
    // A class for each third of the picture, so that a crop from another place would get other scores.
    let colors = [[230, 40, 30], [30, 220, 50], [40, 50, 240]];
    let images = [(1716, 100), (100, 5000), (9000, 30), (1, 3000), (65_000, 1)].map(|(width, height)| {
        let pixel = |x: u32, y: u32| {
            let place = u64::from(x.max(y)) * 3 / u64::from(width.max(height));
            image::Rgb(colors[place as usize].map(|level: u8| level.wrapping_add((x * 7 + y * 11) as u8 % 16)))
        };
        let name = format!("{width}x{height}.png");
        image::RgbImage::from_fn(width, height, pixel).save(scene.path(&name)).expect("a picture");
        name
    });
    let images = images.each_ref().map(String::as_str);
    let [expected, found] = ["run", "model.onnx"].map(|model| predict(&scene, model, &images));
    for (expected, found) in expected.iter().zip(&found) {
        let name = expected["image"].as_str().expect("a name");
        assert_near(name, &probabilities(found), &probabilities(expected), 0.01);
    }
}

#[test]
fn whole_numbers_of_8_bits_are_measured_and_a_quarter_as_large() {
    let scene = trained();
    let float = export(&scene, &["float.onnx"]);
    let whole = export(&scene, &["whole.onnx", "--int8"]);
    let quantization = &whole["quantization"];
    assert_eq!(
        (quantization["num_calibration_images"].as_u64(), quantization["num_images"].as_u64()),
        (Some(24), Some(6))
    );
    let bytes = |report: &Value| report["bytes"].as_u64().expect("a number");
    assert!(bytes(&whole) * 10 < bytes(&float) * 4, "{} and {}", bytes(&whole), bytes(&float));
    let share = |key: &str| quantization[key].as_f64().expect("a share");
    assert!(share("top1_int8").max(share("top1_int8_depthwise_f32")) >= share("top1_f32") - 0.34);
    // A copy has no run around it, so nobody knows its images.
    std::fs::copy(scene.path("float.onnx"), scene.path("copy.onnx")).expect("a copy");
    export(&scene, &["pictures.onnx", "--int8", "--with-preprocessing", "--data", "photos"]);
    if let Some(output) = onnxruntime(&scene, &[&["pictures", "pictures.onnx"], &PHOTOS[..]].concat()) {
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), PHOTOS.len());
    }
}

#[test]
fn what_cannot_be_exported_is_said_and_leaves_what_was_there() {
    let scene = trained();
    scene.write("kept.onnx", "before");
    std::fs::copy(
        scene.checkpoints("run").pop().expect("one").join("model.safetensors"),
        scene.path("alone.safetensors"),
    )
    .expect("a copy");
    let mut exchanges = String::new();
    let mut say = |args: &[&str]| {
        let output = scene.run(&[&["export"], args].concat());
        assert!(!output.status.success(), "{args:?}");
        exchanges.push_str(&format!("$ ghostnet export {}\n{}\n\n", args.join(" "), scene.exchange(&output)));
    };
    say(&["run", "model.pth"]);
    say(&["run", "kept.onnx", "--opset", "5"]);
    say(&["run", "kept.onnx", "--opset", "17", "--with-preprocessing"]);
    say(&["run", "kept.onnx", "--dtype", "f16"]);
    say(&["run", "model.safetensors", "--int8"]);
    say(&["run", "kept.onnx", "--int8", "--fold=false"]);
    say(&["run", "kept.onnx", "--data", "photos"]);
    say(&["alone.safetensors", "kept.onnx", "--crop-pct", "0.9"]);
    say(&["run", "kept.onnx", "--crop-pct", "9"]);
    say(&["run", "nowhere/model.onnx"]);
    say(&["nothing", "model.onnx"]);
    say(&["alone.safetensors", "alone.safetensors"]);
    say(&["alone.safetensors", "model.onnx", "--int8"]);
    assert_eq!(std::fs::read(scene.path("kept.onnx")).expect("the file"), b"before");
    assert!(!Path::new(&scene.path(".kept.onnx.tmp")).exists());
    assert_snapshot!("refused_exports", exchanges);
}

#[test]
fn a_folded_file_is_for_inference_alone() {
    let scene = trained();
    export(&scene, &["folded.safetensors", "--fold"]);
    let train = scene.run(&["train", "--config", "recipe.toml", "--out", "other", "--weights", "folded.safetensors"]);
    assert_snapshot!(scene.exchange(&train), @r"
    exit code 1
    --- stderr
    error: the weights in `folded.safetensors` are for inference alone: their batch norms are folded into the convolutions

    hint: start from the checkpoint, or from a file that was exported without `--fold`
    ");
    let unfolded = scene.run(&["export", "folded.safetensors", "unfolded.safetensors"]);
    assert_eq!(unfolded.status.code(), Some(1));
    assert!(!scene.path("unfolded.safetensors").exists());
    export_of(&scene, "folded.safetensors", &["again.safetensors", "--fold"]);
    assert!(tensors(&scene.path("again.safetensors")).keys().all(|name| !name.contains("running")));
    let average = scene.run(&["average", "folded.safetensors", "folded.safetensors"]);
    assert_snapshot!(scene.exchange(&average), @r"
    exit code 1
    --- stderr
    error: `folded.safetensors` has its batch norms folded into the convolutions, and such weights cannot be averaged
    ");
}

#[test]
fn a_network_is_verified_against_numbers_and_the_first_stage_that_differs_is_named() {
    let scene = trained();
    let output = scene.run(&["verify", "run", "--write", "reference.json", "--format", "json"]);
    let written: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&written["path"], &written["num_inputs"]), (&"reference.json".into(), &4.into()));
    export(&scene, &["folded.safetensors", "--fold"]);
    let inspected = scene.run(&["inspect", "folded.safetensors", "--format", "json"]);
    let inspected: Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
    assert_eq!(inspected["tensors"], 2 * 96);
    assert!(scene.run(&["verify", "run", "--against", "reference.json"]).status.success());
    // Other weights, the same function.
    let mut reference: Value =
        serde_json::from_slice(&std::fs::read(scene.path("reference.json")).expect("the file")).expect("JSON");
    assert!(scene.run(&["verify", "folded.safetensors", "--against", "reference.json"]).status.success());
    let stage = &mut reference["eval"][2]["stages"][3];
    stage["mean"] = (stage["mean"].as_f64().expect("a mean") + 0.01).into();
    scene.write("wrong.json", reference.to_string());
    let output = scene.run(&["verify", "run", "--against", "wrong.json", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let verified: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let differs: Vec<&Value> = verified["differences"]
        .as_array()
        .expect("differences")
        .iter()
        .filter(|difference| difference["difference"].as_f64() > difference["tolerance"].as_f64())
        .collect();
    assert_eq!(differs.len(), 1);
    assert_eq!((&differs[0]["what"], &differs[0]["input"]), (&"blocks.2".into(), &serde_json::json!([1, 3, 96, 160])));
    let mut exchanges = String::new();
    let mut say = |contents: &str| {
        scene.write("bad.json", contents);
        let output = scene.run(&["verify", "folded.safetensors", "--against", "bad.json"]);
        exchanges.push_str(&format!("{contents}\n{}\n\n", scene.exchange(&output)));
    };
    say("{}");
    say(r#"{"eval": []}"#);
    say(r#"{"eval": [{"shape": [1, 3, 32, 32], "logits": [[1, 2]]}]}"#);
    say(r#"{"eval": [{"shape": [1, 1, 32, 32], "logits": []}]}"#);
    say(r#"{"eval": [{"shape": [1, 3, 99999999, 99999999], "logits": []}]}"#);
    say(
        r#"{"eval": [{"shape": [1, 3, 32, 32], "logits": [], "stages": [{"name": "conv", "shape": [], "mean": 0, "abs_mean": 0}]}]}"#,
    );
    assert_snapshot!("refused_references", exchanges);
}

type State = Vec<(String, TensorData)>;

/// Weights that come from a rule, written as timm would, and the numbers that PyTorch and timm computed with them.
#[test]
fn the_published_networks_are_verified_through_the_program() {
    let scene = Scene::empty();
    let state = |variant, width| -> State {
        let config = GhostNetConfig::new(10).with_variant(variant).with_width(width);
        let state = hash_rule::fill(config.init(&Device::flex()).state(0));
        state.into_iter().map(|tensor| (tensor.name, tensor.data)).collect()
    };
    let verify = |state: &State, reference: &str| -> Value {
        scene.write("weights.safetensors", trainer::weights::encode(state, None).expect("tensors"));
        let output = scene.run(&["verify", "weights.safetensors", "--against", reference, "--format", "json"]);
        let verified: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(verified["agrees"], true, "{verified}");
        verified
    };
    for (variant, width, name) in [
        (Variant::Ghostnet, 0.5, "ghostnet_050"),
        (Variant::Ghostnet, 1.0, "ghostnet_100"),
        (Variant::Ghostnet, 1.3, "ghostnet_130"),
        (Variant::GhostnetV2, 1.0, "ghostnetv2_100"),
        (Variant::GhostnetV3, 1.0, "ghostnetv3_100"),
    ] {
        let fixture = fixture(name);
        let verified = verify(&state(variant, width), &fixture);
        // Inputs with twelve stages and the scores, and two sums of the weights.
        let inputs = if variant == Variant::Ghostnet { 6 } else { 5 };
        assert_eq!(verified["differences"].as_array().expect("differences").len(), inputs * 13 + 2);
        if variant == Variant::GhostnetV3 {
            // As the official code names them.
            let official = |(name, data): (String, TensorData)| (name.replace(".bn1.", ".bn."), data);
            let is_branch = |(name, _): &(String, TensorData)| name.contains("_rpr_");
            let (branches, others): (State, State) = state(variant, width).into_iter().partition(is_branch);
            let state = branches.into_iter().map(official).chain(others).collect();
            verify(&state, &fixture);
            assert!(scene.run(&["import", "weights.safetensors", "-o", "official.safetensors"]).status.success());
        }
    }
    // GhostNetV3 as it is deployed: where branches are merged there are biases and no norms.
    let is_merged =
        |name: &str| ["primary_conv.1.", "cheap_operation.1.", "bn_dw."].iter().any(|norm| name.contains(norm));
    let mut deployed: State = Vec::new();
    for (name, data) in state(Variant::GhostnetV2, 1.0).into_iter().filter(|(name, _)| !is_merged(name)) {
        let layer = name.strip_suffix(".weight").filter(|layer| {
            ["primary_conv.0", "cheap_operation.0", "conv_dw"].iter().any(|merged| layer.ends_with(merged))
        });
        if let Some(layer) = layer {
            let bias = format!("{layer}.bias");
            let values = hash_rule::weights(&bias, &[data.shape()[0]], false);
            deployed.push((bias, TensorData::new(values, [data.shape()[0]])));
        }
        deployed.push((name, data));
    }
    let reference: Value =
        serde_json::from_slice(&std::fs::read(fixture("ghostnetv3_100")).expect("a file")).expect("JSON");
    scene.write("deployed.json", reference["deploy_direct"].to_string());
    verify(&deployed, &scene.path("deployed.json").display().to_string());
    let output = scene.run(&["import", "weights.safetensors", "-o", "deployed.safetensors"]);
    assert_snapshot!(scene.exchange(&output), @r#"
    exit code 0
    --- stdout
    deployed.safetensors
      it is a safetensors file
      it is GhostNetV3 1x as it is deployed, its branches merged (arXiv:2404.11202), which is a GhostNetV2 with other weights, `variant = "ghostnetv2"`, for 10 classes, and every tensor is there
      it does not say what its classes are called, so they are numbered from 0
    "#);
    // One tensor less is one too few.
    deployed.retain(|(name, _)| name != "blocks.0.0.ghost1.primary_conv.0.bias");
    scene.write("weights.safetensors", trainer::weights::encode(&deployed, None).expect("tensors"));
    let output = scene.run(&["import", "weights.safetensors", "-o", "deployed.safetensors"]);
    assert_snapshot!(scene.exchange(&output), @r"
    exit code 1
    --- stderr
    error: `weights.safetensors` is a GhostNetV3 as it is deployed, and not a whole one; what follows are names of GhostNetV2, where norms stand in place of the biases
      cause: the tensors do not fit the network; missing: `blocks.0.0.ghost1.primary_conv.1.bias`
    ");
}

fn fixture(name: &str) -> String {
    format!("{}/../ghostnet/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"))
}
