//! The names of classes in a file, in the order of their numbers: what programs call `classes.txt`, `labels.txt` or `label_map.json`.
//!
//! The form is recognised by the content, whatever the file is called:
//! * one name per line. Blank lines at the end do not count; any other blank line is an error, because it would shift all later names;
//! * a number and a name per line, with space or a colon between them, such as `0 cat` of Teachable Machine and Keras, or `0: cat`, if
//!   the numbers are those of all classes. Otherwise numbers are part of the names;
//! * a JSON array of names;
//! * a JSON object of numbers and names, `{"0": "cat"}`, or of names and numbers, `{"cat": 0}`, or one that has either, or an array,
//!   under one of the keys that programs use, such as `id2label` of Hugging Face and `class_to_idx` of torchvision; if it has both
//!   `id2label` and `label2id`, they must agree;
//! * a table, separated by commas, semicolons or tabs, whose header names a column of numbers and one of names, such as `id,name`. In
//!   a file that ends in `.csv` or `.tsv`, a header of one column is known too. Rows of number and name need none, nor do rows of name
//!   and number if the numbers are those of all classes.
//!
//! YAML is refused. Numbers start at 0 and leave none out. Text may be UTF-8 or UTF-16, with a byte order mark or without.
//!
//! Each class has a unique name. Two names are the same if their normal forms are (NFC, Unicode standard annex 15): macOS
//! writes `é` as two characters where other systems write one, and nobody sees the difference. Names that differ in case are two.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::delimited::{QuoteFault, Record, Records};
use crate::name::normal;
use crate::source::counted;
use crate::text;

/// Names of classes in the order of their numbers: at least one, none of them blank, no two the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassList {
    names: Vec<String>,
}

/// Why a file is not a list of class names.
#[derive(Debug, thiserror::Error)]
#[error("`{path}`{place}: {fault}")]
pub struct ClassListError {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub place: Place,
    /// What is wrong there.
    pub fault: ClassListFault,
}

/// A place in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    File,
    /// A line, counted from 1.
    Line(usize),
    /// A class of a JSON file, by its number.
    Class(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line) => write!(formatter, ", line {line}"),
            Self::Class(class) => write!(formatter, ", class {class}"),
        }
    }
}

/// What is wrong with a list.
#[derive(Debug, thiserror::Error)]
pub enum ClassListFault {
    /// Another encoding, or no text at all.
    #[error("this is neither UTF-8 nor UTF-16 text: save the list in UTF-8")]
    NotText,
    /// Nothing in it.
    #[error("it names no classes: write one name per line")]
    Empty,
    /// A class without a name.
    #[error("the name is blank, but every class needs a name: write it, or remove the line if no class belongs to it")]
    Blank,
    /// Two classes with one name.
    #[error("`{name}` is already the name of another class, see{first}: give each class a unique name", first = First(*first))]
    Twice {
        /// The name.
        name: String,
        /// Where it came first.
        first: Place,
    },
    /// Two names that only a program can tell apart.
    #[error(
        "`{name}` looks like the name of another class, see{first}, and differs from it only in its Unicode form: give each class a \
         unique name",
        first = First(*first)
    )]
    Alike {
        /// The name.
        name: String,
        /// Where its twin is.
        first: Place,
    },
    /// It begins with `[` or `{`.
    #[error("it begins like JSON but is not valid JSON: {reason}")]
    Json {
        /// The parser's words.
        reason: String,
    },
    /// JSON of another form.
    #[error(
        "it is a JSON object that names no classes: write an array of names, or an object such as `{{\"0\": \"cat\", \"1\": \"dog\"}}`"
    )]
    Object,
    /// Two objects for the same names that contradict each other.
    #[error(
        "`id2label` and `label2id` disagree about the number of `{name}`: correct one of them, or write the names into a list of their own"
    )]
    Disagree {
        /// The name.
        name: String,
    },
    /// A value of JSON that is not a string.
    #[error("the name is {value}, which is not a string")]
    NotAName {
        /// The value, or its kind.
        value: String,
    },
    /// A key of YAML, with a block or a list after it.
    #[error(
        "`{key}:` begins a list of names in YAML, which is not read: write one name per line, or an array of names in JSON"
    )]
    Yaml {
        /// Its key.
        key: &'static str,
    },
    /// A quoted cell is not closed, or not at its end.
    #[error(transparent)]
    Quote(#[from] QuoteFault),
    /// A table without a header that is known.
    #[error("this header does not name a column of numbers and a column of names: use `id,name`")]
    Header,
    /// A row without the cells that are needed.
    #[error(
        "this row has {}, but the header has {}: put a name that contains a separator in double quotes",
        counted(*found, "cell"),
        counted(*expected, "cell")
    )]
    Cells {
        /// Cells of the row.
        found: usize,
        /// Cells of the header.
        expected: usize,
    },
    /// A cell that should be a number.
    #[error("`{cell}` is not a class number: these are 0, 1, 2 and so on")]
    NotANumber {
        /// The cell.
        cell: String,
    },
    /// The number of two classes.
    #[error("the number {number} is already that of another class")]
    NumberTwice {
        /// The number.
        number: usize,
    },
    /// A number that leaves others out.
    #[error(
        "the number is {number}, but {count} classes have the numbers 0 to {}: they start at 0 and leave none out",
        .count.saturating_sub(1)
    )]
    NumberBeyond {
        /// The number.
        number: usize,
        /// How many classes there are.
        count: usize,
    },
}

