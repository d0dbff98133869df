//! From the coefficients of a JPEG file to its pixels: cosine transform, upsampling, colours.
//!
//! The cosine transform is `zune-jpeg`'s. Each component is rewritten as gray JPEG files of one scan, a few rows of blocks
//! each, which is the kind of file that any decoder reads; a block is transformed by itself, so the seams do not show. What
//! `zune-jpeg` gets wrong comes after the transform, and is done here as libjpeg-turbo does it.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::jpeg_coefficients::{BLOCK, ComponentCoefficients, most_sampled};
use super::jpeg_header::{Component, JpegHeader};

/// What the components of a file mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Color {
    Gray,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

/// Strict, because a file that ends too early is an error; the limits are ours to check, with a better message.
pub(super) fn decoder_options() -> DecoderOptions {
    DecoderOptions::default().set_strict_mode(true).set_max_width(usize::MAX).set_max_height(usize::MAX)
}

/// Samples of one component.
struct Plane {
    width: usize,
    height: usize,
    /// `[height, width]`, row by row.
    samples: Vec<u8>,
    upsampling: Upsampling,
}

/// How a component comes to the size of the picture (libjpeg-turbo, jdsample.c, `jinit_upsampler`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upsampling {
    /// It has that size.
    None,
    /// Samples are repeated.
    Repeat { horizontal: usize, vertical: usize },
    /// Between two columns: three parts of the nearer one and one of the other.
    Columns,
    /// The same between two rows.
    Rows,
    /// The same in both directions.
    ColumnsAndRows,
}

impl Upsampling {
    /// How a component with `width` columns is upsampled. [`None`] for ratios that are not whole numbers, which libjpeg refuses.
    fn of(component: Component, most: (usize, usize), width: usize) -> Option<Self> {
        let (horizontal, vertical) = (usize::from(component.horizontal), usize::from(component.vertical));
        if !most.0.is_multiple_of(horizontal) || !most.1.is_multiple_of(vertical) {
            return None;
        }
        Some(match (most.0 / horizontal, most.1 / vertical) {
            (1, 1) => Self::None,
            // With one or two columns there is too little between which to interpolate.
            (2, 1) if width > 2 => Self::Columns,
            (1, 2) => Self::Rows,
            (2, 2) if width > 2 => Self::ColumnsAndRows,
            (horizontal, vertical) => Self::Repeat { horizontal, vertical },
        })
    }
}

/// Whether all components have sampling factors that divide the largest ones.
pub(super) fn has_whole_ratios(components: &[Component]) -> bool {
    let most = most_sampled(components);
    components.iter().all(|&component| Upsampling::of(component, most, 0).is_some())
}

/// The pixels of a picture, `[height, width, 3]`.
///
/// Takes 1 byte for each sample and 3 for each pixel. The memory of a component's coefficients is given back as soon as its
/// samples are there.
pub(super) fn to_rgb(
    header: &JpegHeader,
    color: Color,
    components: Vec<ComponentCoefficients>,
) -> Result<Vec<u8>, String> {
    let most = most_sampled(&header.frame.components);
    let mut planes = Vec::with_capacity(components.len());
    for (coefficients, &component) in components.into_iter().zip(&header.frame.components) {
        let upsampling = Upsampling::of(component, most, coefficients.width)
            .ok_or("its sampling factors do not divide each other")?;
        let samples = samples(&coefficients)?;
        planes.push(Plane { width: coefficients.width, height: coefficients.height, samples, upsampling });
    }
    let (width, height) = (usize::from(header.frame.width), usize::from(header.frame.height));
    let mut pixels = vec![0; width * height * 3];
    let mut rows = vec![vec![0; width]; planes.len()];
    for (y, out) in pixels.chunks_exact_mut(width * 3).enumerate() {
        for (plane, row) in planes.iter().zip(&mut rows) {
            plane.upsampled_row(y, row);
        }
        color.convert(&rows, out);
    }
    Ok(pixels)
}

impl Plane {
    fn row(&self, y: usize) -> &[u8] {
        let y = y.min(self.height - 1);
        &self.samples[y * self.width..(y + 1) * self.width]
    }

