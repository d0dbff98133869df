//! What there is to compute on, what each can do, and which of them `--device auto` takes.

use burn::tensor::Device;
use serde::Serialize;

use super::adapter::Adapters;
use super::{cpu_threads, kernels};

/// Everything that `--device` can name on this machine.
#[derive(Debug, Clone, Serialize)]
pub struct Survey {
    /// What `auto` takes, by the name in `devices`.
    pub auto: String,
    /// Whether this build can use adapters at all.
    pub gpu_support: bool,
    /// Whether it tunes its kernels on first use, which suits real cards and no software adapter.
    pub tuned: bool,
    /// Adapters in the order of their numbers, then the CPU.
    pub devices: Vec<SurveyedDevice>,
}

/// One device.
#[derive(Debug, Clone, Serialize)]
pub struct SurveyedDevice {
    /// As `--device` names it.
    pub device: String,
    /// Why `auto` takes it, or why not.
    pub reason: String,
    /// What it can do.
    #[serde(flatten)]
    pub facts: Facts,
}

/// What a device can do.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Facts {
    /// A GPU, or a program that stands in for one.
    Adapter(AdapterFacts),
    /// Processor cores.
    Cpu(CpuFacts),
}

/// What an adapter can do.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterFacts {
    /// What its driver calls it.
    pub name: String,
    /// What it is.
    pub kind: AdapterKind,
    /// The graphics API that it is reached through: `vulkan`, `metal` or `dx12`.
    pub api: String,
    /// The driver's name.
    pub driver: String,
    /// The driver's words on its version.
    pub driver_version: String,
    /// The most bytes that one tensor can have. wgpu does not tell how much memory there is.
    pub max_buffer_bytes: u64,
    /// Whether shaders can compute with 16-bit floats.
    pub f16: bool,
    /// Whether the lanes of a subgroup can exchange values.
    pub subgroups: bool,
    /// Whether the time of a kernel can be measured on the device.
    pub timestamp_queries: bool,
    /// Why it is refused even when it is named.
    pub refusal: Option<String>,
}

/// What an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// Beside the CPU's cores, with their memory.
    Integrated,
    /// Part of a card, lent to a virtual machine.
    Virtual,
    /// A program on the CPU.
    Software,
    /// The driver does not say.
    Other,
}

/// What the CPU can do.
#[derive(Debug, Clone, Serialize)]
pub struct CpuFacts {
    /// The architecture.
    pub name: &'static str,
    /// Always `cpu`.
    pub kind: &'static str,
    /// Threads that compute.
    pub threads: usize,
    /// The instruction set of the fused kernels, or `off`.
    pub kernels: String,
}

impl Survey {
    /// Looks at this machine. What `auto` would take is opened, so that its answer is the true one.
    pub fn new() -> Self {
        let adapters = Adapters::find();
        let automatic = adapters.automatic().map(|(index, _)| format!("wgpu:{index}"));
        let auto = automatic.clone().unwrap_or_else(|_| "cpu".to_string());
        let adapter = |(index, facts): (usize, AdapterFacts)| {
            let device = format!("wgpu:{index}");
            let reason = match (&facts.refusal, &automatic) {
                _ if device == auto => "taken".to_string(),
                (Some(refusal), _) => format!("not taken, and refused when named: {refusal}"),
                _ if facts.kind == AdapterKind::Software => {
                    "not taken: a software adapter is used only when it is named".to_string()
                }
                (None, Ok(_)) => format!("not taken: `{auto}` comes first"),
                (None, Err(error)) => format!("not taken: {error}"),
            };
            SurveyedDevice { device, reason, facts: Facts::Adapter(facts) }
        };
        let mut devices: Vec<SurveyedDevice> = adapters.facts().into_iter().enumerate().map(adapter).collect();
        devices.push(SurveyedDevice {
            device: "cpu".to_string(),
            reason: match &automatic {
                Ok(_) => format!("not taken: `{auto}` is a GPU"),
                Err(error) => format!("taken: {error}"),
            },
            facts: Facts::Cpu(CpuFacts {
                name: std::env::consts::ARCH,
                kind: "cpu",
                threads: cpu_threads(),
                kernels: kernels(&Device::flex()),
            }),
        });
        Self { auto, gpu_support: cfg!(feature = "wgpu"), tuned: cfg!(feature = "tuned"), devices }
    }
}

impl Default for Survey {
    fn default() -> Self {
        Self::new()
    }
}
