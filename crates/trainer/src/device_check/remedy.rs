//! What is done about a device that is wrong, one step at a time: kernels without tuning or in 32 bits for the operations that are wrong, no fused
//! operations, no tuning, 32 bits, this project's own kernels, the CPU.

use std::fmt;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use ghostnet_kernels::gpu::{self, border};
use serde::{Deserialize, Serialize};

use super::check::{CheckResult, check};
use super::record::{Attempt, Record};
use super::{Proven, Request, Workload};
use crate::device::{self, ChosenDevice, DeviceChoice, DeviceFailed, Failure};
use crate::observe::Output;
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

/// Whether this build fuses, and was not told otherwise.
fn is_fusing() -> bool {
    #[cfg(feature = "fusion")]
    return gpu::is_fusing();
    #[cfg(not(feature = "fusion"))]
    false
}

impl Settings {
    /// What is in force where nobody has changed anything.
    fn new(precision: Precision) -> Self {
        Self {
            untuned: Vec::new(),
            widened: Vec::new(),
            fusion: is_fusing(),
            tuning: cfg!(feature = "tuned"),
            precision,
            own_kernels: gpu::is_enabled(),
            cpu: false,
        }
    }

    /// Puts them in force, but for fusing, which is decided once in a process.
    fn apply(&self) {
        border::reset();
        self.untuned.iter().for_each(|operation| border::set_aside(operation.kind, operation.format));
        self.widened.iter().for_each(|operation| border::widen(operation.kind));
        if cfg!(feature = "tuned") && !self.tuning {
            border::set_all_aside();
        }
        gpu::set_enabled(self.own_kernels);
    }

    /// The next ones to try after a check that found faults, and what changes; `None` if there are none left.
    fn after(&self, result: &CheckResult) -> Option<(Self, String)> {
        let mut next = self.clone();
        let wrong: Vec<border::Operation> =
            result.operations.iter().filter(|operation| operation.fault.is_some()).map(|it| it.operation).collect();
        let counted = |count: usize| imageset::source::counted(count, "operation");
        let fresh = |known: &[border::Operation], is_fit: &dyn Fn(&border::Operation) -> bool| {
            wrong.iter().filter(|it| !known.contains(it) && is_fit(it)).copied().collect::<Vec<_>>()
        };
        let untuned = if self.tuning { fresh(&self.untuned, &|_| true) } else { Vec::new() };
        let widened = fresh(&self.widened, &|operation| operation.format == border::Format::F16);
        // burn's kernels that need no tuning add up 16-bit products in 16 bits, so 32 bits come first.
        let change = if !widened.is_empty() {
            let change = format!("computes {} in 32 bits", counted(widened.len()));
            next.widened.extend(widened);
            change
        } else if !untuned.is_empty() {
            let change = format!("uses no tuned kernel for {}", counted(untuned.len()));
            next.untuned.extend(untuned);
            change
        } else if self.fusion {
            next.fusion = false;
            "fuses no operations".to_string()
        } else if self.tuning {
            next.tuning = false;
            "uses no tuned kernels for convolutions and products".to_string()
        } else if self.precision == Precision::Mixed {
            next.precision = Precision::F32;
            next.widened.clear();
            "computes in 32 bits".to_string()
        } else if !self.own_kernels {
            next.own_kernels = true;
            "uses this project's own kernels for norms and depthwise convolutions".to_string()
        } else {
            return None;
        };
        Some((next, change))
    }

