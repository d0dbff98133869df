//! Compares the networks with PyTorch and timm, value by value. The scripts in `tests/fixtures/gen` generated `*.json` and `*.tsv` in
//! `tests/fixtures` with PyTorch 2.15.0 and timm 1.0.31, in float64. timm does not have the network of `Variant::GhostnetPaddle`;
//! `gen/lineages.py` implements it in PyTorch.

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use ghostnet::{GhostNet, GhostNetConfig, Variant, parameter_names};
use serde_json::Value;

use crate::hash_rule;

const MODELS: [(&str, Variant, f64); 7] = [
    ("ghostnet_050", Variant::Ghostnet, 0.5),
    ("ghostnet_100", Variant::Ghostnet, 1.0),
    ("ghostnet_130", Variant::Ghostnet, 1.3),
    ("ghostnet_paddle_050", Variant::GhostnetPaddle, 0.5),
    ("ghostnet_paddle_100", Variant::GhostnetPaddle, 1.0),
    ("ghostnetv2_100", Variant::GhostnetV2, 1.0),
    ("ghostnetv3_100", Variant::GhostnetV3, 1.0),
];
const NUM_CLASSES: usize = 10;

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(&path)
}

fn model(variant: Variant, width: f64, device: &Device) -> GhostNet {
    let config = GhostNetConfig::new(NUM_CLASSES).with_variant(variant).with_width(width).with_dropout(0.0);
    let model = config.init(device);
    let tensors = hash_rule::fill(model.state(0));
    model.load_state(tensors).expect("the tensors come from the network itself")
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

fn shape(value: &Value) -> [usize; 4] {
    let sides: Vec<usize> = numbers(value).into_iter().map(|side| side as usize).collect();
    sides.try_into().expect("four sides")
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn assert_close(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found} instead of {expected}, tolerance {tolerance:e}");
}

/// Within 1e-4 of the largest value: PyTorch's own float32 run is up to 1e-5 away from its float64 run.
fn assert_all_close(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_close(&format!("{what}[{i}]"), *found, *expected, 1e-4 * largest);
    }
}

#[test]
fn the_hash_rule_gives_its_check_values() {
    let first = |name, shape: &[usize], is_norm| -> Vec<f64> {
        hash_rule::weights(name, shape, is_norm).into_iter().take(2).map(f64::from).collect()
    };
    assert_eq!(
        first("conv_stem.weight", &[16, 3, 3, 3], false),
        [-0.020_327_091_217_041_016, -0.045_865_494_757_890_7]
    );
    assert_eq!(first("bn1.running_mean", &[16], true), [0.046_889_983_117_580_414, 0.020_123_731_344_938_278]);
}

