//! Batches of an epoch, the same ones whatever the number of threads.
//!
//! The order of an epoch depends on (seed, epoch), see [`Sampling`], and the random choices for a sample depend on (seed, epoch,
//! sample), see [`random`](crate::random). So a batch is a function of its place: [`Loader::epoch`] can start at any of them.
//!
//! With workers, the calling thread hands out chunks of samples for the batch that it needs next and for
//! [`prefetch_batches`](LoaderConfig::prefetch_batches) more, and puts the results together in order. A batch is cut into more
//! chunks than there are workers, so that the first one does not wait for a single thread. Never more than
//! `1 + prefetch_batches` batches are in memory. What goes wrong in a worker, a panic included, is reported in the place of the
//! batch that it belongs to, and it ends the epoch; an epoch never just gets shorter.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde::{Deserialize, Serialize};

use crate::decode::panic_message;
use crate::random::repeated_sample_stream;
use crate::random_erasing::Erasure;
use crate::sampling::{EpochOrder, Sampling};
use crate::source::{ImageSource, LoadError, load_image};
use crate::transform::Pipeline;

/// What to do with an image that cannot be read or decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCorrupt {
    /// End the epoch with an error that names it.
    #[default]
    Error,
    /// Continue without it, and list it in [`Batch::skipped`].
    ///
    /// With `shuffle` its place goes to the next good sample in the epoch's order (after the last comes the first), augmented
    /// with the random choices that belonged to the bad one, so that it is not a copy of its other appearance. Batches keep
    /// their size. Without `shuffle`, for evaluation, it is left out: the batch is smaller and may be empty.
    Skip,
}

/// How to load.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Samples of a batch.
    pub batch_size: usize,
    /// Threads that decode; 0 decodes on the calling thread.
    pub workers: usize,
    /// Batches prepared ahead of the one asked for.
    pub prefetch_batches: usize,
    /// Seed of the run.
    pub seed: u64,
    /// A new order each epoch, or the source's own order, each image once.
    pub shuffle: bool,
    /// Which images an epoch shows. Only with `shuffle`.
    pub sampling: Sampling,
    /// Whether an incomplete last batch is left out.
    pub drop_last: bool,
    /// What to do with a bad image.
    pub on_corrupt: OnCorrupt,
}

impl Default for LoaderConfig {
    /// Batches of 32 in the source's order, decoded by two threads.
    fn default() -> Self {
        Self {
            batch_size: 32,
            workers: 2,
            prefetch_batches: 2,
            seed: 0,
            shuffle: false,
            sampling: Sampling::Shuffled,
            drop_last: false,
            on_corrupt: OnCorrupt::Error,
        }
    }
}

/// Some samples, ready for the device.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Pixels of all samples.
    ///
    /// # Shapes
    ///
    /// `[batch, image_size, image_size, 3]`, 8-bit RGB.
    pub pixels: Vec<u8>,
    /// What is to be painted over each sample once it is normalised, one entry for each; in most recipes nothing.
    pub erasures: Vec<Option<Erasure>>,
    /// Class number of each sample; if it has several, the first one, and 0 if it has none.
    pub labels: Vec<usize>,
    /// All class numbers of each sample. Only if the source [is multi-label](ImageSource::is_multi_label).
    pub label_sets: Option<Vec<Vec<usize>>>,
    /// Place of each sample in the source.
    pub indices: Vec<usize>,
    /// Width and height of each sample, in pixels.
    pub image_size: u32,
    /// Name and reason of each bad sample whose place was in this batch. Only with [`OnCorrupt::Skip`].
    pub skipped: Vec<(String, String)>,
}

