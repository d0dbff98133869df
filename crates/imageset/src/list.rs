//! Images in a list: a file that names each image with its label, and with its part if the list has parts.
//!
//! CSV or TSV (`.csv`, `.tsv`): the first line names the columns, in any order and among others,
//! * `path`, or else `file`, `filename`, `image`, `file_name`, `filepath`, `file_path`, `image_path` or `img_path`: where the image is,
//!   relative to the folder of the list, or absolute;
//! * `label`, or else `class`: the name of its class; several are separated by `|`, which hence cannot be part of a name. Or
//!   `labels`: the same, and a cell may be empty, for an image that has no label;
//! * `split`, which may be left out: `train`, `val` or `test`, or a usual synonym, see [`Part`]. Where it is, the column `subset`, `set`,
//!   `partition`, `phase` or `usage` takes its place if its cells are such words, with two different parts among them.
//!
//! Cells are separated by a comma, a semicolon or a tab, whichever makes the first line name these columns.
//!
//! JSON (`.json`, `.jsonl`): an array of objects with these keys, or such objects one after the other, one a line. A label is a
//! string or a whole number, which counts as its text, and several are an array.
//!
//! Without a `split`, or if all of the list is `train`, a part is held back as from class folders. There an image with several
//! labels counts by its first one, and trains if one of its labels would have no other image to train on. `test` takes the place
//! of `val` where there is none; beside one, it is left out. The classes are those of the images to train on, in bytewise order:
//! `10` comes before `9`.
//!
//! The list is **multi-label** if it says `labels`, or if any image has several or none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

use crate::delimited::{QuoteFault, Record, Records};
use crate::folder::read_file;
use crate::left_out::{LeftOut, is_meant};
use crate::measure::{MeasuredPart, MeasuredSet};
use crate::name::{case_warnings, normal, path_text};
use crate::part::Part;
use crate::source::{DataSet, EncodedImage, ImageSource, OpenOptions, SourceError, counted, shortened};
use crate::split::{single_image_warning, split_class, split_rule};

/// Names of the column or key of the path, the preferred one first. `file_name` is that of Hugging Face's `metadata.csv`.
const PATH_NAMES: [&str; 9] =
    ["path", "file", "filename", "image", "file_name", "filepath", "file_path", "image_path", "img_path"];
/// Names of the column or key of the label, the preferred one first.
const LABEL_NAMES: [&str; 2] = ["label", "class"];
/// Name of the column or key of any number of labels.
const LABELS_NAME: &str = "labels";
const SPLIT_NAME: &str = "split";
/// Names of columns or keys that are the split if what is in them says so.
const SPLIT_SYNONYMS: [&str; 5] = ["subset", "set", "partition", "phase", "usage"];
/// Between the labels of a cell.
const LABEL_SEPARATOR: char = '|';
/// How many missing files are named.
const SHOWN_MISSING: usize = 3;

/// What is wrong with a line of a list.
#[derive(Debug, thiserror::Error)]
pub enum ListFault {
    /// A quoted cell is not closed, or not at its end.
    #[error(transparent)]
    Quote(#[from] QuoteFault),
    /// Too few or too many cells.
    #[error("there are {found} here, but {expected} in the header: put a cell that holds a separator in double quotes",
        found = counted(*found, "cell"))]
    Cells {
        /// Cells of the line.
        found: usize,
        /// Cells of the header.
        expected: usize,
    },
    /// A column or key that is needed.
    #[error("there is no {what}, called {}, among `{}`", quoted(.names, " or "), .found.join("`, `"))]
    Missing {
        /// What would be in it.
        what: &'static str,
        /// The names that it may have.
        names: Vec<&'static str>,
        /// The names that are there.
        found: Vec<String>,
    },
    /// It is not clear which one counts.
    #[error("there are both `label` and `labels`: keep one of them")]
    BothLabels,
    /// Not JSON.
    #[error("this is not good JSON: {reason}")]
    Json {
        /// The parser's words.
        reason: String,
    },
    /// Something other than an object.
    #[error("an entry must be an object such as `{{\"path\": \"images/1.jpg\", \"label\": \"cat\"}}`")]
    NotAnObject,
    /// A value of the wrong kind.
    #[error("`{key}` is {value}, but it must be {expected}")]
    WrongKind {
        /// The key.
        key: String,
        /// Its value, as JSON.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// No path.
    #[error("the path is empty")]
    EmptyPath,
    /// No label where there must be one.
    #[error("a label is empty: name the class, or call the column `labels` if an image may have none")]
    EmptyLabel,
    /// No part of a split.
    #[error("the split is `{split}`, but it must be `train`, `val` or `test`, or a usual synonym of one of these")]
    UnknownSplit {
        /// What is there.
        split: String,
    },
    /// A column that seems to be the split.
    #[error(
        "there is no split, but `{name}` seems to be one, as it holds `{part}` and `{other}`: call it `split` and write `train`, `val` or \
         `test`, or give it a name such as `note` if it says something else"
    )]
    MaybeSplit {
        /// The column or key.
        name: String,
        /// A word in it that names a part.
        part: String,
        /// Another one, which names another part or none.
        other: String,
    },
    /// The same image with different labels.
    #[error(
        "`{image}` is in line {line} already, with another label: keep one of the lines; several labels of an image are written in \
         one cell as `cat|dog`, in JSON as an array"
    )]
    OtherLabel {
        /// Its path as written.
        image: String,
        /// The line that has it first.
        line: usize,
    },
    /// The same image in two parts.
    #[error(
        "`{image}` is in line {line} already, in another split: keep one of the lines, or nothing is measured with it"
    )]
    OtherSplit {
        /// Its path as written.
        image: String,
        /// The line that has it first.
        line: usize,
    },
    /// Validation knows a class that training does not.
    #[error("the class `{class}` is in the split `{split}`, but no image to train on has it")]
    UnknownClass {
        /// The class.
        class: String,
        /// The part.
        split: String,
    },
}

fn quoted(names: &[&str], between: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(between)
}

/// A line and what is wrong with it.
type LineFault = (usize, ListFault);

/// One image of the list, as written.
struct Entry {
    line: usize,
    path: String,
    labels: Vec<String>,
    /// None if the list has no parts.
    part: Option<Part>,
    /// Whether it is said that an image may have any number of labels.
    is_multi_label: bool,
}

impl Entry {
    fn new(line: usize, path: String, labels: Vec<String>, split: Option<&str>) -> Result<Self, LineFault> {
        if path.is_empty() {
            return Err((line, ListFault::EmptyPath));
        }
        let mut distinct: Vec<String> = Vec::with_capacity(labels.len());
        for label in labels {
            if label.is_empty() {
                return Err((line, ListFault::EmptyLabel));
            }
            if !distinct.contains(&label) {
                distinct.push(label);
            }
        }
        let unknown = |split: &str| (line, ListFault::UnknownSplit { split: split.to_owned() });
        let part = split.map(|split| Part::of(split).ok_or_else(|| unknown(split))).transpose()?;
        let is_multi_label = distinct.len() != 1;
        Ok(Self { line, path, labels: distinct, part, is_multi_label })
    }

