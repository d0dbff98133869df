//! Weights as people have them: with one output, under the names that other programs give, in parts, or with other layers at the ends.
//! Each file is made here by its rule, and goes through the program.

use burn::tensor::{Device, TensorData};
use ghostnet::GhostNetConfig;
use serde_json::{Value, json};

use crate::import::build::{Pickle, torch_zip};
use crate::import::{State, safetensors, zip_file};
use crate::scene::{Scene, tensors};

/// The tensors of a small network with random weights.
fn network(num_classes: usize) -> State {
    let model = GhostNetConfig::new(num_classes).with_width(0.25).init(&Device::flex());
    model.state(0).into_iter().map(|tensor| (tensor.name, tensor.data)).collect()
}

/// The tensors under other names.
fn renamed(state: &State, rename: impl Fn(&str) -> String) -> State {
    state.iter().map(|(name, data)| (rename(name), data.clone())).collect()
}

/// The tensors without those whose names begin so.
fn without(state: &State, prefix: &str) -> State {
    state.iter().filter(|(name, _)| !name.starts_with(prefix)).cloned().collect()
}

fn filled(name: &str, value: f32, shape: &[usize]) -> (String, TensorData) {
    (name.to_string(), TensorData::new(vec![value; shape.iter().product()], shape.to_vec()))
}

/// A file of PyTorch: a dictionary of dictionaries of float32 tensors, with the number of an epoch.
fn checkpoint(sets: &[(&str, &State)]) -> Vec<u8> {
    let floats = |state: &State| -> State {
        state.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).cloned().collect()
    };
    let sets: Vec<(&str, State)> = sets.iter().map(|(key, state)| (*key, floats(state))).collect();
    let total: usize = sets.iter().flat_map(|(_, state)| state).map(|(_, data)| data.num_elements()).sum();
    let (mut pickle, mut values) = (Pickle::new().raw(b"}").text("epoch").int(3).raw(b"s"), Vec::<f32>::new());
    for (key, state) in &sets {
        pickle = pickle.text(key).raw(b"}");
        for (name, data) in state {
            let shape: Vec<i64> = data.shape().iter().map(|&side| side as i64).collect();
            let stride: Vec<i64> = (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
            pickle = pickle.text(name).tensor(total as i64, values.len() as i64, &shape, &stride).raw(b"s");
            values.extend(data.iter::<f32>());
        }
        pickle = pickle.raw(b"s");
    }
    torch_zip(&pickle.stop(), &values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
}

/// Checks that a model file has the numbers of a state.
fn assert_holds(scene: &Scene, file: &str, expected: &State, what: &str) {
    let found = tensors(&scene.path(file));
    for (name, data) in expected.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")) {
        assert!(found.get(name) == Some(data), "{what}: {name}");
    }
}

