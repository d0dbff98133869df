//! One `--set section.key=value` of the command line.
//!
//! The value is TOML, and a bare word is a string, so that `--set optimizer.kind=adamw` needs no quotes. A key is
//! assigned, never merged: what stood there before is gone, which lets a whole table be replaced. The edited text is
//! then read like any other; a fault in it that an assignment brought in is shown in the argument.

use std::ops::Range;

use toml_edit::{Document, DocumentMut, InlineTable, Item, Key, Table, TableLike, Value};

use super::document::Place;
use super::error::{Fault, RecipeError};

/// A parsed `--set` argument.
#[derive(Debug)]
pub(super) struct Assignment {
    argument: String,
    path: Vec<String>,
    value: Value,
    /// Where the value stands in the argument, in bytes.
    value_span: Range<usize>,
}

impl Assignment {
    /// Reads what was written after `--set`.
    pub(super) fn parse(argument: &str) -> Result<Self, RecipeError> {
        let fail = |message: String, span| Err(set_error(argument, &Fault { span, message }));
        let Some((key, value)) = argument.split_once('=') else {
            return fail("expected `section.key=value`, for instance `optimizer.learning_rate=0.1`".to_owned(), None);
        };
        let path = match Key::parse(key) {
            Ok(path) => path.iter().map(|key| key.get().to_owned()).collect(),
            Err(error) => {
                return fail(format!("invalid key: {}", error.message()), Some(0..key.len().max(1)));
            }
        };
        let start = key.len() + 1 + (value.len() - value.trim_start().len());
        let value = value.trim();
        let value_span = start..start + value.len();
        match value.parse::<Value>() {
            Ok(parsed) => {
                Ok(Self { argument: argument.to_owned(), path, value: parsed.decorated(" ", ""), value_span })
            }
            Err(_) if is_bare_word(value) => Ok(Self {
                argument: argument.to_owned(),
                path,
                value: Value::from(value).decorated(" ", ""),
                value_span,
            }),
            Err(_) if value.is_empty() => {
                let end = argument.len();
                fail("missing a value after `=`; the empty text is `\"\"`".to_owned(), Some(end..end))
            }
            Err(error) => {
                let span = error.span().map_or(value_span, |span| start + span.start..start + span.end);
                fail(format!("invalid value: {}", error.message()), Some(span))
            }
        }
    }

    /// Assigns the value in the document, making the tables on the way.
    pub(super) fn apply(&self, document: &mut DocumentMut) -> Result<(), RecipeError> {
        let Some((last, sections)) = self.path.split_last() else {
            return Ok(());
        };
        let mut table: &mut dyn TableLike = document.as_table_mut();
        for (depth, key) in sections.iter().enumerate() {
            let new = || {
                if depth == 0 { Item::Table(Table::new()) } else { Value::from(InlineTable::new()).into() }
            };
            table = match table.entry(key).or_insert_with(new).as_table_like_mut() {
                Some(table) => table,
                None => {
                    let name = self.path[..=depth].join(".");
                    let fault =
                        Fault { span: self.key_span(depth), message: format!("`{name}` is a value, not a table") };
                    return Err(set_error(&self.argument, &fault));
                }
            };
        }
        table.insert(last, Item::Value(self.value.clone()));
        Ok(())
    }

    /// The fault of the edited text as one of this argument, if it is.
    ///
    /// It is if it lies in the value, at the last key, or at a section that the text had not before.
    pub(super) fn blame(&self, before: &str, edited: &str, fault: &Fault) -> Option<RecipeError> {
        let at = fault.span.as_ref()?;
        let before = Document::parse(before).ok()?;
        let edited = Document::parse(edited).ok()?;
        let last = self.path.len().checked_sub(1)?;
        let place = Place::find(&edited, &self.path)?;
        let span = if let Some(value) = place.value.filter(|value| value.start <= at.start && at.end <= value.end) {
            // A bare word has quotes in the text and none here.
            let map = |byte: usize| (self.value_span.start + (byte - value.start)).min(self.value_span.end);
            Some(map(at.start)..map(at.end))
        } else {
            (0..=last).find_map(|depth| {
                let path = &self.path[..=depth];
                if depth < last && Place::find(&before, path).is_some() {
                    return None;
                }
                let place = Place::find(&edited, path)?;
                if place.key.as_ref() == Some(at) {
                    self.key_span(depth)
                } else if place.value.as_ref() == Some(at) {
                    Some(0..self.argument.len())
                } else {
                    None
                }
            })
        };
        Some(set_error(&self.argument, &Fault { span: Some(span?), message: fault.message.clone() }))
    }

    /// Where the key at a depth stands in the argument.
    fn key_span(&self, depth: usize) -> Option<Range<usize>> {
        let mut end = 0;
        let mut span = None;
        for key in &self.path[..=depth] {
            let start = end + self.argument[end..].find(key.as_str())?;
            end = start + key.len();
            span = Some(start..end);
        }
        span
    }
}

