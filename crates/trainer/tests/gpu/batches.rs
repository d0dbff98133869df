//! What is done to a batch on the way to the network: upload, normalisation, mixing, erasing.

use burn::tensor::Device;
use imageset::{Batch, Erasure};
use trainer::batch::{self, Normalization};
use trainer::erase::erase;
use trainer::loss::one_hot;
use trainer::mix::{BatchMix, Mix, PixelBox};

use crate::{assert_close, gpu};

/// Pixels of a side: rows of bytes that fill no whole number of words.
const SIZE: usize = 27;

const NUM_IMAGES: usize = 5;

/// Of every kind: a colour for each pixel, one for all of them, the mean; over the whole image, in its last pixel, none.
fn erasures() -> Vec<Option<Erasure>> {
    let colors = |count: u32| (0..count).map(|at| [0.0, 0.25, -0.5].map(|color| color + at as f32)).collect();
    vec![
        Some(Erasure { top: 3, left: 20, height: 9, width: 7, colors: colors(63) }),
        None,
        Some(Erasure { top: 26, left: 26, height: 1, width: 1, colors: colors(1) }),
        Some(Erasure { top: 0, left: 0, height: 27, width: 27, colors: vec![[1.5, -1.5, 0.5]] }),
        Some(Erasure { top: 1, left: 0, height: 2, width: 26, colors: vec![[0.0; 3]] }),
    ]
}

#[test]
fn images_are_normalised_mixed_and_erased_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let pixels: Vec<u8> = (0..NUM_IMAGES * SIZE * SIZE * 3).map(|at| (at * 89 % 256) as u8).collect();
    let normalization = Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    let cut = Mix::cut(PixelBox { top: 2, bottom: 13, left: 5, right: 27 }, SIZE, SIZE);
    for mix in [Mix::None, Mix::Mixup { share: 0.3 }, cut] {
        let prepared = |device: &Device, erasures: &[Option<Erasure>]| {
            let batch = Batch {
                pixels: pixels.clone(),
                erasures: erasures.to_vec(),
                labels: vec![0; NUM_IMAGES],
                label_sets: None,
                indices: (0..NUM_IMAGES).collect(),
                image_size: SIZE as u32,
                skipped: Vec::new(),
            };
            let targets = one_hot(&batch.labels, 3, 0.1, device);
            let images = batch::images(batch, &normalization, device);
            let (images, _) = BatchMix::Whole(mix).apply(images, targets);
            erase(images, erasures).into_data()
        };
        let [found, expected] = [&gpu, &Device::flex()].map(|device| prepared(device, &erasures()));
        assert_close(&format!("images after {mix:?}"), &found, &expected, 0.0, 1e-6);
        let whole = prepared(&Device::flex(), &vec![None; NUM_IMAGES]);
        let values = found.iter::<f32>().zip(expected.iter::<f32>()).zip(whole.iter::<f32>());
        let erased: Vec<_> = values.filter(|((_, expected), whole)| expected != whole).collect();
        assert_eq!(erased.len(), 3 * (63 + 1 + 27 * 27 + 2 * 26), "every pixel of the boxes");
        assert!(erased.iter().all(|((found, expected), _)| found == expected), "colours arrive to the bit");
    }
}
