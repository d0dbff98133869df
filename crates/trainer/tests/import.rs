//! Weights of other programs become model files, through the binary.

#[path = "../../foreign-weights/tests/weights/build/mod.rs"]
mod build;
mod scene;

use insta::assert_snapshot;

use crate::build::{Pickle, torch_legacy, torch_zip};
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
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/../foreign-weights/tests/weights/files");
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
