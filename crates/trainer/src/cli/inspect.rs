//! `ghostnet inspect`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};
use ghostnet::{GhostNetConfig, LayerCount, Variant};
use imageset::source::counted;
use serde::Serialize;

use super::{FormatArgs, GlobalArgs, locate, tell_notes};
use crate::import::Hints;
use crate::model_source::FoundModel;
use crate::observe::Output;
use crate::recipe;
use crate::weights::ModelCard;

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A recipe, a run, a checkpoint, a model file, weights of timm or PyTorch, or hf:OWNER/NAME
    #[arg(value_name = "RECIPE|CHECKPOINT", value_hint = ValueHint::AnyPath)]
    target: String,
    /// The set of weights to read from a file of another program that holds several
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Height and width of the images, pixels [default: the recipe's or the model's]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    image_size: Option<u32>,
    /// Change a key of the recipe
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Serialize)]
struct Layer {
    name: String,
    kind: &'static str,
    /// `[height, width]`
    kernel_size: [usize; 2],
    in_channels: usize,
    /// `[channels, height, width]`
    output: [usize; 3],
    parameters: usize,
    multiply_adds: usize,
}

impl From<LayerCount> for Layer {
    fn from(layer: LayerCount) -> Self {
        let LayerCount { name, kind, in_channels, output, kernel_size, parameters, multiply_adds, .. } = layer;
        Self { name, kind: kind.name(), kernel_size, in_channels, output, parameters, multiply_adds }
    }
}

#[derive(Debug, Serialize)]
struct Inspection {
    variant: Variant,
    width: f64,
    num_classes: usize,
    image_size: u32,
    parameters: usize,
    multiply_adds: usize,
    tensors: usize,
    /// Of a checkpoint: class names, preprocessing, step, recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<ModelCard>,
    layers: Vec<Layer>,
}

/// Classes of the reference networks, for a recipe that leaves them to the data.
const DEFAULT_NUM_CLASSES: usize = 1000;

fn inspect(variant: Variant, config: &GhostNetConfig, image_size: u32, card: Option<ModelCard>) -> Inspection {
    let size = image_size as usize;
    let layers = config.layers(size, size);
    Inspection {
        variant,
        width: config.width,
        num_classes: config.num_classes,
        image_size,
        parameters: config.parameters(),
        multiply_adds: config.multiply_adds(size, size),
        // Of a folded file, every layer has a weight and a bias.
        tensors: match card.as_ref().is_some_and(|card| card.folded) {
            true => 2 * layers.len(),
            false => layers.iter().map(|layer| layer.tensors).sum(),
        },
        card,
        layers: layers.into_iter().map(Layer::from).collect(),
    }
}

/// Whether the user means a run, a checkpoint or a model file rather than a recipe.
fn is_model(target: &str) -> bool {
    let path = Path::new(target);
    target.starts_with("hf:")
        || path.is_dir()
        || path.is_file() && path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("toml"))
}

pub(super) fn run(args: InspectArgs, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let inspection = if is_model(&args.target) {
        let opened = FoundModel::read(&locate(PathBuf::from(&args.target), global, output)?)?
            .open(Hints { key: args.key, ..Hints::default() })?;
        tell_notes(&opened, output);
        let card = opened.file.card;
        let image_size = args.image_size.unwrap_or(card.image_size);
        inspect(card.variant, &card.config(), image_size, Some(card))
    } else {
        let recipe = recipe::load(&args.target, &args.set)?.recipe;
        let config = recipe.model.network(recipe.model.num_classes.unwrap_or(DEFAULT_NUM_CLASSES));
        inspect(recipe.model.variant, &config, args.image_size.unwrap_or(recipe.data.image_size), None)
    };
    args.format.print(&inspection, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(inspection: &Inspection) -> String {
    let Inspection {
        variant, width, num_classes, image_size, parameters, multiply_adds, tensors, card, layers, ..
    } = inspection;
    let mut text = format!(
        "{} {width}x, {}, {image_size} px\nparameters     {parameters}\nmultiply-adds  {multiply_adds}\ntensors        {tensors}",
        variant.title(),
        counted(*num_classes, "class")
    );
    if let Some(card) = card {
        let _ = write!(
            text,
            "\nclasses        {}\nstep           {}\nrecipe         {}\npreprocessing  {}\nnormalisation  mean {:?}, std {:?}",
            card.classes.join(", "),
            card.step,
            card.recipe_hash.chars().take(16).collect::<String>(),
            serde_json::to_string(&card.transforms).unwrap_or_default(),
            card.normalization.mean,
            card.normalization.std,
        );
    }
    let _ = write!(
        text,
        "\n\n{:40} {:11} {:>3} {:>6} {:>15} {:>10} {:>13}",
        "layer", "kind", "k", "in", "out", "parameters", "multiply-adds"
    );
    for layer in layers {
        let output = layer.output.map(|side| side.to_string()).join("x");
        let Layer { name, kind, kernel_size, in_channels, parameters, multiply_adds, .. } = layer;
        let kernel_size = match kernel_size {
            [height, width] if height == width => height.to_string(),
            [height, width] => format!("{height}x{width}"),
        };
        let _ = write!(
            text,
            "\n{name:40} {kind:11} {kernel_size:>3} {in_channels:>6} {output:>15} {parameters:>10} {multiply_adds:>13}"
        );
    }
    text
}
