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
mod proof;
#[cfg(feature = "wgpu")]
mod record;
#[cfg(feature = "wgpu")]
mod remedy;
#[cfg(feature = "wgpu")]
mod settings;
#[cfg(feature = "wgpu")]
pub(crate) mod training_pass;
mod workload;

use crate::observe::Output;

#[cfg(feature = "wgpu")]
pub(crate) use check::batch_on_cpu;
#[cfg(feature = "wgpu")]
pub use check::{CheckResult, Extent, UpdateResult, check};
#[cfg(feature = "wgpu")]
pub use operation::{OperationResult, check_operation};
pub use proof::{Proven, Request};
#[cfg(feature = "wgpu")]
pub use record::{Attempt, Record};
#[cfg(feature = "wgpu")]
pub use settings::{Restart, Settings, restart};
pub use workload::{ForwardPasses, TrainingPasses, Workload};

/// Checks a GPU unless this was done before with the same card, driver, build and work; works around what is wrong and says so. The CPU needs no
/// check.
///
/// # Errors
/// If the device is wrong and there is no way around, or none that is allowed; or if the process must be [started again](Restart).
pub fn prove(request: Request, output: &Output) -> anyhow::Result<Proven> {
    let Request { device, is_skipped, .. } = &request;
    if !device.is_gpu() {
        return Ok(Proven::unchecked(request.device, request.workload.precision()));
    }
    if *is_skipped {
        output.line(&format!("warning: `{device}` is not checked, as `--no-device-check` asks"));
        let device = request.device.with_check(serde_json::json!({ "skipped": true }));
        return Ok(Proven::unchecked(device, request.workload.precision()));
    }
    #[cfg(feature = "wgpu")]
    return remedy::prove(request, output);
    #[cfg(not(feature = "wgpu"))]
    unreachable!("a build without GPU support has no GPU")
}

/// Checks a GPU as [`prove`] does, and gives all that was found rather than putting it in force.
///
/// # Errors
/// If the device fails in a way that is no matter of its kernels, or if the process must be [started again](Restart).
#[cfg(feature = "wgpu")]
pub fn examine(request: &Request, output: &Output) -> anyhow::Result<Record> {
    remedy::examine(request, output)
}