#[test]
fn tensor_names_shapes_and_order_are_those_of_timm() {
    for (name, variant, width) in MODELS.into_iter().filter(|(_, variant, _)| *variant != Variant::GhostnetPaddle) {
        let path = format!("{}/tests/fixtures/{name}.tsv", env!("CARGO_MANIFEST_DIR"));
        let list = std::fs::read_to_string(&path).expect(&path);
        let expected: Vec<String> = list.lines().skip(1).map(String::from).collect();
        let found: Vec<String> = GhostNetConfig::new(1000)
            .with_variant(variant)
            .with_width(width)
            .init(&Device::flex())
            .state(0)
            .iter()
            .map(|tensor| {
                let sides: Vec<String> = tensor.data.shape().iter().map(|side| side.to_string()).collect();
                let shape = if sides.is_empty() { "scalar".to_string() } else { sides.join("x") };
                let dtype = if tensor.name.ends_with("num_batches_tracked") { "int64" } else { "float32" };
                format!("{}\t{shape}\t{dtype}", tensor.name)
            })
            .collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn the_other_lineage_has_the_same_names_and_a_norm_in_the_head() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ghostnet_paddle_names.tsv");
    let table = std::fs::read_to_string(path).expect(path);
    let expected: Vec<&str> = table.lines().skip(1).filter_map(|row| row.split('\t').next()).collect();
    let state = GhostNetConfig::new(1000).with_variant(Variant::GhostnetPaddle).init(&Device::flex()).state(0);
    let found: Vec<&str> = state.iter().filter_map(|tensor| tensor.name.strip_suffix(".weight")).collect();
    assert_eq!(found, expected);
    assert_eq!(state.len(), 516);
    assert!(!state.iter().any(|tensor| tensor.name == "conv_head.bias"));
}

#[test]
fn the_folded_network_is_the_network() {
    let device = Device::flex();
    for (name, variant, width) in MODELS {
        let model = model(variant, width, &device);
        let folded = model.fold();
        for shape in [[2, 3, 64, 64], [1, 3, 97, 65]] {
            let images = hash_rule::input(shape, &device);
            let maps = model.features(images.clone()).into_iter().zip(folded.features(images.clone()));
            let maps = maps.map(|(expected, found)| (values(expected), values(found)));
            let logits = (values(model.forward(images.clone())), values(folded.forward(images)));
            for (at, (expected, found)) in maps.chain([logits]).enumerate() {
                let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
                for (found, expected) in found.iter().zip(&expected) {
                    assert_close(&format!("{name} {shape:?} map {at}"), *found, *expected, 1e-5 * largest);
                }
            }
        }
    }
}

#[test]
fn merged_branches_are_the_deployed_network_of_the_reference() {
    let device = Device::flex();
    let deploy = &fixture("ghostnetv3_100")["deploy"];
    let merged = model(Variant::GhostnetV3, 1.0, &device).merge_branches();
    let state = merged.state(0);
    let tensor = |name: &str| state.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.data.clone());
    let mut biases = 0;
    for (name, expected) in deploy["folded"].as_object().expect("tensors") {
        if name.ends_with("num_batches_tracked") {
            continue;
        }
        // Where the reference has a bias, a norm stands here that adds it.
        let bias = [
            ("_conv.0.bias", "_conv.1.bias"),
            ("_operation.0.bias", "_operation.1.bias"),
            ("conv_dw.bias", "bn_dw.bias"),
        ];
        let ours = bias.iter().find_map(|(theirs, ours)| Some(format!("{}{ours}", name.strip_suffix(theirs)?)));
        biases += usize::from(ours.is_some());
        let values: Vec<f64> = tensor(&ours.unwrap_or_else(|| name.clone())).expect(name).iter::<f64>().collect();
        let abs_sum = numbers(&expected["abs_sum"])[0];
        assert_close(name, values.iter().sum(), numbers(&expected["sum"])[0], 1e-4 * abs_sum + 1e-5);
    }
    assert_eq!(biases, 2 * 2 * 16 + 4);
    for case in deploy["eval"].as_array().expect("cases") {
        let images = hash_rule::input(shape(&case["shape"]), &device);
        assert_all_close("logits", &values(merged.forward(images)), &numbers(&case["logits"]));
    }
    let names = |model: &GhostNet| model.state(0).into_iter().map(|tensor| tensor.name).collect::<Vec<_>>();
    assert_eq!(names(&merged), names(&model(Variant::GhostnetV2, 1.0, &device)));
}

#[test]
#[should_panic(expected = "attention needs maps of at least 2x2 pixels, got 1x1; use larger images")]
fn images_too_small_for_attention_are_refused() {
    let config = GhostNetConfig::new(4).with_variant(Variant::GhostnetV2).with_width(0.25);
    assert_eq!(config.least_image_side(), 33);
    let model = config.init(&Device::flex());
    assert_eq!(model.forward(Tensor::ones([1, 3, 33, 33], &Device::flex())).dims(), [1, 4]);
    let small = Tensor::ones([1, 3, 32, 32], &Device::flex());
    // The folded network says the same.
    let folded = model.fold();
    let folded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| folded.forward(small.clone())));
    let message = folded.expect_err("too small").downcast::<String>().expect("a message");
    assert!(message.contains("got 1x1; use larger images"), "{message}");
    model.forward(small);
}

