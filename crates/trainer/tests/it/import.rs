//! Weights of other programs become model files, through the binary.

#[path = "../../../foreign-weights/tests/it/build/mod.rs"]
#[expect(dead_code, reason = "what only the tests of the reader need")]
pub(crate) mod build;

use burn::tensor::TensorData;
use insta::assert_snapshot;

use self::build::{Pickle, torch_legacy, torch_zip};
use crate::scene::{Scene, tensors};

/// The scene with a run, whose weights are also there as another program would have written them: without a card, prefixed, and in
/// the formats of PyTorch.
fn scene_with_weights() -> Scene {
    let scene = Scene::new();
    scene.train("run", &[]);
    let model = scene.checkpoints("run").pop().expect("a checkpoint").join("model.safetensors");
    let state: Vec<_> = tensors(&model).into_iter().collect();
    scene.write("bare.safetensors", trainer::weights::encode(&state, None).expect("tensors"));
    let mut values: Vec<f32> = Vec::new();
    let mut pickle = Pickle::new().raw(b"}").text("epoch").int(3).raw(b"s").text("state_dict").raw(b"}");
    let floats: Vec<_> = state.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).collect();
    let total: usize = floats.iter().map(|(_, data)| data.num_elements()).sum();
    for (name, data) in floats {
        let shape: Vec<i64> = data.shape().iter().map(|&side| side as i64).collect();
        let stride: Vec<i64> = (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
        let name = format!("module.{name}");
        pickle = pickle.text(&name).tensor(total as i64, values.len() as i64, &shape, &stride).raw(b"s");
        values.extend(data.iter::<f32>());
    }
    let pickle = pickle.raw(b"s").stop();
    let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
    scene.write("nested.pth", torch_zip(&pickle, &bytes));
    scene.write("old.pth", torch_legacy(&pickle, &bytes));
    scene.write("classes.txt", "cat\ndog\nseñor-übel\n");
    scene
}

#[test]
fn every_format_gives_the_weights_that_were_written() {
    let scene = scene_with_weights();
    let model = tensors(&scene.checkpoints("run").pop().expect("a checkpoint").join("model.safetensors"));
    for file in ["bare.safetensors", "nested.pth", "old.pth"] {
        let args = ["import", file, "-o", "imported.safetensors", "--classes", "classes.txt", "--format", "json"];
        let output = scene.run(&args);
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        let written: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((written["width"].as_f64(), written["num_classes"].as_u64()), (Some(0.25), Some(3)), "{file}");
        let imported = tensors(&scene.path("imported.safetensors"));
        for (name, found) in model.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")) {
            assert!(imported[name] == *found, "{file}: {name}");
        }
        // It is a model file like any other.
        let eval = scene.run(&["eval", "imported.safetensors", "--data", "photos", "--device", "cpu"]);
        assert!(eval.status.success(), "{file}: {}", String::from_utf8_lossy(&eval.stderr));
    }
    let text = scene.run(&["import", "nested.pth", "-o", "imported.safetensors"]);
    assert_snapshot!(scene.exchange(&text), @r"
    exit code 0
    --- stdout
    imported.safetensors
      it is a file of PyTorch
      the weights are those under `state_dict`
      took `module.` off the front of every name
      it is GhostNet 0.25x of 2020 (arXiv:1911.11907) for 3 classes, and every tensor is there
      it does not say what its classes are called, so they are numbered from 0
    ");
}

#[test]
fn a_run_starts_from_weights_of_another_program() {
    let scene = scene_with_weights();
    scene.photos("birds", &["robin", "wren"], 8, 2);
    let still = [
        "--set",
        "optimizer.learning_rate=0",
        "--set",
        "train.total={steps=1}",
        "--set",
        "schedule={}",
        "--data",
        "birds",
    ];
    scene.train("ours", &[&still[..], &["--weights", "run/checkpoints/step-00000012/model.safetensors"]].concat());
    scene.train("theirs", &[&still[..], &["--weights", "nested.pth"]].concat());
    let last = |out| tensors(&scene.path(&format!("{out}/checkpoints/step-00000001/model.safetensors")));
    assert!(last("ours") == last("theirs"));
}

