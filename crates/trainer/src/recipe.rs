//! The recipe of a run: what a person writes in a TOML file, as plain data.
//!
//! What changes the result of a run is in its recipe; paths and devices are flags of the command line. A recipe is read
//! alone: nothing is included or inherited, and every default is in the section's own file. A key that is not known is
//! an error, so that a typing slip never trains with a default in silence.
//!
//! The way of a recipe: [`load`] finds the text, applies the `--set` arguments, parses it, checks the ranges of its
//! values and writes out the defaults. What depends on the data (steps in an epoch, classes) is left to the plan.

mod assignment;
mod built_in;
mod checkpoint;
mod data;
mod difference;
mod distill;
mod document;
mod error;
mod eval;
#[cfg(test)]
pub(crate) mod example;
mod finetune;
mod model;
mod optimizer;
mod schedule;
mod spelling;
mod text;
mod train;
mod violation;

use std::path::{Path, PathBuf};

use imageset::{OnCorrupt, Sampling};
use serde::{Deserialize, Serialize};
use toml_edit::Document;

pub use self::built_in::BUILT_IN;
pub use self::checkpoint::Checkpoint;
pub use self::data::Data;
pub use self::distill::Distill;
pub use self::error::{RecipeError, Shown};
pub use self::eval::Eval;
pub use self::finetune::{Finetune, MOST_FROZEN_STAGES};
pub use self::model::Model;
pub use self::optimizer::{Optimizer, OptimizerKind};
pub use self::schedule::{Noise, Schedule, ScheduleKind};
pub use self::train::{Bce, ClassWeights, Ema, Mix, Precision, Stage, Train};

use self::assignment::Assignment;
use self::document::Place;
use self::error::Fault;
use self::violation::{Violation, require};

/// All that decides the result of a run. Required sections: `data`, `train` and `optimizer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// All random numbers of the run derive from it.
    #[serde(default)]
    pub seed: u64,
    /// Which network is built.
    #[serde(default)]
    pub model: Model,
    /// Where images come from and what is done to them.
    pub data: Data,
    /// How long is trained, on which targets, and how a step is taken.
    pub train: Train,
    /// How a gradient becomes a change of the weights.
    pub optimizer: Optimizer,
    /// How the learning rate changes over the run.
    #[serde(default)]
    pub schedule: Schedule,
    /// How a network that was trained before is taught other images; a network starts from random weights if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetune: Option<Finetune>,
    /// Another network to learn from beside the labels; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<Distill>,
    /// When the run is saved.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// When the network is measured, and on what.
    #[serde(default)]
    pub eval: Eval,
}

/// A recipe and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The recipe, checked, with the defaults written out.
    pub recipe: Recipe,
    /// The file that was read; none for a built-in recipe.
    pub path: Option<PathBuf>,
    /// What to call it in messages: the file, or the name of the built-in recipe.
    pub name: String,
}

/// Finds a recipe, applies the `--set` arguments, and checks it.
///
/// The name is looked up as a path, then in the folder `configs`, then among [`BUILT_IN`].
pub fn load(name_or_path: &str, sets: &[String]) -> Result<Loaded, RecipeError> {
    let mut tried = Vec::new();
    for path in [PathBuf::from(name_or_path), Path::new("configs").join(name_or_path)] {
        // Anything but a folder: the recipe may come through a pipe.
        if path.exists() && !path.is_dir() {
            let name = path.display().to_string();
            let text =
                fs_err::read_to_string(&path).map_err(|source| RecipeError::Read { name: name.clone(), source })?;
            let recipe = parse(&name, &text, sets)?;
            return Ok(Loaded { recipe, path: Some(path), name });
        }
        tried.push(path.display().to_string());
    }
    // An absolute path is the same in every folder.
    tried.dedup();
    match BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
        Some(&(name, text)) => Ok(Loaded { recipe: parse(name, text, sets)?, path: None, name: name.to_owned() }),
        None => Err(RecipeError::NotFound {
            name: name_or_path.to_owned(),
            tried,
            built_in: BUILT_IN.iter().map(|&(name, _)| name).collect(),
        }),
    }
}

