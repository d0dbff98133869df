//! The reader against files that PyTorch, timm and NumPy wrote.

use std::collections::BTreeMap;
use std::path::PathBuf;

use foreign_weights::{ForeignTensor, ForeignWeights, Format, Values};
use serde_json::Value;

fn files() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/files")
}

fn json(path: &str) -> Value {
    let bytes = std::fs::read(files().join(path)).expect("the expectations");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn numbers(tensor: &ForeignTensor) -> Vec<f64> {
    match &tensor.values {
        Values::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Values::I64(values) => values.iter().map(|value| *value as f64).collect(),
    }
}

fn kind(values: &Values) -> &'static str {
    match values {
        Values::F32(_) => "F32",
        Values::I64(_) => "I64",
    }
}

/// The whole message: every cause on a line of its own.
fn message(error: &dyn std::error::Error) -> String {
    let mut lines = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        lines.push(error.to_string());
        cause = error.source();
    }
    lines.join("\n")
}

/// Compares with one of the sets of `expected.json`, at a relative tolerance.
fn compare(weights: &ForeignWeights, set: &Value, tolerance: f64) {
    let expected = set["tensors"].as_object().expect("tensors");
    let names: Vec<_> =
        expected.keys().filter(|name| !name.ends_with("total_ops") && !name.ends_with("total_params")).collect();
    // The official V3 files say `.bn.` where timm says `.bn1.`; to rename them is the importer's work.
    let read: BTreeMap<_, _> =
        weights.tensors.iter().map(|tensor| (tensor.name.replace(".bn.", ".bn1."), tensor)).collect();
    assert_eq!(weights.tensors.len(), names.len());
    for name in names {
        let (tensor, expected) = (read[name.as_str()], &expected[name]);
        let shape: Vec<usize> = serde_json::from_value(expected["shape"].clone()).expect("a shape");
        assert_eq!(tensor.shape, shape, "{name}");
        let kind = if expected["dtype"] == "int64" { "I64" } else { "F32" };
        assert_eq!(self::kind(&tensor.values), kind, "{name}");
        let numbers = numbers(tensor);
        let near = |value: f64, expected: &Value, scale: f64| {
            let expected = expected.as_f64().expect("a number");
            assert!((value - expected).abs() <= tolerance * scale.max(1e-6), "{name}: {value} and {expected}");
        };
        let scale = numbers.iter().map(|value| value.abs()).sum::<f64>();
        near(numbers.iter().sum(), &expected["sum"], scale);
        near(scale, &expected["abs_sum"], scale);
        for (value, expected) in numbers.iter().zip(expected["first"].as_array().expect("the first")) {
            near(*value, expected, expected.as_f64().expect("a number").abs());
        }
    }
}

#[test]
fn every_fixture_gives_the_set_that_is_to_be_read() {
    let expected = json("expected.json");
    for (name, file) in expected["files"].as_object().expect("files") {
        let weights =
            ForeignWeights::read(&files().join(name), None).unwrap_or_else(|error| panic!("{}", message(&error)));
        let key = file["read_by_default"].as_str();
        assert_eq!(weights.key.as_deref(), key, "{name}");
        // The sums have twelve digits; half precision has eleven bits.
        let (set, tolerance) = match (key, file["holds"].as_str()) {
            (Some(key), _) => (file[key].as_str().expect("a set"), 1e-8),
            (None, Some("v1")) => ("v1", 1e-8),
            (None, _) => ("v1", 1e-3),
        };
        compare(&weights, &expected["sets"][set], tolerance);
        assert!(weights.not_finite.is_empty());
    }
}

#[test]
fn the_other_set_is_read_by_its_key() {
    let expected = json("expected.json");
    for (name, file) in expected["files"].as_object().expect("files") {
        let Some(set) = file["state_dict"].as_str() else { continue };
        let weights = ForeignWeights::read(&files().join(name), Some("state_dict")).expect("the set");
        assert_eq!(weights.other_keys, ["state_dict_ema"]);
        compare(&weights, &expected["sets"][set], 1e-8);
    }
}

#[test]
fn the_kinds_of_file_are_told_apart() {
    let format = |name| ForeignWeights::read(&files().join(name), None).expect("weights").format;
    assert_eq!(format("tiny_v1.pth"), Format::Zip);
    assert_eq!(format("tiny_v1_legacy.pth"), Format::Legacy);
    assert_eq!(format("tiny_v1.safetensors"), Format::Safetensors);
    assert_eq!(format("made/arrays.pdparams"), Format::Arrays);
}

#[test]
fn the_three_formats_give_the_same_tensors() {
    let read = |name| {
        let mut tensors = ForeignWeights::read(&files().join(name), None).expect("weights").tensors;
        tensors.sort_by(|one, other| one.name.cmp(&other.name));
        tensors
    };
    assert_eq!(read("tiny_v1.pth"), read("tiny_v1.safetensors"));
    assert_eq!(read("tiny_v1.pth"), read("tiny_v1_legacy.pth"));
}

#[test]
fn the_order_of_the_file_is_kept() {
    let names: Vec<_> = ForeignWeights::read(&files().join("tiny_v1.pth"), None)
        .expect("weights")
        .tensors
        .into_iter()
        .map(|tensor| tensor.name)
        .collect();
    let bytes = std::fs::read(files().join("tiny_v1.safetensors")).expect("the file");
    assert_eq!(names.len(), ForeignWeights::parse(&files(), &bytes, None).expect("weights").tensors.len());
    assert_eq!(names[..3], ["conv_stem.weight", "bn1.weight", "bn1.bias"]);
}

