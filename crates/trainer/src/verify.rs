//! A network against numbers that somebody else computed: for inputs that a rule makes, the scores and a few figures of every stage.
//! The first stage that differs is where the error is.
//!
//! The numbers are in a JSON file: `eval` is a list of `{"shape": [batch, channels, height, width], "input_key": "input_NxCxHxW", "logits":
//! [[…]…], "stages": [{"name", "shape", "mean", "abs_mean"}…]}`. [`input`] makes the input from the key, or from [`input_key`] of the shape
//! if there is no key. `state_sum` and `state_abs_sum`, which may be absent too, are the sums of all weights and statistics. Stages are
//! called `act1` (the stem), `blocks.0` to `blocks.9`, and `act2` (the hidden layer), as timm calls them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ghostnet::GhostNet;
use imageset::source::counted;
use serde::{Deserialize, Serialize};

use crate::weights::{ModelCard, ModelFile};

/// What two right implementations may differ by, in 32-bit numbers on a CPU: so much, and so much of the number itself.
pub const TOLERANCE: f64 = 1e-4;

/// Values of an input that are still computed with, and images in it.
const MAX_INPUT: usize = 1 << 26;
const MAX_BATCH: usize = 256;

/// Expected numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reference {
    /// What they are of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Sum of all parameters and running statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_sum: Option<f64>,
    /// Sum of their absolute values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_abs_sum: Option<f64>,
    /// One entry for each input.
    pub eval: Vec<Expected>,
}

/// What an input should give.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Expected {
    /// `[batch, channels, height, width]` of the input, which is made by [`input`].
    pub shape: [usize; 4],
    /// The key that it is made from; [`input_key`] of the shape if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_key: Option<String>,
    /// `[batch, num_classes]`
    pub logits: Vec<Vec<f64>>,
    /// Figures of the stages.
    #[serde(default)]
    pub stages: Vec<Stage>,
}

/// Figures of a map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// timm's name of what makes it.
    pub name: String,
    /// `[batch, channels, height, width]`
    pub shape: Vec<usize>,
    /// Mean of its values.
    pub mean: f64,
    /// Mean of their absolute values.
    pub abs_mean: f64,
}

/// How far a figure is off.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The input's shape; absent for the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<[usize; 4]>,
    /// `weights`, a stage, or `logits`.
    pub what: String,
    /// Largest difference.
    pub difference: f64,
    /// What it may be.
    pub tolerance: f64,
}

impl Difference {
    /// Whether it is as small as it may be.
    pub fn is_small(&self) -> bool {
        self.difference <= self.tolerance
    }
}

/// A network on the CPU, without dropout.
#[derive(Debug)]
pub struct Verifier {
    model: GhostNet,
    card: ModelCard,
    path: PathBuf,
    device: Device,
}

impl Verifier {
    /// Of a model file; `path` is for messages.
    pub fn new(file: ModelFile, path: &Path) -> anyhow::Result<Self> {
        let device = Device::flex();
        let (model, card) = file.into_model(&device)?;
        Ok(Self { model: model.valid(), card, path: path.to_path_buf(), device })
    }

    /// Height and width of the images that the network was trained for, pixels.
    pub fn image_size(&self) -> usize {
        self.card.image_size as usize
    }

    /// Compares with a reference, stage by stage.
    pub fn compare(&self, reference: &Reference) -> anyhow::Result<Vec<Difference>> {
        let mut differences = Vec::new();
        if reference.eval.is_empty() {
            bail!("`eval` is empty, so there is nothing to compare with");
        }
        let (sum, abs_sum) = self.sums();
        let size = reference.state_abs_sum.unwrap_or(abs_sum);
        for (expected, found) in [(reference.state_sum, sum), (reference.state_abs_sum, abs_sum)] {
            // The weights of a folded network are others, and their function is the same.
            let Some(expected) = expected.filter(|_| !self.card.folded) else { continue };
            differences.push(Difference {
                input: None,
                what: "weights".to_string(),
                difference: not_nan((expected - found).abs()),
                tolerance: 1e-6 * size + 1e-5,
            });
        }
        for (at, expected) in reference.eval.iter().enumerate() {
            let context = || format!("entry {at} of `eval`");
            differences.extend(self.compare_input(expected).with_context(context)?);
        }
        Ok(differences)
    }

    fn compare_input(&self, expected: &Expected) -> anyhow::Result<Vec<Difference>> {
        let found = self.measure(expected.shape, expected.input_key.as_deref())?;
        let mut differences = Vec::new();
        for stage in &expected.stages {
            let Some(found) = found.stages.iter().find(|found| found.name == stage.name) else {
                bail!(
                    "there is no stage `{}`; there are {}",
                    stage.name,
                    found.stages.iter().map(|stage| format!("`{}`", stage.name)).collect::<Vec<_>>().join(", ")
                );
            };
            if found.shape != stage.shape {
                bail!("stage `{}` should have the shape {:?} and has {:?}", stage.name, stage.shape, found.shape);
            }
            let [mean, abs_mean] = [(stage.mean, found.mean), (stage.abs_mean, found.abs_mean)];
            differences.push(largest(expected.shape, &stage.name, [mean, abs_mean].into_iter()));
        }
        let shape = |logits: &[Vec<f64>]| (logits.len(), logits.iter().map(Vec::len).max().unwrap_or(0));
        if shape(&expected.logits) != shape(&found.logits)
            || expected.logits.iter().any(|row| row.len() != found.logits[0].len())
        {
            bail!(
                "`logits` are {:?} in the reference, and the network in `{}` gives {:?}",
                shape(&expected.logits),
                self.path.display(),
                shape(&found.logits)
            );
        }
        let logits = expected.logits.iter().flatten().copied().zip(found.logits.iter().flatten().copied());
        differences.push(largest(expected.shape, "logits", logits));
        Ok(differences)
    }

