//! Optimizer updates in one pass. The arithmetic and its order are the reference's, and with them every bit of the result.

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use crate::cpu::simd::{InstructionSet, Simd, Task, dispatch};
use crate::update::{AdamW, Lion, RmspropTf, Sgd};

/// Elements that one thread takes at a time.
const CHUNK: usize = 16_384;

/// Calls `work` with the chunks of all slices together; the first `W` are written.
fn in_chunks<const W: usize>(
    written: [&mut [f32]; W],
    gradient: &[f32],
    work: impl Fn([&mut [f32]; W], &[f32]) + Sync,
) {
    assert!(written.iter().all(|slice| slice.len() == gradient.len()), "slices of one parameter are of one length");
    let mut rest = written;
    let mut chunks = Vec::with_capacity(gradient.len().div_ceil(CHUNK));
    for gradient in gradient.chunks(CHUNK) {
        let parts = rest.each_mut().map(|slice| {
            let (part, after) = std::mem::take(slice).split_at_mut(gradient.len());
            *slice = after;
            part
        });
        chunks.push((parts, gradient));
    }
    if chunks.len() < 4 {
        chunks.into_iter().for_each(|(written, gradient)| work(written, gradient));
    } else {
        chunks.into_par_iter().for_each(|(written, gradient)| work(written, gradient));
    }
}

struct SgdChunk<'a> {
    rule: Sgd,
    value: &'a mut [f32],
    buffer: Option<&'a mut [f32]>,
    fresh: bool,
    gradient: &'a [f32],
}

impl Task for SgdChunk<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Sgd { momentum, nesterov, weight_decay, learning_rate } = self.rule;
        let (momentum, decay, learning_rate) = (momentum as f32, weight_decay as f32, learning_rate as f32);
        // Without decay nothing is added, so that an infinite value does not make its gradient NaN.
        let with_decay = |gradient: f32, value: f32| if decay > 0.0 { gradient + value * decay } else { gradient };
        let Some(buffer) = self.buffer else {
            for (value, &gradient) in self.value.iter_mut().zip(self.gradient) {
                *value -= with_decay(gradient, *value) * learning_rate;
            }
            return;
        };
        for ((value, buffer), &gradient) in self.value.iter_mut().zip(buffer).zip(self.gradient) {
            let gradient = with_decay(gradient, *value);
            // The first buffer is the gradient itself, not a share of it.
            *buffer = if self.fresh { gradient } else { *buffer * momentum + gradient };
            let direction = if nesterov { gradient + *buffer * momentum } else { *buffer };
            *value -= direction * learning_rate;
        }
    }
}

struct AdamWChunk<'a> {
    rule: AdamW,
    value: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    fresh: bool,
    gradient: &'a [f32],
}

impl Task for AdamWChunk<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let AdamW { betas, epsilon, weight_decay, learning_rate, step } = self.rule;
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        let keep = betas.map(|beta| beta as f32);
        let take = betas.map(|beta| (1.0 - beta) as f32);
        let kept = (1.0 - learning_rate * weight_decay) as f32;
        let (root_correction, epsilon) = (correction(betas[1]).sqrt() as f32, epsilon as f32);
        let rate = (learning_rate / correction(betas[0])) as f32;
        let averages = self.first.iter_mut().zip(self.second);
        for ((value, (first, second)), &gradient) in self.value.iter_mut().zip(averages).zip(self.gradient) {
            let (new_first, new_second) = (gradient * take[0], gradient * gradient * take[1]);
            *first = if self.fresh { new_first } else { *first * keep[0] + new_first };
            *second = if self.fresh { new_second } else { *second * keep[1] + new_second };
            let root = second.sqrt() / root_correction + epsilon;
            let decayed = if weight_decay > 0.0 { *value * kept } else { *value };
            *value = decayed - *first / root * rate;
        }
    }
}

struct RmspropTfChunk<'a> {
    rule: RmspropTf,
    value: &'a mut [f32],
    average: &'a mut [f32],
    buffer: &'a mut [f32],
    gradient: &'a [f32],
}

impl Task for RmspropTfChunk<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let RmspropTf { alpha, epsilon, momentum, weight_decay, learning_rate } = self.rule;
        let (take, epsilon, momentum) = ((1.0 - alpha) as f32, epsilon as f32, momentum as f32);
        let (decay, learning_rate) = (weight_decay as f32, learning_rate as f32);
        let state = self.average.iter_mut().zip(self.buffer);
        for ((value, (average, buffer)), &gradient) in self.value.iter_mut().zip(state).zip(self.gradient) {
            let gradient = if decay > 0.0 { gradient + *value * decay } else { gradient };
            *average += (gradient * gradient - *average) * take;
            *buffer = *buffer * momentum + gradient / (*average + epsilon).sqrt() * learning_rate;
            *value -= *buffer;
        }
    }
}

struct LionChunk<'a> {
    rule: Lion,
    value: &'a mut [f32],
    average: &'a mut [f32],
    gradient: &'a [f32],
}