/// A place after the word "see".
struct First(Place);

impl fmt::Display for First {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::File => Ok(()),
            Place::Line(line) => write!(formatter, " line {line}"),
            Place::Class(class) => write!(formatter, " class {class}"),
        }
    }
}

/// A name and where it stands.
type Named = (Place, String);
/// A name, where it stands, and its number.
type Numbered = (Place, usize, String);
type Fault = (Place, ClassListFault);

/// Names of a column of numbers, lower case. A header such as `label,name` calls the number a label, one such as `id,label` the name, so
/// words that may mean either come last. pandas leaves the header of its index empty.
const NUMBER_COLUMNS: [&str; 10] =
    ["id", "index", "idx", "class_id", "class_index", "class_idx", "label_id", "", "label", "class"];
/// Names of a column of names, lower case.
const NAME_COLUMNS: [&str; 8] =
    ["name", "class_name", "label_name", "classname", "class", "label", "class name", "label name"];
/// Keys of JSON objects under which programs keep the names: transformers, torchvision and Keras, ultralytics, timm, MMPretrain.
const JSON_KEYS: [&str; 10] = [
    "id2label",
    "label2id",
    "class_to_idx",
    "class_indices",
    "names",
    "label_names",
    "class_names",
    "labels",
    "classes",
    "CLASSES",
];
/// Those whose objects have the numbers by the names.
const BY_NAME_KEYS: [&str; 2] = ["label2id", "class_to_idx"];
const SEPARATORS: [char; 3] = [',', ';', '\t'];
/// Characters of a value that a message shows.
const MAX_SHOWN: usize = 40;

impl ClassList {
    /// Reads the content of a file. Its ending, if `path` has one, decides only where the content leaves a choice.
    ///
    /// # Errors
    ///
    /// [`ClassListError`], with the line, if it names no classes, or not each once.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ClassListError> {
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        let names = named(bytes, ending == "csv" || ending == "tsv").and_then(distinct);
        let error = |(place, fault)| ClassListError { path: path.to_owned(), place, fault };
        names.map(|names| Self { names }).map_err(error)
    }

    /// The names alone.
    pub fn into_names(self) -> Vec<String> {
        self.names
    }

    /// Whether the names are those that transformers writes where nobody has named the classes: `LABEL_0`, `LABEL_1` and so on.
    pub fn is_placeholder(&self) -> bool {
        self.names.iter().enumerate().all(|(number, name)| is_placeholder(number, name))
    }
}

/// Whether a name says no more than the number of its class, as transformers writes it (`configuration_utils.py`).
fn is_placeholder(number: usize, name: &str) -> bool {
    name.strip_prefix("LABEL_") == Some(number.to_string().as_str())
}

