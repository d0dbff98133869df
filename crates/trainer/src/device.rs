//! Where to compute: `--device auto|cpu|wgpu|wgpu:N|ndarray`, always an explicit device and never burn's default, which would
//! pick any GPU that is compiled in, present or not.

#[cfg(feature = "wgpu")]
mod adapter;
mod failure;
mod survey;
#[cfg(feature = "tuning-cache")]
mod tuning;

use std::fmt;
use std::str::FromStr;

#[cfg(not(feature = "ndarray"))]
use anyhow::bail;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use adapter::Adapters;
pub use failure::{DeviceFailed, Failure, is_out_of_memory};
pub use survey::{AdapterFacts, AdapterKind, CpuFacts, Facts, Survey, SurveyedDevice};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A GPU if there is one, the CPU otherwise.
    #[default]
    Auto,
    /// burn's CPU backend, Flex.
    Cpu,
    /// The GPU of this number in the list of adapters, or the first real one.
    Wgpu(Option<usize>),
    /// burn's older CPU backend.
    NdArray,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" | "flex" => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu(None)),
            "ndarray" => Ok(Self::NdArray),
            other => match other.strip_prefix("wgpu:").map(str::parse) {
                Some(Ok(index)) => Ok(Self::Wgpu(Some(index))),
                _ => Err("expected `auto`, `cpu`, `wgpu`, `wgpu:N` or `ndarray`".to_string()),
            },
        }
    }
}

impl DeviceChoice {
    /// What a run that is only planned would compute on. A GPU that is named need not be there: the run may be meant for another
    /// machine.
    pub fn processor(self) -> Processor {
        match self {
            Self::Cpu | Self::NdArray => Processor::Cpu,
            Self::Wgpu(_) => Processor::Gpu,
            Self::Auto if Adapters::find().has_gpu() => Processor::Gpu,
            Self::Auto => Processor::Cpu,
        }
    }
}

/// What computes, and has the memory for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Processor {
    /// The processor that the program runs on.
    Cpu,
    /// A card, or a program that stands in for one.
    Gpu,
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
        })
    }
}

/// A device and what to call it.
#[derive(Debug, Clone)]
pub struct ChosenDevice {
    /// Without autodiff.
    pub device: Device,
    /// For people: `cpu (2 threads)`, `wgpu: NVIDIA GeForce …`.
    pub name: String,
    /// Something to tell the user once.
    pub note: Option<String>,
    /// All that tells one adapter with one driver from another, and from its like in the same machine.
    pub identity: String,
    /// What was found about a GPU before it was used, for the record of a run.
    pub check: Option<serde_json::Value>,
    processor: Processor,
}

impl fmt::Display for ChosenDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl ChosenDevice {
    /// A GPU that is open.
    pub fn gpu(device: Device, name: String) -> Self {
        Self { device, identity: name.clone(), name, note: None, check: None, processor: Processor::Gpu }
    }

    fn cpu(device: Device, name: String) -> Self {
        Self { device, identity: name.clone(), name, note: None, check: None, processor: Processor::Cpu }
    }

    /// The same with what was found about it.
    pub fn with_check(self, check: serde_json::Value) -> Self {
        Self { check: Some(check), ..self }
    }

    /// What computes.
    pub fn processor(&self) -> Processor {
        self.processor
    }

    /// Whether it is a GPU, which does its work while the program goes on, and can fail where our own code cannot see it.
    pub fn is_gpu(&self) -> bool {
        self.processor == Processor::Gpu
    }

    /// What a GPU's runtime holds of the card's memory, in bytes: what is in use, and what it keeps to use again, which no other
    /// program can have. It keeps what the largest step so far took.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.device.memory_pool_usage().map(|usage| usage.bytes_reserved)
    }

    /// What is in use of the card's memory, in bytes.
    pub fn memory_bytes_in_use(&self) -> Option<u64> {
        self.device.memory_pool_usage().map(|usage| usage.bytes_in_use)
    }

    /// An error if the same work could give other last bits from one time to the next.
    pub fn check_deterministic(&self) -> anyhow::Result<()> {
        if self.is_gpu() && cfg!(any(feature = "tuned", feature = "fusion")) {
            anyhow::bail!(
                "`train.deterministic` is on, and on `{self}` this build chooses among kernels for convolutions, products and sums by \
                 their time, or fuses operations as it meets them, so that two runs may differ in their last bits\n\n\
                 hint: build with `--no-default-features --features wgpu`, whose kernels are always the same, or use `--device cpu`"
            );
        }
        Ok(())
    }

    /// Does work on the device. All that computes goes through here: when a GPU fails, its runtime panics, and that becomes an
    /// error which says what to do.
    pub fn run<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        if self.is_gpu() { failure::caught(&self.name, work) } else { work() }
    }
}

