//! timm's `config.json`: which network a repository's weights are for, and how its images were prepared.
//!
//! Source: `PretrainedCfg` in `timm/models/_pretrained.py` and `_parse_model_cfg` in `timm/models/_hub.py`, timm 1.0.31. Keys that
//! nothing here asks for are passed over. A value that cannot be meant is none, and said: nothing in a description is needed to use weights.

use imageset::source::counted;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What is wrong with a description.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// No JSON, or a value of another kind.
    #[error("cannot be read: {reason}")]
    Json {
        /// The parser's words.
        reason: String,
    },
    /// An invalid value.
    #[error("has `{key}`: {reason}")]
    Value {
        /// Where it stands.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// What timm tells of a pretrained model. What the file does not say is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PretrainedConfig {
    /// timm's name of the network, such as `ghostnet_100`.
    pub architecture: Option<String>,
    /// Outputs of the classifier; timm writes 0 for a network without one, which is none here.
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
    /// Invalid values, which are `None` in the fields above.
    pub unread: Vec<ConfigError>,
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
    /// [`ConfigError::Json`], if it is no JSON object.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let whole: Value =
            serde_json::from_slice(json).map_err(|error| ConfigError::Json { reason: error.to_string() })?;
        // Old files have no inner object, and call the label names `labels`.
        let inner = whole.get("pretrained_cfg").unwrap_or(&whole);
        let Value::Object(mut merged) = inner.clone() else {
            return Err(ConfigError::Json { reason: "it is not an object".to_owned() });
        };
        for (from, key) in OUTER_KEYS {
            if let Some(value) = whole.get(from).filter(|value| !value.is_null()) {
                merged.insert(key.to_owned(), value.clone());
            }
        }
        let mut values = Values { merged, unread: Vec::new() };
        let share = |share: &f64| *share > 0.0 && *share <= 1.0;
        let [crop_pct, test_crop_pct] = ["crop_pct", "test_crop_pct"]
            .map(|key| values.get(key, share, |share: &f64| format!("{share} is not above 0 and at most 1")));
        let is_size = |[channels, height, width]: &[u32; 3]| {
            (1..=MAX_CHANNELS).contains(channels) && (1..=MAX_SIDE).contains(height) && (1..=MAX_SIDE).contains(width)
        };
        let [input_size, test_input_size] = ["input_size", "test_input_size"].map(|key| {
            values.get(key, is_size, |size: &[u32; 3]| {
                format!("{size:?} is not 1 to {MAX_CHANNELS} channels and two sides of 1 to {MAX_SIDE} pixels")
            })
        });
        let is_mean = |mean: &Channels| mean.0.iter().all(|mean| (0.0..=1.0).contains(mean));
        let mean = values.get("mean", is_mean, |mean: &Channels| format!("{:?} has a value outside 0 to 1", mean.0));
        let is_std = |std: &Channels| std.0.iter().all(|&std| std > 0.0 && std <= 1.0);
        let std = values.get("std", is_std, |std: &Channels| format!("{:?} is not above 0 and at most 1", std.0));
        // 0 is what timm writes for a network without a classifier.
        let is_count = |count: &usize| *count <= MAX_CLASSES;
        let num_classes =
            values.get("num_classes", is_count, |count: &usize| format!("{count} is not between 0 and {MAX_CLASSES}"));
        let num_classes = num_classes.filter(|count| *count > 0);
        let is_complete = |names: &Vec<String>| num_classes.is_none_or(|count| names.len() == count);
        let label_names = values.get("label_names", is_complete, |names: &Vec<String>| {
            format!("{} for {}", counted(names.len(), "name"), counted(num_classes.unwrap_or_default(), "class"))
        });
        Ok(Self {
            architecture: values.any("architecture"),
            num_classes,
            label_names,
            tag: values.any("tag"),
            input_size,
            test_input_size,
            interpolation: values.any("interpolation"),
            crop_pct,
            test_crop_pct,
            crop_mode: values.any("crop_mode"),
            mean: mean.map(|mean| mean.0),
            std: std.map(|std| std.0),
            unread: values.unread,
        })
    }
}

/// Values by their keys, and which of them could not be read so far.
struct Values {
    merged: Map<String, Value>,
    unread: Vec<ConfigError>,
}

impl Values {
    /// The value of a key, if it is of the right kind and `is_sound`; what is wrong with it is kept.
    fn get<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        is_sound: impl Fn(&T) -> bool,
        fault: impl Fn(&T) -> String,
    ) -> Option<T> {
        let value = self.merged.get(key).filter(|value| !value.is_null())?;
        let reason = match T::deserialize(value) {
            Ok(value) if is_sound(&value) => return Some(value),
            Ok(value) => fault(&value),
            Err(error) => error.to_string(),
        };
        self.unread.push(ConfigError::Value { key, reason });
        None
    }

    /// The value of a key, if it is of the right kind.
    fn any<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        self.get(key, |_| true, |_| String::new())
    }
}