/// Reads the text of a recipe, called `name` in messages, with the `--set` arguments applied, and checks it.
pub fn parse(name: &str, text: &str, sets: &[String]) -> Result<Recipe, RecipeError> {
    let invalid = |text: &str, fault: &Fault, sets: &[String]| RecipeError::Invalid {
        name: name.to_owned(),
        sets: sets.to_vec(),
        fault: fault.show(text),
    };
    let assignments = sets.iter().map(|set| Assignment::parse(set)).collect::<Result<Vec<_>, _>>()?;
    if assignments.is_empty() {
        return read(text).map_err(|fault| invalid(text, &fault, &[]));
    }
    let mut document = match Document::parse(text) {
        Ok(document) => document.into_mut(),
        Err(error) => {
            let fault = Fault { span: error.span(), message: error.message().to_owned() };
            return Err(invalid(text, &fault, &[]));
        }
    };
    for assignment in &assignments {
        assignment.apply(&mut document)?;
    }
    let edited = document.to_string();
    read(&edited).map_err(|fault| {
        let blamed = assignments.iter().rev().find_map(|assignment| assignment.blame(text, &edited, &fault));
        // A fault that the file has anyway is shown with the file's own line numbers.
        blamed.unwrap_or_else(|| match read(text) {
            Err(fault) => invalid(text, &fault, &[]),
            Ok(_) => invalid(&edited, &fault, sets),
        })
    })
}

/// Parses, checks, and writes out the defaults.
fn read(text: &str) -> Result<Recipe, Fault> {
    let mut recipe: Recipe = toml::from_str(text).map_err(|error| {
        let message = error.message();
        // What is missing at the top is a section, and its place would be the whole file.
        match error.span().filter(|span| span.end > 0 && *span != (0..text.len())) {
            None => Fault { span: None, message: message.replace("missing field", "missing section") },
            span => Fault { span, message: message.to_owned() },
        }
    })?;
    recipe.check().map_err(|violation| violation_fault(text, violation))?;
    recipe.optimizer.fill();
    recipe.schedule.fill();
    Ok(recipe)
}

fn violation_fault(text: &str, violation: Violation) -> Fault {
    let Violation { key, names_key, message } = violation;
    let path: Vec<&str> = key.split('.').collect();
    let document = Document::parse(text).ok();
    // A default can be at fault together with another key; then the nearest section that is written is shown.
    let span = document.and_then(|document| {
        (1..=path.len()).rev().find_map(|depth| {
            let place = Place::find(&document, &path[..depth])?;
            if names_key || depth < path.len() { place.key } else { place.value }
        })
    });
    Fault { span, message }
}

