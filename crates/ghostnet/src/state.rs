//! Weights by name: timm's tensor names, order and layouts, so that a file written from here is what every other tool reads.
//!
//! The network of [`Variant::GhostnetPaddle`](crate::Variant::GhostnetPaddle) is not in timm; it has the same names, and its head's
//! norm is `bn2`, after the stem's `bn1`.
//!
//! The modules use burn's words and orientation; the table in this file turns their paths into timm's names, and the
//! classifier's weight from burn's `[in, out]` into PyTorch's `[out, in]`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};

use crate::{GhostNet, GhostNetConfig};

/// Beginnings of paths of modules, from any segment on, and the names that timm gives them. Each is applied once, in this order.
#[rustfmt::skip]
const NAMES: [(&str, &str); 30] = [
    ("stages.",                         "blocks."),
    ("stem.conv.",                      "conv_stem."),
    ("stem.norm.",                      "bn1."),
    ("last.conv.",                      "blocks.9.0.conv."),
    ("last.norm.",                      "blocks.9.0.bn1."),
    ("head.",                           "conv_head."),
    ("head_norm.",                      "bn2."),
    ("primary_conv.Single.conv.",       "primary_conv.0."),
    ("primary_conv.Single.norm.",       "primary_conv.1."),
    ("primary_conv.Parallel.convs.",    "primary_rpr_conv."),
    ("primary_conv.Parallel.",          "primary_rpr_"),
    ("cheap_operation.Single.conv.",    "cheap_operation.0."),
    ("cheap_operation.Single.norm.",    "cheap_operation.1."),
    ("cheap_operation.Parallel.convs.", "cheap_rpr_conv."),
    ("cheap_operation.Parallel.",       "cheap_rpr_"),
    ("attention.pointwise.conv.",       "short_conv.0."),
    ("attention.pointwise.norm.",       "short_conv.1."),
    ("attention.horizontal.conv.",      "short_conv.2."),
    ("attention.horizontal.norm.",      "short_conv.3."),
    ("attention.vertical.conv.",        "short_conv.4."),
    ("attention.vertical.norm.",        "short_conv.5."),
    ("shortcut.depthwise.conv.",        "shortcut.0."),
    ("shortcut.depthwise.norm.",        "shortcut.1."),
    ("shortcut.pointwise.conv.",        "shortcut.2."),
    ("shortcut.pointwise.norm.",        "shortcut.3."),
    ("depthwise.Single.conv.",          "conv_dw."),
    ("depthwise.Single.norm.",          "bn_dw."),
    ("depthwise.Parallel.convs.",       "dw_rpr_conv."),
    ("depthwise.Parallel.",             "dw_rpr_"),
    // The norm of a branch.
    ("norm.",                           "bn1."),
];

/// The one tensor whose layout differs: burn keeps `[in, out]`, PyTorch `[out, in]`.
const TRANSPOSED: &str = "classifier.weight";

/// How many names an error shows of each kind.
const NAMES_SHOWN: usize = 5;

/// The values of a tensor as they are now.
///
/// burn fetches what is read of a GPU when it is first looked at, and an update in place may have written over it by then.
pub fn read_now<const D: usize>(tensor: Tensor<D>) -> TensorData {
    let data = tensor.into_data();
    let _looked_at = data.as_bytes();
    data
}

/// A tensor with timm's name and layout.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// For instance `blocks.0.0.ghost1.primary_conv.0.weight`.
    pub name: String,
    /// Values and shape.
    pub data: TensorData,
}

/// Why tensors do not fit a network.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct StateError {
    /// Names that the network has and the tensors lack.
    pub missing: Vec<String>,
    /// Names that the network does not know.
    pub unexpected: Vec<String>,
    /// Name, shape in the network, shape that was given.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl StateError {
    fn describe(&self) -> String {
        let list = |title: &str, names: Vec<String>| {
            let rest = names.len().saturating_sub(NAMES_SHOWN);
            let shown = names.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
            match (names.is_empty(), rest) {
                (true, _) => None,
                (false, 0) => Some(format!("{title}: {shown}")),
                (false, _) => Some(format!("{title}: {shown} and {rest} more")),
            }
        };
        let quoted = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect();
        let shapes = self
            .shapes
            .iter()
            .map(|(name, expected, found)| format!("`{name}` should be {expected:?} and is {found:?}"))
            .collect();
        let parts: Vec<String> = [
            list("missing", quoted(&self.missing)),
            list("not part of this network", quoted(&self.unexpected)),
            list("of another shape", shapes),
        ]
        .into_iter()
        .flatten()
        .collect();
        format!("the tensors do not fit the network; {}", parts.join("; "))
    }
}

/// Follows a walk through the modules and knows the current tensor's name.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn name(&self) -> String {
        let mut name = self.0.join(".");
        for (module, timm) in NAMES {
            if let Some(at) = name.find(module)
                && (at == 0 || name[..at].ends_with('.'))
            {
                name.replace_range(at..at + module.len(), timm);
            }
        }
        name
    }
}

