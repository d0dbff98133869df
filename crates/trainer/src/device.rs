//! Where to compute: `--device auto|cpu|wgpu|wgpu:N|ndarray`, always an explicit device and never burn's default, which would
//! pick any GPU that is compiled in, present or not.

use std::fmt;
use std::str::FromStr;

use anyhow::bail;
use burn::tensor::Device;

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

/// A device and what to call it.
#[derive(Debug, Clone)]
pub struct ChosenDevice {
    /// Without autodiff.
    pub device: Device,
    /// For people: `cpu (2 threads)`, `wgpu: NVIDIA GeForce …`.
    pub name: String,
    /// Something to tell the user once.
    pub note: Option<String>,
}

impl fmt::Display for ChosenDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Resolves a choice, or says what there is instead.
pub fn choose(choice: DeviceChoice) -> anyhow::Result<ChosenDevice> {
    match choice {
        DeviceChoice::Cpu => Ok(cpu()),
        DeviceChoice::NdArray => ndarray(),
        DeviceChoice::Wgpu(index) => gpu::forced(index),
        DeviceChoice::Auto => Ok(gpu::automatic().unwrap_or_else(|note| ChosenDevice { note: Some(note), ..cpu() })),
    }
}

fn cpu() -> ChosenDevice {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    ChosenDevice { device: Device::flex(), name: format!("cpu ({threads} threads)"), note: None }
}

#[cfg(feature = "ndarray")]
fn ndarray() -> anyhow::Result<ChosenDevice> {
    Ok(ChosenDevice { device: Device::ndarray(), name: "ndarray".to_string(), note: None })
}

#[cfg(not(feature = "ndarray"))]
fn ndarray() -> anyhow::Result<ChosenDevice> {
    bail!(
        "device `ndarray` is not compiled in\n\nhint: build with `--features ndarray`, or use `--device cpu`, which is faster"
    )
}

#[cfg(feature = "wgpu")]
mod gpu {
    use anyhow::{Context, bail};
    use burn::tensor::wgpu::wgpu::{Adapter, AdapterInfo, Backend, Backends, DeviceType, Instance, InstanceDescriptor};
    use burn::tensor::{Device, DeviceKind};

    use super::ChosenDevice;

    /// The graphics APIs in the order in which burn's runtime tries them. OpenGL, its last resort, is left out: it lacks what the
    /// kernels need, and looking for it makes drivers write to the user's terminal.
    const APIS: [Backend; 3] = [Backend::Vulkan, Backend::Metal, Backend::Dx12];

    /// Adapters of the API that the runtime will use, in its order.
    fn adapters() -> Vec<AdapterInfo> {
        let mut descriptor = InstanceDescriptor::new_without_display_handle();
        descriptor.backends = Backends::PRIMARY;
        let found = pollster::block_on(Instance::new(descriptor).enumerate_adapters(Backends::PRIMARY));
        let found: Vec<AdapterInfo> = found.iter().map(Adapter::get_info).collect();
        let api = APIS.into_iter().find(|api| found.iter().any(|adapter| adapter.backend == *api));
        found.into_iter().filter(|adapter| Some(adapter.backend) == api).collect()
    }

    fn is_software(adapter: &AdapterInfo) -> bool {
        adapter.device_type == DeviceType::Cpu
    }

    /// The runtime counts each kind of adapter from zero.
    fn kind(adapters: &[AdapterInfo], index: usize) -> DeviceKind {
        let device_type = adapters[index].device_type;
        let before = adapters[..index].iter().filter(|adapter| adapter.device_type == device_type).count();
        match device_type {
            DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(before),
            DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(before),
            DeviceType::VirtualGpu => DeviceKind::VirtualGpu(before),
            DeviceType::Cpu => DeviceKind::Cpu,
            // burn has no way to name such an adapter; `open` refuses it before it comes here.
            DeviceType::Other => DeviceKind::DefaultDevice,
        }
    }

    fn list(adapters: &[AdapterInfo]) -> String {
        if adapters.is_empty() {
            return "no adapter was found; is a graphics driver installed?".to_string();
        }
        let line = |(index, adapter): (usize, &AdapterInfo)| {
            let software = if is_software(adapter) { ", software" } else { "" };
            format!("`wgpu:{index}` {} ({:?}{software})", adapter.name, adapter.backend)
        };
        format!("there is {}", adapters.iter().enumerate().map(line).collect::<Vec<_>>().join(", "))
    }

    /// Discrete cards first, then integrated and virtual ones; software adapters only when named.
    fn best(adapters: &[AdapterInfo]) -> Option<usize> {
        let rank = |adapter: &AdapterInfo| match adapter.device_type {
            DeviceType::DiscreteGpu => 0,
            DeviceType::IntegratedGpu => 1,
            DeviceType::VirtualGpu => 2,
            DeviceType::Other => 3,
            DeviceType::Cpu => 4,
        };
        let real = adapters.iter().enumerate().filter(|(_, adapter)| !is_software(adapter));
        real.min_by_key(|(_, adapter)| rank(adapter)).map(|(index, _)| index)
    }

    fn open(adapters: &[AdapterInfo], index: usize) -> anyhow::Result<ChosenDevice> {
        let adapter = &adapters[index];
        if adapter.device_type == DeviceType::Other {
            bail!("`wgpu:{index}`, {}, is of a kind that cannot be opened by number", adapter.name);
        }
        let device = Device::wgpu_options()
            .device_kind(kind(adapters, index))
            .init()
            .map_err(|error| anyhow::anyhow!("{error}"))
            .with_context(|| format!("cannot open `wgpu:{index}`, {}", adapter.name))?;
        Ok(ChosenDevice { device, name: format!("wgpu: {} ({:?})", adapter.name, adapter.backend), note: None })
    }

    pub(super) fn automatic() -> Result<ChosenDevice, String> {
        let adapters = adapters();
        let index = best(&adapters).ok_or_else(|| "no GPU was found, so the CPU is used".to_string())?;
        open(&adapters, index).map_err(|error| format!("{error:#}; the CPU is used"))
    }

    pub(super) fn forced(index: Option<usize>) -> anyhow::Result<ChosenDevice> {
        let adapters = adapters();
        let (name, index) = match index {
            Some(index) => (format!("wgpu:{index}"), Some(index).filter(|index| *index < adapters.len())),
            None => ("wgpu".to_string(), best(&adapters)),
        };
        let Some(index) = index else {
            bail!("device `{name}` is not there: {}\n\nhint: `--device cpu` needs no adapter", list(&adapters));
        };
        if cfg!(feature = "tuned") && is_software(&adapters[index]) {
            bail!(
                "device `wgpu:{index}`, {}, is a software adapter, on which this build would tune its kernels for hours\n\n\
                 hint: use `--device cpu`, or build with `--no-default-features --features wgpu`",
                adapters[index].name
            );
        }
        open(&adapters, index)
    }
}

#[cfg(not(feature = "wgpu"))]
mod gpu {
    use anyhow::bail;

    use super::ChosenDevice;

    pub(super) fn automatic() -> Result<ChosenDevice, String> {
        Err("this build has no GPU support, so the CPU is used".to_string())
    }

    pub(super) fn forced(_: Option<usize>) -> anyhow::Result<ChosenDevice> {
        bail!("this build has no GPU support\n\nhint: build with `--features wgpu`, or use `--device cpu`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