#[test]
fn what_is_no_such_network_is_refused_by_name() {
    let scene = scene_with_weights();
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/../foreign-weights/tests/files");
    let mut exchanges = String::new();
    let mut say = |args: &[&str]| {
        let output = scene.run(&[&["import"], args].concat());
        assert!(!output.status.success());
        let shown = scene.exchange(&output).replace(files, "FILES");
        exchanges.push_str(&format!("$ ghostnet import {}\n{shown}\n\n", args.join(" ").replace(files, "FILES")));
    };
    say(&["nowhere.pth"]);
    say(&["recipe.toml"]);
    say(&[&format!("{files}/tiny_v1.pth")]);
    say(&[&format!("{files}/tiny_v3_official.pth")]);
    say(&[&format!("{files}/made/whole_module.pth")]);
    say(&[&format!("{files}/made/not_finite.pth")]);
    say(&["bare.safetensors"]);
    scene.write("two.txt", "cat\ndog\n");
    say(&["nested.pth", "--classes", "two.txt"]);
    say(&["nested.pth", "--key", "ema"]);
    assert_snapshot!("refused_weights", exchanges);
}

/// `key = value` of a recipe for the network of PaddleClas.
const PADDLE: &str = "model.variant=ghostnet_paddle";

/// Names of every layer: ours, those of iamhankai/ghostnet.pytorch, those of PaddleClas. Made by `gen/lineages.py`.
fn layer_names() -> Vec<[&'static str; 3]> {
    let table = include_str!("../../../ghostnet/tests/fixtures/ghostnet_paddle_names.tsv");
    let row = |row: &'static str| row.split('\t').collect::<Vec<_>>().try_into().expect("three names");
    table.lines().skip(1).map(row).collect()
}

pub(crate) type State = Vec<(String, TensorData)>;

/// The tensors as iamhankai's program keeps them: squeeze-and-excite and the head are dense layers.
fn of_iamhankai(state: &State) -> State {
    let names = layer_names();
    let rename = |(name, data): &(String, TensorData)| {
        let (layer, leaf) = name.rsplit_once('.').expect("a layer");
        let [_, theirs, _] = names.iter().find(|[ours, ..]| *ours == layer).expect("a row");
        let is_dense = (layer.contains(".se.") || layer == "conv_head") && leaf == "weight";
        let data = if is_dense { matrix(data) } else { data.clone() };
        (format!("{theirs}.{leaf}"), data)
    };
    state.iter().map(rename).collect()
}

/// The tensors as PaddleClas keeps them: dense layers in x out, other names for running statistics, no counts of batches.
fn of_paddleclas(state: &State) -> State {
    let names = layer_names();
    let rename = |(name, data): &(String, TensorData)| {
        let (layer, leaf) = name.rsplit_once('.').expect("a layer");
        let [.., theirs] = names.iter().find(|[ours, ..]| *ours == layer).expect("a row");
        let leaf = match leaf {
            "running_mean" => "_mean",
            "running_var" => "_variance",
            "num_batches_tracked" => return None,
            leaf => leaf,
        };
        let is_dense = (layer.contains(".se.") || layer == "classifier") && leaf == "weight";
        let data = if is_dense { transposed(data) } else { data.clone() };
        Some((format!("{theirs}.{leaf}"), data))
    };
    state.iter().filter_map(rename).collect()
}

/// A 1x1 convolution's weight as that of a dense layer.
fn matrix(data: &TensorData) -> TensorData {
    TensorData::new(data.iter::<f32>().collect(), [data.shape()[0], data.shape()[1]])
}

/// The same with rows for columns.
fn transposed(data: &TensorData) -> TensorData {
    let (rows, columns) = (data.shape()[0], data.shape()[1]);
    let values: Vec<f32> = data.iter::<f32>().collect();
    let at = |column: usize| (0..rows).map(move |row| row * columns + column);
    TensorData::new((0..columns).flat_map(at).map(|at| values[at]).collect(), [columns, rows])
}

