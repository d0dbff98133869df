//! `ghostnet verify`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueHint};
use serde::Serialize;

use super::{EXIT_FAILED, FormatArgs, GlobalArgs, HintArgs, locate, tell_notes};
use crate::model_source::FoundModel;
use crate::observe::Output;
use crate::run_directory::replace;
use crate::verify::{Difference, Reference, Verifier};

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// A run (its best checkpoint), a checkpoint, a model file, weights of timm or PyTorch, or hf:OWNER/NAME
    #[arg(value_name = "CHECKPOINT", value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// Numbers to compare with: inputs by a rule, what each stage and the scores should be
    #[arg(long, value_name = "FILE.json", value_hint = ValueHint::FilePath, required_unless_present = "write")]
    against: Option<PathBuf>,
    /// Write such a file with the numbers of this network, for others to compare with
    #[arg(long, value_name = "FILE.json", value_hint = ValueHint::FilePath, conflicts_with = "against")]
    write: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    hints: HintArgs,
}

/// Inputs of a file that is written, beside two images of the size that the network was trained for: large, wide and odd.
const SHAPES: [[usize; 4]; 3] = [[1, 3, 224, 224], [1, 3, 96, 160], [1, 3, 75, 101]];

/// What is printed.
#[derive(Debug, Serialize)]
struct Verified {
    model: PathBuf,
    against: PathBuf,
    agrees: bool,
    differences: Vec<Difference>,
}

/// What is printed of a file that was written.
#[derive(Debug, Serialize)]
struct Written {
    model: PathBuf,
    path: PathBuf,
    num_inputs: usize,
}

pub(super) fn run(args: VerifyArgs, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let opened = FoundModel::read(&locate(args.model, global, output)?)?.open(args.hints.read()?)?;
    tell_notes(&opened, output);
    let model = opened.path;
    let verifier = Verifier::new(opened.file, &model)?;
    let Some(against) = args.against else {
        let path = args.write.context("a file to write")?;
        let size = verifier.image_size();
        let reference = verifier.reference(&[&[[2, 3, size, size]], &SHAPES[..]].concat())?;
        replace(&path, &serde_json::to_vec_pretty(&reference)?)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        args.format.print(&Written { model, path, num_inputs: reference.eval.len() }, |written| {
            let Written { model, path, num_inputs } = written;
            format!("{}: what `{}` gives for {num_inputs} inputs", path.display(), model.display())
        })?;
        return Ok(ExitCode::SUCCESS);
    };
    let reference: Reference = serde_json::from_str(&fs_err::read_to_string(&against)?)
        .with_context(|| format!("`{}` holds no numbers to compare with", against.display()))?;
    let differences = verifier.compare(&reference).with_context(|| format!("`{}`", against.display()))?;
    let agrees = differences.iter().all(Difference::is_small);
    args.format.print(&Verified { model, against, agrees, differences }, text)?;
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn text(verified: &Verified) -> String {
    let Verified { model, against, differences, .. } = verified;
    let mut text = format!("{:16} {:10} {:>12} {:>12}", "input", "what", "difference", "at most");
    for difference in differences {
        let input = difference.input.map_or(String::new(), |input| input.map(|side| side.to_string()).join("x"));
        let Difference { what, difference: size, tolerance, .. } = difference;
        let mark = if difference.is_small() { "" } else { "  differs" };
        let _ = write!(text, "\n{input:16} {what:10} {size:>12.2e} {tolerance:>12.2e}{mark}");
    }
    let (model, against) = (model.display(), against.display());
    match differences.iter().find(|difference| !difference.is_small()) {
        None => _ = write!(text, "\n`{model}` agrees with `{against}`"),
        Some(first) => {
            _ = write!(text, "\n`{model}` differs from `{against}`; the first difference is in `{}`", first.what)
        }
    }
    text
}
