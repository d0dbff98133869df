//! timm's `config.json`: which network a repository's weights are for, and how its images were prepared.
//!
//! Source: `PretrainedCfg` in `timm/models/_pretrained.py` and `_parse_model_cfg` in `timm/models/_hub.py`, timm 1.0.31. Keys that
//! nothing here asks for are passed over.

use serde::Deserialize;
use serde_json::Value;

/// What is wrong with a description.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// No JSON, or a value of another kind.
    #[error("cannot be read: {reason}")]
    Json {
        /// The parser's words.
        reason: String,
    },
    /// A value that cannot be meant.
    #[error("has `{key}`: {reason}")]
    Value {
        /// Where it stands.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// What timm tells of a pretrained model. What the file does not say is none.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct PretrainedConfig {
    /// timm's name of the network, such as `ghostnet_100`.
    pub architecture: Option<String>,
    /// Outputs of the classifier.
    pub num_classes: Option<usize>,
    /// Names of the classes in the order of the outputs.
    pub label_names: Option<Vec<String>>,
    /// What it was trained on and how, such as `in1k`.
    pub tag: Option<String>,
    /// Channels, height and width of the images, pixels.
    pub input_size: Option<[u32; 3]>,
    /// The same for evaluation, where that is another size.
    pub test_input_size: Option<[u32; 3]>,
    /// How images are resized.
    pub interpolation: Option<Interpolation>,
    /// Share of the resized image's side that is cut out for evaluation.
    pub crop_pct: Option<f64>,
    /// The same at `test_input_size`.
    pub test_crop_pct: Option<f64>,
    /// How it is cut out.
    pub crop_mode: Option<CropMode>,
    /// Taken from each channel, where a pixel is 0 to 1.
    pub mean: Option<[f64; 3]>,
    /// Divides each channel after that.
    pub std: Option<[f64; 3]>,
}

/// timm's names of Pillow's filters, and `random`, which is bilinear or bicubic by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Interpolation {
    Nearest,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
    Lanczos,
    Random,
}

/// timm's ways to bring an image to the size of evaluation (`transforms_imagenet_eval`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CropMode {
    /// The shorter side is resized, the middle is cut out.
    Center,
    /// Both sides are resized, whatever the image's shape.
    Squash,
    /// The longer side is resized, a border is added.
    Border,
}

impl PretrainedConfig {
    /// Reads the contents of a `config.json`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], if it is no JSON or has a value that cannot be meant.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let fault = |error: serde_json::Error| ConfigError::Json { reason: error.to_string() };
        let whole: Value = serde_json::from_slice(json).map_err(fault)?;
        // Old files have no inner object, and call the label names `labels`.
        let inner = whole.get("pretrained_cfg").unwrap_or(&whole);
        let Value::Object(mut merged) = inner.clone() else {
            return Err(ConfigError::Json { reason: "it is no object".to_owned() });
        };
        for (from, key) in OUTER_KEYS {
            if let Some(value) = whole.get(from).filter(|value| !value.is_null()) {
                merged.insert(key.to_owned(), value.clone());
            }
        }
        let config: Self = serde_json::from_value(Value::Object(merged)).map_err(fault)?;
        config.check().map(|()| config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fault = |key, reason| Err(ConfigError::Value { key, reason });
        for (key, size) in [("input_size", self.input_size), ("test_input_size", self.test_input_size)] {
            if let Some([channels, height, width]) = size
                && (channels != 3 || !(1..=MAX_SIDE).contains(&height) || !(1..=MAX_SIDE).contains(&width))
            {
                let size = format!("[{channels}, {height}, {width}]");
                return fault(key, format!("{size} is not 3 channels and two sides of 1 to {MAX_SIDE} pixels"));
            }
        }
        for (key, share) in [("crop_pct", self.crop_pct), ("test_crop_pct", self.test_crop_pct)] {
            if let Some(share) = share.filter(|&share| !(share > 0.0 && share <= 1.0)) {
                return fault(key, format!("{share} is not above 0 and at most 1"));
            }
        }
        if let Some(mean) = self.mean.filter(|mean| !mean.iter().all(|mean| (0.0..=1.0).contains(mean))) {
            return fault("mean", format!("{mean:?} is not from 0 to 1"));
        }
        if let Some(std) = self.std.filter(|std| !std.iter().all(|&std| std > 0.0 && std <= 1.0)) {
            return fault("std", format!("{std:?} is not above 0 and at most 1"));
        }
        if let Some(count) = self.num_classes.filter(|count| !(1..=MAX_CLASSES).contains(count)) {
            return fault("num_classes", format!("{count} is not 1 to {MAX_CLASSES}"));
        }
        if let (Some(count), Some(names)) = (self.num_classes, &self.label_names)
            && names.len() != count
        {
            return fault("label_names", format!("{} names for {count} classes", names.len()));
        }
        Ok(())
    }
}

