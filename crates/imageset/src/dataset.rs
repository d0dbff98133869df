//! The bridge to `burn-dataset`, both ways: our sources as its [`Dataset`], and its data sets as our sources.

use std::sync::Arc;

use burn_dataset::{Dataset, DatasetError};

use crate::image::RgbImage;
use crate::source::{EncodedImage, ImageSource, SourceError, load_image};

/// One decoded image with its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageItem {
    /// The picture.
    pub image: RgbImage,
    /// Its class number.
    pub label: usize,
    /// Its name in the source.
    pub name: String,
}

/// A source as a [`Dataset`] of decoded images.
#[derive(Clone)]
pub struct SourceDataset {
    source: Arc<dyn ImageSource>,
}

impl SourceDataset {
    /// The images of `source`.
    pub fn new(source: Arc<dyn ImageSource>) -> Self {
        Self { source }
    }
}

impl Dataset<ImageItem> for SourceDataset {
    fn get(&self, index: usize) -> Result<ImageItem, DatasetError> {
        // The trait asks for a panic here: an error is for images that exist.
        assert!(index < self.source.len(), "image {index} of {}", self.source.len());
        let name = self.source.name(index);
        let image = load_image(self.source.as_ref(), index)
            .map_err(|error| DatasetError::new(ItemError { name: name.clone(), reason: error.to_string() }))?;
        Ok(ImageItem { image, label: self.source.label(index), name })
    }

    fn len(&self) -> usize {
        self.source.len()
    }
}

/// Our error in the ecosystem's box, with the name that the box does not have.
#[derive(Debug, thiserror::Error)]
#[error("cannot load `{name}`: {reason}")]
struct ItemError {
    name: String,
    reason: String,
}

/// Any [`Dataset`] as a source, given how an item becomes a picture and a label.
///
/// The labels are read once, in [`BurnDataset::new`], since a source gives them without reading the image.
pub struct BurnDataset<I, D> {
    dataset: D,
    name: String,
    picture: Box<dyn Fn(I) -> (RgbImage, usize) + Send + Sync>,
    labels: Vec<usize>,
}

impl<I, D: Dataset<I>> BurnDataset<I, D> {
    /// Wraps `dataset`, which messages call `name`.
    ///
    /// # Errors
    ///
    /// [`SourceError::Foreign`] if an item cannot be read.
    pub fn new(
        dataset: D,
        name: impl Into<String>,
        picture: impl Fn(I) -> (RgbImage, usize) + Send + Sync + 'static,
    ) -> Result<Self, SourceError> {
        let labels =
            (0..dataset.len()).map(|index| Ok(picture(get(&dataset, index)?).1)).collect::<Result<_, SourceError>>()?;
        Ok(Self { dataset, name: name.into(), picture: Box::new(picture), labels })
    }
}

fn get<I>(dataset: &impl Dataset<I>, index: usize) -> Result<I, SourceError> {
    dataset.get(index).map_err(|error| SourceError::Foreign { index, reason: error.to_string() })
}

impl<I, D: Dataset<I>> ImageSource for BurnDataset<I, D> {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> usize {
        self.labels[index]
    }

    fn name(&self, index: usize) -> String {
        format!("{}#{index}", self.name)
    }

    fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
        Ok(EncodedImage::Rgb((self.picture)(get(&self.dataset, index)?).0))
    }
}

#[cfg(test)]
mod tests {
    use burn_dataset::InMemDataset;

    use super::*;
    use crate::loader::{Loader, LoaderConfig};
    use crate::source::{DataSet, OpenOptions, SourceKind};
    use crate::transform::{Pipeline, Transform};

    #[test]
    fn a_source_is_a_burn_dataset() {
        let options = OpenOptions { kind: SourceKind::FashionMnistSample, ..OpenOptions::default() };
        let sample = DataSet::open(&options).unwrap();
        let dataset = SourceDataset::new(Arc::clone(&sample.val));
        assert_eq!(dataset.len(), 600);
        let item = dataset.get(599).unwrap();
        assert_eq!((item.label, item.image.width, item.image.height), (9, 28, 28));
        assert_eq!(item.name, sample.val.name(599));
        assert_eq!(dataset.iter().count(), 600);
    }

    #[test]
    fn a_burn_dataset_of_images_can_be_loaded() {
        let dataset = InMemDataset::new((0u8..10).collect());
        let picture = |level: u8| (RgbImage::filled(4, 4, [level; 3]), usize::from(level % 3));
        let source = BurnDataset::new(dataset, "levels", picture).unwrap();
        assert_eq!((source.len(), source.label(5), source.name(5)), (10, 2, "levels#5".to_owned()));
        let pipeline = Pipeline::new(&[Transform::CenterCrop { size: None }], 2).unwrap();
        let config = LoaderConfig { batch_size: 4, ..LoaderConfig::default() };
        let loader = Loader::new(Arc::new(source), pipeline, config).unwrap();
        let batches: Vec<_> = loader.epoch(0, 0).map(Result::unwrap).collect();
        assert_eq!(batches.len(), 3);
        assert_eq!(batches[2].labels, [2, 0]);
        assert_eq!(batches[2].pixels[..12], [8; 12]);
    }
}