/// What a command prints with `--format json`; fails the test if the command fails.
fn printed(scene: &Scene, args: &[&str]) -> Value {
    let output = scene.run(&[args, &["--format", "json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a command that must fail says.
fn refusal(scene: &Scene, args: &[&str]) -> String {
    let output = scene.run(args);
    assert!(!output.status.success(), "{args:?} is accepted");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The notes of an import into `imported.safetensors`, made for images of 32 pixels.
fn import(scene: &Scene, args: &[&str]) -> Vec<String> {
    let written = printed(scene, &[&["import"], args, &["-o", "imported.safetensors", "--image-size", "32"]].concat());
    let notes = written["notes"].as_array().expect("notes");
    notes.iter().map(|note| note.as_str().expect("text").to_string()).collect()
}

const PHOTO: &str = "photos/val/cat/000.png";

#[test]
fn the_probability_of_one_output_is_the_sigmoid_of_its_logit() {
    let scene = Scene::new();
    scene.write("one.safetensors", safetensors(&network(1)));
    let notes = import(&scene, &["one.safetensors"]);
    assert!(
        notes.contains(&"the network has one output, whose probability is the sigmoid of its logit".to_string()),
        "{notes:?}"
    );
    // A file that was imported before this was known has no flag.
    let path = scene.path("imported.safetensors");
    let file = trainer::weights::ModelFile::read(&path).expect("a model");
    let mut card = file.card.clone();
    assert!(std::mem::take(&mut card.independent_classes));
    let state: State = file.into_tensors().into_iter().map(|tensor| (tensor.name, tensor.data)).collect();
    scene.write("before.safetensors", trainer::weights::encode(&state, Some(&card)).expect("tensors"));
    printed(&scene, &["export", "before.safetensors", "before.onnx"]);
    for model in ["imported.safetensors", "before.safetensors", "before.onnx"] {
        let predictions = printed(&scene, &["predict", model, PHOTO, "--device", "cpu"]);
        let guesses = predictions[0]["guesses"].as_array().expect("guesses");
        assert_eq!(guesses.len(), 1, "{model}");
        let [probability, score] = ["probability", "score"].map(|key| guesses[0][key].as_f64().expect("a number"));
        assert!((probability - 1.0 / (1.0 + (-score).exp())).abs() < 1e-5, "{model}: {probability} for {score}");
        assert!(probability < 1.0, "{model}");
    }
    let refused = refusal(&scene, &["eval", "before.safetensors", "--data", "photos", "--device", "cpu"]);
    assert_eq!(
        refused.trim_end(),
        "error: the network has one output, `class 0`, whose probability is the sigmoid of its logit; accuracy is defined only for \
         two or more classes\n\n\
         hint: `ghostnet predict --format json` gives the probability for each image"
    );
}

#[test]
fn names_of_classes_are_read_by_their_form_and_doubles_are_refused() {
    let scene = Scene::empty();
    scene.write("w.safetensors", safetensors(&network(3)));
    for (file, contents) in [
        ("bom.txt", "\u{feff}cat\r\ndog\r\nbird"),
        ("list.json", r#"["cat", "dog", "bird"]"#),
        ("config.json.txt", r#"{"id2label": {"0": "cat", "1": "dog", "2": "bird"}}"#),
        ("csv.csv", "id,name\n0,cat\n1,dog\n2,bird\n"),
    ] {
        scene.write(file, contents);
        import(&scene, &["w.safetensors", "--classes", file]);
        let card = trainer::weights::ModelFile::read(&scene.path("imported.safetensors")).expect("a model").card;
        assert_eq!(card.classes, ["cat", "dog", "bird"], "{file}");
    }
    scene.write("alike.txt", "cat\ncat\ndog\n");
    assert_eq!(
        refusal(&scene, &["import", "w.safetensors", "-o", "out.safetensors", "--classes", "alike.txt"]).trim_end(),
        "error: `alike.txt`, line 2: `cat` is already the name of another class, see line 1: give each class a unique name"
    );
    scene.write("gap.txt", "cat\n\ndog\n");
    let refused = refusal(&scene, &["import", "w.safetensors", "-o", "out.safetensors", "--classes", "gap.txt"]);
    assert!(refused.starts_with("error: `gap.txt`, line 2: the name is blank"), "{refused}");
}

#[test]
fn the_network_is_found_under_any_names_and_what_else_is_in_the_file_is_told() {
    let scene = Scene::empty();
    let state = network(5);
    let head = |theirs: &'static str| move |name: &str| name.replace("classifier.", theirs);
    let mut criterion = renamed(&state, |name| format!("model.{name}"));
    // Nobody computes with it, so it is no matter what it holds.
    criterion.push(filled("criterion.weight", f32::NAN, &[5]));
    let backbone = |name: &str| match name.strip_prefix("classifier.") {
        Some(leaf) => format!("head.{leaf}"),
        None => format!("backbone.{name}"),
    };
    let trunk = without(&state, "classifier.");
    let bare_head: State =
        renamed(&state, head("")).into_iter().filter(|(name, _)| ["weight", "bias"].contains(&name.as_str())).collect();
    assert_eq!(bare_head.len(), 2);
    for (file, contents, notes) in [
        (
            "criterion.ckpt",
            checkpoint(&[("state_dict", &criterion)]),
            &[
                "the network consists of the tensors with names that begin with `model.`",
                "left out: `criterion.weight`",
            ][..],
        ),
        (
            "backbone_head.pth",
            zip_file(&renamed(&state, backbone)),
            &["names that begin with `backbone.`", "its classifier is called `head`"],
        ),
        (
            "sequential.pth",
            zip_file(&renamed(&state, head("classifier.1."))),
            &["its classifier is called `classifier.1`"],
        ),
        ("fc.safetensors", safetensors(&renamed(&state, head("fc."))), &["its classifier is called `fc`"]),
        (
            "compiled.safetensors",
            safetensors(&renamed(&state, |name| format!("learner.module._orig_mod.{name}"))),
            &["names that begin with `learner.module._orig_mod.`"],
        ),
        (
            "apart.pth",
            checkpoint(&[("encoder", &trunk), ("head", &bare_head)]),
            &["the weights are those under `encoder`", "its classifier is called `head`"],
        ),
    ] {
        scene.write(file, contents);
        let said = import(&scene, &[file]).join("\n");
        assert!(notes.iter().all(|note| said.contains(note)), "{file}: {said}");
        assert!(said.contains("for 5 classes, and every tensor is there"), "{file}: {said}");
        assert_holds(&scene, "imported.safetensors", &state, file);
    }
}

#[test]
fn another_head_or_none_is_no_obstacle_to_fine_tuning() {
    let scene = Scene::new();
    let state = network(5);
    let mut two_layers = without(&state, "classifier.");
    two_layers.extend([filled("classifier.0.weight", 0.1, &[64, 1280]), filled("classifier.0.bias", 0.1, &[64])]);
    two_layers.extend([filled("classifier.2.weight", 0.1, &[5, 64]), filled("classifier.2.bias", 0.1, &[5])]);
    let still = ["--set", "optimizer.learning_rate=0", "--set", "train.total={steps=1}", "--set", "schedule={}"];
    for (file, contents, refusal_says, plan_says) in [
        (
            "headless.pth",
            without(&state, "classifier."),
            "holds a GhostNet without a classifier",
            "they come without a classifier, which starts from random values",
        ),
        (
            "pooled.pth",
            without(&without(&state, "classifier."), "conv_head."),
            "holds a GhostNet without a classifier",
            "they come without a head, which starts from random values",
        ),
        (
            "two_layers.pth",
            two_layers,
            "holds a GhostNet with a head other than a single dense layer, which is not supported: `classifier`",
            "they come without a classifier, which starts from random values",
        ),
    ] {
        scene.write(file, zip_file(&contents));
        let refused = refusal(&scene, &["import", file, "-o", "imported.safetensors"]);
        assert!(refused.contains(refusal_says) && refused.contains(&format!("train --weights {file}")), "{refused}");
        let plan = scene.run(&["train", "--config", "recipe.toml", "--weights", file, "--dry-run"]);
        let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
        assert!(plan.contains(plan_says), "{file}: {plan}");
        let out = file.replace(".pth", "");
        scene.train(&out, &[&still[..], &["--weights", file]].concat());
        let weights: State = contents
            .into_iter()
            .filter(|(name, _)| !name.starts_with("classifier.") && !name.contains("running_"))
            .collect();
        assert_holds(&scene, &format!("{out}/checkpoints/step-00000001/model.safetensors"), &weights, file);
    }
}

#[test]
fn several_networks_in_a_file_are_named_and_one_is_chosen_by_its_key() {
    let scene = Scene::new();
    let [student, teacher] = [network(3), network(3)];
    let flat =
        [renamed(&student, |name| format!("student.{name}")), renamed(&teacher, |name| format!("teacher.{name}"))];
    scene.write("nested.pth", checkpoint(&[("student", &student), ("teacher", &teacher)]));
    scene.write("flat.pth", checkpoint(&[("state_dict", &flat.concat())]));
    scene.write("flat.safetensors", safetensors(&flat.concat()));
    let hint =
        "holds several GhostNets, so one of them must be chosen\n\nhint: name one with `--key`: `student`, `teacher`";
    for file in ["nested.pth", "flat.pth", "flat.safetensors"] {
        let refused = refusal(&scene, &["import", file, "-o", "imported.safetensors"]);
        assert!(refused.trim_end().ends_with(hint), "{file}: {refused}");
        let refused = refusal(&scene, &["train", "--config", "recipe.toml", "--weights", file, "--dry-run"]);
        assert!(refused.trim_end().ends_with("hint: name one with `--key`: `student`, `teacher`"), "{file}: {refused}");
        for (key, state) in [("student", &student), ("teacher", &teacher), ("teacher.", &teacher)] {
            import(&scene, &[file, "--key", key]);
            assert_holds(&scene, "imported.safetensors", state, file);
        }
    }
    let refused = refusal(&scene, &["train", "--config", "recipe.toml", "--teacher", "nested.pth", "--dry-run"]);
    assert!(refused.contains("hint: name one with `--set distill.key=KEY`: `student`, `teacher`"), "{refused}");
    // The run remembers which it was, and another one is another run.
    let still = ["--set", "optimizer.learning_rate=0", "--set", "train.total={steps=1}", "--set", "schedule={}"];
    scene.train("tuned", &[&still[..], &["--weights", "nested.pth", "--key", "teacher"]].concat());
    let recipe = std::fs::read_to_string(scene.path("tuned/recipe.toml")).expect("a recipe");
    assert!(recipe.contains("key = \"teacher\""), "{recipe}");
    let weights: State =
        without(&teacher, "classifier.").into_iter().filter(|(name, _)| !name.contains("running_")).collect();
    assert_holds(&scene, "tuned/checkpoints/step-00000001/model.safetensors", &weights, "tuned");
    let args = ["train", "--config", "recipe.toml", "--out", "tuned", "--device", "cpu", "-q"];
    let other = refusal(&scene, &[&args[..], &still, &["--weights", "nested.pth", "--key", "student"]].concat());
    assert!(other.contains("finetune.key: \"teacher\" -> \"student\""), "{other}");
}

#[test]
fn a_first_convolution_for_one_or_four_channels_is_turned_back_as_timm_makes_it() {
    let scene = Scene::empty();
    let state = network(3);
    let stem = state.iter().find(|(name, _)| name == "conv_stem.weight").expect("a stem").1.clone();
    let [outputs, _, height, width] = stem.shape()[..] else { panic!("a convolution") };
    let weights: Vec<f32> = stem.iter::<f32>().collect();
    let kernel = height * width;
    let plane = |output: usize, channel: usize| &weights[(output * 3 + channel) * kernel..][..kernel];
    let with_stem = |channels: usize, values: Vec<f32>| -> State {
        let data = TensorData::new(values, [outputs, channels, height, width]);
        state
            .iter()
            .map(|(name, old)| (name.clone(), if name == "conv_stem.weight" { data.clone() } else { old.clone() }))
            .collect()
    };
    let summed = (0..outputs).flat_map(|o| (0..kernel).map(move |at| (0..3).map(|c| plane(o, c)[at]).sum::<f32>()));
    scene.write("in1.pth", zip_file(&with_stem(1, summed.collect())));
    let notes = import(&scene, &["in1.pth"]).join("\n");
    assert!(notes.contains("it takes one channel"), "{notes}");
    let found: Vec<f32> = tensors(&scene.path("imported.safetensors"))["conv_stem.weight"].iter::<f32>().collect();
    for (at, value) in found.iter().enumerate() {
        let (output, place) = (at / (3 * kernel), at % kernel);
        let sum: f32 = (0..3).map(|channel| plane(output, channel)[place]).sum();
        assert!((value - sum / 3.0).abs() < 1e-6, "{at}: {value} and a third of {sum}");
    }
    let four: Vec<f32> = (0..outputs)
        .flat_map(|o| (0..4).flat_map(move |c| plane(o, c % 3).iter().map(|weight| weight * 0.75)))
        .collect();
    scene.write("in4.pth", zip_file(&with_stem(4, four.clone())));
    let notes = import(&scene, &["in4.pth"]).join("\n");
    assert!(notes.contains("it takes 4 channels"), "{notes}");
    let found: Vec<f32> = tensors(&scene.path("imported.safetensors"))["conv_stem.weight"].iter::<f32>().collect();
    assert!(found.iter().zip(&weights).all(|(found, weight)| (found - weight).abs() < 1e-6));
    let trained: Vec<f32> = four.into_iter().enumerate().map(|(at, weight)| weight + at as f32 * 1e-3).collect();
    scene.write("depth.pth", zip_file(&with_stem(4, trained)));
    let refused = refusal(&scene, &["import", "depth.pth", "-o", "imported.safetensors"]);
    assert!(refused.starts_with("error: `depth.pth` takes images of 4 channels"), "{refused}");
}

#[test]
fn weights_in_several_files_are_joined_or_the_missing_one_is_named() {
    let scene = Scene::empty();
    let state = network(3);
    let (first, second) = state.split_at(state.len() / 2);
    let name = |number| format!("model-0000{number}-of-00002.safetensors");
    let map: serde_json::Map<String, Value> = [(first, 1), (second, 2)]
        .into_iter()
        .flat_map(|(part, number)| part.iter().map(move |(tensor, _)| (tensor.clone(), json!(name(number)))))
        .collect();
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
    let write = |folder: &str, part: &[(String, TensorData)], number: usize| {
        scene.write(&format!("{folder}/{}", name(number)), safetensors(&part.to_vec()));
    };
    for folder in ["model", "numbered"] {
        write(folder, first, 1);
        write(folder, second, 2);
    }
    scene.write("model/model.safetensors.index.json", &index);
    for weights in ["model", "model/model.safetensors.index.json", "numbered"] {
        let notes = import(&scene, &[weights]);
        assert_eq!(notes[0], "it is in 2 files, which were joined", "{weights}");
        assert_holds(&scene, "imported.safetensors", &state, weights);
    }
    let lone = refusal(&scene, &["import", "model/model-00001-of-00002.safetensors", "-o", "imported.safetensors"]);
    assert_eq!(
        lone.trim_end(),
        "error: `model/model-00001-of-00002.safetensors` is part 1 of 2 of a model\n\n\
         hint: name the folder with all parts, `model`, or the index in it, whose name ends in `.safetensors.index.json`"
    );
    for (folder, place) in [("numbered", "numbered"), ("model", "model/model.safetensors.index.json")] {
        std::fs::remove_file(scene.path(folder).join(name(2))).expect("a part");
        assert_eq!(
            refusal(&scene, &["import", folder, "-o", "imported.safetensors"]).trim_end(),
            format!(
                "error: `{place}` needs all 2 parts of the model, but these are missing: `model-00002-of-00002.safetensors`\n\n\
                 hint: download them into the same folder"
            )
        );
    }
    // The same part twice, and an index that leads elsewhere.
    write("model", first, 2);
    let twice = refusal(&scene, &["import", "model", "-o", "imported.safetensors"]);
    assert!(twice.contains("these are not parts of one model"), "{twice}");
    scene.write(
        "away/model.safetensors.index.json",
        r#"{"weight_map": {"a": "../model/model-00001-of-00002.safetensors"}}"#,
    );
    let away = refusal(&scene, &["import", "away", "-o", "imported.safetensors"]);
    assert!(away.contains("which is not a file in the same folder"), "{away}");
    scene.write("torch/pytorch_model.bin.index.json", r#"{"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}"#);
    let torch = refusal(&scene, &["import", "torch", "-o", "imported.safetensors"]);
    assert!(torch.contains("only safetensors files can be joined"), "{torch}");
}

#[test]
fn a_description_that_is_not_needed_is_told_and_refuses_nothing() {
    let scene = Scene::new();
    for (folder, config) in [
        ("foreign", r#"{"name": "my app", "architecture": {"cpu": "x86"}, "port": 80}"#),
        (
            "zero",
            r#"{"architecture": "ghostnet_025", "num_classes": 0, "pretrained_cfg": {"input_size": [3, 64, 64], "num_classes": 0}}"#,
        ),
        (
            "squash",
            r#"{"architecture": "ghostnet_025", "crop_mode": "squash", "num_classes": 2, "label_names": ["a", "b"]}"#,
        ),
    ] {
        scene.write(&format!("{folder}/model.safetensors"), safetensors(&network(3)));
        scene.write(&format!("{folder}/config.json"), config);
        let plan = scene.run(&[
            "train",
            "--config",
            "recipe.toml",
            "--weights",
            &format!("{folder}/model.safetensors"),
            "--dry-run",
        ]);
        assert!(plan.status.success(), "{folder}: {}", String::from_utf8_lossy(&plan.stderr));
    }
    let imported = |weights: &str, more: &[&str]| {
        let written = printed(&scene, &[&["import", weights, "-o", "imported.safetensors"], more].concat());
        let card = trainer::weights::ModelFile::read(&scene.path("imported.safetensors")).expect("a model").card;
        (written["notes"].to_string(), card)
    };
    let (notes, card) = imported("foreign/model.safetensors", &[]);
    assert!(notes.contains("is not a model description in timm's format and was ignored"), "{notes}");
    assert_eq!(card.image_size, 224);
    assert_eq!(imported("zero/model.safetensors", &[]).1.image_size, 64);
    // How images are prepared is needed here, and an option says it.
    let refused = refusal(&scene, &["import", "squash/model.safetensors", "-o", "imported.safetensors"]);
    assert!(refused.contains("asks for the crop mode Squash, which is not supported"), "{refused}");
    let (notes, card) = imported("squash/model.safetensors", &["--crop-pct", "1"]);
    assert!(notes.contains("names 2 classes, but the network has 3, so they are numbered from 0"), "{notes}");
    assert_eq!(card.classes, ["class 0", "class 1", "class 2"]);
}

#[test]
fn a_description_of_transformers_names_the_classes_or_its_fault_is_told() {
    let scene = Scene::empty();
    scene.write("model/model.safetensors", safetensors(&network(12)));
    let imported = |config: Value| {
        scene.write("model/config.json", config.to_string());
        let notes = import(&scene, &["model/model.safetensors"]).join("\n");
        let card = trainer::weights::ModelFile::read(&scene.path("imported.safetensors")).expect("a model").card;
        (notes, card.classes)
    };
    let names: Vec<String> = (0..12).map(|number| format!("name {number}")).collect();
    let id2label: serde_json::Map<String, Value> =
        names.iter().enumerate().map(|(number, name)| (number.to_string(), json!(name))).collect();
    let label2id: serde_json::Map<String, Value> =
        names.iter().enumerate().map(|(number, name)| (name.clone(), json!(number.to_string()))).collect();
    let (notes, classes) = imported(json!({"model_type": "x", "id2label": id2label, "label2id": label2id}));
    assert_eq!(classes, names);
    assert!(notes.contains("the names of its classes are taken from `model/config.json`"), "{notes}");
    let numbered: Vec<String> = (0..12).map(|number| format!("class {number}")).collect();
    let mut doubled = id2label.clone();
    doubled["7"] = json!("name 3");
    let mut one_less = id2label;
    one_less.remove("11");
    for (id2label, says) in [
        (doubled, "`model/config.json`, class 7: `name 3` is already the name of another class, see class 3"),
        (one_less, "`model/config.json` names 11 classes, but the network has 12, so they are numbered from 0"),
    ] {
        let (notes, classes) = imported(json!({"model_type": "x", "id2label": id2label}));
        assert_eq!(classes, numbered);
        assert!(notes.contains(says), "{notes}");
    }
}

#[test]
fn endings_are_known_in_any_case() {
    let scene = Scene::new();
    scene.write("w.safetensors", safetensors(&network(3)));
    import(&scene, &["w.safetensors"]);
    printed(&scene, &["export", "imported.safetensors", "X.ONNX"]);
    printed(&scene, &["export", "imported.safetensors", "Y.SafeTensors"]);
    for model in ["X.ONNX", "Y.SafeTensors"] {
        let predictions = printed(&scene, &["predict", model, PHOTO, "--device", "cpu"]);
        assert_eq!(predictions[0]["guesses"].as_array().map(Vec::len), Some(3), "{model}");
    }
}

#[test]
fn the_error_for_other_weights_names_the_likely_network() {
    let scene = Scene::new();
    let resnet: State =
        ["layer1.0.conv1.weight", "layer4.0.conv1.weight", "fc.weight"].map(|name| filled(name, 0.5, &[2])).to_vec();
    scene.write("resnet.safetensors", safetensors(&renamed(&resnet, |name| format!("model.{name}"))));
    scene.write("page.pth", "\n<!DOCTYPE html><html><body>Sign in</body></html>");
    scene.write("pointer.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n");
    for (file, says) in [
        (
            "resnet.safetensors",
            "`resnet.safetensors` is not a GhostNet, but most likely a ResNet, judging by its tensor names: it lacks",
        ),
        ("page.pth", "it is a web page"),
        ("pointer.safetensors", "run `git lfs pull`"),
    ] {
        for args in [&["import", file][..], &["train", "--config", "recipe.toml", "--weights", file, "--dry-run"]] {
            let refused = refusal(&scene, args);
            assert!(refused.contains(says), "{args:?}: {refused}");
        }
    }
}

#[test]
fn weights_of_other_programs_are_averaged_like_our_own() {
    let scene = Scene::empty();
    let [one, other] = [network(3), network(3)];
    scene.write("1.pth", checkpoint(&[("state_dict", &renamed(&one, |name| format!("net.{name}")))]));
    scene.write("2.safetensors", safetensors(&other));
    let output = scene.run(&["average", "1.pth", "2.safetensors"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let average = tensors(&scene.path("average.safetensors"));
    for ((name, one), (_, other)) in
        one.iter().zip(&other).filter(|((name, _), _)| !name.ends_with("num_batches_tracked"))
    {
        let pairs = one.iter::<f64>().zip(other.iter::<f64>());
        let means: Vec<f32> = pairs.map(|(one, other)| ((one + other) / 2.0) as f32).collect();
        assert_eq!(average[name].iter::<f32>().collect::<Vec<_>>(), means, "{name}");
    }
}

#[test]
fn a_reference_says_what_its_inputs_are_made_from() {
    let scene = Scene::empty();
    scene.write("w.safetensors", safetensors(&network(3)));
    import(&scene, &["w.safetensors"]);
    assert!(scene.run(&["verify", "imported.safetensors", "--write", "reference.json"]).status.success());
    let text = std::fs::read_to_string(scene.path("reference.json")).expect("a reference");
    let mut reference: Value = serde_json::from_str(&text).expect("JSON");
    assert!(!text.contains("input_key"));
    let shape: Vec<u64> = serde_json::from_value(reference["eval"][0]["shape"].clone()).expect("a shape");
    let usual = format!("input_{}", shape.iter().map(u64::to_string).collect::<Vec<_>>().join("x"));
    for (key, agrees) in [(usual.as_str(), true), ("another", false)] {
        reference["eval"][0]["input_key"] = json!(key);
        scene.write("keyed.json", reference.to_string());
        let output = scene.run(&["verify", "imported.safetensors", "--against", "keyed.json"]);
        assert_eq!(output.status.success(), agrees, "{key}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
