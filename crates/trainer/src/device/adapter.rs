//! The adapters that wgpu finds, and how one of them is opened.

use anyhow::{Context, bail};
use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::wgpu::wgpu::{
    Adapter as WgpuAdapter, AdapterInfo, Backend, Backends, DeviceType, Features, Instance, InstanceDescriptor,
};
use burn::tensor::{Device, DeviceKind};

use super::ChosenDevice;
use super::survey::{AdapterFacts, AdapterKind};

/// The graphics APIs, best first. OpenGL is left out: it lacks what the kernels need, and looking for it makes drivers write to
/// the user's terminal.
const APIS: [(Backend, WgpuBackend); 3] =
    [(Backend::Vulkan, WgpuBackend::Vulkan), (Backend::Metal, WgpuBackend::Metal), (Backend::Dx12, WgpuBackend::Dx12)];

/// An adapter and what it can do.
struct Adapter {
    info: AdapterInfo,
    features: Features,
    /// Of one buffer that a kernel sees, bytes.
    max_buffer_bytes: u64,
}

impl Adapter {
    fn new(adapter: &WgpuAdapter) -> Self {
        let limits = adapter.limits();
        Self {
            info: adapter.get_info(),
            features: adapter.features(),
            max_buffer_bytes: limits.max_buffer_size.min(limits.max_storage_buffer_binding_size),
        }
    }

    fn is_software(&self) -> bool {
        self.info.device_type == DeviceType::Cpu
    }

    fn facts(&self, refusal: Option<String>) -> AdapterFacts {
        let Self { info, features, max_buffer_bytes } = self;
        AdapterFacts {
            name: info.name.clone(),
            kind: match info.device_type {
                DeviceType::DiscreteGpu => AdapterKind::Discrete,
                DeviceType::IntegratedGpu => AdapterKind::Integrated,
                DeviceType::VirtualGpu => AdapterKind::Virtual,
                DeviceType::Cpu => AdapterKind::Software,
                DeviceType::Other => AdapterKind::Other,
            },
            api: info.backend.to_str().to_string(),
            driver: info.driver.clone(),
            driver_version: info.driver_info.clone(),
            max_buffer_bytes: *max_buffer_bytes,
            f16: features.contains(Features::SHADER_F16),
            subgroups: features.contains(Features::SUBGROUP),
            timestamp_queries: features.contains(Features::TIMESTAMP_QUERY),
            refusal,
        }
    }
}

/// All that tells a card and its driver from others.
pub(super) fn identity(adapter: &AdapterInfo) -> String {
    let AdapterInfo { name, vendor, device, driver, driver_info, backend, .. } = adapter;
    format!("{name}\n{vendor}\n{device}\n{driver}\n{driver_info}\n{backend:?}")
}

/// The adapters of the API that is used, in its order; their numbers are those of `wgpu:N`.
pub(super) struct Adapters(Vec<Adapter>);

impl Adapters {
    /// The API is the first that has a GPU, or else the first that has anything.
    pub(super) fn find() -> Self {
        let mut descriptor = InstanceDescriptor::new_without_display_handle();
        descriptor.backends = Backends::PRIMARY;
        let found = pollster::block_on(Instance::new(descriptor).enumerate_adapters(Backends::PRIMARY));
        let found: Vec<Adapter> = found.iter().map(Adapter::new).collect();
        let first = |is_good: &dyn Fn(&Adapter) -> bool| {
            let has_one = |api: &Backend| found.iter().any(|it| it.info.backend == *api && is_good(it));
            APIS.into_iter().map(|(api, _)| api).find(has_one)
        };
        let api = first(&|adapter| !adapter.is_software()).or_else(|| first(&|_| true));
        Self(found.into_iter().filter(|adapter| Some(adapter.info.backend) == api).collect())
    }

    pub(super) fn facts(&self) -> Vec<AdapterFacts> {
        self.0.iter().enumerate().map(|(index, adapter)| adapter.facts(self.refusal(index))).collect()
    }

