//! Optimizers with PyTorch's arithmetic, over parameters known by name. The arithmetic of single values is in `ghostnet-kernels`; what
//! looks at a whole parameter, the lengths of LAMB and the matrices of Muon, is here.
//!
//! They are written here rather than taken from burn because their state has to travel: it is kept by timm's tensor names, so a
//! checkpoint's optimizer file can be read by anything that reads safetensors and belongs to the weights beside it on any
//! device; burn keys its own by ids that live in its own record format, and restores it on whatever device it finds first.

use std::collections::BTreeMap;

use burn::tensor::{Bool, Device, Tensor, TensorData};
use ghostnet::read_now;
use ghostnet_kernels::{AdamW, Lion, RmspropTf, Sgd, global_norm_on_device};

use crate::finetune::CLASSIFIER;

/// The rule and its constants; what a recipe's `[optimizer]` resolves to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// `torch.optim.SGD` with dampening 0.
    Sgd {
        /// Share of the previous direction.
        momentum: f64,
        /// Look ahead along the new direction.
        nesterov: bool,
    },
    /// `torch.optim.AdamW`: weight decay apart from the gradient.
    AdamW {
        /// Decay of the averages of the gradient and of its square.
        betas: [f64; 2],
        /// Added to the root of the second average.
        epsilon: f64,
    },
    /// timm's `RMSpropTF`, TensorFlow's RMSprop.
    RmspropTf {
        /// Decay of the average of squares.
        alpha: f64,
        /// Added to the average of squares before the root.
        epsilon: f64,
        /// Share of the previous direction.
        momentum: f64,
    },
    /// LAMB, arXiv:1904.00962, as timm's: Adam's direction with weight decay, as long as the parameter is.
    Lamb {
        /// Decay of the averages of the gradient and of its square.
        betas: [f64; 2],
        /// Added to the root of the second average.
        epsilon: f64,
    },
    /// Lion, arXiv:2302.06675.
    Lion {
        /// Share of the average in the direction, and decay of the average.
        betas: [f64; 2],
    },
    /// Muon, as `torch.optim.Muon` with `match_rms_adamw`: the momentum of a matrix with all its singular values brought near to one.
    /// Norms, biases and the classifier are updated as by [`AdamW`](Self::AdamW) at the same rate.
    Muon {
        /// Share of the previous momentum.
        momentum: f64,
        /// Look ahead along the new momentum.
        nesterov: bool,
        /// As for AdamW.
        betas: [f64; 2],
        /// As for AdamW.
        epsilon: f64,
    },
}

/// A rule, its weight decay and what it remembers of each parameter.
#[derive(Debug, Clone)]
pub struct Optimizer {
    rule: Rule,
    weight_decay: f64,
    /// Updates done, the same for every parameter.
    steps: u64,
    /// `[elements]` tensors by parameter and slot.
    slots: BTreeMap<(String, &'static str), Tensor<1>>,
    /// Updates done before the first of a parameter, for parameters that were frozen then.
    frozen_for: BTreeMap<String, u64>,
}

/// One parameter with its gradient, flattened to `[elements]`, outside autodiff.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// timm's name.
    pub name: &'a str,
    /// Values before the update.
    pub value: Tensor<1>,
    /// Gradient.
    pub gradient: Tensor<1>,
    /// Rows of the parameter as a matrix `[outputs, inputs]`; none for norms and biases, which are not decayed.
    pub outputs: Option<usize>,
}

const MOMENTUM: &str = "momentum";
const FIRST_MOMENT: &str = "first_moment";
const SECOND_MOMENT: &str = "second_moment";
/// Not a slot but a count, one for a parameter.
const FROZEN_FOR: &str = "frozen_for";
const SQUARE_AVERAGE: &str = "square_average";
const SLOTS: [&str; 4] = [MOMENTUM, FIRST_MOMENT, SECOND_MOMENT, SQUARE_AVERAGE];

impl Optimizer {
    /// An optimizer that has seen nothing.
    pub fn new(rule: Rule, weight_decay: f64) -> Self {
        Self { rule, weight_decay, steps: 0, slots: BTreeMap::new(), frozen_for: BTreeMap::new() }
    }

    /// Bytes that it will keep for each parameter.
    pub fn bytes_per_parameter(&self) -> usize {
        match self.rule {
            Rule::Sgd { momentum, .. } => usize::from(momentum > 0.0) * size_of::<f32>(),
            Rule::Lion { .. } => size_of::<f32>(),
            // Muon keeps one for most of them, and two for the classifier, which is a quarter of a network for 1,000 classes.
            Rule::AdamW { .. } | Rule::RmspropTf { .. } | Rule::Lamb { .. } | Rule::Muon { .. } => 2 * size_of::<f32>(),
        }
    }

    /// Starts an update; call [`update`](Self::update) for every parameter after it.
    pub fn begin_step(&mut self) {
        self.steps += 1;
    }

