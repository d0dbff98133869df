//! `ghostnet export`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueHint};

use super::{DataArgs, FormatArgs, GlobalArgs, HintArgs, UsageError, locate, tell_notes};
use crate::export::{Comparison, Exported, Exporter, OnnxOptions, Precision, Quantization, SafetensorsOptions};
use crate::measured_data::open_any;
use crate::model_source::{DataRequest, FoundModel};
use crate::observe::Output;
use crate::plan;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// A run (its best checkpoint), a checkpoint, a model file, weights of timm or PyTorch, or hf:OWNER/NAME
    #[arg(value_name = "CHECKPOINT", value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// The file to write; its ending says what: .safetensors or .onnx
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: PathBuf,
    /// Fold batch norms into the convolutions [default: true for ONNX, false for safetensors, which timm could not load then]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    fold: Option<bool>,
    /// Safetensors: the numbers of the weights [default: f32]
    #[arg(long, value_enum, value_name = "TYPE")]
    dtype: Option<Precision>,
    /// ONNX: version of the operators [default: 17, or 18 with the preprocessing in the graph]
    #[arg(long, value_name = "N")]
    opset: Option<i64>,
    /// ONNX: any number of images at a time, rather than one
    #[arg(long)]
    dynamic_batch: bool,
    /// ONNX: decoded pictures of any size go in, bytes [batch, height, width, 3]; resizing, cropping and normalising are part
    /// of the graph
    #[arg(long)]
    with_preprocessing: bool,
    /// ONNX: whole numbers of 8 bits, their ranges chosen on images of `--data` or of the run
    #[arg(long)]
    int8: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    hints: HintArgs,
}

/// What kind of file is written.
enum Kind {
    Safetensors(SafetensorsOptions),
    Onnx(OnnxOptions),
}

impl ExportArgs {
    fn kind(&self) -> anyhow::Result<Kind> {
        let only = |flag: &str, kind: &str| {
            Err(UsageError(format!("`{flag}` is for {kind}, and `{}` is another kind of file", self.out.display()))
                .into())
        };
        let ending = self.out.extension().unwrap_or_default().to_ascii_lowercase();
        match ending.to_str() {
            Some("safetensors") => {
                let onnx_flags = [
                    ("--opset", self.opset.is_some()),
                    ("--dynamic-batch", self.dynamic_batch),
                    ("--with-preprocessing", self.with_preprocessing),
                    ("--int8", self.int8),
                ];
                if let Some((flag, _)) = onnx_flags.iter().find(|(_, given)| *given) {
                    return only(flag, "ONNX");
                }
                let (fold, precision) = (self.fold.unwrap_or(false), self.dtype.unwrap_or_default());
                Ok(Kind::Safetensors(SafetensorsOptions { fold, precision }))
            }
            Some("onnx") if self.dtype.is_some() => only("--dtype", "safetensors"),
            Some("onnx") => {
                let options = OnnxOptions {
                    fold: self.fold.unwrap_or(true),
                    opset: self.opset,
                    dynamic_batch: self.dynamic_batch,
                    with_preprocessing: self.with_preprocessing,
                };
                let known = options.opsets();
                if let Some(opset) = self.opset.filter(|opset| !known.contains(opset)) {
                    let with = if self.with_preprocessing { " with the preprocessing in the graph" } else { "" };
                    return Err(UsageError(format!(
                        "`--opset` is {opset}, and must be {} to {}{with}",
                        known.start(),
                        known.end()
                    ))
                    .into());
                }
                if self.int8 && !options.fold {
                    let message = "`--int8` needs batch norms that are folded: leave `--fold=false` out";
                    return Err(UsageError(message.to_string()).into());
                }
                Ok(Kind::Onnx(options))
            }
            _ => Err(UsageError(format!(
                "what to write is not known from the name `{}`\n\nhint: let it end in `.safetensors` or `.onnx`",
                self.out.display()
            ))
            .into()),
        }
    }
}

pub(super) fn run(args: ExportArgs, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let kind = args.kind()?;
    if args.data.data.is_some() && !args.int8 {
        return Err(UsageError("`--data` is for `--int8`, which looks at images".to_string()).into());
    }
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        bail!("there is no folder `{}` to write into", folder.display());
    }
    let found = FoundModel::read(&locate(args.model.clone(), global, output)?)?;
    if args.out.exists() && args.out.canonicalize().ok() == found.path.canonicalize().ok() {
        bail!("the file would take the place of `{}`, which it is made of", found.path.display());
    }
    let opened = found.open(args.hints.read()?)?;
    tell_notes(&opened, output);
    let data = args
        .int8
        .then(|| opened.data_options(DataRequest { path: args.data.data, ..DataRequest::default() }))
        .transpose()?;
    // A test set can be measured on, and ranges can be chosen on it.
    let data = match data.map(|options| open_any(&options, plan::open)).transpose()? {
        Some((data, note)) => {
            note.iter().for_each(|note| output.line(&format!("note: {note}")));
            Some(data)
        }
        None => None,
    };
    let exporter = Exporter::new(opened.file)?;
    let progress = |step: &str| {
        output.line(step);
    };
    let exported = match (kind, data) {
        (Kind::Safetensors(options), _) => exporter.safetensors(&args.out, options),
        (Kind::Onnx(options), None) => exporter.onnx(&args.out, options),
        (Kind::Onnx(options), Some(data)) => exporter.onnx_int8(&args.out, options, &data, &progress),
    }
    .with_context(|| format!("cannot write `{}`", args.out.display()))?;
    let lost = exported.quantization.as_ref().map_or(0.0, Quantization::lost);
    if lost > MUCH_LOST {
        output.line(&format!(
            "warning: 8 bits cost {:.1} points of top-1 accuracy\n\nhint: more or other images in `--data` may give better ranges",
            lost * 100.0
        ));
    }
    args.format.print(&exported, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Accuracy whose loss the user should not overlook.
const MUCH_LOST: f64 = 0.05;

fn text(exported: &Exported) -> String {
    let Exported { path, bytes, opset, comparison, quantization } = exported;
    let Comparison { runtime, num_images, largest_difference, largest_score, same_top1, .. } = comparison;
    let opset = opset.map_or(String::new(), |opset| format!(", operators of version {opset}"));
    let mut text = format!(
        "{}: {:.1} MB{opset}\nchecked by {runtime} on {num_images} images: ",
        path.display(),
        *bytes as f64 / 1e6
    );
    match quantization {
        None => {
            let _ = write!(
                text,
                "scores differ by at most {largest_difference:.1e} where the largest is {largest_score:.1}; the first class is the \
                 same on {same_top1}"
            );
        }
        Some(quantization) => {
            let percent = |share: f64| format!("{:.2} %", share * 100.0);
            let _ = write!(
                text,
                "the first class is the same on {same_top1}\n\
                 top-1 on {} images: {} in 32-bit floating point, {} in 8 bits, {} with depthwise convolutions in floating point\n\
                 depthwise convolutions are {} in the file",
                quantization.num_images,
                percent(quantization.top1_f32),
                percent(quantization.top1_int8),
                percent(quantization.top1_int8_depthwise_f32),
                if quantization.depthwise_int8 { "in 8 bits" } else { "in floating point" },
            );
        }
    }
    text
}
