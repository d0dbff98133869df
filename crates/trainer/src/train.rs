//! The loop. Forward, backward, check, clip, update; at the step's end evaluate and save what is due; the rest is told to the
//! observers.

use std::cell::Cell;
use std::time::Instant;

use anyhow::{Context, bail};
use burn::module::Module;
use burn::tensor::Device;
use imageset::LoaderError;

use crate::checkpoint::{Best, Checkpoints, Expected, Progress, Resumed};
use crate::device::{self, ChosenDevice};
#[cfg(feature = "wgpu")]
use crate::device_check::audit::{Auditor, Verdict};
#[cfg(feature = "wgpu")]
use crate::device_check::batch_on_cpu;
#[cfg(feature = "wgpu")]
use crate::device_check::training_pass::Passage;
use crate::evaluate::{Evaluation, Evaluator, MAX_NAMES};
use crate::event::{EMA_SUFFIX, Event, FinishReason};
use crate::feed::{self, Feed, StepInput};
use crate::finetune::Pretrained;
use crate::interrupt::Interrupt;
use crate::observe::{ConsoleObserver, JsonlObserver, Observer, Output, TensorBoardObserver};
use crate::plan::Plan;
use crate::random::{self, Purpose};
use crate::recipe::Precision;
use crate::run_directory::RunDirectory;
use crate::step::{Measured, MicroBatch, NonFinite, StepReport, Trainee, training_device};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Completed,
    /// All steps had been done before.
    AlreadyCompleted,
    /// Stopped on request, after saving.
    Interrupted,
}

/// What a run needs from outside.
pub struct Surroundings<'a> {
    /// Where files go.
    pub directory: &'a RunDirectory,
    /// Where to compute.
    pub device: &'a ChosenDevice,
    /// Told of every event.
    pub console: ConsoleObserver,
    /// Where warnings go.
    pub output: &'a Output,
    /// Asked after every step.
    pub interrupt: &'a Interrupt,
}

/// Runs a plan to its end, or from its last checkpoint to its end.
///
/// Where a GPU has not the memory for a step, the run goes back to its last checkpoint and on with half as many images at a time, and so
/// again as long as batches can be cut.
pub fn train(plan: &Plan, mut surroundings: Surroundings<'_>) -> anyhow::Result<Outcome> {
    let (device, output) = (surroundings.device, surroundings.output);
    check_device(plan, device)?;
    let mut attempt = Attempt::default();
    loop {
        let work = || {
            if attempt.forced.is_some() {
                device.device.memory_cleanup();
            }
            run(plan, &mut surroundings, &attempt)
        };
        let error = match device.run(work) {
            Err(error) if device::is_out_of_memory(&error) && attempt.is_stepping.get() => error,
            ended => return ended,
        };
        let images = attempt.largest_part.get();
        let fewer = feed::largest_part(plan.recipe.data.batch_size, images.div_ceil(2));
        if fewer >= images {
            return Err(error);
        }
        output.line(&format!(
            "warning: {images} images at a time are too many for the memory of `{device}`: the run goes on from its last checkpoint with \
             {fewer}, which norms then see at a time; `--set train.micro_batch_size={fewer}` asks for that from the start"
        ));
        attempt = Attempt { forced: Some(fewer), ..Attempt::default() };
    }
}

/// An error if the device is none that the recipe can be run on.
pub(crate) fn check_device(plan: &Plan, device: &ChosenDevice) -> anyhow::Result<()> {
    plan.recipe.train.precision.check(&device.device)?;
    if plan.recipe.train.deterministic { device.check_deterministic() } else { Ok(()) }
}

/// How a run is tried, and what it was at when it ended.
#[derive(Debug, Default)]
struct Attempt {
    /// The most images at a time, since the device has no memory for more.
    forced: Option<usize>,
    /// The most images that went through the network at a time.
    largest_part: Cell<usize>,
    /// Whether a step was under way, for which fewer images at a time need less memory.
    is_stepping: Cell<bool>,
}