    /// The new value of one parameter.
    pub fn update(&mut self, parameter: Parameter<'_>, learning_rate: f64) -> Tensor<1> {
        let Parameter { name, value, gradient, outputs } = parameter;
        let weight_decay = if outputs.is_some() { self.weight_decay } else { 0.0 };
        match self.rule {
            Rule::Sgd { momentum, nesterov } => {
                let rule = Sgd { momentum, nesterov, weight_decay, learning_rate };
                let (value, buffer) = rule.update(value, gradient, self.take(name, MOMENTUM));
                if let Some(buffer) = buffer {
                    self.put(name, MOMENTUM, buffer);
                }
                value
            }
            Rule::AdamW { betas, epsilon } => {
                let rule = AdamW { betas, epsilon, weight_decay, learning_rate, step: 0 };
                self.adam(name, rule, value, gradient)
            }
            Rule::Muon { momentum, nesterov, betas, epsilon } => match outputs {
                Some(outputs) if !name.starts_with(CLASSIFIER) => {
                    let buffer = self.take(name, MOMENTUM).unwrap_or_else(|| value.zeros_like());
                    // `torch.lerp` for a weight below one half, from the other end above it.
                    let buffer = buffer.clone() + (gradient.clone() - buffer).mul_scalar(1.0 - momentum);
                    self.put(name, MOMENTUM, buffer.clone());
                    let direction =
                        if nesterov { buffer.clone() - (buffer - gradient).mul_scalar(1.0 - momentum) } else { buffer };
                    let inputs = value.dims()[0] / outputs;
                    let direction = orthogonal(direction.reshape([outputs, inputs])).reshape([outputs * inputs]);
                    // Moonshot's factor, arXiv:2502.16982: steps as large as Adam's.
                    let length = 0.2 * (outputs.max(inputs) as f64).sqrt();
                    value.mul_scalar(1.0 - learning_rate * weight_decay) - direction.mul_scalar(learning_rate * length)
                }
                _ => {
                    let rule = AdamW { betas, epsilon, weight_decay, learning_rate, step: 0 };
                    self.adam(name, rule, value, gradient)
                }
            },
            Rule::Lamb { betas, epsilon } => {
                // Adam's step of length one from nowhere is its direction, with the sign turned.
                let rule = AdamW { betas, epsilon, weight_decay: 0.0, learning_rate: 1.0, step: 0 };
                let origin = value.zeros_like();
                let direction = self.adam(name, rule, origin, gradient).neg();
                lamb(value, direction, weight_decay, learning_rate)
            }
            Rule::RmspropTf { alpha, epsilon, momentum } => {
                let rule = RmspropTf { alpha, epsilon, momentum, weight_decay, learning_rate };
                let state = self.take(name, SQUARE_AVERAGE).zip(self.take(name, MOMENTUM));
                let (value, [average, buffer]) = rule.update(value, gradient, state.map(<[_; 2]>::from));
                self.put(name, SQUARE_AVERAGE, average);
                self.put(name, MOMENTUM, buffer);
                value
            }
            Rule::Lion { betas } => {
                let rule = Lion { betas, weight_decay, learning_rate };
                let (value, average) = rule.update(value, gradient, self.take(name, FIRST_MOMENT));
                self.put(name, FIRST_MOMENT, average);
                value
            }
        }
    }

    /// The new value of one parameter; or, where the device finds that the condition does not hold, the old one, with what is remembered
    /// of the parameter as it was too. The update is counted all the same.
    ///
    /// # Shapes
    /// - `condition`: `[1]`
    pub fn update_if(&mut self, condition: Tensor<1, Bool>, parameter: Parameter<'_>, learning_rate: f64) -> Tensor<1> {
        let (name, old) = (parameter.name, parameter.value.clone());
        let remembered = SLOTS.map(|slot| (slot, self.slots.get(&(name.to_string(), slot)).cloned()));
        let differs = condition.bool_not().expand(old.dims());
        let new = self.update(parameter, learning_rate);
        for (slot, before) in remembered {
            if let Some(after) = self.take(name, slot) {
                let before = before.unwrap_or_else(|| first_of(slot, &after));
                self.put(name, slot, after.mask_where(differs.clone(), before));
            }
        }
        new.mask_where(differs, old)
    }

    /// An update of Adam, whose step number is filled in here.
    fn adam(&mut self, name: &str, rule: AdamW, value: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        let averages = self.take(name, FIRST_MOMENT).zip(self.take(name, SECOND_MOMENT));
        // The averages of a parameter that was frozen until now are as young as any at the first step.
        if averages.is_none() && self.steps > 1 {
            self.frozen_for.insert(name.to_string(), self.steps - 1);
        }
        let step = self.steps - self.frozen_for.get(name).unwrap_or(&0);
        let (value, [first, second]) = AdamW { step, ..rule }.update(value, gradient, averages.map(<[_; 2]>::from));
        self.put(name, FIRST_MOMENT, first);
        self.put(name, SECOND_MOMENT, second);
        value
    }