    /// The part for training. A list without parts is all for that.
    fn part(&self) -> Part {
        self.part.unwrap_or(Part::Train)
    }
}

/// A path as patterns know it: with `/` between the names, and without empty ones and `.`.
fn plain(path: &str) -> String {
    let names = path.split(['/', '\\']).filter(|name| !name.is_empty() && *name != ".");
    names.collect::<Vec<_>>().join("/")
}

/// Whether a file's name says that it is a list.
pub(crate) fn is_list_name(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    ["csv", "tsv", "json", "jsonl"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// Where a thing is among names, which are compared without regard to case.
fn find(names: &[String], known: &[&str]) -> Option<usize> {
    known.iter().find_map(|known| names.iter().position(|name| name.eq_ignore_ascii_case(known)))
}

/// Which columns or keys are the ones that count.
struct Places {
    path: usize,
    labels: usize,
    split: Option<usize>,
    is_multi_label: bool,
}

impl Places {
    /// Finds the columns by their names. `split` is how that of the split is called.
    fn new(names: &[String], split: &str) -> Result<Self, ListFault> {
        let missing =
            |what, known: &[&'static str]| ListFault::Missing { what, names: known.to_vec(), found: names.to_vec() };
        let path = find(names, &PATH_NAMES).ok_or_else(|| missing("path of the image", &PATH_NAMES))?;
        let (labels, is_multi_label) = match (find(names, &LABEL_NAMES), find(names, &[LABELS_NAME])) {
            (Some(_), Some(_)) => return Err(ListFault::BothLabels),
            (Some(label), None) => (label, false),
            (None, Some(labels)) => (labels, true),
            (None, None) => return Err(missing("label", &[LABEL_NAMES[0], LABEL_NAMES[1], LABELS_NAME])),
        };
        Ok(Self { path, labels, split: find(names, &[split]), is_multi_label })
    }
}

/// Whether the cells of a column that may be the split, with their lines, are one. An error is one that seems to be the split but says
/// other things as well: then images to measure on might be trained on.
fn is_split<'a>(name: &str, cells: impl IntoIterator<Item = (usize, &'a str)>) -> Result<bool, LineFault> {
    let mut parts: BTreeMap<Part, &str> = BTreeMap::new();
    let mut unclear: Option<(usize, &str)> = None;
    for (line, cell) in cells {
        match (Part::of(cell), Part::said_by(cell)) {
            (Some(part), _) => {
                parts.entry(part).or_insert(cell);
            }
            (None, Some(part)) => {
                parts.entry(part).or_insert(cell);
                unclear.get_or_insert((line, cell));
            }
            // Something that is not a part at all.
            (None, None) => return Ok(false),
        }
    }
    let maybe = |line, other: &str| {
        let part = parts.values().find(|part| **part != other).copied().unwrap_or(other);
        (line, ListFault::MaybeSplit { name: name.to_owned(), part: part.to_owned(), other: other.to_owned() })
    };
    match unclear {
        _ if parts.len() < 2 => Ok(false),
        Some((line, other)) => Err(maybe(line, other)),
        None => Ok(true),
    }
}

/// How a list is written.
#[derive(Clone, Copy)]
enum Form {
    /// In lines of cells with this character between them.
    Delimited(char),
    Json,
}

impl Form {
    /// The form of a list, by the ending of its file and by its text.
    fn of(path: &Path, text: &str) -> Self {
        let is_ending = |ending| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
        if is_ending("json") || is_ending("jsonl") || text.trim_start().starts_with(['[', '{']) {
            Self::Json
        } else if is_ending("tsv") {
            Self::Delimited(separator(text, ['\t', ',', ';']))
        } else {
            Self::Delimited(separator(text, [',', ';', '\t']))
        }
    }
}

/// What separates the cells: of the usual characters the one with which the first line names an image's path in one of several columns, else
/// the first. Spreadsheet programs write `;` into CSV files where the decimal separator is a comma.
fn separator(text: &str, usual: [char; 3]) -> char {
    let names_columns = |separator: &char| {
        let header = Records::new(text, *separator).next();
        header.and_then(Result::ok).is_some_and(|header| {
            let names: Vec<String> = header.cells.iter().map(|name| name.trim().to_owned()).collect();
            names.len() > 1 && find(&names, &PATH_NAMES).is_some()
        })
    };
    usual.into_iter().find(names_columns).unwrap_or(usual[0])
}

/// The entries of a CSV or TSV file, and the name of the column that takes the place of the split, if one does.
fn delimited_entries(text: &str, separator: char) -> Result<(Vec<Entry>, Option<String>), LineFault> {
    let mut records = Records::new(text, separator).map(|record| record.map_err(|(line, fault)| (line, fault.into())));
    let Some(header) = records.next().transpose()? else { return Ok((Vec::new(), None)) };
    let names: Vec<String> = header.cells.iter().map(|name| name.trim().to_owned()).collect();
    let mut places = Places::new(&names, SPLIT_NAME).map_err(|fault| (header.line, fault))?;
    let record = |record: Result<Record, LineFault>| {
        let record = record?;
        let (found, expected) = (record.cells.len(), names.len());
        if found == expected { Ok(record) } else { Err((record.line, ListFault::Cells { found, expected })) }
    };
    let records: Vec<Record> = records.map(record).collect::<Result<_, LineFault>>()?;
    let mut implied = None;
    if places.split.is_none() {
        for name in SPLIT_SYNONYMS {
            let Some(column) = find(&names, &[name]) else { continue };
            if is_split(&names[column], records.iter().map(|record| (record.line, record.cells[column].as_str())))? {
                (places.split, implied) = (Some(column), Some(names[column].clone()));
                break;
            }
        }
    }
    let entry = |record: &Record| {
        let labels = &record.cells[places.labels];
        let labels = if places.is_multi_label && labels.trim().is_empty() {
            Vec::new()
        } else {
            labels.split(LABEL_SEPARATOR).map(|label| label.trim().to_owned()).collect()
        };
        let split = places.split.map(|split| record.cells[split].as_str());
        let mut entry = Entry::new(record.line, record.cells[places.path].clone(), labels, split)?;
        entry.is_multi_label |= places.is_multi_label;
        Ok(entry)
    };
    Ok((records.iter().map(entry).collect::<Result<_, LineFault>>()?, implied))
}

/// JSON text and how far it has been read.
struct JsonText<'a> {
    rest: &'a str,
    line: usize,
}