fn run(plan: &Plan, surroundings: &mut Surroundings<'_>, attempt: &Attempt) -> anyhow::Result<Outcome> {
    let device = surroundings.device;
    let Some((mut run, mut trainee)) = Run::begin(plan, surroundings, attempt)? else {
        return Ok(Outcome::AlreadyCompleted);
    };
    let mut feed = Feed::new(plan, run.device, run.progress.micro_batch_size)?;
    run.tell(run.start_event())?;
    let mut has_kernels = !device.is_gpu();
    loop {
        if let Some(outcome) = run.end_step(&trainee)? {
            return Ok(outcome);
        }
        attempt.is_stepping.set(true);
        let micro_batches = match feed.next(run.progress.step) {
            Ok(input) => run.fed(input),
            Err(error) => return run.stop_at_error(&trainee, error),
        };
        #[cfg(feature = "wgpu")]
        if run.audit(&trainee, &micro_batches)? {
            feed.seed_dropout(run.progress.step);
        }
        let began = Instant::now();
        if !has_kernels {
            run.console.note(match (cfg!(feature = "tuned"), cfg!(feature = "tuning-cache")) {
                (true, true) => "tuning kernels: the first step times several variants of each kernel that no earlier run has tuned",
                (true, false) => {
                    "tuning kernels: the first step times several variants of each kernel, and this run uses the fastest; build with \
                     `--features tuning-cache` to keep the results for later runs"
                }
                (false, _) => "compiling kernels: the first step takes longer",
            });
        }
        let decays = run.progress.plateau.map_or(0, |plateau| plateau.decays);
        let settings = plan.step_settings(run.progress.step, decays);
        match trainee.step(micro_batches, settings) {
            Ok((stepped, measured)) => {
                trainee = stepped;
                run.progress.step += 1;
                run.stepped(measured, settings.learning_rate)?;
                if !std::mem::replace(&mut has_kernels, true) {
                    run.kernels_are_ready(began)?;
                }
            }
            Err(error) => {
                let failed = run.progress.step + 1;
                return run.stop_at_non_finite(failed, &error);
            }
        }
    }
}

/// A run at work.
struct Run<'a> {
    plan: &'a Plan,
    device: &'a Device,
    #[cfg(feature = "wgpu")]
    chosen: &'a ChosenDevice,
    interrupt: &'a Interrupt,
    attempt: &'a Attempt,
    console: &'a mut ConsoleObserver,
    metrics: JsonlObserver,
    tensorboard: TensorBoardObserver,
    checkpoints: Checkpoints,
    progress: Progress,
    resumed: bool,
    /// Step of the last checkpoint on disk, and whether its evaluation is in it.
    saved: Option<(u64, bool)>,
    saved_at: Instant,
    /// Start of the time over which images per second are counted.
    counting_since: Instant,
    counted_images: usize,
    /// What steps measured that nobody has waited for yet, up to the present one.
    measured: Vec<Measured>,
    /// Of the last step that was read.
    report: Option<StepReport>,
    /// Watches a GPU.
    #[cfg(feature = "wgpu")]
    auditor: Option<Auditor>,
}