/// What stands outside `pretrained_cfg`, or wins there, and what it is inside.
const OUTER_KEYS: [(&str, &str); 4] = [
    ("architecture", "architecture"),
    ("num_classes", "num_classes"),
    ("labels", "label_names"),
    ("label_names", "label_names"),
];
/// Pixels; more than any image is resized to.
const MAX_SIDE: u32 = 4096;
/// More than any data set has.
const MAX_CLASSES: usize = 1_000_000;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics says what is wrong")]
mod tests {
    use super::*;

    /// As timm 1.0 writes it for `ghostnet_100`.
    const GHOSTNET: &str = r#"{
        "architecture": "ghostnet_100", "num_classes": 1000, "num_features": 1280,
        "pretrained_cfg": {
            "tag": "in1k", "custom_load": false, "input_size": [3, 224, 224], "fixed_input_size": false,
            "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center",
            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
            "num_classes": 1000, "pool_size": [7, 7], "first_conv": "conv_stem", "classifier": "classifier"
        }
    }"#;

    fn parse(json: &str) -> Result<PretrainedConfig, String> {
        PretrainedConfig::parse(json.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_description_of_a_ghostnet_is_read_and_unknown_keys_are_passed_over() {
        let config = parse(GHOSTNET).unwrap();
        let expected = PretrainedConfig {
            architecture: Some("ghostnet_100".to_owned()),
            num_classes: Some(1000),
            tag: Some("in1k".to_owned()),
            input_size: Some([3, 224, 224]),
            interpolation: Some(Interpolation::Bicubic),
            crop_pct: Some(0.875),
            crop_mode: Some(CropMode::Center),
            mean: Some([0.485, 0.456, 0.406]),
            std: Some([0.229, 0.224, 0.225]),
            ..PretrainedConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!(parse("{}").unwrap(), PretrainedConfig::default());
    }

    #[test]
    fn the_outer_values_win_and_an_old_file_has_no_inner_object() {
        let outer = r#"{"num_classes": 2, "label_names": ["cat", "dog"], "pretrained_cfg": {"num_classes": 1000}}"#;
        let old = r#"{"architecture": "x", "num_classes": 2, "labels": ["cat", "dog"], "crop_pct": 0.95}"#;
        for json in [outer, old] {
            let config = parse(json).unwrap();
            assert_eq!(config.num_classes, Some(2));
            assert_eq!(config.label_names.unwrap(), ["cat", "dog"]);
        }
        assert_eq!(parse(old).unwrap().crop_pct, Some(0.95));
    }

    #[test]
    fn a_value_that_cannot_be_meant_is_named() {
        let inner = |text: &str| parse(&format!(r#"{{"pretrained_cfg": {{{text}}}}}"#)).unwrap_err();
        assert_eq!(
            inner(r#""input_size": [1, 224, 224]"#),
            "has `input_size`: [1, 224, 224] is not 3 channels and two sides of 1 to 4096 pixels"
        );
        assert_eq!(
            inner(r#""test_input_size": [3, 0, 99999]"#),
            "has `test_input_size`: [3, 0, 99999] is not 3 channels and two sides of 1 to 4096 pixels"
        );
        assert_eq!(inner(r#""crop_pct": 0"#), "has `crop_pct`: 0 is not above 0 and at most 1");
        assert_eq!(inner(r#""test_crop_pct": 1.5"#), "has `test_crop_pct`: 1.5 is not above 0 and at most 1");
        assert_eq!(inner(r#""mean": [0.5, 0.5, 127.5]"#), "has `mean`: [0.5, 0.5, 127.5] is not from 0 to 1");
        assert_eq!(inner(r#""std": [0.5, 0, 0.5]"#), "has `std`: [0.5, 0.0, 0.5] is not above 0 and at most 1");
        assert_eq!(inner(r#""num_classes": 0"#), "has `num_classes`: 0 is not 1 to 1000000");
        let names = parse(r#"{"num_classes": 3, "label_names": ["a"]}"#).unwrap_err();
        assert_eq!(names, "has `label_names`: 1 names for 3 classes");
        let filter = inner(r#""interpolation": "sinc""#);
        assert!(filter.starts_with("cannot be read: unknown variant `sinc`, expected one of `nearest`"), "{filter}");
        assert!(inner(r#""mean": [0.5, 0.5]"#).starts_with("cannot be read: invalid length 2"));
        assert_eq!(parse("<html>").unwrap_err(), "cannot be read: expected value at line 1 column 1");
        assert_eq!(parse("[]").unwrap_err(), "cannot be read: it is no object");
        assert_eq!(parse(r#"{"pretrained_cfg": 1}"#).unwrap_err(), "cannot be read: it is no object");
    }
}