impl Task for LionChunk<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Lion { betas, weight_decay, learning_rate } = self.rule;
        let keep = betas.map(|beta| beta as f32);
        let take = betas.map(|beta| (1.0 - beta) as f32);
        let kept = (1.0 - learning_rate * weight_decay) as f32;
        let learning_rate = learning_rate as f32;
        for ((value, average), &gradient) in self.value.iter_mut().zip(self.average).zip(self.gradient) {
            let blend = *average * keep[0] + gradient * take[0];
            // As burn's, and unlike Rust's: zero for either zero and for NaN.
            let sign = if blend > 0.0 {
                1.0
            } else if blend < 0.0 {
                -1.0
            } else {
                0.0
            };
            *average = *average * keep[1] + gradient * take[1];
            let decayed = if weight_decay > 0.0 { *value * kept } else { *value };
            *value = decayed - sign * learning_rate;
        }
    }
}

pub(crate) fn rmsprop_tf(
    rule: &RmspropTf,
    mut value: FlexTensor,
    gradient: &[f32],
    state: Option<[FlexTensor; 2]>,
) -> (FlexTensor, [FlexTensor; 2]) {
    let (set, rule) = (InstructionSet::current(), *rule);
    let is_fresh = state.is_none();
    let zeros = || FlexTensor::zeros(value.layout().shape().clone(), value.dtype());
    let [mut average, mut buffer] = state.unwrap_or_else(|| [zeros(), zeros()]);
    if is_fresh {
        average.storage_mut::<f32>().fill(1.0);
    }
    let written = [value.storage_mut(), average.storage_mut(), buffer.storage_mut()];
    in_chunks(written, gradient, |[value, average, buffer], gradient| {
        dispatch(set, RmspropTfChunk { rule, value, average, buffer, gradient });
    });
    (value, [average, buffer])
}

pub(crate) fn lion(
    rule: &Lion,
    mut value: FlexTensor,
    gradient: &[f32],
    average: Option<FlexTensor>,
) -> (FlexTensor, FlexTensor) {
    let (set, rule) = (InstructionSet::current(), *rule);
    let zeros = || FlexTensor::zeros(value.layout().shape().clone(), value.dtype());
    let mut average = average.unwrap_or_else(zeros);
    in_chunks([value.storage_mut(), average.storage_mut()], gradient, |[value, average], gradient| {
        dispatch(set, LionChunk { rule, value, average, gradient });
    });
    (value, average)
}

pub(crate) fn sgd(
    rule: &Sgd,
    mut value: FlexTensor,
    gradient: &[f32],
    buffer: Option<FlexTensor>,
) -> (FlexTensor, Option<FlexTensor>) {
    let (set, rule) = (InstructionSet::current(), *rule);
    if rule.momentum <= 0.0 {
        in_chunks([value.storage_mut()], gradient, |[value], gradient| {
            dispatch(set, SgdChunk { rule, value, buffer: None, fresh: false, gradient });
        });
        return (value, None);
    }
    let fresh = buffer.is_none();
    let mut buffer = buffer.unwrap_or_else(|| FlexTensor::zeros(value.layout().shape().clone(), value.dtype()));
    in_chunks([value.storage_mut(), buffer.storage_mut()], gradient, |[value, buffer], gradient| {
        dispatch(set, SgdChunk { rule, value, buffer: Some(buffer), fresh, gradient });
    });
    (value, Some(buffer))
}

pub(crate) fn adamw(
    rule: &AdamW,
    mut value: FlexTensor,
    gradient: &[f32],
    averages: Option<[FlexTensor; 2]>,
) -> (FlexTensor, [FlexTensor; 2]) {
    let (set, rule) = (InstructionSet::current(), *rule);
    let fresh = averages.is_none();
    let zeros = || FlexTensor::zeros(value.layout().shape().clone(), value.dtype());
    let [mut first, mut second] = averages.unwrap_or_else(|| [zeros(), zeros()]);
    let written = [value.storage_mut(), first.storage_mut(), second.storage_mut()];
    in_chunks(written, gradient, |[value, first, second], gradient| {
        dispatch(set, AdamWChunk { rule, value, first, second, fresh, gradient });
    });
    (value, [first, second])
}

/// The sum of squares, in double precision and by chunks, so that the number of threads does not change it.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    struct Squares<'a>(&'a [f32]);
    impl Task for Squares<'_> {
        type Output = f64;
        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> f64 {
            let mut sums = [0f64; 8];
            let chunks = self.0.chunks_exact(8);
            let rest = chunks.remainder().iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
            for chunk in chunks {
                for (sum, &value) in sums.iter_mut().zip(chunk) {
                    *sum += f64::from(value) * f64::from(value);
                }
            }
            sums.iter().sum::<f64>() + rest
        }
    }
    let set = InstructionSet::current();
    if values.len() < 4 * CHUNK {
        return values.chunks(CHUNK).map(|chunk| dispatch(set, Squares(chunk))).sum();
    }
    let parts: Vec<f64> = values.par_chunks(CHUNK).map(|chunk| dispatch(set, Squares(chunk))).collect();
    parts.iter().sum()
}