fn set_error(argument: &str, fault: &Fault) -> RecipeError {
    RecipeError::Set { argument: argument.to_owned(), fault: fault.show_argument(argument) }
}

/// Whether a text that is no TOML value can be taken as a string without quotes: a name or a path.
fn is_bare_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '/' | '.' | '~'))
        && !text.contains(['"', '\'', '[', ']', '{', '}', '=', '#', ',', '\n'])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use insta::assert_snapshot;

    use super::*;
    use crate::duration::{Cadence, Duration};
    use crate::recipe::example::{SMALL, set, set_message};
    use crate::recipe::{Mix, OptimizerKind, ScheduleKind, parse};

    fn applied(text: &str, argument: &str) -> Result<String, RecipeError> {
        let mut document: DocumentMut = text.parse().expect("the text is TOML");
        Assignment::parse(argument)?.apply(&mut document)?;
        Ok(document.to_string())
    }

    #[test]
    fn a_value_is_toml_and_a_bare_word_a_string() -> Result<(), RecipeError> {
        assert_eq!(applied("[a]\nb = 1\n", "a.b=2.5")?, "[a]\nb = 2.5\n");
        assert_eq!(applied("[a]\nb = 1\n", "a.b=adamw")?, "[a]\nb = \"adamw\"\n");
        assert_eq!(applied("[a]\nb = 1\n", "a.b=/data/my photos")?, "[a]\nb = \"/data/my photos\"\n");
        assert_eq!(applied("[a]\nb = 1\n", "a.b = true")?, "[a]\nb = true\n");
        assert_eq!(applied("b = 1\n[a]\n", "b=[1, 2]")?, "b = [1, 2]\n[a]\n");
        Ok(())
    }

    #[test]
    fn a_table_is_replaced_and_not_merged() -> Result<(), RecipeError> {
        let text = "[a]\nb = { epochs = 1 }\nc = 2\n";
        assert_eq!(applied(text, "a.b={ steps = 5 }")?, "[a]\nb = { steps = 5 }\nc = 2\n");
        assert_eq!(applied("[a]\nc = 2\n[a.b]\nepochs = 1\n", "a.b={steps=5}")?, "[a]\nc = 2\nb = {steps=5}\n");
        Ok(())
    }

    #[test]
    fn missing_tables_are_made_on_the_way() -> Result<(), RecipeError> {
        assert_eq!(applied("s = 1\n", "a.b.c=1")?, "s = 1\n\n[a]\nb = { c = 1}\n");
        Ok(())
    }

    #[test]
    fn values_are_set_from_the_command_line() -> Result<(), RecipeError> {
        let recipe = set(&[
            "optimizer.learning_rate=0.5",
            "train.total={ steps = 100 }",
            "checkpoint.every={minutes=5}",
            "model.width = 1.3",
            "eval.splits=[\"val\", \"train\"]",
            "train.mixup.alpha=0.2",
            "data.path=/data/my photos",
        ])?;
        assert_eq!(recipe.optimizer.learning_rate, 0.5);
        assert_eq!(recipe.train.total, Duration::Steps(100));
        assert_eq!(recipe.checkpoint.every, Cadence::Minutes(5.0));
        assert_eq!(recipe.model.width, 1.3);
        assert_eq!(recipe.eval.splits, ["val", "train"]);
        assert_eq!(recipe.train.mixup, Some(Mix { alpha: 0.2, off_after: None }));
        assert_eq!(recipe.data.path.as_deref(), Some(Path::new("/data/my photos")));
        Ok(())
    }

    #[test]
    fn a_whole_section_and_a_kind_are_replaced() -> Result<(), RecipeError> {
        let recipe = set(&["optimizer={ kind = 'adamw', learning_rate = 1e-3 }"])?;
        assert_eq!(recipe.optimizer.kind, OptimizerKind::Adamw);
        assert_eq!(recipe.optimizer.betas, Some([0.9, 0.999]));
        let recipe = set(&["optimizer.kind=adamw", "schedule.kind=constant"])?;
        assert_eq!((recipe.optimizer.kind, recipe.schedule.kind), (OptimizerKind::Adamw, ScheduleKind::Constant));
        Ok(())
    }

    #[test]
    fn what_the_file_leaves_out_can_be_set() -> Result<(), RecipeError> {
        let text = SMALL.replace("batch_size = 64\n", "");
        let recipe = parse("small.toml", &text, &["data.batch_size=8".to_owned()])?;
        assert_eq!(recipe.data.batch_size, 8);
        Ok(())
    }

    #[test]
    fn a_bad_argument_is_shown() {
        assert_snapshot!(set_message(&["optimizer.learning_rate"]), @r"
        invalid argument `--set optimizer.learning_rate`
        expected `section.key=value`, for instance `optimizer.learning_rate=0.1`
        ");
        assert_snapshot!(set_message(&["optimizer.=1"]), @r"
        invalid argument `--set optimizer.=1`
          |
          | optimizer.=1
          | ^^^^^^^^^^
        invalid key: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
        ");
        assert_snapshot!(set_message(&["model.width="]), @r#"
        invalid argument `--set model.width=`
          |
          | model.width=
          |             ^
        missing a value after `=`; the empty text is `""`
        "#);
        assert_snapshot!(set_message(&["eval.splits=[\"val\""]), @r#"
        invalid argument `--set eval.splits=["val"`
          |
          | eval.splits=["val"
          |                   ^
        invalid value: unclosed array, expected `]`
        "#);
        assert_snapshot!(set_message(&["model.width=1.0x"]), @r"
        invalid argument `--set model.width=1.0x`
          |
          | model.width=1.0x
          |                ^
        invalid value: invalid float
        ");
        assert_snapshot!(set_message(&["model.width.x=1"]), @r"
        invalid argument `--set model.width.x=1`
          |
          | model.width.x=1
          |       ^^^^^
        `model.width` is a value, not a table
        ");
    }

    #[test]
    fn a_fault_that_an_argument_brings_in_is_shown_in_the_argument() {
        assert_snapshot!(set_message(&["seed=1", "optimizer.lerning_rate=0.5"]), @r"
        invalid argument `--set optimizer.lerning_rate=0.5`
          |
          | optimizer.lerning_rate=0.5
          |           ^^^^^^^^^^^^
        unknown field `lerning_rate`, expected one of `kind`, `learning_rate`, `lr_per`, `momentum`, `nesterov`, `alpha`, `betas`, `epsilon`, `weight_decay`

        hint: did you mean `learning_rate`?
        ");
        assert_snapshot!(set_message(&["optimiser.kind=sgd"]), @r"
        invalid argument `--set optimiser.kind=sgd`
          |
          | optimiser.kind=sgd
          | ^^^^^^^^^
        unknown field `optimiser`, expected one of `seed`, `model`, `data`, `train`, `optimizer`, `schedule`, `finetune`, `distill`, `checkpoint`, `eval`

        hint: did you mean `optimizer`?
        ");
        assert_snapshot!(set_message(&["optimizer.learning_rate=fast"]), @r#"
        invalid argument `--set optimizer.learning_rate=fast`
          |
          | optimizer.learning_rate=fast
          |                         ^^^^
        invalid type: string "fast", expected a number
        "#);
        assert_snapshot!(set_message(&["optimizer.kind=shampoo"]), @r"
        invalid argument `--set optimizer.kind=shampoo`
          |
          | optimizer.kind=shampoo
          |                ^^^^^^^
        unknown variant `shampoo`, expected one of `sgd`, `adamw`, `rmsprop_tf`, `lamb`, `lion`, `muon`
        ");
        assert_snapshot!(set_message(&["model.width=-1"]), @r"
        invalid argument `--set model.width=-1`
          |
          | model.width=-1
          |             ^^
        `width` must be finite and above 0, but is -1
        ");
        assert_snapshot!(set_message(&["train.total={ epochs = 1, step = 2 }"]), @r"
        invalid argument `--set train.total={ epochs = 1, step = 2 }`
          |
          | train.total={ epochs = 1, step = 2 }
          |                           ^^^^
        unknown field `step`, expected `epochs` or `steps`

        hint: did you mean `steps`?
        ");
        assert_snapshot!(set_message(&["schedule.kind=step"]), @r"
        invalid argument `--set schedule.kind=step`
          |
          | schedule.kind=step
          |               ^^^^
        the schedule `step` needs `decay_every`, for instance `{ epochs = 30 }`
        ");
        assert_snapshot!(set_message(&["train.mixup.off_after={ epochs = 1 }"]), @r"
        invalid argument `--set train.mixup.off_after={ epochs = 1 }`
          |
          | train.mixup.off_after={ epochs = 1 }
          | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        missing field `alpha`
        ");
    }

    #[test]
    fn a_fault_between_file_and_argument_names_both() {
        assert_snapshot!(set_message(&["seed=1", "checkpoint.every.steps=5"]), @r"
        invalid recipe `small.toml` with `--set seed=1`, `--set checkpoint.every.steps=5`
          --> line 23, column 9
           |
        23 | every = { epochs = 1 , steps = 5}
           |         ^^^^^^^^^^^^^^^^^^^^^^^^^
        give exactly one of `epochs`, `steps` and `minutes`
        ");
    }

    #[test]
    fn a_fault_of_the_file_keeps_its_line_whatever_is_set() {
        let text = SMALL.replace("learning_rate", "rate");
        let error = parse("small.toml", &text, &["seed=1".to_owned()]).expect_err("the key is unknown");
        assert_snapshot!(error, @r"
        invalid recipe `small.toml`
          --> line 16, column 1
           |
        16 | rate = 0.1
           | ^^^^
        unknown field `rate`, expected one of `kind`, `learning_rate`, `lr_per`, `momentum`, `nesterov`, `alpha`, `betas`, `epsilon`, `weight_decay`
        ");
    }
}
