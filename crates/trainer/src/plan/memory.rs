//! The memory that a training step takes, planned before there is one: figures that were fitted to measurements.

use ghostnet::{GhostNetConfig, Variant};

use super::Plan;
use crate::device::Processor;
use crate::feed::largest_part;
use crate::recipe::Precision;

/// What the memory of a step depends on.
#[derive(Debug, Clone, Copy)]
struct Demand<'a> {
    network: &'a GhostNetConfig,
    /// Height and width of the largest images, pixels.
    image_size: usize,
    /// Images of the whole step.
    images: usize,
    /// Of them, those that go through the network at a time.
    images_at_a_time: usize,
    checkpoint_activations: bool,
    precision: Precision,
    optimizer_bytes_per_parameter: usize,
    has_ema: bool,
}

impl Plan {
    /// Estimate of the memory that a step takes, bytes: of the program on the CPU, of the card on a GPU.
    pub(super) fn memory_bytes(&self, processor: Processor) -> usize {
        let recipe = &self.recipe;
        let sizes = recipe.train.stage.iter().map(|stage| stage.image_size).chain([recipe.data.image_size]);
        let demand = Demand {
            network: &self.model,
            image_size: sizes.max().unwrap_or_default() as usize,
            images: recipe.data.batch_size * recipe.train.accumulate,
            images_at_a_time: largest_part(
                recipe.data.batch_size,
                recipe.train.micro_batch_size.unwrap_or(recipe.data.batch_size),
            ),
            checkpoint_activations: recipe.train.checkpoint_activations,
            precision: recipe.train.precision,
            optimizer_bytes_per_parameter: self.optimizer().bytes_per_parameter(),
            has_ema: recipe.train.ema.is_some(),
        };
        demand.bytes(processor)
    }
}

