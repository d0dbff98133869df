//! The GPU path against the CPU.
//!
//! Any adapter will do, a software one included, where the build does not tune kernels: on software Vulkan tuning takes hours.
//! `GHOSTNET_REQUIRE_ADAPTER=1` makes a missing adapter a failure.

#![cfg(all(feature = "wgpu", not(feature = "tuned")))]

mod batches;
mod device_check;
mod failures;
mod memory;
#[path = "../it/mixed/mod.rs"]
mod mixed;
mod network;
mod precision;
mod runs;
#[path = "../it/scene/mod.rs"]
mod scene;
mod updates;

use std::sync::OnceLock;

use burn::tensor::{Device, TensorData};
use trainer::device::{ChosenDevice, DeviceChoice, choose};

/// `wgpu:0`, if there is one. A process can open it once.
fn adapter() -> Option<&'static ChosenDevice> {
    static ADAPTER: OnceLock<Option<ChosenDevice>> = OnceLock::new();
    let open = || match choose(DeviceChoice::Wgpu(Some(0))) {
        Ok(chosen) => Some(chosen),
        Err(error) => {
            assert!(std::env::var_os("GHOSTNET_REQUIRE_ADAPTER").is_none(), "{error:#}");
            None
        }
    };
    ADAPTER.get_or_init(open).as_ref()
}

fn gpu() -> Option<Device> {
    adapter().map(|chosen| chosen.device.clone())
}

/// Fails if the difference is longer than `tolerance` times what is expected, or than `tolerance` times `floor` where that is
/// longer: what would be 0 in exact arithmetic is all rounding.
fn assert_close(what: &str, found: &TensorData, expected: &TensorData, floor: f64, tolerance: f64) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let share = distance(found, expected) / length(expected.iter::<f64>()).max(floor);
    assert!(share <= tolerance, "{what} differs by {share:.1e}");
}

fn distance(found: &TensorData, expected: &TensorData) -> f64 {
    length(found.iter::<f64>().zip(expected.iter::<f64>()).map(|(found, expected)| found - expected))
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}
