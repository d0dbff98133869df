//! What a `config.json` beside a file of weights says of them, as timm writes it. It is a help and no condition: many programs call a file
//! so, and what cannot be read in it is told and not used.

use std::path::{Path, PathBuf};

use anyhow::bail;
use imageset::Interpolation;

use super::Preparation;
use crate::batch::Normalization;
use crate::hub::config::{ConfigError, CropMode, Interpolation as Filter, PretrainedConfig};

const DESCRIPTION: &str = "config.json";

/// A description that was found.
#[derive(Debug, Clone, Default)]
pub struct Description {
    path: PathBuf,
    /// Names of the classes in the order of the outputs.
    pub(super) classes: Option<Vec<String>>,
    /// How images are prepared, as far as it is offered.
    pub(super) preparation: Preparation,
    /// Preprocessing that the description asks for and that is not supported.
    unoffered: Vec<Unoffered>,
    /// Notes on the description.
    pub(super) notes: Vec<String>,
}

/// A way to prepare images that is not supported.
#[derive(Debug, Clone)]
struct Unoffered {
    what: String,
    /// Whether an option says how images are prepared instead.
    is_settled: fn(&Preparation) -> bool,
}

impl Description {
    /// Reads the one that lies beside a file of weights, or in a folder of its parts.
    pub(crate) fn beside(weights: &Path) -> Option<Self> {
        let path = if weights.is_dir() { weights.join(DESCRIPTION) } else { weights.with_file_name(DESCRIPTION) };
        let json = fs_err::read(&path).ok()?;
        Self::parse(path, &json)
    }

    /// `None` if it is another program's, and does not look like timm's.
    fn parse(path: PathBuf, json: &[u8]) -> Option<Self> {
        let config = match PretrainedConfig::parse(json) {
            Ok(config) if config.architecture.is_some() => config,
            // Many programs call a file so.
            _ if !String::from_utf8_lossy(json).contains("\"architecture\"") => return None,
            _ => {
                let note = format!("`{}` is not a model description in timm's format and was ignored", path.display());
                return Some(Self { path, notes: vec![note], ..Self::default() });
            }
        };
        let mut notes =
            vec![format!("its preprocessing is taken from `{}`, unless an option overrides it", path.display())];
        notes.extend(config.unread.iter().map(|fault| match fault {
            ConfigError::Value { .. } => format!("`{}` {fault}; this value was ignored", path.display()),
            ConfigError::Json { .. } => format!("`{}` {fault}", path.display()),
        }));
        let mut unoffered = Vec::new();
        let interpolation = match config.interpolation {
            None => None,
            Some(Filter::Bicubic) => Some(Interpolation::Bicubic),
            Some(Filter::Bilinear) => Some(Interpolation::Bilinear),
            Some(Filter::Nearest) => Some(Interpolation::Nearest),
            Some(other) => {
                let what = format!("the filter {other:?}");
                unoffered.push(Unoffered { what, is_settled: |options| options.interpolation.is_some() });
                None
            }
        };
        if let Some(mode @ (CropMode::Squash | CropMode::Border)) = config.crop_mode {
            let what = format!("the crop mode {mode:?}");
            unoffered.push(Unoffered { what, is_settled: |options| options.crop_pct.is_some() });
        }
        let image_size = match config.input_size {
            Some([_, height, width]) if height != width => {
                let what = format!("images of {height} x {width} pixels");
                unoffered.push(Unoffered { what, is_settled: |options| options.image_size.is_some() });
                None
            }
            size => size.map(|[_, height, _]| height),
        };
        let normalization = config
            .mean
            .zip(config.std)
            .map(|(mean, std)| Normalization { mean: mean.map(|mean| mean as f32), std: std.map(|std| std as f32) });
        let preparation = Preparation { image_size, interpolation, crop_pct: config.crop_pct, normalization };
        Some(Self { path, classes: config.label_names, preparation, unoffered, notes })
    }

    /// The path of the description.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses to prepare images otherwise than it says, unless `options` say how.
    pub(crate) fn check(&self, options: &Preparation) -> anyhow::Result<()> {
        if let Some(Unoffered { what, .. }) = self.unoffered.iter().find(|unoffered| !(unoffered.is_settled)(options)) {
            bail!(
                "`{}` asks for {what}, which is not supported\n\n\
                 hint: give the preprocessing with `--interpolation`, `--crop-pct` and `--image-size`",
                self.path.display()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Option<Description> {
        Description::parse(PathBuf::from("config.json"), json.as_bytes())
    }

    #[test]
    fn an_invalid_value_is_reported_and_the_rest_is_used() {
        let text = r#"{"architecture": "ghostnet_100", "num_classes": 0, "crop_pct": 7, "pretrained_cfg": {"input_size": [3, 64, 64]}}"#;
        let described = parse(text).expect("timm's");
        assert_eq!(described.preparation, Preparation { image_size: Some(64), ..Preparation::default() });
        assert!(described.check(&Preparation::default()).is_ok());
        let text = r#"{"architecture": "ghostnet_100", "pretrained_cfg": {"input_size": [3, 64, 64], "crop_pct": 7}}"#;
        let described = parse(text).expect("timm's");
        assert_eq!(described.preparation.image_size, Some(64));
        assert_eq!(
            described.notes[1],
            "`config.json` has `crop_pct`: 7 is not above 0 and at most 1; this value was ignored"
        );
    }

    #[test]
    fn the_description_of_another_program_is_ignored() {
        assert!(parse(r#"{"model_type": "bert", "num_classes": "many"}"#).is_none());
        assert!(parse("<html>").is_none());
        let foreign = parse(r#"{"name": "my app", "architecture": {"cpu": "x86"}, "port": 80}"#).expect("told");
        assert_eq!(foreign.notes, ["`config.json` is not a model description in timm's format and was ignored"]);
        assert_eq!(foreign.preparation, Preparation::default());
    }

    #[test]
    fn what_is_not_offered_is_refused_unless_an_option_says_otherwise() {
        let text = r#"{"architecture": "ghostnet_100", "interpolation": "lanczos"}"#;
        let described = parse(text).expect("timm's");
        let error = described.check(&Preparation::default()).expect_err("not offered").to_string();
        assert!(error.starts_with("`config.json` asks for the filter Lanczos, which is not supported"), "{error}");
        let options = Preparation { interpolation: Some(Interpolation::Bicubic), ..Preparation::default() };
        assert!(described.check(&options).is_ok());
    }
}