impl JsonText<'_> {
    fn skip(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].matches('\n').count();
        self.rest = &self.rest[bytes..];
    }

    fn skip_space(&mut self) {
        self.skip(self.rest.len() - self.rest.trim_start().len());
    }

    /// Skips a character, if it is the next one.
    fn take(&mut self, character: char) -> bool {
        let is_next = self.rest.starts_with(character);
        if is_next {
            self.skip(character.len_utf8());
        }
        self.skip_space();
        is_next
    }

    fn fault(&self, reason: &str) -> LineFault {
        (self.line, ListFault::Json { reason: reason.to_owned() })
    }

    fn object(&mut self) -> Result<Map<String, Value>, LineFault> {
        if !self.rest.starts_with('{') {
            return Err((self.line, ListFault::NotAnObject));
        }
        let mut objects = serde_json::Deserializer::from_str(self.rest).into_iter();
        let object = objects.next().transpose().map_err(|error| {
            let words = error.to_string();
            let reason = words.rsplit_once(" at line ").map_or(words.as_str(), |(reason, _)| reason);
            (self.line + error.line().saturating_sub(1), ListFault::Json { reason: reason.to_owned() })
        })?;
        let len = objects.byte_offset();
        self.skip(len);
        self.skip_space();
        Ok(object.unwrap_or_default())
    }
}

/// A JSON object and the line that it begins in.
type LineObject = (usize, Map<String, Value>);

/// The objects of a JSON file: an array of objects, or objects one after the other.
fn json_objects(text: &str) -> Result<Vec<LineObject>, LineFault> {
    let mut text = JsonText { rest: text, line: 1 };
    text.skip_space();
    let mut objects = Vec::new();
    let is_array = text.take('[');
    loop {
        if is_array && text.take(']') {
            return if text.rest.is_empty() { Ok(objects) } else { Err(text.fault("there is text after the list")) };
        }
        if text.rest.is_empty() {
            return if is_array { Err(text.fault("the list is not closed with `]`")) } else { Ok(objects) };
        }
        let line = text.line;
        objects.push((line, text.object()?));
        if is_array && !text.take(',') && !text.rest.is_empty() && !text.rest.starts_with(']') {
            return Err(text.fault("after an entry, `,` or the closing `]` is missing"));
        }
    }
}

/// The entries of a JSON file, and the key that takes the place of the split, if one does.
fn json_entries(text: &str) -> Result<(Vec<Entry>, Option<String>), LineFault> {
    let objects = json_objects(text)?;
    let value = |object: &Map<String, Value>, name: &str| -> Option<String> {
        let (_, value) = object.iter().find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null())?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let mut implied = None;
    if objects.iter().all(|(_, object)| value(object, SPLIT_NAME).is_none()) {
        for name in SPLIT_SYNONYMS {
            // An object without the key names no part.
            let cells: Vec<(usize, String)> =
                objects.iter().map(|(line, object)| (*line, value(object, name).unwrap_or_default())).collect();
            if is_split(name, cells.iter().map(|(line, cell)| (*line, cell.as_str())))? {
                implied = Some(name.to_owned());
                break;
            }
        }
    }
    let split = implied.as_deref().unwrap_or(SPLIT_NAME);
    let entries = objects.iter().map(|(line, object)| json_entry(*line, object, split));
    Ok((entries.collect::<Result<_, LineFault>>()?, implied))
}

fn json_entry(line: usize, object: &Map<String, Value>, split: &str) -> Result<Entry, LineFault> {
    let present = object.iter().filter(|(_, value)| !value.is_null());
    let (names, values): (Vec<String>, Vec<&Value>) = present.map(|(key, value)| (key.clone(), value)).unzip();
    let places = Places::new(&names, split).map_err(|fault| (line, fault))?;
    let wrong = |place: usize, value: &Value, expected| {
        (line, ListFault::WrongKind { key: names[place].clone(), value: value.to_string(), expected })
    };
    let string = |place: usize| values[place].as_str().ok_or_else(|| wrong(place, values[place], "a string"));
    let label = |value: &Value| match value {
        Value::String(label) => Ok(label.trim().to_owned()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        other => Err(wrong(places.labels, other, "a string or a whole number, or an array of these")),
    };
    let labels = match values[places.labels] {
        Value::Array(labels) => labels.iter().map(label).collect::<Result<_, _>>()?,
        one => vec![label(one)?],
    };
    let split = places.split.map(string).transpose()?;
    let mut entry = Entry::new(line, string(places.path)?.trim().to_owned(), labels, split)?;
    entry.is_multi_label |= places.is_multi_label;
    Ok(entry)
}

/// The text of a list.
fn text(path: &Path) -> Result<String, SourceError> {
    let bytes = fs::read(path).map_err(|error| SourceError::read(path, error))?;
    crate::text::decode(&bytes).map_err(|line| SourceError::ListNotUtf8 { path: path.to_owned(), line })
}

/// Reads the file and checks each entry by itself. With the name of what takes the place of the split, if something does.
fn entries(path: &Path) -> Result<(Vec<Entry>, Option<String>), SourceError> {
    let text = text(path)?;
    let text = text.as_str();
    let entries = match Form::of(path, text) {
        Form::Json => json_entries(text),
        Form::Delimited(separator) => delimited_entries(text, separator),
    };
    entries.map_err(|(line, fault)| SourceError::List { path: path.to_owned(), line, fault: Box::new(fault) })
}

/// One part of a list.
#[derive(Debug)]
struct ListSource {
    /// Path and class numbers of each image.
    images: Vec<(PathBuf, Vec<usize>)>,
    is_multi_label: bool,
}

impl ImageSource for ListSource {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn label(&self, index: usize) -> usize {
        self.images[index].1.first().copied().unwrap_or_default()
    }

    fn labels(&self, index: usize) -> Vec<usize> {
        self.images[index].1.clone()
    }

    fn is_multi_label(&self) -> bool {
        self.is_multi_label
    }

    fn name(&self, index: usize) -> String {
        path_text(&self.images[index].0)
    }

    fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
        read_file(&self.images[index].0)
    }
}

pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<DataSet, SourceError> {
    let root = path.display().to_string();
    let list = List::new(path)?;
    let Read { mut entries, mut warnings, left_out, is_multi_label } = list.read(options)?;
    if entries.iter().any(|entry| entry.part() == Part::Val) {
        let before = entries.len();
        entries.retain(|entry| entry.part() != Part::Test);
        if entries.len() < before {
            let images = counted(before - entries.len(), "image");
            warnings.push(format!("left out of `{root}`: {images} of the split `test`, since there is a split `val`"));
        }
    }
    list.check_files(&entries)?;
    let classes = list.classes(&entries)?;
    warnings.extend(case_warnings(&classes));
    let held_out = entries.iter().map(Entry::part).find(|part| *part != Part::Train);
    let has_own_split = held_out.is_some();
    let (is_val, split): (Vec<bool>, String) = match held_out {
        Some(part) => {
            let seen: BTreeSet<&String> = labels_of(&entries, part).collect();
            let unseen: Vec<&String> = classes.iter().filter(|class| !seen.contains(class)).collect();
            if !unseen.is_empty() {
                let (missing, all, names) = (unseen.len(), classes.len(), shortened(&unseen));
                warnings.push(format!(
                    "the split `{part}` of `{root}` has no images of {missing} of {all} classes: {names}"
                ));
            }
            (entries.iter().map(|entry| entry.part() == part).collect(), format!("`{part}` for validation"))
        }
        None => {
            if options.val_fraction == 0.0 {
                warnings.push(format!("`{root}` has no validation images, and none are held back"));
            }
            let is_val = split(&entries, options, &mut warnings);
            (is_val, split_rule(options.val_fraction, options.seed))
        }
    };
    let part = |val: bool| {
        let entries = entries.iter().zip(&is_val).filter(|(_, is_val)| **is_val == val).map(|(entry, _)| entry);
        list.source(entries, &classes, is_multi_label)
    };
    let (train, val) = (part(false), part(true));
    let several = if is_multi_label { " of images with any number of labels" } else { "" };
    let description = format!("list `{root}`{several}, {split}");
    let known_readable = false;
    Ok(DataSet { classes, train, val, description, warnings, left_out, has_own_split, known_readable })
}