    /// Row `y` of the picture as this component has it.
    ///
    /// At an edge the neighbour that is missing is the sample itself, which gives the special cases of jdsample.c.
    fn upsampled_row(&self, y: usize, out: &mut [u8]) {
        // The nearest row of samples, and the next nearest: above for an upper row of pixels, below for a lower one.
        let near = self.row(y / 2);
        let far = self.row(if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { y / 2 + 1 });
        match self.upsampling {
            Upsampling::None => out.copy_from_slice(self.row(y)),
            Upsampling::Repeat { horizontal, vertical } => {
                let row = self.row(y / vertical);
                for (x, level) in out.iter_mut().enumerate() {
                    *level = row[x / horizontal];
                }
            }
            // Rounded down on the left and up on the right, so that errors of rounding do not add up (jdsample.c).
            Upsampling::Columns => {
                let row = self.row(y);
                widen(out, row.len(), |x| u32::from(row[x]), |left, right| ((left + 1) >> 2, (right + 2) >> 2));
            }
            Upsampling::Rows => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                for ((level, &near), &far) in out.iter_mut().zip(near).zip(far) {
                    *level = ((3 * u32::from(near) + u32::from(far) + bias) >> 2) as u8;
                }
            }
            Upsampling::ColumnsAndRows => {
                let column = |x: usize| 3 * u32::from(near[x]) + u32::from(far[x]);
                widen(out, near.len(), column, |left, right| ((left + 8) >> 4, (right + 7) >> 4));
            }
        }
    }
}

/// Fills twice as many columns: three parts of the nearer one and one of the other, rounded by `round` for the left and the
/// right one of a pair.
fn widen(out: &mut [u8], columns: usize, at: impl Fn(usize) -> u32, round: impl Fn(u32, u32) -> (u32, u32)) {
    for (x, pair) in out.chunks_mut(2).enumerate() {
        let nearest = 3 * at(x);
        let (left, right) = (at(x.saturating_sub(1)), at((x + 1).min(columns - 1)));
        let (left, right) = round(nearest + left, nearest + right);
        pair[0] = left as u8;
        if let Some(level) = pair.get_mut(1) {
            *level = right as u8;
        }
    }
}

impl Color {
    /// Rows of components as one row of pixels.
    fn convert(self, rows: &[Vec<u8>], out: &mut [u8]) {
        let pixels = out.chunks_exact_mut(3);
        match (self, rows) {
            (Self::Gray, [gray, ..]) => {
                for (pixel, &level) in pixels.zip(gray) {
                    pixel.fill(level);
                }
            }
            (Self::Rgb, [red, green, blue, ..]) => {
                for (((pixel, &red), &green), &blue) in pixels.zip(red).zip(green).zip(blue) {
                    pixel.copy_from_slice(&[red, green, blue]);
                }
            }
            (Self::YCbCr, [luma, blue, red, ..]) => {
                for (((pixel, &luma), &blue), &red) in pixels.zip(luma).zip(blue).zip(red) {
                    pixel.copy_from_slice(&rgb(luma, blue, red));
                }
            }
            (Self::Cmyk, [cyan, magenta, yellow, black]) => {
                for ((((pixel, &cyan), &magenta), &yellow), &black) in
                    pixels.zip(cyan).zip(magenta).zip(yellow).zip(black)
                {
                    pixel.copy_from_slice(&[cyan, magenta, yellow].map(|ink| product(ink, black)));
                }
            }
            (Self::Ycck, [luma, blue, red, black]) => {
                for ((((pixel, &luma), &blue), &red), &black) in pixels.zip(luma).zip(blue).zip(red).zip(black) {
                    pixel.copy_from_slice(&rgb(luma, blue, red).map(|level| product(255 - level, black)));
                }
            }
            _ => {}
        }
    }
}

/// The colour of ITU T.871 in whole numbers, as libjpeg computes it (jdcolor.c, `build_ycc_rgb_table`): the factors 1.402,
/// 1.772, 0.34414 and 0.71414 times 2^16.
fn rgb(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
    let levels = [
        luma + ((91_881 * red + HALF) >> 16),
        luma + ((-22_554 * blue - 46_802 * red + HALF) >> 16),
        luma + ((116_130 * blue + HALF) >> 16),
    ];
    levels.map(|level| level.clamp(0, 255) as u8)
}

