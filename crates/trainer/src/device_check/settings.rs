//! What a GPU's work is done with, and the steps from what is fast to what is right.

use std::fmt;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use ghostnet_kernels::gpu::{self, border};
use imageset::source::counted;
use serde::{Deserialize, Serialize};

use crate::recipe::Precision;

/// What a GPU's work is done with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Operations whose tuned kernels are not used.
    pub untuned: Vec<border::Operation>,
    /// Operations on 16-bit numbers that are computed in 32 bits.
    pub widened: Vec<border::Operation>,
    /// Whether elementwise operations are fused.
    pub fusion: bool,
    /// Whether convolutions and products use tuned kernels at all.
    pub tuning: bool,
    /// Number formats of the passes.
    pub precision: Precision,
    /// Whether this project's own kernels are used.
    pub own_kernels: bool,
    /// Whether the CPU takes the GPU's place.
    pub cpu: bool,
}

/// What the user has settled for the GPU, and the program does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Forced {
    /// Whether operations are fused.
    fusion: Option<bool>,
    /// Whether this project's own kernels are used.
    own_kernels: Option<bool>,
}

impl Forced {
    /// Reads the variables of the environment.
    ///
    /// # Errors
    /// If one of them is neither `on` nor `off`.
    pub(super) fn from_environment() -> anyhow::Result<Self> {
        // What the program gave itself is not the user's wish.
        let is_ours = std::env::var_os(RESTARTED).is_some();
        let fusion = if is_ours { None } else { switch(FUSION)? };
        Ok(Self { fusion, own_kernels: switch(OWN_KERNELS)? })
    }

    /// What it keeps the program from changing, for people.
    pub(super) fn obstacles(self) -> Vec<String> {
        let is_fused = self.fusion == Some(true);
        let named =
            [(is_fused, format!("{FUSION}=on")), (self.own_kernels == Some(false), format!("{OWN_KERNELS}=off"))];
        named.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text).collect()
    }
}

/// What tells records apart that were made with other variables of the environment.
pub(super) fn forced_variables() -> impl Iterator<Item = Option<String>> {
    let is_users = |name: &str| name != FUSION || std::env::var_os(RESTARTED).is_none();
    [OWN_KERNELS, "GHOSTNET_PLANTED_FAULT", FUSION]
        .into_iter()
        .map(move |name| std::env::var(name).ok().filter(|_| is_users(name)))
}

/// A variable of the environment that is `on` or `off`, if it is set.
fn switch(name: &str) -> anyhow::Result<Option<bool>> {
    match std::env::var(name).as_deref() {
        Err(_) | Ok("") => Ok(None),
        Ok("on") => Ok(Some(true)),
        Ok("off") => Ok(Some(false)),
        Ok(other) => bail!("the environment variable `{name}` is `{other}`\n\nhint: `{name}=on` or `{name}=off`"),
    }
}

impl Settings {
    /// What is in force where nobody has changed anything.
    pub(super) fn new(precision: Precision) -> Self {
        Self {
            untuned: Vec::new(),
            widened: Vec::new(),
            fusion: gpu::is_fusing(),
            tuning: cfg!(feature = "tuned"),
            precision,
            own_kernels: gpu::is_enabled(),
            cpu: false,
        }
    }

    /// The CPU in the GPU's place.
    pub(super) fn of_cpu(precision: Precision) -> Self {
        Self { cpu: true, ..Self::new(precision) }
    }

    /// Puts them in force, but for fusing, which is decided once in a process.
    pub(super) fn apply(&self) {
        border::reset();
        self.untuned.iter().for_each(|operation| border::set_aside(operation.kind, operation.format));
        self.widened.iter().for_each(|operation| border::widen(operation.kind));
        if cfg!(feature = "tuned") && !self.tuning {
            border::set_all_aside();
        }
        gpu::set_enabled(self.own_kernels);
    }