impl Batch {
    /// How many samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether all samples have been left out.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Why batches cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// Batches of nothing.
    #[error("the batch size is 0, but it must be at least 1")]
    ZeroBatchSize,
    /// Nothing to load.
    #[error("the data set has no images to load")]
    NoImages,
    /// The only batch would be left out.
    #[error(
        "the data set has {images} images, fewer than the batch size of {batch_size}, and incomplete batches are dropped: choose \
         a smaller batch size"
    )]
    NoFullBatch {
        /// Images in the source.
        images: usize,
        /// [`LoaderConfig::batch_size`].
        batch_size: usize,
    },
    /// Repeated no times.
    #[error(
        "each image is to come 0 times, but it must come at least once: repeat it 2 or 3 times, or do not repeat it"
    )]
    ZeroRepetitions,
    /// No class to take a turn.
    #[error("images with several labels cannot be balanced by class: choose the sampling `shuffled`")]
    BalancedMultiLabel,
    /// One image is bad.
    #[error("cannot load `{name}`: {reason}")]
    BadImage {
        /// Name of the image.
        name: String,
        /// What is wrong with it.
        reason: Box<LoadError>,
    },
    /// Every image of the epoch is bad.
    #[error("none of the {images} images can be loaded; the first one is `{name}`: {reason}")]
    AllBad {
        /// How many there are.
        images: usize,
        /// Name of the first one tried.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Source or transform panicked: a bug.
    #[error("loading `{name}` panicked: {message}")]
    Panicked {
        /// Name of the image.
        name: String,
        /// The panic's message.
        message: String,
    },
    /// The system could not start a thread.
    #[error("cannot start a loader thread: {error}")]
    Spawn {
        /// The system's words.
        error: io::Error,
    },
    /// All workers have ended early: a bug.
    #[error("the loader threads ended before the epoch did")]
    WorkersGone,
}

/// Loads a source, epoch by epoch. A clone is cheap.
#[derive(Clone)]
pub struct Loader {
    shared: Arc<Shared>,
    pipeline: Arc<Pipeline>,
    workers: usize,
    prefetch_batches: usize,
}

/// What workers need.
struct Shared {
    source: Arc<dyn ImageSource>,
    seed: u64,
    batch_size: usize,
    batches: usize,
    shuffle: bool,
    sampling: Sampling,
    on_corrupt: OnCorrupt,
}

impl Loader {
    /// Checks the configuration. Nothing is read yet.
    ///
    /// # Errors
    ///
    /// [`LoaderError`] if there would be no batch.
    pub fn new(source: Arc<dyn ImageSource>, pipeline: Pipeline, config: LoaderConfig) -> Result<Self, LoaderError> {
        let (images, batch_size) = (source.len(), config.batch_size);
        if batch_size == 0 {
            return Err(LoaderError::ZeroBatchSize);
        }
        if images == 0 {
            return Err(LoaderError::NoImages);
        }
        let batches = if config.drop_last { images / batch_size } else { images.div_ceil(batch_size) };
        if batches == 0 {
            return Err(LoaderError::NoFullBatch { images, batch_size });
        }
        match config.sampling {
            Sampling::Repeated(0) => return Err(LoaderError::ZeroRepetitions),
            Sampling::Balanced if source.is_multi_label() => return Err(LoaderError::BalancedMultiLabel),
            _ => {}
        }
        let shared = Shared {
            source,
            seed: config.seed,
            batch_size,
            batches,
            shuffle: config.shuffle,
            sampling: config.sampling,
            on_corrupt: config.on_corrupt,
        };
        Ok(Self {
            shared: Arc::new(shared),
            pipeline: Arc::new(pipeline),
            workers: config.workers,
            prefetch_batches: config.prefetch_batches,
        })
    }

    /// The same batches in the same order, made by another pipeline, such as one of another image size. Nothing is copied.
    #[must_use]
    pub fn with_pipeline(&self, pipeline: Pipeline) -> Self {
        Self { pipeline: Arc::new(pipeline), ..self.clone() }
    }

    /// What it loads.
    pub fn source(&self) -> &dyn ImageSource {
        self.shared.source.as_ref()
    }

