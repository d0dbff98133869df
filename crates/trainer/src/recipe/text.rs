//! The recipe as text again, every default written out: what a run directory keeps.

use toml_edit::{DocumentMut, Item, Value};

use super::Recipe;

impl Recipe {
    /// The recipe as TOML with every default written out; reads back as an equal recipe.
    ///
    /// The same recipe gives the same text to the byte, which [`Recipe::hash`] rests on.
    pub fn to_toml(&self) -> String {
        let mut recipe = self.clone();
        recipe.optimizer.fill();
        recipe.schedule.fill();
        // The sections are plain structs with text keys, and `check` keeps the seed within TOML's integers, so there is
        // nothing that TOML could not hold.
        let mut document = toml_edit::ser::to_document(&recipe).expect("a recipe is representable in TOML");
        lay_out(&mut document);
        document.to_string()
    }
}

/// Sections as headed tables, lists of tables one element a line.
fn lay_out(document: &mut DocumentMut) {
    for (_, item) in document.iter_mut() {
        if item.is_inline_table() {
            *item = Item::Table(std::mem::take(item).into_table().unwrap_or_default());
        }
        let Some(section) = item.as_table_mut() else {
            continue;
        };
        section.decor_mut().set_prefix("\n");
        for (_, item) in section.iter_mut() {
            if let Some(list) = item.as_array_mut()
                && list.iter().any(Value::is_inline_table)
            {
                for value in list.iter_mut() {
                    value.decor_mut().set_prefix("\n  ");
                }
                list.set_trailing("\n");
                list.set_trailing_comma(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use crate::recipe::example::small;

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_no_unicode_is_written_readably() {
        use std::os::unix::ffi::OsStringExt;

        let mut recipe = small();
        let bytes = b"/data/\xff".to_vec();
        recipe.data.path = Some(std::ffi::OsString::from_vec(bytes).into());
        assert!(recipe.to_toml().contains("path = \"/data/\u{fffd}\""));
    }

    #[test]
    fn the_smallest_recipe_is_written_out_with_every_default() {
        assert_snapshot!(small().to_toml(), @r#"
        seed = 0

        [model]
        variant = "ghostnet"
        width = 0.5
        dropout = 0.2
        stem_stride = 2

        [data]
        source = "auto"
        val_fraction = 0.2
        batch_size = 64
        image_size = 48
        on_corrupt = "error"
        mean = [0.485, 0.456, 0.406]
        std = [0.229, 0.224, 0.225]
        train = [
          { random_resized_crop = { scale = [0.08, 1.0], ratio = [0.75, 1.3333333333333333], interpolation = "bicubic" } },
        ]
        val = [
          { resize_center_crop = { crop_pct = 0.875, interpolation = "bicubic" } },
        ]

        [train]
        total = { epochs = 16.0 }
        label_smoothing = 0.0
        mix_probability = 1.0
        switch_probability = 0.5
        accumulate = 1
        precision = "f32"
        log_every = 20

        [optimizer]
        kind = "sgd"
        learning_rate = 0.1
        momentum = 0.9
        nesterov = false
        weight_decay = 0.0

        [schedule]
        kind = "cosine"
        warmup_start = 0.0
        warmup_prefix = true
        minimum = 0.0

        [checkpoint]
        every = { epochs = 1.0 }
        keep = 2

        [eval]
        every = { epochs = 1.0 }
        splits = ["val"]
        "#);
    }
}
