//! A value that parses and yet cannot be meant, with the key at fault.

/// A value out of range, or a key that does not go with another.
#[derive(Debug)]
pub(super) struct Violation {
    /// The key as a dotted path; a number is an index into a list.
    pub(super) key: String,
    /// Whether the key itself is at fault rather than its value.
    pub(super) names_key: bool,
    /// What is wrong.
    pub(super) message: String,
}

impl Violation {
    /// A value that cannot be meant.
    pub(super) fn of_value(key: &str, message: String) -> Self {
        Self { key: key.to_owned(), names_key: false, message }
    }

    /// A key that should not be there.
    pub(super) fn of_key(key: &str, message: String) -> Self {
        Self { key: key.to_owned(), names_key: true, message }
    }
}

/// Fails with the message unless the condition on the value of `key` holds.
pub(super) fn require(
    condition: bool,
    key: impl Into<String>,
    message: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if condition { Ok(()) } else { Err(Violation { key: key.into(), names_key: false, message: message() }) }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use crate::recipe::example::message;

    #[test]
    fn a_key_that_does_not_go_with_the_kind_is_shown() {
        assert_snapshot!(message("learning_rate = 0.1", "learning_rate = 0.1\nbetas = [0.9, 0.99]"), @r"
        invalid recipe `small.toml`
          --> line 17, column 1
           |
        17 | betas = [0.9, 0.99]
           | ^^^^^
        `betas` is not used by the optimizer `sgd`
        ");
        assert_snapshot!(message(r#"kind = "cosine""#, "kind = \"cosine\"\ndecay_rate = 0.5"), @r"
        invalid recipe `small.toml`
          --> line 20, column 1
           |
        20 | decay_rate = 0.5
           | ^^^^^^^^^^
        `decay_rate` is not used by the schedule `cosine`
        ");
        assert_snapshot!(message(r#"kind = "cosine""#, r#"kind = "step""#), @r#"
        invalid recipe `small.toml`
          --> line 19, column 8
           |
        19 | kind = "step"
           |        ^^^^^^
        the schedule `step` needs `decay_every`, for instance `{ epochs = 30 }`
        "#);
    }

    #[test]
    fn a_value_out_of_range_is_shown() {
        assert_snapshot!(message("width = 0.5", "width = -0.5"), @r"
        invalid recipe `small.toml`
         --> line 2, column 9
          |
        2 | width = -0.5
          |         ^^^^
        `width` must be finite and above 0, but is -0.5
        ");
        assert_snapshot!(message("image_size = 48", "image_size = 16"), @r"
        invalid recipe `small.toml`
         --> line 6, column 14
          |
        6 | image_size = 16
          |              ^^
        `image_size` must be 32 pixels or more, but is 16
        ");
        assert_snapshot!(message("[checkpoint]", "[eval]\nsplits = [\"val\", \"test\"]\n[checkpoint]"), @r#"
        invalid recipe `small.toml`
          --> line 22, column 18
           |
        22 | splits = ["val", "test"]
           |                  ^^^^^^
        unknown split `test`, expected `train` or `val`
        "#);
    }

    #[test]
    fn each_range_has_its_message() {
        let last = |from: &str, to: &str| message(from, to).lines().last().unwrap_or_default().to_owned();
        let model = |to: &str| last("width = 0.5", to);
        let data = |to: &str| last("image_size = 48", &format!("image_size = 48\n{to}"));
        let train = |to: &str| last("total = { epochs = 16 }", &format!("total = {{ epochs = 16 }}\n{to}"));
        let optimizer = |to: &str| last("learning_rate = 0.1", to);
        let adamw = |to: &str| {
            last("kind = \"sgd\"\nlearning_rate = 0.1", &format!("kind = \"adamw\"\nlearning_rate = 0.1\n{to}"))
        };
        let schedule = |to: &str| last("kind = \"cosine\"", to);
        let messages = [
            model("width = inf"),
            model("dropout = 1.0"),
            model("num_classes = 0"),
            model("stem_stride = 3"),
            data("val_fraction = 0.0"),
            last("batch_size = 64", "batch_size = 0"),
            data("mean = [0.5, 0.5, nan]"),
            data("std = [0.5, 0.5, 0.0]"),
            data("val = []"),
            last("{ random_resized_crop = {} }", "{ random_resized_crop = { scale = [1, 0.5] } }"),
            last("{ epochs = 16 }", "{ epochs = 0 }"),
            last("{ epochs = 16 }", "{ epochs = nan }"),
            train("label_smoothing = 1.0"),
            train("mixup = { alpha = 0 }"),
            train("mix_probability = 1.5"),
            train("accumulate = 0"),
            train("clip_norm = 0.0"),
            train("log_every = 0"),
            optimizer("learning_rate = -0.1"),
            optimizer("learning_rate = inf"),
            optimizer("learning_rate = 0.1\nmomentum = 1.0"),
            optimizer("learning_rate = 0.1\nmomentum = 0\nnesterov = true"),
            optimizer("learning_rate = 0.1\nweight_decay = -1"),
            adamw("betas = [0.9, 1.0]"),
            adamw("epsilon = 0.0"),
            schedule("warmup = { epochs = 17 }"),
            schedule("warmup_start = -1.0"),
            schedule("minimum = 0.2"),
            schedule("kind = \"step\"\ndecay_every = { epochs = 0 }"),
            schedule("kind = \"step\"\ndecay_every = { epochs = 3 }\ndecay_rate = 0.0"),
            last("every = { epochs = 1 }", "every = { minutes = 0 }"),
            last("every = { epochs = 1 }", "keep = 0"),
            last("[checkpoint]", "[eval]\nevery = { steps = 0 }\n[checkpoint]"),
            last("[checkpoint]", "[eval]\nsplits = []\n[checkpoint]"),
            last("[checkpoint]", "[eval]\nsplits = [\"val\", \"val\"]\n[checkpoint]"),
        ];
        assert_snapshot!(messages.join("\n"), @r"
        `width` must be finite and above 0, but is inf
        `dropout` must be at least 0 and below 1, but is 1
        `num_classes` must be 1 or more; leave it out to take it from the data
        `stem_stride` must be 1 or 2, but is 3
        `val_fraction` must be between 0 and 1, but is 0
        `batch_size` must be 1 or more
        `mean` must be three finite numbers
        `std` must be three numbers above 0
        after the transforms pictures do not all have 48 x 48 pixels: add `resize_center_crop`, or `random_resized_crop` or `pad_random_crop` for training
        `random_resized_crop` has `scale = [1, 0.5]`: the smaller number must come first
        `total` must be above 0
        `epochs` must be finite and 0 or more, but is NaN
        `label_smoothing` must be at least 0 and below 1, but is 1
        `alpha` must be finite and above 0, but is 0; leave the key out to switch it off
        `mix_probability` must be between 0 and 1, but is 1.5
        `accumulate` must be 1 or more
        `clip_norm` must be finite and above 0; leave it out to switch it off
        `log_every` must be 1 or more
        `learning_rate` must be finite and 0 or more, but is -0.1
        `learning_rate` must be finite and 0 or more, but is inf
        `momentum` must be at least 0 and below 1, but is 1
        `nesterov` needs a `momentum` above 0
        `weight_decay` must be finite and 0 or more, but is -1
        `betas` must both be at least 0 and below 1
        `epsilon` must be finite and above 0, but is 0
        `warmup` is longer than `train.total`
        `warmup_start` must be finite and 0 or more, but is -1
        `minimum` must be between 0 and the learning rate 0.1, but is 0.2
        `decay_every` must be above 0
        `decay_rate` must be above 0 and at most 1, but is 0
        `every` must be above 0
        `keep` must be 1 or more
        `every` must be above 0
        `splits` must name `train`, `val` or both
        the split `val` is named twice
        ");
    }
}
