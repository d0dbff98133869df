//! What the user says of weights that do not say it themselves.

use super::preparation::Preparation;

/// What a file of weights does not say.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// The set to read, where a file has several.
    pub key: Option<String>,
    /// Names of the classes, in the order of the network's logits.
    pub classes: Option<Vec<String>>,
    /// How images were prepared.
    pub preparation: Preparation,
    /// Take what fits: what is missing or of another shape starts random, what is unknown is left out.
    pub partial: bool,
}

impl Hints {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        let Self { key, classes, preparation, partial } = self;
        key.is_none() && classes.is_none() && *preparation == Preparation::default() && !partial
    }
}
