//! What the steps of a run are fed with: its batches, one after the other from any step on, as images and soft targets on the
//! device, mixed, erased in part, weighted and with a teacher's opinion as the recipe asks.

use anyhow::Context;
use burn::tensor::{Device, Tensor, TensorData};
use imageset::{Batch, EpochIter};

use crate::batch;
use crate::distill::TeacherNetwork;
use crate::erase;
use crate::loss;
use crate::plan::Plan;
use crate::random::{self, Purpose};
use crate::step::MicroBatch;

/// All that a step takes in.
#[derive(Debug)]
pub struct StepInput {
    /// As many as the recipe accumulates, or more where batches are cut.
    pub micro_batches: Vec<MicroBatch>,
    /// Images in them.
    pub num_images: usize,
    /// Name and reason of each damaged image that was passed over.
    pub skipped: Vec<(String, String)>,
}

/// Batches of a plan on a device.
pub struct Feed<'a> {
    plan: &'a Plan,
    device: &'a Device,
    /// The most images in a micro-batch; whole batches without it.
    micro_batch_size: Option<usize>,
    teacher: Option<TeacherNetwork>,
    /// `[1, num_classes]`
    class_weights: Option<Tensor<2>>,
    open: Option<Open>,
}

/// An epoch that batches are being taken from.
struct Open {
    epoch: u64,
    stage: usize,
    batches: EpochIter,
}

/// Parts that a batch is cut into: as few as are needed for `most` images in each, but for no part of a single image, on which batch norm
/// cannot train.
fn num_parts(batch_size: usize, most: usize) -> usize {
    batch_size.div_ceil(most.max(1)).min(batch_size / 2).max(1)
}

/// Images in the largest part of a batch that is cut for at most so many, or for one more where a single one would be left.
pub fn largest_part(batch_size: usize, most: usize) -> usize {
    batch_size.div_ceil(num_parts(batch_size, most))
}

impl<'a> Feed<'a> {
    /// Loads the teacher, if there is one; no image is read yet.
    pub fn new(plan: &'a Plan, device: &'a Device, micro_batch_size: Option<usize>) -> anyhow::Result<Self> {
        let teacher = plan.teacher.as_ref().map(|teacher| teacher.network(&plan.normalization, device)).transpose()?;
        let class_weights = plan.class_weights().map(|weights| {
            let num_classes = weights.len();
            Tensor::from_data(TensorData::new(weights, [1, num_classes]), device)
        });
        Ok(Self { plan, device, micro_batch_size, teacher, class_weights, open: None })
    }

    /// Has dropout draw what belongs to the step after `step` finished ones.
    pub fn seed_dropout(&self, step: u64) {
        self.device.seed(random::derived_seed(self.plan.recipe.seed, Purpose::Dropout, step));
    }

    /// What the step after `step` finished ones takes in. Steps in their order are cheapest.
    pub fn next(&mut self, step: u64) -> anyhow::Result<StepInput> {
        let (plan, accumulate) = (self.plan, self.plan.recipe.train.accumulate);
        let (epoch, stage) = (plan.epoch_of(step), plan.stage(step));
        let first_batch = (step % plan.steps_per_epoch) as usize * accumulate;
        let is_there = |open: &Open| (open.epoch, open.stage, open.batches.next_batch()) == (epoch, stage, first_batch);
        let open = self.open.take().filter(is_there);
        let mut batches = open.map_or_else(|| plan.train_loader(step).epoch(epoch, first_batch), |open| open.batches);
        let mut random = random::stream(plan.recipe.seed, Purpose::Mix, step);
        self.seed_dropout(step);
        let mut input = StepInput { micro_batches: Vec::with_capacity(accumulate), num_images: 0, skipped: Vec::new() };
        for _ in 0..accumulate {
            let mut batch: Batch = batches.next().context("the loader ended before the epoch")??;
            input.num_images += batch.labels.len();
            input.skipped.append(&mut batch.skipped);
            let size = batch.image_size as usize;
            let targets = self.targets(&batch);
            let mix = plan.mix_policy(step).draw_batch(batch.labels.len(), size, size, &mut random);
            let erasures = std::mem::take(&mut batch.erasures);
            let images = batch::images(batch, &plan.normalization, self.device);
            let (images, mut targets) = mix.apply(images, targets);
            let images = erase::erase(images, &erasures);
            if let Some(weights) = &self.class_weights {
                targets = targets * weights.clone();
            }
            for (images, targets) in self.cut(images, targets) {
                let teacher = self.teacher.as_ref().map(|teacher| teacher.logits(images.clone()));
                input.micro_batches.push(MicroBatch { images, targets, teacher });
            }
        }
        self.open = Some(Open { epoch, stage, batches });
        Ok(input)
    }

