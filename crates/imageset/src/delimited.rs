//! Delimited text: CSV as in RFC 4180, and the same with tabs.
//!
//! A cell in double quotes may hold separators, line breaks and, written twice, quotes. Lines end in LF, CR LF or CR. Space around
//! a cell that is not quoted does not count, and a line without content is skipped.

/// One line, or several if a quoted cell spans them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its first line, counted from 1.
    pub(crate) line: usize,
    pub(crate) cells: Vec<String>,
}

/// What is wrong with a quoted cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteFault {
    /// It never ends.
    #[error("a quoted cell begins here and never ends: close it with `\"`; a quote inside of a cell is written twice")]
    Unclosed,
    /// It ends in the middle.
    #[error("a quoted cell continues after its closing quote: write a quote inside of a cell twice")]
    Continued,
}

/// The records of a text, read one after the other.
pub(crate) struct Records<'a> {
    rest: &'a str,
    line: usize,
    separator: char,
}

impl<'a> Records<'a> {
    pub(crate) fn new(text: &'a str, separator: char) -> Self {
        Self { rest: text, line: 1, separator }
    }

    /// Skips `bytes` bytes.
    fn skip(&mut self, bytes: usize) -> &'a str {
        let (skipped, rest) = self.rest.split_at(bytes);
        // A CR LF counts with its LF.
        let is_break =
            |(place, byte): &(usize, u8)| *byte == b'\n' || *byte == b'\r' && !self.rest[place + 1..].starts_with('\n');
        self.line += skipped.bytes().enumerate().filter(is_break).count();
        self.rest = rest;
        skipped
    }

    /// Reads a cell, up to its separator or the end of the line.
    fn cell(&mut self) -> Result<String, (usize, QuoteFault)> {
        let ends = [self.separator, '\n', '\r'];
        if !self.rest.starts_with('"') {
            let end = self.rest.find(ends).unwrap_or(self.rest.len());
            return Ok(self.skip(end).trim().to_owned());
        }
        let line = self.line;
        let mut cell = String::new();
        self.skip(1);
        loop {
            let end = self.rest.find('"').ok_or((line, QuoteFault::Unclosed))?;
            cell.push_str(self.skip(end));
            self.skip(1);
            if !self.rest.starts_with('"') {
                break;
            }
            cell.push_str(self.skip(1));
        }
        if self.rest.is_empty() || self.rest.starts_with(ends) { Ok(cell) } else { Err((line, QuoteFault::Continued)) }
    }

    fn record(&mut self) -> Result<Record, (usize, QuoteFault)> {
        let mut record = Record { line: self.line, cells: vec![self.cell()?] };
        while self.rest.starts_with(self.separator) {
            self.skip(self.separator.len_utf8());
            record.cells.push(self.cell()?);
        }
        let line_break = if self.rest.starts_with("\r\n") { 2 } else { self.rest.len().min(1) };
        self.skip(line_break);
        Ok(record)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, (usize, QuoteFault)>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let record = self.record();
            let is_blank = record.as_ref().is_ok_and(|record| record.cells.iter().all(String::is_empty));
            if !is_blank {
                return Some(record);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str, separator: char) -> Vec<(usize, Vec<String>)> {
        let records = Records::new(text, separator).map(Result::unwrap);
        records.map(|record| (record.line, record.cells)).collect()
    }

    fn record(line: usize, cells: &[&str]) -> (usize, Vec<String>) {
        (line, cells.iter().map(|&cell| cell.to_owned()).collect())
    }

    #[test]
    fn quoted_cells_may_hold_anything() {
        let text = "a,\"b,\"\"c\"\"\nd\",é\n\"\", f \"g\" ,";
        assert_eq!(records(text, ','), [record(1, &["a", "b,\"c\"\nd", "é"]), record(3, &["", "f \"g\"", ""])]);
    }

    #[test]
    fn every_line_break_counts_and_blank_lines_do_not_hide_one() {
        for line_break in ["\n", "\r\n", "\r"] {
            let text = ["", "a,b", "", " , ", "\"c", "c\",d", "", "e,f", ""].join(line_break);
            let quoted = format!("c{line_break}c");
            assert_eq!(
                records(&text, ','),
                [record(2, &["a", "b"]), record(5, &[&quoted, "d"]), record(8, &["e", "f"])],
                "{line_break:?}"
            );
        }
    }

    #[test]
    fn another_separator_leaves_commas_alone() {
        assert_eq!(records("a,b\tc", '\t'), [record(1, &["a,b", "c"])]);
        assert!(records("", ',').is_empty());
    }

    #[test]
    fn a_quote_that_never_ends_is_named_with_its_line() {
        let fault = |text| Records::new(text, ',').find_map(Result::err).unwrap();
        assert_eq!(fault("a,b\nc,\"d\ne,f\n"), (2, QuoteFault::Unclosed));
        assert_eq!(fault("a,b\n\"c\" d,e\n"), (2, QuoteFault::Continued));
    }
}
