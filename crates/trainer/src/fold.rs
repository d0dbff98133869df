//! The state of a network for inference alone: each batch norm, by its running statistics, is folded into the convolution in front of
//! it. The norms' names are gone, and every convolution has a bias.
//!
//! With scale γ, shift β, mean μ and variance σ² of the norm, `t = γ / sqrt(σ² + ε)`: the convolution's weights are multiplied by `t`
//! and its bias is `β − μ · t`.

use std::collections::{HashMap, HashSet};

use burn::tensor::TensorData;
use ghostnet::{BatchNormConfig, NamedTensor};

const RUNNING_MEAN: &str = ".running_mean";

/// What the norms add to the variance.
fn epsilon() -> f64 {
    BatchNormConfig::new(1).epsilon
}

/// `a.b.weight` → (`a.b`, `weight`).
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

fn norms(state: &[NamedTensor]) -> HashSet<String> {
    state.iter().filter_map(|tensor| tensor.name.strip_suffix(RUNNING_MEAN)).map(str::to_string).collect()
}

/// Folds a whole state in the order in which a network gives it: a norm behind its convolution.
pub fn fold(state: &[NamedTensor]) -> Vec<NamedTensor> {
    let norms = norms(state);
    let values: HashMap<&str, Vec<f64>> = state
        .iter()
        .filter(|tensor| norms.contains(split(&tensor.name).0))
        .map(|tensor| (tensor.name.as_str(), tensor.data.iter::<f64>().collect()))
        .collect();
    let mut folded: Vec<NamedTensor> = Vec::with_capacity(state.len());
    for tensor in state {
        let (module, part) = split(&tensor.name);
        if !norms.contains(module) {
            folded.push(tensor.clone());
        } else if part == "weight"
            && let Some(conv) = folded.last_mut()
        {
            let of_norm = |part: &str| values.get(format!("{module}.{part}").as_str()).map_or(&[][..], Vec::as_slice);
            let (scale, shift) = (of_norm("weight"), of_norm("bias"));
            let (mean, variance) = (of_norm("running_mean"), of_norm("running_var"));
            let factors: Vec<f64> =
                scale.iter().zip(variance).map(|(scale, variance)| scale / (variance + epsilon()).sqrt()).collect();
            let kernel = conv.data.num_elements() / factors.len().max(1);
            let weights: Vec<f64> = conv.data.iter::<f64>().collect();
            let weights = weights
                .chunks(kernel.max(1))
                .zip(&factors)
                .flat_map(|(weights, factor)| weights.iter().map(move |weight| (weight * factor) as f32))
                .collect::<Vec<_>>();
            let bias: Vec<f32> =
                shift.iter().zip(mean).zip(&factors).map(|((shift, mean), t)| (shift - mean * t) as f32).collect();
            conv.data = TensorData::new(weights, conv.data.shape().clone());
            let channels = bias.len();
            let name = format!("{}.bias", split(&conv.name).0);
            folded.push(NamedTensor { name, data: TensorData::new(bias, [channels]) });
        }
    }
    folded
}

/// The state that gives a network the function of a folded one: in place of norms that are gone, ones that only add the bias of the
/// convolution. Norms that are still there stay. `fresh` is the state of any network of the same kind. What is missing in `folded` is
/// missing in the result.
pub fn unfold(folded: Vec<NamedTensor>, fresh: &[NamedTensor]) -> Vec<NamedTensor> {
    let norms = norms(fresh);
    let variance = BatchNormConfig::new(1).neutral_variance() as f32;
    let mut given: HashMap<String, TensorData> = folded.into_iter().map(|tensor| (tensor.name, tensor.data)).collect();
    let kept: HashSet<String> =
        norms.iter().filter(|norm| given.contains_key(&format!("{norm}.weight"))).cloned().collect();
    let mut state = Vec::with_capacity(fresh.len());
    let mut conv = "";
    for tensor in fresh {
        let (module, part) = split(&tensor.name);
        let filled = |value: f32| TensorData::new(vec![value; tensor.data.num_elements()], tensor.data.shape().clone());
        let data = match (norms.contains(module), part) {
            (false, _) => {
                conv = module;
                given.remove(&tensor.name)
            }
            (true, _) if kept.contains(module) => given.remove(&tensor.name),
            (true, "weight") => Some(filled(1.0)),
            (true, "bias") => given.remove(&format!("{conv}.bias")),
            (true, "running_mean") => Some(filled(0.0)),
            (true, "running_var") => Some(filled(variance)),
            (true, _) => None,
        };
        state.extend(data.map(|data| NamedTensor { name: tensor.name.clone(), data }));
    }
    state.extend(given.into_iter().map(|(name, data)| NamedTensor { name, data }));
    state
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::{Device, Tensor};
    use ghostnet::GhostNetConfig;

    use super::*;

    #[test]
    fn a_folded_state_has_no_norms_and_gives_the_scores_of_the_network() {
        let device = Device::flex();
        let config = GhostNetConfig::new(3).with_width(0.5);
        let fresh = config.init(&device);
        // Statistics and scales as training leaves them, from a rule.
        let mut at = 0_u32;
        let state = fresh
            .state(0)
            .into_iter()
            .map(|tensor| {
                let part = split(&tensor.name).1;
                let count = tensor.data.num_elements();
                let mut draw = |low: f32, high: f32| {
                    let values = (0..count).map(|_| {
                        at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        low + (high - low) * (at >> 8) as f32 / (1 << 24) as f32
                    });
                    TensorData::new(values.collect::<Vec<_>>(), tensor.data.shape().clone())
                };
                let data = match part {
                    "running_mean" => draw(-0.2, 0.2),
                    "running_var" => draw(0.5, 1.5),
                    "weight" if tensor.data.shape().len() == 1 => draw(0.5, 1.5),
                    _ => tensor.data.clone(),
                };
                NamedTensor { name: tensor.name, data }
            })
            .collect::<Vec<_>>();
        let model = fresh.clone().load_state(state.clone()).expect("its own state");
        let folded = fold(&state);
        assert!(folded.iter().all(|tensor| !tensor.name.contains("running") && !tensor.name.contains("bn1")));
        // 96 layers, each with weight and bias.
        assert_eq!(folded.len(), 2 * 96);
        let again = config.init(&device).load_state(unfold(folded, &fresh.state(0))).expect("a state");
        let images = Tensor::<4>::ones([2, 3, 64, 64], &device);
        let (expected, found) = (model.valid().forward(images.clone()), again.valid().forward(images));
        let expected: Vec<f32> = expected.into_data().iter().collect();
        let found: Vec<f32> = found.into_data().iter().collect();
        for (expected, found) in expected.iter().zip(&found) {
            assert!((expected - found).abs() <= 1e-5 * expected.abs().max(1.0), "{expected} {found}");
        }
    }

    #[test]
    fn what_is_missing_or_unknown_in_a_folded_state_is_told() {
        let config = GhostNetConfig::new(3).with_width(0.25);
        let fresh = config.init(&Device::flex());
        let mut folded = fold(&fresh.state(0));
        folded.retain(|tensor| tensor.name != "conv_stem.bias");
        folded.push(NamedTensor { name: "other".to_string(), data: TensorData::new(vec![0_f32], [1]) });
        let error = config.init(&Device::flex()).load_state(unfold(folded, &fresh.state(0))).expect_err("not whole");
        assert_eq!(
            error.to_string(),
            "the tensors do not fit the network; missing: `bn1.bias`; not part of this network: `other`"
        );
    }
}
