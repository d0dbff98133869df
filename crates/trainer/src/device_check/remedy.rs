//! What is done about a device that is wrong, one step at a time: kernels without tuning or in 32 bits for the operations that are wrong, no fused
//! operations, no tuning, 32 bits, this project's own kernels, the CPU.

use anyhow::bail;
use ghostnet_kernels::gpu;
use imageset::source::counted;

use super::check::{CheckResult, Extent, check};
use super::proof::{Proven, Request};
use super::record::{Attempt, Record};
use super::settings::{Forced, Settings, WITHOUT_FUSION};
use super::workload::Workload;
use crate::device::{self, ChosenDevice, DeviceChoice, DeviceFailed, Failure};
use crate::feed;
use crate::observe::Output;

/// Finds out what the work can be done with, and puts it in force.
pub(super) fn prove(request: Request, output: &Output) -> anyhow::Result<Proven> {
    let record = examine(&request, output)?;
    let Request { workload, device, is_named, .. } = request;
    let (summary, settings) = (record.summary(), &record.settings);
    if settings.cpu {
        let wrong = wrongly(&device, &record);
        if workload.deterministic {
            bail!(
                "{wrong}, and `train.deterministic` allows no way around it\n\n\
                 hint: use `--device cpu`; `--no-device-check` trains there all the same, and its results are not to be trusted"
            );
        }
        if is_named {
            let obstacles = Forced::from_environment()?.obstacles();
            let kept =
                if obstacles.is_empty() { String::new() } else { format!(" while {} is set", obstacles.join(" and ")) };
            bail!(
                "{wrong}, and no kernels were found{kept} that compute rightly\n\n\
                 hint: use `--device cpu`; `--no-device-check` computes there all the same, and its results are not to be trusted"
            );
        }
        output.line(&format!("warning: `{device}` computes wrongly, so the CPU takes its place"));
        let device = device::choose(DeviceChoice::Cpu)?.with_check(summary);
        return Ok(Proven { device, precision: workload.precision(), record: Some(record) });
    }
    settings.apply();
    // What the check took must not be missing in the run.
    device.device.memory_cleanup();
    let differences = settings.differences(workload.precision());
    if !differences.is_empty() {
        output.line(&format!("note: `{device}` works with {}", differences.join(", ")));
    }
    Ok(Proven { device: device.with_check(summary), precision: settings.precision, record: Some(record) })
}

/// What is wrong with a device, and where the figures are.
fn wrongly(device: &ChosenDevice, record: &Record) -> String {
    let first = record.attempts.first().and_then(|attempt| attempt.result.faults.first());
    let first = first.map_or(String::new(), |fault| format!(" ({fault})"));
    let path = record.path().filter(|path| path.exists());
    let path = path.map_or(String::new(), |path| format!("; all figures are in `{}`", path.display()));
    format!("`{device}` computes wrongly{first}{path}")
}

/// Takes what was found earlier, or checks, one remedy after the other, until nothing is wrong or nothing is left to try: then the CPU takes the
/// device's place in the record.
pub(super) fn examine(request: &Request, output: &Output) -> anyhow::Result<Record> {
    let Request { workload, device, is_repeated, .. } = request;
    let forced = Forced::from_environment()?;
    let mut record = Record::new(device, workload, Settings::new(workload.precision()));
    match record.kept() {
        Some(kept) if kept.is_complete && !is_repeated => {
            if kept.holds() {
                if gpu::is_fusing() && !kept.settings.fusion && !kept.settings.cpu {
                    return Err(WITHOUT_FUSION.into());
                }
                return Ok(kept);
            }
            // Other kernels may have been chosen in this process. Whether a network gives the right numbers with them takes a fraction of the
            // time of the check that has been made before.
            if workload.training.is_none() && kept.settings == record.settings {
                let result = device.run(|| check(workload, device, Extent::PassesAlone));
                if result.is_ok_and(|result| result.faults.is_empty()) {
                    return Ok(kept);
                }
            }
        }
        // This process was started for the next step of a check.
        Some(kept) if !kept.is_complete && !gpu::is_fusing() => record = kept,
        _ => {}
    }
    output.line(&format!("checking `{device}` for this work; the first time takes longest"));
    loop {
        record.settings.apply();
        let checked = workload.clone().with_precision(record.settings.precision);
        let result = match checked_in_memory(&checked, device, output) {
            // A kernel that fails is as wrong as one that computes something else.
            Err(error) if is_kernel_failure(&error) => CheckResult::failed(&error),
            checked => checked?,
        };
        record.attempts.push(Attempt { settings: record.settings.clone(), result: result.clone() });
        if result.faults.is_empty() {
            let CheckResult { operations, seconds, .. } = &result;
            output.line(&format!(
                "device check: {} and {} agree with the CPU ({seconds:.0} s)",
                counted(operations.len(), "operation"),
                if result.passes.is_empty() { "whole forward passes" } else { "whole training passes" },
            ));
            return Ok(completed(record, output));
        }
        for fault in result.faults.iter().take(MAX_FAULTS) {
            output.line(&format!("warning: `{device}` computes wrongly: {fault}"));
        }
        if result.faults.len() > MAX_FAULTS {
            output.line(&format!("warning: and {} more", result.faults.len() - MAX_FAULTS));
        }
        let wrong: Vec<_> = result.wrong_operations().collect();
        let next = if workload.deterministic { None } else { record.settings.after(&wrong, forced) };
        let Some((next, change)) = next else {
            record.settings = Settings::of_cpu(workload.precision());
            return Ok(completed(record, output));
        };
        output.line(&format!("note: the program now {change}, and checks again"));
        let restarts = next.fusion != record.settings.fusion;
        record.settings = next;
        if restarts {
            keep(&record, output);
            return Err(WITHOUT_FUSION.into());
        }
    }
}

fn completed(mut record: Record, output: &Output) -> Record {
    record.is_complete = true;
    keep(&record, output);
    record
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
        let error = match device.run(|| check(&workload, device, Extent::Whole)) {
            Err(error) if device::is_out_of_memory(&error) => error,
            checked => return checked,
        };
        let images = workload.batch_size();
        let fewer = feed::largest_part(images, images.div_ceil(2));
        if fewer >= images {
            return Err(error);
        }
        workload = workload.with_at_most(fewer);
        output.line(&format!("note: there is no memory to check {images} images at a time; {fewer} are checked"));
        device.device.memory_cleanup();
    }
}

/// Keeps a record. If that fails, the user is told, and the work goes on.
fn keep(record: &Record, output: &Output) {
    match record.keep() {
        Ok(path) if record.is_complete && record.attempts.len() > 1 => {
            output.line(&format!(
                "note: `{}` has all figures, for a report to those who write the kernels",
                path.display()
            ));
        }
        Ok(_) => {}
        Err(error) => output.line(&format!("warning: the device check is not kept for the next run: {error}")),
    }
}