    fn take(&mut self, name: &str, slot: &'static str) -> Option<Tensor<1>> {
        self.slots.remove(&(name.to_string(), slot))
    }

    fn put(&mut self, name: &str, slot: &'static str, value: Tensor<1>) {
        self.slots.insert((name.to_string(), slot), value);
    }

    /// Updates done so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What it remembers, as `{parameter}/{slot}` and `[elements]`, in a fixed order.
    pub fn state(&self) -> Vec<(String, TensorData)> {
        let slots = self.slots.iter();
        let slots = slots.map(|((parameter, slot), tensor)| (format!("{parameter}/{slot}"), read_now(tensor.clone())));
        let frozen = self.frozen_for.iter().map(|(parameter, &steps)| {
            (format!("{parameter}/{FROZEN_FOR}"), TensorData::from([i64::try_from(steps).unwrap_or(i64::MAX)]))
        });
        slots.chain(frozen).collect()
    }

    /// Takes up a state written by [`state`](Self::state). A name that is none of its own is returned as the error.
    pub fn load_state(&mut self, steps: u64, state: Vec<(String, TensorData)>, device: &Device) -> Result<(), String> {
        self.steps = steps;
        self.slots.clear();
        self.frozen_for.clear();
        for (name, data) in state {
            if let Some(parameter) = name.strip_suffix(FROZEN_FOR).and_then(|name| name.strip_suffix('/')) {
                let steps = data.iter::<i64>().next().and_then(|steps| u64::try_from(steps).ok());
                self.frozen_for.insert(parameter.to_string(), steps.ok_or_else(|| name.clone())?);
                continue;
            }
            let Some((parameter, slot)) = name
                .rsplit_once('/')
                .and_then(|(parameter, slot)| Some((parameter, *SLOTS.iter().find(|known| **known == slot)?)))
            else {
                return Err(name);
            };
            self.slots.insert((parameter.to_string(), slot), Tensor::from_data(data, device));
        }
        Ok(())
    }
}

/// What a slot holds before the first update; one that is not there yet means the same.
fn first_of(slot: &str, like: &Tensor<1>) -> Tensor<1> {
    if slot == SQUARE_AVERAGE { like.ones_like() } else { like.zeros_like() }
}

/// A step of LAMB along Adam's direction. As in timm, a parameter without weight decay takes Adam's own step: the lengths are
/// compared only where decay keeps them in bounds.
fn lamb(value: Tensor<1>, direction: Tensor<1>, weight_decay: f64, learning_rate: f64) -> Tensor<1> {
    if weight_decay <= 0.0 {
        return value - direction.mul_scalar(learning_rate);
    }
    let direction = direction + value.clone().mul_scalar(weight_decay);
    let [value_length, direction_length] = [&value, &direction].map(length);
    let is_zero = (value_length.clone() * direction_length.clone()).equal_scalar(0.0);
    let trust = (value_length / direction_length).mask_fill(is_zero, 1.0);
    value - direction * trust.mul_scalar(learning_rate)
}

/// The Euclidean length, `[1]`, where the vector is. Not burn's sum, whose order, and with it the last bit, is not the same every
/// time for millions of values.
fn length(vector: &Tensor<1>) -> Tensor<1> {
    global_norm_on_device(std::slice::from_ref(vector)).unwrap_or_else(|| unreachable!("there is a vector"))
}

/// A matrix with singular values near to one in place of its own: five steps of Newton and Schulz's iteration with the coefficients of
/// Muon's authors (kellerjordan.github.io/posts/muon), which rise steeply and stop between 0.7 and 1.2. PyTorch takes them in
/// bfloat16, here they are in single precision.
///
/// # Shapes
/// - both: `[rows, columns]`
fn orthogonal(matrix: Tensor<2>) -> Tensor<2> {
    const COEFFICIENTS: [f64; 3] = [3.4445, -4.775, 2.0315];
    const STEPS: usize = 5;
    const LEAST_LENGTH: f64 = 1e-7;
    let [rows, columns] = matrix.dims();
    let length = length(&matrix.clone().flatten(0, 1)).clamp_min(LEAST_LENGTH).reshape([1, 1]);
    let is_tall = rows > columns;
    let mut x = if is_tall { matrix.transpose() } else { matrix } / length;
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..STEPS {
        let gram = x.clone().matmul(x.clone().transpose());
        let update = gram.clone().mul_scalar(b) + gram.clone().matmul(gram).mul_scalar(c);
        x = x.clone().mul_scalar(a) + update.matmul(x);
    }
    if is_tall { x.transpose() } else { x }
}
