//! The one place where a batch of bytes becomes tensors.

use burn::tensor::{DType, Device, Tensor, TensorData};
use imageset::{Batch, RgbImage};

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
        labels: vec![0],
        label_sets: None,
        indices: vec![0],
        image_size: picture.width,
        skipped: Vec::new(),
    }
}

/// Uploads bytes, or what a device without bytes takes instead, and normalises them on the device: `(byte / 255 − mean) / std`.
///
/// # Shapes
/// - `batch.pixels`: `[batch, height, width, 3]`
/// - output: `[batch, 3, height, width]`
pub fn images(batch: Batch, normalization: &Normalization, device: &Device) -> Tensor<4> {
    let size = batch.image_size as usize;
    let shape = [batch.labels.len(), size, size, 3];
    let pixels = if device.supports_dtype(DType::U8) {
        Tensor::<4, burn::tensor::Int>::from_data(TensorData::new(batch.pixels, shape), (device, DType::U8)).float()
    } else {
        // WGSL has no bytes.
        let values: Vec<f32> = batch.pixels.into_iter().map(f32::from).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    };
    let images = pixels.permute([0, 3, 1, 2]); // [batch, 3, height, width]
    let channels = |values: [f32; 3]| Tensor::<1>::from_floats(values, device).reshape([1, 3, 1, 1]);
    let mean = channels(normalization.mean.map(|mean| mean * 255.0));
    let scale = channels(normalization.std.map(|std| 1.0 / (std * 255.0)));
    (images - mean) * scale
}
