//! The report on one or several runs: a single HTML file that says how good a network is, what it mixes up, which images look
//! mislabelled and whether a longer run is worth it.
//!
//! [`RunReport::gather`] collects the facts, [`Report::page`] lays them out. What cannot be had (no checkpoint yet, images that moved) is
//! said in the report, and the rest is there all the same.

mod chart;
mod curves;
mod findings;
pub mod history;
mod measured;
mod number;
mod page;
mod thumbnail;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use burn::tensor::Device;
use ghostnet::GhostNetConfig;
use imageset::{DataSet, ImageSource, OnCorrupt, Pipeline, load_image, random};
use serde::Deserialize;

use self::history::{History, SplitCurves};
use crate::batch::Normalization;
use crate::checkpoint::find_model;
use crate::erase;
use crate::evaluate::{self, Evaluation, Evaluator, Mistake};
use crate::event::EMA_SUFFIX;
use crate::measured_data::open_any;
use crate::recipe::Recipe;
use crate::relabel::Relabelled;
use crate::weights::{ModelCard, ModelFile};
use crate::{plan, run_directory};

/// Images in a forward pass.
pub const BATCH_SIZE: usize = 64;

/// Training images that are shown as the network sees them.
const AUGMENTED_IMAGES: usize = 6;

/// Epochs in which they are shown.
const AUGMENTED_EPOCHS: u64 = 4;

/// How far a measurement may be from that of the run before it is said: rounding on another device turns an image or two.
const SAME_FIGURE: f64 = 0.005;

/// What a run was made on, as `environment.json` has it. Other keys are not shown.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// Version of the program.
    pub ghostnet: Option<String>,
    /// Where it was computed.
    pub device: Option<String>,
    /// Threads of the machine.
    pub threads: Option<usize>,
    /// What was typed.
    pub command: Vec<String>,
}

/// A mistake with the picture that was mistaken.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownMistake {
    /// What was taken for what.
    pub mistake: Mistake,
    /// The picture as a `data:` address; none if it cannot be read any more.
    pub picture: Option<String>,
}

/// The best checkpoint of a run, measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// `val` or `train`.
    pub split: &'static str,
    /// Step of the checkpoint.
    pub step: u64,
    /// The figures.
    pub evaluation: Evaluation,
    /// The mistakes that it was surest of.
    pub mistakes: Vec<ShownMistake>,
}

/// A training image as the network sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmented {
    /// Name of the image.
    pub image: String,
    /// Its class.
    pub class: String,
    /// The picture as it is, as a `data:` address.
    pub original: String,
    /// What the recipe made of it, one for each of the first epochs.
    pub views: Vec<String>,
}

/// The images of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    /// Where they come from.
    pub description: String,
    /// Images in the training split.
    pub num_train: usize,
    /// Images in the validation split.
    pub num_val: usize,
    /// A few of them as the network sees them in training.
    pub augmented: Vec<Augmented>,
}

/// All that is known of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunReport {
    /// What it is called: its directory.
    pub name: String,
    /// Its recipe.
    pub recipe: Recipe,
    /// What it was made on.
    pub environment: Environment,
    /// Its log.
    pub history: History,
    /// The images, if they can be had.
    pub images: Option<Images>,
    /// The network, if the number of classes is known.
    pub network: Option<GhostNetConfig>,
    /// Its best checkpoint, if that and the images can be had.
    pub measured: Option<Measured>,
    /// What could not be had and why, a sentence each.
    pub notes: Vec<String>,
}

/// The report on one or several runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The runs, in the order in which they are shown.
    pub runs: Vec<RunReport>,
}

impl Report {
    /// The report as an HTML page that needs nothing beside it.
    pub fn page(&self) -> String {
        page::page(self)
    }
}

/// Whether a directory is a run.
pub fn is_run(path: &Path) -> bool {
    run_directory::recipe_file(path).is_file()
}

