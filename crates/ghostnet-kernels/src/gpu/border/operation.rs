//! What crosses the border: convolutions and matrix products, with their shapes, number formats and layouts.

use std::fmt;

use burn::tensor::DType;
use burn::tensor::ops::ConvOptions;
use serde::{Deserialize, Serialize};

/// The number format of an operation's operands and result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
}

impl Format {
    pub(super) fn of(format: DType) -> Self {
        if format == DType::F16 { Self::F16 } else { Self::F32 }
    }

    /// As burn calls it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        })
    }
}

/// Which of the three computations of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// The output, from the input and the weight.
    Forward,
    /// The gradient of the input, from the gradient of the output and the weight.
    InputGradient,
    /// The gradient of the weight, from the input and the gradient of the output.
    WeightGradient,
}

impl fmt::Display for Pass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Forward => "forward",
            Self::InputGradient => "input gradient",
            Self::WeightGradient => "weight gradient",
        })
    }
}

/// How the axes of an operand lie in memory, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `[batch, channels, height, width]`, or the rows of a matrix, one after the other.
    RowsFirst,
    /// `[batch, height, width, channels]`, or the columns of a matrix.
    ChannelsLast,
    /// Any other: a part of a larger tensor, for example.
    Other,
}

impl fmt::Display for Layout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::RowsFirst => "rows first",
            Self::ChannelsLast => "channels last",
            Self::Other => "other",
        })
    }
}

/// One computation of a convolution with square strides, padded by half of its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// In and out.
    pub channels: [usize; 2],
    /// Height and width of the input, pixels.
    pub image_size: [usize; 2],
    /// Height and width.
    pub kernel_size: [usize; 2],
    /// In both directions.
    pub stride: usize,
    /// The input's channels are split into so many groups.
    pub groups: usize,
    /// Whether a bias is added to the output; gradients have none.
    pub has_bias: bool,
    /// Which computation.
    pub pass: Pass,
}

impl Convolution {
    /// Height and width of the output, pixels.
    pub fn out_size(&self) -> [usize; 2] {
        self.options().out_size()
    }

    /// Of the input, `[batch, channels, height, width]`.
    pub fn input_shape(&self) -> [usize; 4] {
        let ([channels, _], [height, width]) = (self.channels, self.image_size);
        [self.batch, channels, height, width]
    }

    /// Of the output, `[batch, channels, height, width]`.
    pub fn output_shape(&self) -> [usize; 4] {
        let ([_, channels], [height, width]) = (self.channels, self.out_size());
        [self.batch, channels, height, width]
    }

    /// Of the weight, `[out, in / groups, kernel height, kernel width]`.
    pub fn weight_shape(&self) -> [usize; 4] {
        let ([in_channels, out_channels], [height, width]) = (self.channels, self.kernel_size);
        [out_channels, in_channels / self.groups, height, width]
    }

    /// Of the two operands, in the order of [`Pass`]'s description.
    pub fn operand_shapes(&self) -> [[usize; 4]; 2] {
        match self.pass {
            Pass::Forward => [self.input_shape(), self.weight_shape()],
            Pass::InputGradient => [self.output_shape(), self.weight_shape()],
            Pass::WeightGradient => [self.input_shape(), self.output_shape()],
        }
    }

    pub(super) fn options(&self) -> ConvolutionOptions {
        ConvolutionOptions {
            stride: self.stride,
            groups: self.groups,
            kernel_size: self.kernel_size,
            image_size: self.image_size,
        }
    }
}

impl fmt::Display for Convolution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, channels: [from, to], image_size, kernel_size, stride, groups, has_bias, pass } = self;
        let ([height, width], [kernel_height, kernel_width]) = (image_size, kernel_size);
        let depthwise = if groups == from { "depthwise " } else { "" };
        write!(
            formatter,
            "{depthwise}{kernel_height}×{kernel_width} convolution, {from} to {to} channels, {height}×{width} pixels, stride {stride}, \
             batch {batch}, {pass}{}",
            if *has_bias { " with bias" } else { "" }
        )?;
        if *groups > 1 && groups != from { write!(formatter, ", {groups} groups") } else { Ok(()) }
    }
}

/// A product of two matrices, `[rows, inner]` times `[inner, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Product {
    /// Of the first matrix.
    pub rows: usize,
    /// What is summed over.
    pub inner: usize,
    /// Of the second matrix.
    pub columns: usize,
}

impl fmt::Display for Product {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, inner, columns } = self;
        write!(formatter, "product of matrices, {rows}×{inner} by {inner}×{columns}")
    }
}

/// What crosses the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A convolution.
    Convolution(Convolution),
    /// A matrix product.
    Product(Product),
}

/// One operation as it crosses the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Operation {
    /// What is computed.
    pub kind: Kind,
    /// In which numbers.
    pub format: Format,
    /// How its two operands lie in memory.
    pub layouts: [Layout; 2],
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, format, layouts: [first, second] } = self;
        match kind {
            Kind::Convolution(convolution) => convolution.fmt(formatter)?,
            Kind::Product(product) => product.fmt(formatter)?,
        }
        write!(formatter, ", {format}, operands {first} and {second}")
    }
}

/// What a convolution is, but for its operands.
#[derive(Clone, Copy, Debug)]
pub struct ConvolutionOptions {
    pub stride: usize,
    pub groups: usize,
    /// Height and width.
    pub kernel_size: [usize; 2],
    /// Height and width of the input, pixels.
    pub image_size: [usize; 2],
}

impl ConvolutionOptions {
    /// Height and width of the output, pixels. The kernel is odd and padded by half of it.
    pub fn out_size(&self) -> [usize; 2] {
        self.image_size.map(|side| (side - 1) / self.stride + 1)
    }

    /// As burn takes them.
    pub(super) fn to_burn(self) -> ConvOptions<2> {
        let [height, width] = self.kernel_size;
        ConvOptions::new([self.stride; 2], [height / 2, width / 2], [1, 1], self.groups)
    }

    /// The convolution with its operands' sizes.
    pub(super) fn convolution(self, batch: usize, channels: [usize; 2], has_bias: bool, pass: Pass) -> Convolution {
        let Self { stride, groups, kernel_size, image_size } = self;
        Convolution { batch, channels, image_size, kernel_size, stride, groups, has_bias, pass }
    }
}
