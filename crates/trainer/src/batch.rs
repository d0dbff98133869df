//! The one place where a batch of bytes becomes tensors.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use imageset::{Batch, RgbImage};
use rayon::prelude::*;

use crate::device::is_cpu;

/// Mean and standard deviation of each channel, on the scale of 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalization {
    /// Mean of red, green and blue.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue.
    pub std: [f32; 3],
}

/// A batch of one prepared square.
pub fn of_picture(picture: RgbImage) -> Batch {
    Batch {
        pixels: picture.pixels,
        erasures: vec![None],
        labels: vec![0],
        label_sets: None,
        indices: vec![0],
        image_size: picture.width,
        skipped: Vec::new(),
    }
}

/// Uploads bytes and normalises them on the device: `(byte / 255 − mean) / std`, computed as `(byte − 255 · mean) · 1 / (255 · std)`.
///
/// # Shapes
/// - `batch.pixels`: `[batch, height, width, 3]`
/// - output: `[batch, 3, height, width]`
pub fn images(batch: Batch, normalization: &Normalization, device: &Device) -> Tensor<4> {
    let size = batch.image_size as usize;
    let shape = [batch.labels.len(), size, size, 3];
    if is_cpu(device) {
        let [batch_size, height, width, channels] = shape;
        let values = looked_up(&batch.pixels, height * width, normalization);
        return Tensor::from_data(TensorData::new(values, [batch_size, channels, height, width]), device);
    }
    let pixels = if device.supports_dtype(DType::U8) {
        Tensor::<4, Int>::from_data(TensorData::new(batch.pixels, shape), (device, DType::U8)).float()
    } else {
        words(batch.pixels, device).reshape(shape)
    };
    let images = pixels.permute([0, 3, 1, 2]); // [batch, 3, height, width]
    let channels = |values: [f32; 3]| Tensor::<1>::from_floats(values, device).reshape([1, 3, 1, 1]);
    let [mean, scale] = normalization.of_bytes();
    (images - channels(mean)) * channels(scale)
}

impl Normalization {
    /// What is taken from a byte and what the rest is multiplied by, for each channel.
    fn of_bytes(&self) -> [[f32; 3]; 2] {
        [self.mean.map(|mean| mean * 255.0), self.std.map(|std| 1.0 / (std * 255.0))]
    }
}

/// Normalised bytes from a table: on the CPU it takes half the time of the arithmetic, and its values are the same.
///
/// # Shapes
/// - `pixels`: `[batch, pixels of an image, 3]`
/// - output: `[batch, 3, pixels of an image]`
fn looked_up(pixels: &[u8], pixels_per_image: usize, normalization: &Normalization) -> Vec<f32> {
    let [mean, scale] = normalization.of_bytes();
    let tables: [[f32; 256]; 3] =
        std::array::from_fn(|channel| std::array::from_fn(|byte| (byte as f32 - mean[channel]) * scale[channel]));
    let mut values = vec![0.0; pixels.len()];
    let images = pixels.par_chunks_exact(3 * pixels_per_image).zip(values.par_chunks_exact_mut(3 * pixels_per_image));
    images.for_each(|(image, values)| {
        for (channel, plane) in values.chunks_exact_mut(pixels_per_image).enumerate() {
            for (value, pixel) in plane.iter_mut().zip(image.chunks_exact(3)) {
                *value = tables[channel][usize::from(pixel[channel])];
            }
        }
    });
    values
}

/// Uploads bytes to a device that has none, as WGSL: four travel in a word and are taken apart there.
fn words(mut bytes: Vec<u8>, device: &Device) -> Tensor<1> {
    const BITS: [i32; 4] = [0, 8, 16, 24];
    let length = bytes.len();
    bytes.resize(length.next_multiple_of(BITS.len()), 0);
    let words: Vec<i32> = bytes.as_chunks().0.iter().map(|four| i32::from_le_bytes(*four)).collect();
    let count = words.len();
    let words = Tensor::<2, Int>::from_data(TensorData::new(words, [count, 1]), (device, DType::I32));
    let bits = Tensor::<1, Int>::from_data(TensorData::from(BITS), (device, DType::I32)).unsqueeze();
    // The shift brings copies of the sign with it.
    let bytes = words.bitwise_right_shift(bits).bitwise_and_scalar(0xff).float(); // [words, 4]
    bytes.reshape([count * BITS.len()]).narrow(0, 0, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_gives_the_bits_of_the_arithmetic() {
        let pixels: Vec<u8> = (0..2 * 16 * 16 * 3).map(|index| (index * 7 % 256) as u8).collect();
        let normalization = Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
        let [mean, scale] = normalization.of_bytes();
        let found = looked_up(&pixels, 256, &normalization);
        let channels = |values: [f32; 3]| Tensor::<1>::from_floats(values, &Device::flex()).reshape([1, 3, 1, 1]);
        let bytes: Vec<f32> = pixels.into_iter().map(f32::from).collect();
        let bytes = Tensor::<4>::from_data(TensorData::new(bytes, [2, 16, 16, 3]), &Device::flex());
        let expected = (bytes.permute([0, 3, 1, 2]) - channels(mean)) * channels(scale);
        assert_eq!(found, expected.into_data().iter::<f32>().collect::<Vec<_>>());
    }

    #[test]
    fn bytes_that_travel_in_words_arrive_as_they_were() {
        let bytes: Vec<u8> = (0..=255).rev().chain(0..=254).collect();
        let expected: Vec<f32> = bytes.iter().copied().map(f32::from).collect();
        words(bytes, &Device::flex()).into_data().assert_eq(&TensorData::from(expected.as_slice()), true);
    }
}
