//! Wrong results on purpose, for tests of what must notice them. The environment variable `GHOSTNET_PLANTED_FAULT` plants one:
//! `KIND`, `KIND@CIRCUMSTANCE` or `KIND@CIRCUMSTANCE@PART`, where the part is of the operation's description:
//! `past-end@tuned@1×1 convolution, 16 to 8`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use burn::backend::ops::FloatTensorOps;
use burn::backend::{DType, TensorMetadata};
use burn::tensor::Slice;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;

use super::super::is_fusing;
use super::operation::{Kind, Operation, Pass};
use super::state::{FAULT, change};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The last element takes in what lies behind it.
    PastEnd,
    /// Height and width are exchanged.
    Transposed,
    /// Sums are rounded to 16 bits.
    HalfSums,
    /// The result is that of the operation before it of the same shape.
    Stale,
    /// The gradient of a weight is zero.
    ZeroWeightGradient,
    /// The memory of results is never given back.
    Leak,
}

/// When it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    /// Where the kernel is tuned.
    Tuned,
    /// Where operations are fused.
    Fused,
    /// In 16 bits.
    InHalf,
    /// Where the kernels of this crate do not run.
    WithoutOwnKernels,
    /// After so many operations have crossed the border.
    After(u64),
}

/// How an operation was computed.
pub(super) struct Circumstances {
    pub(super) operation: Operation,
    /// Whether it was computed in 32 bits.
    pub(super) is_wide: bool,
    /// Whether burn has chosen the kernel.
    pub(super) is_tuned: bool,
}

impl Circumstances {
    fn fit(&self, when: When) -> bool {
        match when {
            When::Always => true,
            When::Tuned => self.is_tuned,
            When::Fused => is_fusing(),
            When::InHalf => !self.is_wide,
            When::After(count) => CROSSED.fetch_add(1, Ordering::Relaxed) >= count,
            When::WithoutOwnKernels => !super::super::ENABLED.load(Ordering::Relaxed),
        }
    }
}

struct Planted {
    fault: Fault,
    when: When,
    part: String,
}

impl Planted {
    /// # Panics
    /// If the text does not say what.
    fn new(text: &str) -> Self {
        let mut parts = text.splitn(3, '@');
        let fault = match parts.next().unwrap_or_default() {
            "past-end" => Fault::PastEnd,
            "transposed" => Fault::Transposed,
            "half-sums" => Fault::HalfSums,
            "stale" => Fault::Stale,
            "zero-weight-gradient" => Fault::ZeroWeightGradient,
            "leak" => Fault::Leak,
            other => panic!("there is no fault `{other}`"),
        };
        let when = match parts.next() {
            None | Some("always") => When::Always,
            Some("tuned") => When::Tuned,
            Some("fused") => When::Fused,
            Some("half") => When::InHalf,
            Some("without-own-kernels") => When::WithoutOwnKernels,
            Some(other) => match other.strip_prefix("after ").and_then(|count| count.parse().ok()) {
                Some(count) => When::After(count),
                None => panic!("there is no circumstance `{other}`"),
            },
        };
        Self { fault, when, part: parts.next().unwrap_or_default().to_string() }
    }
}

/// What is planted in this process.
static PLANTED: LazyLock<Mutex<Option<Planted>>> = LazyLock::new(|| {
    let from_outside = std::env::var(FAULT).ok();
    Mutex::new(from_outside.map(|text| Planted::new(&text)))
});

/// Plants a fault, or takes out the one that is planted.
///
/// # Panics
/// If there is no such fault.
pub fn plant(fault: Option<&str>) {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).clear();
    *planted_now() = fault.map(Planted::new);
    change(|state| state.has_fault = fault.is_some());
}

fn planted_now() -> MutexGuard<'static, Option<Planted>> {
    PLANTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Operations that have crossed the border.
static CROSSED: AtomicU64 = AtomicU64::new(0);

/// Results that are kept: the last one of each operation, or all.
static KEPT: Mutex<BTreeMap<Operation, Vec<CubeTensor>>> = Mutex::new(BTreeMap::new());

/// The result with the planted fault in it, if there is one for these circumstances.
pub(super) fn planted(result: CubeTensor, circumstances: &Circumstances) -> CubeTensor {
    let now = planted_now();
    let Some(Planted { fault, when, part }) = now.as_ref() else { return result };
    let operation = circumstances.operation;
    if !circumstances.fit(*when) || !operation.to_string().contains(part.as_str()) {
        return result;
    }
    let shape = result.shape();
    let axes = shape.num_dims();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    match fault {
        Fault::PastEnd => {
            let last: Vec<Slice> = shape.iter().map(|&side| Slice::from(side - 1..side)).collect();
            let value = CubeBackend::float_slice(result.clone(), &last);
            let wrong = CubeBackend::float_add_scalar(value, 0.75_f32.into());
            CubeBackend::float_slice_assign(result, &last, wrong)
        }
        Fault::Transposed => {
            let flat = CubeBackend::float_swap_dims(result, axes - 2, axes - 1);
            CubeBackend::float_reshape(flat, shape)
        }
        Fault::HalfSums => {
            let dtype = result.dtype;
            cast(cast(result, DType::F16), dtype)
        }
        Fault::Stale => {
            let before = kept.insert(operation, vec![result.clone()]);
            before.and_then(|mut kept| kept.pop()).unwrap_or(result)
        }
        Fault::ZeroWeightGradient => match operation.kind {
            Kind::Convolution(convolution) if convolution.pass == Pass::WeightGradient => {
                CubeBackend::float_mul_scalar(result, 0.0_f32.into())
            }
            _ => result,
        },
        Fault::Leak => {
            kept.entry(operation).or_default().push(result.clone());
            result
        }
    }
}
