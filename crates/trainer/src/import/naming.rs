//! Names that other programs give to the tensors of GhostNet, and the layouts of their dense layers, as tables.

use anyhow::bail;
use burn::tensor::TensorData;
use foreign_weights::{ForeignTensor, Values};
use ghostnet::{Architecture, GhostNetConfig, NamedTensor};

/// Beginnings of names: theirs, and timm's.
type Table = &'static [(&'static str, &'static str)];

/// How a program names and lays out the tensors.
#[derive(Debug)]
pub(super) struct Naming {
    /// The program.
    pub(super) program: &'static str,
    /// Tensors that only a file with these names has, one of them each.
    pub(super) marks: &'static [&'static str],
    /// The first parts of the names in the network, except those of the blocks.
    modules: &'static [&'static str],
    /// What comes before a block's number, and the number of the first block. Blocks are counted through.
    block: (&'static str, usize),
    /// Within a block.
    inside: Table,
    /// Outside of the blocks.
    outside: Table,
    /// Parts of names wherever they are; a name with one of them is as it should be otherwise.
    parts: Table,
    /// Last parts of names.
    leaves: Table,
    /// Whether the weight of a dense layer is in × out.
    in_out: bool,
}

/// timm's, which are ours.
const TIMM: Naming = Naming {
    program: "timm",
    // Other networks of timm have a `conv_stem` too; the second is GhostNetV3 while it trains.
    marks: &["blocks.0.0.ghost1.primary_conv.0.weight", "blocks.0.0.ghost1.primary_rpr_conv.0.conv.weight"],
    modules: &["conv_stem", "bn1", "blocks", "conv_head", "bn2", "classifier"],
    block: ("", 0),
    inside: &[],
    outside: &[],
    parts: &[],
    leaves: &[],
    in_out: false,
};

/// `ghostnetv3_pytorch/ghostnetv3.py` of github.com/huawei-noah/Efficient-AI-Backbones, whose branches have norms of another name.
const OFFICIAL_V3: Naming = Naming {
    program: "the official GhostNetV3",
    marks: &["blocks.0.0.ghost1.primary_rpr_conv.0.bn.weight"],
    parts: &[(".bn.", ".bn1.")],
    ..TIMM
};

/// `ghost_net.py` of github.com/iamhankai/ghostnet.pytorch at f3d8e5b. An optional part of a block is an empty `Sequential`.
const IAMHANKAI: Naming = Naming {
    program: "iamhankai/ghostnet.pytorch",
    marks: &["features.1.conv.0.primary_conv.0.weight"],
    modules: &["features", "squeeze", "classifier"],
    block: ("features.", 1),
    inside: &[
        ("conv.0.", "ghost1."),
        ("conv.1.0.", "conv_dw."),
        ("conv.1.1.", "bn_dw."),
        ("conv.2.fc.0.", "se.conv_reduce."),
        ("conv.2.fc.2.", "se.conv_expand."),
        ("conv.3.", "ghost2."),
        ("shortcut.0.0.", "shortcut.0."),
        ("shortcut.0.1.", "shortcut.1."),
        ("shortcut.1.", "shortcut.2."),
        ("shortcut.2.", "shortcut.3."),
    ],
    outside: &[
        ("features.0.0.", "conv_stem."),
        ("features.0.1.", "bn1."),
        ("squeeze.0.", "blocks.9.0.conv."),
        ("squeeze.1.", "blocks.9.0.bn1."),
        ("classifier.0.", "conv_head."),
        ("classifier.1.", "bn2."),
        ("classifier.4.", "classifier."),
    ],
    parts: &[],
    leaves: &[],
    in_out: false,
};

