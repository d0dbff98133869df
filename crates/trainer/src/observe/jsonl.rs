//! The log of a run, `metrics.jsonl`: one JSON object a line, one line an event.
//!
//! A line is the [`Event`] and `seconds`, the time that the run has taken so far, which goes on where it was when the
//! run is resumed. Each line reaches the system before the next step starts, so the file can be followed while the run
//! goes on. A checkpoint keeps the length of the file; on resume what came after is cut off, because those steps will
//! be taken, and told, again.

use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use fs_err::{File, OpenOptions};
use serde::{Deserialize, Serialize};

use super::Observer;
use crate::event::Event;

/// Writes `metrics.jsonl`.
#[derive(Debug)]
pub struct JsonlObserver {
    file: File,
    position: u64,
    opened: Instant,
    seconds_before: f64,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// Seconds of the run so far, those before a resume included; never decreasing.
    pub seconds: f64,
}

impl JsonlObserver {
    /// Opens or creates the file and keeps its first `keep_bytes` bytes, or all of them.
    ///
    /// `seconds_before` is the time that the run had taken before. A file that is shorter than what is to be kept, because
    /// somebody removed it, say, is kept as it is: a log is no reason not to go on.
    pub fn open(path: &Path, keep_bytes: Option<u64>, seconds_before: f64) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let length = file.metadata()?.len();
        let position = keep_bytes.map_or(length, |kept| kept.min(length));
        file.set_len(position)?;
        file.seek(SeekFrom::Start(position))?;
        Ok(Self { file, position, opened: Instant::now(), seconds_before })
    }

    /// Makes all lines so far last: what a checkpoint refers to must be there after a power cut.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The length of the file in bytes: what a checkpoint keeps.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Seconds of the run so far: what a checkpoint keeps beside the position.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.opened.elapsed().as_secs_f64()
    }
}

impl Observer for JsonlObserver {
    fn observe(&mut self, event: &Event) -> io::Result<()> {
        let line = Line { event: event.clone(), seconds: self.seconds() };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        // One write call a line: a reader never sees half of one, and nothing waits in a buffer.
        self.file.write_all(&text)?;
        self.position += text.len() as u64;
        Ok(())
    }
}

/// Reads a log. A last line without its end, as a crash can leave it, is left out.
pub fn read_lines(path: &Path) -> io::Result<Vec<Line>> {
    let mut reader = io::BufReader::new(File::open(path)?);
    let mut lines = Vec::new();
    let mut text = String::new();
    while reader.read_line(&mut text)? > 0 && text.ends_with('\n') {
        let line = serde_json::from_str(&text).map_err(|error| {
            let message = format!("`{}`, line {}: {error}", path.display(), lines.len() + 1);
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?;
        lines.push(line);
        text.clear();
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::FinishReason;

    fn step(step: u64) -> Event {
        Event::Step {
            step,
            epoch: step as f64 / 10.0,
            loss: 1.0 / step as f64,
            learning_rate: 0.1,
            images_per_second: 100.0,
            gradient_norm: Some(2.0),
            loss_scale: None,
            skipped_steps: None,
        }
    }

    #[test]
    fn each_event_is_a_line_that_is_there_at_once() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("metrics.jsonl");
        let mut log = JsonlObserver::open(&path, None, 0.0)?;
        for event in [step(1), step(2), Event::Finish { step: 2, epoch: 0.2, reason: FinishReason::Completed }] {
            log.observe(&event)?;
            assert_eq!(read_lines(&path)?.last().map(|line| line.event.clone()), Some(event));
            assert_eq!(fs_err::metadata(&path)?.len(), log.position());
        }
        let text = fs_err::read_to_string(&path)?;
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap_or_default())?;
        assert_eq!(first["event"], "step");
        assert_eq!(first["step"], 1);
        assert!(first["seconds"].as_f64() >= Some(0.0));
        Ok(())
    }

    #[test]
    fn a_resumed_log_loses_what_was_overtaken_and_its_clock_goes_on() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("metrics.jsonl");
        let mut log = JsonlObserver::open(&path, None, 0.0)?;
        log.observe(&step(1))?;
        let kept = log.position();
        log.observe(&step(2))?;
        drop(log);
        let mut log = JsonlObserver::open(&path, Some(kept), 1000.0)?;
        assert_eq!(log.position(), kept);
        log.observe(&step(3))?;
        let lines = read_lines(&path)?;
        assert_eq!(lines.iter().map(|line| line.event.step()).collect::<Vec<_>>(), [1, 3]);
        assert!(lines[1].seconds >= 1000.0);
        Ok(())
    }

    #[test]
    fn a_log_shorter_than_its_checkpoint_says_is_kept_as_it_is() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("metrics.jsonl");
        fs_err::write(&path, "{}\n")?;
        assert_eq!(JsonlObserver::open(&path, Some(100), 0.0)?.position(), 3);
        assert_eq!(fs_err::read_to_string(&path)?, "{}\n");
        Ok(())
    }

    #[test]
    fn half_a_line_at_the_end_is_left_out() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("metrics.jsonl");
        JsonlObserver::open(&path, None, 0.0)?.observe(&step(1))?;
        let text = fs_err::read_to_string(&path)?;
        fs_err::write(&path, format!("{text}{}", &text[..20]))?;
        assert_eq!(read_lines(&path)?.len(), 1);
        Ok(())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("linux has a full device");
        let mut log = JsonlObserver { file: full, position: 0, opened: Instant::now(), seconds_before: 0.0 };
        let error = log.observe(&step(1)).expect_err("nothing fits on it");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
