//! The data set that is built into the program, so that training works right after installing: 3,600 images of Fashion-MNIST.
//!
//! `datasets/fashion-mnist-sample/README.md` says how it was drawn; `examples/draw_fashion_mnist_sample.rs` draws it again.

use std::path::PathBuf;

use crate::class_list::ClassList;
use crate::idx::{self, IdxPair};
use crate::source::{DataSet, OpenOptions, SourceError};

macro_rules! embedded {
    ($name:literal) => {
        (
            PathBuf::from(concat!("fashion-mnist-sample/", $name)),
            include_bytes!(concat!("../../../datasets/fashion-mnist-sample/", $name)).as_slice(),
        )
    };
}

/// The sample with its own split.
pub(crate) fn open() -> Result<DataSet, SourceError> {
    let train = IdxPair::read(embedded!("train-images-idx3-ubyte.gz"), embedded!("train-labels-idx1-ubyte.gz"))?;
    let val = IdxPair::read(embedded!("val-images-idx3-ubyte.gz"), embedded!("val-labels-idx1-ubyte.gz"))?;
    let (path, names) = embedded!("classes.txt");
    let classes = ClassList::parse(&path, names)?.into_names();
    let what = "built-in sample of Fashion-MNIST";
    idx::build(classes, &train, Some(&val), what, &OpenOptions::default())
}

#[cfg(test)]
mod tests {
    use hmac_sha256::Hash;

    use super::*;
    use crate::source::{EncodedImage, ImageSource};

    fn checksum(split: &dyn ImageSource) -> String {
        let mut hasher = Hash::new();
        for index in 0..split.len() {
            let EncodedImage::Rgb(image) = split.read(index).unwrap() else {
                panic!("the sample is stored as pixels");
            };
            let gray: Vec<u8> = image.pixels.chunks_exact(3).map(|pixel| pixel[0]).collect();
            hasher.update(&gray);
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The checksums are those of the rule in the sample's README.
    #[test]
    fn the_sample_is_the_one_that_its_rule_describes() {
        let sample = open().unwrap();
        assert_eq!((sample.train.len(), sample.val.len()), (3000, 600));
        assert_eq!(checksum(sample.train.as_ref()), "8873cbca6f114722a4a621181591af094df14cb32eb4f4e064690ca4cf071a07");
        assert_eq!(checksum(sample.val.as_ref()), "eb7c4fb964f33f5e33aff10e0e3e6d4e73be3dd0fec6afc6622776a634b08ed3");
    }

    #[test]
    fn the_sample_is_balanced_and_in_label_order() {
        let sample = open().unwrap();
        let names = "t-shirt-top trouser pullover dress coat sandal shirt sneaker bag ankle-boot";
        assert!(sample.classes.iter().map(String::as_str).eq(names.split(' ')));
        assert!((0..3000).all(|index| sample.train.label(index) == index / 300));
        assert!((0..600).all(|index| sample.val.label(index) == index / 60));
        assert_eq!(sample.warnings, Vec::<String>::new());
    }
}