/// A file of PyTorch with float32 tensors.
pub(crate) fn zip_file(state: &State) -> Vec<u8> {
    let floats: Vec<_> = state.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).collect();
    let total: usize = floats.iter().map(|(_, data)| data.num_elements()).sum();
    let (mut pickle, mut values) = (Pickle::new().raw(b"}"), Vec::<f32>::new());
    for (name, data) in floats {
        let shape: Vec<i64> = data.shape().iter().map(|&side| side as i64).collect();
        let stride: Vec<i64> = (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
        pickle = pickle.text(name).tensor(total as i64, values.len() as i64, &shape, &stride).raw(b"s");
        values.extend(data.iter::<f32>());
    }
    torch_zip(&pickle.stop(), &values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
}

/// A file of Paddle.
fn pdparams(state: &State) -> Vec<u8> {
    let mut pickle = Pickle::new().raw(b"}");
    for (name, data) in state {
        let shape: Vec<i64> = data.shape().iter().map(|&side| side as i64).collect();
        let length = u32::try_from(4 * data.num_elements()).expect("a small tensor").to_le_bytes();
        let bytes: Vec<u8> = data.iter::<f32>().flat_map(f32::to_le_bytes).collect();
        pickle = pickle.text(name).array(&shape, &[b"B", &length[..], &bytes].concat()).raw(b"s");
    }
    pickle.text("StructuredToParameterName@@").raw(b"}").text("fc_1.weight").text("linear_0.w_0").raw(b"ss").stop()
}

/// The scene with a run of the network of PaddleClas, and its tensors.
fn scene_with_the_other_lineage() -> (Scene, State) {
    let scene = Scene::new();
    scene.train("run", &["--set", PADDLE]);
    let model = scene.checkpoints("run").pop().expect("a checkpoint").join("model.safetensors");
    let state = tensors(&model).into_iter().collect();
    (scene, state)
}

pub(crate) fn safetensors(state: &State) -> Vec<u8> {
    trainer::weights::encode(state, None).expect("tensors")
}

#[test]
fn weights_of_the_other_lineage_are_recognised_under_every_name() {
    let (scene, state) = scene_with_the_other_lineage();
    scene.write("ours.safetensors", safetensors(&state));
    scene.write("iamhankai.safetensors", safetensors(&of_iamhankai(&state)));
    scene.write("iamhankai.pth", zip_file(&of_iamhankai(&state)));
    scene.write("paddleclas.safetensors", safetensors(&of_paddleclas(&state)));
    scene.write("paddleclas.pdparams", pdparams(&of_paddleclas(&state)));
    let files =
        ["ours.safetensors", "iamhankai.safetensors", "iamhankai.pth", "paddleclas.safetensors", "paddleclas.pdparams"];
    for file in files {
        let output = scene.run(&["import", file, "-o", "imported.safetensors", "--format", "json"]);
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        let written: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(written["variant"], "ghostnet_paddle", "{file}");
        assert_eq!((written["width"].as_f64(), written["num_classes"].as_u64()), (Some(0.25), Some(3)), "{file}");
        let imported = tensors(&scene.path("imported.safetensors"));
        for (name, data) in state.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")) {
            assert!(imported[name] == *data, "{file}: {name}");
        }
    }
    let inspect = scene.run(&["inspect", "imported.safetensors"]);
    let text = String::from_utf8_lossy(&inspect.stdout).into_owned();
    assert!(text.starts_with("GhostNet of PaddleClas 0.25x, 3 classes, 224 px"), "{text}");
    assert!(text.contains("bilinear"), "{text}");
    let texts = ["iamhankai.pth", "paddleclas.pdparams"].map(|file| {
        let output = scene.run(&["import", file, "-o", "imported.safetensors"]);
        scene.exchange(&output)
    });
    assert_snapshot!(texts.join("\n\n"), @r#"
    exit code 0
    --- stdout
    imported.safetensors
      it is a file of PyTorch
      its names are those of iamhankai/ghostnet.pytorch, and were changed to ours
      it is GhostNet 0.25x of 2020 as PaddleClas and iamhankai/ghostnet.pytorch have it, `variant = "ghostnet_paddle"`, for 3 classes, and every tensor is there
      it does not say what its classes are called, so they are numbered from 0

    exit code 0
    --- stdout
    imported.safetensors
      it is a pickle of NumPy arrays, as Paddle writes them
      its names are those of PaddleClas, and were changed to ours
      it is GhostNet 0.25x of 2020 as PaddleClas and iamhankai/ghostnet.pytorch have it, `variant = "ghostnet_paddle"`, for 3 classes, and every tensor is there
      it does not say what its classes are called, so they are numbered from 0
    "#);
    // A run starts from them, with the recipe of that network.
    let still = ["--set", "optimizer.learning_rate=0", "--set", "train.total={steps=1}", "--set", "schedule={}"];
    scene.train("again", &[&still[..], &["--set", PADDLE, "--weights", "paddleclas.pdparams"]].concat());
    let again = tensors(&scene.checkpoints("again").pop().expect("a checkpoint").join("model.safetensors"));
    let weights: State =
        state.iter().filter(|(name, _)| name == "bn2.weight" || name.contains(".se.")).cloned().collect();
    assert_eq!(weights.len(), 1 + 7 * 4);
    assert!(weights.iter().all(|(name, data)| again[name] == *data));
}

#[test]
fn networks_that_look_like_another_lineage_are_refused_by_name() {
    let (scene, state) = scene_with_the_other_lineage();
    // Shortcuts of 3x3, as d-li14's.
    let cut = |(name, data): &(String, TensorData)| match data.shape()[..] {
        [channels, 1, 5, 5] if name.contains("shortcut") => {
            (name.clone(), TensorData::new(vec![0.5f32; channels * 9], [channels, 1, 3, 3]))
        }
        _ => (name.clone(), data.clone()),
    };
    let d_li14: State = state.iter().map(cut).collect();
    scene.write("d_li14.pth", zip_file(&of_iamhankai(&d_li14)));
    scene.write("d_li14_renamed.safetensors", safetensors(&d_li14));
    // The head's norm folded into a bias, under timm's names: it would pass for the official network.
    let mut folded: State = state.iter().filter(|(name, _)| !name.starts_with("bn2.")).cloned().collect();
    folded.push(("conv_head.bias".to_string(), TensorData::new(vec![0.0f32; 1280], [1280])));
    scene.write("folded.safetensors", safetensors(&folded));
    // Both a bias and a norm.
    let mut both = state.clone();
    both.push(("conv_head.bias".to_string(), TensorData::new(vec![0.0f32; 1280], [1280])));
    scene.write("both.safetensors", safetensors(&both));
    // A tensor that is missing, and dense layers in the wrong order.
    let less: State =
        of_iamhankai(&state).into_iter().filter(|(name, _)| name != "features.4.conv.2.fc.2.bias").collect();
    scene.write("less.safetensors", safetensors(&less));
    let turn = |(name, data): (String, TensorData)| match name.as_str() {
        "fc_1.weight" => (name, transposed(&data)),
        _ => (name, data),
    };
    scene.write("turned.safetensors", safetensors(&of_paddleclas(&state).into_iter().map(turn).collect()));
    let headless: State = of_paddleclas(&state).into_iter().filter(|(name, _)| !name.starts_with("fc_1.")).collect();
    scene.write("headless.safetensors", safetensors(&headless));
    // The card of the official network on the tensors of the other one.
    let model = scene.checkpoints("run").pop().expect("a checkpoint").join("model.safetensors");
    let mut card = trainer::weights::ModelFile::read(&model).expect("a model").card;
    card.variant = ghostnet::Variant::Ghostnet;
    scene.write("false_card.safetensors", trainer::weights::encode(&state, Some(&card)).expect("tensors"));

    let mut exchanges = String::new();
    let mut say = |args: &[&str]| {
        let output = scene.run(args);
        assert!(!output.status.success(), "{args:?}");
        exchanges.push_str(&format!("$ ghostnet {}\n{}\n\n", args.join(" "), scene.exchange(&output)));
    };
    for file in ["d_li14.pth", "d_li14_renamed.safetensors", "folded.safetensors", "both.safetensors"] {
        say(&["import", file, "-o", "imported.safetensors"]);
    }
    for file in ["less.safetensors", "turned.safetensors", "headless.safetensors"] {
        say(&["import", file, "-o", "imported.safetensors"]);
    }
    say(&["eval", "false_card.safetensors", "--data", "photos", "--device", "cpu"]);
    const LAST: &str = "run/checkpoints/step-00000012/model.safetensors";
    say(&["train", "--config", "recipe.toml", "--out", "new", "--device", "cpu", "--weights", LAST]);
    assert_snapshot!("refused_lineages", exchanges);
}

#[test]
fn a_part_of_a_network_is_refused_unless_it_is_asked_for() {
    let scene = scene_with_weights();
    let path = scene.path("bare.safetensors");
    let mut part: Vec<_> = tensors(&path).into_iter().filter(|(name, _)| !name.starts_with("classifier")).collect();
    part.push(("fc.weight".to_string(), burn::tensor::TensorData::new(vec![0_f32; 4], [4])));
    scene.write("part.safetensors", trainer::weights::encode(&part, None).expect("tensors"));
    let refused = scene.run(&["import", "part.safetensors", "-o", "whole.safetensors"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(!scene.path("whole.safetensors").exists());
    scene.write("two.txt", "robin\nwren\n");
    let taken =
        scene.run(&["import", "part.safetensors", "--partial", "-o", "whole.safetensors", "--classes", "two.txt"]);
    assert_snapshot!(scene.exchange(&taken), @r"
    exit code 0
    --- stdout
    whole.safetensors
      it is a safetensors file
      430 of the 432 tensors of a GhostNet 0.25x were taken
      these start random: `classifier.weight`, `classifier.bias`
      these have no place in it and were left out: `fc.weight`
    ");
    let whole = tensors(&scene.path("whole.safetensors"));
    assert_eq!(whole["classifier.weight"].shape().to_vec(), [2, 1280]);
    for (name, expected) in part.iter().filter(|(name, _)| name != "fc.weight" && !name.ends_with("tracked")) {
        assert!(whole[name] == *expected, "{name}");
    }
    // The rest is the same every time.
    scene.run(&["import", "part.safetensors", "--partial", "-o", "again.safetensors", "--classes", "two.txt"]);
    assert!(tensors(&scene.path("again.safetensors")) == whole);
}
