//! The architecture as data: the rows of Table 1 of the GhostNet paper (arXiv:1911.11907) and what a width multiplier makes
//! of them. Modules are built from it and multiply-adds are counted over it, so there is one place that says what GhostNet is.

use alloc::vec::Vec;

use crate::GhostNetConfig;

/// Channels of the stem at width 1.
const STEM_CHANNELS: f64 = 16.0;
/// Channels of the last 1×1 convolution before pooling at width 1 (table 1: "Conv2d 1×1, 960").
const LAST_CHANNELS: f64 = 960.0;
/// Channels of the head's hidden layer, the same at every width.
const HEAD_CHANNELS: usize = 1280;
/// Every channel count is a multiple of this.
const CHANNEL_DIVISOR: usize = 4;

/// One row of the table: a Ghost bottleneck at width 1.
struct Row {
    stage: usize,
    kernel_size: usize,
    expanded: f64,
    out: f64,
    squeeze: bool,
    stride: usize,
}

const fn row(stage: usize, kernel_size: usize, expanded: f64, out: f64, squeeze: bool, stride: usize) -> Row {
    Row { stage, kernel_size, expanded, out, squeeze, stride }
}

/// Table 1 of arXiv:1911.11907. Rows of one stage share a resolution.
#[rustfmt::skip]
const ROWS: [Row; 16] = [
    //  stage  k  expanded  out    squeeze stride
    row(0,     3,  16.0,    16.0,  false,  1),
    row(1,     3,  48.0,    24.0,  false,  2),
    row(2,     3,  72.0,    24.0,  false,  1),
    row(3,     5,  72.0,    40.0,  true,   2),
    row(4,     5, 120.0,    40.0,  true,   1),
    row(5,     3, 240.0,    80.0,  false,  2),
    row(6,     3, 200.0,    80.0,  false,  1),
    row(6,     3, 184.0,    80.0,  false,  1),
    row(6,     3, 184.0,    80.0,  false,  1),
    row(6,     3, 480.0,   112.0,  true,   1),
    row(6,     3, 672.0,   112.0,  true,   1),
    row(7,     5, 672.0,   160.0,  true,   2),
    row(8,     5, 960.0,   160.0,  false,  1),
    row(8,     5, 960.0,   160.0,  true,   1),
    row(8,     5, 960.0,   160.0,  false,  1),
    row(8,     5, 960.0,   160.0,  true,   1),
];

/// Rounds a channel count to the nearest multiple of `divisor`, never below `divisor` and never more than 10 % down.
///
/// The rule of the official code and of the MobileNet family: 52.0 stays 52, 46.8 becomes 48, 4.1 becomes 4.
pub fn make_divisible(channels: f64, divisor: usize) -> usize {
    let rounded = ((channels + divisor as f64 / 2.0) / divisor as f64) as usize * divisor;
    let rounded = rounded.max(divisor);
    if (rounded as f64) < 0.9 * channels { rounded + divisor } else { rounded }
}

/// One Ghost bottleneck with its channels resolved for a width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSpec {
    /// Stage, counted from 0; the first number in the tensor name `blocks.{stage}.{index}`.
    pub stage: usize,
    /// Position within the stage.
    pub index: usize,
    /// Kernel size of the stride's and of the shortcut's depthwise convolution.
    pub kernel_size: usize,
    /// Channels that come in.
    pub in_channels: usize,
    /// Channels between the two Ghost modules.
    pub expanded_channels: usize,
    /// Channels that go out.
    pub out_channels: usize,
    /// Channels of the squeezed vector, if the block has squeeze-and-excite.
    pub squeeze_channels: Option<usize>,
    /// Stride of the block.
    pub stride: usize,
    /// Attention in the first Ghost module.
    pub attention: bool,
    /// Parallel branches in the Ghost modules and the strided convolution.
    pub branches: bool,
}

