//! ONNX in whole numbers of 8 bits: ranges from the user's images, and what it costs.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use imageset::{DataSet, ImageSource, RgbImage, load_image};
use prost::Message;
use serde::Serialize;

use super::compare::top;
use super::quantize::{self, Observed};
use super::{Exported, Exporter, OnnxOptions, proto, put};
use crate::evaluate::OneOutput;
use crate::onnx_runtime::{Input, Runtime};
use crate::relabel::Relabelled;

/// What 8 bits cost, measured by another runtime on images that the ranges were not chosen on, where the data have such.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantization {
    /// Images that the ranges of the maps were chosen on.
    pub num_calibration_images: usize,
    /// Images that the accuracy was measured on.
    pub num_images: usize,
    /// Share of right answers in 32-bit floating-point numbers: the largest score is that of a label.
    pub top1_f32: f64,
    /// The same in whole numbers throughout.
    pub top1_int8: f64,
    /// The same with the weights of depthwise convolutions as they were.
    pub top1_int8_depthwise_f32: f64,
    /// Whether the file has 8-bit depthwise convolutions: they may cost [`DEPTHWISE_COST`] at most.
    pub depthwise_int8: bool,
}

impl Quantization {
    /// Accuracy that the written file has lost, as a share of all images.
    pub fn lost(&self) -> f64 {
        self.top1_f32 - if self.depthwise_int8 { self.top1_int8 } else { self.top1_int8_depthwise_f32 }
    }
}

/// Images that ranges are chosen on; more change little.
const NUM_CALIBRATION_IMAGES: usize = 128;

/// Images that accuracy is measured on at most: with 500, it is known to some two points.
const NUM_MEASURED_IMAGES: usize = 500;

/// Accuracy that depthwise convolutions in whole numbers may cost, or one image; beyond, they stay in floating point.
pub const DEPTHWISE_COST: f64 = 0.005;

/// No difference of finite scores is as large.
const ANY_NUMBER: f32 = 1e30;

/// A prepared image; as bytes, for hundreds of them are kept.
struct Labelled {
    square: RgbImage,
    labels: Vec<usize>,
}

/// What went into a graph and what came out.
struct Ran {
    input: Vec<f32>,
    outputs: Vec<Vec<f32>>,
}

impl Exporter {
    /// Writes ONNX in whole numbers of 8 bits; the ranges of the maps are chosen on training images, and what it costs is measured on
    /// the others. `progress` hears of each step.
    pub fn onnx_int8(
        &self,
        path: &Path,
        options: OnnxOptions,
        data: &DataSet,
        progress: &dyn Fn(&str),
    ) -> anyhow::Result<Exported> {
        // Ranges are those of prepared images, wherever these are prepared.
        let (_, float) = self.onnx_model(OnnxOptions { with_preprocessing: false, ..options })?;
        // Whatever the labels are, there is no top-1 accuracy of one output to choose by.
        if let [class] = self.card.classes.as_slice() {
            return Err(OneOutput { class: class.clone() }.into());
        }
        let labelled =
            |split: &Arc<dyn ImageSource>| Relabelled::new(Arc::clone(split), &data.classes, &self.card.classes);
        let (train, val) = (labelled(&data.train)?, labelled(&data.val)?);
        let calibration = self.some_images(if train.is_empty() { &val } else { &train }, NUM_CALIBRATION_IMAGES)?;
        let measured = self.some_images(if val.is_empty() { &train } else { &val }, NUM_MEASURED_IMAGES)?;
        if calibration.is_empty() || measured.is_empty() {
            bail!("there are no images to choose ranges on");
        }
        let graph = float.graph.as_ref().context("a graph")?;
        progress(&format!("choosing ranges on {} images", calibration.len()));
        let ranges = self.ranges(&float, &calibration)?;
        let quantized =
            |depthwise| proto::Model { graph: Some(quantize::quantize(graph, &ranges, depthwise)), ..float.clone() };
        progress(&format!(
            "measuring on {} images: 32-bit floating point, 8 bits, and 8 bits but for depthwise",
            measured.len()
        ));
        let accuracy = |model: &proto::Model| self.accuracy(model, &measured);
        let top1_f32 = accuracy(&float)?;
        let [top1_int8, top1_int8_depthwise_f32] = [accuracy(&quantized(true))?, accuracy(&quantized(false))?];
        // One image more or less says nothing.
        let allowed = DEPTHWISE_COST.max(1.5 / measured.len() as f64);
        let depthwise_int8 = top1_int8 >= top1_int8_depthwise_f32 - allowed;
        let quantization = Quantization {
            num_calibration_images: calibration.len(),
            num_images: measured.len(),
            top1_f32,
            top1_int8,
            top1_int8_depthwise_f32,
            depthwise_int8,
        };
        let (opset, model) = self.onnx_model(options)?;
        let graph = model.graph.as_ref().context("a graph")?;
        let model = proto::Model { graph: Some(quantize::quantize(graph, &ranges, depthwise_int8)), ..model };
        let bytes = model.encode_to_vec();
        let scores = if options.with_preprocessing { self.picture_scores(&bytes)? } else { self.image_scores(&bytes)? };
        // How near the scores are is a matter of accuracy, which was measured; that there are scores is not.
        let comparison = scores.within(ANY_NUMBER)?;
        put(path, &bytes)?;
        let (path, bytes) = (path.to_path_buf(), bytes.len());
        Ok(Exported { path, bytes, opset: Some(opset), comparison, quantization: Some(quantization) })
    }

