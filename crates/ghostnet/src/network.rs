//! GhostNet itself: stem, the table's bottlenecks in stages, last 1×1 convolution, head.

use alloc::vec::Vec;

use burn::config::Config;
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use ghostnet_kernels::{LinearTensors, global_average_pool};

use crate::dfc_attention::SHRINK;
use crate::{
    Architecture, BatchNorm, BatchNormConfig, ConvNorm, ConvNormConfig, GhostBottleneck, GhostBottleneckConfig, Variant,
};

/// Configuration of a [`GhostNet`].
#[derive(Config, Debug, PartialEq)]
pub struct GhostNetConfig {
    /// Classes that the classifier tells apart.
    pub num_classes: usize,
    /// Width multiplier. Published: 0.5, 1.0 and 1.3.
    #[config(default = 1.0)]
    pub width: f64,
    /// Channels of the images.
    #[config(default = 3)]
    pub in_channels: usize,
    /// Probability that a value of the head's hidden layer is dropped while training.
    #[config(default = 0.2)]
    pub dropout: f64,
    /// Ratio `s` of every Ghost module.
    #[config(default = 2)]
    pub ratio: usize,
    /// Kernel `d` of every cheap operation.
    #[config(default = 3)]
    pub cheap_kernel_size: usize,
    /// Stride of the stem. The published networks have 2; 1 suits images of 32 pixels.
    #[config(default = 2)]
    pub stem_stride: usize,
    /// Which of the published networks.
    #[config(default = "Variant::Ghostnet")]
    pub variant: Variant,
}

/// The GhostNet classifier of arXiv:1911.11907, with tensor names and numbers of the official PyTorch code and of timm, or with the
/// numbers of another [`Variant`].
#[derive(Module, Debug)]
pub struct GhostNet {
    /// 3×3, stride 2, followed by a ReLU.
    pub stem: ConvNorm,
    /// Bottlenecks by stage.
    pub stages: Vec<Vec<GhostBottleneck>>,
    /// 1×1 to the last channels, followed by a ReLU.
    pub last: ConvNorm,
    /// 1×1, with bias if it has no norm.
    pub head: Conv2d,
    /// Behind the head in networks of [`Variant::GhostnetPaddle`]. A ReLU follows in any case.
    pub head_norm: Option<BatchNorm>,
    /// Before the classifier.
    pub dropout: Dropout,
    /// Hidden layer → classes.
    pub classifier: Linear,
    /// Channels that the images must have.
    pub in_channels: usize,
}

impl GhostNetConfig {
    /// Builds the network with PyTorch's default initialisation, which is the references': weights and biases uniform in
    /// ± 1 / sqrt(fan_in), norms at scale 1 and shift 0.
    ///
    /// Every parameter is drawn here and in order, so [`Device::seed`] before this call decides them.
    pub fn init(&self, device: &Device) -> GhostNet {
        let model = self.build(device);
        draw_parameters(&model);
        model
    }

    /// The network before its parameters are drawn. burn draws each one when it is first read.
    pub(crate) fn build(&self, device: &Device) -> GhostNet {
        let architecture = Architecture::new(self);
        let has_head_norm = self.variant.has_head_norm();
        let mut stages: Vec<Vec<GhostBottleneck>> = Vec::new();
        for spec in &architecture.blocks {
            let block = GhostBottleneckConfig::from_spec(spec)
                .with_ratio(self.ratio)
                .with_cheap_kernel_size(self.cheap_kernel_size)
                .with_gate(self.variant.gate())
                .init(device);
            if spec.index == 0 {
                stages.push(Vec::new());
            }
            if let Some(stage) = stages.last_mut() {
                stage.push(block);
            }
        }
        GhostNet {
            stem: ConvNormConfig::new(self.in_channels, architecture.stem_channels, [3, 3])
                .with_stride(self.stem_stride)
                .init(device),
            stages,
            last: ConvNormConfig::new(architecture.trunk_channels(), architecture.last_channels, [1, 1]).init(device),
            head: Conv2dConfig::new([architecture.last_channels, architecture.head_channels], [1, 1])
                .with_bias(!has_head_norm)
                .init(device),
            head_norm: has_head_norm.then(|| BatchNormConfig::new(architecture.head_channels).init(device)),
            dropout: DropoutConfig::new(self.dropout).init(),
            classifier: LinearConfig::new(architecture.head_channels, self.num_classes).init(device),
            in_channels: self.in_channels,
        }
    }
}