impl BlockSpec {
    /// Whether the input is added as it is; otherwise the shortcut has convolutions of its own.
    pub fn has_identity_shortcut(&self) -> bool {
        self.in_channels == self.out_channels && self.stride == 1
    }
}

/// Every channel count of a network, resolved from a [`GhostNetConfig`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    /// Channels after the stem.
    pub stem_channels: usize,
    /// The bottlenecks in order.
    pub blocks: Vec<BlockSpec>,
    /// Channels after the last 1×1 convolution.
    pub last_channels: usize,
    /// Channels of the head's hidden layer.
    pub head_channels: usize,
}

impl Architecture {
    /// Resolves the table for the width of `config`.
    pub fn new(config: &GhostNetConfig) -> Self {
        let scaled = |channels: f64| make_divisible(channels * config.width, CHANNEL_DIVISOR);
        let stem_channels = scaled(STEM_CHANNELS);
        let mut in_channels = stem_channels;
        let mut blocks: Vec<BlockSpec> = Vec::with_capacity(ROWS.len());
        for row in &ROWS {
            let index = blocks.iter().filter(|block| block.stage == row.stage).count();
            let expanded_channels = scaled(row.expanded);
            let out_channels = scaled(row.out);
            // A quarter of the expanded width, not of the block's input.
            let squeeze_channels =
                row.squeeze.then(|| config.variant.squeeze_channels(expanded_channels, CHANNEL_DIVISOR));
            blocks.push(BlockSpec {
                stage: row.stage,
                index,
                kernel_size: row.kernel_size,
                in_channels,
                expanded_channels,
                out_channels,
                squeeze_channels,
                stride: row.stride,
                attention: config.variant.has_attention_in(blocks.len()),
                branches: config.variant.has_branches(),
            });
            in_channels = out_channels;
        }
        Self { stem_channels, blocks, last_channels: scaled(LAST_CHANNELS), head_channels: HEAD_CHANNELS }
    }

    /// Number of stages made of bottlenecks.
    pub fn num_stages(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.stage + 1)
    }

    /// Channels that the last bottleneck puts out.
    pub fn trunk_channels(&self) -> usize {
        self.blocks.last().map_or(self.stem_channels, |block| block.out_channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Variant;

    #[test]
    fn channels_are_rounded_as_in_the_official_code() {
        let cases =
            [(16.0, 16), (20.8, 20), (31.2, 32), (46.8, 48), (93.6, 92), (8.0, 8), (1.0, 4), (6.0, 8), (9.9, 12)];
        for (channels, expected) in cases {
            assert_eq!(make_divisible(channels, 4), expected, "{channels}");
        }
    }

    #[test]
    fn squeeze_widths_are_a_quarter_of_the_expanded_width() {
        let squeeze = |variant, width: f64| -> Vec<usize> {
            let config = GhostNetConfig::new(1000).with_variant(variant).with_width(width);
            Architecture::new(&config).blocks.iter().filter_map(|block| block.squeeze_channels).collect()
        };
        let official = |width| squeeze(Variant::Ghostnet, width);
        assert_eq!(official(0.5), [12, 16, 60, 84, 84, 120, 120]);
        assert_eq!(official(1.0), [20, 32, 120, 168, 168, 240, 240]);
        assert_eq!(official(1.3), [24, 40, 156, 220, 220, 312, 312]);
        assert_eq!(official(1.6), [28, 48, 192, 268, 268, 384, 384]);
        let paddle = |width| squeeze(Variant::GhostnetPaddle, width);
        assert_eq!(paddle(0.5), [9, 15, 60, 84, 84, 120, 120]);
        assert_eq!(paddle(1.0), [18, 30, 120, 168, 168, 240, 240]);
        assert_eq!(paddle(1.3), [23, 39, 156, 218, 218, 312, 312]);
        assert_eq!(paddle(1.6), [29, 48, 192, 269, 269, 384, 384]);
    }
}
