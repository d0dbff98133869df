//! Random numbers that need no hidden state: a stream is a function of the run's seed, a purpose and a step. What is drawn in
//! one place never shifts what is drawn in another, and a resumed run draws what the uninterrupted one would have.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What random numbers are for. Each purpose has streams of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights.
    Weights,
    /// Mixup and CutMix.
    Mix,
    /// Dropout on the device.
    Dropout,
    /// Noise of the learning rate, by epoch instead of step.
    LearningRateNoise,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Mix => "mix",
            Self::Dropout => "dropout",
            Self::LearningRateNoise => "learning rate noise",
        }
    }
}

fn key(seed: u64, purpose: Purpose, step: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(purpose.name().as_bytes());
    hasher.update(&seed.to_le_bytes());
    hasher.update(&step.to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// The stream for a purpose at a step of a run.
pub fn stream(seed: u64, purpose: Purpose, step: u64) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(key(seed, purpose, step))
}

/// A seed for generators that are not ours, such as a device's.
pub fn derived_seed(seed: u64, purpose: Purpose, step: u64) -> u64 {
    let key = key(seed, purpose, step);
    key.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn streams_differ_by_seed_purpose_and_step_and_repeat() {
        let first = |seed, purpose, step| stream(seed, purpose, step).next_u64();
        let base = first(1, Purpose::Mix, 2);
        assert_eq!(base, first(1, Purpose::Mix, 2));
        assert_ne!(base, first(2, Purpose::Mix, 2));
        assert_ne!(base, first(1, Purpose::Dropout, 2));
        assert_ne!(base, first(1, Purpose::Mix, 3));
    }
}