/// `ppcls/arch/backbone/model_zoo/ghostnet.py` of github.com/PaddlePaddle/PaddleClas at 37f9b41.
const PADDLECLAS: Naming = Naming {
    program: "PaddleClas",
    marks: &["_ghostbottleneck_0.ghost_module_1.primary_conv._conv.weight"],
    modules: &["conv1", "conv_last", "fc_0", "fc_1"],
    block: ("_ghostbottleneck_", 0),
    inside: &[
        ("ghost_module_1.primary_conv._conv.", "ghost1.primary_conv.0."),
        ("ghost_module_1.primary_conv._batch_norm.", "ghost1.primary_conv.1."),
        ("ghost_module_1.cheap_operation._conv.", "ghost1.cheap_operation.0."),
        ("ghost_module_1.cheap_operation._batch_norm.", "ghost1.cheap_operation.1."),
        ("depthwise_conv._conv.", "conv_dw."),
        ("depthwise_conv._batch_norm.", "bn_dw."),
        ("se_block.squeeze.", "se.conv_reduce."),
        ("se_block.excitation.", "se.conv_expand."),
        ("ghost_module_2.primary_conv._conv.", "ghost2.primary_conv.0."),
        ("ghost_module_2.primary_conv._batch_norm.", "ghost2.primary_conv.1."),
        ("ghost_module_2.cheap_operation._conv.", "ghost2.cheap_operation.0."),
        ("ghost_module_2.cheap_operation._batch_norm.", "ghost2.cheap_operation.1."),
        ("shortcut_depthwise._conv.", "shortcut.0."),
        ("shortcut_depthwise._batch_norm.", "shortcut.1."),
        ("shortcut_conv._conv.", "shortcut.2."),
        ("shortcut_conv._batch_norm.", "shortcut.3."),
    ],
    outside: &[
        ("conv1._conv.", "conv_stem."),
        ("conv1._batch_norm.", "bn1."),
        ("conv_last._conv.", "blocks.9.0.conv."),
        ("conv_last._batch_norm.", "blocks.9.0.bn1."),
        ("fc_0._conv.", "conv_head."),
        ("fc_0._batch_norm.", "bn2."),
        ("fc_1.", "classifier."),
    ],
    parts: &[],
    leaves: &[("_mean", "running_mean"), ("_variance", "running_var")],
    in_out: true,
};

/// Layers of which some programs make dense ones, and the one that all do.
const DENSE: [&str; 4] = ["se.conv_reduce.weight", "se.conv_expand.weight", "conv_head.weight", CLASSIFIER];
const CLASSIFIER: &str = "classifier.weight";

impl Naming {
    /// All namings. A file has the first one whose mark it holds.
    pub(super) const ALL: [&'static Self; 4] = [&IAMHANKAI, &PADDLECLAS, &OFFICIAL_V3, &TIMM];

    /// The names of timm.
    pub(super) const TIMM: &'static Self = &TIMM;

    /// Whether a name is that of something in the network, known or not, rather than of something beside it.
    pub(super) fn is_inside(&self, theirs: &str) -> bool {
        let module = theirs.split('.').next().unwrap_or_default();
        let (block, _) = self.block;
        self.modules.contains(&module) || !block.is_empty() && theirs.starts_with(block)
    }

    /// Whether the weight of a dense layer is `[inputs, outputs]`, and not `[outputs, inputs]`.
    pub(super) fn is_in_out(&self) -> bool {
        self.in_out
    }

    /// Whether the names are timm's.
    pub(super) fn is_timm(&self) -> bool {
        self.program == TIMM.program
    }

    /// Their name of a tensor outside of the blocks.
    pub(super) fn theirs(&self, ours: &str) -> String {
        let row = self.outside.iter().find_map(|(theirs, begin)| Some((theirs, ours.strip_prefix(begin)?)));
        row.map_or_else(|| ours.to_string(), |(theirs, rest)| format!("{theirs}{rest}"))
    }

    /// The tensors under timm's names and in its layouts. What is not in the tables keeps its name, and is then not part of the network.
    pub(super) fn translate(&self, tensors: Vec<ForeignTensor>) -> anyhow::Result<Vec<NamedTensor>> {
        let blocks: Vec<String> = Architecture::new(&GhostNetConfig::new(1))
            .blocks
            .iter()
            .map(|block| format!("blocks.{}.{}.", block.stage, block.index))
            .collect();
        let mut translated: Vec<NamedTensor> = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let name = self.name(&tensor.name, &blocks).unwrap_or_else(|| tensor.name.clone());
            translated.push(NamedTensor { data: self.data(&name, tensor), name });
        }
        let mut names: Vec<&str> = translated.iter().map(|tensor| tensor.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("two of its tensors stand for `{}`", twice[0]);
        }
        Ok(translated)
    }