/// The names of a file whatever its form is, in their order; `is_table` if its ending says that it has columns.
fn named(bytes: &[u8], is_table: bool) -> Result<Vec<Named>, Fault> {
    let text = text::decode(bytes).map_err(|line| (Place::Line(line), ClassListFault::NotText))?;
    match text.trim_start().chars().next() {
        None => Err((Place::File, ClassListFault::Empty)),
        Some('[' | '{') => json(&text),
        Some(_) => {
            yaml(&text).map_or(Ok(()), Err)?;
            match table(&text, is_table)? {
                Some(names) => Ok(names),
                None => lines(&text),
            }
        }
    }
}

/// Refuses blank names and those of two classes.
fn distinct(names: Vec<Named>) -> Result<Vec<String>, Fault> {
    if names.is_empty() {
        return Err((Place::File, ClassListFault::Empty));
    }
    check(&names)?;
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

fn check(names: &[Named]) -> Result<(), Fault> {
    let mut firsts: HashMap<String, (Place, &str)> = HashMap::new();
    for (place, name) in names {
        if name.trim().is_empty() {
            return Err((*place, ClassListFault::Blank));
        }
        if let Some((first, twin)) = firsts.insert(normal(name), (*place, name.as_str())) {
            let is_same = twin == name;
            let name = shortened(name);
            let fault =
                if is_same { ClassListFault::Twice { name, first } } else { ClassListFault::Alike { name, first } };
            return Err((*place, fault));
        }
    }
    Ok(())
}

fn lines(text: &str) -> Result<Vec<Named>, Fault> {
    let lines = text.trim_end().split('\n').enumerate();
    lines
        .map(|(index, line)| match line.trim() {
            "" => Err((Place::Line(index + 1), ClassListFault::Blank)),
            name => Ok((Place::Line(index + 1), name.to_owned())),
        })
        .collect()
}

/// The beginning of a text, without control characters.
fn shortened(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(MAX_SHOWN) {
        match character {
            '\'' | '"' | '\\' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
    }
    if text.chars().nth(MAX_SHOWN).is_some() { shown + "…" } else { shown }
}

/// A JSON value whose objects keep all entries in their order. [`Value`] has only the last one of two entries with the same key.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Json {
    Object(Entries),
    Array(Vec<Self>),
    Other(Value),
}

#[derive(Debug, Clone)]
struct Entries(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Object(Entries(entries)) => {
                Self::Object(entries.into_iter().map(|(key, value)| (key, value.into())).collect::<Map<_, _>>())
            }
            Json::Array(values) => Self::Array(values.into_iter().map(Self::from).collect()),
            Json::Other(value) => value,
        }
    }
}

impl Json {
    fn is_null(&self) -> bool {
        matches!(self, Self::Other(Value::Null))
    }

    /// A number as JSON has it.
    fn number(&self) -> Option<usize> {
        match self {
            Self::Other(value) => usize::try_from(value.as_u64()?).ok(),
            _ => None,
        }
    }

    /// The same, or a number in a string, as scripts for transformers write it: `label2id[label] = str(i)`.
    fn number_or_text(&self) -> Option<usize> {
        match self {
            Self::Other(Value::String(text)) => text.parse().ok(),
            other => other.number(),
        }
    }

    /// The name of a class.
    fn name(&self, class: usize) -> Result<String, Fault> {
        match self {
            Self::Other(Value::String(name)) => Ok(name.clone()),
            other => {
                let value = shortened(&Value::from(other.clone()).to_string());
                Err((Place::Class(class), ClassListFault::NotAName { value }))
            }
        }
    }
}

fn json(text: &str) -> Result<Vec<Named>, Fault> {
    let value = serde_json::from_str(text)
        .map_err(|error| (Place::File, ClassListFault::Json { reason: error.to_string() }))?;
    match value {
        Json::Array(names) => array(&names),
        Json::Object(Entries(entries)) => object(&entries),
        Json::Other(_) => Err((Place::File, ClassListFault::Object)),
    }
}

fn array(names: &[Json]) -> Result<Vec<Named>, Fault> {
    names.iter().enumerate().map(|(class, name)| Ok((Place::Class(class), name.name(class)?))).collect()
}

