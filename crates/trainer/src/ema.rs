//! An exponential moving average of the weights and running statistics, the rule of timm's `ModelEmaV3`.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use ghostnet::GhostNet;
use ghostnet_kernels::in_thread_pool;

/// How fast the average forgets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmaRule {
    /// Share of the old average that stays at each update.
    pub decay: f64,
    /// Forget faster at first: at update `n` the share is `1 − n^(−2/3)` as long as that is smaller.
    pub warmup: bool,
}

impl EmaRule {
    /// Share of the old average that stays at update number `update`, from 1. The first update takes the weights as they are.
    pub fn decay_at(&self, update: u64) -> f64 {
        match update {
            0 | 1 => 0.0,
            _ if self.warmup => (1.0 - (update as f64).powf(-2.0 / 3.0)).min(self.decay),
            _ => self.decay,
        }
    }
}

/// The average of a network in training.
#[derive(Debug)]
pub struct Ema {
    /// For inference, outside autodiff.
    pub model: GhostNet,
    rule: EmaRule,
}

impl Ema {
    /// Goes on with an average; `model` must have been made from the network in training, as [`Module::valid`] does.
    pub fn new(model: GhostNet, rule: EmaRule) -> Self {
        Self { model, rule }
    }

    /// Takes the weights after update number `update`, from 1, into the average.
    pub fn update(&mut self, model: &GhostNet, update: u64) {
        let mut current = Current(BTreeMap::new());
        model.valid().visit(&mut current);
        let mut blend = Blend { current: current.0, weight: 1.0 - self.rule.decay_at(update) };
        let average = self.model.clone();
        let device = average.classifier.weight.val().device();
        self.model = in_thread_pool(&device, || average.map(&mut blend));
    }
}

/// Tensors by parameter, `[elements]` each.
struct Current(BTreeMap<ParamId, Tensor<1>>);

impl ModuleVisitor for Current {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.0.insert(parameter.id, parameter.val().flatten(0, D - 1));
    }
}

struct Blend {
    current: BTreeMap<ParamId, Tensor<1>>,
    weight: f64,
}

impl ModuleMapper for Blend {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(current) = self.current.remove(&parameter.id) else { return parameter };
        parameter.map(|average| {
            let dims = average.dims();
            lerp(average, current.reshape(dims), self.weight)
        })
    }
}

/// `torch.lerp`: from the end that is nearer, so that a weight of one gives the end itself.
fn lerp<const D: usize>(start: Tensor<D>, end: Tensor<D>, weight: f64) -> Tensor<D> {
    let way = end.clone() - start.clone();
    if weight < 0.5 { start + way.mul_scalar(weight) } else { end - way.mul_scalar(1.0 - weight) }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ghostnet::GhostNetConfig;

    use super::*;

    #[test]
    fn the_decay_is_that_of_timm() {
        // `ModelEmaV3.get_decay` of timm 1.0.31 at steps 1 to 6.
        let warming = EmaRule { decay: 0.9999, warmup: true };
        let expected = [0.0, 0.370039475053, 0.519250143231, 0.603149737008, 0.658004810665, 0.697146567861];
        for (update, expected) in (1..).zip(expected) {
            assert!((warming.decay_at(update) - expected).abs() < 1e-11, "update {update}");
        }
        assert_eq!(warming.decay_at(u64::MAX), 0.9999);
        let constant = EmaRule { decay: 0.9, warmup: false };
        assert_eq!([1, 2, 100].map(|update| constant.decay_at(update)), [0.0, 0.9, 0.9]);
    }

    #[test]
    fn weights_and_running_statistics_are_averaged_and_the_network_stays_as_it_is() {
        let device = Device::flex();
        let config = GhostNetConfig::new(3).with_width(0.25);
        let first = config.init(&device.clone().autodiff());
        let scaled = |factor: f32| {
            let tensors = first.state(0).into_iter().map(|mut tensor| {
                if !tensor.name.ends_with("num_batches_tracked") {
                    let values: Vec<f32> = tensor.data.iter::<f32>().map(|value| value * factor).collect();
                    tensor.data = burn::tensor::TensorData::new(values, tensor.data.shape().clone());
                }
                tensor
            });
            first.valid().load_state(tensors.collect()).expect("the same network")
        };
        let before = first.state(0);
        let mut ema = Ema::new(first.valid(), EmaRule { decay: 0.75, warmup: false });
        ema.update(&scaled(1.0), 1);
        ema.update(&scaled(3.0), 2);
        let found = ema.model.state(0);
        for (found, before) in found.iter().zip(&before).filter(|(found, _)| !found.name.ends_with("tracked")) {
            for (found, before) in found.data.iter::<f32>().zip(before.data.iter::<f32>()) {
                assert!((found - 1.5 * before).abs() <= 1e-6 * before.abs(), "{found} instead of {}", 1.5 * before);
            }
        }
        assert_eq!(first.state(0).len(), before.len());
        assert!(first.state(0).iter().zip(&before).all(|(now, before)| now.data == before.data));
    }
}
