//! The average of several checkpoints: the weights that a run passes through at its end, taken together, arXiv:1803.05407.

use std::path::PathBuf;

use anyhow::{Context, bail};
use burn::tensor::{DType, TensorData};
use ghostnet::NamedTensor;

use crate::import::Hints;
use crate::model_source::{FoundModel, OpenedModel};
use crate::weights::{ModelCard, ModelFile};

/// Averages model files of the same network, in the order of their training. Everything but the weights, the card included, is taken from
/// the last file. Files of other programs are read with `hints`; the notes are those on the last file.
///
/// Running statistics of norms are averaged too, as timm's `avg_checkpoints.py` does.
pub fn average(paths: &[PathBuf], hints: &Hints) -> anyhow::Result<OpenedModel> {
    let Some((last_path, others)) = paths.split_last() else { bail!("there is nothing to average") };
    let OpenedModel { file: last, path: found_path, notes, absent } =
        FoundModel::read(last_path)?.open(hints.clone())?;
    let card = last.card.clone();
    if card.folded {
        bail!(
            "`{}` has its batch norms folded into the convolutions, and such weights cannot be averaged",
            last_path.display()
        );
    }
    let mut sums: Vec<(String, TensorData, Option<Vec<f64>>)> = last
        .into_tensors()
        .into_iter()
        .map(|tensor| {
            let sum = (tensor.data.dtype() == DType::F32).then(|| tensor.data.iter::<f64>().collect());
            (tensor.name, tensor.data, sum)
        })
        .collect();
    for path in others {
        let file = FoundModel::read(path)?.open(hints.clone())?.file;
        let traits = |card: &ModelCard| {
            (card.config(), card.classes.clone(), card.normalization, card.is_sigmoid(), card.folded)
        };
        let is_alike = traits(&file.card) == traits(&card);
        if !is_alike {
            bail!("`{}` is another network than the last one, or for other classes", path.display());
        }
        let tensors = file.into_tensors();
        for (name, _, sum) in &mut sums {
            let Some(sum) = sum else { continue };
            let tensor = tensors.iter().find(|tensor| tensor.name == *name);
            let tensor = tensor.with_context(|| format!("`{}` has no tensor `{name}`", path.display()))?;
            if tensor.data.num_elements() != sum.len() {
                bail!("tensor `{name}` of `{}` has another size than that of the last one", path.display());
            }
            sum.iter_mut().zip(tensor.data.iter::<f64>()).for_each(|(sum, value)| *sum += value);
        }
    }
    let count = paths.len() as f64;
    let tensors = sums.into_iter().map(|(name, data, sum)| match sum {
        None => NamedTensor { name, data },
        Some(sum) => {
            let mean: Vec<f32> = sum.into_iter().map(|sum| (sum / count) as f32).collect();
            NamedTensor { name, data: TensorData::new(mean, data.shape().clone()) }
        }
    });
    let file = ModelFile::new(last_path, card, tensors.collect());
    Ok(OpenedModel { file, path: found_path, notes, absent })
}