impl<'a> Run<'a> {
    /// Resumes the newest checkpoint, or starts from scratch. `None` if that checkpoint is the end of the run.
    fn begin(
        plan: &'a Plan,
        surroundings: &'a mut Surroundings<'_>,
        attempt: &'a Attempt,
    ) -> anyhow::Result<Option<(Self, Trainee)>> {
        let Surroundings { directory, device, console, output, interrupt } = surroundings;
        let checkpoints = Checkpoints::new(directory.checkpoints(), plan.recipe.checkpoint.keep, plan.steps_per_epoch);
        let resumed = {
            let expected = Expected {
                card: plan.card(0),
                optimizer: plan.optimizer(),
                ema: plan.ema(),
                checkpoint_activations: plan.recipe.train.checkpoint_activations,
            };
            checkpoints.resume(&expected, &device.device)?
        };
        let is_resumed = resumed.is_some();
        let fingerprint = plan.data_fingerprint.clone();
        let (trainee, mut progress) = match resumed {
            Some(Resumed { trainee, progress, damaged }) => {
                for checkpoint in damaged {
                    output.line(&format!("warning: passed over a damaged checkpoint: {checkpoint}"));
                }
                if progress.data_fingerprint != fingerprint {
                    bail!(
                        "the images, or their split, are not those that this run began with\n\n\
                         hint: give the same data, or start over with `--fresh`; where the split is ours it depends on all \
                         images, so one that came, went or was mended changes it"
                    );
                }
                if plan.is_complete(&progress) {
                    return Ok(None);
                }
                if progress.teacher_fingerprint != teacher_fingerprint(plan) {
                    bail!(
                        "the teacher is not the one that this run began with\n\n\
                         hint: `recipe.toml` of the run names its file; a run that was named may have a better checkpoint since. \
                         Or start over with `--fresh`"
                    );
                }
                // Weights that are gone are not needed any more.
                let found = weights_fingerprint(plan);
                let is_gone = found.is_none() && plan.recipe.finetune.is_some();
                if progress.weights_fingerprint != found && !is_gone {
                    let given = plan.pretrained.as_ref().map_or("none".to_string(), Pretrained::place);
                    bail!(
                        "the weights are not those that this run began with: {given}\n\n\
                         hint: `recipe.toml` of the run names them; a run that was named may have a better checkpoint since. \
                         Or start over with `--fresh`"
                    );
                }
                if progress.device != device.name {
                    output.line(&format!(
                        "warning: the run was on `{}` and goes on on `{device}`: from here on it is not bit for bit what it would \
                         have been there",
                        progress.device
                    ));
                }
                // What another device had no memory for says nothing about this one.
                let asked = plan.recipe.train.micro_batch_size;
                let is_same = progress.device == device.name;
                let micro_batch_size = if is_same { progress.micro_batch_size } else { asked };
                if let Some(images) = micro_batch_size.filter(|_| micro_batch_size != asked && attempt.forced.is_none())
                {
                    output.line(&format!(
                        "warning: the run goes on with at most {images} images at a time, since there was no memory for more"
                    ));
                }
                // What another device computed wrongly in 16 bits, this one may not.
                (
                    trainee.with_precision(plan.precision),
                    Progress { device: device.name.clone(), micro_batch_size, ..progress },
                )
            }
            None => (first_trainee(plan, &device.device)?, first_progress(plan, fingerprint, device.name.clone())),
        };
        progress.micro_batch_size = attempt.forced.or(progress.micro_batch_size);
        let batch_size = plan.recipe.data.batch_size;
        attempt.largest_part.set(feed::largest_part(batch_size, progress.micro_batch_size.unwrap_or(batch_size)));
        directory.keep(&plan.recipe, device)?;
        let metrics = JsonlObserver::open(&directory.metrics(), Some(progress.metrics_bytes), progress.seconds)
            .context("cannot write the metrics")?;
        let tensorboard = TensorBoardObserver::open(&directory.tensorboard(), progress.step)
            .context("cannot write TensorBoard events")?;
        let run = Self {
            plan,
            device: &device.device,
            interrupt,
            attempt,
            console,
            metrics,
            tensorboard,
            checkpoints,
            saved: is_resumed.then_some((progress.step, progress.evaluated)),
            progress,
            resumed: is_resumed,
            saved_at: Instant::now(),
            counting_since: Instant::now(),
            counted_images: 0,
            measured: Vec::new(),
            report: None,
            #[cfg(feature = "wgpu")]
            auditor: Auditor::new(device, plan.recipe.train.audit_every, plan.steps_per_epoch, plan.precision),
            #[cfg(feature = "wgpu")]
            chosen: device,
        };
        Ok(Some((run, trainee)))
    }

    fn tell(&mut self, event: Event) -> anyhow::Result<()> {
        self.metrics.observe(&event).context("cannot write the metrics")?;
        self.tensorboard.observe(&event).context("cannot write TensorBoard events")?;
        self.console.observe(&event).context("cannot write to the console")
    }