    /// How they differ from what is in force where nobody has changed anything.
    fn differences(&self, asked: Precision) -> Vec<String> {
        let counted = |count: usize| imageset::source::counted(count, "operation");
        let list = [
            (!self.untuned.is_empty(), format!("no tuned kernel for {}", counted(self.untuned.len()))),
            (!self.widened.is_empty(), format!("32 bits for {}", counted(self.widened.len()))),
            (cfg!(feature = "fusion") && !self.fusion, "no fused operations".to_string()),
            (cfg!(feature = "tuned") && !self.tuning, "no tuned kernels for convolutions and products".to_string()),
            (self.precision != asked, "32 bits instead of mixed precision".to_string()),
            (self.own_kernels, "this project's own kernels".to_string()),
        ];
        list.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text).collect()
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

/// Starts the program again, with the same arguments and what must be otherwise. It takes the place of this process where it can.
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
pub(super) const RESTARTED: &str = "GHOSTNET_RESTARTED";

/// The variable that switches fusing off.
pub(super) const FUSION: &str = "GHOSTNET_GPU_FUSION";

const WITHOUT_FUSION: Restart = Restart { name: FUSION, value: "off" };

/// Checks, one remedy after the other, until nothing is wrong.
pub(super) fn prove(request: Request, output: &Output) -> anyhow::Result<Proven> {
    let Request { workload, device, is_named, is_anew, .. } = request;
    let asked = workload.precision;
    let mut record = Record::new(&device, &workload, Settings::new(asked));
    match record.kept() {
        Some(kept) if kept.is_complete && !is_anew => {
            if is_fusing() && !kept.settings.fusion && !kept.settings.cpu {
                return Err(WITHOUT_FUSION.into());
            }
            return proven(device, kept, asked, is_named, output);
        }
        // This process was started for the next step of a check.
        Some(kept) if !kept.is_complete && !is_fusing() => record = kept,
        _ => {}
    }
    output.line(&format!("checking `{device}` for this work; the first time takes longest"));
    loop {
        record.settings.apply();
        let checked = Workload { precision: record.settings.precision, ..workload.clone() };
        let result = match checked_in_memory(&checked, &device, output) {
            // A kernel that fails is as wrong as one that computes something else.
            Err(error) if is_kernel_failure(&error) => CheckResult::failed(&error),
            checked => checked?,
        };
        let faults = result.faults.clone();
        record.attempts.push(Attempt { settings: record.settings.clone(), result: result.clone() });
        if faults.is_empty() {
            record.is_complete = true;
            keep(&record, output);
            let CheckResult { operations, seconds, .. } = &result;
            output.line(&format!(
                "device check: {} and {} agree with the CPU ({seconds:.0} s)",
                imageset::source::counted(operations.len(), "operation"),
                if result.passes.is_empty() { "whole forward passes" } else { "whole training passes" },
            ));
            return proven(device, record, asked, is_named, output);
        }
        for fault in faults.iter().take(MAX_FAULTS) {
            output.line(&format!("warning: `{device}` computes wrongly: {fault}"));
        }
        if faults.len() > MAX_FAULTS {
            output.line(&format!("warning: and {} more", faults.len() - MAX_FAULTS));
        }
        if workload.deterministic {
            keep(&record, output);
            bail!(
                "`{device}` computes wrongly, and `train.deterministic` allows no way around it\n\n\
                 hint: use `--device cpu`, or `--no-device-check` if you know better"
            );
        }
        match record.settings.after(&result) {
            Some((next, change)) => {
                output.line(&format!("note: the program now {change}, and checks again"));
                let restarts = next.fusion != record.settings.fusion;
                record.settings = next;
                if restarts {
                    keep(&record, output);
                    return Err(WITHOUT_FUSION.into());
                }
            }
            None => {
                record.settings = Settings { cpu: true, ..Settings::new(asked) };
                record.is_complete = true;
                keep(&record, output);
                return proven(device, record, asked, is_named, output);
            }
        }
    }
}

/// Faults that are told one by one; the file has all.
const MAX_FAULTS: usize = 5;

fn is_kernel_failure(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(DeviceFailed { failure: Failure::Other(_), .. }))
}

/// Checks with fewer images at a time where the device has no memory for all, as a run does.
fn checked_in_memory(workload: &Workload, device: &ChosenDevice, output: &Output) -> anyhow::Result<CheckResult> {
    let mut workload = workload.clone();
    loop {
        match device.run(|| check(&workload, device)) {
            // Norms cannot train on less than two images.
            Err(error) if device::is_out_of_memory(&error) && workload.batch_size > 2 => {
                let fewer = workload.batch_size.div_ceil(2);
                output.line(&format!(
                    "note: there is no memory to check {} images at a time; {fewer} are checked",
                    workload.batch_size
                ));
                workload.batch_size = fewer;
                device.device.memory_cleanup();
            }
            checked => return checked,
        }
    }
}

/// Keeps a record; whoever cannot is told, and goes on.
fn keep(record: &Record, output: &Output) {
    match record.keep() {
        Ok(path) if record.is_complete && (record.attempts.len() > 1 || record.settings.cpu) => {
            output.line(&format!(
                "note: `{}` has all figures, for a report to those who write the kernels",
                path.display()
            ));
        }
        Ok(_) => {}
        Err(error) => output.line(&format!("warning: the device check is not kept for the next run: {error}")),
    }
}

/// The outcome of a record, in force.
fn proven(
    device: ChosenDevice,
    record: Record,
    asked: Precision,
    is_named: bool,
    output: &Output,
) -> anyhow::Result<Proven> {
    let summary = record.summary();
    let settings = &record.settings;
    if settings.cpu {
        if is_named {
            bail!(
                "`{device}` computes wrongly, and no kernels were found that do not\n\n\
                 hint: use `--device cpu`; `--no-device-check` computes there all the same, and its results are not to be trusted"
            );
        }
        output.line(&format!("warning: `{device}` computes wrongly, so the CPU takes its place"));
        let device = device::choose(DeviceChoice::Cpu)?.with_check(summary);
        return Ok(Proven { device, precision: asked, record: Some(record) });
    }
    settings.apply();
    // What the check took must not be missing in the run.
    device.device.memory_cleanup();
    let differences = settings.differences(asked);
    if !differences.is_empty() {
        output.line(&format!("note: `{device}` works with {}", differences.join(", ")));
    }
    let precision = settings.precision;
    Ok(Proven { device: device.with_check(summary), precision, record: Some(record) })
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differences = self.differences(self.precision);
        if differences.is_empty() { f.write_str("as it is") } else { f.write_str(&differences.join(", ")) }
    }
}
