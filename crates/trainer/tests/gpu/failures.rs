//! GPUs that are not there, too small, or lost on the way: one error that says what to do, and the last checkpoint intact.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use burn::tensor::wgpu::WgpuSetup;
use burn::tensor::wgpu::wgpu::{
    Adapter, Backends, DeviceDescriptor, Features, Instance, InstanceDescriptor, PollType, Queue,
};
use trainer::device::ChosenDevice;
use trainer::interrupt::Interrupt;
use trainer::observe::{ConsoleObserver, Output};
use trainer::plan::{Inputs, Plan};
use trainer::run_directory::RunDirectory;
use trainer::train::{Outcome, Surroundings, train};

use crate::adapter;
use crate::scene::{self, Scene};

/// What the program writes to stderr when it fails, which must be an error and its hint and nothing else.
fn error(output: &std::process::Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("Backtrace"), "{stderr}");
    let error = stderr.find("error: ").map_or("", |start| &stderr[start..]).to_string();
    assert!(error.contains("hint: ") && error.lines().count() <= 5, "{stderr}");
    error
}

#[test]
fn without_a_driver_the_cpu_is_taken_and_a_named_gpu_is_an_error() {
    let scene = Scene::new();
    let run = |args: &[&str]| {
        let mut command = scene.command(args);
        command.env("VK_ICD_FILENAMES", "/nowhere.json").env("VK_DRIVER_FILES", "/nowhere.json");
        command.output().expect("the program starts")
    };
    let bench = ["bench", "infer", "--image-size", "32", "--batch-size", "1", "--seconds", "0.01", "--format", "json"];
    for device in ["wgpu", "wgpu:0"] {
        let error = error(&run(&[&bench[..], &["--device", device]].concat()));
        assert!(error.contains(&format!("device `{device}` is not there: no adapter was found")), "{error}");
    }
    let output = run(&bench);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && stderr.contains("no GPU was found, so the CPU is used"), "{stderr}");
    let output = run(&["devices", "--format", "json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["auto"], "cpu");
    assert_eq!(found["devices"].as_array().map(Vec::len), Some(1));
}

#[test]
fn an_adapter_of_a_number_that_is_not_there_is_an_error_that_lists_what_is() {
    let Some(chosen) = adapter() else { return };
    let scene = Scene::new();
    let error = error(&scene.run(&["train", "--config", "recipe.toml", "--out", "run", "--device", "wgpu:7"]));
    let name = chosen.name.trim_start_matches("wgpu: ").split(" (").next().unwrap_or_default();
    assert!(error.contains("device `wgpu:7` is not there: there is `wgpu:0`") && error.contains(name), "{error}");
    assert!(!scene.path("run/checkpoints").exists());
}

/// Images that no buffer of a software adapter can hold; a real card with room for them takes long and is not asked.
#[test]
fn too_little_memory_is_an_error_and_leaves_the_checkpoints() {
    let Some(chosen) = adapter().filter(|chosen| chosen.name.contains("llvmpipe")) else { return };
    let scene = Scene::new();
    let gpu = ["--device", "wgpu:0", "--no-progress"];
    // After four steps the images grow beyond all bounds.
    let grows = [
        "--set",
        "train.stage=[{until={steps=4}, image_size=32}]",
        "--set",
        "data.image_size=2048",
        "--set",
        "eval.every={steps=100}",
    ];
    let train = [&["train", "--config", "recipe.toml", "--out", "run", "--no-device-check"], &gpu[..], &grows].concat();
    let found = error(&scene.run(&train));
    assert!(found.contains(&chosen.name) && found.contains("has not enough memory"), "{found}");
    let last = scene.checkpoints("run").pop().expect("a checkpoint");
    assert!(last.ends_with("step-00000004"), "{last:?}");
    for args in [
        &["bench", "step", "--image-size", "224", "--batch-size", "512", "--seconds", "0.01"][..],
        &["bench", "infer", "--image-size", "224", "--batch-size", "512", "--seconds", "0.01"],
        &["eval", "run", "--batch-size", "64", "--no-device-check"],
    ] {
        let found = error(&scene.run(&[args, &gpu].concat()));
        assert!(found.contains("has not enough memory"), "{args:?}: {found}");
    }
}

/// A device of our own, which can be taken away from the runtime, and whose buffers have at most so many bytes.
fn of_our_own(max_buffer_bytes: u64) -> Option<(ChosenDevice, burn::tensor::wgpu::wgpu::Device)> {
    adapter()?;
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    descriptor.backends = Backends::PRIMARY;
    let instance = Instance::new(descriptor);
    let adapter: Adapter = pollster::block_on(instance.enumerate_adapters(Backends::PRIMARY)).into_iter().next()?;
    let mut limits = adapter.limits();
    limits.max_buffer_size = limits.max_buffer_size.min(max_buffer_bytes);
    limits.max_storage_buffer_binding_size = limits.max_storage_buffer_binding_size.min(max_buffer_bytes);
    let descriptor = DeviceDescriptor {
        required_features: adapter.features() - Features::all_experimental_mask() - Features::MAPPABLE_PRIMARY_BUFFERS,
        required_limits: limits,
        ..DeviceDescriptor::default()
    };
    let (device, queue): (_, Queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("a device");
    let backend = adapter.get_info().backend;
    let setup = WgpuSetup { instance, adapter, device: device.clone(), queue, backend };
    let burns = Device::wgpu_options().setup(setup).init().expect("a runtime");
    Some((ChosenDevice::gpu(burns, "wgpu: one of our own".to_string()), device))
}

/// The plan of the scene's recipe, with changes.
pub(crate) fn plan(scene: &Scene, sets: &[&str]) -> Plan {
    let photos = format!("data.path={}", scene.path("photos").display());
    let sets: Vec<String> = sets.iter().map(ToString::to_string).chain([photos]).collect();
    let text = std::fs::read_to_string(scene.path("recipe.toml")).expect("a recipe");
    let recipe = trainer::recipe::parse("recipe.toml", &text, &sets).expect("a recipe");
    Plan::new(recipe, Inputs::default()).expect("a plan")
}

/// Failures in this process are heard through its one panic hook, so that only one test at a time may have some.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is written, for a test to read.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_batch_that_does_not_fit_is_cut_and_the_run_is_that_of_a_recipe_that_asks_for_it() {
    let _alone = alone();
    // 24 images make maps of 24 x 48 channels x 64 x 64 pixels x 4 bytes, 18.9 MB; with 12 it is half of that.
    let Some((chosen, _)) = of_our_own(16 << 20) else { return };
    let scene = Scene::new();
    let sets = [
        "model.width=1",
        "model.dropout=0",
        "data.image_size=128",
        "data.batch_size=24",
        "train.total={steps=1}",
        "schedule={}",
        "eval.every={steps=100}",
    ];
    let asks = [&sets[..], &["train.micro_batch_size=12"]].concat();
    let [cut, asked] = [("cut", &sets[..]), ("asked", &asks)].map(|(out, sets)| {
        let directory = RunDirectory::open(&scene.path(out), false).expect("a directory");
        let written = Written::default();
        let output = Output::to(written.clone());
        let console = ConsoleObserver::with_output(output.clone(), 0, false);
        let interrupt = Interrupt::default();
        let surroundings =
            Surroundings { directory: &directory, device: &chosen, console, output: &output, interrupt: &interrupt };
        let outcome = train(&plan(&scene, sets), surroundings).expect("it fits now");
        assert_eq!(outcome, Outcome::Completed);
        String::from_utf8(written.0.lock().expect("no panic").clone()).expect("text")
    });
    assert!(
        cut.contains("warning: 24 images at a time are too many for the memory of `wgpu: one of our own`"),
        "{cut}"
    );
    assert!(cut.contains("with 12, which norms then see") && cut.contains("--set train.micro_batch_size=12"), "{cut}");
    assert!(!asked.contains("warning"), "{asked}");
    assert_eq!(scene.metrics("cut"), scene.metrics("asked"));
    let [cut, asked] = ["cut", "asked"]
        .map(|out| scene::tensors(&scene.checkpoints(out).pop().expect("a checkpoint").join("model.safetensors")));
    assert!(cut == asked);
}

#[test]
fn a_device_that_is_lost_ends_the_run_with_an_error_and_the_run_goes_on_elsewhere() {
    let _alone = alone();
    let Some((chosen, device)) = of_our_own(u64::MAX) else { return };
    let scene = Scene::new();
    // Without dropout: a batch of four, whose norms see four values, otherwise goes astray in one run of six.
    let sets = ["train.total={epochs=20}", "model.dropout=0"];
    let plan = plan(&scene, &sets);
    let directory = RunDirectory::open(&scene.path("run"), false).expect("a directory");
    let checkpoint = scene.path("run/checkpoints/step-00000004");
    let began = Instant::now();
    let taker = std::thread::spawn(move || {
        while !checkpoint.exists() && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        device.destroy();
        // The loss is told when the device is next asked.
        let _ = device.poll(PollType::wait_indefinitely());
    });
    let output = Output::to(std::io::sink());
    let console = ConsoleObserver::with_output(output.clone(), -1, false);
    let interrupt = Interrupt::default();
    let surroundings =
        Surroundings { directory: &directory, device: &chosen, console, output: &output, interrupt: &interrupt };
    let error = train(&plan, surroundings).expect_err("the device is gone");
    taker.join().expect("it took the device");
    let error = format!("{error:#}");
    assert!(error.starts_with("wgpu: one of our own was lost: ") && error.contains("hint: "), "{error}");
    assert!(error.lines().count() <= 3, "{error}");
    drop(directory);
    let last = scene.checkpoints("run").pop().expect("a checkpoint");
    let photos = format!("data.path={}", scene.path("photos").display());
    let sets = sets.into_iter().chain([photos.as_str()]).flat_map(|set| ["--set", set]).collect::<Vec<_>>();
    let args = ["train", "--config", "recipe.toml", "--out", "run", "--device", "cpu"];
    let output = scene.run(&[&args[..], &sets].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && stderr.contains("not bit for bit"), "{stderr}");
    assert!(!stderr.contains("damaged"), "{stderr}");
    assert!(scene.checkpoints("run").pop() > Some(last), "it went on");
}