    fn start_event(&self) -> Event {
        Event::Start {
            step: self.progress.step,
            epoch: self.plan.epoch(self.progress.step),
            total_steps: self.plan.total_steps,
            steps_per_epoch: self.plan.steps_per_epoch,
            total_epochs: self.plan.epoch(self.plan.total_steps),
            resumed: self.resumed,
        }
    }

    /// Counts the images of a step and notes those that were passed over.
    fn fed(&mut self, input: StepInput) -> Vec<MicroBatch> {
        self.counted_images += input.num_images;
        self.progress.num_skipped += input.skipped.len() as u64;
        let names = input.skipped.into_iter().map(|(name, reason)| format!("{name}: {reason}"));
        let room = MAX_NAMES.saturating_sub(self.progress.skipped.len());
        self.progress.skipped.extend(names.take(room));
        input.micro_batches
    }

    /// Notes a step and tells of it if it is time.
    fn stepped(&mut self, measured: Measured, learning_rate: f64) -> anyhow::Result<()> {
        let step = self.progress.step;
        self.progress.evaluated = false;
        let is_known = measured.is_known();
        self.measured.push(measured);
        let is_told = step.is_multiple_of(self.plan.recipe.train.log_every as u64) || step == self.plan.total_steps;
        if is_known || is_told {
            self.settle()?;
        }
        if !is_told {
            return Ok(());
        }
        let seconds = self.counting_since.elapsed().as_secs_f64();
        let event = Event::Step {
            step,
            epoch: self.plan.epoch(step),
            loss: self.progress.loss_sum / self.progress.loss_steps as f64,
            learning_rate,
            images_per_second: self.counted_images as f64 / seconds,
            gradient_norm: self.report.map(|report| report.gradient_norm).filter(|norm| norm.is_finite()),
            loss_scale: self.report.and_then(|report| report.loss_scale),
            skipped_steps: self.report.and_then(|report| report.loss_scale).map(|_| self.progress.skipped_steps),
        };
        self.progress.skipped_steps = 0;
        self.progress.loss_sum = 0.0;
        self.progress.loss_steps = 0;
        self.tell(event)?;
        self.restart_clock();
        Ok(())
    }

    /// After the first step on a GPU, which is waited for once: what kernels took that were not there yet is no time of training.
    fn kernels_are_ready(&mut self, began: Instant) -> anyhow::Result<()> {
        self.settle()?;
        self.console.note(&format!("kernels are ready after {:.0} s", began.elapsed().as_secs_f64()));
        self.restart_clock();
        Ok(())
    }

    /// Waits for what the steps up to the present one measured. Before anything is evaluated or saved: a device that is not waited for
    /// may have gone astray some steps ago.
    fn settle(&mut self) -> anyhow::Result<()> {
        let measured = std::mem::take(&mut self.measured);
        let first = self.progress.step + 1 - measured.len() as u64;
        match Measured::read_all(measured) {
            Ok(reports) => {
                // All that was begun is done.
                self.attempt.is_stepping.set(false);
                for report in reports {
                    #[cfg(feature = "wgpu")]
                    if let Some(auditor) = &mut self.auditor {
                        auditor.observe_loss(report.loss);
                    }
                    self.progress.loss_sum += report.loss;
                    self.progress.loss_steps += 1;
                    self.progress.skipped_steps += u64::from(report.was_skipped());
                    self.report = Some(report);
                }
                Ok(())
            }
            Err((at, error)) => self.stop_at_non_finite(first + at as u64, &error).map(|_| ()),
        }
    }

    fn restart_clock(&mut self) {
        self.counting_since = Instant::now();
        self.counted_images = 0;
    }