/// The rounded product of two parts of 255. Inks are stored inverted, as Adobe does it, so they are what is left of the light.
fn product(ink: u8, black: u8) -> u8 {
    let product = u32::from(ink) * u32::from(black) + 128;
    ((product + (product >> 8)) >> 8) as u8
}

/// The samples of a component, by `zune-jpeg`.
fn samples(coefficients: &ComponentCoefficients) -> Result<Vec<u8>, String> {
    /// So many that a file is worth its header, and so few that all files of a large picture do not need much memory.
    const BLOCKS_PER_FILE: usize = 1 << 14;
    let blocks_wide = coefficients.width.div_ceil(8);
    // 8 rows of samples in each of at most 1,024 rows of blocks: a height has 16 bits.
    let rows_per_file = (BLOCKS_PER_FILE / blocks_wide.max(1)).clamp(1, 1024);
    let mut samples = vec![0; coefficients.width * coefficients.height];
    let mut file = Vec::new();
    for (number, out) in samples.chunks_mut(coefficients.width * 8 * rows_per_file).enumerate() {
        write_gray(coefficients, number * rows_per_file, out.len() / coefficients.width, &mut file);
        let options = decoder_options().jpeg_set_out_colorspace(ColorSpace::Luma);
        JpegDecoder::new_with_options(ZCursor::new(file.as_slice()), options)
            .decode_into(out)
            .map_err(|error| format!("a component could not be transformed: {error}"))?;
    }
    Ok(samples)
}

