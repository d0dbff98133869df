//! Converts a first convolution for other than three channels, as timm derives it from one for red, green and blue, back to three channels.
//!
//! timm's rule (`adapt_input_conv` in `timm/models/_manipulate.py` at 17452b8): for one channel the weights of the three are added up; for
//! `n` other ones they are repeated in turn, red, green, blue, red …, and multiplied by `3 / n`. timm itself has no inverse.

use std::path::Path;

use anyhow::bail;
use burn::tensor::TensorData;
use ghostnet::NamedTensor;

const STEM: &str = "conv_stem.weight";
/// The channels of the images that are read here.
const CHANNELS: usize = 3;

/// Converts the first convolution to three channels and returns a note on how; one for three channels stays unchanged.
pub(super) fn adapt(path: &Path, tensors: &mut [NamedTensor]) -> anyhow::Result<Option<String>> {
    let Some(stem) = tensors.iter_mut().find(|tensor| tensor.name == STEM) else { return Ok(None) };
    let [outputs, channels, height, width] = stem.data.shape()[..] else { return Ok(None) };
    let kernel = height * width;
    let given: Vec<f32> = stem.data.iter::<f32>().collect();
    if channels == CHANNELS || given.is_empty() || given.len() != outputs * channels * kernel {
        return Ok(None);
    }
    let plane = |output: usize, channel: usize| &given[(output * channels + channel) * kernel..][..kernel];
    let is_repeated = || (0..outputs).all(|o| (CHANNELS..channels).all(|c| plane(o, c) == plane(o, c % CHANNELS)));
    let (factor, note) = match channels {
        1 => (
            1.0 / CHANNELS as f32,
            "it takes one channel: red, green and blue got a third of its weights each, so gray images give the same logits as before if \
             all three channels are normalised as that one was"
                .to_string(),
        ),
        _ if channels > CHANNELS && is_repeated() => (
            channels as f32 / CHANNELS as f32,
            format!(
                "it takes {channels} channels, whose weights repeat those of the first three, as timm makes them: they were merged into \
                 weights for three channels"
            ),
        ),
        _ => bail!(
            "`{}` takes images of {channels} channels, but its weights are not those that timm derives from weights for red, green \
             and blue, so they cannot be converted to colour images\n\n\
             hint: only images of three channels are supported: retrain it on those, or keep three channels of `{STEM}` in Python",
            path.display()
        ),
    };
    let mut weights = Vec::with_capacity(outputs * CHANNELS * kernel);
    for output in 0..outputs {
        for channel in 0..CHANNELS {
            weights.extend(plane(output, channel % channels).iter().map(|weight| weight * factor));
        }
    }
    stem.data = TensorData::new(weights, [outputs, CHANNELS, height, width]);
    Ok(Some(note))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stem(channels: usize, values: &[f32]) -> Vec<NamedTensor> {
        let data = TensorData::new(values.to_vec(), [values.len() / channels, channels, 1, 1]);
        vec![NamedTensor { name: STEM.to_string(), data }]
    }

    fn adapted(channels: usize, values: &[f32]) -> Result<(Vec<f32>, bool), String> {
        let mut tensors = stem(channels, values);
        let note = adapt(Path::new("w.pth"), &mut tensors).map_err(|error| error.to_string())?;
        Ok((tensors[0].data.iter::<f32>().collect(), note.is_some()))
    }

    #[test]
    fn the_weights_are_those_that_timm_would_have_begun_with() {
        assert_eq!(adapted(3, &[1.0, 2.0, 3.0]), Ok((vec![1.0, 2.0, 3.0], false)));
        assert_eq!(adapted(1, &[3.0, 6.0]), Ok((vec![1.0, 1.0, 1.0, 2.0, 2.0, 2.0], true)));
        // Red, green, blue, red, times 3/4.
        assert_eq!(adapted(4, &[0.75, 1.5, 2.25, 0.75]), Ok((vec![1.0, 2.0, 3.0], true)));
        assert_eq!(adapted(6, &[0.5, 1.0, 1.5, 0.5, 1.0, 1.5]), Ok((vec![1.0, 2.0, 3.0], true)));
    }

    #[test]
    fn channels_that_stand_for_something_else_are_refused() {
        for (channels, values) in [(4, &[0.75, 1.5, 2.25, 0.8][..]), (2, &[1.0, 2.0])] {
            let error = adapted(channels, values).expect_err("no colours");
            assert!(error.starts_with(&format!("`w.pth` takes images of {channels} channels")), "{error}");
        }
    }
}
