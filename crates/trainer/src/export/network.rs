//! A GhostNet as a graph of ONNX. Nodes and values bear the names of the modules that make them.

use std::collections::HashMap;

use anyhow::{Context, bail};
use burn::tensor::TensorData;
use ghostnet::{Architecture, BatchNormConfig, BlockSpec, Gate, GhostNetConfig, NamedTensor};

use super::graph::{Graph, NodeSpec, float, int, ints, string};

/// Names of the value that goes into a network, normalised images `[batch, 3, height, width]`, and of what comes out of it.
pub(super) const IMAGES: &str = "images";
pub(super) const LOGITS: &str = "logits";

/// A convolution and what follows it.
struct Conv<'a> {
    /// The module of its weight.
    name: &'a str,
    /// The module of its norm, if that is not folded.
    norm: &'a str,
    /// Name of its value.
    output: &'a str,
    stride: usize,
    depthwise: bool,
    relu: bool,
}

/// Adds the network with the tensors of `state`, without branches and folded or not, behind the value [`IMAGES`], which is
/// `image_size` pixels high and wide; its scores are [`LOGITS`].
pub(super) fn add(
    graph: &mut Graph,
    config: &GhostNetConfig,
    state: &[NamedTensor],
    image_size: usize,
) -> anyhow::Result<()> {
    let tensors = state.iter().map(|tensor| (tensor.name.as_str(), &tensor.data)).collect();
    Builder { graph, tensors, gate: config.variant.gate() }.network(config, image_size)
}

struct Builder<'a> {
    graph: &'a mut Graph,
    tensors: HashMap<&'a str, &'a TensorData>,
    gate: Gate,
}

