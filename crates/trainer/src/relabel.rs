//! Images labelled in the order of a model's classes rather than of their own data set: a set may lack some of the classes that a
//! model knows, or have been put together elsewhere.

use std::sync::Arc;

use imageset::{EncodedImage, ImageSource, SourceError};

/// A class of the data that the model was not trained on.
#[derive(Debug, thiserror::Error)]
#[error(
    "class `{class}` of the data is not known to the model, whose classes are {}\n\n\
     hint: weights of another program may lack names: give them with `--classes`",
    shown(known)
)]
pub struct UnknownClass {
    /// The class.
    pub class: String,
    /// The model's classes.
    pub known: Vec<String>,
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
    /// Matches the classes of the data with those of the model by name.
    pub fn new(source: Arc<dyn ImageSource>, data: &[String], model: &[String]) -> Result<Self, UnknownClass> {
        let labels = data
            .iter()
            .map(|class| {
                let label = model.iter().position(|known| known == class);
                label.ok_or_else(|| UnknownClass { class: class.clone(), known: model.to_vec() })
            })
            .collect::<Result<Vec<_>, _>>()?;
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