    /// Batches of a whole epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.shared.batches
    }

    /// The batches of an epoch from `first_batch` on. The threads end with the iterator.
    pub fn epoch(&self, epoch: u64, first_batch: usize) -> EpochIter {
        let Shared { source, seed, shuffle, sampling, .. } = self.shared.as_ref();
        let order = if *shuffle {
            EpochOrder::shuffled(source.as_ref(), *sampling, *seed, epoch)
        } else {
            EpochOrder::unshuffled(source.len())
        };
        let (shared, pipeline) = (Arc::clone(&self.shared), Arc::clone(&self.pipeline));
        let plan = Arc::new(EpochPlan { shared, pipeline, epoch, order });
        let remaining = self.shared.batches.saturating_sub(first_batch);
        let (workers, failure) = if self.workers == 0 || remaining == 0 {
            (None, None)
        } else {
            match Workers::start(&plan, self.workers, self.prefetch_batches, first_batch) {
                Ok(workers) => (Some(workers), None),
                Err(error) => (None, Some(LoaderError::Spawn { error })),
            }
        };
        EpochIter { plan, next: first_batch, workers, failure, ended: false }
    }
}

/// The order of one epoch, and how to make each sample of it.
struct EpochPlan {
    shared: Arc<Shared>,
    pipeline: Arc<Pipeline>,
    epoch: u64,
    order: EpochOrder,
}

/// The samples of a range of places in the order.
#[derive(Default)]
struct Chunk {
    pixels: Vec<u8>,
    erasures: Vec<Option<Erasure>>,
    labels: Vec<usize>,
    label_sets: Vec<Vec<usize>>,
    indices: Vec<usize>,
    skipped: Vec<(String, String)>,
}

impl EpochPlan {
    fn places(&self, batch: usize) -> Range<usize> {
        let first = batch * self.shared.batch_size;
        first..(first + self.shared.batch_size).min(self.order.len())
    }

    /// Makes the samples of some places. `stop` ends it early with what there is.
    fn chunk(&self, places: Range<usize>, stop: &AtomicBool) -> Result<Chunk, LoaderError> {
        let mut chunk = Chunk::default();
        for place in places {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let sample = self.order.image(place);
            catch_unwind(AssertUnwindSafe(|| self.sample(place, &mut chunk))).unwrap_or_else(|payload| {
                // Even the name may be what panicked.
                let name = catch_unwind(AssertUnwindSafe(|| self.shared.source.name(sample)))
                    .unwrap_or_else(|_| format!("image {sample}"));
                Err(LoaderError::Panicked { name, message: panic_message(payload.as_ref()) })
            })?;
        }
        Ok(chunk)
    }

    /// Adds the sample of one place to a chunk, or what takes its place.
    fn sample(&self, place: usize, chunk: &mut Chunk) -> Result<(), LoaderError> {
        let Shared { source, seed, .. } = self.shared.as_ref();
        let index = self.order.image(place);
        let (image, used) = match load_image(source.as_ref(), index) {
            Ok(image) => (image, index),
            Err(reason) => {
                let name = source.name(index);
                if self.shared.on_corrupt == OnCorrupt::Error {
                    return Err(LoaderError::BadImage { name, reason: Box::new(reason) });
                }
                let reason = reason.to_string();
                chunk.skipped.push((name.clone(), reason.clone()));
                if !self.shared.shuffle {
                    return Ok(());
                }
                let len = self.order.len();
                (1..len)
                    .map(|step| self.order.image((place + step) % len))
                    .filter(|&other| other != index)
                    .find_map(|other| {
                        let image = load_image(source.as_ref(), other).ok()?;
                        Some((image, other))
                    })
                    .ok_or_else(|| LoaderError::AllBad { images: self.order.num_images(), name, reason })?
            }
        };
        let mut rng = repeated_sample_stream(*seed, self.epoch, index, self.order.occurrence(place));
        let image = self.pipeline.apply(image, &mut rng);
        chunk.pixels.extend_from_slice(&image.pixels);
        chunk.erasures.push(self.pipeline.erasure(&mut rng));
        chunk.labels.push(source.label(used));
        if source.is_multi_label() {
            chunk.label_sets.push(source.labels(used));
        }
        chunk.indices.push(used);
        Ok(())
    }