/// Whether a key need not be written: one that came later leaves the recipes of before, and their hashes, as they were.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Recipe {
    /// The first value that cannot be meant.
    fn check(&self) -> Result<(), Violation> {
        self.model.check()?;
        self.data.check()?;
        self.train.check()?;
        self.model.check_image_size(self.data.image_size, "data.image_size")?;
        for (index, stage) in self.train.stage.iter().enumerate() {
            self.model.check_image_size(stage.image_size, &format!("train.stage.{index}.image_size"))?;
        }
        self.optimizer.check()?;
        self.schedule.check(self)?;
        self.finetune.as_ref().map_or(Ok(()), Finetune::check)?;
        self.distill.as_ref().map_or(Ok(()), Distill::check)?;
        self.checkpoint.check()?;
        let is_balanced_twice =
            self.train.class_weights == ClassWeights::Balanced && self.data.sampling == Sampling::Balanced;
        require(!is_balanced_twice, "train.class_weights", || {
            "`class_weights` and `data.sampling` are both `balanced`: either one is enough, and both make rare classes count twice"
                .to_owned()
        })?;
        self.eval.check()?;
        let ends_before_a_decay = self.schedule.kind == ScheduleKind::Plateau
            && self.eval.patience.is_some_and(|patience| patience <= self.schedule.patience());
        require(!ends_before_a_decay, "eval.patience", || {
            let patience = self.schedule.patience();
            format!("`patience` must be above `schedule.patience`, {patience}, or the run ends before the rate falls")
        })?;
        require(self.seed <= i64::MAX as u64, "seed", || format!("`seed` must be at most {}", i64::MAX))
    }

    /// The rate that the schedule starts from, scaled to the images of a step if the recipe asks for that.
    pub fn learning_rate(&self) -> f64 {
        self.optimizer.learning_rate * self.learning_rate_scale()
    }

    /// What the recipe's rate is multiplied by for the images of a step.
    pub fn learning_rate_scale(&self) -> f64 {
        let images = self.data.batch_size * self.train.accumulate;
        self.optimizer.lr_per.map_or(1.0, |per| images as f64 / per as f64)
    }

    /// The recipe without what does not change the steps of a run: `data.workers`, `data.path`, `finetune.weights`
    /// and `distill.teacher` (a run remembers what is in the files), `train.checkpoint_activations`, `train.audit_every`, when the run is saved, and `data.on_corrupt`, since a run that met a damaged image and did not skip it has ended there.
    pub fn identity(&self) -> Self {
        let mut recipe = self.clone();
        recipe.data.workers = None;
        recipe.data.path = None;
        if let Some(finetune) = &mut recipe.finetune {
            finetune.weights = None;
        }
        if let Some(distill) = &mut recipe.distill {
            distill.teacher = None;
        }
        recipe.data.on_corrupt = OnCorrupt::default();
        recipe.train.checkpoint_activations = false;
        recipe.train.audit_every = None;
        recipe.checkpoint = Checkpoint::default();
        recipe
    }

    /// The name of the recipe's result: the BLAKE3 hash, in hexadecimal, of the text of its [identity](Self::identity).
    pub fn hash(&self) -> String {
        blake3::hash(self.identity().to_toml().as_bytes()).to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::example::{SMALL, set, small};
    use super::*;
    use crate::duration::Duration;

    #[test]
    fn the_published_recipe_takes_a_thousand_and_twenty_four_images_a_step() -> Result<(), RecipeError> {
        let recipe = load("imagenet/ghostnet_1x.toml", &[])?.recipe;
        assert_eq!(recipe.data.batch_size * recipe.train.accumulate, 1024);
        assert_eq!(recipe.train.total, Duration::Epochs(400.0));
        assert_eq!((recipe.optimizer.momentum(), recipe.optimizer.nesterov()), (0.9, true));
        Ok(())
    }

    #[test]
    fn a_recipe_is_found_by_its_path_and_by_its_name() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("mine.toml");
        fs_err::write(&path, SMALL)?;
        let loaded = load(&path.display().to_string(), &["seed=7".to_owned()])?;
        assert_eq!(loaded.path.as_deref(), Some(path.as_path()));
        assert_eq!(loaded.recipe, Recipe { seed: 7, ..small() });
        assert_eq!(load("ghostnet_1x.toml", &[])?.name, "ghostnet_1x.toml");
        Ok(())
    }

    #[test]
    fn attention_wants_images_that_leave_something_to_halve() {
        let refused = |sets: &[&str]| set(sets).expect_err("too small").to_string();
        let v2 = "model.variant=ghostnetv2";
        let message = "`image_size` must be 33 pixels or more for `ghostnetv2` with a stem stride of 2, but is 32";
        assert!(refused(&[v2, "data.image_size=32"]).contains(message));
        let stage = "train.stage=[{until={steps=10},image_size=32}]";
        assert!(refused(&[v2, stage]).contains(message));
        assert!(set(&[v2, "data.image_size=32", "model.stem_stride=1"]).is_ok());
        assert!(set(&["data.image_size=32"]).is_ok());
    }

    #[test]
    fn workers_and_path_are_no_part_of_the_identity() -> Result<(), RecipeError> {
        let here = set(&["data.workers=1", "data.path=/a"])?;
        let there = set(&["data.workers=8", "data.path=/b"])?;
        assert_ne!(here, there);
        assert_eq!(here.identity(), there.identity());
        assert_eq!(here.hash(), there.hash());
        assert_eq!(here.hash().len(), 64);
        assert_ne!(here.hash(), set(&["seed=1"])?.hash());
        Ok(())
    }
}
