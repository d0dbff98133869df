//! What was found about a device, kept in the user's cache directory, so that only the first run of a kind waits for the check.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use etcetera::BaseStrategy;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::check::CheckResult;
use super::settings::{Settings, forced_variables};
use super::workload::Workload;
use crate::device::{self, ChosenDevice, KernelChoice};
use crate::run_directory;

/// One check, and what it was done with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    /// What was in force.
    pub settings: Settings,
    /// What was found.
    pub result: CheckResult,
}

/// All that is known about a device and a kind of work, in a form that can be shown to those who write the kernels and drivers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The card and its driver.
    pub device: String,
    /// The program.
    pub build: String,
    /// What the device is to do.
    pub workload: serde_json::Value,
    /// How the kernels were chosen.
    pub kernels: KernelChoice,
    /// What the work is done with in the end.
    pub settings: Settings,
    /// Whether it is done; otherwise the program was started again in the middle.
    pub is_complete: bool,
    /// The checks, in their order; the last one found nothing wrong, unless the CPU has taken the device's place.
    pub attempts: Vec<Attempt>,
}

/// Versions, features and the executable of this program: another build may have other kernels.
fn build() -> String {
    let features = [
        ("tuned", cfg!(feature = "tuned")),
        ("tuning-cache", cfg!(feature = "tuning-cache")),
        ("fusion", cfg!(feature = "fusion")),
        ("vulkan", cfg!(feature = "vulkan")),
    ];
    let features: Vec<&str> = features.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect();
    let executable = std::env::current_exe().and_then(fs::metadata).ok().map(|file| {
        let modified = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        format!("{} bytes of {} s", file.len(), modified.as_secs())
    });
    format!(
        "ghostnet {} on burn 0.22.1, features {}, executable of {}",
        env!("CARGO_PKG_VERSION"),
        if features.is_empty() { "none".to_string() } else { features.join(", ") },
        executable.unwrap_or_else(|| "unknown size".to_string())
    )
}

impl Record {
    /// Of a device that has not been checked.
    pub(super) fn new(device: &ChosenDevice, workload: &Workload, settings: Settings) -> Self {
        Self {
            device: device.identity.clone(),
            build: build(),
            workload: serde_json::to_value(workload).unwrap_or_default(),
            kernels: device::kernel_choice(),
            settings,
            is_complete: false,
            attempts: Vec::new(),
        }
    }

    /// Where it is kept: a name for the card, the build, the work and what the user forces.
    pub fn path(&self) -> Option<PathBuf> {
        let Self { device, build, workload, .. } = self;
        let forced: Vec<Option<String>> = forced_variables().collect();
        let identity = format!("{device}\n{build}\n{workload}\n{forced:?}");
        let readable: String =
            device.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
        let name = format!("{readable}-{}.json", &blake3::hash(identity.as_bytes()).to_hex()[..16]);
        let user = etcetera::choose_base_strategy().ok()?;
        Some(user.cache_dir().join("ghostnet").join("device-checks").join(name))
    }

    /// What was found earlier about the same device and work. What cannot be read was not found.
    pub(super) fn kept(&self) -> Option<Self> {
        let text = fs::read_to_string(self.path()?).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Whether what was found holds for this process too: kernels that are tuned again may be others.
    pub(super) fn holds(&self) -> bool {
        self.kernels != KernelChoice::OfThisProcess && self.kernels == device::kernel_choice()
    }

    /// Keeps it, in any case for people to read; says where, or why not.
    pub(super) fn keep(&self) -> Result<PathBuf, String> {
        let path = self.path().ok_or("there is no home directory")?;
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            run_directory::replace(&path, serde_json::to_string_pretty(self)?.as_bytes())
        };
        write().map_err(|error| error.to_string())?;
        Ok(path)
    }

    /// What belongs into the record of a run.
    pub(super) fn summary(&self) -> serde_json::Value {
        let last = self.attempts.last().map(|attempt| &attempt.result);
        serde_json::json!({
            "settings": self.settings,
            "checks": self.attempts.len(),
            "operations": last.map(|result| result.operations.len()),
            "faults": self.attempts.iter().flat_map(|attempt| &attempt.result.faults).collect::<Vec<_>>(),
            "seconds": self.attempts.iter().map(|attempt| attempt.result.seconds).sum::<f64>(),
            "file": self.path(),
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ghostnet::GhostNetConfig;

    use super::super::workload::ForwardPasses;
    use super::*;
    use crate::recipe::Precision;

    #[test]
    fn what_was_found_holds_as_long_as_the_kernels_are_the_same() {
        let workload = Workload {
            network: GhostNetConfig::new(3),
            training: None,
            inference: ForwardPasses { image_size: 32, batch_sizes: vec![2] },
            deterministic: false,
            seed: 0,
        };
        let device = ChosenDevice::gpu(Device::flex(), "a card".to_string());
        let mut record = Record::new(&device, &workload, Settings::new(Precision::F32));
        let is_fixed = !cfg!(feature = "tuned");
        assert_eq!(record.holds(), is_fixed, "kernels that are tuned in memory are other ones in the next process");
        record.kernels = KernelChoice::Kept { since: "another database".to_string() };
        assert!(!record.holds());
    }
}
