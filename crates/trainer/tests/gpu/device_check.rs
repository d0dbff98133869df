//! The check that a GPU computes what the CPU computes: it passes on one that does, finds each planted fault, names it, and works around it.

use std::process::Output;

use burn::tensor::DType;
use ghostnet::GhostNetConfig;
use ghostnet_kernels::gpu::border::{self, Convolution, Format, Kind, Layout, Operation, Pass, Product};
use serde_json::Value;
use trainer::device_check::{self, CheckResult, Extent, ForwardPasses, TrainingPasses, Workload};
use trainer::interrupt::Interrupt;
use trainer::observe::ConsoleObserver;
use trainer::recipe::Precision;
use trainer::run_directory::RunDirectory;
use trainer::train::{Surroundings, train};

use crate::adapter;
use crate::failures::plan;
use crate::runs::GPU;
use crate::scene::{Scene, difference, losses, tensors};

/// A network small enough for seconds on a software adapter, with images of which the last activations have some pixels.
const SMALL: [&str; 6] = ["--set", "data.image_size=48", "--set", "data.batch_size=8", "--set", "model.dropout=0.0"];

fn workload(precision: Precision) -> Workload {
    Workload {
        network: GhostNetConfig::new(3).with_width(0.25),
        training: Some(TrainingPasses {
            precision,
            image_sizes: vec![48],
            batch_size: 8,
            checkpoint_activations: false,
            optimizer: None,
        }),
        inference: ForwardPasses { image_size: 48, batch_sizes: vec![3] },
        deterministic: false,
        seed: 0,
    }
}

fn check(precision: Precision) -> Option<CheckResult> {
    let chosen = adapter()?;
    Some(chosen.run(|| device_check::check(&workload(precision), chosen, Extent::Whole)).expect("it computes"))
}

#[test]
fn a_sound_device_passes_and_every_kind_of_operation_is_checked() {
    let Some(result) = check(Precision::F32) else { return };
    assert_eq!(result.faults, Vec::<String>::new());
    let passes = ["forward", "input gradient", "weight gradient"];
    for (kind, pass) in
        ["depthwise", "1×1", "3×3 convolution, 3 to"].iter().flat_map(|kind| passes.map(|pass| (kind, pass)))
    {
        let is_there =
            result.operations.iter().any(|it| it.description.contains(kind) && it.description.contains(pass));
        // Images have no gradient, and the stem is the only dense convolution.
        assert_eq!(is_there, (*kind, pass) != ("3×3 convolution, 3 to", "input gradient"), "{kind} {pass}");
    }
    assert!(result.operations.iter().any(|operation| operation.description.contains("product")));
}

#[cfg(feature = "planted-faults")]
#[test]
fn each_planted_fault_is_found_where_it_is_and_nowhere_else() {
    use ghostnet_kernels::gpu::border::fault::plant;
    if adapter().is_none() {
        return;
    }
    for (fault, named) in [
        ("past-end@always@weight gradient", "weight gradient"),
        ("stale@always@forward", "forward"),
        ("zero-weight-gradient@always@depthwise", "depthwise"),
    ] {
        plant(Some(fault));
        let result = check(Precision::F32).expect("an adapter");
        plant(None);
        let wrong: Vec<&str> =
            result.operations.iter().filter(|it| it.fault.is_some()).map(|it| it.description.as_str()).collect();
        assert!(!wrong.is_empty() && wrong.iter().all(|it| it.contains(named)), "{fault}: {wrong:?}");
    }
}

/// Kernels that take the place of those that tuning has chosen, at shapes that the networks have and at others.
#[test]
fn kernels_that_need_no_tuning_are_right() {
    let Some(chosen) = adapter() else { return };
    let base = Convolution {
        batch: 5,
        channels: [6, 9],
        image_size: [11, 8],
        kernel_size: [3, 3],
        stride: 1,
        groups: 1,
        has_bias: false,
        pass: Pass::Forward,
    };
    let shapes = [
        Convolution { kernel_size: [1, 1], ..base },
        Convolution { stride: 2, has_bias: true, ..base },
        Convolution { kernel_size: [5, 5], channels: [6, 6], groups: 6, stride: 2, ..base },
        Convolution { kernel_size: [1, 5], channels: [6, 12], groups: 6, ..base },
        Convolution { kernel_size: [7, 3], groups: 3, stride: 3, image_size: [5, 9], ..base },
    ];
    let convolutions = shapes.into_iter().flat_map(|shape| PASSES.map(|pass| Convolution { pass, ..shape }));
    let products = [[7, 13, 5], [1, 33, 2]].map(|[rows, inner, columns]| Product { rows, inner, columns });
    let kinds: Vec<Kind> = convolutions.map(Kind::Convolution).chain(products.map(Kind::Product)).collect();
    let layouts = [Layout::RowsFirst, Layout::ChannelsLast];
    border::set_all_aside();
    let faults = chosen.run(|| {
        let operations = kinds.iter().flat_map(|kind| {
            layouts.map(|first| Operation { kind: *kind, format: Format::F32, layouts: [first, Layout::RowsFirst] })
        });
        let checked = operations.map(|operation| device_check::check_operation(&operation, &chosen.device, 3));
        Ok(checked.filter_map(|it| it.fault.map(|fault| (it.description, fault))).collect::<Vec<_>>())
    });
    border::reset();
    assert_eq!(faults.expect("it computes"), []);
}