/// Opens a list to measure a model on.
pub(crate) fn measure(path: &Path, options: &OpenOptions) -> Result<MeasuredSet, SourceError> {
    let list = List::new(path)?;
    let Read { entries, mut warnings, left_out, is_multi_label } = list.read(options)?;
    list.check_files(&entries)?;
    let classes: BTreeSet<&String> = entries.iter().flat_map(|entry| &entry.labels).collect();
    let classes: Vec<String> = classes.into_iter().cloned().collect();
    warnings.extend(case_warnings(&classes));
    let found: BTreeSet<Option<Part>> = entries.iter().map(|entry| entry.part).collect();
    let parts = found.into_iter().map(|part| {
        let entries = entries.iter().filter(|entry| entry.part == part);
        MeasuredPart { part, images: list.source(entries, &classes, is_multi_label) }
    });
    let parts = parts.collect();
    let several = if is_multi_label { " of images with any number of labels" } else { "" };
    let what = format!("list `{}`{several}", path.display());
    Ok(MeasuredSet::from_parts(classes, parts, &what, warnings, left_out))
}

/// The images that a list names, whether it has labels or not, relative to the current folder. A `.txt` file has a path in each line.
///
/// # Errors
///
/// [`SourceError`] if the file cannot be read as a list.
pub fn image_files(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let list = List { path, folder: path.parent().unwrap_or(Path::new("")) };
    let fault = |(line, fault)| list.fault(line, fault);
    let text = text(path)?;
    let text = text.as_str();
    let form = Form::of(path, text);
    let is_plain = !is_list_name(path) && matches!(form, Form::Delimited(_));
    let names: Vec<String> = if is_plain {
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    } else {
        paths(text, form).map_err(fault)?
    };
    Ok(names.iter().map(|name| list.path(name)).collect())
}

/// The cells or values that name the images.
fn paths(text: &str, form: Form) -> Result<Vec<String>, LineFault> {
    let place = |names: &[String]| {
        let found = find(names, &PATH_NAMES);
        found.ok_or_else(|| ListFault::Missing {
            what: "path of the image",
            names: PATH_NAMES.to_vec(),
            found: names.to_vec(),
        })
    };
    let Form::Delimited(separator) = form else {
        return json_objects(text)?
            .into_iter()
            .map(|(line, object)| {
                let (names, values): (Vec<String>, Vec<Value>) = object.into_iter().unzip();
                let place = place(&names).map_err(|fault| (line, fault))?;
                let path = values[place].as_str().map(str::to_owned);
                path.ok_or_else(|| {
                    let (key, value) = (names[place].clone(), values[place].to_string());
                    (line, ListFault::WrongKind { key, value, expected: "a string" })
                })
            })
            .collect();
    };
    let mut records = Records::new(text, separator).map(|record| record.map_err(|(line, fault)| (line, fault.into())));
    let Some(header) = records.next().transpose()? else { return Ok(Vec::new()) };
    let names: Vec<String> = header.cells.iter().map(|name| name.trim().to_owned()).collect();
    let place = place(&names).map_err(|fault| (header.line, fault))?;
    let path = |record: Result<Record, LineFault>| {
        let record = record?;
        let (found, expected) = (record.cells.len(), names.len());
        record
            .cells
            .into_iter()
            .nth(place)
            .filter(|_| found == expected)
            .ok_or((record.line, ListFault::Cells { found, expected }))
    };
    records.map(path).collect()
}

/// All labels of the images of a part.
fn labels_of(entries: &[Entry], part: Part) -> impl Iterator<Item = &String> {
    entries.iter().filter(move |entry| entry.part() == part).flat_map(|entry| &entry.labels)
}

/// Holds back a part of each class: whether each entry is for validation. An image whose label no image to train on would have
/// is not held back.
fn split(entries: &[Entry], options: &OpenOptions, warnings: &mut Vec<String>) -> Vec<bool> {
    // An image without labels is of a class of its own, which no other can have.
    let class = |entry: &Entry| entry.labels.first().cloned().unwrap_or_default();
    let mut of_class: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, entry) in entries.iter().enumerate() {
        of_class.entry(class(entry)).or_default().push(place);
    }
    let (mut is_val, mut single) = (vec![false; entries.len()], Vec::new());
    for (class, places) in of_class {
        if places.len() == 1 && options.val_fraction > 0.0 && !class.is_empty() {
            single.push(class.clone());
        }
        let keys: Vec<&str> = places.iter().map(|&place| entries[place].path.as_str()).collect();
        let (_, for_val) = split_class(&class, &keys, options.val_fraction, options.seed);
        for_val.into_iter().for_each(|position| is_val[places[position]] = true);
    }
    warnings.extend(single_image_warning(&single));
    let to_train = entries.iter().zip(&is_val).filter(|(_, is_val)| !**is_val);
    let mut known: BTreeSet<&String> = to_train.flat_map(|(entry, _)| &entry.labels).collect();
    for (entry, is_val) in entries.iter().zip(&mut is_val).filter(|(_, is_val)| **is_val) {
        if !entry.labels.iter().all(|label| known.contains(label)) {
            *is_val = false;
            known.extend(&entry.labels);
        }
    }
    is_val
}

/// What a list says of the images that count.
struct Read {
    entries: Vec<Entry>,
    warnings: Vec<String>,
    left_out: LeftOut,
    is_multi_label: bool,
}

/// The file and where its paths start.
struct List<'a> {
    path: &'a Path,
    folder: &'a Path,
}

impl<'a> List<'a> {
    fn new(path: &'a Path) -> Result<Self, SourceError> {
        if !is_list_name(path) {
            return Err(SourceError::NotAList { path: path.to_owned() });
        }
        Ok(Self { path, folder: path.parent().unwrap_or(Path::new("")) })
    }

