//! What is asked about a device, and what the answer is.

#[cfg(feature = "wgpu")]
use super::record::Record;
use super::workload::Workload;
use crate::device::ChosenDevice;
use crate::recipe::Precision;

/// A device that is to be proved.
#[derive(Debug)]
pub struct Request {
    /// What it is to do.
    pub workload: Workload,
    /// The device.
    pub device: ChosenDevice,
    /// Whether the user named it, so that the CPU must not take its place.
    pub is_named: bool,
    /// Whether the user does not want the check.
    pub is_skipped: bool,
    /// Whether it is checked again, whatever is known.
    pub is_repeated: bool,
}

/// What the work is done with.
#[derive(Debug)]
pub struct Proven {
    /// The device, or the CPU in its place.
    pub device: ChosenDevice,
    /// The precision, which may be less mixed than was asked for.
    pub precision: Precision,
    /// All that is known about the device, if it was checked.
    #[cfg(feature = "wgpu")]
    pub record: Option<Record>,
}

impl Proven {
    /// A device that needs no proof.
    pub(super) fn unchecked(device: ChosenDevice, precision: Precision) -> Self {
        Self {
            device,
            precision,
            #[cfg(feature = "wgpu")]
            record: None,
        }
    }
}