impl Builder<'_> {
    fn network(&mut self, config: &GhostNetConfig, image_size: usize) -> anyhow::Result<()> {
        let (architecture, stride) = (Architecture::new(config), config.stem_stride);
        let stem = Conv { name: "conv_stem", norm: "bn1", output: "stem", stride, depthwise: false, relu: true };
        let mut map = self.conv(IMAGES, &stem)?;
        let mut size = image_size.div_ceil(stride);
        for spec in &architecture.blocks {
            map = self.block(&map, size, spec)?;
            size = size.div_ceil(spec.stride);
        }
        // The stage behind those of the bottlenecks is the last convolution.
        let last = format!("blocks.{}.0", architecture.num_stages());
        let (name, norm) = (format!("{last}.conv"), format!("{last}.bn1"));
        let map = self
            .conv(&map, &Conv { name: &name, norm: &norm, output: &last, stride: 1, depthwise: false, relu: true })?;
        let pooled = self.graph.plain("global_pool", "GlobalAveragePool", &[&map]);
        let head = Conv { name: "conv_head", norm: "bn2", output: "head", stride: 1, depthwise: false, relu: true };
        let hidden = self.conv(&pooled, &head)?;
        let hidden = self.graph.plain("flatten", "Flatten", &[&hidden]);
        let (weight, bias) = (self.constant("classifier.weight")?, self.constant("classifier.bias")?);
        self.graph.node(NodeSpec {
            name: LOGITS,
            operator: "Gemm",
            inputs: &[&hidden, &weight, &bias],
            attributes: vec![int("transB", 1)],
        });
        Ok(())
    }

    /// `size` is the height and width of the input.
    fn block(&mut self, input: &str, size: usize, spec: &BlockSpec) -> anyhow::Result<String> {
        let block = format!("blocks.{}.{}", spec.stage, spec.index);
        let ghost1 = format!("{block}.ghost1");
        let mut map = self.ghost_module(input, &ghost1, true)?;
        if spec.attention {
            map = self.attention(&map, size, input, &ghost1)?;
        }
        if spec.stride > 1 {
            let [name, norm] = ["conv_dw", "bn_dw"].map(|part| format!("{block}.{part}"));
            let output = format!("{block}.depthwise");
            let conv =
                Conv { name: &name, norm: &norm, output: &output, stride: spec.stride, depthwise: true, relu: false };
            map = self.conv(&map, &conv)?;
        }
        if spec.squeeze_channels.is_some() {
            map = self.squeeze_excite(&map, &format!("{block}.se"))?;
        }
        map = self.ghost_module(&map, &format!("{block}.ghost2"), false)?;
        let shortcut = if spec.has_identity_shortcut() {
            input.to_string()
        } else {
            let [depthwise, depthwise_norm, pointwise, pointwise_norm] =
                [0, 1, 2, 3].map(|part| format!("{block}.shortcut.{part}"));
            let output = format!("{block}.shortcut.depthwise");
            let stride = spec.stride;
            let conv =
                Conv { name: &depthwise, norm: &depthwise_norm, output: &output, stride, depthwise: true, relu: false };
            let strided = self.conv(input, &conv)?;
            let output = format!("{block}.shortcut");
            let conv = Conv {
                name: &pointwise,
                norm: &pointwise_norm,
                output: &output,
                stride: 1,
                depthwise: false,
                relu: false,
            };
            self.conv(&strided, &conv)?
        };
        Ok(self.graph.plain(&block, "Add", &[&map, &shortcut]))
    }

    /// The halves are as many maps as go out: every published width is a multiple of four, so nothing is cut off.
    fn ghost_module(&mut self, input: &str, name: &str, relu: bool) -> anyhow::Result<String> {
        let mut half = |input: &str, part: &str, depthwise: bool| {
            let output = format!("{name}.{part}");
            let [conv, norm] = [0, 1].map(|at| format!("{output}.{at}"));
            self.conv(input, &Conv { name: &conv, norm: &norm, output: &output, stride: 1, depthwise, relu })
        };
        let primary = half(input, "primary_conv", false)?;
        let cheap = half(&primary, "cheap_operation", true)?;
        Ok(self.graph.node(NodeSpec {
            name,
            operator: "Concat",
            inputs: &[&primary, &cheap],
            attributes: vec![int("axis", 1)],
        }))
    }

    /// Multiplies `maps`, of `size` pixels, by the attention of `input`.
    fn attention(&mut self, maps: &str, size: usize, input: &str, name: &str) -> anyhow::Result<String> {
        let mut value = self.graph.node(NodeSpec {
            name: &format!("{name}.short_conv.pool"),
            operator: "AveragePool",
            inputs: &[input],
            attributes: vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])],
        });
        for layer in 0..3 {
            let [conv, norm] = [2 * layer, 2 * layer + 1].map(|at| format!("{name}.short_conv.{at}"));
            let output = format!("{name}.short_conv.layer{layer}");
            let conv = Conv { name: &conv, norm: &norm, output: &output, stride: 1, depthwise: layer > 0, relu: false };
            value = self.conv(&value, &conv)?;
        }
        let gate = self.graph.plain(&format!("{name}.short_conv.gate"), "Sigmoid", &[&value]);
        // A runtime multiplies in 32 bits and rounds the size down, which must not end up one pixel short. Where the factor is 2, it
        // is exact, and has to be: every other pixel then begins where the next value does.
        let factor = if size.is_multiple_of(2) { 2.0 } else { (size as f32 + 1e-3) / (size / 2) as f32 };
        let scales = self.graph.floats(&format!("{name}.short_conv.scales"), &[4], &[1.0, 1.0, factor, factor]);
        let resized = self.graph.node(NodeSpec {
            name: &format!("{name}.short_conv.resize"),
            operator: "Resize",
            inputs: &[&gate, "", &scales],
            attributes: vec![
                string("mode", "nearest"),
                string("coordinate_transformation_mode", "asymmetric"),
                string("nearest_mode", "floor"),
            ],
        });
        Ok(self.graph.plain(&format!("{name}.attention"), "Mul", &[maps, &resized]))
    }

    fn squeeze_excite(&mut self, input: &str, name: &str) -> anyhow::Result<String> {
        let pooled = self.graph.plain(&format!("{name}.pool"), "GlobalAveragePool", &[input]);
        let mut conv = |input: &str, part: &str, relu: bool| {
            let (conv, output) = (format!("{name}.conv_{part}"), format!("{name}.{part}"));
            self.conv(input, &Conv { name: &conv, norm: "", output: &output, stride: 1, depthwise: false, relu })
        };
        let reduced = conv(&pooled, "reduce", true)?;
        let expanded = conv(&reduced, "expand", false)?;
        // `HardSigmoid` is clip(alpha x + beta, 0, 1), and relu6(x + 3) / 6 = clip(x / 6 + 1/2, 0, 1).
        let (alpha, beta) = match self.gate {
            Gate::HardSigmoid => (1.0 / 6.0, 0.5),
            Gate::Clip => (1.0, 0.0),
        };
        let gate = self.graph.node(NodeSpec {
            name: &format!("{name}.gate"),
            operator: "HardSigmoid",
            inputs: &[&expanded],
            attributes: vec![float("alpha", alpha), float("beta", beta)],
        });
        Ok(self.graph.plain(name, "Mul", &[input, &gate]))
    }

    fn conv(&mut self, input: &str, conv: &Conv<'_>) -> anyhow::Result<String> {
        let &Conv { name, norm, output, stride, depthwise, relu } = conv;
        let normed = self.tensors.contains_key(format!("{norm}.running_mean").as_str());
        let weight_name = format!("{name}.weight");
        let shape = self.tensor(&weight_name)?.shape().to_vec();
        let weight = self.constant(&weight_name)?;
        let bias = format!("{name}.bias");
        let bias = self.tensors.contains_key(bias.as_str()).then(|| self.constant(&bias)).transpose()?;
        let [_, _, height, width] = shape[..] else { bail!("`{weight_name}` is no convolution's") };
        let kernel = [height as i64, width as i64];
        let (padding, stride) = (kernel.map(|side| side / 2), stride as i64);
        let steps = [false, normed, relu];
        // The last step makes the value that others know by the name of the module.
        let last = steps.iter().rposition(|step| *step).unwrap_or(0);
        let named = |step: usize, suffix: &str| {
            if step == last { output.to_string() } else { format!("{output}.{suffix}") }
        };
        let mut value = self.graph.node(NodeSpec {
            name: &named(0, "conv"),
            operator: "Conv",
            inputs: &[Some(input), Some(weight.as_str()), bias.as_deref()].into_iter().flatten().collect::<Vec<_>>(),
            attributes: vec![
                ints("dilations", &[1, 1]),
                // A cheap operation makes one map of each: as many groups as maps.
                int("group", if depthwise { shape[0] as i64 } else { 1 }),
                ints("kernel_shape", &kernel),
                ints("pads", &[padding, padding].concat()),
                ints("strides", &[stride; 2]),
            ],
        });
        if normed {
            let mut inputs = vec![value];
            for part in ["weight", "bias", "running_mean", "running_var"] {
                inputs.push(self.constant(&format!("{norm}.{part}"))?);
            }
            value = self.graph.node(NodeSpec {
                name: &named(1, "norm"),
                operator: "BatchNormalization",
                inputs: &inputs.iter().map(String::as_str).collect::<Vec<_>>(),
                attributes: vec![float("epsilon", BatchNormConfig::new(1).epsilon as f32)],
            });
        }
        if relu {
            value = self.graph.plain(&named(2, "relu"), "Relu", &[&value]);
        }
        Ok(value)
    }

    fn tensor(&self, name: &str) -> anyhow::Result<&TensorData> {
        self.tensors.get(name).copied().with_context(|| format!("the network has no tensor `{name}`"))
    }

    fn constant(&mut self, name: &str) -> anyhow::Result<String> {
        let data = self.tensor(name)?;
        let (shape, values) = (data.shape().to_vec(), data.iter::<f32>().collect::<Vec<_>>());
        Ok(self.graph.floats(name, &shape, &values))
    }
}