impl RunReport {
    /// Collects what is known of the run in the directory `path`; `data` takes the place of the images that its recipe names.
    pub fn gather(path: &Path, data: Option<PathBuf>, device: &Device) -> anyhow::Result<Self> {
        let recipe = run_directory::read_recipe(path)?;
        let mut report = Self {
            name: path.display().to_string(),
            recipe,
            environment: environment(path),
            history: History::default(),
            images: None,
            network: None,
            measured: None,
            notes: Vec::new(),
        };
        match History::read(&run_directory::metrics_file(path)) {
            Ok(history) => report.history = history,
            Err(error) => report.notes.push(format!("There are no metrics: {error}.")),
        }
        report.add_notes_on_history();
        let data = report.open(data);
        let model = report.model(path);
        let num_classes = model.as_ref().map(|model| model.card.classes.len());
        let num_classes =
            num_classes.or(data.as_ref().map(|data| data.classes.len())).or(report.recipe.model.num_classes);
        report.network = num_classes.map(|num_classes| report.recipe.model.network(num_classes));
        if let Some(data) = &data {
            report.images = Some(report.images(data));
        }
        if let (Some(data), Some(model)) = (data, model) {
            match report.measure(&data, model, device) {
                Ok(measured) => report.add_measured(measured),
                Err(error) => report.notes.push(format!("The best checkpoint could not be measured: {error:#}.")),
            }
        }
        Ok(report)
    }

    /// The card of the checkpoint that would be measured, if there is one.
    pub fn card(path: &Path) -> Option<ModelCard> {
        find_model(path).ok().and_then(|file| ModelFile::read(&file).ok()).map(|model| model.card)
    }

    fn add_notes_on_history(&mut self) {
        let History { num_unreadable, num_skipped, .. } = self.history;
        if num_unreadable > 0 {
            let lines = number::counted(num_unreadable as u64, "line");
            self.notes.push(format!("{lines} of the metrics could not be read and are left out."));
        }
        if num_skipped > 0 {
            let times =
                if num_skipped == 1 { "Once".to_string() } else { format!("{} times", number::count(num_skipped)) };
            self.notes.push(format!("{times} in the run an image that could not be decoded was left out."));
        }
    }

    /// The images, or a note.
    fn open(&mut self, data: Option<PathBuf>) -> Option<DataSet> {
        // Only other data may be a test set: those of a run that cannot be trained on any more have changed.
        let is_other = data.is_some();
        let options = plan::data_options(&mut self.recipe.clone(), data);
        let opened =
            if is_other { open_any(&options, plan::open) } else { plan::open(&options).map(|data| (data, None)) };
        match opened {
            Ok((data, note)) => {
                self.notes.extend(note.map(|note| format!("{note}.")));
                Some(data)
            }
            Err(error) => {
                self.notes.push(format!(
                    "The images could not be opened, so nothing that needs them is shown: {:#}. If they were moved, name them with \
                     `--data DIR`.",
                    error.root_cause()
                ));
                None
            }
        }
    }

    /// The best checkpoint, or a note.
    fn model(&mut self, path: &Path) -> Option<ModelFile> {
        let mut checkpoints = fs_err::read_dir(run_directory::checkpoints(path));
        if checkpoints.as_mut().map_or(true, |entries| entries.next().is_none()) {
            self.notes.push("There is no checkpoint yet, so nothing is measured.".to_string());
            return None;
        }
        match find_model(path).and_then(|file| Ok(ModelFile::read(&file)?)) {
            Ok(model) => Some(model),
            Err(error) => {
                self.notes.push(format!("There is no checkpoint that could be measured: {error:#}."));
                None
            }
        }
    }

    /// Measures a checkpoint on the images that decide in the run.
    fn measure(&mut self, data: &DataSet, model: ModelFile, device: &Device) -> anyhow::Result<Measured> {
        let (model, card) = model.into_model(device)?;
        self.notes.extend(plan::split_warning(&card, data).map(|warning| format!("Note that {warning}.")));
        let is_val = self.recipe.eval.splits.iter().any(|split| split == "val") && !data.val.is_empty();
        let (split, images) = if is_val { ("val", &data.val) } else { ("train", &data.train) };
        evaluate::refuse_one_output(&card.classes, images.as_ref())?;
        let source: Arc<dyn ImageSource> = Arc::new(Relabelled::new(Arc::clone(images), &data.classes, &card.classes)?);
        let loader = evaluate::loader(Arc::clone(&source), &card, BATCH_SIZE, OnCorrupt::Skip)?;
        let evaluator = Evaluator {
            loader: &loader,
            normalization: card.normalization,
            classes: &card.classes,
            independent_classes: card.is_sigmoid(),
            device,
        };
        let evaluation = evaluator.run(&model.fold(), &|| false)?.context("nothing was measured")?;
        let picture = |mistake: &Mistake| thumbnail::of(source.as_ref(), mistake.index);
        let mistakes = evaluation
            .surest_mistakes
            .iter()
            .map(|mistake| ShownMistake { mistake: mistake.clone(), picture: picture(mistake) })
            .collect();
        Ok(Measured { split, step: card.step, evaluation, mistakes })
    }