    /// Images spread over a split; those that cannot be read are left out.
    fn some_images(&self, source: &dyn ImageSource, count: usize) -> anyhow::Result<Vec<Labelled>> {
        let count = count.min(source.len());
        let mut images = Vec::with_capacity(count);
        for at in 0..count {
            let index = at * source.len() / count;
            if let Ok(picture) = load_image(source, index) {
                images.push(Labelled { square: self.square(picture)?, labels: source.labels(index) });
            }
        }
        Ok(images)
    }

    /// Runs a model that is in no file yet.
    fn with_runtime<T>(
        &self,
        model: &proto::Model,
        outputs: Option<&[String]>,
        run: impl FnOnce(&dyn Fn(&Labelled) -> anyhow::Result<Ran>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let size = self.card.image_size as usize;
        let shape = [1, 3, size, size];
        let runtime = Runtime::parse(&model.encode_to_vec(), &Input::Images { shape, values: &[] }, outputs)?;
        run(&|image| {
            let values: Vec<f32> = self.images_of(image.square.clone()).into_data().iter().collect();
            let outputs = runtime.run(&Input::Images { shape, values: &values })?;
            Ok(Ran { input: values, outputs })
        })
    }

    fn ranges(&self, model: &proto::Model, images: &[Labelled]) -> anyhow::Result<HashMap<String, quantize::Range>> {
        let names = quantize::maps(model.graph.as_ref().context("a graph")?);
        // The input is known without running anything.
        let outputs = &names[1..];
        self.with_runtime(model, Some(outputs), |run| {
            let mut observed: Vec<Observed> = names.iter().map(|_| Observed::new()).collect();
            for see in [Observed::widen, Observed::count] {
                for image in images {
                    let Ran { input, outputs } = run(image)?;
                    let all = std::iter::once(&input).chain(&outputs);
                    observed.iter_mut().zip(all).for_each(|(observed, values)| see(observed, values));
                }
            }
            Ok(names.iter().cloned().zip(observed.iter().map(Observed::best_range)).collect())
        })
    }

    fn accuracy(&self, model: &proto::Model, images: &[Labelled]) -> anyhow::Result<f64> {
        self.with_runtime(model, None, |run| {
            let mut right = 0;
            for image in images {
                let answer = top(&run(image)?.outputs.concat());
                right += usize::from(answer.is_some_and(|answer| image.labels.contains(&answer)));
            }
            Ok(right as f64 / images.len() as f64)
        })
    }
}