/// A JSON object of numbers and names, of names and numbers, or with a key under which either is.
fn object(entries: &[(String, Json)]) -> Result<Vec<Named>, Fault> {
    let by_number = entries.iter().map(|(number, name)| Some((number.parse::<usize>().ok()?, name)));
    if let Some(names) = by_number.collect::<Option<Vec<_>>>().filter(|names| !names.is_empty()) {
        let named = |(number, name): (usize, &Json)| Ok((Place::Class(number), number, name.name(number)?));
        return in_order(names.into_iter().map(named).collect::<Result<_, Fault>>()?);
    }
    match by_name(entries, Json::number) {
        Some(numbered) => in_order(numbered),
        None => under_key(entries),
    }
}

/// The names and numbers of an object, if there is nothing else in it.
fn by_name(entries: &[(String, Json)], number: impl Fn(&Json) -> Option<usize>) -> Option<Vec<Numbered>> {
    let numbered = entries.iter().map(|(name, value)| {
        let number = number(value)?;
        Some((Place::Class(number), number, name.clone()))
    });
    numbered.collect::<Option<Vec<_>>>().filter(|names| !names.is_empty())
}

/// The names under the first of the known keys.
fn under_key(entries: &[(String, Json)]) -> Result<Vec<Named>, Fault> {
    let with_key = |key: &'static str| entries.iter().filter(move |(found, value)| found == key && !value.is_null());
    let found = JSON_KEYS.into_iter().flat_map(|key| with_key(key).map(move |(_, value)| (key, value)));
    match found.collect::<Vec<_>>().as_slice() {
        [(key, _), (next, _), ..] if key == next => {
            let reason = format!("the key `{key}` comes twice");
            Err((Place::File, ClassListFault::Json { reason }))
        }
        [("id2label", Json::Object(Entries(names))), ("label2id", Json::Object(Entries(numbers))), ..] => {
            of_both(names, numbers)
        }
        [(_, Json::Array(names)), ..] => array(names),
        [(key, Json::Object(Entries(inside))), ..] => {
            match by_name(inside, Json::number_or_text).filter(|_| BY_NAME_KEYS.contains(key)) {
                Some(numbered) => in_order(numbered),
                None => object(inside),
            }
        }
        _ => Err((Place::File, ClassListFault::Object)),
    }
}

/// The names of a description that has them twice, by their numbers and the numbers by them. If only one of the two was written by somebody,
/// the other still holds placeholders.
fn of_both(id2label: &[(String, Json)], label2id: &[(String, Json)]) -> Result<Vec<Named>, Fault> {
    let names = object(id2label)?;
    let Some(numbered) = by_name(label2id, Json::number_or_text) else { return Ok(names) };
    if numbered.iter().all(|(_, number, name)| is_placeholder(*number, name)) {
        return Ok(names);
    }
    if names.iter().enumerate().all(|(number, (_, name))| is_placeholder(number, name)) {
        return in_order(numbered);
    }
    // A name that two classes have is in `label2id` once, with either number.
    let other = numbered.iter().find(|(_, number, name)| names.get(*number).is_none_or(|(_, found)| found != name));
    match other {
        None => Ok(names),
        Some((place, _, name)) => Err((*place, ClassListFault::Disagree { name: shortened(name) })),
    }
}

/// The names by their numbers, each of which must come once.
fn in_order(numbered: Vec<Numbered>) -> Result<Vec<Named>, Fault> {
    let count = numbered.len();
    let mut names: Vec<Option<Named>> = vec![None; count];
    for (place, number, name) in numbered {
        match names.get_mut(number) {
            None => return Err((place, ClassListFault::NumberBeyond { number, count })),
            Some(Some(_)) => return Err((place, ClassListFault::NumberTwice { number })),
            Some(free) => *free = Some((place, name)),
        }
    }
    // As many names as places, and no place taken twice: none is left free.
    Ok(names.into_iter().flatten().collect())
}

/// Where a table has its numbers, if it has any, and its names.
struct Columns {
    number: Option<usize>,
    name: usize,
}

impl Columns {
    fn of(header: &Record) -> Option<Self> {
        let cells: Vec<String> = header.cells.iter().map(|cell| cell.to_lowercase()).collect();
        let place = |name: &str| cells.iter().position(|cell| cell == name);
        let number = NUMBER_COLUMNS.iter().find_map(|name| place(name)).filter(|_| cells.len() > 1);
        let name = NAME_COLUMNS.iter().find_map(|name| place(name).filter(|place| Some(*place) != number))?;
        Some(Self { number, name })
    }
}

