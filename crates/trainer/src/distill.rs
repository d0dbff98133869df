//! Knowledge distillation, arXiv:1503.02531: beside the labels a network learns from the scores of another one, its teacher.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::tensor::{Device, Tensor};
use foreign_weights::listed;
use ghostnet::FoldedGhostNet;

use crate::batch::Normalization;
use crate::import::{Hints, SeveralNetworks};
use crate::model_source::{FoundModel, OpenedModel};
use crate::weights::{ModelCard, ModelFile};

/// A network to learn from, as its file holds it.
#[derive(Debug)]
pub struct Teacher {
    /// The file.
    pub path: PathBuf,
    /// BLAKE3 of the file.
    pub fingerprint: String,
    /// Notes on weights of another program.
    pub notes: Vec<String>,
    file: ModelFile,
}

impl Teacher {
    /// Reads the network that a path stands for; it must know the classes of the data, in their order. `key` chooses among several in a
    /// file.
    pub fn read(path: &Path, key: Option<&str>, classes: &[String]) -> anyhow::Result<Self> {
        let found = FoundModel::read(path).context("cannot learn from the teacher")?;
        let fingerprint = found.fingerprint();
        // The classes of weights of another program are numbered, and never those of the data.
        let hints = Hints { key: key.map(str::to_string), ..Hints::default() };
        let OpenedModel { file, path, notes, .. } = found.open(hints).map_err(|error| {
            let several = error.downcast_ref::<SeveralNetworks>().map(|several| listed(&several.keys));
            // `--key` chooses among the weights to start from, not among those of the teacher.
            let hint = several.map(|keys| format!("\n\nhint: name one with `--set distill.key=KEY`: {keys}"));
            error.context(format!("cannot learn from the teacher{}", hint.unwrap_or_default()))
        })?;
        if file.card.classes != classes {
            let known = &file.card.classes;
            let differs = classes.iter().zip(known).find(|(class, known)| class != known);
            let difference = match differs {
                Some((class, known)) => format!("where the data have `{class}`, it has `{known}`"),
                None => format!("it knows {} and the data have {}", known.len(), classes.len()),
            };
            bail!(
                "the teacher in `{}` is for other classes: {difference}\n\n\
                 hint: train the teacher on the same class folders, or name the classes of weights of another program with \
                 `ghostnet import --classes`",
                path.display()
            );
        }
        if file.card.is_sigmoid() {
            bail!(
                "the teacher in `{}` was trained with each class a question of its own, and is learned from where classes are \
                 alternatives\n\n\
                 hint: train the teacher without `train.bce`",
                path.display()
            );
        }
        Ok(Self { path, fingerprint, notes, file })
    }

    /// What the file says of itself.
    pub fn card(&self) -> &ModelCard {
        &self.file.card
    }

    /// The network on a device, for images that were normalised with `normalization`.
    pub fn network(&self, normalization: &Normalization, device: &Device) -> anyhow::Result<TeacherNetwork> {
        let (model, card) = self.file.clone().into_model(device)?;
        let own = card.normalization;
        let rescale = (own != *normalization).then(|| {
            let channels = |value: &dyn Fn(usize) -> f32| {
                Tensor::<1>::from_floats([value(0), value(1), value(2)], device).reshape([1, 3, 1, 1])
            };
            Rescale {
                factor: channels(&|channel| normalization.std[channel] / own.std[channel]),
                offset: channels(&|channel| (normalization.mean[channel] - own.mean[channel]) / own.std[channel]),
            }
        });
        Ok(TeacherNetwork { model: model.fold(), rescale })
    }
}

/// A teacher at work.
#[derive(Debug)]
pub struct TeacherNetwork {
    model: FoldedGhostNet,
    rescale: Option<Rescale>,
}

/// From the normalisation of the run to that of the teacher; `[1, 3, 1, 1]` each.
#[derive(Debug)]
struct Rescale {
    factor: Tensor<4>,
    offset: Tensor<4>,
}

impl TeacherNetwork {
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, num_classes]`
    pub fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.model.forward(match &self.rescale {
            None => images,
            Some(Rescale { factor, offset }) => images * factor.clone() + offset.clone(),
        })
    }
}
