//! The images that a model is measured on.

use std::sync::Arc;

use anyhow::{Context, bail};
use clap::ValueEnum;
use imageset::{DataSet, ImageSource, LeftOut, MeasuredSet, OpenOptions, Part};

use crate::model_source::{DataRequest, OpenedModel};

/// The part of the images that a model is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// All images
    All,
    /// Images trained on
    Train,
    /// Images held out for choosing a model
    Val,
    /// Images kept aside for measuring the chosen model
    Test,
}

/// Images to measure a model on.
pub struct MeasuredData {
    /// Names of the classes of the images.
    pub classes: Vec<String>,
    /// The images.
    pub images: Arc<dyn ImageSource>,
    /// One line: kind, path and parts.
    pub description: String,
    /// What the user may want to know, one sentence each.
    pub warnings: Vec<String>,
    /// The files and folders that were left out.
    pub left_out: LeftOut,
    /// The data set that the images are a part of, if it was split here.
    pub split_here: Option<DataSet>,
}

impl MeasuredData {
    /// The images of the run that a model lies in, by default those held out; or the images at `request.path`, by default all of them.
    pub fn open(model: &OpenedModel, request: DataRequest, split: Option<Split>) -> anyhow::Result<Self> {
        let is_other = request.path.is_some();
        let split = split.unwrap_or(if is_other { Split::All } else { Split::Val });
        if !is_other && matches!(split, Split::Train | Split::Val) {
            return Ok(Self::of_data_set(model.data(request)?, split));
        }
        let set = MeasuredSet::open(&model.data_options(request.clone())?).context("cannot open the data")?;
        let has = |part| set.part(part).is_some();
        let (train, held_out) = (has(Part::Train), has(Part::Val) || has(Part::Test));
        match split {
            Split::All => {
                let was_trained_on = model.is_trained_on(request.path.as_deref());
                let mut all = Self::all(set);
                if was_trained_on || train && held_out {
                    let which = if was_trained_on { "that the model was trained on" } else { "of the part `train`" };
                    all.warnings.push(format!(
                        "images {which} are among these, so the accuracy is higher than on new ones: `--split val` measures those held out"
                    ));
                }
                Ok(all)
            }
            Split::Test => Self::part(set, Part::Test),
            Split::Val if has(Part::Val) => Self::part(set, Part::Val),
            Split::Train if train && held_out => Self::part(set, Part::Train),
            // A test set takes the place of images held out where there are none, as in training.
            Split::Val if train && held_out => Self::part(set, Part::Test),
            Split::Val if held_out => Self::part(set, Part::Val),
            Split::Train if held_out => Self::part(set, Part::Train),
            split => Ok(Self::of_data_set(model.data(request)?, split)),
        }
    }

    fn of_data_set(data: DataSet, split: Split) -> Self {
        let images = match split {
            Split::All => data.images(),
            Split::Train => Arc::clone(&data.train),
            Split::Val | Split::Test => Arc::clone(&data.val),
        };
        Self {
            classes: data.classes.clone(),
            images,
            description: data.description.clone(),
            warnings: data.warnings.clone(),
            left_out: data.left_out.clone(),
            split_here: (!data.has_own_split).then_some(data),
        }
    }

    fn all(set: MeasuredSet) -> Self {
        let images = set.images();
        let MeasuredSet { classes, description, warnings, left_out, .. } = set;
        Self { classes, images, description, warnings, left_out, split_here: None }
    }

    fn part(set: MeasuredSet, part: Part) -> anyhow::Result<Self> {
        let Some(images) = set.part(part) else {
            bail!("there is no part `{part}` in the {}\n\nhint: `--split all` measures all images", set.description);
        };
        let MeasuredSet { classes, description, warnings, left_out, .. } = set;
        let description = format!("{description}; only the part `{part}`");
        Ok(Self { classes, images, description, warnings, left_out, split_here: None })
    }
}

/// A data set, or, if it cannot be trained on, as a test set, its images to measure on, with a note that says so.
pub fn open_any(
    options: &OpenOptions,
    open: impl FnOnce(&OpenOptions) -> anyhow::Result<DataSet>,
) -> anyhow::Result<(DataSet, Option<String>)> {
    let error = match open(options) {
        Ok(data) => return Ok((data, None)),
        Err(error) => error,
    };
    match MeasuredSet::open(options) {
        // A training set with a fault must not be taken for a test set.
        Ok(set) if set.part(Part::Train).is_none() => Ok((
            set.into_data_set(),
            Some(format!("this data set can be measured on but not trained on: {}", error.root_cause())),
        )),
        _ => Err(error),
    }
}