    /// A batch in its parts, each as large as another but for one image.
    fn cut(&self, images: Tensor<4>, targets: Tensor<2>) -> Vec<(Tensor<4>, Tensor<2>)> {
        let num_images = images.dims()[0];
        let parts = num_parts(num_images, self.micro_batch_size.unwrap_or(num_images));
        if parts == 1 {
            return vec![(images, targets)];
        }
        let ends = |part: usize| num_images * part / parts;
        let part = |part: usize| {
            let (start, length) = (ends(part), ends(part + 1) - ends(part));
            (images.clone().narrow(0, start, length), targets.clone().narrow(0, start, length))
        };
        (0..parts).map(part).collect()
    }

    fn targets(&self, batch: &Batch) -> Tensor<2> {
        let (num_classes, smoothing) = (self.plan.data.classes.len(), self.plan.recipe.train.label_smoothing);
        match &batch.label_sets {
            None => loss::one_hot(&batch.labels, num_classes, smoothing, self.device),
            Some(label_sets) => loss::many_hot(label_sets, num_classes, smoothing, self.device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Inputs;
    use crate::recipe::example;

    #[test]
    fn boxes_are_erased_from_what_was_mixed() {
        let plan = |erasing: &str| {
            let train = format!("data.train=[{{random_resized_crop={{}}}}{erasing}]");
            let sets = ["data.source=fashion-mnist-sample", "data.batch_size=16", "train.mixup={alpha=1.0}", &train];
            Plan::new(example::set(&sets).expect("a recipe"), Inputs::default()).expect("a plan")
        };
        let images = |plan: &Plan| {
            let input = Feed::new(plan, &Device::flex(), None).expect("a feed").next(0).expect("a step");
            input.micro_batches[0].images.to_data().iter::<f32>().collect::<Vec<_>>()
        };
        let whole = images(&plan(""));
        let erasing = plan(", {random_erasing={probability=0.5}}");
        let erased = images(&erasing);
        let batch = erasing.train_loader(0).epoch(0, 0).next().expect("a batch").expect("images");
        let (side, mut inside) = (batch.image_size as usize, 0);
        for (at, (erased, whole)) in erased.into_iter().zip(whole).enumerate() {
            let (image, row, column) = (at / (3 * side * side), at / side % side, at % side);
            let is_inside = batch.erasures[image].as_ref().is_some_and(|erasure| {
                let reaches = |at: usize, start: u32, length: u32| (start..start + length).contains(&(at as u32));
                reaches(row, erasure.top, erasure.height) && reaches(column, erasure.left, erasure.width)
            });
            inside += usize::from(is_inside);
            assert_eq!(erased, if is_inside { 0.0 } else { whole }, "image {image}, row {row}, column {column}");
        }
        assert!(inside > 3 * side * side / 2, "boxes of half a dozen images");
    }

    #[test]
    fn no_part_of_a_batch_is_a_single_image_and_halving_ends() {
        for (batch_size, most, largest) in
            [(24, 24, 24), (24, 12, 12), (24, 7, 6), (7, 2, 3), (3, 2, 3), (2, 1, 2), (8, 1, 2), (1, 1, 1)]
        {
            assert_eq!(largest_part(batch_size, most), largest, "{batch_size} at most {most}");
        }
        for batch_size in 1..100 {
            let mut images = batch_size;
            loop {
                let fewer = largest_part(batch_size, images.div_ceil(2));
                if fewer >= images {
                    break;
                }
                images = fewer;
            }
            assert!(images <= 3, "{batch_size} images end in parts of {images}");
        }
    }
}