    /// Evaluates and saves what is due after the current step. `Some` ends the run.
    fn end_step(&mut self, trainee: &Trainee) -> anyhow::Result<Option<Outcome>> {
        let step = self.progress.step;
        let began = Instant::now();
        let mut is_best = false;
        if self.plan.ends_epoch(step) {
            self.tell_skipped()?;
            #[cfg(feature = "wgpu")]
            self.watch_memory()?;
        }
        if !self.progress.evaluated && self.plan.evaluates_at(step) {
            match self.evaluate(trainee) {
                Ok(best) => is_best = best,
                Err(error) => return self.stop_at_error(trainee, error).map(Some),
            }
        } else {
            self.progress.evaluated = true;
        }
        let interrupted = self.interrupt.requested();
        let minutes = self.saved_at.elapsed().as_secs_f64() / 60.0;
        let due = step > 0 && self.plan.saves_at(step, minutes);
        let complete = self.plan.is_complete(&self.progress);
        if complete {
            self.tell_skipped()?;
        }
        if (due || is_best || interrupted || complete) && self.saved != Some((step, self.progress.evaluated)) {
            self.save(trainee, is_best)?;
        }
        // Evaluations and checkpoints are not training time.
        self.counting_since += began.elapsed();
        let outcome = match (complete, interrupted) {
            (true, _) if step < self.plan.total_steps => Some((Outcome::Completed, FinishReason::NoLongerBetter)),
            (true, _) => Some((Outcome::Completed, FinishReason::Completed)),
            (false, true) => Some((Outcome::Interrupted, FinishReason::Interrupted)),
            (false, false) => None,
        };
        let Some((outcome, reason)) = outcome else { return Ok(None) };
        self.tell(Event::Finish { step, epoch: self.plan.epoch(step), reason })?;
        Ok(Some(outcome))
    }

    /// Evaluates every split; returns whether the top-1 of the one that decides is the best so far. Leaves `evaluated` off if it
    /// was interrupted.
    fn evaluate(&mut self, trainee: &Trainee) -> anyhow::Result<bool> {
        self.settle()?;
        let step = self.progress.step;
        let average = trainee.ema.as_ref().map(|ema| (EMA_SUFFIX, ema.model.fold()));
        // A model with an average of its weights is used by that, so it decides which checkpoint is the best.
        let suffix = average.as_ref().map_or("", |(suffix, _)| suffix);
        let first = self.plan.evaluated.first().map_or("val", |split| &split.name);
        let decisive = if self.plan.evaluated.iter().any(|split| split.name == "val") { "val" } else { first };
        let decisive = format!("{decisive}{suffix}");
        let models: Vec<_> = [("", trainee.folded())].into_iter().chain(average).collect();
        let mut found: Vec<(String, Evaluation)> = Vec::new();
        let models_by_split =
            self.plan.evaluated.iter().flat_map(|split| models.iter().map(move |model| (split, model)));
        for (split, (suffix, model)) in models_by_split {
            let evaluator = Evaluator {
                loader: &split.loader,
                normalization: self.plan.normalization,
                classes: &self.plan.data.classes,
                independent_classes: self.plan.recipe.train.bce.is_some(),
                device: self.device,
            };
            let interrupt = self.interrupt.clone();
            let evaluation = evaluator
                .run(model, &|| interrupt.requested())
                .with_context(|| format!("cannot evaluate the split `{}`", split.name))?;
            let Some(evaluation) = evaluation else { return Ok(false) };
            found.push((format!("{}{suffix}", split.name), evaluation));
        }
        self.progress.evaluated = true;
        let epoch = self.plan.epoch(step);
        let decisive = found.iter().find(|(split, _)| *split == decisive);
        let top1 = decisive.map(|(_, evaluation)| evaluation.decisive());
        for (split, evaluation) in found {
            let Evaluation { loss, top1, top5, mean_average_precision, num_images, num_skipped, skipped, .. } =
                evaluation;
            let split_name = split.clone();
            self.tell(Event::Eval {
                step,
                epoch,
                split: split_name,
                loss,
                top1,
                top5,
                mean_average_precision,
                num_images,
            })?;
            if num_skipped > 0 && !split.ends_with(EMA_SUFFIX) {
                self.tell(Event::Skipped { step, epoch, num_images: num_skipped, names: skipped })?;
            }
        }
        let best = top1.filter(|top1| self.progress.best.is_none_or(|best| *top1 > best.top1));
        // While the head trains alone nothing is settled yet.
        self.progress.evaluations_since_best += u64::from(self.plan.counts_for_patience(step));
        if let Some(top1) = top1 {
            self.plan.observe_plateau(&mut self.progress, top1);
        }
        if let Some(top1) = best {
            self.progress.best = Some(Best { step, top1 });
            self.progress.evaluations_since_best = 0;
        }
        Ok(best.is_some())
    }