impl Demand<'_> {
    fn bytes(&self, processor: Processor) -> usize {
        match processor {
            Processor::Cpu => self.cpu_bytes(),
            Processor::Gpu => self.gpu_bytes(),
        }
    }

    /// Of all maps, `bytes_per_output` for each value that a layer puts out.
    fn map_bytes(&self, bytes_per_output: f64) -> usize {
        let layers = self.network.layers(self.image_size, self.image_size);
        let outputs: usize = layers.iter().map(|layer| layer.output.iter().product::<usize>()).sum();
        ((self.images_at_a_time * outputs) as f64 * bytes_per_output) as usize
    }

    /// Of all parameters, in so many copies and with what the optimizer keeps.
    fn parameter_bytes(&self, copies: usize) -> usize {
        self.network.parameters() * (copies * size_of::<f32>() + self.optimizer_bytes_per_parameter)
    }

    /// With the table fitted to the peak resident memory of steps at width 1.0, batch 32: GhostNet takes 222 MB at 64 px, 895 at 224,
    /// and 671 where maps are made anew; GhostNetV2 1,691 and 1,326 at 224 px; GhostNetV3 3,203 and 1,937.
    fn cpu_bytes(&self) -> usize {
        /// The program itself, with its batches in flight.
        const PROGRAM_BYTES: usize = 105_000_000;
        let [kept, anew] = match self.network.variant {
            Variant::Ghostnet | Variant::GhostnetPaddle => [6.5, 4.5],
            Variant::GhostnetV2 => [10.4, 7.9],
            Variant::GhostnetV3 => [6.9, 4.0],
        };
        let bytes_per_output = if self.checkpoint_activations { anew } else { kept };
        // Weights and gradients.
        let copies = 2 + usize::from(self.has_ema);
        PROGRAM_BYTES + self.parameter_bytes(copies) + self.map_bytes(bytes_per_output)
    }

    /// What the GPU's runtime reserves of the card, as `ghostnet bench step` measures it: what is in use at the worst moment is 84 to
    /// 98 % of that, and the rest lies in pages that are kept for reuse and that no other program can have.
    ///
    /// The table is fitted, and then rounded by hand, to steps of burn's operations without tuning at widths 0.5 and 1.0, 64 to 224 px and
    /// batches of 8 to 32: 56 without fused operations, of which none was further off than 6.5 %; and where GhostNetV3 makes maps anew, or
    /// keeps them in `f32`, steps with fused ones. Of 36 steps with fused ones, of up to 3,267 MB, none is further off than 6.5 %. What
    /// optimizers and averages add was measured without fusing at 32 px, batch 8, where the sum is within 11 %, but 19 % too little for
    /// AdamW in mixed precision. Where `GHOSTNET_GPU_KERNELS=on` it is 2 to 31 % less. Builds with `tuned` were not measured: trying
    /// kernels takes memory of its own. A teacher is not counted.
    fn gpu_bytes(&self) -> usize {
        /// Pages for what is small, and the last page of each kind, which is partly empty.
        const RUNTIME_BYTES: usize = 12_000_000;
        let [kept, anew] = match (self.network.variant, self.precision) {
            (Variant::Ghostnet | Variant::GhostnetPaddle, Precision::F32) => [13.0, 11.0],
            (Variant::Ghostnet | Variant::GhostnetPaddle, Precision::Mixed) => [8.5, 7.5],
            (Variant::GhostnetV2, Precision::F32) => [14.4, 11.7],
            (Variant::GhostnetV2, Precision::Mixed) => [9.2, 7.6],
            (Variant::GhostnetV3, Precision::F32) => [7.0, 6.2],
            (Variant::GhostnetV3, Precision::Mixed) => [5.7, 5.2],
        };
        let bytes_per_output = if self.checkpoint_activations { anew } else { kept };
        // Weights and gradients; an average is there twice while it is updated; the one of mixed precision is what was measured.
        let copies = 2 + usize::from(self.precision == Precision::Mixed) + 2 * usize::from(self.has_ema);
        let images = self.images * self.network.in_channels * self.image_size.pow(2) * size_of::<f32>();
        RUNTIME_BYTES + self.parameter_bytes(copies) + images + self.map_bytes(bytes_per_output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Inputs;
    use crate::recipe::example;

    /// Variant, width, px, batch; maps made anew; precision; and the megabytes that a GPU's runtime had reserved after three steps with SGD
    /// with momentum and 1,000 classes, on software Vulkan, with elementwise operations fused.
    const MEASURED: [(Variant, f64, usize, usize, bool, Precision, f64); 24] = [
        (Variant::Ghostnet, 1.0, 64, 32, false, Precision::F32, 207.0),
        (Variant::Ghostnet, 1.0, 224, 32, false, Precision::F32, 1603.7),
        (Variant::Ghostnet, 1.0, 224, 32, true, Precision::F32, 1367.8),
        (Variant::Ghostnet, 1.0, 224, 32, false, Precision::Mixed, 1066.8),
        (Variant::Ghostnet, 1.0, 192, 48, true, Precision::Mixed, 1043.8),
        (Variant::Ghostnet, 0.25, 96, 24, false, Precision::F32, 92.7),
        (Variant::Ghostnet, 1.0, 128, 16, false, Precision::F32, 317.1),
        (Variant::GhostnetPaddle, 1.0, 224, 8, false, Precision::F32, 450.3),
        (Variant::GhostnetV2, 1.0, 224, 32, false, Precision::F32, 2236.7),
        (Variant::GhostnetV2, 0.5, 192, 24, false, Precision::F32, 667.4),
        (Variant::GhostnetV2, 1.0, 224, 32, false, Precision::Mixed, 1509.0),
        (Variant::GhostnetV2, 1.0, 96, 40, true, Precision::Mixed, 370.3),
        (Variant::GhostnetV2, 1.0, 64, 32, false, Precision::F32, 262.3),
        (Variant::GhostnetV2, 1.0, 64, 32, false, Precision::Mixed, 210.9),
        (Variant::GhostnetV3, 1.0, 224, 8, false, Precision::F32, 902.4),
        (Variant::GhostnetV3, 1.0, 224, 32, false, Precision::F32, 3267.0),
        (Variant::GhostnetV3, 1.0, 224, 32, true, Precision::F32, 2795.1),
        (Variant::GhostnetV3, 1.3, 96, 24, true, Precision::F32, 649.3),
        (Variant::GhostnetV3, 0.5, 128, 16, true, Precision::F32, 280.6),
        (Variant::GhostnetV3, 0.5, 192, 16, false, Precision::Mixed, 535.4),
        (Variant::GhostnetV3, 1.0, 224, 8, false, Precision::Mixed, 777.7),
        (Variant::GhostnetV3, 1.0, 224, 8, true, Precision::Mixed, 720.0),
        (Variant::GhostnetV3, 1.0, 224, 32, true, Precision::Mixed, 2481.6),
        (Variant::GhostnetV3, 1.0, 64, 32, true, Precision::Mixed, 321.5),
    ];

    #[test]
    fn the_memory_of_a_gpu_is_near_what_was_measured() {
        for (variant, width, image_size, images, checkpoint_activations, precision, megabytes) in MEASURED {
            let network = GhostNetConfig::new(1000).with_variant(variant).with_width(width);
            let demand = Demand {
                network: &network,
                image_size,
                images,
                images_at_a_time: images,
                checkpoint_activations,
                precision,
                optimizer_bytes_per_parameter: size_of::<f32>(),
                has_ema: false,
            };
            let share = demand.bytes(Processor::Gpu) as f64 / 1e6 / megabytes;
            assert!((share - 1.0).abs() < 0.065, "{variant:?} {width} {image_size} {images}: {share:.3}");
        }
    }

    #[test]
    fn a_plan_counts_averages_parts_of_batches_and_the_largest_images() {
        let bytes = |sets: &[&str]| {
            let sets = [&["data.source=fashion-mnist-sample"], sets].concat();
            let plan = Plan::new(example::set(&sets).expect("a recipe"), Inputs::default()).expect("a plan");
            [Processor::Cpu, Processor::Gpu].map(|processor| plan.summary(processor).memory_bytes)
        };
        let plain = bytes(&[]);
        for (sets, is_more) in [
            (&["train.ema={decay=0.99}"][..], true),
            (&["optimizer={kind=\"adamw\", learning_rate=1e-3}"], true),
            (&["train.stage=[{until={epochs=1}, image_size=64}]"], true),
            (&["train.micro_batch_size=16"], false),
            (&["train.checkpoint_activations=true"], false),
        ] {
            for (changed, plain) in bytes(sets).into_iter().zip(plain) {
                assert!(if is_more { changed > plain } else { changed < plain }, "{sets:?}: {changed}, plain {plain}");
            }
        }
    }
}
