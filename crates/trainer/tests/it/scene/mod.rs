//! A temporary folder with small images and a small recipe, and the program run in it as a user would.

#![allow(dead_code, unreachable_pub, clippy::allow_attributes, reason = "each test binary uses only part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A recipe that takes a second: GhostNet 0.25x on 24 images of 32 px, 2 epochs of 6 steps.
pub const RECIPE: &str = r#"seed = 1

[model]
width = 0.25
dropout = 0.1

[data]
path = "photos"
batch_size = 4
workers = 2
image_size = 32
train = [{ random_resized_crop = {} }, { horizontal_flip = {} }]
val = [{ resize_center_crop = { crop_pct = 1.0 } }]

[train]
total = { epochs = 2 }
label_smoothing = 0.1
mixup = { alpha = 0.2 }
cutmix = { alpha = 1.0, off_after = { epochs = 1 } }
mix_probability = 0.7
clip_norm = 5.0
log_every = 1

[optimizer]
kind = "sgd"
learning_rate = 0.05
nesterov = true
weight_decay = 1e-4

[schedule]
warmup = { steps = 2 }

[checkpoint]
every = { steps = 2 }

[eval]
every = { steps = 3 }
"#;

/// Larger images than the scene's, for batch norms that see more than a few values, and no dropout, whose masks differ from device
/// to device. Small steps: training is chaotic, and blows rounding up the faster the larger its steps are.
pub const COMPARABLE: [&str; 12] = [
    "--set",
    "model.dropout=0.0",
    "--set",
    "data.image_size=64",
    "--set",
    "data.batch_size=8",
    "--set",
    "optimizer.learning_rate=1e-4",
    "--set",
    "train.total={steps=20}",
    "--set",
    "checkpoint={every={steps=4}, keep=10}",
];

/// The losses of a run, step by step.
pub fn losses(scene: &Scene, out: &str) -> Vec<f64> {
    let steps = scene.metrics(out).into_iter().filter(|line| line["event"] == "step");
    steps.map(|line| line["loss"].as_f64().expect("a loss")).collect()
}

/// The largest difference of two curves as a share of the loss.
pub fn difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(found, expected)| (found - expected).abs() / expected).fold(0.0, f64::max)
}

pub struct Scene {
    folder: TempDir,
}

impl Scene {
    /// Three classes of eight images for training and two for validation, and `recipe.toml`.
    pub fn new() -> Self {
        let scene = Self::empty();
        scene.photos("photos", &["cat", "dog", "señor-übel"], 8, 2);
        scene.write("recipe.toml", RECIPE);
        scene
    }

    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, contents).expect("a file");
    }

    /// `train/` and `val/` with a folder for each class; each class has a colour of its own, with noise.
    pub fn photos(&self, name: &str, classes: &[&str], train: usize, val: usize) {
        for (label, class) in classes.iter().enumerate() {
            for (split, count) in [("train", train), ("val", val)] {
                for index in 0..count {
                    let bytes = png(label, index + if split == "val" { 1000 } else { 0 });
                    self.write(&format!("{name}/{split}/{class}/{index:03}.png"), bytes);
                }
            }
        }
    }

    /// The program with arguments, in the folder, on the CPU unless the arguments say otherwise.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ghostnet"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null()).env_remove("RUST_LOG");
        command.env("COLUMNS", "100").env("NO_COLOR", "1");
        // Without it graphics drivers complain on stderr.
        command.env("XDG_RUNTIME_DIR", self.folder.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program starts")
    }

    /// Trains with `recipe.toml` into `out`; fails the test if that fails.
    pub fn train(&self, out: &str, more: &[&str]) {
        let args = [&["train", "--config", "recipe.toml", "--out", out, "--device", "cpu", "-q"], more].concat();
        let output = self.run(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Exit code, stdout and stderr, with what differs from machine to machine taken out.
    pub fn exchange(&self, output: &Output) -> String {
        let folder = self.folder.path().display().to_string();
        let threads = format!("cpu ({} threads)", std::thread::available_parallelism().map_or(1, usize::from));
        let clean = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace(&folder, "[FOLDER]").replace(&threads, "cpu ([N] threads)")
        };
        let code = output.status.code().map_or("killed".to_string(), |code| code.to_string());
        let mut text = format!("exit code {code}");
        for (title, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if !bytes.is_empty() {
                text.push_str(&format!("\n--- {title}\n{}", clean(bytes).trim_end()));
            }
        }
        text
    }

    /// Bytes of the final model of a run.
    pub fn final_model(&self, out: &str) -> Vec<u8> {
        let checkpoints = self.checkpoints(out);
        std::fs::read(checkpoints.last().expect("a checkpoint").join("model.safetensors")).expect("a model")
    }

    /// Checkpoints of a run, oldest first.
    pub fn checkpoints(&self, out: &str) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = std::fs::read_dir(self.path(out).join("checkpoints"))
            .expect("checkpoints")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")))
            .collect();
        found.sort();
        found
    }

    /// The log of a run that may not have begun.
    pub fn metrics_if_any(&self, out: &str) -> String {
        let log = std::fs::read_to_string(self.path(out).join("metrics.jsonl")).unwrap_or_default();
        log.lines().filter(|line| line.contains("\"step\":2")).collect()
    }

    /// Steps and evaluations in a run's metrics, without what depends on the clock.
    pub fn metrics(&self, out: &str) -> Vec<serde_json::Value> {
        std::fs::read_to_string(self.path(out).join("metrics.jsonl"))
            .expect("metrics")
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON object a line"))
            .filter(|line| line["event"] == "step" || line["event"] == "eval" || line["event"] == "skipped")
            .map(|mut line| {
                let object = line.as_object_mut().expect("an object");
                object.remove("seconds");
                object.remove("images_per_second");
                line
            })
            .collect()
    }
}

/// Tensors of a model file by name.
pub fn tensors(path: &Path) -> BTreeMap<String, burn::tensor::TensorData> {
    let bytes = std::fs::read(path).expect("a model file");
    trainer::weights::decode(path, &bytes).expect("safetensors").into_iter().collect()
}

/// A noisy 40×36 picture in the colour of its class.
pub fn png(label: usize, index: usize) -> Vec<u8> {
    let mut state = (label * 10_007 + index * 131 + 7) as u32;
    let color = [[200, 60, 40], [40, 190, 80], [50, 70, 210], [180, 180, 40]][label % 4];
    let image = image::RgbImage::from_fn(40, 36, |_, _| {
        image::Rgb(color.map(|channel: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (channel + (state >> 26)).min(255) as u8
        }))
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).expect("a PNG");
    bytes.into_inner()
}

/// A JPEG of the same kind.
pub fn jpeg(label: usize, index: usize) -> Vec<u8> {
    let image = image::load_from_memory(&png(label, index)).expect("a picture");
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Jpeg).expect("a JPEG");
    bytes.into_inner()
}

pub fn flip_a_byte(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(path, bytes).expect("a file");
}