    /// What burn calls the adapter, which counts each kind from zero; or why it cannot be opened.
    fn kind(&self, index: usize) -> Result<DeviceKind, &'static str> {
        let device_type = self.0[index].info.device_type;
        let before = self.0[..index].iter().filter(|adapter| adapter.info.device_type == device_type).count();
        match device_type {
            DeviceType::DiscreteGpu => Ok(DeviceKind::DiscreteGpu(before)),
            DeviceType::IntegratedGpu => Ok(DeviceKind::IntegratedGpu(before)),
            DeviceType::VirtualGpu => Ok(DeviceKind::VirtualGpu(before)),
            DeviceType::Cpu if before == 0 => Ok(DeviceKind::Cpu),
            DeviceType::Cpu => Err("of several software adapters only the first can be opened"),
            DeviceType::Other => Err("it is of a kind that cannot be opened by number"),
        }
    }

    /// Why an adapter is refused even when it is named.
    fn refusal(&self, index: usize) -> Option<String> {
        // For the test of the builds that do it: with the smallest network and least tuning it takes minutes.
        let may_tune = std::env::var("GHOSTNET_TUNE_SOFTWARE").as_deref() == Ok("on");
        if cfg!(feature = "tuned") && self.0[index].is_software() && !may_tune {
            return Some("on a software adapter this build would tune its kernels for hours".to_string());
        }
        self.kind(index).err().map(ToString::to_string)
    }

    /// Discrete cards first, then integrated and virtual ones; software adapters only when named.
    fn best(&self) -> Option<usize> {
        let rank = |adapter: &Adapter| match adapter.info.device_type {
            DeviceType::DiscreteGpu => Some(0),
            DeviceType::IntegratedGpu => Some(1),
            DeviceType::VirtualGpu => Some(2),
            DeviceType::Other | DeviceType::Cpu => None,
        };
        let ranked = self.0.iter().enumerate().filter_map(|(index, adapter)| Some((rank(adapter)?, index)));
        ranked.min().map(|(_, index)| index)
    }

    fn open(&self, index: usize) -> anyhow::Result<ChosenDevice> {
        let kind = self.kind(index).map_err(anyhow::Error::msg)?;
        let info = &self.0[index].info;
        let AdapterInfo { name, backend, .. } = info;
        // Before anything is computed; opened again, it changes nothing.
        #[cfg(feature = "fusion")]
        ghostnet_kernels::gpu::restrict_fusion().context("cannot choose what is fused")?;
        #[cfg(feature = "tuning-cache")]
        let warning = super::tuning::keep(info);
        #[cfg(not(feature = "tuning-cache"))]
        let warning = None;
        let api = APIS.into_iter().find(|(api, _)| api == backend).map_or(WgpuBackend::Auto, |(_, pinned)| pinned);
        let device = Device::wgpu_options()
            .device_kind(kind)
            .graphics_api(api)
            .init()
            .map_err(|error| anyhow::anyhow!("{error}"))
            .with_context(|| format!("cannot open `wgpu:{index}`, {name}"))?;
        let wrong = name.starts_with("llvmpipe").then(|| {
            format!(
                "warning: {name} is for trying things out: it ends every loop of a kernel after 65,536 rounds, so gradients over more \
                 pixels than that, all images of a batch together, are wrong"
            )
        });
        let notes: Vec<String> = wrong.into_iter().chain(warning).collect();
        let note = (!notes.is_empty()).then(|| notes.join("\n"));
        // Tuning holds for all cards of a kind, but one of them may be damaged.
        let identity = format!("{}\n{}", identity(info), info.device_pci_bus_id);
        Ok(ChosenDevice { note, identity, ..ChosenDevice::gpu(device, format!("wgpu: {name} ({backend:?})")) })
    }

    /// Whether there is one that `auto` would open.
    pub(super) fn has_gpu(&self) -> bool {
        self.best().is_some()
    }

    /// What `auto` takes, with its number; or why there is none.
    pub(super) fn automatic(&self) -> Result<(usize, ChosenDevice), String> {
        let index = self.best().ok_or("no GPU was found")?;
        self.open(index).map(|device| (index, device)).map_err(|error| format!("{error:#}"))
    }

    /// The one of a number, or the best.
    pub(super) fn forced(&self, index: Option<usize>) -> anyhow::Result<ChosenDevice> {
        let (name, found) = match index {
            Some(index) => (format!("wgpu:{index}"), Some(index).filter(|index| *index < self.0.len())),
            None => ("wgpu".to_string(), self.best()),
        };
        let Some(index) = found else {
            bail!(
                "device `{name}` is not there: {}\n\nhint: `ghostnet devices` says more; `--device cpu` needs no adapter",
                self.list()
            );
        };
        if let Some(refusal) = self.refusal(index) {
            let name = &self.0[index].info.name;
            bail!(
                "device `wgpu:{index}`, {name}, cannot be used: {refusal}\n\nhint: use `--device cpu`{}",
                if self.0[index].is_software() && cfg!(feature = "tuned") {
                    ", or build with `--no-default-features --features wgpu`"
                } else {
                    ""
                }
            );
        }
        self.open(index)
    }

    fn list(&self) -> String {
        if self.0.is_empty() {
            return "no adapter was found; is a graphics driver installed?".to_string();
        }
        let line = |(index, adapter): (usize, &Adapter)| {
            let software = if adapter.is_software() { ", software" } else { "" };
            format!("`wgpu:{index}` {} ({:?}{software})", adapter.info.name, adapter.info.backend)
        };
        format!("there is {}", self.0.iter().enumerate().map(line).collect::<Vec<_>>().join(", "))
    }
}
