//! What burn may fuse: elementwise operations, and those only where its kernels are right.
//!
//! With burn 0.22.1 three things go wrong that lie in how kernels are written, not in how an adapter runs them:
//! - A fused reduction that reads, after it has reduced, a tensor that the same kernel wrote before, in vectors of another length,
//!   cannot be expanded into a kernel, and the program ends with an error. The gradient of a mean over maps of one pixel is one.
//! - Fused elementwise operations read wrong elements, in silence, if their tensors lie in memory in different orders of axes and an
//!   axis of the result has the size one.
//! - A fused kernel that has scalars in `f16`, but needs no value in `f16` since its result is dropped, is not valid WGSL.
//!
//! Tests show each of them, and that what is left agrees with the CPU in chains of drawn operations on tensors in drawn layouts.

use std::sync::{LazyLock, OnceLock};

use burn::tensor::DType;
use burn_cubecl::CubeDevice;
use burn_cubecl::fusion::{BUILTIN_NAMES, CubeFuser, CubeOptimization, OptimizationProvider, register, remove};
use burn_cubecl_fusion::optim::elemwise::{ElementWiseFuser, ElemwiseOptimization};
use burn_fusion::{FuserProperties, FuserStatus, OperationFuser};
use burn_ir::{BaseOperationIr, NumericOperationIr, OperationIr};

pub use burn_cubecl::fusion::RegistryError;

/// Lets burn fuse only what it fuses rightly: chains of elementwise operations whose results have no axis of the size one, unless it is
/// their only axis, and in `f16` those without scalars.
///
/// To be called at the start of the program. What is fused is decided once for all devices; further calls change nothing and give what
/// the first one gave.
///
/// # Errors
/// If a GPU has computed something already: then it is too late.
pub fn restrict_fusion() -> Result<(), RegistryError> {
    static OUTCOME: OnceLock<Result<(), RegistryError>> = OnceLock::new();
    let restrict = || {
        BUILTIN_NAMES.into_iter().try_for_each(remove)?;
        register(Restricted)
    };
    OUTCOME.get_or_init(restrict).clone()
}

/// Whether operations are fused; the environment variable `GHOSTNET_GPU_FUSION=off` has each of them computed by a kernel of its own.
pub fn is_fusing() -> bool {
    static IS_FUSING: LazyLock<bool> = LazyLock::new(|| std::env::var("GHOSTNET_GPU_FUSION").as_deref() != Ok("off"));
    *IS_FUSING
}

/// Takes the place of burn's own provider.
struct Restricted;

impl OptimizationProvider for Restricted {
    type Operation = ElemwiseOptimization;

    fn fuser(&self, device: &CubeDevice) -> CubeFuser {
        CubeFuser::new(RestrictedFuser { fuser: ElementWiseFuser::new(device.clone()), is_closed: false })
    }
}

/// burn's fuser, which ends its chain before an operation that would go wrong.
#[derive(Clone)]
struct RestrictedFuser {
    fuser: ElementWiseFuser,
    is_closed: bool,
}

/// How burn writes a size of one where fusers look for what operations have in common (burn-fusion's `OperationConverter`); other sizes
/// are numbered as they turn up.
const ONE: usize = 0;

/// Whether an operation may be one of those that go wrong: how tensors lie in memory is not known here.
fn goes_wrong(operation: &OperationIr) -> bool {
    // A single axis lies in memory in one order only.
    let has_axis_of_one = operation.outputs().any(|tensor| tensor.shape.rank() > 1 && tensor.shape.contains(&ONE));
    let is_half = operation.nodes().into_iter().any(|tensor| tensor.dtype == DType::F16);
    has_axis_of_one || (is_half && !has_no_scalars(operation))
}

fn has_no_scalars(operation: &OperationIr) -> bool {
    use NumericOperationIr::{Add, Div, Mul, Sub};
    match operation {
        OperationIr::Drop(_) => true,
        OperationIr::BaseFloat(operation) => matches!(operation, BaseOperationIr::Cast(_)),
        OperationIr::NumericFloat(_, operation) => matches!(operation, Add(_) | Sub(_) | Mul(_) | Div(_)),
        _ => false,
    }
}

impl OperationFuser<CubeOptimization> for RestrictedFuser {
    fn fuse(&mut self, operation: &OperationIr) {
        self.is_closed |= goes_wrong(operation) || !is_fusing();
        if !self.is_closed {
            self.fuser.fuse(operation);
        }
    }

    fn finish(&mut self) -> CubeOptimization {
        self.fuser.finish()
    }

    fn reset(&mut self) {
        self.fuser.reset();
        self.is_closed = false;
    }

    fn status(&self) -> FuserStatus {
        if self.is_closed { FuserStatus::Closed } else { self.fuser.status() }
    }

    fn properties(&self) -> FuserProperties {
        self.fuser.properties()
    }

    fn len(&self) -> usize {
        self.fuser.len()
    }

    fn clone_dyn(&self) -> Box<dyn OperationFuser<CubeOptimization>> {
        Box::new(self.clone())
    }
}
