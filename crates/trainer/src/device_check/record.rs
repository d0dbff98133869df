//! What was found about a device, kept in the user's cache directory, so that only the first run of a kind waits for the check.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use etcetera::BaseStrategy;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::Workload;
use super::check::CheckResult;
use super::remedy::{FUSION, RESTARTED, Settings};
use crate::device::ChosenDevice;
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

/// Whether what a check found holds for the next process too: kernels that are tuned in memory are tuned anew there, and may be others.
const CAN_BE_KEPT: bool = cfg!(feature = "tuning-cache") || !cfg!(feature = "tuned");

impl Record {
    /// Of a device that has not been checked.
    pub(super) fn new(device: &ChosenDevice, workload: &Workload, settings: Settings) -> Self {
        Self {
            device: device.identity.clone(),
            build: build(),
            workload: serde_json::to_value(workload).unwrap_or_default(),
            settings,
            is_complete: false,
            attempts: Vec::new(),
        }
    }

    /// Where it is kept: a name for the card, the build, the work and what the user forces.
    pub fn path(&self) -> Option<PathBuf> {
        let Self { device, build, workload, .. } = self;
        let is_users = |name: &str| name != FUSION || std::env::var_os(RESTARTED).is_none();
        let forced = ["GHOSTNET_GPU_KERNELS", "GHOSTNET_PLANTED_FAULT", FUSION];
        let forced = forced.map(|name| std::env::var(name).ok().filter(|_| is_users(name)));
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
        let kept: Self = serde_json::from_str(&text).ok()?;
        (CAN_BE_KEPT || !kept.is_complete).then_some(kept)
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