#[test]
fn logits_and_every_stage_equal_the_reference() {
    let device = Device::flex();
    for (name, variant, width) in MODELS {
        let fixture = fixture(name);
        let model = model(variant, width, &device);
        for case in fixture["eval"].as_array().expect("cases") {
            let shape = shape(&case["shape"]);
            let images = hash_rule::input(shape, &device);
            let stem = model.forward_stem(images.clone());
            let features = model.features(images.clone());
            let last = features.last().cloned().expect("stages");
            let head = model.forward_embedding(last).unsqueeze_dims(&[2, 3]);
            let maps = std::iter::once(stem).chain(features).chain([head]);
            let stages = case["stages"].as_array().expect("stages");
            assert_eq!(stages.len(), 12);
            for (map, stage) in maps.zip(stages) {
                let what = format!("{name} {shape:?} {}", stage["name"]);
                assert_eq!(map.dims().map(|side| side as f64).to_vec(), numbers(&stage["shape"]), "{what}");
                let mean = map.clone().mean().into_scalar::<f32>();
                let abs_mean = map.abs().mean().into_scalar::<f32>();
                let expected = [numbers(&stage["mean"]), numbers(&stage["abs_mean"])].concat();
                // A mean may be close to zero; the size of the map's values is what an error is relative to.
                assert_close(&what, f64::from(mean), expected[0], 1e-4 * expected[1]);
                assert_close(&what, f64::from(abs_mean), expected[1], 1e-4 * expected[1]);
            }
            let logits = values(model.forward(images));
            assert_all_close(&format!("{name} {shape:?} logits"), &logits, &numbers(&case["logits"]));
        }
    }
}

/// Cross-entropy with the fixture's label smoothing, PyTorch's definition.
fn loss(logits: Tensor<2>, targets: &[usize], smoothing: f32) -> Tensor<1> {
    let mut soft = vec![smoothing / NUM_CLASSES as f32; targets.len() * NUM_CLASSES];
    for (row, target) in targets.iter().enumerate() {
        soft[row * NUM_CLASSES + target] += 1.0 - smoothing;
    }
    let soft = Tensor::<2>::from_data(TensorData::new(soft, [targets.len(), NUM_CLASSES]), &logits.device());
    (log_softmax(logits, 1) * soft).sum_dim(1).mean().neg()
}

/// Norm and sum of every parameter's gradient, in the order of `parameter_names`.
fn gradients(model: &GhostNet, gradients: &Gradients) -> Vec<(String, f64, f64)> {
    struct Visit<'a>(&'a Gradients, Vec<(f64, f64)>);
    impl burn::module::ModuleVisitor for Visit<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &burn::module::Param<Tensor<D>>) {
            if !parameter.is_require_grad() {
                return;
            }
            let gradient = parameter.val().grad(self.0).expect("every parameter gets a gradient");
            let values = values(gradient);
            self.1.push((values.iter().map(|v| v * v).sum::<f64>().sqrt(), values.iter().sum()));
        }
    }
    let mut visit = Visit(gradients, Vec::new());
    model.visit(&mut visit);
    let names = parameter_names(model);
    assert_eq!(names.len(), visit.1.len());
    names.into_iter().zip(visit.1).map(|((_, name), (norm, sum))| (name, norm, sum)).collect()
}

