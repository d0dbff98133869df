//! Images labelled in the order of a model's classes rather than of their own data set: a set may lack some of the classes that a
//! model knows, or have been put together elsewhere.

use std::sync::Arc;

use imageset::name::normal;
use imageset::{DecodeLimits, EncodedImage, ImageSource, SourceError};

use crate::import::are_numbered;

/// A class of the data that the model was not trained on.
#[derive(Debug, thiserror::Error)]
#[error(
    "class `{class}` of the data is not known to the model, whose classes are {}\n\nhint: {}",
    shown(known),
    next_step(class, known)
)]
pub struct UnknownClass {
    /// The class.
    pub class: String,
    /// The model's classes.
    pub known: Vec<String>,
}

/// What to do about a class that is not known.
fn next_step(class: &str, known: &[String]) -> String {
    let alike = known.iter().find(|known| known.to_lowercase() == class.to_lowercase());
    match alike {
        Some(known) => format!("call it `{known}` in the data too"),
        None if are_numbered(known) => "the model's classes have no names: give them with `--classes FILE`".to_string(),
        None => format!("`--leave-out '{class}'` leaves out the images of a folder or split with this name"),
    }
}

/// The names, or the first of many.
fn shown(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let first: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more > 0 { format!("{} and {more} more", first.join(", ")) } else { first.join(", ") }
}

/// A split with the labels of a model.
pub struct Relabelled {
    source: Arc<dyn ImageSource>,
    /// By label in the source.
    labels: Vec<usize>,
}

impl Relabelled {
    /// Matches the classes of the data with those of the model by name. Classes without images need not match.
    pub fn new(source: Arc<dyn ImageSource>, data: &[String], model: &[String]) -> Result<Self, UnknownClass> {
        let mut has_images = vec![false; data.len()];
        for index in 0..source.len() {
            source.labels(index).into_iter().for_each(|label| has_images[label] = true);
        }
        let normal: Vec<String> = model.iter().map(|class| normal(class)).collect();
        let label = |(class, has_images): (&String, bool)| {
            // A name as it is comes before one that is only written in another form of Unicode.
            let exact = model.iter().position(|known| known == class);
            let alike = || {
                let class = self::normal(class);
                normal.iter().position(|known| *known == class)
            };
            match exact.or_else(alike) {
                Some(label) => Ok(label),
                None if has_images => Err(UnknownClass { class: class.clone(), known: model.to_vec() }),
                None => Ok(0),
            }
        };
        let labels = data.iter().zip(has_images).map(label).collect::<Result<_, _>>()?;
        Ok(Self { source, labels })
    }
}

impl ImageSource for Relabelled {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn label(&self, index: usize) -> usize {
        self.labels[self.source.label(index)]
    }

    fn labels(&self, index: usize) -> Vec<usize> {
        self.source.labels(index).into_iter().map(|label| self.labels[label]).collect()
    }

    fn is_multi_label(&self) -> bool {
        self.source.is_multi_label()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn limits(&self) -> DecodeLimits {
        self.source.limits()
    }

    fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
        self.source.read(index)
    }
}

#[cfg(test)]
mod tests {
    use imageset::{DataSet, OpenOptions, SourceKind};

    use super::*;

    #[test]
    fn labels_follow_the_models_order_and_an_unknown_class_is_named() {
        let options = OpenOptions { kind: SourceKind::FashionMnistSample, ..OpenOptions::default() };
        let DataSet { classes, val, .. } = DataSet::open(&options).expect("the sample is built in");
        let reversed: Vec<String> = classes.iter().rev().cloned().collect();
        let relabelled = Relabelled::new(Arc::clone(&val), &classes, &reversed).expect("the same classes");
        assert!((0..val.len()).all(|index| relabelled.label(index) == 9 - val.label(index)));
        let error = Relabelled::new(val, &classes, &classes[..9]).err().expect("one is missing");
        assert_eq!(error.class, classes[9]);
    }
}