    fn save(&mut self, trainee: &Trainee, best: bool) -> anyhow::Result<()> {
        self.settle()?;
        let step = self.progress.step;
        self.metrics.sync().context("cannot write the metrics")?;
        self.progress.metrics_bytes = self.metrics.position();
        self.progress.seconds = self.metrics.seconds();
        let path = self.checkpoints.save(trainee, &self.plan.card(step), &self.progress)?;
        self.saved = Some((step, self.progress.evaluated));
        self.saved_at = Instant::now();
        let path = path.display().to_string();
        self.tell(Event::Checkpoint { step, epoch: self.plan.epoch(step), path, best })
    }

    /// Says how many damaged images were left out since it was last said.
    fn tell_skipped(&mut self) -> anyhow::Result<()> {
        let num_images = std::mem::take(&mut self.progress.num_skipped);
        let names = std::mem::take(&mut self.progress.skipped);
        if num_images == 0 {
            return Ok(());
        }
        let step = self.progress.step;
        self.tell(Event::Skipped { step, epoch: self.plan.epoch(step), num_images, names })
    }

    /// An image that cannot be read costs no step that was done: the run is saved and ends.
    fn stop_at_error(&mut self, trainee: &Trainee, error: anyhow::Error) -> anyhow::Result<Outcome> {
        let step = self.progress.step;
        if self.saved != Some((step, self.progress.evaluated)) {
            self.save(trainee, false)?;
        }
        self.tell(Event::Finish { step, epoch: self.plan.epoch(step), reason: FinishReason::Failed })?;
        let is_bad_image =
            error.chain().any(|cause| matches!(cause.downcast_ref(), Some(LoaderError::BadImage { .. })));
        if is_bad_image {
            bail!(
                "{error:#}\n\nhint: put the file back as it was, or go on without it with `--set data.on_corrupt=skip`"
            );
        }
        Err(error)
    }

    /// Compares the GPU with the CPU on the images at hand, if it is time; says whether it did.
    #[cfg(feature = "wgpu")]
    fn audit(&mut self, trainee: &Trainee, micro_batches: &[MicroBatch]) -> anyhow::Result<bool> {
        let (step, began) = (self.progress.step, Instant::now());
        if !self.auditor.as_ref().is_some_and(|auditor| auditor.is_due(step)) {
            return Ok(false);
        }
        // A run that has diverged is no fault of the device.
        self.settle()?;
        self.attempt.is_stepping.set(true);
        let (Some(auditor), Some(batch)) = (&mut self.auditor, micro_batches.first()) else { return Ok(false) };
        let [images, _, size, _] = batch.images.dims();
        let images = batch_on_cpu(&self.plan.model, size, images);
        let passage = Passage {
            network: self.plan.model.clone(),
            weights: trainee.model.valid().state(0),
            images: batch.images.clone().narrow(0, 0, images).into_data(),
            targets: batch.targets.clone().narrow(0, 0, images).into_data(),
            checkpoint_activations: self.plan.recipe.train.checkpoint_activations,
        };
        let verdict = auditor.audit(&passage, self.chosen)?;
        // An audit is not training time.
        self.counting_since += began.elapsed();
        self.judged(verdict)?;
        Ok(true)
    }

    #[cfg(feature = "wgpu")]
    fn watch_memory(&mut self) -> anyhow::Result<()> {
        self.settle()?;
        let (Some(auditor), Some(bytes)) = (&mut self.auditor, self.chosen.memory_bytes_in_use()) else {
            return Ok(());
        };
        let verdict = auditor.observe_memory(bytes);
        self.judged(verdict)
    }