    fn batch(&self, chunks: Vec<Chunk>) -> Batch {
        let image_size = self.pipeline.image_size();
        let mut batch = Batch {
            pixels: Vec::with_capacity(chunks.iter().map(|chunk| chunk.pixels.len()).sum()),
            erasures: Vec::new(),
            labels: Vec::new(),
            label_sets: self.shared.source.is_multi_label().then(Vec::new),
            indices: Vec::new(),
            image_size,
            skipped: Vec::new(),
        };
        for chunk in chunks {
            batch.pixels.extend_from_slice(&chunk.pixels);
            batch.erasures.extend(chunk.erasures);
            batch.labels.extend(chunk.labels);
            if let Some(label_sets) = &mut batch.label_sets {
                label_sets.extend(chunk.label_sets);
            }
            batch.indices.extend(chunk.indices);
            batch.skipped.extend(chunk.skipped);
        }
        batch
    }
}

/// The threads of one epoch and what they are at.
struct Workers {
    jobs: Option<Sender<Job>>,
    results: Receiver<Done>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    chunk_len: usize,
    /// Batches handed out but not yet returned, the next one first: one place per chunk.
    pending: VecDeque<Vec<Option<Result<Chunk, LoaderError>>>>,
    /// Number of the first batch in `pending`.
    first_pending: usize,
    ahead: usize,
}

struct Job {
    batch: usize,
    chunk: usize,
    places: Range<usize>,
}

struct Done {
    batch: usize,
    chunk: usize,
    result: Result<Chunk, LoaderError>,
}

impl Workers {
    fn start(plan: &Arc<EpochPlan>, workers: usize, prefetch_batches: usize, first_batch: usize) -> io::Result<Self> {
        // Both queues are bounded by what is handed out: at most `1 + prefetch_batches` batches.
        let (jobs, job_receiver) = unbounded::<Job>();
        let (result_sender, results) = unbounded();
        let mut this = Self {
            jobs: Some(jobs),
            results,
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::with_capacity(workers),
            chunk_len: plan.shared.batch_size.div_ceil(workers * 4).clamp(1, MAX_CHUNK),
            pending: VecDeque::new(),
            first_pending: first_batch,
            ahead: prefetch_batches,
        };
        for number in 0..workers {
            let (plan, stop) = (Arc::clone(plan), Arc::clone(&this.stop));
            let (jobs, results) = (job_receiver.clone(), result_sender.clone());
            let work = move || {
                for Job { batch, chunk, places } in jobs {
                    let result = plan.chunk(places, &stop);
                    if stop.load(Ordering::Relaxed) || results.send(Done { batch, chunk, result }).is_err() {
                        break;
                    }
                }
            };
            // On failure `this` is dropped, which ends the threads that have started.
            this.threads.push(std::thread::Builder::new().name(format!("loader-{number}")).spawn(work)?);
        }
        this.hand_out(plan, first_batch);
        Ok(this)
    }

    /// Hands out the batches up to `ahead` after `batch`.
    fn hand_out(&mut self, plan: &EpochPlan, batch: usize) {
        let Some(jobs) = &self.jobs else { return };
        let end = (batch + 1).saturating_add(self.ahead).min(plan.shared.batches);
        for batch in self.first_pending + self.pending.len()..end {
            let places = plan.places(batch);
            let starts = places.clone().step_by(self.chunk_len);
            self.pending.push_back(starts.clone().map(|_| None).collect());
            for (chunk, start) in starts.enumerate() {
                let places = start..(start + self.chunk_len).min(places.end);
                // Cannot fail while a worker lives; if none does, `next` reports it.
                let _ = jobs.send(Job { batch, chunk, places });
            }
        }
    }

    fn next(&mut self, plan: &EpochPlan, batch: usize) -> Result<Batch, LoaderError> {
        self.hand_out(plan, batch);
        while self.pending.front().is_some_and(|chunks| chunks.iter().any(Option::is_none)) {
            let Ok(Done { batch, chunk, result }) = self.results.recv() else {
                return Err(LoaderError::WorkersGone);
            };
            self.pending[batch - self.first_pending][chunk] = Some(result);
        }
        let chunks = self.pending.pop_front().unwrap_or_default();
        self.first_pending += 1;
        let chunks: Vec<Chunk> = chunks.into_iter().flatten().collect::<Result<_, _>>()?;
        Ok(plan.batch(chunks))
    }
}

/// More samples would make a worker hold back a whole small batch.
const MAX_CHUNK: usize = 16;

