//! What a `config.json` beside a file of weights says of them: the preprocessing and the names of the classes as timm writes them, or the
//! names alone as transformers writes them. It helps but is not needed: many programs write a file of this name, and whatever cannot be read
//! in it is reported and not used.

use std::path::{Path, PathBuf};

use anyhow::bail;
use imageset::{ClassList, ClassListError, Interpolation};
use serde_json::Value;

use super::preparation::Preparation;
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

    /// `None` if it is another program's, and looks neither like timm's nor like one of transformers that names the classes.
    fn parse(path: PathBuf, json: &[u8]) -> Option<Self> {
        let labels = labels(&path, json);
        let mut description = match PretrainedConfig::parse(json) {
            Ok(config) if config.architecture.is_some() => Self::of_timm(path, config),
            // Many programs write a file of this name.
            _ if !has_text(json, "architecture") => labels.is_some().then(|| Self { path, ..Self::default() })?,
            _ => {
                let note = format!("`{}` is not a model description in timm's format and was ignored", path.display());
                Self { path, notes: vec![note], ..Self::default() }
            }
        };
        match labels {
            None => {}
            Some(Ok(names)) if description.classes.as_ref().is_some_and(|classes| *classes != names) => {
                description.classes = None;
                let path = description.path.display();
                let note = format!("`{path}` has other names in `label_names` than in `id2label`; both were ignored");
                description.notes.push(note);
            }
            Some(Ok(names)) => description.classes = Some(names),
            Some(Err(fault)) => description.notes.push(format!("{fault}; these names of classes were ignored")),
        }
        Some(description)
    }

    fn of_timm(path: PathBuf, config: PretrainedConfig) -> Self {
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
        Self { path, classes: config.label_names, preparation, unoffered, notes }
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

/// The keys of transformers for the names of classes by number, and for the numbers by name.
const LABEL_KEYS: [&str; 2] = ["id2label", "label2id"];

/// The names of the classes as transformers writes them. `None` if it writes none, or only placeholders.
fn labels(path: &Path, json: &[u8]) -> Option<Result<Vec<String>, ClassListError>> {
    let is_labels = |labels: &Value| !labels.is_null() && labels.as_object().is_none_or(|labels| !labels.is_empty());
    let has_labels = match serde_json::from_slice::<Value>(json) {
        Ok(config) => LABEL_KEYS.iter().any(|key| config.get(key).is_some_and(is_labels)),
        Err(_) => LABEL_KEYS.iter().any(|key| has_text(json, key)),
    };
    let list = has_labels.then(|| ClassList::parse(path, json))?;
    (!list.as_ref().is_ok_and(ClassList::is_placeholder)).then(|| list.map(ClassList::into_names))
}

/// Whether a text has this key, be it JSON or not.
fn has_text(json: &[u8], key: &str) -> bool {
    String::from_utf8_lossy(json).contains(&format!("\"{key}\""))
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
    fn names_of_classes_are_those_of_transformers_too_unless_they_are_doubtful() {
        let named = |json: &str| {
            let description = parse(json).expect("a description");
            (description.classes, description.notes.join("; "))
        };
        let names = ["cat", "dog"].map(str::to_string).to_vec();
        let of_transformers = r#"{"architectures": ["X"], "model_type": "x", "id2label": {"1": "dog", "0": "cat"}, "label2id": {"cat": "0", "dog": "1"}}"#;
        assert_eq!(named(of_transformers), (Some(names.clone()), String::new()));
        // timm's, with the same names twice, and with others.
        let (classes, notes) =
            named(r#"{"architecture": "x", "label_names": ["cat", "dog"], "id2label": {"0": "cat", "1": "dog"}}"#);
        assert_eq!(classes, Some(names));
        assert!(!notes.contains("ignored"), "{notes}");
        let (classes, notes) =
            named(r#"{"architecture": "x", "label_names": ["dog", "cat"], "id2label": {"0": "cat", "1": "dog"}}"#);
        assert_eq!(classes, None);
        assert!(
            notes.ends_with("`config.json` has other names in `label_names` than in `id2label`; both were ignored"),
            "{notes}"
        );
        for (json, says) in [
            (
                r#"{"id2label": {"0": "cat", "1": "cat"}}"#,
                "class 1: `cat` is already the name of another class, see class 0",
            ),
            (
                r#"{"id2label": {"0": "cat", "2": "dog"}}"#,
                "class 2: the number is 2, but 2 classes have the numbers 0 to 1",
            ),
            (r#"{"id2label": {"cat": "0"}}"#, "it is a JSON object that names no classes"),
            (r#"{"id2label": {"0": "cat",}}"#, "it begins like JSON but is not valid JSON"),
            (
                r#"{"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 1, "dog": 0}}"#,
                "`id2label` and `label2id` disagree about the number of `cat`",
            ),
        ] {
            let (classes, notes) = named(json);
            assert_eq!(classes, None, "{json}");
            assert!(notes.starts_with("`config.json`") && notes.contains(says), "{notes}");
            assert!(notes.ends_with("; these names of classes were ignored"), "{notes}");
        }
        for none in [
            r#"{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}"#,
            r#"{"id2label": {}}"#,
            r#"{"vision_config": {"id2label": {"0": "cat"}}}"#,
        ] {
            assert!(parse(none).is_none(), "{none}");
        }
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
