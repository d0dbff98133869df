//! The recipe that the tests change, one fault at a time.

use super::{Recipe, RecipeError, parse};

/// A small recipe with every required key.
pub(crate) const SMALL: &str = r#"[model]
width = 0.5

[data]
batch_size = 64
image_size = 48
train = [
  { random_resized_crop = {} },
]

[train]
total = { epochs = 16 }

[optimizer]
kind = "sgd"
learning_rate = 0.1

[schedule]
kind = "cosine"

[checkpoint]
every = { epochs = 1 }
"#;

/// The small recipe as it is.
pub(crate) fn small() -> Recipe {
    parse("small.toml", SMALL, &[]).expect("the recipe is valid")
}

/// The small recipe with `--set` arguments.
pub(crate) fn set(sets: &[&str]) -> Result<Recipe, RecipeError> {
    parse("small.toml", SMALL, &sets.iter().map(|set| (*set).to_owned()).collect::<Vec<_>>())
}

/// The message for the small recipe with one text in it replaced by another.
pub(crate) fn message(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "`{from}` is not in the recipe");
    match parse("small.toml", &SMALL.replace(from, to), &[]) {
        Ok(recipe) => panic!("`{to}` is accepted: {recipe:?}"),
        Err(error) => error.to_string(),
    }
}

/// The message for the small recipe with `--set` arguments.
pub(crate) fn set_message(sets: &[&str]) -> String {
    match set(sets) {
        Ok(recipe) => panic!("{sets:?} are accepted: {recipe:?}"),
        Err(error) => error.to_string(),
    }
}