    /// The numbers of this network, for others to compare with.
    pub fn reference(&self, shapes: &[[usize; 4]]) -> anyhow::Result<Reference> {
        let (sum, abs_sum) = self.sums();
        let eval = shapes.iter().map(|shape| self.measure(*shape, None)).collect::<anyhow::Result<_>>()?;
        let ModelCard { variant, width, classes, .. } = &self.card;
        let model = format!("{} {width}, {}", variant.key(), counted(classes.len(), "class"));
        Ok(Reference { model, state_sum: Some(sum), state_abs_sum: Some(abs_sum), eval })
    }

    fn sums(&self) -> (f64, f64) {
        let mut sums = (0.0, 0.0);
        for tensor in self.model.state(0) {
            if !tensor.name.ends_with(".num_batches_tracked") {
                for value in tensor.data.iter::<f64>() {
                    sums = (sums.0 + value, sums.1 + value.abs());
                }
            }
        }
        sums
    }

    fn measure(&self, shape: [usize; 4], key: Option<&str>) -> anyhow::Result<Expected> {
        let values = shape.iter().try_fold(1_usize, |product, side| product.checked_mul(*side));
        if shape[1] != self.model.in_channels
            || shape[0] > MAX_BATCH
            || !values.is_some_and(|values| (1..=MAX_INPUT).contains(&values))
        {
            bail!(
                "the input's shape is {shape:?}, and must be [batch, {}, height, width] with at most {MAX_BATCH} images and {MAX_INPUT} values",
                self.model.in_channels
            );
        }
        let least = self.card.config().least_image_side();
        if shape[2].min(shape[3]) < least {
            bail!("the input's shape is {shape:?}, and this network needs a height and width of at least {least}");
        }
        let values = key.map_or_else(|| input(&input_key(shape), shape), |key| input(key, shape));
        let images = Tensor::<4>::from_data(TensorData::new(values, shape), &self.device);
        let maps = self.model.features(images.clone());
        let last = maps.last().cloned().context("a stage")?;
        let hidden = self.model.forward_embedding(last);
        let logits = self.model.forward_classifier(hidden.clone());
        let mut stages = vec![stage("act1", self.model.forward_stem(images))];
        stages.extend(maps.into_iter().enumerate().map(|(at, map)| stage(&format!("blocks.{at}"), map)));
        stages.push(stage("act2", hidden.unsqueeze_dims(&[2, 3])));
        let num_classes = logits.dims()[1];
        let logits: Vec<f64> = logits.into_data().iter().collect();
        let logits = logits.chunks(num_classes).map(<[f64]>::to_vec).collect();
        Ok(Expected { shape, input_key: key.map(str::to_string), logits, stages })
    }
}

fn stage(name: &str, map: Tensor<4>) -> Stage {
    let shape = map.dims().to_vec();
    let values: Vec<f64> = map.into_data().iter().collect();
    let mean = |sum: f64| sum / values.len() as f64;
    Stage {
        name: name.to_string(),
        shape,
        mean: mean(values.iter().sum()),
        abs_mean: mean(values.iter().map(|value| value.abs()).sum()),
    }
}

fn not_nan(difference: f64) -> f64 {
    if difference.is_nan() { f64::INFINITY } else { difference }
}

/// The pair that is furthest beyond its tolerance.
fn largest(input: [usize; 4], what: &str, pairs: impl Iterator<Item = (f64, f64)>) -> Difference {
    let difference = |(expected, found): (f64, f64)| Difference {
        input: Some(input),
        what: what.to_string(),
        difference: not_nan((expected - found).abs()),
        tolerance: TOLERANCE + TOLERANCE * expected.abs(),
    };
    let excess = |difference: &Difference| difference.difference / difference.tolerance;
    let none = Difference { input: Some(input), what: what.to_string(), difference: 0.0, tolerance: TOLERANCE };
    pairs.map(difference).fold(none, |worst, next| if excess(&next) > excess(&worst) { next } else { worst })
}

/// The key of the input of a shape where none is given: `input_NxCxHxW`.
pub fn input_key([batch, channels, height, width]: [usize; 4]) -> String {
    format!("input_{batch}x{channels}x{height}x{width}")
}

/// The input of a key and a shape: value `i` is `2 u − 1` with `u` in [0, 1) from a hash of the key and of `i`.
///
/// The hash is FNV-1a of the key's bytes, then SplitMix64 with `i + 1` steps; of its 64 bits the upper 24 are `u`. So any language makes
/// the same numbers to the bit, and no images have to be sent around.
pub fn input(key: &str, shape: [usize; 4]) -> Vec<f32> {
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (1..=shape.iter().product::<usize>() as u64)
        .map(|step| {
            let mut z = hash.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            ((z >> 40) as f64 / f64::from(1 << 24) * 2.0 - 1.0) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_is_made_by_its_rule() {
        // Computed in Python from the same rule.
        let shape = [2, 3, 64, 64];
        assert_eq!(input(&input_key(shape), shape)[..3], [-0.069_283_13, 0.140_497_8, 0.345_552_2]);
        assert_ne!(input("another", shape)[..3], input(&input_key(shape), shape)[..3]);
    }
}