    /// Warns, or ends the run without saving what the GPU may have computed wrongly.
    #[cfg(feature = "wgpu")]
    fn judged(&mut self, verdict: Verdict) -> anyhow::Result<()> {
        let step = self.progress.step;
        match verdict {
            Verdict::Good => Ok(()),
            Verdict::Warn(text) => {
                self.console.note(&format!("warning: step {step}: {text}"));
                Ok(())
            }
            Verdict::Stop(text) => {
                self.tell(Event::Finish { step, epoch: self.plan.epoch(step), reason: FinishReason::DeviceFault })?;
                bail!(
                    "step {step}: {text}; {}\n\n\
                     hint: `ghostnet devices --check` says more about the device; the same command with `--device cpu` resumes the run \
                     from its last checkpoint",
                    self.last_checkpoint()
                )
            }
        }
    }

    fn last_checkpoint(&self) -> String {
        match self.saved {
            Some((saved, _)) => format!("the last checkpoint is that of step {saved}"),
            None => "there is no checkpoint yet".to_string(),
        }
    }

    /// Nothing is saved any more, and the last checkpoint is named. On the CPU the step that failed has not touched the weights.
    fn stop_at_non_finite(&mut self, failed: u64, error: &NonFinite) -> anyhow::Result<Outcome> {
        let step = failed - 1;
        self.tell(Event::Finish { step, epoch: self.plan.epoch(step), reason: FinishReason::NonFiniteLoss })?;
        let checkpoint = self.last_checkpoint();
        let clip = match self.plan.recipe.train.adaptive_clip {
            Some(_) => "make `train.adaptive_clip` smaller",
            None => "clip gradients with `train.clip_norm`",
        };
        let precision = match self.plan.precision {
            Precision::Mixed => ", or take `train.precision = \"f32\"`: 16 bits end at 65,504",
            Precision::F32 => "",
        };
        bail!(
            "{error} at step {failed}, so the run stopped before it reached a checkpoint; {checkpoint}\n\n\
             hint: lower `optimizer.learning_rate`, lengthen `schedule.warmup`, or {clip}{precision}"
        )
    }
}

/// The network that a run starts with. Random weights are drawn on the CPU, so that they are the same on every device.
pub(crate) fn first_trainee(plan: &Plan, device: &Device) -> anyhow::Result<Trainee> {
    let at = |device| training_device(device, plan.recipe.train.checkpoint_activations);
    let cpu = Device::flex();
    cpu.seed(random::derived_seed(plan.recipe.seed, Purpose::Weights, 0));
    let mut fresh = plan.model.init(&at(&cpu));
    if *device != cpu {
        let drawn = fresh.valid().state(0);
        fresh = plan.model.load(drawn, &at(device))?;
    }
    let model = match &plan.pretrained {
        Some(pretrained) => pretrained.load(fresh)?,
        None if plan.recipe.finetune.is_some() => bail!("the weights to start from are gone"),
        None => fresh,
    };
    Ok(Trainee::new(model, plan.optimizer()).with_ema(plan.ema()).with_precision(plan.precision))
}

fn weights_fingerprint(plan: &Plan) -> Option<String> {
    plan.pretrained.as_ref().map(|pretrained| pretrained.fingerprint.clone())
}

fn teacher_fingerprint(plan: &Plan) -> Option<String> {
    plan.teacher.as_ref().map(|teacher| teacher.fingerprint.clone())
}

fn first_progress(plan: &Plan, data_fingerprint: String, device: String) -> Progress {
    Progress {
        step: 0,
        evaluated: true,
        best: None,
        evaluations_since_best: 0,
        loss_sum: 0.0,
        loss_steps: 0,
        skipped_steps: 0,
        num_skipped: 0,
        skipped: Vec::new(),
        metrics_bytes: 0,
        seconds: 0.0,
        recipe_hash: plan.recipe.hash(),
        data_fingerprint,
        weights_fingerprint: weights_fingerprint(plan),
        teacher_fingerprint: teacher_fingerprint(plan),
        micro_batch_size: plan.recipe.train.micro_batch_size,
        plateau: None,
        device,
    }
}
