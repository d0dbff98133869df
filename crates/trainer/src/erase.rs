//! Random erasing: boxes of normalised images are painted over on the device. It comes after Mixup and CutMix, as where timm's
//! training script loads ahead.

use burn::tensor::{DType, Int, Tensor, TensorData};
use imageset::{Erasure, RgbImage};

use crate::batch::Normalization;
use crate::device::is_cpu;

/// Paints over what was drawn for each image.
///
/// # Shapes
/// - `images`: `[batch, 3, height, width]`, output the same
/// - `erasures`: `[batch]`
///
/// # Panics
///
/// If there are not as many erasures as images.
pub fn erase(images: Tensor<4>, erasures: &[Option<Erasure>]) -> Tensor<4> {
    assert_eq!(erasures.len(), images.dims()[0], "an entry for each image");
    if erasures.iter().all(Option::is_none) {
        images
    } else if is_cpu(&images.device()) {
        painted(images, erasures)
    } else {
        selected(images, erasures)
    }
}

/// Paints a picture as it looks where its normalisation is undone, to be shown; colours beyond black and white are cut off there.
pub fn paint(picture: &mut RgbImage, erasure: &Erasure, normalization: &Normalization) {
    let Normalization { mean, std } = normalization;
    let level = |color: [f32; 3], channel: usize| {
        (255.0 * (mean[channel] + std[channel] * color[channel])).round().clamp(0.0, 255.0) as u8
    };
    for row in 0..erasure.height {
        for column in 0..erasure.width {
            let pixel = (erasure.top + row) as usize * picture.width as usize + (erasure.left + column) as usize;
            let color = erasure.color(row, column);
            picture.pixels[pixel * 3..][..3].copy_from_slice(&[0, 1, 2].map(|channel| level(color, channel)));
        }
    }
}

/// In memory, where nothing but the boxes is touched.
fn painted(images: Tensor<4>, erasures: &[Option<Erasure>]) -> Tensor<4> {
    let [_, channels, height, width] = images.dims();
    let device = images.device();
    let mut data = images.into_data();
    let images = data.as_mut_slice::<f32>().expect("normalised images are f32");
    for (image, erasure) in images.chunks_exact_mut(channels * height * width).zip(erasures) {
        let Some(erasure) = erasure else { continue };
        for (channel, plane) in image.chunks_exact_mut(height * width).enumerate() {
            for row in 0..erasure.height {
                let start = (erasure.top + row) as usize * width + erasure.left as usize;
                for (column, value) in (0..).zip(&mut plane[start..start + erasure.width as usize]) {
                    *value = erasure.color(row, column)[channel];
                }
            }
        }
    }
    Tensor::from_data(data, &device)
}