/// The names of a table; `None` if the text is none. Text that is not said to be a table must have a header with a column of numbers, or
/// nothing but rows of a number and a name: names may have commas in them.
fn table(text: &str, is_table: bool) -> Result<Option<Vec<Named>>, Fault> {
    for separator in SEPARATORS {
        let Some(Ok(header)) = Records::new(text, separator).next() else { continue };
        let columns = Columns::of(&header).filter(|columns| columns.number.is_some() || is_table);
        if let Some(columns) = columns {
            return rows(text, separator, &columns, &header).map(Some);
        }
        if let Some(numbered) = numbers_and_names(text, separator) {
            return in_order(numbered).map(Some);
        }
        if let Some(numbered) = names_and_numbers(text, separator).filter(|rows| has_all_numbers(rows)) {
            return in_order(numbered).map(Some);
        }
    }
    if let Some(numbered) = numbered_lines(text).filter(|rows| has_all_numbers(rows)) {
        return in_order(numbered).map(Some);
    }
    // One column needs no header.
    let has_columns =
        SEPARATORS.iter().any(|separator| text.lines().next().is_some_and(|line| line.contains(*separator)));
    if is_table && has_columns { Err((Place::Line(1), ClassListFault::Header)) } else { Ok(None) }
}

/// The rows below a header.
fn rows(text: &str, separator: char, columns: &Columns, header: &Record) -> Result<Vec<Named>, Fault> {
    let mut numbered = Vec::new();
    let mut names = Vec::new();
    let mut next_line = header.line + 1;
    let mut records = Records::new(text, separator);
    records.next();
    for record in records {
        let Record { line, mut cells } =
            record.map_err(|(line, fault)| (Place::Line(line), ClassListFault::Quote(fault)))?;
        let place = Place::Line(line);
        let found = cells.len();
        if found != header.cells.len() {
            return Err((place, ClassListFault::Cells { found, expected: header.cells.len() }));
        }
        if columns.number.is_none() && line > next_line {
            return Err((Place::Line(next_line), ClassListFault::Blank));
        }
        // A quoted cell may span several lines.
        next_line = line + 1 + cells.iter().map(|cell| cell.matches('\n').count()).sum::<usize>();
        let name = cells[columns.name].clone();
        match columns.number {
            None => names.push((place, name)),
            Some(column) => {
                let cell = cells.swap_remove(column);
                let not_a_number = || (place, ClassListFault::NotANumber { cell: shortened(&cell) });
                numbered.push((place, cell.parse::<usize>().map_err(|_| not_a_number())?, name));
            }
        }
    }
    if columns.number.is_some() { in_order(numbered) } else { Ok(names) }
}

/// Rows of a number and a name without a header, if there is nothing else.
fn numbers_and_names(text: &str, separator: char) -> Option<Vec<Numbered>> {
    pairs(text, separator, |[number, name]| Some((number.parse().ok()?, name)))
}

/// Rows of a name and a number without a header, if there is nothing else.
fn names_and_numbers(text: &str, separator: char) -> Option<Vec<Numbered>> {
    pairs(text, separator, |[name, number]| Some((number.parse().ok()?, name)))
}

/// Rows of two cells without a header, if there is nothing else.
fn pairs(
    text: &str,
    separator: char,
    numbered: impl Fn([String; 2]) -> Option<(usize, String)>,
) -> Option<Vec<Numbered>> {
    let row = |record: Result<Record, _>| {
        let Record { line, cells } = record.ok()?;
        let (number, name) = numbered(cells.try_into().ok()?)?;
        Some((Place::Line(line), number, name))
    };
    let rows: Option<Vec<_>> = Records::new(text, separator).map(row).collect();
    // A single row may as well be a name with a separator in it.
    rows.filter(|rows| rows.len() > 1)
}

