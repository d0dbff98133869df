//! Alone in its process, because a device's seed is one for all threads.

use burn::tensor::Device;
use ghostnet::GhostNetConfig;

#[test]
fn the_seed_decides_the_weights() {
    let device = Device::flex();
    let weights = |seed: u64| {
        device.seed(seed);
        GhostNetConfig::new(4).with_width(0.25).init(&device).state(0)
    };
    assert_eq!(weights(1), weights(1));
    assert_ne!(weights(1), weights(2));
}