    /// The images that the list names, each once, without those that are to be left out.
    fn read(&self, options: &OpenOptions) -> Result<Read, SourceError> {
        let root = self.path.display();
        let (mut entries, implied) = entries(self.path)?;
        if entries.is_empty() {
            return Err(SourceError::EmptySplit { path: root.to_string() });
        }
        let (mut warnings, mut left_out) = (Vec::new(), LeftOut::default());
        if let Some(name) = implied {
            warnings.push(format!("`{root}` has no `split`, so its `{name}` is taken for that"));
        }
        entries.retain(|entry| {
            // Patterns know neither `.` nor the separators of Windows.
            let plain = plain(&entry.path);
            let is_asked = |pattern: &String| is_meant(pattern, &entry.path) || is_meant(pattern, &plain);
            let is_asked = options.leave_out.iter().any(is_asked);
            if is_asked {
                left_out.add_asked(entry.path.as_str());
            }
            !is_asked
        });
        if entries.is_empty() {
            return Err(SourceError::ListAllLeftOut { path: self.path.to_owned() });
        }
        // A name in two forms of Unicode is one class, written as it is first.
        let mut spellings: HashMap<String, String> = HashMap::new();
        for label in entries.iter_mut().flat_map(|entry| &mut entry.labels) {
            label.clone_from(spellings.entry(normal(label)).or_insert_with(|| label.clone()));
        }
        let repeated = self.drop_repeated(&mut entries)?;
        if repeated > 0 {
            warnings.push(format!("left out of `{root}`: {} that repeat an image", counted(repeated, "line")));
        }
        let is_multi_label = entries.iter().any(|entry| entry.is_multi_label);
        Ok(Read { entries, warnings, left_out, is_multi_label })
    }