/// Lines of a number and a name with space or a colon between them, if there is nothing else.
fn numbered_lines(text: &str) -> Option<Vec<Numbered>> {
    let lines = text.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(index, line): (usize, &str)| {
        let line = line.trim();
        let (number, rest) = line.split_at(line.find(|character: char| !character.is_ascii_digit())?);
        let name = rest.trim_start();
        let name = name.strip_prefix(':').unwrap_or(name).trim_start();
        let is_apart = rest.starts_with(':') || rest.starts_with(char::is_whitespace);
        let number = number.parse().ok().filter(|_| is_apart && !name.is_empty())?;
        Some((Place::Line(index + 1), number, name.to_owned()))
    };
    let rows: Option<Vec<_>> = lines.map(row).collect();
    rows.filter(|rows| rows.len() > 1)
}

/// Whether each number from 0 up to that of the rows comes once, so that they can hardly be anything but the numbers of classes.
fn has_all_numbers(rows: &[Numbered]) -> bool {
    let mut numbers: Vec<usize> = rows.iter().map(|(_, number, _)| *number).collect();
    numbers.sort_unstable();
    numbers.into_iter().eq(0..rows.len())
}

/// A fault at the first line that begins a list of names in YAML, as data sets of ultralytics have it.
fn yaml(text: &str) -> Option<Fault> {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().enumerate().find_map(|(index, line)| {
        let (key, rest) = line.split_once(':')?;
        let key = JSON_KEYS.iter().copied().find(|known| *known == key)?;
        let rest = rest.trim();
        let next = lines.get(index + 1).copied().unwrap_or_default();
        let has_block = rest.is_empty() && !next.trim().is_empty() && next.starts_with([' ', '\t', '-']);
        (has_block || rest.starts_with(['[', '{'])).then_some((Place::Line(index + 1), ClassListFault::Yaml { key }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(file: &str, bytes: impl AsRef<[u8]>) -> Result<Vec<String>, String> {
        let list = ClassList::parse(Path::new(file), bytes.as_ref());
        list.map(ClassList::into_names).map_err(|error| error.to_string())
    }

    #[test]
    fn the_form_is_recognised_by_the_content() {
        let expected = ["cat", "big dog", "señor, übel"].map(str::to_owned);
        for (file, text) in [
            ("names.txt", "cat\nbig dog\nseñor, übel\n\n  \n"),
            ("names.txt", "\u{feff}cat\r\n big dog\t\r\nseñor, übel"),
            ("names", r#"["cat", "big dog", "señor, übel"]"#),
            ("names.txt", r#"{"1": "big dog", "0": "cat", "2": "señor, übel"}"#),
            ("names.json", r#"{"cat": 0, "señor, übel": 2, "big dog": 1}"#),
            ("config.json", r#"{"model_type": "x", "id2label": {"0": "cat", "1": "big dog", "2": "señor, übel"}}"#),
            (
                "config.json",
                r#"{"id2label": {"2": "señor, übel", "0": "cat", "1": "big dog"}, "label2id": {"cat": "0", "big dog": 1, "señor, übel": 2}}"#,
            ),
            ("config.json", r#"{"id2label": null, "label2id": {"big dog": "1", "señor, übel": "2", "cat": "0"}}"#),
            (
                "config.json",
                r#"{"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, "label2id": {"cat": 0, "big dog": 1, "señor, übel": 2}}"#,
            ),
            (
                "config.json",
                r#"{"label2id": {"LABEL_0": 0, "LABEL_1": 1}, "id2label": {"0": "cat", "1": "big dog", "2": "señor, übel"}}"#,
            ),
            ("meta.json", r#"{"CLASSES": ["cat", "big dog", "señor, übel"]}"#),
            ("names.csv", "id,name\n2,\"señor, übel\"\n0,cat\n1,big dog\n"),
            ("names.txt", "Label;Name;Count\n0;cat;7\n\n1;big dog;8\n2;señor, übel;9\n"),
            ("names.tsv", "name\tid\ncat\t0\nbig dog\t1\nseñor, übel\t2"),
            ("names.csv", ",label\n0,cat\n1,big dog\n2,\"señor, übel\"\n"),
            ("names.csv", "name\ncat\nbig dog\n\"señor, übel\"\n"),
            ("names.txt", "0\tcat\n1\tbig dog\n2\tseñor, übel\n"),
            ("labels.txt", "0 cat\n1 big dog\n2 señor, übel\n"),
            ("labels.txt", "1: big dog\r\n0:  cat\r\n\r\n2:señor, übel\r\n"),
            ("labels.txt", "2 : señor, übel\n1\tbig dog\n0 cat"),
            ("names.csv", "0: cat\n1: big dog\n2: señor, übel\n"),
            ("names.txt", "big dog,1\n\"señor, übel\",2\ncat, 0\n"),
            ("names.tsv", "cat\t0\nbig dog\t1\nseñor, übel\t2"),
            ("names.csv", "cat\nbig dog\nseñor\n".replace("señor", "señor, übel").as_str()),
        ] {
            assert_eq!(parse(file, text).as_deref(), Ok(&expected[..]), "{file}: {text}");
        }
        let utf16: Vec<u8> = "\u{feff}cat\nbig dog\nseñor, übel".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(parse("names.txt", utf16).as_deref(), Ok(&expected[..]));
    }

    #[test]
    fn numbers_in_json_are_counted_and_not_sorted_as_text() {
        let expected: Vec<String> = (0..12).map(|number| format!("name {number}")).collect();
        let mut entries: Vec<String> = (0..12).map(|number| format!(r#""{number}": "name {number}""#)).collect();
        entries.sort();
        assert!(entries[2].starts_with("\"10\""), "as text, 10 comes before 2");
        let names = entries.join(", ");
        for text in [format!("{{{names}}}"), format!(r#"{{"id2label": {{{names}}}}}"#)] {
            assert_eq!(parse("config.json", text), Ok(expected.clone()));
        }
        // Names that are numbers themselves, by the numbers of their classes.
        let labels = r#"{"label2id": {"1": "0", "2": "1", "0": "2"}}"#;
        assert_eq!(parse("config.json", labels), Ok(["1", "2", "0"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn names_that_nobody_has_given_are_known() {
        for (text, expected) in [("LABEL_0\nLABEL_1", true), ("LABEL_1\nLABEL_0", false), ("LABEL_0\ncat", false)] {
            let list = ClassList::parse(Path::new("a.txt"), text.as_bytes()).expect(text);
            assert_eq!(list.is_placeholder(), expected, "{text}");
        }
    }

    #[test]
    fn names_with_commas_and_numbers_are_names_where_nothing_else_is_said() {
        let names = "tench, Tinca tinca\ngoldfish, Carassius auratus\n1,2-dichloroethane\n3 of a kind";
        let expected: Vec<String> = names.lines().map(str::to_owned).collect();
        assert_eq!(parse("synsets.txt", names), Ok(expected));
        for names in [
            "0\n1\n2",
            "1 cat\n2 dog",
            "0 cat\n0 dog",
            "0 cat\ndog",
            "0 cat",
            "0: cat",
            "0cat\n1dog",
            "class 0\nclass 1",
            "class:0\nclass:1",
            "Boeing, 707\nBoeing, 747",
            "cat, 0",
            "names:\ncat",
            "cat:\n dog",
        ] {
            let expected: Vec<String> = names.lines().map(|name| name.trim().to_owned()).collect();
            assert_eq!(parse("names.txt", names), Ok(expected));
        }
        assert_eq!(parse("names.txt", "name\nid").map(|names| names.len()), Ok(2), "words of headers may be classes");
        assert_eq!(parse("names.txt", "Cat\ncat").map(|names| names.len()), Ok(2), "case is a difference");
    }

    #[test]
    fn a_file_that_is_not_a_list_is_refused_with_the_line() {
        for (file, text, message) in [
            ("a.txt", "", "`a.txt`: it names no classes: write one name per line"),
            ("a.txt", "\n \n", "`a.txt`: it names no classes: write one name per line"),
            ("a.json", "[]", "`a.json`: it names no classes: write one name per line"),
            ("a.txt", "cat\n\ndog", "`a.txt`, line 2: the name is blank, but every class needs a name"),
            ("a.txt", "\ncat\ndog", "`a.txt`, line 1: the name is blank"),
            ("a.csv", "name\ncat\n\ndog", "`a.csv`, line 3: the name is blank"),
            ("a.csv", "id,name\n0,cat\n1,\n", "`a.csv`, line 3: the name is blank"),
            ("a.json", r#"["cat", " "]"#, "`a.json`, class 1: the name is blank"),
            ("a.txt", "cat\ndog\ncat\n", "`a.txt`, line 3: `cat` is already the name of another class, see line 1"),
            (
                "a.txt",
                "caf\u{e9}\ncafe\u{301}",
                "`a.txt`, line 2: `cafe\\u{301}` looks like the name of another class, see line 1",
            ),
            (
                "a.json",
                r#"["cat", "cat"]"#,
                "`a.json`, class 1: `cat` is already the name of another class, see class 0",
            ),
            ("a.txt", "[\"cat\",", "`a.txt`: it begins like JSON but is not valid JSON: EOF while parsing"),
            ("a.json", r#"{"epochs": [3]}"#, "`a.json`: it is a JSON object that names no classes"),
            ("a.json", "{}", "`a.json`: it is a JSON object that names no classes"),
            ("a.json", r#"["cat", 7]"#, "`a.json`, class 1: the name is 7, which is not a string"),
            ("a.json", r#"{"0": ["n01440764", "tench"]}"#, "`a.json`, class 0: the name is [\"n01440764\",\"tench\"]"),
            (
                "a.json",
                r#"{"1": "cat", "2": "dog"}"#,
                "`a.json`, class 2: the number is 2, but 2 classes have the numbers 0 to 1",
            ),
            (
                "a.json",
                r#"{"id2label": {"0": "cat", "1": "dog", "1": "bird"}}"#,
                "`a.json`, class 1: the number 1 is already that of another class",
            ),
            (
                "a.json",
                r#"{"id2label": {"0": "cat", "1": "dog", "3": "bird"}}"#,
                "`a.json`, class 3: the number is 3, but 3 classes have the numbers 0 to 2",
            ),
            (
                "a.json",
                r#"{"id2label": {"0": "crane", "1": "crane"}, "label2id": {"crane": 1}}"#,
                "`a.json`, class 1: `crane` is already the name of another class, see class 0",
            ),
            (
                "a.json",
                r#"{"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 1, "dog": 0}}"#,
                "`a.json`, class 1: `id2label` and `label2id` disagree about the number of `cat`",
            ),
            (
                "a.json",
                r#"{"id2label": {"cat": "0", "dog": "1"}}"#,
                "`a.json`: it is a JSON object that names no classes",
            ),
            (
                "a.json",
                r#"{"id2label": {"0": "a", "1": "b"}, "id2label": {"0": "b", "1": "a"}}"#,
                "`a.json`: it begins like JSON but is not valid JSON: the key `id2label` comes twice",
            ),
            ("a.json", r#"{"cat": 0, "dog": 0}"#, "`a.json`, class 0: the number 0 is already that of another class"),
            ("a.txt", "0 cat\n1 cat\n", "`a.txt`, line 2: `cat` is already the name of another class, see line 1"),
            ("a.yaml", "names:\n  0: cat\n  1: dog\n", "`a.yaml`, line 1: `names:` begins a list of names in YAML"),
            ("a.txt", "nc: 2\nnames:\n- cat\n- dog\n", "`a.txt`, line 2: `names:` begins a list of names in YAML"),
            ("a.yml", "nc: 2\nclasses: [cat, dog]\n", "`a.yml`, line 2: `classes:` begins a list of names in YAML"),
            ("a.csv", "id,name\n0,cat\nx,dog", "`a.csv`, line 3: `x` is not a class number"),
            ("a.csv", "id,name\n0,cat,black\n", "`a.csv`, line 2: this row has 3 cells, but the header has 2 cells"),
            ("a.csv", "id,name\n0,\"cat\n", "`a.csv`, line 2: a quoted cell begins here and never ends"),
            ("a.csv", "color,weight\nred,3\n", "`a.csv`, line 1: this header does not name a column"),
        ] {
            let found = parse(file, text).expect_err(text);
            assert!(found.starts_with(message), "{text:?}: {found}");
        }
        assert_eq!(
            parse("a.txt", b"cat\nse\xf1or"),
            Err("`a.txt`, line 2: this is neither UTF-8 nor UTF-16 text: save the list in UTF-8".to_owned())
        );
    }
}