impl GhostNetConfig {
    /// The least height and width, pixels, of images that it can see: attention halves the last maps.
    pub fn least_image_side(&self) -> usize {
        let strides = Architecture::new(self).blocks.iter().map(|block| block.stride).product::<usize>();
        if self.variant.has_attention() { self.stem_stride * strides * (SHRINK - 1) + 1 } else { 1 }
    }
}

/// Reads all parameters in order, so that burn draws them now and the seed alone decides them.
fn draw_parameters(model: &GhostNet) {
    struct Draw;
    impl ModuleVisitor for Draw {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            let _ = parameter.val();
        }
    }
    model.visit(&mut Draw);
}

impl GhostNet {
    /// The network whose branches are merged, by its running statistics, for inference or to be loaded elsewhere: a GhostNetV3 becomes
    /// a GhostNetV2 with the same scores up to rounding. Any other stays what it is.
    pub fn merge_branches(&self) -> Self {
        let mut model = self.valid();
        for block in model.stages.iter_mut().flatten() {
            block.merge_branches();
        }
        model
    }

    /// Freezes the stem and the first `count` of the ten maps that [`features`](Self::features) gives, nine stages and the last
    /// convolution, and sets all others free: what is frozen has no gradients and uses its running statistics.
    pub fn freeze_stages(self, count: usize) -> Self {
        let mut model = self.unfreeze();
        if count > 0 {
            model.stem = model.stem.freeze();
        }
        let num_stages = model.stages.len();
        let freeze = |(index, stage): (usize, Vec<GhostBottleneck>)| if index < count { stage.freeze() } else { stage };
        model.stages = model.stages.into_iter().enumerate().map(freeze).collect();
        if count > num_stages {
            model.last = model.last.freeze();
        }
        model
    }

    /// Class scores before the softmax.
    ///
    /// # Shapes
    /// - `images`: `[batch, in_channels, height, width]`, at least 32×32 to be meaningful; any size runs, but for networks with
    ///   attention, see [`GhostNetConfig::least_image_side`]
    /// - output: `[batch, num_classes]`
    ///
    /// # Panics
    /// If the images do not have the network's channels, or are too small for its attention; the message names both.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut map = self.forward_stem(images);
        for stage in &self.stages {
            map = forward_stage(stage, map);
        }
        self.forward_head(self.forward_last(map))
    }

    /// The map after every stage, in order, for use as a backbone: with the published stem their strides are 2, 4, 4, 8, 8,
    /// 16, 16, 32, 32 and, after the last 1×1 convolution, 32.
    ///
    /// # Shapes
    /// - `images`: `[batch, in_channels, height, width]`
    /// - outputs: `[batch, channels of the stage, height / stride, width / stride]`, rounded up
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn features(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        let mut map = self.forward_stem(images);
        let mut maps = Vec::with_capacity(self.stages.len() + 1);
        for stage in &self.stages {
            map = forward_stage(stage, map);
            maps.push(map.clone());
        }
        maps.push(self.forward_last(map));
        maps
    }

    /// Stem and its ReLU.
    ///
    /// # Shapes
    /// - `images`: `[batch, in_channels, height, width]`
    /// - output: `[batch, stem channels, height / 2, width / 2]`, rounded up
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_stem(&self, images: Tensor<4>) -> Tensor<4> {
        check_channels(&images, self.in_channels);
        self.stem.forward_relu(images)
    }

    /// Last 1×1 convolution and its ReLU.
    fn forward_last(&self, map: Tensor<4>) -> Tensor<4> {
        self.last.forward_relu(map) // [batch, last channels, height, width]
    }

    /// The hidden layer of the head, an embedding of the image.
    ///
    /// # Shapes
    /// - `map`: the last of [`features`](Self::features)
    /// - output: `[batch, 1280]`
    pub fn forward_embedding(&self, map: Tensor<4>) -> Tensor<2> {
        let pooled = global_average_pool(map).flatten::<2>(1, 3); // [batch, last channels]
        // A 1×1 convolution of single pixels is a dense layer, and burn's gradient of a convolution takes ten times as long.
        let weight = self.head.weight.val().flatten::<2>(1, 3); // [hidden, last channels]
        let bias = self.head.bias.as_ref().map(Param::val);
        let hidden = ghostnet_kernels::linear(pooled, LinearTensors { weight, weight_in_out: false, bias });
        relu(match &self.head_norm {
            Some(norm) => norm.forward(hidden.unsqueeze_dims(&[2, 3])).flatten(1, 3),
            None => hidden,
        })
    }

    /// Embedding, dropout and classifier.
    ///
    /// # Shapes
    /// - `map`: the last of [`features`](Self::features)
    /// - output: `[batch, num_classes]`
    pub fn forward_head(&self, map: Tensor<4>) -> Tensor<2> {
        self.forward_classifier(self.forward_embedding(map))
    }

    /// Dropout and classifier.
    ///
    /// # Shapes
    /// - `embedding`: `[batch, 1280]`
    /// - output: `[batch, num_classes]`
    pub fn forward_classifier(&self, embedding: Tensor<2>) -> Tensor<2> {
        let weight = self.classifier.weight.val(); // [hidden, num_classes]
        let bias = self.classifier.bias.as_ref().map(Param::val);
        let embedding = self.dropout.forward(embedding);
        ghostnet_kernels::linear(embedding, LinearTensors { weight, weight_in_out: true, bias })
    }
}

