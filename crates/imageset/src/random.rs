//! Random streams that depend on nothing but the run's seed and a position in it.
//!
//! There is no generator that lives from step to step. Every use derives a fresh `ChaCha8Rng` from a purpose and the numbers
//! that name the position: (seed, epoch) for an order, (seed, epoch, sample) for an augmentation. Hence the number of threads
//! does not matter and a resumed run needs no saved generator.
//!
//! The key of a stream is BLAKE3's key derivation: context = the purpose, material = the numbers as little-endian `u64`.

use std::f64::consts::TAU;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The stream for `purpose` at the position that `numbers` names.
pub fn stream(purpose: &str, numbers: &[u64]) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new_derive_key(purpose);
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// The stream for the augmentation of one sample in one epoch.
pub fn sample_stream(seed: u64, epoch: u64, sample: usize) -> ChaCha8Rng {
    stream("imageset 2026 sample augmentation", &[seed, epoch, sample as u64])
}

/// The stream for the augmentation of a sample that has come `occurrence` times before in the same epoch: for the first time
/// that of [`sample_stream`], and then another one each time.
pub fn repeated_sample_stream(seed: u64, epoch: u64, sample: usize, occurrence: u32) -> ChaCha8Rng {
    match occurrence {
        0 => sample_stream(seed, epoch, sample),
        _ => stream("imageset 2026 repeated sample augmentation", &[seed, epoch, sample as u64, occurrence.into()]),
    }
}

/// The order of `len` samples in one epoch: a Fisher-Yates shuffle of `0..len`.
pub fn permutation(seed: u64, epoch: u64, len: usize) -> Vec<usize> {
    let mut rng = stream("imageset 2026 epoch order", &[seed, epoch]);
    let mut order: Vec<usize> = (0..len).collect();
    shuffle(&mut rng, &mut order);
    order
}

/// Shuffles in place: for `i` from the last item down to 1, swaps item `i` with one drawn from `0..=i`.
pub(crate) fn shuffle<T>(rng: &mut ChaCha8Rng, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        let other = below(rng, i as u64 + 1) as usize;
        items.swap(i, other);
    }
}

/// A number in `[0, 1)` with 53 random bits: one `u64` drawn.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A number in `[low, high)`, or `low` where both are equal: one `u64` drawn in either case.
pub(crate) fn uniform(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(rng)
}

/// A number of the standard normal distribution: two `u64` drawn (Box and Muller's transform).
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // The logarithm's argument is never 0.
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (TAU * unit(rng)).cos()
}

/// A number of the gamma distribution with scale 1 (Marsaglia and Tsang's method, doi:10.1145/358407.358414).
///
/// Per try it draws a normal number and a unit one; for a shape below 1 a unit number comes first.
///
/// # Panics
///
/// If `shape` is not above 0.
pub(crate) fn gamma(rng: &mut ChaCha8Rng, shape: f64) -> f64 {
    assert!(shape > 0.0, "a gamma distribution has a shape above 0");
    if shape < 1.0 {
        let part = (1.0 - unit(rng)).powf(1.0 / shape);
        return part * gamma(rng, shape + 1.0);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let u = 1.0 - unit(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// A whole number in `0..end`, all equally likely: one `u64` drawn, rarely more (Lemire's method, arXiv:1805.10941).
///
/// # Panics
///
/// If `end` is 0.
pub(crate) fn below(rng: &mut ChaCha8Rng, end: u64) -> u64 {
    assert!(end > 0, "cannot draw from an empty range");
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(end);
        // The lowest 2^64 mod `end` values of the fraction would favour some results.
        if product as u64 >= end.wrapping_neg() % end {
            return (product >> 64) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_holds_every_sample_once_and_depends_on_seed_and_epoch() {
        let order = permutation(7, 3, 1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1000));
        assert_eq!(order, permutation(7, 3, 1000));
        assert_ne!(order, permutation(7, 4, 1000));
        assert_ne!(order, permutation(8, 3, 1000));
    }

    /// A changed stream would silently change every run that is resumed with a newer build.
    #[test]
    fn the_streams_are_frozen() {
        assert_eq!(permutation(0, 0, 8), FROZEN_ORDER);
        assert_eq!(sample_stream(1, 2, 3).next_u64(), FROZEN_DRAW);
        let draws = [0, 1, 2].map(|occurrence| repeated_sample_stream(1, 2, 3, occurrence).next_u64());
        assert_eq!(draws, [FROZEN_DRAW, FROZEN_REPEATED[0], FROZEN_REPEATED[1]]);
    }

    const FROZEN_ORDER: [usize; 8] = [0, 6, 2, 7, 1, 3, 5, 4];
    const FROZEN_DRAW: u64 = 6_726_315_637_324_510_898;
    const FROZEN_REPEATED: [u64; 2] = [17_903_341_649_375_092_279, 2_172_001_497_707_411_034];

    #[test]
    fn whole_numbers_are_alike_likely() {
        let mut rng = stream("test", &[]);
        let mut counts = [0; 6];
        for _ in 0..60_000 {
            counts[below(&mut rng, 6) as usize] += 1;
        }
        // Four standard deviations: 4 * sqrt(60000 * 1/6 * 5/6) = 365.
        assert!(counts.iter().all(|&count: &i32| (count - 10_000).abs() < 365), "{counts:?}");
    }

    #[test]
    fn unit_numbers_stay_below_one() {
        let mut rng = stream("test", &[1]);
        let draws: Vec<f64> = (0..10_000).map(|_| unit(&mut rng)).collect();
        assert!(draws.iter().all(|&x| (0.0..1.0).contains(&x)));
        let mean = draws.iter().sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.012, "{mean}");
    }

    fn mean_and_variance(draws: &[f64]) -> (f64, f64) {
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        (mean, draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64)
    }

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let mut rng = stream("test", &[2]);
        let draws: Vec<f64> = (0..20_000).map(|_| normal(&mut rng)).collect();
        let (mean, variance) = mean_and_variance(&draws);
        // Four standard deviations: 4 / sqrt(20000) = 0.028 and 4 * sqrt(2 / 20000) = 0.04.
        assert!(mean.abs() < 0.028 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
        let near = draws.iter().filter(|x| x.abs() < 1.0).count();
        assert!((13_390..13_917).contains(&near), "{near}: 68.27 %");
    }

    #[test]
    fn gamma_numbers_have_their_shape_as_mean_and_variance() {
        let mut rng = stream("test", &[3]);
        for shape in [0.3, 1.0, 4.5] {
            let draws: Vec<f64> = (0..20_000).map(|_| gamma(&mut rng, shape)).collect();
            let (mean, variance) = mean_and_variance(&draws);
            assert!(draws.iter().all(|&x| x >= 0.0));
            // Four standard deviations; the variance's own is sqrt((2 shape^2 + 6 shape) / 20000).
            assert!((mean - shape).abs() < 4.0 * (shape / 20_000.0).sqrt(), "{shape} {mean}");
            let spread = ((2.0 * shape * shape + 6.0 * shape) / 20_000.0).sqrt();
            assert!((variance - shape).abs() < 4.0 * spread, "{shape} {variance}");
        }
    }
}
