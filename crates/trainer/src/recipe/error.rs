//! What is wrong with a recipe, shown to the person who wrote it: file, line, column, carets, the names that would do.
//!
//! The text starts without `error:`; whoever prints it puts that in front.

use std::fmt;
use std::io;
use std::ops::Range;

use thiserror::Error;

use super::spelling::nearest;

/// Why a recipe cannot be used.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// No file and no built-in recipe of this name.
    #[error("{}", not_found(name, tried, built_in))]
    NotFound {
        /// What was asked for.
        name: String,
        /// The files that were looked for.
        tried: Vec<String>,
        /// The names of the built-in recipes.
        built_in: Vec<&'static str>,
    },
    /// The file is there and cannot be read.
    #[error("cannot read the recipe `{name}`")]
    Read {
        /// What was asked for.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The text is no recipe, or a value in it cannot be meant.
    #[error("invalid recipe `{name}`{}\n{fault}", with(sets))]
    Invalid {
        /// The file, or the name of the built-in recipe.
        name: String,
        /// The `--set` arguments without which this would not have happened.
        sets: Vec<String>,
        /// What is wrong, and where.
        fault: Box<Shown>,
    },
    /// A `--set` argument is at fault.
    #[error("invalid argument `--set {argument}`\n{fault}")]
    Set {
        /// What was written after `--set`.
        argument: String,
        /// What is wrong, and where.
        fault: Box<Shown>,
    },
}

/// A fault with the line that it is in.
#[derive(Debug)]
pub struct Shown {
    line: Option<Line>,
    message: String,
    hint: Option<String>,
}

#[derive(Debug)]
struct Line {
    /// Line and column, from 1; none for an argument, which has but one line.
    place: Option<(usize, usize)>,
    text: String,
    /// Characters in front of the carets, and how many carets.
    indent: usize,
    carets: usize,
}

/// A fault by its position in a text, in bytes.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) span: Option<Range<usize>>,
    pub(super) message: String,
}

impl Fault {
    /// The same fault in a file.
    pub(super) fn show(&self, text: &str) -> Box<Shown> {
        let line = self.span.as_ref().map(|span| {
            let (start, number) = line_start(text, span.start);
            let line = Line::new(text, start, span);
            Line { place: Some((number, line.indent + 1)), ..line }
        });
        self.with_line(line)
    }

    /// The same fault in an argument.
    pub(super) fn show_argument(&self, argument: &str) -> Box<Shown> {
        self.with_line(self.span.as_ref().map(|span| Line::new(argument, 0, span)))
    }

    fn with_line(&self, line: Option<Line>) -> Box<Shown> {
        let message = plain(&self.message);
        Box::new(Shown { line, hint: hint(&message), message })
    }
}

