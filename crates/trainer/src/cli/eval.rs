//! `ghostnet eval`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum, ValueHint};
use imageset::OnCorrupt;
use serde::Serialize;

use super::{
    CheckedDeviceArgs, DataArgs, FormatArgs, GlobalArgs, HintArgs, ReadingArgs, interrupted, locate, tell_notes,
};
use crate::device_check::{ForwardPasses, Workload};
use crate::evaluate::{self, Evaluation, Evaluator, TestTimeAugmentation};
use crate::interrupt::Interrupt;
use crate::measured_data::{MeasuredData, Split};
use crate::model_source::{DataRequest, FoundModel, OpenedModel};
use crate::observe::Output;
use crate::plan;
use crate::relabel::Relabelled;
use crate::weights::ModelCard;

/// Arguments of `eval`.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// A run (its best checkpoint), a checkpoint, a model file, weights of timm or PyTorch, or hf:OWNER/NAME
    #[arg(value_name = "RUN|CHECKPOINT", value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// The images to measure on [default: the held-out images of the run, or all images of `--data`]
    #[arg(long, value_enum)]
    split: Option<Split>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Images in a forward pass
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// What to do with an image that cannot be decoded
    #[arg(long, value_enum, default_value_t)]
    on_corrupt: Corrupt,
    /// Test-time augmentation: look at each image in several ways; each takes as long as the first
    #[arg(long, value_enum, value_name = "VIEWS", default_value_t)]
    tta: TestTimeAugmentation,
    #[command(flatten)]
    device: CheckedDeviceArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    hints: HintArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Corrupt {
    /// Stop and name it
    #[default]
    Error,
    /// Leave it out and count it
    Skip,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    model: PathBuf,
    step: u64,
    data: String,
    classes: Vec<String>,
    tta: TestTimeAugmentation,
    #[serde(flatten)]
    evaluation: Evaluation,
}