    fn name(&self, theirs: &str, blocks: &[String]) -> Option<String> {
        let renamed = |name: &str, table: Table| {
            table.iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", name.strip_prefix(theirs)?)))
        };
        if let Some((part, ours)) = self.parts.iter().find(|(part, _)| theirs.contains(part)) {
            return Some(theirs.replacen(part, ours, 1));
        }
        let name = renamed(theirs, self.outside).or_else(|| {
            let (before, first) = self.block;
            let (number, rest) = theirs.strip_prefix(before)?.split_once('.')?;
            let block = blocks.get(number.parse::<usize>().ok()?.checked_sub(first)?)?;
            Some(format!("{block}{}", renamed(rest, self.inside)?))
        })?;
        let leaf = self.leaves.iter().find_map(|(theirs, ours)| {
            let before = name.strip_suffix(theirs)?;
            before.ends_with('.').then(|| format!("{before}{ours}"))
        });
        Some(leaf.unwrap_or(name))
    }

    fn data(&self, name: &str, tensor: ForeignTensor) -> TensorData {
        let ForeignTensor { mut shape, values, .. } = tensor;
        let mut values = match values {
            Values::F32(values) => values,
            Values::I64(values) if name.ends_with(".num_batches_tracked") => return TensorData::new(values, shape),
            // Weights that somebody kept as whole numbers.
            Values::I64(values) => values.into_iter().map(|value| value as f32).collect(),
        };
        if let [rows, columns] = shape[..]
            && !self.is_timm()
            && DENSE.iter().any(|layer| name.ends_with(layer))
        {
            if self.in_out {
                values = (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect();
                shape = vec![columns, rows];
            }
            if name != CLASSIFIER {
                shape.extend([1, 1]);
            }
        }
        TensorData::new(values, shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_of_the_other_programs_has_timms_name() {
        let table = include_str!("../../../ghostnet/tests/fixtures/ghostnet_paddle_names.tsv");
        let mut rows = 0;
        for row in table.lines().skip(1) {
            let [ours, iamhankai, paddleclas] = row.split('\t').collect::<Vec<_>>()[..] else { panic!("{row}") };
            for (naming, theirs) in [(&IAMHANKAI, iamhankai), (&PADDLECLAS, paddleclas), (&TIMM, ours)] {
                let values = || Values::F32(vec![0.0]);
                let (leaf, ours_leaf) =
                    if naming.in_out { ("_variance", "running_var") } else { ("running_var", "running_var") };
                let tensors = [("weight", "weight"), (leaf, ours_leaf)].map(|(theirs_leaf, ours_leaf)| {
                    let tensor =
                        ForeignTensor { name: format!("{theirs}.{theirs_leaf}"), shape: vec![1], values: values() };
                    (tensor, format!("{ours}.{ours_leaf}"))
                });
                for (tensor, expected) in tensors {
                    let name = naming.translate(vec![tensor]).expect("one").remove(0).name;
                    assert_eq!(name, expected, "{}", naming.program);
                }
            }
            rows += 1;
        }
        assert_eq!(rows, 177);
    }

    #[test]
    fn a_dense_layer_becomes_a_convolution_in_timms_order() {
        let tensor = |name: &str| ForeignTensor {
            name: name.to_string(),
            shape: vec![2, 3],
            values: Values::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        };
        let data = |naming: &Naming, name: &str| naming.translate(vec![tensor(name)]).expect("one").remove(0).data;
        let turned = vec![1.0f32, 4.0, 2.0, 5.0, 3.0, 6.0];
        let squeeze = data(&PADDLECLAS, "_ghostbottleneck_3.se_block.squeeze.weight");
        assert_eq!(squeeze, TensorData::new(turned.clone(), [3, 2, 1, 1]));
        assert_eq!(data(&PADDLECLAS, "fc_1.weight"), TensorData::new(turned, [3, 2]));
        let kept = vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(data(&IAMHANKAI, "classifier.0.weight"), TensorData::new(kept.clone(), [2, 3, 1, 1]));
        assert_eq!(data(&IAMHANKAI, "classifier.4.weight"), TensorData::new(kept.clone(), [2, 3]));
        assert_eq!(data(&TIMM, "conv_head.weight"), TensorData::new(kept, [2, 3]));
    }

    #[test]
    fn two_tensors_for_one_place_are_refused() {
        let tensor = |name: &str| ForeignTensor { name: name.into(), shape: vec![1], values: Values::F32(vec![0.0]) };
        let error = IAMHANKAI.translate(vec![tensor("features.0.1.bias"), tensor("bn1.bias")]).expect_err("twice");
        assert_eq!(error.to_string(), "two of its tensors stand for `bn1.bias`");
    }
}
