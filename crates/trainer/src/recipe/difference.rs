//! What differs between two recipes, key by key: what a resumed run is refused with.

use std::collections::BTreeMap;

use toml_edit::{DocumentMut, Item, Value};

use super::Recipe;

impl Recipe {
    /// One line for each key that differs, `optimizer.learning_rate: 0.1 -> 0.2`, in the order of their names.
    ///
    /// A key that one side leaves out is shown as `none`. Compare [identities](Self::identity) to see only what
    /// changes the result.
    pub fn difference(&self, other: &Self) -> Vec<String> {
        let before = flat(&self.to_toml());
        let after = flat(&other.to_toml());
        let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
        keys.sort();
        keys.dedup();
        let shown = |side: &BTreeMap<String, String>, key| side.get(key).map_or("none", String::as_str).to_owned();
        keys.into_iter()
            .filter(|&key| before.get(key) != after.get(key))
            .map(|key| format!("{key}: {} -> {}", shown(&before, key), shown(&after, key)))
            .collect()
    }
}

/// The values of a text by their dotted keys; an element of a list of transforms has its index as a key.
fn flat(text: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    if let Ok(document) = text.parse::<DocumentMut>() {
        for (key, item) in document.iter() {
            flatten(key, item, &mut values);
        }
    }
    values
}

fn flatten(path: &str, item: &Item, values: &mut BTreeMap<String, String>) {
    match item {
        Item::Table(table) => table.iter().for_each(|(key, item)| flatten(&format!("{path}.{key}"), item, values)),
        Item::Value(value) => flatten_value(path, value, values),
        Item::None | Item::ArrayOfTables(_) => {}
    }
}

fn flatten_value(path: &str, value: &Value, values: &mut BTreeMap<String, String>) {
    match value {
        Value::Array(list) if list.iter().any(Value::is_inline_table) => {
            for (index, value) in list.iter().enumerate() {
                // Whole: the keys of two different transforms have nothing to do with each other.
                values.insert(format!("{path}[{index}]"), value.to_string().trim().to_owned());
            }
        }
        // A length is one value: its unit is no key of its own.
        _ => {
            values.insert(path.to_owned(), value.to_string().trim().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use crate::recipe::RecipeError;
    use crate::recipe::example::{set, small};

    #[test]
    fn a_difference_is_told_key_by_key() -> Result<(), RecipeError> {
        let other = set(&[
            "optimizer.learning_rate=0.2",
            "train.total={ steps = 100 }",
            "train.clip_norm=1.0",
            "data.train=[{ random_resized_crop = { scale = [0.5, 1] } }, { horizontal_flip = {} }]",
        ])?;
        assert_snapshot!(small().difference(&other).join("\n"), @r#"
        data.train[0]: { random_resized_crop = { scale = [0.08, 1.0], ratio = [0.75, 1.3333333333333333], interpolation = "bicubic" } } -> { random_resized_crop = { scale = [0.5, 1.0], ratio = [0.75, 1.3333333333333333], interpolation = "bicubic" } }
        data.train[1]: none -> { horizontal_flip = { probability = 0.5 } }
        optimizer.learning_rate: 0.1 -> 0.2
        train.clip_norm: none -> 1.0
        train.total: { epochs = 16.0 } -> { steps = 100 }
        "#);
        assert_eq!(small().difference(&small()), [""; 0]);
        Ok(())
    }
}