#[test]
fn one_training_step_equals_the_reference() {
    let device = Device::flex().autodiff();
    for (name, variant, width) in MODELS {
        let train = &fixture(name)["train"];
        let model = model(variant, width, &device);
        // Without autodiff, as a trainer's images come.
        let images = hash_rule::input(shape(&train["shape"]), &Device::flex());
        let targets: Vec<usize> = numbers(&train["targets"]).into_iter().map(|target| target as usize).collect();
        let logits = model.forward(images);
        assert_all_close(&format!("{name} logits"), &values(logits.clone()), &numbers(&train["logits"]));
        let loss = loss(logits, &targets, 0.1);
        assert_close("loss", values(loss.clone())[0], numbers(&train["loss"])[0], 1e-4);

        let zero: Vec<&str> = train["zero_grads"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
        let total = numbers(&train["grad_norm_total"])[0];
        // GhostNetV3's last norms are over 4 to 16 values here, and some ReLUs are within 3e-6 of their map's mean of zero: where one
        // falls on the other side, every gradient before it moves.
        let slack = if variant == Variant::GhostnetV3 { 20.0 } else { 1.0 };
        let found = gradients(&model, &loss.backward());
        assert_eq!(found.len(), train["grads"].as_object().expect("gradients").len());
        let norm = found.iter().map(|(_, norm, _)| norm * norm).sum::<f64>().sqrt();
        assert_close(&format!("{name} total gradient norm"), norm, total, 1e-3 * total);
        for (tensor, norm, sum) in &found {
            let expected = &train["grads"][tensor];
            let expected_norm = numbers(&expected["norm"])[0];
            let what = format!("{name} gradient of {tensor}");
            if zero.contains(&tensor.as_str()) {
                assert!(*norm < 1e-4 * total, "{what} should be zero and has norm {norm}");
            } else {
                assert!(*norm > 0.0, "{what} is zero");
                let tolerance = slack * (1e-3 * expected_norm + 1e-4 * total);
                assert_close(&what, *norm, expected_norm, tolerance);
                // Where all of a large tensor's gradients point one way, their sum is many times their norm.
                let expected_sum = numbers(&expected["sum"])[0];
                let tolerance = 2.0 * tolerance + slack * 1e-3 * expected_sum.abs();
                assert_close(&format!("sum of {what}"), *sum, expected_sum, tolerance);
            }
        }

        let running = train["running_after"].as_object().expect("statistics");
        let state = model.state(1);
        assert_eq!(running.len(), state.iter().filter(|tensor| tensor.name.contains(".running_")).count());
        for (tensor, expected) in running {
            let data = &state.iter().find(|candidate| candidate.name == *tensor).expect("a running statistic").data;
            let sum: f64 = data.iter::<f64>().sum();
            let abs_sum = numbers(&expected["abs_sum"])[0];
            assert_close(&format!("{name} {tensor}"), sum, numbers(&expected["sum"])[0], 1e-4 * abs_sum + 1e-5);
        }
    }
}

#[test]
fn a_state_that_is_loaded_is_the_state_that_is_read_even_after_training_steps() {
    let device = Device::flex().autodiff();
    for variant in Variant::ALL {
        let trained = model(variant, 0.5, &device);
        for _ in 0..3 {
            trained.forward(hash_rule::input([4, 3, 64, 64], &device));
        }
        let state = trained.state(3);
        let other = model(variant, 0.5, &device);
        other.forward(hash_rule::input([2, 3, 64, 64], &device));
        let loaded = other.load_state(state.clone()).expect("the same network");
        assert_eq!(loaded.state(3), state);
        let gradients = loaded.forward(hash_rule::input([4, 3, 64, 64], &device)).sum().backward();
        assert!(loaded.classifier.weight.val().grad(&gradients).is_some(), "loading keeps gradients on");
    }
}

#[test]
fn tensors_that_do_not_fit_are_listed() {
    let model = GhostNetConfig::new(10).with_width(0.25).init(&Device::flex());
    let mut tensors = GhostNetConfig::new(9).with_width(0.25).init(&Device::flex()).state(0);
    tensors.remove(0);
    tensors.push(ghostnet::NamedTensor { name: "features.0.weight".into(), data: TensorData::from([1.0f32]) });
    let error = model.load_state(tensors).expect_err("they differ");
    assert_eq!(
        error.to_string(),
        "the tensors do not fit the network; missing: `conv_stem.weight`; not part of this network: `features.0.weight`; \
         of another shape: `classifier.weight` should be [10, 1280] and is [9, 1280], `classifier.bias` should be [10] and is [9]"
    );
}
