//! Weights and inputs as pure functions of name and index, so that no weight file is stored; `tests/fixtures/gen/hashrule.py` is the
//! same rule in Python.

pub(crate) mod uniform;

use burn::tensor::{Device, Tensor, TensorData};
use ghostnet::NamedTensor;

use self::uniform::uniform;

/// The values of the tensor `name` of a network.
pub(crate) fn weights(name: &str, shape: &[usize], is_norm: bool) -> Vec<f32> {
    let fan_in: usize = shape.iter().skip(1).product();
    let bound = (3.0 / fan_in as f64).sqrt();
    let leaf = name.rsplit('.').next().unwrap_or(name);
    uniform(name, shape.iter().product())
        .into_iter()
        .map(|u| match (is_norm, leaf) {
            // The branches of GhostNetV3 are added up.
            (true, "weight") if name.contains("_rpr_") => (0.5 + u) * 0.4,
            (true, "weight" | "running_var") => 0.5 + u,
            (true, _) => (u - 0.5) * 0.2,
            (false, "weight") => (u - 0.5) * 2.0 * bound,
            (false, _) => (u - 0.5) * 0.1,
        })
        .map(|value| value as f32)
        .collect()
}

/// Fills the tensors of a network.
pub(crate) fn fill(tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    let norms: Vec<String> =
        tensors.iter().filter_map(|tensor| tensor.name.strip_suffix(".running_mean").map(String::from)).collect();
    tensors
        .into_iter()
        .filter(|tensor| !tensor.name.ends_with("num_batches_tracked"))
        .map(|tensor| {
            let shape = tensor.data.shape().clone();
            let is_norm = norms
                .iter()
                .any(|norm| tensor.name.strip_prefix(norm.as_str()).is_some_and(|rest| rest.starts_with('.')));
            let values = weights(&tensor.name, shape.as_slice(), is_norm);
            NamedTensor { name: tensor.name, data: TensorData::new(values, shape) }
        })
        .collect()
}

/// The input with the key `input_NxCxHxW`.
pub(crate) fn input(shape: [usize; 4], device: &Device) -> Tensor<4> {
    let [n, c, h, w] = shape;
    let key = format!("input_{n}x{c}x{h}x{w}");
    let values: Vec<f32> = uniform(&key, shape.iter().product()).into_iter().map(|u| (u * 2.0 - 1.0) as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