    fn source<'e>(
        &self,
        entries: impl Iterator<Item = &'e Entry>,
        classes: &[String],
        is_multi_label: bool,
    ) -> Arc<dyn ImageSource> {
        let images = entries.map(|entry| {
            let labels = entry.labels.iter().filter_map(|label| classes.binary_search(label).ok());
            (self.file(entry), labels.collect())
        });
        Arc::new(ListSource { images: images.collect(), is_multi_label })
    }

    fn fault(&self, line: usize, fault: ListFault) -> SourceError {
        SourceError::List { path: self.path.to_owned(), line, fault: Box::new(fault) }
    }

    /// The file of an entry, without needless `.` in its path. Where no file has the name, it may differ from the file's in what nobody sees:
    /// a list from Windows has `\` between folders, and macOS writes accents in another form of Unicode.
    fn file(&self, entry: &Entry) -> PathBuf {
        self.path(&entry.path)
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = |name: &str| -> PathBuf { self.folder.join(name).components().collect() };
        let file = path(name);
        if name.is_ascii() && !name.contains('\\') || file.is_file() {
            return file;
        }
        let others =
            if name.contains('\\') { vec![name.to_owned(), name.replace('\\', "/")] } else { vec![name.to_owned()] };
        let found = others.iter().find_map(|name| self.in_either_form(name));
        found.unwrap_or_else(|| others.last().map_or(file, |name| path(name)))
    }

    /// The file with a name that is the same in its normal form, each folder on the way being written in either form.
    fn in_either_form(&self, name: &str) -> Option<PathBuf> {
        let mut found = self.folder.to_owned();
        for name in Path::new(name).components() {
            let text = name.as_os_str().to_str()?;
            let forms = [text.to_owned(), normal(text), text.nfd().collect()];
            found = forms.iter().map(|form| found.join(form)).find(|path| path.exists())?;
        }
        found.is_file().then(|| found.components().collect())
    }

    /// Leaves out entries that say again what another one has said, and refuses those that say otherwise. Returns how many.
    fn drop_repeated(&self, entries: &mut Vec<Entry>) -> Result<usize, SourceError> {
        let mut first: HashMap<PathBuf, usize> = HashMap::with_capacity(entries.len());
        let mut is_new = Vec::with_capacity(entries.len());
        for (place, entry) in entries.iter().enumerate() {
            let earlier = *first.entry(self.file(entry)).or_insert(place);
            is_new.push(earlier == place);
            let earlier = &entries[earlier];
            let (image, line) = (entry.path.clone(), earlier.line);
            let labels = |entry: &Entry| entry.labels.iter().cloned().collect::<BTreeSet<_>>();
            if labels(entry) != labels(earlier) {
                return Err(self.fault(entry.line, ListFault::OtherLabel { image, line }));
            }
            if entry.part() != earlier.part() {
                return Err(self.fault(entry.line, ListFault::OtherSplit { image, line }));
            }
        }
        let before = entries.len();
        let mut is_new = is_new.into_iter();
        entries.retain(|_| is_new.next().unwrap_or_default());
        Ok(before - entries.len())
    }

    fn check_files(&self, entries: &[Entry]) -> Result<(), SourceError> {
        let missing: Vec<&Entry> = entries.iter().filter(|entry| !self.file(entry).is_file()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let first = missing.iter().take(SHOWN_MISSING);
        Err(SourceError::ListMissingFiles {
            path: self.path.to_owned(),
            missing: missing.len(),
            images: entries.len(),
            first: first.map(|entry| format!("line {}, `{}`", entry.line, self.file(entry).display())).collect(),
        })
    }

    /// The classes to learn; all others are refused.
    fn classes(&self, entries: &[Entry]) -> Result<Vec<String>, SourceError> {
        if entries.iter().all(|entry| entry.part() != Part::Train) {
            return Err(SourceError::ListNoTrain { path: self.path.to_owned() });
        }
        let classes: BTreeSet<&String> = labels_of(entries, Part::Train).collect();
        for entry in entries {
            if let Some(class) = entry.labels.iter().find(|label| !classes.contains(label)) {
                let (class, split) = (class.clone(), entry.part().to_string());
                return Err(self.fault(entry.line, ListFault::UnknownClass { class, split }));
            }
        }
        if classes.len() < 2 {
            let class = classes.first().map(|class| String::clone(class));
            return Err(SourceError::ListFewClasses { path: self.path.to_owned(), class });
        }
        Ok(classes.into_iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::source::SourceKind;

    /// A folder with a list of this name, beside images that hold their own name.
    fn folder(name: &str, list: &str, images: &[&str]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for image in images {
            let path = dir.path().join(image);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, image).unwrap();
        }
        fs::write(dir.path().join(name), list).unwrap();
        dir
    }

    fn open_in(dir: &TempDir, name: &str) -> Result<DataSet, String> {
        let path = Some(dir.path().join(name));
        DataSet::open(&OpenOptions { path, val_fraction: 0.25, ..OpenOptions::default() })
            .map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "DIR"))
    }

    const IMAGES: [&str; 4] = ["a/1.jpg", "a/2.jpg", "b/ü 3.png", "4"];

    fn open(name: &str, list: &str) -> Result<DataSet, String> {
        open_in(&folder(name, list, &IMAGES), name)
    }

    fn error(name: &str, list: &str) -> String {
        open(name, list).unwrap_err()
    }

    /// Labels and content of each image.
    fn listed(dir: &TempDir, source: &dyn ImageSource) -> Vec<(Vec<usize>, String)> {
        let content = |index| match source.read(index).unwrap() {
            EncodedImage::File(bytes) => String::from_utf8(bytes).unwrap(),
            EncodedImage::Rgb(_) => panic!("a list names files"),
        };
        (0..source.len())
            .map(|index| {
                let name = source.name(index).replace(&format!("{}/", dir.path().display()), "");
                assert_eq!(content(index), name);
                (source.labels(index), name)
            })
            .collect()
    }

    fn image(labels: &[usize], name: &str) -> (Vec<usize>, String) {
        (labels.to_vec(), name.to_owned())
    }

    #[test]
    fn all_formats_say_the_same() {
        let csv = "\u{feff}Split,note,File, label \r\n\r\ntrain,\"x, \"\"y\"\"\",./a/1.jpg,zebra\r\n train ,,4,Ähre\r\n\
                   val,,\"b/ü 3.png\",zebra\r\ntest,,a/2.jpg,zebra\r\n";
        let tsv = "path\tclass\tsplit\na/1.jpg\tzebra\ttrain\n4\tÄhre\tTrain\nb/ü 3.png\tzebra\tvalid\na/2.jpg\tzebra\ttest\n";
        let json = r#"[
            {"image": "a/1.jpg", "label": "zebra", "split": "train", "id": 7},
            {"path": "4", "class": ["Ähre"], "split": "train"}, {"split": "validation", "label": "zebra", "path": "b/ü 3.png"},
            {"filename": "a/2.jpg", "label": "zebra", "split": "test"}
        ]"#;
        let jsonl = "\n{\"path\": \"a/1.jpg\", \"label\": \"zebra\", \"split\": \"train\"}\r\n\
                     {\"path\": \"4\", \"label\": \"\\u00c4hre\", \"split\": \"train\"}\n\n\
                     {\"path\": \"b/ü 3.png\", \"label\": \"zebra\", \"split\": \"val\"}\n\
                     {\"path\": \"a/2.jpg\", \"label\": \"zebra\", \"split\": \"test\"}";
        for (name, list) in [("l.csv", csv), ("l.TSV", tsv), ("l.json", json), ("l.jsonl", jsonl), ("l.json", jsonl)] {
            let dir = folder(name, list, &IMAGES);
            let set = open_in(&dir, name).unwrap();
            assert_eq!(set.classes, ["zebra", "Ähre"], "{name}");
            assert_eq!(listed(&dir, set.train.as_ref()), [image(&[0], "a/1.jpg"), image(&[1], "4")]);
            assert_eq!(listed(&dir, set.val.as_ref()), [image(&[0], "b/ü 3.png")]);
            assert_eq!((set.has_own_split, set.train.is_multi_label()), (true, false));
            let root = dir.path().join(name);
            let root = root.display();
            assert_eq!(set.description, format!("list `{root}`, `val` for validation"));
            assert_eq!(
                set.warnings,
                [
                    format!("left out of `{root}`: 1 image of the split `test`, since there is a split `val`"),
                    format!("the split `val` of `{root}` has no images of 1 of 2 classes: `Ähre`"),
                ]
            );
        }
    }

    #[test]
    fn without_a_split_a_part_of_each_class_is_held_back_as_from_folders() {
        let images: Vec<String> = (0..12).map(|i| format!("{}/{i}.png", if i < 8 { "a" } else { "b" })).collect();
        let names: Vec<&str> = images.iter().map(String::as_str).collect();
        let rows = |split: &str| -> String {
            images.iter().map(|image| format!("{image},{}{split}\n", &image[..1])).collect()
        };
        let plain = folder("list.csv", &format!("path,label\n{}", rows("")), &names);
        let set = open_in(&plain, "list.csv").unwrap();
        let counts = |source: &dyn ImageSource| {
            [0, 1].map(|label| (0..source.len()).filter(|&i| source.label(i) == label).count())
        };
        assert_eq!((counts(set.train.as_ref()), counts(set.val.as_ref())), ([6, 3], [2, 1]));
        assert!(!set.has_own_split && set.description.ends_with("0.25 of each class for validation, seed 0"));
        let all_train = folder("list.csv", &format!("path,label,split\n{}", rows(",train")), &names);
        let again = open_in(&all_train, "list.csv").unwrap();
        assert!(!again.has_own_split);
        assert_eq!(listed(&plain, set.val.as_ref()), listed(&all_train, again.val.as_ref()));

        let test = format!("path,label,split\n{}", rows(",train").replacen(",train", ",test", 1));
        let set = open_in(&folder("list.csv", &test, &names), "list.csv").unwrap();
        assert_eq!((set.val.len(), set.has_own_split), (1, true));
        assert!(set.description.ends_with("`test` for validation"), "{}", set.description);
    }

    #[test]
    fn several_labels_make_a_list_multi_label() {
        let csv = "path,label\na/1.jpg,dog| cat |dog\na/2.jpg,cat\n4,dog\n";
        let json = r#"[{"path": "a/1.jpg", "label": ["dog", "cat"]}, {"path": "a/2.jpg", "label": "cat"},
                       {"path": "4", "labels": ["dog"]}]"#;
        for (name, list) in [("list.csv", csv), ("list.json", json)] {
            let dir = folder(name, list, &IMAGES);
            let path = Some(dir.path().join(name));
            let set = DataSet::open(&OpenOptions { path, val_fraction: 0.0, ..OpenOptions::default() }).unwrap();
            assert_eq!(set.classes, ["cat", "dog"]);
            assert_eq!(
                listed(&dir, set.train.as_ref()),
                [image(&[1, 0], "a/1.jpg"), image(&[0], "a/2.jpg"), image(&[1], "4")]
            );
            assert_eq!(set.train.label(0), 1);
            assert!(set.train.is_multi_label() && set.val.is_multi_label());
            assert!(
                set.description.contains("list.") && set.description.contains(" with any number of labels, all for")
            );
        }
    }

    #[test]
    fn a_list_that_says_labels_is_multi_label_and_may_have_images_without_any() {
        for (name, list, is_multi_label) in [
            ("list.csv", "path,labels\na/1.jpg,dog\na/2.jpg,cat\n4,\n", true),
            ("list.csv", "path,labels\na/1.jpg,dog\na/2.jpg,cat\n4,dog\n", true),
            ("list.csv", "path,label\na/1.jpg,dog\na/2.jpg,cat\n4,dog\n", false),
            (
                "list.json",
                r#"[{"path":"4","label":[]},{"path":"a/1.jpg","label":1},{"path":"a/2.jpg","label":10}]"#,
                true,
            ),
            ("list.json", r#"[{"path":"a/1.jpg","labels":1},{"path":"a/2.jpg","labels":"10"}]"#, true),
            ("list.json", r#"[{"path":"a/1.jpg","label":[1]},{"path":"a/2.jpg","label":"10","split":null}]"#, false),
        ] {
            let set = open(name, list).unwrap();
            assert_eq!((set.train.is_multi_label(), set.classes.len()), (is_multi_label, 2), "{list}");
        }
        let set = open("list.csv", "path,labels,split\na/1.jpg,b|a,train\na/2.jpg,,val\n").unwrap();
        assert_eq!((set.val.labels(0), set.val.label(0)), (vec![], 0));
    }

    #[test]
    fn every_label_is_trained_even_if_it_is_never_the_first_one() {
        let images: Vec<String> = (0..40).map(|number| format!("{number}.jpg")).collect();
        let names: Vec<&str> = images.iter().map(String::as_str).collect();
        // Each image has a second label that no other has.
        let rows: String = (0..40).map(|number| format!("{number}.jpg,{}|own {number}\n", number % 2)).collect();
        let set = open_in(&folder("list.csv", &format!("path,labels\n{rows}"), &names), "list.csv").unwrap();
        assert_eq!((set.classes.len(), set.train.len(), set.val.len()), (42, 40, 0));
        let rows = rows.replace("own 3\n", "own 1\n").replace("own 5\n", "own 7\n");
        let set = open_in(&folder("list.csv", &format!("path,labels\n{rows}"), &names), "list.csv").unwrap();
        let trained: BTreeSet<usize> = (0..set.train.len()).flat_map(|index| set.train.labels(index)).collect();
        assert!(trained.into_iter().eq(0..set.classes.len()));
    }

    #[test]
    fn the_fingerprint_sees_all_labels() {
        let print = |list: &str| {
            let set = open("list.csv", list).unwrap();
            DataSet::fingerprint(set.train.as_ref())
        };
        let one = print("path,label,split\na/1.jpg,a,train\na/2.jpg,b,train\n4,a,val\n");
        let several = print("path,labels,split\na/1.jpg,a,train\na/2.jpg,b,train\n4,a,val\n");
        let more = print("path,labels,split\na/1.jpg,a|b,train\na/2.jpg,b,train\n4,a,val\n");
        assert!(one != several && several != more);
        // One label an image: what a folder with these names would have.
        let folder = folder("unused", "", &["train/a/1.jpg", "train/a/2.jpg", "train/b/3.jpg"]);
        let list = "path,label\ntrain/a/1.jpg,a\ntrain/a/2.jpg,a\ntrain/b/3.jpg,b\n";
        fs::write(folder.path().join("list.csv"), list).unwrap();
        let train = |path: PathBuf| {
            let options = OpenOptions { path: Some(path), val_fraction: 0.0, ..OpenOptions::default() };
            DataSet::fingerprint(DataSet::open(&options).unwrap().train.as_ref())
        };
        assert_eq!(train(folder.path().join("train")), train(folder.path().join("list.csv")));
    }

    #[test]
    fn lines_that_repeat_an_image_are_left_out_and_counted() {
        let list = "path,label\na/1.jpg,a\na/2.jpg,b\n./a/1.jpg,a\na//2.jpg,b\n";
        let set = open("list.csv", list).unwrap();
        assert_eq!(set.train.len() + set.val.len(), 2);
        assert!(set.warnings[0].ends_with("list.csv`: 2 lines that repeat an image"), "{:?}", set.warnings);
    }

    #[test]
    fn each_mistake_in_a_line_has_a_sentence_of_its_own() {
        let csv = |list: &str| error("list.csv", list).replace("`DIR/list.csv`, ", "");
        assert_eq!(
            csv("\nimg,label\n"),
            "line 2: there is no path of the image, called `path` or `file` or `filename` or `image` or `file_name` or `filepath` or \
             `file_path` or `image_path` or `img_path`, among `img`, `label`"
        );
        assert_eq!(csv("path;label\n"), "`DIR/list.csv` holds no images");
        assert_eq!(
            csv("path,split\n"),
            "line 1: there is no label, called `label` or `class` or `labels`, among `path`, `split`"
        );
        assert_eq!(csv("path,label,labels\n"), "line 1: there are both `label` and `labels`: keep one of them");
        assert_eq!(
            csv("path,label\n4,a,b\n"),
            "line 2: there are 3 cells here, but 2 in the header: put a cell that holds a separator in double quotes"
        );
        assert_eq!(
            csv("path,label\n\"4,a\n"),
            "line 2: a quoted cell begins here and never ends: close it with `\"`; a quote inside of a cell is written twice"
        );
        assert_eq!(csv("path,label\n,a\n"), "line 2: the path is empty");
        for list in ["path,label\na/1.jpg,b\n4, \n", "path,labels\na/1.jpg,b\n4,a||b\n"] {
            assert_eq!(
                csv(list),
                "line 3: a label is empty: name the class, or call the column `labels` if an image may have none"
            );
        }
        for split in ["", "extra"] {
            assert_eq!(
                csv(&format!("path,label,split\n4,a,{split}\n")),
                format!(
                    "line 2: the split is `{split}`, but it must be `train`, `val` or `test`, or a usual synonym of one of these"
                )
            );
        }
        assert_eq!(
            csv("path,label\n4,a\na/1.jpg,b\n./4,b\n"),
            "line 4: `./4` is in line 2 already, with another label: keep one of the lines; several labels of an image are written \
             in one cell as `cat|dog`, in JSON as an array"
        );
        assert_eq!(
            csv("path,label,split\n4,a,train\n4,a,test\n"),
            "line 3: `4` is in line 2 already, in another split: keep one of the lines, or nothing is measured with it"
        );
        assert_eq!(
            csv("path,label,split\n4,a,train\na/1.jpg,b,train\na/2.jpg,c,val\n"),
            "line 4: the class `c` is in the split `val`, but no image to train on has it"
        );
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("list.csv"), b"path,label\n4,\xe4\n").unwrap();
        assert_eq!(
            open_in(&dir, "list.csv").unwrap_err(),
            "`DIR/list.csv`, line 2: this is not UTF-8 text: save the list in that encoding"
        );
    }

    #[test]
    fn each_mistake_in_json_is_named_with_its_line() {
        let json = |list: &str| error("list.json", list).replace("`DIR/list.json`, ", "");
        let entry = r#"{"path": "4", "label": "a"}"#;
        assert_eq!(
            json("[\n\n4]"),
            "line 3: an entry must be an object such as `{\"path\": \"images/1.jpg\", \"label\": \"cat\"}`"
        );
        assert_eq!(json(&format!("[\n{entry}\n")), "line 3: this is not good JSON: the list is not closed with `]`");
        assert_eq!(json(&format!("[{entry}]\nx")), "line 2: this is not good JSON: there is text after the list");
        assert_eq!(
            json(&format!("[{entry}\n{entry}]")),
            "line 2: this is not good JSON: after an entry, `,` or the closing `]` is missing"
        );
        assert_eq!(json("\n{\"path\":\n 4,}"), "line 3: this is not good JSON: trailing comma");
        assert_eq!(
            json(&format!("[{entry},\n{{\"path\": \"4\", \"tag\": \"a\", \"label\": null}}]")),
            "line 2: there is no label, called `label` or `class` or `labels`, among `path`, `tag`"
        );
        assert_eq!(json(r#"{"path": 4, "label": "a"}"#), "line 1: `path` is 4, but it must be a string");
        assert_eq!(
            json(r#"{"path": "4", "labels": ["a", 1.5]}"#),
            "line 1: `labels` is 1.5, but it must be a string or a whole number, or an array of these"
        );
        assert_eq!(json(r#"{"path": "4", "label": "a", "split": 1}"#), "line 1: `split` is 1, but it must be a string");
    }

    #[test]
    fn each_mistake_of_the_whole_has_a_sentence_of_its_own() {
        assert_eq!(error("list.csv", ""), "`DIR/list.csv` holds no images");
        assert_eq!(error("list.csv", "path,label\n"), "`DIR/list.csv` holds no images");
        assert_eq!(error("list.json", "[ ]"), "`DIR/list.json` holds no images");
        assert_eq!(
            error("list.csv", "path,label\n4,a\na/1.jpg,a\n"),
            "`DIR/list.csv` has only the class `a` to train on, but a classifier needs at least two classes: list images of another one"
        );
        assert_eq!(
            error("list.csv", "path,labels\n4,\n"),
            "`DIR/list.csv` has no class to train on, but a classifier needs at least two classes: list images of another one"
        );
        assert_eq!(
            error("list.csv", "path,label,split\n4,a,val\na/1.jpg,b,val\n"),
            "`DIR/list.csv` has no images of the split `train`: give that split to the images to learn from, or leave the column out \
             to have a part of them held back"
        );
        assert_eq!(
            error("list.csv", "path,label\n4,a\n5,b\n"),
            "`DIR/list.csv` names 1 image of 2 that is not there: line 3, `DIR/5`; paths start from the folder of the list"
        );
        assert_eq!(
            error("list.csv", "path,label\n4,a\na,b\n/no/6,b\n7,b\n8,b\n"),
            "`DIR/list.csv` names 4 images of 5 that are not there: line 3, `DIR/a`; line 4, `/no/6`; line 5, `DIR/7`; …; paths start \
             from the folder of the list"
        );
    }

    #[test]
    fn a_list_is_known_by_its_ending() {
        let dir = folder("list.txt", "path,label\n", &[]);
        let open = |kind, path: &Path| {
            let options = OpenOptions { kind, path: Some(path.to_owned()), ..OpenOptions::default() };
            DataSet::open(&options).unwrap_err().to_string().replace(&dir.path().display().to_string(), "DIR")
        };
        let refusal = |path| {
            format!(
                "`{path}` is not a list of images, whose name ends in `.csv`, `.tsv`, `.json` or `.jsonl`: set the source to `auto`"
            )
        };
        assert_eq!(open(SourceKind::List, &dir.path().join("list.txt")), refusal("DIR/list.txt"));
        assert_eq!(open(SourceKind::List, dir.path()), refusal("DIR"));
        assert_eq!(serde_json::to_value(SourceKind::List).unwrap(), SourceKind::List.to_string());
    }

    #[test]
    fn a_column_that_holds_the_parts_is_the_split_whatever_it_is_called() {
        for (name, list) in [
            ("list.csv", "path,label,Usage\na/1.jpg,a,Training\na/2.jpg,b,training\n4,a,Test\n"),
            ("list.csv", "path,SUBSET,label\na/1.jpg,train,a\na/2.jpg,train,b\n4,dev,a\n"),
            (
                "list.json",
                r#"[{"path":"a/1.jpg","label":"a","Phase":"train"},{"path":"a/2.jpg","label":"b","phase":"train"},
                    {"path":"4","label":"a","phase":"val"}]"#,
            ),
        ] {
            let set = open(name, list).unwrap();
            assert_eq!((set.train.len(), set.val.len(), set.has_own_split), (2, 1, true), "{list}");
            assert!(set.warnings[0].contains("has no `split`, so its `"), "{:?}", set.warnings);
        }
        for list in [
            "path,label,set\na/1.jpg,a,1\na/2.jpg,b,2\n4,a,2\n",
            "path,label,set\na/1.jpg,a,train\na/2.jpg,b,train\n4,a,train\n",
            "path,label,set,split\na/1.jpg,a,train,train\na/2.jpg,b,test,train\n4,a,val,train\n",
        ] {
            let set = open("list.csv", list).unwrap();
            assert_eq!((set.train.len() + set.val.len(), set.has_own_split), (3, false), "{list}");
        }
        assert_eq!(
            error("list.csv", "path,label,Usage\na/1.jpg,a,Training\na/2.jpg,b,PublicTest\n4,a,PrivateTest\n"),
            "`DIR/list.csv`, line 3: there is no split, but `Usage` seems to be one, as it holds `Training` and `PublicTest`: call it \
             `split` and write `train`, `val` or `test`, or give it a name such as `note` if it says something else"
        );
    }

    #[test]
    fn patterns_leave_out_entries_however_their_paths_are_written() {
        let dir = folder("list.csv", "path,label\n./a/1.jpg,a\na\\2.jpg,b\n4,a\nb/ü 3.png,b\n", &IMAGES);
        let open = |patterns: &[&str]| {
            let leave_out = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            let path = Some(dir.path().join("list.csv"));
            let options = OpenOptions { path, leave_out, val_fraction: 0.0, ..OpenOptions::default() };
            DataSet::open(&options).map(|set| set.train.len()).map_err(|error| error.to_string())
        };
        assert_eq!((open(&[]), open(&["/a"]), open(&["/a/1.jpg"]), open(&["2.jpg"])), (Ok(4), Ok(2), Ok(3), Ok(3)));
        let error = open(&["*"]).unwrap_err();
        assert!(error.ends_with("remove the patterns that are too wide"), "{error}");
    }

    #[test]
    fn a_file_is_found_whichever_form_of_unicode_its_name_has() {
        let (composed, decomposed) = ("caf\u{e9}/\u{fc}.png", "cafe\u{301}/u\u{308}.png");
        let mixed = "caf\u{e9}/u\u{308}.png";
        for file in [composed, decomposed, mixed] {
            for listed in [composed, decomposed, mixed] {
                let dir = folder("list.csv", &format!("path,label\n{listed},a\n4,b\n"), &[file, "4"]);
                let set = open_in(&dir, "list.csv").unwrap_or_else(|error| panic!("{file:?} {listed:?}: {error}"));
                assert!((0..2).all(|index| set.images().read(index).is_ok()), "{file:?} {listed:?}");
            }
        }
    }

    #[test]
    fn labels_that_differ_in_case_are_told() {
        let set = open("list.csv", "path,label\na/1.jpg,Cat\na/2.jpg,cat\n4,dog\n").unwrap();
        assert!(set.warnings.iter().any(|warning| warning.contains("`Cat` and `cat` differ in case")));
    }
}