/// Writes a JPEG file of `height` rows of samples of a component, the first of which belongs to the row of blocks `first_row`.
fn write_gray(coefficients: &ComponentCoefficients, first_row: usize, height: usize, file: &mut Vec<u8>) {
    file.clear();
    file.extend([0xff, 0xd8]);
    // 16-bit step sizes, which only an extended sequential frame may have (B.2.4.1).
    file.extend([0xff, 0xdb, 0, 131, 0x10]);
    file.extend(coefficients.quantization.iter().flat_map(|step| step.to_be_bytes()));
    let ([height_high, height_low], [width_high, width_low]) =
        ((height as u16).to_be_bytes(), (coefficients.width as u16).to_be_bytes());
    file.extend([0xff, 0xc1, 0, 11, 8, height_high, height_low, width_high, width_low, 1, 1, 0x11, 0]);
    // Codes of one length: 16 sizes of a DC difference in 5 bits, and 15 sizes of an AC coefficient after each of 16 runs of
    // zeros, the end of a block, and a run of zeros alone, in 8 bits. Each symbol's code is its place.
    file.extend([0xff, 0xc4, 0, 35, 0x00, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(0..16u8);
    file.extend([0xff, 0xc4, 1, 5, 0x10, 0, 0, 0, 0, 0, 0, 0, 242, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([END_OF_BLOCK, SIXTEEN_ZEROS]);
    file.extend((0..16u8).flat_map(|run| (1..16u8).map(move |size| run << 4 | size)));
    file.extend([0xff, 0xda, 0, 8, 1, 1, 0x00, 0, 63, 0]);
    let mut bits = BitWriter { bytes: file, buffer: 0, held: 0 };
    let mut prediction = 0;
    for row in first_row..first_row + height.div_ceil(8) {
        let start = row * coefficients.stride * BLOCK;
        let blocks = coefficients.values[start..].chunks_exact(BLOCK).take(coefficients.width.div_ceil(8));
        for block in blocks {
            prediction = bits.put_block(block, prediction);
        }
    }
    bits.finish();
    file.extend([0xff, 0xd9]);
}

const END_OF_BLOCK: u8 = 0x00;
const SIXTEEN_ZEROS: u8 = 0xf0;

/// Writes entropy-coded data with the tables of [`write_gray`].
struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    /// The last bits, of which `held` are not written yet.
    buffer: u64,
    held: u32,
}

impl BitWriter<'_> {
    /// Writes a block in zigzag order and returns its DC coefficient.
    ///
    /// Coefficients that no encoder of 8-bit samples writes are cut off where the codes end.
    fn put_block(&mut self, block: &[i16], prediction: i32) -> i32 {
        let dc = i32::from(block[0]).clamp(-16_383, 16_383);
        let difference = dc - prediction;
        let size = bit_length(difference);
        self.put(size, 5);
        self.put_value(difference, size);
        let mut zeros = 0;
        for &value in &block[1..] {
            if value == 0 {
                zeros += 1;
                continue;
            }
            while zeros > 15 {
                self.put(1, 8); // the place of `SIXTEEN_ZEROS`
                zeros -= 16;
            }
            let value = i32::from(value).max(-32_767);
            let size = bit_length(value);
            self.put(2 + zeros * 15 + size - 1, 8);
            self.put_value(value, size);
            zeros = 0;
        }
        if zeros > 0 {
            self.put(0, 8); // the place of `END_OF_BLOCK`
        }
        dc
    }

    /// The lowest bits of a value; of a negative one those of the value below it (F.1.2.1.1).
    fn put_value(&mut self, value: i32, size: u32) {
        let value = if value < 0 { value - 1 } else { value };
        self.put(value as u32 & ((1 << size) - 1), size);
    }

    fn put(&mut self, bits: u32, count: u32) {
        self.buffer = self.buffer << count | u64::from(bits);
        self.held += count;
        while self.held >= 8 {
            self.held -= 8;
            let byte = (self.buffer >> self.held) as u8;
            self.bytes.push(byte);
            if byte == 0xff {
                self.bytes.push(0);
            }
        }
    }

    /// Fills the last byte with ones (F.1.2.3).
    fn finish(&mut self) {
        let missing = (8 - self.held % 8) % 8;
        self.put((1 << missing) - 1, missing);
    }
}

/// How many bits the absolute value has.
fn bit_length(value: i32) -> u32 {
    32 - value.unsigned_abs().leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(width: usize, samples: &[u8], upsampling: Upsampling) -> Plane {
        Plane { width, height: samples.len() / width, samples: samples.to_vec(), upsampling }
    }

    fn upsampled(plane: &Plane, width: usize, height: usize) -> Vec<Vec<u8>> {
        let rows = (0..height).map(|y| {
            let mut row = vec![0; width];
            plane.upsampled_row(y, &mut row);
            row
        });
        rows.collect()
    }

    #[test]
    fn upsampling_gives_libjpegs_numbers() {
        let columns = plane(3, &[10, 20, 40], Upsampling::Columns);
        // (3 * 10 + 20 + 2) / 4 = 13, (3 * 20 + 10 + 1) / 4 = 17, (3 * 20 + 40 + 2) / 4 = 25, (3 * 40 + 20 + 1) / 4 = 35.
        assert_eq!(upsampled(&columns, 6, 1), [[10, 13, 17, 25, 35, 40]]);
        assert_eq!(upsampled(&columns, 5, 1), [[10, 13, 17, 25, 35]]);
        let rows = plane(1, &[10, 20, 40], Upsampling::Rows);
        assert_eq!(upsampled(&rows, 1, 6), [[10], [13], [17], [25], [35], [40]]);
        // Sums of a column, three parts near and one far: 40, 80 and 160 in the first row, where the far one is the same.
        let both = plane(3, &[10, 20, 40, 50, 60, 80], Upsampling::ColumnsAndRows);
        assert_eq!(upsampled(&both, 6, 4)[0], [10, 12, 18, 25, 35, 40]);
        // 80, 120, 200: (4 * 80 + 8) / 16 = 20, (3 * 80 + 120 + 7) / 16 = 22, (3 * 120 + 80 + 8) / 16 = 28, 35, 45, 50.
        assert_eq!(upsampled(&both, 6, 4)[1], [20, 22, 28, 35, 45, 50]);
        let repeated = plane(2, &[1, 2, 3, 4], Upsampling::Repeat { horizontal: 3, vertical: 2 });
        assert_eq!(upsampled(&repeated, 5, 3), [[1, 1, 1, 2, 2], [1, 1, 1, 2, 2], [3, 3, 3, 4, 4]]);
    }

    #[test]
    fn the_way_of_upsampling_depends_on_ratio_and_width() {
        let component = |horizontal, vertical| Component { id: 1, horizontal, vertical, quantization_table: 0 };
        let of = |horizontal, vertical, most, width| Upsampling::of(component(horizontal, vertical), most, width);
        assert_eq!(of(2, 2, (2, 2), 9), Some(Upsampling::None));
        assert_eq!(of(1, 1, (2, 1), 3), Some(Upsampling::Columns));
        assert_eq!(of(1, 1, (2, 1), 2), Some(Upsampling::Repeat { horizontal: 2, vertical: 1 }));
        assert_eq!(of(2, 1, (2, 2), 1), Some(Upsampling::Rows));
        assert_eq!(of(1, 2, (2, 4), 3), Some(Upsampling::ColumnsAndRows));
        assert_eq!(of(1, 1, (4, 1), 9), Some(Upsampling::Repeat { horizontal: 4, vertical: 1 }));
        assert_eq!(of(2, 1, (3, 1), 9), None);
    }

    #[test]
    fn colours_are_those_of_the_formula() {
        assert_eq!(rgb(128, 128, 128), [128; 3]);
        assert_eq!(rgb(76, 85, 255), [254, 0, 0]);
        assert_eq!(rgb(0, 255, 0), [0, 48, 225]);
        for (ink, black) in [(0, 255), (255, 255), (200, 100), (1, 127), (1, 128)] {
            let exact = f64::from(ink) * f64::from(black) / 255.0;
            assert_eq!(f64::from(product(ink, black)), exact.round(), "{ink} {black}");
        }
    }

    /// What is written and read again is the same, up to the largest values that a damaged file may have.
    #[test]
    fn coefficients_come_back_from_the_file_that_is_written() {
        let mut values = vec![0i16; 6 * BLOCK];
        for (at, value) in values.iter_mut().enumerate() {
            *value = match at % 7 {
                0 => (at as i16 % 400) - 200,
                3 if at % 2 == 0 => -1,
                5 if at > 3 * BLOCK => 32_767,
                _ => 0,
            };
        }
        (values[BLOCK], values[2 * BLOCK], values[BLOCK + 63], values[4 * BLOCK + 40]) = (-32_768, 32_767, 9, -32_768);
        let coefficients = ComponentCoefficients {
            width: 17,
            height: 12,
            stride: 3,
            quantization: [3; BLOCK],
            values: values.clone(),
        };
        let mut file = Vec::new();
        write_gray(&coefficients, 0, 12, &mut file);
        let header = JpegHeader::read(&file).unwrap();
        let back = super::super::jpeg_coefficients::decode(&file, &header).unwrap();
        for (at, value) in values.iter_mut().enumerate() {
            *value = if at % BLOCK == 0 { (*value).clamp(-16_383, 16_383) } else { (*value).max(-32_767) };
        }
        assert_eq!(back[0].values, values);
        assert_eq!((back[0].width, back[0].height, back[0].quantization), (17, 12, [3; BLOCK]));
    }

    #[test]
    fn a_component_is_the_same_in_one_file_or_several() {
        // 2 columns of blocks, and 8,200 rows: more than fit in a file of 1,024.
        let (blocks_wide, blocks_high) = (2, 1025);
        let mut values = vec![0i16; blocks_wide * blocks_high * BLOCK];
        for (number, block) in values.chunks_exact_mut(BLOCK).enumerate() {
            block[0] = (number % 200) as i16 - 100;
            block[1] = (number % 13) as i16 - 6;
        }
        let coefficients = ComponentCoefficients {
            width: 11,
            height: 8 * blocks_high - 3,
            stride: blocks_wide,
            quantization: [4; BLOCK],
            values,
        };
        let all = samples(&coefficients).unwrap();
        let last_rows = ComponentCoefficients {
            height: 5,
            values: coefficients.values[(blocks_high - 1) * blocks_wide * BLOCK..].to_vec(),
            ..coefficients
        };
        assert_eq!(all[all.len() - 5 * 11..], samples(&last_rows).unwrap());
    }
}