/// A 1×1 convolution over dense operands.
fn pointwise(channels: [usize; 2], batch: usize, side: usize, pass: Pass, format: Format) -> Operation {
    let convolution = Convolution {
        batch,
        channels,
        image_size: [side, side],
        kernel_size: [1, 1],
        stride: 1,
        groups: 1,
        has_bias: false,
        pass,
    };
    Operation { kind: Kind::Convolution(convolution), format, layouts: [Layout::ChannelsLast, Layout::RowsFirst] }
}

const PASSES: [Pass; 3] = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient];

/// tracel-ai/burn#5626: a tuned matrix product read past the end at these numbers of channels.
#[test]
fn pointwise_convolutions_with_an_odd_number_of_stages_are_right() {
    let Some(chosen) = adapter() else { return };
    for (channels, pass) in
        [[104, 208], [440, 440]].into_iter().flat_map(|channels| PASSES.map(|pass| (channels, pass)))
    {
        let operation = pointwise(channels, 3, 7, pass, Format::F32);
        let result =
            chosen.run(|| Ok(device_check::check_operation(&operation, &chosen.device, 1))).expect("it computes");
        assert_eq!(result.fault, None, "{operation}");
    }
}

/// tracel-ai/cubek#519: wrong from 32,768 pixels on. burn's untuned kernels sum in 16 bits, which the gradient of the weight does not survive.
#[test]
fn pointwise_convolutions_of_many_pixels_are_right_in_16_bits_or_found_wrong_and_right_in_32() {
    let Some(chosen) = adapter().filter(|chosen| chosen.device.supports_dtype(DType::F16)) else { return };
    for pass in PASSES {
        let operation = pointwise([96, 96], 8, 64, pass, Format::F16);
        let check = || {
            chosen.run(|| Ok(device_check::check_operation(&operation, &chosen.device, 1))).expect("it computes").fault
        };
        let is_wrong = check().is_some();
        assert_eq!(is_wrong, pass == Pass::WeightGradient, "{operation}");
        border::widen(operation.kind);
        let fault = check();
        border::reset();
        assert_eq!(fault, None, "{operation}");
    }
}

/// The program, in a scene whose cache is its own, with a fault planted or none.
fn run(scene: &Scene, fault: Option<&str>, args: &[&str]) -> Output {
    let mut command = scene.command(args);
    command.env("XDG_CACHE_HOME", scene.path("cache"));
    if let Some(fault) = fault {
        command.env("GHOSTNET_PLANTED_FAULT", fault);
    }
    command.output().expect("the program starts")
}

#[cfg(feature = "planted-faults")]
#[test]
fn operations_that_are_wrong_in_16_bits_are_computed_in_32() {
    if adapter().is_none() {
        return;
    }
    let scene = Scene::new();
    let args =
        ["devices", "--check", GPU, "--config", "recipe.toml", "--format", "json", "--set", "train.precision=mixed"];
    let output = run(&scene, Some("past-end@half@weight gradient"), &[&args[..], &SMALL].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let attempts = record["attempts"].as_array().expect("a list");
    let faults = |attempt: usize| attempts[attempt]["result"]["faults"].as_array().map(Vec::len);
    assert!(faults(0) > Some(20) && faults(attempts.len() - 1) == Some(0));
    assert!(record["settings"]["widened"].as_array().is_some_and(|list| list.len() > 20));
    assert_eq!(record["settings"]["precision"], "mixed");
}

/// With `train.deterministic` nothing may be worked around.
#[cfg(feature = "planted-faults")]
#[test]
fn a_device_that_stays_wrong_fails_its_check_and_the_figures_are_printed() {
    if adapter().is_none() {
        return;
    }
    let scene = Scene::new();
    let args = ["devices", "--check", GPU, "--config", "recipe.toml", "--format", "json"];
    let args = [&args[..], &SMALL, &["--set", "train.deterministic=true"]].concat();
    let output = run(&scene, Some("past-end@always@weight gradient"), &args);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let record: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&record["settings"]["cpu"], record["attempts"].as_array().map(Vec::len)),
        (&Value::Bool(true), Some(1))
    );
}