/// How the kernels of a GPU are chosen, which decides whether the next process has the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelChoice {
    /// There is no choice: they are always the same.
    Fixed,
    /// By their time, once: the choice is kept in a database, made at this time.
    Kept {
        /// As the file system tells it.
        since: String,
    },
    /// By their time, again in every process.
    OfThisProcess,
}

/// How the kernels of the GPU that this process has opened are chosen.
pub fn kernel_choice() -> KernelChoice {
    if !cfg!(feature = "tuned") {
        return KernelChoice::Fixed;
    }
    #[cfg(feature = "tuning-cache")]
    if let Some(since) = tuning::made() {
        return KernelChoice::Kept { since: since.to_string() };
    }
    KernelChoice::OfThisProcess
}

/// Resolves a choice, or says what there is instead.
pub fn choose(choice: DeviceChoice) -> anyhow::Result<ChosenDevice> {
    match choice {
        DeviceChoice::Cpu => Ok(cpu()),
        DeviceChoice::NdArray => ndarray(),
        DeviceChoice::Wgpu(index) => Adapters::find().forced(index),
        DeviceChoice::Auto => Ok(match Adapters::find().automatic() {
            Ok((_, device)) => device,
            Err(reason) => ChosenDevice { note: Some(format!("{reason}, so the CPU is used")), ..cpu() },
        }),
    }
}

fn cpu() -> ChosenDevice {
    ChosenDevice::cpu(Device::flex(), format!("cpu ({} threads)", cpu_threads()))
}

/// Whether a device, with autodiff or without, computes in the program's own memory and thread, so that there is nothing to wait for.
pub fn is_cpu(device: &Device) -> bool {
    let device = device.clone().inner();
    #[cfg(feature = "ndarray")]
    if device == Device::ndarray() {
        return true;
    }
    device == Device::flex()
}

fn cpu_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What computes on a device: the instruction set of the kernels, or `off` for burn's own operations.
pub fn kernels(device: &Device) -> String {
    if ghostnet_kernels::is_supported(&Tensor::<1>::zeros([1], device)) {
        format!("{:?}", ghostnet_kernels::InstructionSet::current()).to_lowercase()
    } else {
        "off".to_string()
    }
}

#[cfg(feature = "ndarray")]
fn ndarray() -> anyhow::Result<ChosenDevice> {
    Ok(ChosenDevice::cpu(Device::ndarray(), "ndarray".to_string()))
}

#[cfg(not(feature = "ndarray"))]
fn ndarray() -> anyhow::Result<ChosenDevice> {
    bail!(
        "device `ndarray` is not compiled in\n\nhint: build with `--features ndarray`, or use `--device cpu`, which is faster"
    )
}

#[cfg(not(feature = "wgpu"))]
mod adapter {
    use anyhow::bail;

    use super::ChosenDevice;
    use super::survey::AdapterFacts;

    /// What a build without GPU support finds.
    pub(super) struct Adapters;

    impl Adapters {
        pub(super) fn find() -> Self {
            Self
        }

        pub(super) fn facts(&self) -> Vec<AdapterFacts> {
            Vec::new()
        }

        pub(super) fn has_gpu(&self) -> bool {
            false
        }

        pub(super) fn automatic(&self) -> Result<(usize, ChosenDevice), String> {
            Err("this build has no GPU support".to_string())
        }

        pub(super) fn forced(&self, _: Option<usize>) -> anyhow::Result<ChosenDevice> {
            bail!("this build has no GPU support\n\nhint: build with `--features wgpu`, or use `--device cpu`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_must_be_deterministic_is_refused_where_kernels_are_not_always_the_same() {
        assert!(cpu().check_deterministic().is_ok());
        let on_gpu = ChosenDevice::gpu(Device::flex(), "a card".to_string()).check_deterministic();
        assert_eq!(on_gpu.is_err(), cfg!(any(feature = "tuned", feature = "fusion")));
        if let Err(error) = on_gpu {
            assert!(error.to_string().contains("hint: build with `--no-default-features --features wgpu`"), "{error}");
        }
    }

    #[test]
    fn choices_are_read_as_they_are_documented() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("wgpu", DeviceChoice::Wgpu(None)),
            ("wgpu:3", DeviceChoice::Wgpu(Some(3))),
            ("ndarray", DeviceChoice::NdArray),
        ] {
            assert_eq!(text.parse(), Ok(choice));
        }
        for text in ["gpu", "wgpu:", "wgpu:x", "cuda", ""] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }
}