/// By a few operations over the whole batch, however many boxes there are: each pixel looks up its colour.
fn selected(images: Tensor<4>, erasures: &[Option<Erasure>]) -> Tensor<4> {
    const NUMBERS: usize = 7;
    let [batch, channels, height, width] = images.dims();
    let device = images.device();
    let mut colors: Vec<f32> = Vec::new();
    let mut boxes: Vec<i32> = Vec::with_capacity(batch * NUMBERS);
    for erasure in erasures {
        let Some(erasure) = erasure else {
            // No pixel is inside a box of no rows.
            boxes.extend([0; NUMBERS]);
            continue;
        };
        let [row_stride, column_stride] = erasure.strides().map(|stride| stride as i32);
        let [top, left, height, width] =
            [erasure.top, erasure.left, erasure.height, erasure.width].map(|pixels| pixels as i32);
        boxes.extend([top, left, height, width, (colors.len() / channels) as i32, row_stride, column_stride]);
        colors.extend(erasure.colors.as_flattened());
    }
    let boxes = Tensor::<2, Int>::from_data(TensorData::new(boxes, [batch, NUMBERS]), (&device, DType::I32));
    let [top, left, rows, columns, start, row_stride, column_stride] =
        std::array::from_fn(|number| boxes.clone().narrow(1, number, 1).reshape([batch, 1, 1]));
    let counted = |end: usize| Tensor::<1, Int>::arange(0..end as i64, (&device, DType::I32));
    let row = counted(height).reshape([1, height, 1]) - top; // [batch, height, 1]
    let column = counted(width).reshape([1, 1, width]) - left; // [batch, 1, width]
    let in_rows = row.clone().greater_equal_elem(0).bool_and(row.clone().lower(rows));
    let in_columns = column.clone().greater_equal_elem(0).bool_and(column.clone().lower(columns));
    let is_inside = in_rows.expand([batch, height, width]).bool_and(in_columns.expand([batch, height, width]));
    let index = start + row * row_stride + column * column_stride; // [batch, height, width]
    let index = index.mask_fill(is_inside.clone().bool_not(), 0).reshape([batch * height * width]);
    let num_colors = colors.len() / channels;
    let colors = Tensor::<2>::from_data(TensorData::new(colors, [num_colors, channels]), &device).select(0, index);
    let colors = colors.reshape([batch, height, width, channels]).permute([0, 3, 1, 2]);
    images.mask_where(is_inside.unsqueeze_dim::<4>(1).expand([batch, channels, height, width]), colors)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn boxes_are_painted_and_nothing_else_whichever_way_the_device_takes() {
        let noise = |count: usize| (0..count).map(|index| [0.5, 1.5, 2.5].map(|value| value + index as f32)).collect();
        let erasures = [
            None,
            Some(Erasure { top: 1, left: 2, height: 2, width: 3, colors: noise(6) }),
            Some(Erasure { top: 0, left: 0, height: 4, width: 1, colors: vec![[0.0; 3]] }),
            Some(Erasure { top: 3, left: 4, height: 1, width: 1, colors: noise(1) }),
            None,
        ];
        let values: Vec<f32> = (0..5 * 3 * 4 * 5).map(|index| -1.0 - index as f32).collect();
        let mut expected = values.clone();
        for (image, erasure) in erasures.iter().enumerate() {
            let Some(erasure) = erasure else { continue };
            for (row, column, channel) in
                (0..erasure.height).flat_map(|y| (0..erasure.width).flat_map(move |x| (0..3).map(move |c| (y, x, c))))
            {
                let pixel = (erasure.top + row) as usize * 5 + (erasure.left + column) as usize;
                let number = if erasure.colors.len() == 1 { 0 } else { row * erasure.width + column };
                expected[(image * 3 + channel) * 20 + pixel] = erasure.colors[number as usize][channel];
            }
        }
        let images = || Tensor::<4>::from_data(TensorData::new(values.clone(), [5, 3, 4, 5]), &Device::flex());
        let expected = TensorData::new(expected, [5, 3, 4, 5]);
        erase(images(), &erasures).into_data().assert_eq(&expected, true);
        selected(images(), &erasures).into_data().assert_eq(&expected, true);
        erase(images(), &[const { None }; 5]).into_data().assert_eq(&images().into_data(), true);
        // What else holds the images keeps them.
        let kept = images();
        erase(kept.clone(), &erasures).into_data().assert_eq(&expected, true);
        kept.into_data().assert_eq(&images().into_data(), true);
    }

    #[test]
    fn a_painted_picture_has_the_colours_that_normalisation_hides() {
        let mut picture = RgbImage::filled(4, 3, [9; 3]);
        let normalization = Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
        let colors = vec![[0.0; 3], [1.0, -1.0, 9.0]];
        paint(&mut picture, &Erasure { top: 1, left: 2, height: 1, width: 2, colors }, &normalization);
        let painted = [[124, 116, 104], [182, 59, 255]];
        for (at, pixel) in picture.pixels.chunks_exact(3).enumerate() {
            let expected = if (6..8).contains(&at) { painted[at - 6] } else { [9; 3] };
            assert_eq!(pixel, expected, "pixel {at}");
        }
    }
}