#[test]
fn a_variable_of_the_environment_that_is_neither_on_nor_off_is_an_error() {
    if adapter().is_none() {
        return;
    }
    let scene = Scene::new();
    let args = ["devices", "--check", GPU, "--config", "recipe.toml"];
    let output = scene.command(&args).env("GHOSTNET_GPU_FUSION", "of").output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("`GHOSTNET_GPU_FUSION` is `of`"), "{stderr}");
}

#[cfg(feature = "planted-faults")]
#[test]
fn a_run_on_a_device_that_is_wrong_gets_the_numbers_of_one_that_is_right() {
    if adapter().is_none() {
        return;
    }
    let scene = Scene::new();
    let train = |out: &str, fault: Option<&str>, device: &str| {
        let args = ["train", "--config", "recipe.toml", "--out", out, "--device", device, "--no-progress"];
        let steps = ["--set", "train.total={steps=3}", "--set", "optimizer.learning_rate=1e-4"];
        let output = run(&scene, fault, &[&args[..], &SMALL, &steps].concat());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        stderr
    };
    train("right", None, "cpu");
    let said = train("wrong", Some("transposed@fused"), GPU);
    assert!(said.contains("computes wrongly: ") && said.contains("works with no fused operations"), "{said}");
    let again = train("again", Some("transposed@fused"), GPU);
    assert!(!again.contains("checking") && again.contains("works with no fused operations"), "it is kept\n{again}");
    let share = difference(&losses(&scene, "wrong"), &losses(&scene, "right"));
    assert!(share < 1e-4, "{share:.1e}");
    let environment = std::fs::read_to_string(scene.path("wrong/environment.json")).expect("a file");
    let environment: Value = serde_json::from_str(&environment).expect("JSON");
    assert_eq!(environment["device_check"]["settings"]["fusion"], false, "{environment}");
}

/// A run in this process on a device whose check is behind it, so that it is audited; the error that it ended with, if it did.
fn audited_run(scene: &Scene, out: &str, sets: &[&str]) -> Option<String> {
    let chosen = adapter().expect("an adapter").clone().with_check(serde_json::json!({}));
    let directory = RunDirectory::open(&scene.path(out), false).expect("a directory");
    let output = trainer::observe::Output::to(std::io::sink());
    let surroundings = Surroundings {
        directory: &directory,
        device: &chosen,
        console: ConsoleObserver::with_output(output.clone(), -1, false),
        output: &output,
        interrupt: &Interrupt::default(),
    };
    train(&plan(scene, sets), surroundings).err().map(|error| format!("{error:#}"))
}

#[cfg(feature = "planted-faults")]
#[test]
fn a_fault_that_begins_while_a_run_trains_ends_it_before_the_next_checkpoint() {
    use ghostnet_kernels::gpu::border::fault::plant;
    if adapter().is_none() {
        return;
    }
    let scene = Scene::new();
    plant(Some("zero-weight-gradient@after 1000@1×1 convolution"));
    let sets =
        ["train.total={steps=60}", "train.audit_every={steps=1}", "eval.every={steps=100}", "data.image_size=48"];
    let error = audited_run(&scene, "run", &sets).expect("a fault");
    plant(None);
    assert!(error.contains("is zero, and on the CPU it is not; the last checkpoint is that of step"), "{error}");
    assert!(error.contains("hint: `ghostnet devices --check` says more"), "{error}");
}

#[test]
fn audits_change_nothing_of_a_run() {
    if adapter().is_none() {
        return;
    }
    let scene = Scene::new();
    for (out, every) in [("audited", "train.audit_every={steps=1}"), ("plain", "train.audit_every={steps=1000}")] {
        assert_eq!(audited_run(&scene, out, &["train.total={steps=4}", every]), None);
    }
    assert_eq!(scene.metrics("audited"), scene.metrics("plain"));
    // The files name their recipes, which are not the same.
    let [audited, plain] = ["audited", "plain"]
        .map(|out| tensors(&scene.checkpoints(out).pop().expect("a checkpoint").join("model.safetensors")));
    assert!(audited == plain);
}
