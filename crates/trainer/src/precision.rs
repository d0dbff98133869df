//! Mixed precision: maps and products in 16 bits, everything that adds up over a run in 32, and the scale that keeps gradients in the
//! range of 16 bits.
//!
//! What is in which format is decided where it is computed, in `ghostnet_kernels::Reference`: maps, and the copies of the weights that
//! they are multiplied with, are 16-bit floats; weights, norms and their statistics, means over images, the head and the loss stay
//! at 32. Evaluation uses the weights as they are, in 32 bits.

use anyhow::bail;
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};

use crate::recipe::Precision;

impl Precision {
    /// What the maps of a network in training are made of.
    pub fn format(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Mixed => DType::F16,
        }
    }

    /// An error if the device cannot compute with it.
    pub fn check(self, device: &Device) -> anyhow::Result<()> {
        if !device.supports_dtype(self.format()) {
            bail!(
                "this device cannot compute with 16-bit floats, which `train.precision = \"mixed\"` needs\n\n\
                 hint: use `--set train.precision=f32`; `ghostnet devices` says what each device can do"
            );
        }
        Ok(())
    }
}

/// What the loss is multiplied by, and gradients divided by again, so that they stay in the range of 16 bits. The rule and the constants
/// are those of `torch.amp.GradScaler`: a step whose gradients are not finite leaves the weights, and what the optimizer remembers of
/// them, as they were and halves the scale, and after 2,000 steps without one the scale is doubled.
///
/// Two things are otherwise than there. A step that leaves the weights alone is counted all the same, by the schedule and in Adam's
/// correction for averages that are young, which makes the next few updates a little smaller. And a map beyond 16 bits, from which
/// the loss is no number, ends the run rather than the step: norms have seen it.
///
/// It lives on the device, so that nobody waits to learn whether a step counts.
#[derive(Debug, Clone)]
pub struct LossScale {
    /// `[1]`
    scale: Tensor<1>,
    /// Steps since it last changed, `[1]`.
    good_steps: Tensor<1>,
}

impl LossScale {
    const FIRST: f32 = 65_536.0;
    const GROWTH: f32 = 2.0;
    const BACKOFF: f32 = 0.5;
    const GROWTH_INTERVAL: f32 = 2_000.0;
    /// Gradients that are not finite at this scale would not be at any.
    pub const LEAST: f64 = 1.0;

    /// At the start of a run. `device` is without autodiff.
    pub fn new(device: &Device) -> Self {
        Self::from_state([Self::FIRST, 0.0], device)
    }

    /// Takes up what [`state`](Self::state) gave.
    pub fn from_state([scale, good_steps]: [f32; 2], device: &Device) -> Self {
        let value = |value| Tensor::from_data(TensorData::from([value]), device);
        Self { scale: value(scale), good_steps: value(good_steps) }
    }

    /// The scale, and steps since it last changed. Waits for the device.
    pub fn state(&self) -> [f32; 2] {
        [&self.scale, &self.good_steps].map(|value| value.clone().into_scalar())
    }

    /// `[1]`
    pub fn value(&self) -> Tensor<1> {
        self.scale.clone()
    }

    /// The scale after a step.
    ///
    /// # Shapes
    /// - `is_finite`: `[1]`, whether the step's gradients were
    pub fn after(self, is_finite: Tensor<1, Bool>) -> Self {
        let finite = is_finite.float();
        let good_steps = (self.good_steps + 1.0) * finite.clone();
        let grows = good_steps.clone().greater_equal_scalar(Self::GROWTH_INTERVAL).float();
        let rest = grows.clone().neg() + 1.0;
        let growth = grows * Self::GROWTH + rest.clone();
        let factor = finite.clone() * growth + (finite.neg() + 1.0) * Self::BACKOFF;
        Self { scale: self.scale * factor, good_steps: good_steps * rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_halved_at_once_and_doubled_after_two_thousand_good_steps() {
        let device = Device::flex();
        let flag = |is_finite: bool| Tensor::<1, Bool>::from_data(TensorData::from([is_finite]), &device);
        let mut scale = LossScale::new(&device);
        for (is_finite, state) in
            [(false, [32_768.0, 0.0]), (false, [16_384.0, 0.0]), (true, [16_384.0, 1.0]), (false, [8_192.0, 0.0])]
        {
            scale = scale.after(flag(is_finite));
            assert_eq!(scale.state(), state);
        }
        for _ in 0..1999 {
            scale = scale.after(flag(true));
        }
        assert_eq!(scale.state(), [8_192.0, 1_999.0]);
        let state = scale.state();
        scale = LossScale::from_state(state, &device).after(flag(true));
        assert_eq!(scale.state(), [16_384.0, 0.0]);
    }
}