    fn add_measured(&mut self, measured: Measured) {
        let Evaluation { num_images, num_skipped, .. } = measured.evaluation;
        let figure = measured.evaluation.decisive();
        if num_skipped > 0 {
            let images = number::counted(num_skipped, "damaged image");
            self.notes.push(format!("{images} could not be measured on."));
        }
        let name = self.history.figure_name();
        let is_of_split = |decisive: &SplitCurves| decisive.split.trim_end_matches(EMA_SUFFIX) == measured.split;
        let best = self.history.best().filter(|_| self.history.decisive().is_some_and(is_of_split));
        if let Some(best) = best
            && (best.num_images != num_images || (best.figure - figure).abs() > SAME_FIGURE)
        {
            self.notes.push(format!(
                "Measured for this report the best checkpoint has a {name} of {} on {}; the run itself found {} on {}. The images, or \
                 some of them, are others.",
                number::percent(figure),
                number::counted(num_images, "image"),
                number::percent(best.figure),
                number::count(best.num_images)
            ));
        }
        self.measured = Some(measured);
    }

    fn images(&mut self, data: &DataSet) -> Images {
        let augmented = self.augmented(data).unwrap_or_else(|error| {
            self.notes.push(format!("The training images could not be shown: {error:#}."));
            Vec::new()
        });
        Images {
            description: data.description.clone(),
            num_train: data.train.len(),
            num_val: data.val.len(),
            augmented,
        }
    }

    /// Some training images as the recipe changes them, at the size that the run ends with, by the random choices of its first epochs.
    fn augmented(&self, data: &DataSet) -> anyhow::Result<Vec<Augmented>> {
        let Recipe { seed, data: recipe, .. } = &self.recipe;
        let pipeline = Pipeline::new(&recipe.train, recipe.image_size).context("`data.train` of the recipe")?;
        let normalization = Normalization { mean: recipe.mean, std: recipe.std };
        let show = |index: usize| -> anyhow::Result<Augmented> {
            let image = load_image(data.train.as_ref(), index)?;
            let views = (0..AUGMENTED_EPOCHS).map(|epoch| {
                let mut random = random::sample_stream(*seed, epoch, index);
                let mut view = pipeline.apply(image.clone(), &mut random);
                if let Some(erasure) = pipeline.erasure(&mut random) {
                    erase::paint(&mut view, &erasure, &normalization);
                }
                Ok(thumbnail::data_uri(view)?)
            });
            Ok(Augmented {
                image: data.train.name(index),
                class: class_names(data, index),
                views: views.collect::<anyhow::Result<_>>()?,
                original: thumbnail::data_uri(image)?,
            })
        };
        // A damaged image is passed over; that it is there is said elsewhere.
        Ok(examples(data.train.as_ref(), data.classes.len(), *seed)
            .filter_map(|index| show(index).ok())
            .take(AUGMENTED_IMAGES)
            .collect())
    }
}

/// The class of a training image, or all that it bears.
fn class_names(data: &DataSet, index: usize) -> String {
    let labels = data.train.labels(index);
    let names: Vec<&str> = labels.iter().map(|&label| data.classes[label].as_str()).collect();
    if names.is_empty() { "no class".to_string() } else { names.join(", ") }
}

/// Images of a split in the order of its first epoch, but first one of each class.
fn examples(source: &dyn ImageSource, num_classes: usize, seed: u64) -> impl Iterator<Item = usize> {
    let order = random::permutation(seed, 0, source.len());
    let mut seen = vec![false; num_classes];
    let (first, others): (Vec<usize>, Vec<usize>) =
        order.into_iter().partition(|index| !std::mem::replace(&mut seen[source.label(*index)], true));
    first.into_iter().chain(others)
}

/// What the run was made on; nothing if the file is not there or not readable.
fn environment(path: &Path) -> Environment {
    let text = fs_err::read_to_string(run_directory::environment_file(path)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