impl Drop for Workers {
    /// Ends the threads after the sample that each is at.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // Workers catch panics; if one got through, the epoch has already reported it as missing.
            let _ = thread.join();
        }
    }
}

/// The batches of one epoch in order. After an error there are no more.
pub struct EpochIter {
    plan: Arc<EpochPlan>,
    next: usize,
    workers: Option<Workers>,
    failure: Option<LoaderError>,
    ended: bool,
}

impl EpochIter {
    /// Number of the batch that comes next.
    pub fn next_batch(&self) -> usize {
        self.next
    }

    fn end(&mut self) {
        self.ended = true;
        self.workers = None;
    }
}

impl Iterator for EpochIter {
    type Item = Result<Batch, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failure.take() {
            self.end();
            return Some(Err(error));
        }
        if self.ended || self.next >= self.plan.shared.batches {
            self.end();
            return None;
        }
        let result = match &mut self.workers {
            Some(workers) => workers.next(&self.plan, self.next),
            None => {
                let chunk = self.plan.chunk(self.plan.places(self.next), &AtomicBool::new(false));
                chunk.map(|chunk| self.plan.batch(vec![chunk]))
            }
        };
        self.next += 1;
        if result.is_err() {
            self.end();
        }
        Some(result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = if self.ended { 0 } else { self.plan.shared.batches.saturating_sub(self.next) };
        // An error may end it sooner.
        (left.min(1), Some(left))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::image::RgbImage;
    use crate::random::permutation;
    use crate::random_erasing::{EraseMode, RandomErasing};
    use crate::source::{EncodedImage, SourceError};
    use crate::transform::Transform;

    /// Pictures made on demand, of which some are bad.
    #[derive(Default)]
    struct Made {
        len: usize,
        corrupt: Vec<usize>,
        panics: Vec<usize>,
        delay: Duration,
        reads: AtomicUsize,
        /// Image `index` has the labels `0..index % 3`.
        is_multi_label: bool,
    }

    impl ImageSource for Made {
        fn len(&self) -> usize {
            self.len
        }

        fn label(&self, index: usize) -> usize {
            index % 10
        }

        fn labels(&self, index: usize) -> Vec<usize> {
            if self.is_multi_label { (0..index % 3).collect() } else { vec![self.label(index)] }
        }

        fn is_multi_label(&self) -> bool {
            self.is_multi_label
        }

        fn name(&self, index: usize) -> String {
            format!("made/{index}.png")
        }

        fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(self.delay);
            assert!(!self.panics.contains(&index), "a bug in the source");
            if self.corrupt.contains(&index) {
                return Ok(EncodedImage::File(b"words".to_vec()));
            }
            let gray: Vec<u8> = (0..12 * 9).map(|pixel| (pixel * 7 + index * 13) as u8).collect();
            Ok(EncodedImage::Rgb(RgbImage::from_gray(12, 9, &gray)))
        }
    }

    fn made(len: usize) -> Made {
        Made { len, ..Made::default() }
    }

    fn pipeline(image_size: u32) -> Pipeline {
        let transforms = [
            Transform::RandomResizedCrop {
                size: None,
                scale: [0.2, 1.0],
                ratio: [0.75, 1.5],
                interpolation: Default::default(),
            },
            Transform::HorizontalFlip { probability: 0.5 },
            Transform::RandomErasing(RandomErasing { mode: EraseMode::Pixel, ..RandomErasing::default() }),
        ];
        Pipeline::new(&transforms, image_size).unwrap()
    }

    fn loader(source: Made, config: LoaderConfig) -> Loader {
        Loader::new(Arc::new(source), pipeline(6), config).unwrap()
    }

    fn config(workers: usize) -> LoaderConfig {
        LoaderConfig { batch_size: 8, workers, shuffle: true, seed: 5, ..LoaderConfig::default() }
    }

    fn epoch(loader: &Loader, epoch: u64) -> Vec<Batch> {
        loader.epoch(epoch, 0).map(Result::unwrap).collect()
    }