pub(super) fn run(args: EvalArgs, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let opened = FoundModel::read(&locate(args.model, global, output)?)?.open(args.hints.read()?)?;
    tell_notes(&opened, output);
    let ReadingArgs { leave_out, size } = args.reading;
    let request = DataRequest { path: args.data.data, leave_out, max_pixels: size.max_pixels };
    let data = MeasuredData::open(&opened, request, args.split)?;
    let OpenedModel { file, path, .. } = opened;
    evaluate::refuse_one_output(&file.card.classes, data.images.as_ref())?;
    let split_warning = data.split_here.as_ref().and_then(|data| plan::split_warning(&file.card, data));
    let warnings = data.warnings.iter().map(String::as_str).chain(split_warning);
    warnings.for_each(|warning| output.line(&format!("warning: {warning}")));
    data.left_out.line().iter().for_each(|line| output.line(line));
    let device = args.device.open(output)?;
    let batch_sizes = ForwardPasses::sizes(data.images.len(), args.batch_size as usize);
    let device = args.device.prove(device, Workload::of_model(&file.card, batch_sizes), output)?.device;
    let card = file.card.clone();
    let source = Relabelled::new(data.images, &data.classes, &card.classes)?;
    let on_corrupt = match args.on_corrupt {
        Corrupt::Error => OnCorrupt::Error,
        Corrupt::Skip => OnCorrupt::Skip,
    };
    let loader = evaluate::loader(Arc::new(source), &card, args.batch_size as usize, on_corrupt)?;
    let evaluator = Evaluator {
        loader: &loader,
        normalization: card.normalization,
        classes: &card.classes,
        independent_classes: card.is_sigmoid(),
        device: &device.device,
    };
    let interrupt = Interrupt::listen()?;
    let evaluation = device.run(|| {
        let (model, _) = file.into_model(&device.device)?;
        evaluator.run_augmented(&model.fold(), args.tta, &|| interrupt.requested())
    })?;
    let Some(evaluation) = evaluation else { return Ok(interrupted()) };
    let ModelCard { step, classes, .. } = card;
    let report = Report { model: path, step, data: data.description, classes, tta: args.tta, evaluation };
    args.format.print(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Classes up to which the confusion matrix is printed; beyond, it does not fit a screen.
const MAX_PRINTED_CLASSES: usize = 20;

/// Characters of the name of an image that are printed; its end tells more than its beginning.
const MAX_NAME_WIDTH: usize = 40;

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn percent_or_dash(share: Option<f64>) -> String {
    share.map_or("-".to_string(), percent)
}

fn text(report: &Report) -> String {
    let Report { evaluation, .. } = report;
    let mut text = summary(report);
    if evaluation.num_skipped > 0 {
        let _ = write!(text, "\nskipped      {} damaged images", evaluation.num_skipped);
        for name in &evaluation.skipped {
            let _ = write!(text, "\n  {name}");
        }
    }
    text.push_str(&class_table(evaluation));
    text.push_str(&calibration_table(evaluation));
    text.push_str(&mistakes(evaluation));
    text
}

fn summary(report: &Report) -> String {
    let Report { model, step, data, tta, evaluation, .. } = report;
    let views = match tta {
        TestTimeAugmentation::None => "",
        TestTimeAugmentation::Flip => ", each with its mirror image",
    };
    let mean_average_precision = evaluation
        .mean_average_precision
        .map_or(String::new(), |mean| format!("mAP          {} (mean average precision)\n", percent(mean)));
    format!(
        "model        {}, step {step}\ndata         {data}\nimages       {}{views}\n{mean_average_precision}top-1        {}\ntop-5        {}\n\
         loss         {:.4}\nmacro        precision {}, recall {}, F1 {}\ncalibration  error {}",
        model.display(),
        evaluation.num_images,
        percent(evaluation.top1),
        percent(evaluation.top5),
        evaluation.loss,
        percent(evaluation.macro_precision),
        percent(evaluation.macro_recall),
        percent(evaluation.macro_f1),
        percent(evaluation.calibration_error),
    )
}

/// Scores of each class, and what was taken for what.
fn class_table(evaluation: &Evaluation) -> String {
    let width = evaluation.per_class.iter().map(|score| score.class.chars().count()).max().unwrap_or(0).max(5);
    let mut text = format!("\n\n{:width$}  images  precision     recall         F1", "class");
    for score in &evaluation.per_class {
        let [precision, recall, f1] = [score.precision, score.recall, score.f1].map(percent_or_dash);
        let _ = write!(text, "\n{:width$}  {:>6}  {precision:>9}  {recall:>9}  {f1:>9}", score.class, score.num_images);
    }
    if (1..=MAX_PRINTED_CLASSES).contains(&evaluation.confusion.len()) {
        let _ = write!(text, "\n\nconfusion: rows are true classes, columns predicted ones, in the order above");
        for (score, row) in evaluation.per_class.iter().zip(&evaluation.confusion) {
            let row: String = row.iter().map(|count| format!("{count:>6}")).collect();
            let _ = write!(text, "\n{:width$}{row}", score.class);
        }
    }
    text
}

/// How often the network is right when it is so sure.
fn calibration_table(evaluation: &Evaluation) -> String {
    let mut text = "\n\nprobability    images  confidence   accuracy".to_string();
    for bin in evaluation.calibration.iter().filter(|bin| bin.num_images > 0) {
        let [confidence, accuracy] = [bin.confidence, bin.accuracy].map(percent_or_dash);
        let _ = write!(
            text,
            "\n{:.3} to {:.3} {:>6}  {confidence:>10}  {accuracy:>9}",
            bin.lower, bin.upper, bin.num_images
        );
    }
    text
}

fn mistakes(evaluation: &Evaluation) -> String {
    let mistakes = &evaluation.surest_mistakes;
    if mistakes.is_empty() {
        return String::new();
    }
    let mut text = "\n\nsurest mistakes: probability, image, true class -> predicted class".to_string();
    let names: Vec<String> = mistakes.iter().map(|mistake| end_of(&mistake.image)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (mistake, name) in mistakes.iter().zip(names) {
        let probability = percent(mistake.probability);
        let _ = write!(text, "\n{probability:>9}  {name:width$}  {} -> {}", mistake.class, mistake.predicted);
    }
    text
}

/// A long name without its beginning.
fn end_of(name: &str) -> String {
    let surplus = name.chars().count().saturating_sub(MAX_NAME_WIDTH);
    if surplus == 0 {
        return name.to_string();
    }
    std::iter::once('…').chain(name.chars().skip(surplus + 1)).collect()
}