pub(crate) fn check_channels(images: &Tensor<4>, in_channels: usize) {
    let [batch, channels, height, width] = images.dims();
    assert!(
        channels == in_channels,
        "GhostNet expects images of shape [batch, {in_channels}, height, width], got [{batch}, {channels}, {height}, {width}]"
    );
}

fn forward_stage(stage: &[GhostBottleneck], map: Tensor<4>) -> Tensor<4> {
    stage.iter().fold(map, |map, block| block.forward(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "expects images of shape [batch, 3, height, width], got [2, 1, 32, 32]")]
    fn a_wrong_channel_count_names_both_shapes() {
        let device = Device::flex();
        GhostNetConfig::new(4).with_width(0.25).init(&device).forward(Tensor::ones([2, 1, 32, 32], &device));
    }

    #[test]
    fn any_valid_shape_runs() {
        let device = Device::flex();
        for (in_channels, height, width) in [(1, 32, 32), (3, 1, 1), (3, 33, 70), (4, 224, 17)] {
            let config = GhostNetConfig::new(4).with_width(0.25).with_in_channels(in_channels).with_stem_stride(1);
            let logits = config.init(&device).forward(Tensor::ones([1, in_channels, height, width], &device));
            assert_eq!(logits.dims(), [1, 4]);
        }
    }

    #[test]
    fn features_are_the_stages_and_the_last_one_leads_to_the_logits() {
        let device = Device::flex();
        let model = GhostNetConfig::new(4).with_width(0.5).init(&device);
        let images = Tensor::<4>::ones([1, 3, 64, 96], &device);
        let maps = model.features(images.clone());
        let shapes: Vec<[usize; 4]> = maps.iter().map(|map| map.dims()).collect();
        assert_eq!(
            shapes,
            [
                [1, 8, 32, 48],
                [1, 12, 16, 24],
                [1, 12, 16, 24],
                [1, 20, 8, 12],
                [1, 20, 8, 12],
                [1, 40, 4, 6],
                [1, 56, 4, 6],
                [1, 80, 2, 3],
                [1, 80, 2, 3],
                [1, 480, 2, 3]
            ]
        );
        let last = maps.last().cloned().expect("ten maps");
        model.forward(images).into_data().assert_eq(&model.forward_head(last).into_data(), true);
    }
}