impl Line {
    fn new(text: &str, start: usize, span: &Range<usize>) -> Self {
        let line = text[start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        // A span over several lines is underlined to the end of its first.
        let from = clamp(line, span.start.saturating_sub(start));
        let to = clamp(line, span.end.saturating_sub(start)).max(from);
        Self {
            place: None,
            text: line.to_owned(),
            indent: line[..from].chars().count(),
            carets: line[from..to].chars().count().max(1),
        }
    }
}

/// The largest boundary of a character in the line that is not beyond the byte.
fn clamp(line: &str, byte: usize) -> usize {
    (0..=byte.min(line.len())).rev().find(|&byte| line.is_char_boundary(byte)).unwrap_or(0)
}

/// The byte at which the line around a byte starts, and its number from 1.
fn line_start(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..clamp(text, byte)];
    (before.rfind('\n').map_or(0, |newline| newline + 1), before.matches('\n').count() + 1)
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = &self.line {
            let number = line.place.map(|(number, _)| number.to_string()).unwrap_or_default();
            let width = number.len().max(1);
            if let Some((line, column)) = line.place {
                writeln!(f, "{:width$}--> line {line}, column {column}", "")?;
            }
            writeln!(f, "{:width$} |", "")?;
            writeln!(f, "{number:width$} | {}", line.text.trim_end())?;
            // A tab is kept, so that the carets stand where the terminal shows the token.
            let indent: String =
                line.text.chars().take(line.indent).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            writeln!(f, "{:width$} | {indent}{}", "", "^".repeat(line.carets))?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Says the types of Rust in words, and a message of several lines in one.
fn plain(message: &str) -> String {
    let mut words = message.trim().replace('\n', ", ").replace(", expected nothing", "");
    for (rust, plain) in [
        ("expected usize", "expected a whole number, 0 or more"),
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected u32", "expected a whole number, 0 or more"),
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
        ("expected a sequence", "expected a list"),
    ] {
        words = words.replace(rust, plain);
    }
    // What the parser says of the fields of a variant.
    if let Some((written, known)) =
        words.strip_prefix("unexpected keys in table: ").and_then(|rest| rest.split_once(", available keys: "))
    {
        let known: Vec<_> = known.split(", ").map(|name| format!("`{name}`")).collect();
        let written = written.split(", ").next().unwrap_or(written);
        words = format!("unknown field `{written}`, expected one of {}", known.join(", "));
    }
    if let Some((before, after)) = words.split_once("expected struct ") {
        let rest = after.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
        words = format!("{before}expected a table{rest}");
    }
    words
}

/// The name that was meant by an unknown one, out of a message that lists those that are known.
fn hint(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let written = names.next()?;
    Some(format!("did you mean `{}`?", nearest(written, names)?))
}

fn not_found(name: &str, tried: &[String], built_in: &[&str]) -> String {
    let list =
        |names: &mut dyn Iterator<Item = &str>| names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "cannot find the recipe `{name}`\n  tried: {}\n  built in: {}",
        list(&mut tried.iter().map(String::as_str)),
        list(&mut built_in.iter().copied()),
    );
    if let Some(name) = nearest(name, built_in.iter().copied()) {
        text.push_str(&format!("\n\nhint: did you mean `{name}`?"));
    }
    text
}

fn with(sets: &[String]) -> String {
    let sets: Vec<_> = sets.iter().map(|set| format!("`--set {set}`")).collect();
    if sets.is_empty() { String::new() } else { format!(" with {}", sets.join(", ")) }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use crate::recipe::example::{SMALL, message};
    use crate::recipe::{load, parse};

    #[test]
    fn a_recipe_that_is_nowhere_is_answered_with_where_it_was_looked_for() {
        let error = load("ghostnet_2x.toml", &[]).expect_err("there is none");
        assert_snapshot!(error, @r"
        cannot find the recipe `ghostnet_2x.toml`
          tried: `ghostnet_2x.toml`, `configs/ghostnet_2x.toml`
          built in: `cifar10.toml`, `fashion_mnist.toml`, `finetune.toml`, `ghostnet_1x.toml`, `imagenet/ghostnet_0.5x.toml`, `imagenet/ghostnet_1.3x.toml`, `imagenet/ghostnet_1x.toml`, `imagenet/ghostnet_1x_360_epochs.toml`, `imagenet/ghostnet_1x_rmsprop.toml`, `imagenet/ghostnet_1x_small_model.toml`

        hint: did you mean `ghostnet_1x.toml`?
        ");
    }

    #[test]
    fn a_misspelled_key_is_shown_with_the_names_that_would_do() {
        assert_snapshot!(message("learning_rate", "learnig_rate"), @r"
        invalid recipe `small.toml`
          --> line 16, column 1
           |
        16 | learnig_rate = 0.1
           | ^^^^^^^^^^^^
        unknown field `learnig_rate`, expected one of `kind`, `learning_rate`, `lr_per`, `momentum`, `nesterov`, `alpha`, `betas`, `epsilon`, `weight_decay`

        hint: did you mean `learning_rate`?
        ");
        assert_snapshot!(message("random_resized_crop = {}", "random_resized_crop = { scal = [0.1, 1] }"), @r"
        invalid recipe `small.toml`
         --> line 8, column 29
          |
        8 |   { random_resized_crop = { scal = [0.1, 1] } },
          |                             ^^^^
        unknown field `scal`, expected one of `size`, `scale`, `ratio`, `interpolation`

        hint: did you mean `scale`?
        ");
        assert_snapshot!(message("[optimizer]", "[optimiser]"), @r"
        invalid recipe `small.toml`
          --> line 14, column 2
           |
        14 | [optimiser]
           |  ^^^^^^^^^
        unknown field `optimiser`, expected one of `seed`, `model`, `data`, `train`, `optimizer`, `schedule`, `finetune`, `distill`, `checkpoint`, `eval`

        hint: did you mean `optimizer`?
        ");
    }

    #[test]
    fn an_unknown_name_is_shown_with_those_that_exist() {
        assert_snapshot!(message(r#"kind = "sgd""#, r#"kind = "sdg""#), @r#"
        invalid recipe `small.toml`
          --> line 15, column 8
           |
        15 | kind = "sdg"
           |        ^^^^^
        unknown variant `sdg`, expected one of `sgd`, `adamw`, `rmsprop_tf`, `lamb`, `lion`, `muon`

        hint: did you mean `sgd`?
        "#);
        assert_snapshot!(message("random_resized_crop = {}", "random_crop = {}"), @r"
        invalid recipe `small.toml`
         --> line 8, column 5
          |
        8 |   { random_crop = {} },
          |     ^^^^^^^^^^^
        unknown variant `random_crop`, expected one of `random_resized_crop`, `resize`, `center_crop`, `resize_center_crop`, `horizontal_flip`, `color_jitter`, `pad_random_crop`, `random_erasing`, `rand_augment`, `auto_augment`, `trivial_augment`, `aug_mix`, `three_augment`

        hint: did you mean `pad_random_crop`?
        ");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_shown() {
        assert_snapshot!(message("width = 0.5", r#"width = "half""#), @r#"
        invalid recipe `small.toml`
         --> line 2, column 9
          |
        2 | width = "half"
          |         ^^^^^^
        invalid type: string "half", expected a number
        "#);
        assert_snapshot!(message("batch_size = 64", "batch_size = -1"), @r"
        invalid recipe `small.toml`
         --> line 5, column 14
          |
        5 | batch_size = -1
          |              ^^
        invalid value: integer `-1`, expected a whole number, 0 or more
        ");
        assert_snapshot!(message("image_size = 48", "image_size = 48\nmean = [0.5, 0.5]"), @r"
        invalid recipe `small.toml`
         --> line 7, column 8
          |
        7 | mean = [0.5, 0.5]
          |        ^^^^^^^^^^
        invalid length 2, expected an array of length 3
        ");
        assert_snapshot!(message("width = 0.5", "width = "), @r"
        invalid recipe `small.toml`
         --> line 2, column 9
          |
        2 | width =
          |         ^
        string values must be quoted, expected literal string
        ");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_snapshot!(message("batch_size = 64\n", ""), @r"
        invalid recipe `small.toml`
         --> line 4, column 1
          |
        4 | [data]
          | ^^^^^^
        missing field `batch_size`
        ");
        assert_snapshot!(message("[train]\ntotal = { epochs = 16 }\n", ""), @r"
        invalid recipe `small.toml`
        missing section `train`
        ");
    }

    #[test]
    fn two_units_of_a_length_are_refused() {
        assert_snapshot!(message("{ epochs = 16 }", "{ epochs = 16, steps = 100 }"), @r"
        invalid recipe `small.toml`
          --> line 12, column 9
           |
        12 | total = { epochs = 16, steps = 100 }
           |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        give exactly one of `epochs` and `steps`
        ");
        assert_snapshot!(message("{ epochs = 16 }", "{ minutes = 16 }"), @r"
        invalid recipe `small.toml`
          --> line 12, column 11
           |
        12 | total = { minutes = 16 }
           |           ^^^^^^^
        unknown field `minutes`, expected `epochs` or `steps`
        ");
        assert_snapshot!(message("every = { epochs = 1 }", "every = {}"), @r"
        invalid recipe `small.toml`
          --> line 22, column 9
           |
        22 | every = {}
           |         ^^
        give exactly one of `epochs`, `steps` and `minutes`
        ");
    }

    #[test]
    fn a_recipe_of_another_system_keeps_its_columns() {
        // Letters of several bytes in front of the fault, and lines that end with a carriage return.
        let text = SMALL.replace("width = 0.5", "width = 0.5 # größe").replace('\n', "\r\n");
        let text = text.replace("learning_rate = 0.1", "\"größe\" = 0.1");
        let error = parse("small.toml", &text, &[]).expect_err("the key is unknown");
        assert_snapshot!(error, @r#"
        invalid recipe `small.toml`
          --> line 16, column 1
           |
        16 | "größe" = 0.1
           | ^^^^^^^
        unknown field `größe`, expected one of `kind`, `learning_rate`, `lr_per`, `momentum`, `nesterov`, `alpha`, `betas`, `epsilon`, `weight_decay`
        "#);
    }
}