/// Every tensor that the optimizer may change, with its name, in timm's order. Running statistics are not among them.
pub fn parameter_names(model: &GhostNet) -> Vec<(ParamId, String)> {
    struct Names(Path, Vec<(ParamId, String)>);
    impl ModuleVisitor for Names {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.0.push(name.to_string());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            let name = self.0.name();
            if !is_running_statistic(&name) {
                self.1.push((parameter.id, name));
            }
        }
    }
    let mut names = Names(Path::default(), Vec::new());
    model.visit(&mut names);
    names.1
}

fn is_running_statistic(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

/// `[rows, columns]` → `[columns, rows]`, in memory and not as a view: a matrix product sums in another order over a view, and a
/// network that was loaded must compute, to the last bit, what the network that was saved would have.
fn transpose(data: TensorData) -> TensorData {
    let (rows, columns) = (data.shape()[0], data.shape()[1]);
    let values: Vec<f32> = data.iter().collect();
    let transposed =
        (0..columns).flat_map(|column| values[column..].iter().step_by(columns).copied()).collect::<Vec<_>>();
    TensorData::new(transposed, [columns, rows])
}

impl GhostNetConfig {
    /// Builds the network with these tensors as its weights, without drawing random weights first. Takes the same tensors and returns the
    /// same errors as [`GhostNet::load_state`].
    pub fn load(&self, tensors: Vec<NamedTensor>, device: &Device) -> Result<GhostNet, StateError> {
        self.build(device).load_state(tensors)
    }
}

impl GhostNet {
    /// All tensors by timm's names, in its order: parameters, running statistics, and `num_batches_tracked`, the number of
    /// training steps that the statistics have seen, which PyTorch keeps and nothing here needs.
    ///
    /// Reads the network as it is after the last forward pass.
    pub fn state(&self, num_batches_tracked: i64) -> Vec<NamedTensor> {
        struct Collect {
            path: Path,
            tensors: Vec<NamedTensor>,
            num_batches_tracked: i64,
        }
        impl ModuleVisitor for Collect {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.0.push(name.to_string());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.0.pop();
            }
            fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
                let name = self.path.name();
                let value = parameter.val();
                let value = if name == TRANSPOSED { value.transpose() } else { value };
                self.tensors.push(NamedTensor { name: name.clone(), data: read_now(value) });
                if let Some(norm) = name.strip_suffix(".running_var") {
                    self.tensors.push(NamedTensor {
                        name: format!("{norm}.num_batches_tracked"),
                        data: TensorData::new(Vec::from([self.num_batches_tracked]), [0usize; 0]),
                    });
                }
            }
        }
        let mut collect = Collect { path: Path::default(), tensors: Vec::new(), num_batches_tracked };
        // `valid` brings the running statistics up to date; a plain visit would see them one step late.
        self.valid().visit(&mut collect);
        collect.tensors
    }

    /// Puts tensors into the network by name; all of them must be there, with the right shapes, and no others.
    /// `num_batches_tracked` may be absent and is not used. The network's own device and gradient settings stay.
    pub fn load_state(self, tensors: Vec<NamedTensor>) -> Result<Self, StateError> {
        struct Load {
            path: Path,
            tensors: BTreeMap<String, TensorData>,
            error: StateError,
        }
        impl ModuleMapper for Load {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.0.push(name.to_string());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.0.pop();
            }
            fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let name = self.path.name();
                let Some(data) = self.tensors.remove(&name) else {
                    self.error.missing.push(name);
                    return parameter;
                };
                let transposed = name == TRANSPOSED;
                let mut expected = parameter.lazy_shape().to_vec();
                if transposed {
                    expected.swap(0, 1);
                }
                if data.shape().as_slice() != expected {
                    self.error.shapes.push((name, expected, data.shape().to_vec()));
                    return parameter;
                }
                let data = if transposed { transpose(data) } else { data };
                // The parameter is not read, because burn would first draw random values for it.
                let loaded = Tensor::from_data(data, &parameter.lazy_device());
                let id = parameter.id;
                parameter.transform_for_load(loaded, id)
            }
        }
        let tensors = tensors
            .into_iter()
            .filter(|tensor| !tensor.name.ends_with(".num_batches_tracked"))
            .map(|tensor| (tensor.name, tensor.data))
            .collect();
        let error = StateError { missing: Vec::new(), unexpected: Vec::new(), shapes: Vec::new() };
        let mut load = Load { path: Path::default(), tensors, error };
        let model = self.settle_running_statistics().map(&mut load);
        load.error.unexpected = load.tensors.into_keys().collect();
        let StateError { missing, unexpected, shapes } = &load.error;
        if missing.is_empty() && unexpected.is_empty() && shapes.is_empty() { Ok(model) } else { Err(load.error) }
    }

    /// Applies updates of the running statistics that burn still holds back; otherwise they would overwrite what is loaded.
    fn settle_running_statistics(self) -> Self {
        for norm in self.norms() {
            let _ = norm.running_mean.value_sync();
            let _ = norm.running_var.value_sync();
        }
        self
    }

    fn norms(&self) -> Vec<&crate::BatchNorm> {
        let mut norms = Vec::from([&self.stem.norm, &self.last.norm]);
        norms.extend(&self.head_norm);
        norms.extend(self.stages.iter().flatten().flat_map(crate::GhostBottleneck::norms));
        norms
    }
}
