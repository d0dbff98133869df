//! A device's seed is process-wide, so its test runs in a process of its own.

use burn::tensor::Device;
use ghostnet::GhostNetConfig;

use crate::alone;

#[test]
fn the_seed_decides_the_weights() {
    alone::run("seed::the_seed_decides_the_weights", || {
        let device = Device::flex();
        let weights = |seed: u64| {
            device.seed(seed);
            GhostNetConfig::new(4).with_width(0.25).init(&device).state(0)
        };
        assert_eq!(weights(1), weights(1));
        assert_ne!(weights(1), weights(2));
    });
}
