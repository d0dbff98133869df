//! GhostNet as a backbone, without the trainer: prints the map that a detector or a segmenter would take at each stage.
//!
//! `cargo run -p ghostnet --example backbone`

#![expect(clippy::print_stdout, reason = "an example shows its result")]

use burn::tensor::{Device, Tensor};
use ghostnet::GhostNetConfig;

fn main() {
    let device = Device::flex();
    device.seed(0);
    let config = GhostNetConfig::new(1000).with_width(1.0);
    let model = config.init(&device);
    let images = Tensor::<4>::zeros([1, 3, 224, 224], &device);

    println!("{} parameters, {} multiply-adds", config.parameters(), config.multiply_adds(224, 224));
    for (stage, map) in model.features(images.clone()).into_iter().enumerate() {
        let [_, channels, height, width] = map.dims();
        println!("stage {stage}: {channels:4} channels, {height:3} x {width:3}");
    }
    println!("logits: {:?}", model.forward(images).dims());
}