    #[test]
    fn batches_do_not_depend_on_workers_or_prefetch() {
        let expected = epoch(&loader(made(61), config(0)), 3);
        assert_eq!(expected.len(), 8);
        assert_eq!(expected.iter().map(Batch::len).collect::<Vec<_>>(), [8, 8, 8, 8, 8, 8, 8, 5]);
        assert_eq!(expected[0].pixels.len(), 8 * 6 * 6 * 3);
        let mut seen: Vec<usize> = expected.iter().flat_map(|batch| batch.indices.clone()).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..61));
        for workers in [0, 1, 2, 8] {
            for prefetch_batches in [0, 1, 5, 100] {
                let loader = loader(made(61), LoaderConfig { prefetch_batches, ..config(workers) });
                assert!(epoch(&loader, 3) == expected, "{workers} workers, {prefetch_batches} ahead");
            }
        }
        assert!(epoch(&loader(made(61), config(2)), 4) != expected);
    }

    #[test]
    fn an_epoch_can_start_at_any_batch() {
        for workers in [0, 2] {
            let loader = loader(made(61), config(workers));
            let whole = epoch(&loader, 1);
            for first in 0..=8 {
                let rest: Vec<Batch> = loader.epoch(1, first).map(Result::unwrap).collect();
                assert!(rest == whole[first..], "from {first}");
            }
            assert_eq!(loader.epoch(1, 99).count(), 0);
        }
    }

    #[test]
    fn without_shuffle_the_order_is_the_sources() {
        let loader = loader(made(10), LoaderConfig { shuffle: false, batch_size: 4, ..config(2) });
        let batches = epoch(&loader, 0);
        assert_eq!(batches[1].indices, [4, 5, 6, 7]);
        assert_eq!(batches[2].labels, [8, 9]);
    }

    #[test]
    fn an_incomplete_batch_can_be_dropped() {
        let loader = loader(made(61), LoaderConfig { drop_last: true, ..config(2) });
        assert_eq!(loader.batches_per_epoch(), 7);
        assert_eq!(epoch(&loader, 0).len(), 7);
    }

    #[test]
    fn a_bad_image_ends_the_epoch_with_its_name() {
        for workers in [0, 1, 2, 8] {
            let source = Made { corrupt: vec![20], ..made(61) };
            let config = LoaderConfig { shuffle: false, ..config(workers) };
            let results: Vec<_> = loader(source, config).epoch(0, 0).collect();
            // Batches 0 and 1 are good, 20 is in batch 2.
            assert_eq!(results.len(), 3, "{workers} workers");
            assert_eq!(
                results[2].as_ref().unwrap_err().to_string(),
                "cannot load `made/20.png`: the file is text, not an image: put the image in its place, or remove the file"
            );
        }
    }

    #[test]
    fn a_panic_ends_the_epoch_with_an_error() {
        for workers in [0, 2] {
            for on_corrupt in [OnCorrupt::Error, OnCorrupt::Skip] {
                let source = Made { panics: vec![20], ..made(61) };
                let config = LoaderConfig { shuffle: false, on_corrupt, ..config(workers) };
                let results: Vec<_> = loader(source, config).epoch(0, 0).collect();
                assert_eq!(results.len(), 3);
                assert_eq!(
                    results[2].as_ref().unwrap_err().to_string(),
                    "loading `made/20.png` panicked: a bug in the source"
                );
            }
        }
    }

    #[test]
    fn in_training_the_next_good_image_takes_the_place_of_a_bad_one() {
        let order = permutation(5, 2, 61);
        // Two bad images in a row, and the last one of the epoch.
        let corrupt = vec![order[10], order[11], order[60]];
        let expected: Vec<Batch> = {
            let source = Made { corrupt: corrupt.clone(), ..made(61) };
            epoch(&loader(source, LoaderConfig { on_corrupt: OnCorrupt::Skip, ..config(0) }), 2)
        };
        let indices: Vec<usize> = expected.iter().flat_map(|batch| batch.indices.clone()).collect();
        let mut replaced = order.clone();
        (replaced[10], replaced[11], replaced[60]) = (order[12], order[12], order[0]);
        assert_eq!(indices, replaced);
        // The same picture three times, but other random choices.
        let sample = |batch: &Batch, place: usize| batch.pixels[place * 108..][..108].to_vec();
        assert_ne!(sample(&expected[1], 2), sample(&expected[1], 3));
        assert_ne!(sample(&expected[1], 3), sample(&expected[1], 4));
        let skipped: Vec<String> =
            expected.iter().flat_map(|batch| &batch.skipped).map(|(name, _)| name.clone()).collect();
        assert_eq!(skipped, corrupt.iter().map(|index| format!("made/{index}.png")).collect::<Vec<_>>());
        for workers in [1, 2, 8] {
            let source = Made { corrupt: corrupt.clone(), ..made(61) };
            let again = epoch(&loader(source, LoaderConfig { on_corrupt: OnCorrupt::Skip, ..config(workers) }), 2);
            assert!(again == expected, "{workers} workers");
        }
    }

    #[test]
    fn every_sampling_is_a_function_of_the_place() {
        for sampling in [Sampling::Balanced, Sampling::Repeated(3)] {
            for on_corrupt in [OnCorrupt::Error, OnCorrupt::Skip] {
                let corrupt = if on_corrupt == OnCorrupt::Skip { vec![3, 4, 50] } else { Vec::new() };
                let loader = |workers| {
                    let source = Made { corrupt: corrupt.clone(), ..made(61) };
                    loader(source, LoaderConfig { sampling, on_corrupt, ..config(workers) })
                };
                let whole = epoch(&loader(0), 1);
                assert_eq!(whole.iter().map(Batch::len).collect::<Vec<_>>(), [8, 8, 8, 8, 8, 8, 8, 5]);
                for workers in [0, 1, 3] {
                    for first in [0, 3, 7] {
                        let rest: Vec<Batch> = loader(workers).epoch(1, first).map(Result::unwrap).collect();
                        assert!(rest == whole[first..], "{sampling:?} {on_corrupt:?} {workers} workers from {first}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_repeated_image_is_augmented_anew_and_the_first_time_as_ever() {
        let once = epoch(&loader(made(61), config(0)), 1);
        let repeated = epoch(&loader(made(61), LoaderConfig { sampling: Sampling::Repeated(3), ..config(0) }), 1);
        let sample = |batches: &[Batch], place: usize| batches[place / 8].pixels[place % 8 * 108..][..108].to_vec();
        for place in 0..20 {
            let [first, second, third] = [0, 1, 2].map(|repetition| sample(&repeated, place * 3 + repetition));
            assert_eq!(first, sample(&once, place));
            assert!(first != second && second != third && third != first, "place {place}");
        }
    }

    #[test]
    fn another_pipeline_has_the_same_order() {
        let small = loader(made(61), LoaderConfig { sampling: Sampling::Repeated(2), ..config(2) });
        let large = small.with_pipeline(pipeline(9));
        let (small, large) = (epoch(&small, 4), epoch(&large, 4));
        assert_eq!((small[0].image_size, large[0].image_size), (6, 9));
        assert_eq!(large[0].pixels.len(), 8 * 9 * 9 * 3);
        for (small, large) in small.iter().zip(&large) {
            assert_eq!((&small.indices, &small.labels), (&large.indices, &large.labels));
        }
        let same = epoch(&loader(made(61), config(0)).with_pipeline(pipeline(9)), 4);
        let made = epoch(&Loader::new(Arc::new(made(61)), pipeline(9), config(0)).unwrap(), 4);
        assert_eq!(same, made);
    }

    #[test]
    fn a_batch_has_all_labels_of_an_image_with_several() {
        assert_eq!(epoch(&loader(made(9), config(0)), 0)[0].label_sets, None);
        for workers in [0, 2] {
            let source = Made { is_multi_label: true, corrupt: vec![2], ..made(9) };
            let config = LoaderConfig { shuffle: false, on_corrupt: OnCorrupt::Skip, ..config(workers) };
            let batches = epoch(&loader(source, config), 0);
            let expected = vec![vec![], vec![0], vec![], vec![0], vec![0, 1], vec![], vec![0]];
            assert_eq!((batches[0].label_sets.as_ref(), batches[0].labels.len()), (Some(&expected), 7));
            assert_eq!(batches[1].label_sets, Some(vec![vec![0, 1]]));
        }
    }

    #[test]
    fn in_evaluation_a_bad_image_is_left_out() {
        let source = Made { corrupt: vec![1, 4, 5, 6, 7], ..made(10) };
        let config = LoaderConfig { batch_size: 4, shuffle: false, on_corrupt: OnCorrupt::Skip, ..config(2) };
        let batches = epoch(&loader(source, config), 0);
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [3, 0, 2]);
        assert_eq!(
            (batches[0].indices.as_slice(), batches[0].labels.as_slice()),
            ([0, 2, 3].as_slice(), [0, 2, 3].as_slice())
        );
        assert_eq!(batches[1].skipped.len(), 4);
        assert_eq!(batches[1].skipped[0].0, "made/4.png");
    }

    #[test]
    fn when_all_images_are_bad_there_is_an_error() {
        for workers in [0, 2] {
            let source = Made { corrupt: (0..9).collect(), ..made(9) };
            let config = LoaderConfig { on_corrupt: OnCorrupt::Skip, ..config(workers) };
            let results: Vec<_> = loader(source, config).epoch(0, 0).collect();
            assert_eq!(results.len(), 1);
            let error = results[0].as_ref().unwrap_err().to_string();
            assert!(error.starts_with("none of the 9 images can be loaded; the first one is `made/"), "{error}");
        }
        // Only 3 of the 9 come in the epoch.
        let sampling = Sampling::Repeated(3);
        let source = Made { corrupt: (0..9).collect(), ..made(9) };
        let config = LoaderConfig { on_corrupt: OnCorrupt::Skip, sampling, ..config(0) };
        let error = loader(source, config).epoch(0, 0).next().unwrap().unwrap_err().to_string();
        assert!(error.starts_with("none of the 3 images can be loaded"), "{error}");
    }

    #[test]
    fn an_iterator_may_be_dropped_early() {
        let source = Made { delay: Duration::from_millis(5), ..made(5000) };
        let loader = loader(source, LoaderConfig { prefetch_batches: 100, ..config(4) });
        let begin = Instant::now();
        let mut batches = loader.epoch(0, 0);
        batches.next().unwrap().unwrap();
        drop(batches);
        drop(loader.epoch(1, 0));
        // All that was handed out would take a second.
        assert!(begin.elapsed() < Duration::from_millis(700), "{:?}", begin.elapsed());
    }

    #[test]
    fn no_more_is_read_ahead_than_allowed() {
        let source = Arc::new(made(800));
        let pipeline = Pipeline::new(&[Transform::CenterCrop { size: None }], 6).unwrap();
        let config = LoaderConfig { prefetch_batches: 2, ..config(2) };
        let loader = Loader::new(Arc::clone(&source) as Arc<dyn ImageSource>, pipeline, config).unwrap();
        let mut batches = loader.epoch(0, 0);
        for taken in 1..=5 {
            batches.next().unwrap().unwrap();
            std::thread::sleep(Duration::from_millis(20));
            assert!(source.reads.load(Ordering::Relaxed) <= (taken + 2) * 8);
        }
    }

    #[test]
    fn a_configuration_without_batches_is_refused() {
        let refused = |source, config| Loader::new(Arc::new(source), pipeline(6), config).err().unwrap().to_string();
        let error = |len, config| refused(made(len), config);
        assert_eq!(
            error(5, LoaderConfig { batch_size: 0, ..config(0) }),
            "the batch size is 0, but it must be at least 1"
        );
        assert_eq!(error(0, config(0)), "the data set has no images to load");
        assert_eq!(
            error(5, LoaderConfig { drop_last: true, ..config(0) }),
            "the data set has 5 images, fewer than the batch size of 8, and incomplete batches are dropped: choose a smaller \
             batch size"
        );
        assert_eq!(
            error(5, LoaderConfig { sampling: Sampling::Repeated(0), ..config(0) }),
            "each image is to come 0 times, but it must come at least once: repeat it 2 or 3 times, or do not repeat it"
        );
        assert_eq!(
            refused(
                Made { is_multi_label: true, ..made(5) },
                LoaderConfig { sampling: Sampling::Balanced, ..config(0) }
            ),
            "images with several labels cannot be balanced by class: choose the sampling `shuffled`"
        );
    }
}
