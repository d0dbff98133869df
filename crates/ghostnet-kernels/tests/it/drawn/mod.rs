//! Operations on drawn numbers: their parameters, and all that they give.

#![allow(dead_code, unreachable_pub, clippy::allow_attributes, reason = "each test binary uses only part of it")]

use burn::tensor::{DType, Device, Tensor, TensorData};
use ghostnet_kernels::{ConvNormTensors, GhostModuleTensors, NormTensors, Normed, ParallelConvTensors};

/// A small generator of repeatable numbers (Knuth's MMIX constants).
#[derive(Clone)]
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.next() as usize % choices.len()]
    }

    /// Uniform in ±1.
    pub fn value(&mut self) -> f32 {
        (self.next() as f32 / (1u64 << 30) as f32) - 1.0
    }
}

/// Tensors of a case, kept for their gradients.
pub struct Tensors {
    pub numbers: Numbers,
    pub device: Device,
    pub dtype: DType,
    pub maps: Vec<Tensor<4>>,
    pub vectors: Vec<Tensor<1>>,
}

impl Tensors {
    pub fn new(seed: u64, dtype: DType) -> Self {
        Self::on(Device::flex().autodiff(), seed, dtype)
    }

    pub fn on(device: Device, seed: u64, dtype: DType) -> Self {
        Self { numbers: Numbers(seed), device, dtype, maps: Vec::new(), vectors: Vec::new() }
    }

    pub fn data<const D: usize>(&mut self, dims: [usize; D], scale: f32, offset: f32) -> Tensor<D> {
        let len = dims.iter().product();
        let values: Vec<f32> = (0..len).map(|_| self.numbers.value() * scale + offset).collect();
        let data = TensorData::new(values, dims);
        Tensor::from_data(data.convert_dtype(self.dtype), (&self.device, self.dtype))
    }

    pub fn map(&mut self, dims: [usize; 4], scale: f32) -> Tensor<4> {
        let tensor = self.data(dims, scale, 0.1).require_grad();
        self.maps.push(tensor.clone());
        tensor
    }

    pub fn vector(&mut self, len: usize, offset: f32) -> Tensor<1> {
        let tensor = self.data([len], 0.5, offset).require_grad();
        self.vectors.push(tensor.clone());
        tensor
    }

    /// A norm that is training or, if `training` is `None`, one in three that is not.
    pub fn norm(&mut self, channels: usize, training: Option<bool>) -> NormTensors {
        let training = training.unwrap_or_else(|| self.numbers.pick(&[true, true, false]));
        NormTensors {
            weight: self.vector(channels, 1.0),
            bias: self.vector(channels, 0.0),
            running: (!training).then(|| [self.data([channels], 0.3, 0.0), self.data([channels], 0.3, 1.0)]),
            epsilon: 1e-5,
        }
    }

    pub fn conv(&mut self, [out, input, kernel]: [usize; 3], stride: usize, training: Option<bool>) -> ConvNormTensors {
        self.conv_of([out, input, kernel, kernel], stride, training)
    }

    pub fn conv_of(&mut self, weight: [usize; 4], stride: usize, training: Option<bool>) -> ConvNormTensors {
        let fan_in: usize = weight[1..].iter().product();
        let out = weight[0];
        let weight = self.map(weight, 1.0 / (fan_in as f32).sqrt());
        ConvNormTensors { weight, norm: self.norm(out, training), stride, groups: 1 }
    }

    pub fn depthwise(
        &mut self,
        channels: usize,
        kernel: usize,
        stride: usize,
        training: Option<bool>,
    ) -> ConvNormTensors {
        ConvNormTensors { groups: channels, ..self.conv([channels, 1, kernel], stride, training) }
    }

    pub fn strip(&mut self, channels: usize, [height, width]: [usize; 2], training: Option<bool>) -> ConvNormTensors {
        ConvNormTensors { groups: channels, ..self.conv_of([channels, 1, height, width], 1, training) }
    }

    /// As of GhostNetV3: three convolutions and, in depthwise ones, a 1×1 one and a norm.
    pub fn parallel(&mut self, conv: [usize; 3], stride: usize, training: Option<bool>) -> ParallelConvTensors {
        let [out, _, kernel] = conv;
        let groups = if kernel > 1 { out } else { 1 };
        let make = |conv, tensors: &mut Self| ConvNormTensors { groups, ..tensors.conv(conv, stride, training) };
        ParallelConvTensors {
            convs: (0..3).map(|_| make(conv, self)).collect(),
            scale: (kernel > 1).then(|| make([out, 1, 1], self)),
            skip: (kernel > 1 && stride == 1).then(|| self.norm(out, training)),
        }
    }

    pub fn ghost(
        &mut self,
        [out, input, kernel]: [usize; 3],
        relu: bool,
        training: Option<bool>,
    ) -> GhostModuleTensors {
        GhostModuleTensors {
            primary: self.conv([out / 2, input, 1], 1, training),
            cheap: self.depthwise(out / 2, kernel, 1, training),
            relu,
            out_channels: out,
        }
    }
}

/// What an operation gave: named values.
pub type Values = Vec<(String, Vec<f64>)>;

pub fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Output, statistics, and gradients for the gradient `dy` of the output, which is drawn too.
pub fn values(mut tensors: Tensors, normed: Normed) -> Values {
    let dims = normed.output.dims();
    let dy = tensors.data(dims, 1.0, 0.0);
    let mut values = vec![("output".to_string(), floats(normed.output.clone()))];
    for (at, statistics) in normed.statistics.into_iter().enumerate() {
        if let Some(statistics) = statistics {
            values.push((format!("mean {at}"), floats(statistics.mean)));
            values.push((format!("variance {at}"), floats(statistics.variance)));
        }
    }
    let gradients = (normed.output * dy).sum().backward();
    for (at, map) in tensors.maps.iter().enumerate() {
        values.push((
            format!("gradient of map {at} {:?}", map.dims()),
            floats(map.grad(&gradients).expect("a gradient")),
        ));
    }
    for (at, vector) in tensors.vectors.iter().enumerate() {
        values.push((format!("gradient of vector {at}"), floats(vector.grad(&gradients).expect("a gradient"))));
    }
    values
}
