//! A GPU proves itself before it is trusted: the operations of a network, at the shapes of its work, in the kernels and layouts that the work
//! uses, are compared with the CPU; then a whole pass is. What is wrong is worked around one step at a time, and checked again.
//!
//! Why: kernels are chosen by their time on the card at hand, drivers compile them, and users of the same stack report wrong results in silence
//! (tracel-ai/burn#5626, tracel-ai/cubek#519, tracel-ai/burn#5079). A run that learns a little worse looks like a run.

#[cfg(feature = "wgpu")]
pub(crate) mod audit;
#[cfg(feature = "wgpu")]
mod check;
#[cfg(feature = "wgpu")]
mod exact;
#[cfg(feature = "wgpu")]
mod operation;
#[cfg(feature = "wgpu")]
mod record;
#[cfg(feature = "wgpu")]
mod remedy;
#[cfg(feature = "wgpu")]
pub(crate) mod training_pass;

use ghostnet::GhostNetConfig;
use serde::{Deserialize, Serialize};

use crate::device::ChosenDevice;
use crate::observe::Output;
use crate::plan::Plan;
use crate::recipe::{Precision, Recipe};
use crate::weights::ModelCard;

#[cfg(feature = "wgpu")]
pub(crate) use check::batch_on_cpu;
#[cfg(feature = "wgpu")]
pub use check::{CheckResult, UpdateResult, check};
#[cfg(feature = "wgpu")]
pub use operation::{OperationResult, check_operation};
#[cfg(feature = "wgpu")]
pub use record::{Attempt, Record};
#[cfg(feature = "wgpu")]
pub use remedy::{Restart, Settings, restart};

/// What a device is to do for a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Steps: forward, backward, update.
    Training,
    /// Forward passes with the norms folded into the convolutions.
    Inference,
}

/// The work that a device is checked for.
#[derive(Debug, Clone, Serialize)]
pub struct Workload {
    /// Training, or inference alone.
    pub purpose: Purpose,
    /// The network.
    pub network: GhostNetConfig,
    /// Number formats of the passes.
    pub precision: Precision,
    /// Heights and widths of the images, pixels, each once.
    pub image_sizes: Vec<usize>,
    /// Images that pass through the network at a time.
    pub batch_size: usize,
    /// Whether the backward pass recomputes activations.
    pub checkpoint_activations: bool,
    /// How weights are updated.
    pub optimizer: Option<crate::recipe::Optimizer>,
    /// Whether the work must be deterministic, so that nothing may be worked around.
    pub deterministic: bool,
    /// What the numbers are drawn from.
    pub seed: u64,
}

impl Workload {
    /// That of a run.
    pub fn of_run(plan: &Plan) -> Self {
        Self::of_recipe(&plan.recipe, plan.model.clone())
    }

    /// That of a run of a recipe, with its network.
    pub fn of_recipe(recipe: &Recipe, network: GhostNetConfig) -> Self {
        let sizes = recipe.train.stage.iter().map(|stage| stage.image_size).chain([recipe.data.image_size]);
        let mut image_sizes: Vec<usize> = sizes.map(|size| size as usize).collect();
        image_sizes.sort_unstable();
        image_sizes.dedup();
        let batch_size = recipe.data.batch_size;
        Self {
            purpose: Purpose::Training,
            network,
            precision: recipe.train.precision,
            image_sizes,
            batch_size: crate::feed::largest_part(batch_size, recipe.train.micro_batch_size.unwrap_or(batch_size)),
            checkpoint_activations: recipe.train.checkpoint_activations,
            optimizer: Some(recipe.optimizer.clone()),
            deterministic: recipe.train.deterministic,
            seed: 0,
        }
    }

    /// That of forward passes of a trained network.
    pub fn of_model(card: &ModelCard, batch_size: usize) -> Self {
        Self {
            purpose: Purpose::Inference,
            network: card.config(),
            precision: Precision::F32,
            image_sizes: vec![card.image_size as usize],
            batch_size,
            checkpoint_activations: false,
            optimizer: None,
            deterministic: false,
            seed: 0,
        }
    }
}

/// A device that is to be proved.
#[derive(Debug)]
pub struct Request {
    /// What it is to do.
    pub workload: Workload,
    /// The device.
    pub device: ChosenDevice,
    /// Whether the user named it, so that the CPU must not take its place.
    pub is_named: bool,
    /// Whether the user does not want the check.
    pub is_skipped: bool,
    /// Whether it is checked again, whatever is known.
    pub is_anew: bool,
}

/// What the work is done with.
#[derive(Debug)]
pub struct Proven {
    /// The device, or the CPU in its place.
    pub device: ChosenDevice,
    /// The precision, which may be less mixed than was asked for.
    pub precision: Precision,
    /// All that is known about the device, if it was checked.
    #[cfg(feature = "wgpu")]
    pub record: Option<Record>,
}

impl Proven {
    /// A device that needs no proof.
    fn unchecked(device: ChosenDevice, precision: Precision) -> Self {
        Self {
            device,
            precision,
            #[cfg(feature = "wgpu")]
            record: None,
        }
    }
}

/// Checks a GPU unless this was done before with the same card, driver, build and work; works around what is wrong and says so. The CPU needs no
/// check.
///
/// # Errors
/// If the device is wrong and there is no way around, or none that is allowed; or if the process must be [started again](Restart).
pub fn prove(request: Request, output: &Output) -> anyhow::Result<Proven> {
    let Request { device, is_skipped, .. } = &request;
    if !device.is_gpu() {
        return Ok(Proven::unchecked(request.device, request.workload.precision));
    }
    if *is_skipped {
        output.line(&format!("warning: `{device}` is not checked, as `--no-device-check` asks"));
        let device = request.device.with_check(serde_json::json!({ "skipped": true }));
        return Ok(Proven::unchecked(device, request.workload.precision));
    }
    #[cfg(feature = "wgpu")]
    return remedy::prove(request, output);
    #[cfg(not(feature = "wgpu"))]
    unreachable!("a build without GPU support has no GPU")
}