#[test]
fn what_was_left_out_is_said() {
    let notes = |name| ForeignWeights::read(&files().join(name), None).expect("weights").notes;
    assert_eq!(
        notes("tiny_v1_nested_args.pth"),
        [
            "it is a file of PyTorch",
            "the weights are those under `state_dict_ema`, an average of the weights",
            "other sets of tensors in the file: `state_dict`",
            "objects of other programs were not read: `argparse.Namespace`",
            "took `module.` off the front of every name",
        ]
    );
    let official = notes("tiny_v3_official.pth").join("\n");
    assert!(official.contains("counters of a profiler"), "{official}");
    let half = notes("tiny_v1_f16.safetensors").join("\n");
    assert!(half.contains("from float16 to float32"), "{half}");
}

#[test]
fn files_of_every_kind_that_pytorch_and_paddle_write_are_read_or_refused_as_they_should_be() {
    let made = json("made/made.json");
    for (name, expected) in made.as_object().expect("files") {
        let result = ForeignWeights::read(&files().join("made").join(name), None);
        if let Some(error) = expected["error"].as_str() {
            let message = message(&result.expect_err(name));
            assert!(message.contains(error), "{name}: {message}");
            continue;
        }
        let weights = result.unwrap_or_else(|error| panic!("{name}: {}", message(&error)));
        assert_eq!(weights.key.as_deref(), expected["key"].as_str(), "{name}");
        for note in expected["notes"].as_array().expect("notes") {
            let note = note.as_str().expect("text");
            assert!(weights.notes.iter().any(|found| found == note), "{name}: {:?} lack `{note}`", weights.notes);
        }
        let tensors = expected["tensors"].as_object().expect("tensors");
        assert_eq!(weights.tensors.len(), tensors.len(), "{name}");
        for tensor in &weights.tensors {
            let expected = &tensors[&tensor.name];
            let at = format!("{name}: {}", tensor.name);
            assert_eq!(serde_json::to_value(&tensor.shape).expect("a shape"), expected["shape"], "{at}");
            assert_eq!(kind(&tensor.values), expected["kind"], "{at}");
            let values: Vec<f64> = serde_json::from_value(expected["values"].clone()).expect("values");
            assert_eq!(
                numbers(tensor),
                values
                    .iter()
                    .map(|value| if kind(&tensor.values) == "F32" { f64::from(*value as f32) } else { *value })
                    .collect::<Vec<_>>(),
                "{at}"
            );
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = ForeignWeights::read(&files().join("nothing.pth"), None).expect_err("there is none");
    assert!(error.to_string().contains("nothing.pth"), "{error}");
}

#[test]
fn values_that_are_not_finite_are_read_and_named() {
    let weights = ForeignWeights::read(&files().join("made/not_finite.pth"), None).expect("weights");
    assert_eq!(weights.not_finite, ["a", "b"]);
    assert!(weights.notes.join("\n").contains("not finite: `a`, `b`"), "{:?}", weights.notes);
}

#[test]
fn a_key_that_is_not_there_is_answered_with_those_that_are() {
    let error = |name, key| message(&ForeignWeights::read(&files().join(name), Some(key)).expect_err("no such key"));
    let nested = error("tiny_v1_nested.pth", "model");
    assert!(
        nested.ends_with("no set of tensors under `model`\n\nhint: name one of `state_dict`, `state_dict_ema`"),
        "{nested}"
    );
    assert!(error("tiny_v1_nested.pth", "epoch").contains("no set of tensors under `epoch`"));
    assert!(
        error("tiny_v1.safetensors", "model").contains("no set of tensors under `model`\n\nhint: leave the key out")
    );
    assert!(error("tiny_v1.pth", "a.b.c.d.e.f").contains("no set of tensors"));
    let weights = ForeignWeights::read(&files().join("made/ema_of_ema.pth"), Some("ema.module")).expect("the set");
    assert_eq!(weights.key.as_deref(), Some("ema.module"));
    let weights = ForeignWeights::read(&files().join("made/several.pth"), Some("critic")).expect("the set");
    assert_eq!(weights.other_keys, ["generator"]);
}

#[test]
fn safetensors_of_other_types_are_converted() {
    use safetensors::tensor::{Dtype, TensorView};
    let data: [(&str, Dtype, Vec<u8>); 5] = [
        ("module.bf16", Dtype::BF16, vec![0x80, 0x3f, 0x00, 0xc0]),
        ("module.f64", Dtype::F64, [1.5f64.to_le_bytes(), (-0.25f64).to_le_bytes()].concat()),
        ("module.i32", Dtype::I32, [(-7i32).to_le_bytes(), 7i32.to_le_bytes()].concat()),
        ("module.bool", Dtype::BOOL, vec![1, 0]),
        ("module.i64", Dtype::I64, [(-1i64).to_le_bytes(), 1i64.to_le_bytes()].concat()),
    ];
    let views =
        data.iter().map(|(name, dtype, bytes)| (*name, TensorView::new(*dtype, vec![2], bytes).expect("a view")));
    let bytes = safetensors::serialize(views, None).expect("a file");
    let weights = ForeignWeights::parse(&files(), &bytes, None).expect("weights");
    let read: BTreeMap<_, _> = weights.tensors.iter().map(|tensor| (tensor.name.as_str(), &tensor.values)).collect();
    assert_eq!(read["bf16"], &Values::F32(vec![1.0, -2.0]));
    assert_eq!(read["f64"], &Values::F32(vec![1.5, -0.25]));
    assert_eq!(read["i32"], &Values::I64(vec![-7, 7]));
    assert_eq!(read["bool"], &Values::I64(vec![1, 0]));
    assert_eq!(read["i64"], &Values::I64(vec![-1, 1]));
    assert!(weights.notes.contains(&"took `module.` off the front of every name".to_string()));
}