    /// The next ones to try where these operations were found wrong, and what the program then does; `None` if there are none left.
    pub(super) fn after(&self, wrong: &[border::Operation], forced: Forced) -> Option<(Self, String)> {
        let mut next = self.clone();
        let fresh = |known: &[border::Operation], is_fit: &dyn Fn(&border::Operation) -> bool| {
            wrong.iter().filter(|it| !known.contains(it) && is_fit(it)).copied().collect::<Vec<_>>()
        };
        let untuned = if self.tuning { fresh(&self.untuned, &|_| true) } else { Vec::new() };
        let widened = fresh(&self.widened, &|operation| operation.format == border::Format::F16);
        // burn's kernels that need no tuning add up 16-bit products in 16 bits, so 32 bits come first.
        let change = if !widened.is_empty() {
            let change = format!("computes {} in 32 bits", counted(widened.len(), "operation"));
            next.widened.extend(widened);
            change
        } else if !untuned.is_empty() {
            let change = format!("uses no tuned kernel for {}", counted(untuned.len(), "operation"));
            next.untuned.extend(untuned);
            change
        } else if self.fusion && forced.fusion.is_none() {
            next.fusion = false;
            "fuses no operations".to_string()
        } else if self.tuning {
            next.tuning = false;
            "uses no tuned kernels for convolutions and products".to_string()
        } else if self.precision == Precision::Mixed {
            next.precision = Precision::F32;
            next.widened.clear();
            "computes in 32 bits".to_string()
        } else if !self.own_kernels && forced.own_kernels.is_none() {
            next.own_kernels = true;
            "uses this project's own kernels for norms and depthwise convolutions".to_string()
        } else {
            return None;
        };
        Some((next, change))
    }

    /// How they differ from what is in force where nobody has changed anything.
    pub(super) fn differences(&self, asked: Precision) -> Vec<String> {
        let operations = |list: &[border::Operation]| counted(list.len(), "operation");
        let list = [
            (!self.untuned.is_empty(), format!("no tuned kernel for {}", operations(&self.untuned))),
            (!self.widened.is_empty(), format!("32 bits for {}", operations(&self.widened))),
            (cfg!(feature = "fusion") && !self.fusion, "no fused operations".to_string()),
            (cfg!(feature = "tuned") && !self.tuning, "no tuned kernels for convolutions and products".to_string()),
            (self.precision != asked, "32 bits instead of mixed precision".to_string()),
            (self.own_kernels, "this project's own kernels".to_string()),
        ];
        list.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text).collect()
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differences = self.differences(self.precision);
        if differences.is_empty() { f.write_str("nothing changed") } else { f.write_str(&differences.join(", ")) }
    }
}

/// The process must be started again, since what it changes cannot be changed in one that has computed.
#[derive(Debug, thiserror::Error)]
#[error("the program must be started again with `{name}={value}`")]
pub struct Restart {
    /// A variable of the environment.
    pub name: &'static str,
    /// Its value.
    pub value: &'static str,
}

/// Starts the program again with the same arguments and another environment. It takes the place of this process where it can.
pub fn restart(error: &anyhow::Error) -> anyhow::Result<ExitCode> {
    let Some(Restart { name, value }) = error.downcast_ref() else { bail!("there is nothing to start again for") };
    let mark = (RESTARTED, "1");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).envs([(*name, *value), mark]);
    #[cfg(unix)]
    return Err(std::os::unix::process::CommandExt::exec(&mut command)).context("cannot start the program again");
    #[cfg(not(unix))]
    {
        let status = command.status().context("cannot start the program again")?;
        Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
    }
}

/// Set in a process that was started again, so that what it was given is not taken for the user's wish.
const RESTARTED: &str = "GHOSTNET_RESTARTED";

/// The variable that switches fusing on and off.
const FUSION: &str = "GHOSTNET_GPU_FUSION";

/// The variable that switches this project's own kernels on and off.
const OWN_KERNELS: &str = "GHOSTNET_GPU_KERNELS";

pub(super) const WITHOUT_FUSION: Restart = Restart { name: FUSION, value: "off" };
