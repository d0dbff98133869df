//! Event files that TensorBoard reads.
//!
//! A file is a sequence of TFRecords, each the length of its data, the masked checksum of the length, the data, and the
//! masked checksum of the data, all little-endian; the data is an `Event` of tensorflow/core/util/event.proto. Only the
//! fields used here are declared. The first record names the format, the second starts a session: TensorBoard then drops
//! the points that an earlier file of the directory has from that step on, which a resumed run tells again.

use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err::{File, OpenOptions};
use prost::Message;

use super::Observer;
use crate::event::Event;

/// Writes an event file into a directory of its own.
#[derive(Debug)]
pub struct TensorBoardObserver {
    file: File,
}

/// `tensorflow.Event`.
#[derive(Clone, PartialEq, Message)]
struct Record {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// `tensorflow.Summary.Value` with a number in it.
#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    // A member of a oneof: written even if it is zero.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// `tensorflow.SessionLog`.
#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl SessionLog {
    const START: i32 = 1;
}

impl TensorBoardObserver {
    /// Starts a new event file in the directory, which is made if it is missing.
    ///
    /// `step` is the number of completed steps of the checkpoint that the run goes on from, 0 in a new run: points of
    /// earlier files after that step are dropped by TensorBoard, points at it are kept.
    pub fn open(directory: &Path, step: u64) -> io::Result<Self> {
        fs_err::create_dir_all(directory)?;
        let mut observer = Self { file: create(directory)? };
        let version = Some("brain.Event:2".to_owned());
        observer.write(&Record { file_version: version, ..Record::at(0) })?;
        let from = if step == 0 { 0 } else { step + 1 };
        observer.write(&Record { session_log: Some(SessionLog { status: SessionLog::START }), ..Record::at(from) })?;
        Ok(observer)
    }

    fn scalars(&mut self, step: u64, scalars: Vec<(String, f64)>) -> io::Result<()> {
        let value = scalars.into_iter().map(|(tag, value)| Scalar { tag, simple_value: Some(value as f32) }).collect();
        self.write(&Record { summary: Some(Summary { value }), ..Record::at(step) })
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        self.file.write_all(&frame(&record.encode_to_vec()))
    }
}

impl Record {
    /// An empty record of now.
    fn at(step: u64) -> Self {
        let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Self { wall_time, step: step as i64, ..Self::default() }
    }
}

impl Observer for TensorBoardObserver {
    fn observe(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Step { step, loss, learning_rate, images_per_second, gradient_norm, loss_scale, .. } => {
                let mut scalars = vec![
                    ("train/loss".to_owned(), *loss),
                    ("train/learning_rate".to_owned(), *learning_rate),
                    ("train/images_per_second".to_owned(), *images_per_second),
                ];
                scalars.extend(gradient_norm.map(|norm| ("train/gradient_norm".to_owned(), norm)));
                scalars.extend(loss_scale.map(|scale| ("train/loss_scale".to_owned(), scale)));
                self.scalars(*step, scalars)
            }
            Event::Eval { step, split, loss, top1, top5, mean_average_precision, .. } => {
                let scalars = [("loss", *loss), ("top1", *top1), ("top5", *top5)];
                let mean = mean_average_precision.map(|mean| ("mean_average_precision", mean));
                let scalars = scalars.into_iter().chain(mean);
                let scalars = scalars.into_iter().map(|(name, value)| (format!("{split}/{name}"), value)).collect();
                self.scalars(*step, scalars)
            }
            _ => Ok(()),
        }
    }
}

/// A file with a name that no other has; TensorBoard reads the files of a directory in the order of their names.
fn create(directory: &Path) -> io::Result<File> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut number = 0;
    loop {
        // The number stands before the process: of two files of one second, the later one must sort behind.
        let name = format!("events.out.tfevents.{seconds:010}.{number:03}.ghostnet.{}", std::process::id());
        let taken = fs_err::read_dir(directory)?.filter_map(Result::ok).any(|entry| {
            let prefix = format!("events.out.tfevents.{seconds:010}.{number:03}.");
            entry.file_name().to_string_lossy().starts_with(&prefix)
        });
        if !taken {
            return OpenOptions::new().write(true).create_new(true).open(directory.join(name));
        }
        number += 1;
    }
}

/// The data as a TFRecord.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_checksum(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked_checksum(data).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted so that the checksum of data that contains checksums stays a good one
/// (tensorflow/core/lib/hash/crc32c.h).
fn masked_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a file, checksums verified.
    fn records(mut bytes: &[u8]) -> Vec<Record> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(12);
            let length = u64::from_le_bytes(head[..8].try_into().expect("eight bytes")) as usize;
            assert_eq!(head[8..], masked_checksum(&head[..8]).to_le_bytes());
            let (data, rest) = rest.split_at(length);
            let (checksum, rest) = rest.split_at(4);
            assert_eq!(checksum, masked_checksum(data).to_le_bytes());
            records.push(Record::decode(data).expect("the record decodes"));
            bytes = rest;
        }
        records
    }

    fn files(directory: &Path) -> io::Result<Vec<Vec<Record>>> {
        let mut paths =
            fs_err::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
        paths.sort();
        paths.iter().map(|path| Ok(records(&fs_err::read(path)?))).collect()
    }

    fn step(step: u64) -> Event {
        Event::Step {
            step,
            epoch: step as f64,
            loss: 2.5,
            learning_rate: 0.0,
            images_per_second: 100.0,
            gradient_norm: Some(1.5),
            loss_scale: None,
            skipped_steps: None,
        }
    }

    fn eval(step: u64) -> Event {
        Event::Eval {
            step,
            epoch: step as f64,
            split: "val".to_owned(),
            loss: 1.25,
            top1: 0.5,
            top5: 0.75,
            mean_average_precision: None,
            num_images: 8,
        }
    }

    #[test]
    fn the_masked_checksum_is_that_of_tensorflow() {
        // The length field, 24, of the first record of every event file: `brain.Event:2` with a time.
        assert_eq!(masked_checksum(&24_u64.to_le_bytes()).to_le_bytes(), [0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn steps_and_evaluations_become_scalars() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut board = TensorBoardObserver::open(folder.path(), 0)?;
        board.observe(&step(1))?;
        board.observe(&eval(1))?;
        let files = files(folder.path())?;
        let [file] = &files[..] else { panic!("expected one file, got {}", files.len()) };
        assert_eq!(file[0].file_version.as_deref(), Some("brain.Event:2"));
        let scalars: Vec<_> = file
            .iter()
            .filter_map(|record| record.summary.as_ref())
            .flat_map(|summary| &summary.value)
            .map(|scalar| (scalar.tag.as_str(), scalar.simple_value))
            .collect();
        assert_eq!(
            scalars,
            [
                ("train/loss", Some(2.5)),
                ("train/learning_rate", Some(0.0)),
                ("train/images_per_second", Some(100.0)),
                ("train/gradient_norm", Some(1.5)),
                ("val/loss", Some(1.25)),
                ("val/top1", Some(0.5)),
                ("val/top5", Some(0.75)),
            ]
        );
        Ok(())
    }

    #[test]
    fn a_resumed_run_starts_a_later_file_and_a_session() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        TensorBoardObserver::open(folder.path(), 0)?.observe(&step(7))?;
        TensorBoardObserver::open(folder.path(), 5)?.observe(&step(6))?;
        let files = files(folder.path())?;
        assert_eq!(files.len(), 2);
        let start = &files[1][1];
        assert_eq!((start.step, &start.session_log), (6, &Some(SessionLog { status: SessionLog::START })));
        assert_eq!(files[1][2].step, 6);
        Ok(())
    }
}