/// A number for each of red, green and blue, or one for all, as networks of one channel have it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(from = "OneOrThree")]
struct Channels([f64; 3]);

#[derive(Deserialize)]
#[serde(untagged, expecting = "not three numbers, or one for all channels")]
enum OneOrThree {
    Three([f64; 3]),
    One([f64; 1]),
    Number(f64),
}

impl From<OneOrThree> for Channels {
    fn from(numbers: OneOrThree) -> Self {
        match numbers {
            OneOrThree::Three(numbers) => Self(numbers),
            OneOrThree::One([number]) | OneOrThree::Number(number) => Self([number; 3]),
        }
    }
}

/// What stands outside `pretrained_cfg`, or wins there, and what it is inside.
const OUTER_KEYS: [(&str, &str); 4] = [
    ("architecture", "architecture"),
    ("num_classes", "num_classes"),
    ("labels", "label_names"),
    ("label_names", "label_names"),
];
/// More than any image has.
const MAX_CHANNELS: u32 = 64;
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

    /// What is wrong with the one invalid value of an inner object.
    fn unread(text: &str) -> String {
        let config = parse(&format!(r#"{{"pretrained_cfg": {{"architecture": "x", {text}}}}}"#)).unwrap();
        assert_eq!(config.architecture.as_deref(), Some("x"), "the rest is read");
        assert_eq!(config.unread.len(), 1, "{text}: {config:?}");
        config.unread[0].to_string()
    }

    #[test]
    fn an_invalid_value_is_ignored_and_reported() {
        assert_eq!(
            unread(r#""input_size": [0, 224, 224]"#),
            "has `input_size`: [0, 224, 224] is not 1 to 64 channels and two sides of 1 to 4096 pixels"
        );
        assert_eq!(
            unread(r#""test_input_size": [3, 0, 99999]"#),
            "has `test_input_size`: [3, 0, 99999] is not 1 to 64 channels and two sides of 1 to 4096 pixels"
        );
        assert_eq!(unread(r#""crop_pct": 0"#), "has `crop_pct`: 0 is not above 0 and at most 1");
        assert_eq!(unread(r#""test_crop_pct": 1.5"#), "has `test_crop_pct`: 1.5 is not above 0 and at most 1");
        assert_eq!(unread(r#""mean": [0.5, 0.5, 127.5]"#), "has `mean`: [0.5, 0.5, 127.5] has a value outside 0 to 1");
        assert_eq!(unread(r#""std": [0.5, 0, 0.5]"#), "has `std`: [0.5, 0.0, 0.5] is not above 0 and at most 1");
        assert_eq!(unread(r#""num_classes": 10000000"#), "has `num_classes`: 10000000 is not between 0 and 1000000");
        assert_eq!(unread(r#""mean": [0.5, 0.5]"#), "has `mean`: not three numbers, or one for all channels");
        let filter = unread(r#""interpolation": "sinc""#);
        assert!(
            filter.starts_with("has `interpolation`: unknown variant `sinc`, expected one of `nearest`"),
            "{filter}"
        );
        let names = parse(r#"{"architecture": "x", "num_classes": 3, "label_names": ["a"]}"#).unwrap();
        assert_eq!((names.num_classes, &names.label_names), (Some(3), &None));
        assert_eq!(names.unread[0].to_string(), "has `label_names`: 1 name for 3 classes");
        assert_eq!(parse("<html>").unwrap_err(), "cannot be read: expected value at line 1 column 1");
        assert_eq!(parse("[]").unwrap_err(), "cannot be read: it is not an object");
        assert_eq!(parse(r#"{"pretrained_cfg": 1}"#).unwrap_err(), "cannot be read: it is not an object");
    }

    #[test]
    fn a_network_without_a_classifier_or_with_one_channel_is_described_too() {
        let config = parse(r#"{"architecture": "x", "num_classes": 0, "pretrained_cfg": {"num_classes": 0}}"#).unwrap();
        assert_eq!((config.num_classes, config.unread.len()), (None, 0));
        let gray = r#"{"architecture": "x", "input_size": [1, 64, 64], "mean": [0.5], "std": 0.25}"#;
        let gray = parse(gray).unwrap();
        assert_eq!((gray.input_size, gray.mean, gray.std), (Some([1, 64, 64]), Some([0.5; 3]), Some([0.25; 3])));
        assert_eq!(gray.unread, []);
    }
}
