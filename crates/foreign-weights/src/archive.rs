//! Zip files, as far as PyTorch writes them: entries found through the directory at the end, stored or deflated, with sizes
//! of 32 or 64 bits. Nothing is written to disk, so the names of entries are only names.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use crate::shown::shown;

/// Bytes that the compressed entries may have together once unpacked.
const MAX_UNPACKED: u64 = 512 << 20;
/// The same as a multiple of the size of the file. Weights hardly shrink.
const MAX_RATIO: u64 = 100;
/// Below this the multiple is not asked for: zeros shrink a thousandfold.
const SMALL: u64 = 16 << 20;

/// Entries of a file. A training checkpoint of the largest network here has about 6,000.
const MAX_ENTRIES: u64 = 200_000;

const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const END_64_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const DIRECTORY_ENTRY: [u8; 4] = *b"PK\x01\x02";
const LOCAL_ENTRY: [u8; 4] = *b"PK\x03\x04";

/// Why a zip file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The directory at its end is missing.
    #[error("it begins as a zip file and has no directory at its end; it is cut short\n\nhint: get the file again")]
    NoDirectory,
    /// A number in it points outside.
    #[error("the zip file is damaged: {reason}\n\nhint: get the file again")]
    Damaged {
        /// What is wrong.
        reason: &'static str,
    },
    /// Two entries share a name or bytes.
    #[error("two entries of the zip file {what}: {name}; no file of PyTorch is so")]
    Twice {
        /// What they share.
        what: &'static str,
        /// The later one, in backticks.
        name: String,
    },
    /// More entries than any honest file has.
    #[error("the zip file says that it has {entries} entries; no file of weights has more than {MAX_ENTRIES}")]
    TooMany {
        /// How many it says it has.
        entries: u64,
    },
    /// Encrypted or compressed in another way.
    #[error("entry {name} of the zip file is {how}, which is not read")]
    Method {
        /// The entry, in backticks.
        name: String,
        /// How it is stored.
        how: String,
    },
    /// It would unpack to far more than it is.
    #[error("the zip file would unpack to {unpacked} bytes out of {packed}; no file of weights shrinks so much")]
    Bomb {
        /// Bytes unpacked.
        unpacked: u64,
        /// Bytes of the file.
        packed: u64,
    },
    /// The checksum of an entry does not fit.
    #[error("entry {name} of the zip file is damaged: its checksum does not fit\n\nhint: get the file again")]
    Checksum {
        /// The entry, in backticks.
        name: String,
    },
}

struct Entry {
    name: String,
    compressed: bool,
    checksum: u32,
    /// Bytes once unpacked.
    size: usize,
    /// Where its header begins.
    header: usize,
    /// Where its bytes begin and end.
    start: usize,
    end: usize,
}

/// A zip file in memory.
pub(crate) struct Archive<'a> {
    bytes: &'a [u8],
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

impl<'a> Archive<'a> {
    /// Reads the directory and checks that its entries lie inside of the file, apart from each other.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        let Directory { start, end, num_entries } = directory(bytes)?;
        if num_entries > MAX_ENTRIES {
            return Err(ArchiveError::TooMany { entries: num_entries });
        }
        let mut fields = Fields { bytes: &bytes[..end], at: start };
        let mut archive = Self { bytes, entries: Vec::new(), by_name: HashMap::new() };
        for _ in 0..num_entries {
            let entry = entry(bytes, start, &mut fields)?;
            if archive.by_name.insert(entry.name.clone(), archive.entries.len()).is_some() {
                return Err(ArchiveError::Twice { what: "have the same name", name: shown(&entry.name) });
            }
            archive.entries.push(entry);
        }
        if fields.at != end {
            return Err(damaged("its directory has another size than it says"));
        }
        archive.check_overlap()?;
        archive.check_size()?;
        Ok(archive)
    }

    fn check_overlap(&self) -> Result<(), ArchiveError> {
        let mut by_place: Vec<_> = self.entries.iter().collect();
        by_place.sort_by_key(|entry| entry.header);
        for pair in by_place.windows(2) {
            if let [before, after] = pair
                && before.end > after.header
            {
                return Err(ArchiveError::Twice { what: "share bytes", name: shown(&after.name) });
            }
        }
        Ok(())
    }

    fn check_size(&self) -> Result<(), ArchiveError> {
        let compressed = self.entries.iter().filter(|entry| entry.compressed);
        let unpacked = compressed.fold(0u64, |sum, entry| sum.saturating_add(entry.size as u64));
        let packed = self.bytes.len() as u64;
        if unpacked > MAX_UNPACKED.min(SMALL.max(packed.saturating_mul(MAX_RATIO))) {
            return Err(ArchiveError::Bomb { unpacked, packed });
        }
        Ok(())
    }

    /// Names of the entries in the order of the directory.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// The bytes of an entry, checked against its checksum; `None` if there is no such entry.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Cow<'a, [u8]>>, ArchiveError> {
        let Some(entry) = self.by_name.get(name).map(|index| &self.entries[*index]) else { return Ok(None) };
        let packed = &self.bytes[entry.start..entry.end];
        let unpacked = if entry.compressed {
            // The size is bounded by `check_size`, but is not to be believed before the bytes are there.
            let mut unpacked = Vec::with_capacity(entry.size.min(packed.len().saturating_mul(4)));
            let wanted = entry.size as u64 + 1;
            let read = DeflateDecoder::new(packed).take(wanted).read_to_end(&mut unpacked);
            if read.is_err() || unpacked.len() != entry.size {
                return Err(ArchiveError::Checksum { name: shown(name) });
            }
            Cow::Owned(unpacked)
        } else {
            Cow::Borrowed(packed)
        };
        // PyTorch can be told to leave the checksums out, and then writes zero.
        if entry.checksum != 0 {
            let mut crc = Crc::new();
            crc.update(&unpacked);
            if crc.sum() != entry.checksum {
                return Err(ArchiveError::Checksum { name: shown(name) });
            }
        }
        Ok(Some(unpacked))
    }
}

struct Directory {
    start: usize,
    end: usize,
    num_entries: u64,
}

/// Little-endian fields, one after the other.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ArchiveError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| damaged("it ends in the middle of an entry"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn short(&mut self) -> Result<u16, ArchiveError> {
        self.array().map(u16::from_le_bytes)
    }

    fn word(&mut self) -> Result<u32, ArchiveError> {
        self.array().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Result<u64, ArchiveError> {
        self.array().map(u64::from_le_bytes)
    }
}

fn damaged(reason: &'static str) -> ArchiveError {
    ArchiveError::Damaged { reason }
}

/// Finds the directory from the record at the end of the file.
fn directory(bytes: &[u8]) -> Result<Directory, ArchiveError> {
    const RECORD: usize = 22;
    let last = bytes.len().checked_sub(RECORD).ok_or(ArchiveError::NoDirectory)?;
    // A comment of up to 65,535 bytes may follow the record, and has to fill the file.
    let record = (last.saturating_sub(usize::from(u16::MAX))..=last).rev().find(|&at| {
        bytes[at..at + 4] == END
            && at + RECORD + usize::from(u16::from_le_bytes([bytes[at + 20], bytes[at + 21]])) == bytes.len()
    });
    let record = record.ok_or(ArchiveError::NoDirectory)?;
    let mut fields = Fields { bytes, at: record + 4 };
    let disks = [fields.short()?, fields.short()?];
    let (here, mut num_entries) = (fields.short()?, u64::from(fields.short()?));
    let (mut size, mut start) = (u64::from(fields.word()?), u64::from(fields.word()?));
    let mut before = record;
    let wide = num_entries == u64::from(u16::MAX) || size == u64::from(u32::MAX) || start == u64::from(u32::MAX);
    if !wide && (disks != [0, 0] || u64::from(here) != num_entries) && disks != [0xffff, 0xffff] {
        return Err(damaged("it is one part of several"));
    }
    if wide {
        let locator = record.checked_sub(20).ok_or_else(|| damaged("its directory has no place"))?;
        let mut fields = Fields { bytes, at: locator };
        if fields.array()? != END_64_LOCATOR {
            return Err(damaged("its directory has no place"));
        }
        fields.word()?;
        before = usize::try_from(fields.long()?).map_err(|_| damaged("its directory is outside"))?;
        if before > locator {
            return Err(damaged("its directory is outside"));
        }
        let mut fields = Fields { bytes, at: before };
        if fields.array()? != END_64 {
            return Err(damaged("its directory has no place"));
        }
        // Size of the record, versions, disks, entries on this disk.
        fields.take(8 + 2 + 2 + 4 + 4 + 8)?;
        (num_entries, size, start) = (fields.long()?, fields.long()?, fields.long()?);
    }
    let end = start.checked_add(size).filter(|end| *end <= before as u64);
    let end = end.ok_or_else(|| damaged("its directory is outside"))?;
    Ok(Directory { start: start as usize, end: end as usize, num_entries })
}

/// The next entry of the directory, which begins at `directory`.
fn entry(bytes: &[u8], directory: usize, fields: &mut Fields<'_>) -> Result<Entry, ArchiveError> {
    if fields.array()? != DIRECTORY_ENTRY {
        return Err(damaged("its directory has fewer entries than it says"));
    }
    fields.take(4)?;
    let (flags, method) = (fields.short()?, fields.short()?);
    fields.take(4)?;
    let checksum = fields.word()?;
    let (mut packed, mut size) = (u64::from(fields.word()?), u64::from(fields.word()?));
    let lengths = [fields.short()?, fields.short()?, fields.short()?].map(usize::from);
    fields.take(8)?;
    let mut header = u64::from(fields.word()?);
    let name = String::from_utf8_lossy(fields.take(lengths[0])?).into_owned();
    let extra = fields.take(lengths[1])?;
    fields.take(lengths[2])?;
    widen(extra, [&mut size, &mut packed, &mut header])?;

    let how = match (flags & 1, method) {
        (0, 0 | 8) => None,
        (0, other) => Some(format!("compressed with method {other}")),
        _ => Some("encrypted".to_string()),
    };
    if let Some(how) = how {
        return Err(ArchiveError::Method { name: shown(&name), how });
    }
    let outside = || damaged("an entry is outside");
    let header = usize::try_from(header).map_err(|_| outside())?;
    let mut local = Fields { bytes: bytes.get(..directory).ok_or_else(outside)?, at: header };
    if local.array()? != LOCAL_ENTRY {
        return Err(damaged("an entry does not begin where its directory says"));
    }
    local.take(22)?;
    let (name_length, extra_length) = (local.short()?, local.short()?);
    local.take(usize::from(name_length) + usize::from(extra_length))?;
    let start = local.at;
    let packed = usize::try_from(packed).map_err(|_| outside())?;
    local.take(packed)?;
    let size = usize::try_from(size).map_err(|_| outside())?;
    if method == 0 && size != packed {
        return Err(damaged("an entry that is not compressed has two sizes"));
    }
    Ok(Entry { name, compressed: method == 8, checksum, size, header, start, end: start + packed })
}

/// Numbers that do not fit 32 bits stand in an extra field, in this order.
fn widen(extra: &[u8], numbers: [&mut u64; 3]) -> Result<(), ArchiveError> {
    let mut extra = Fields { bytes: extra, at: 0 };
    while extra.at + 4 <= extra.bytes.len() {
        let (id, length) = (extra.short()?, extra.short()?);
        let bytes = extra.take(usize::from(length))?;
        if id == 1 {
            let mut fields = Fields { bytes, at: 0 };
            for number in numbers {
                if *number == u64::from(u32::MAX) {
                    *number = fields.long()?;
                }
            }
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of one entry `n` whose sizes and places stand in the fields of 64 bits.
    fn wide(data: &[u8], end: u64) -> Vec<u8> {
        let length = data.len() as u64;
        let middle = [&[0; 4][..], &[0; 4], &[0; 4], &[0xff; 8], &1u16.to_le_bytes()].concat();
        let local = [&LOCAL_ENTRY[..], &[45, 0], &middle, &[0, 0], b"n", data].concat();
        let extra =
            [&[9u8, 9, 1, 0, 7, 1, 0, 24, 0][..], &length.to_le_bytes(), &length.to_le_bytes(), &[0; 8]].concat();
        let rest = [&(extra.len() as u16).to_le_bytes()[..], &[0; 2], &[0; 8], &[0xff; 4]].concat();
        let directory = [&DIRECTORY_ENTRY[..], &[45, 0, 45, 0], &middle, &rest, b"n", &extra].concat();
        let start = local.len() as u64;
        let record = [&END_64[..], &44u64.to_le_bytes(), &[0; 12], &1u64.to_le_bytes(), &1u64.to_le_bytes()].concat();
        let places = [(directory.len() as u64).to_le_bytes(), start.to_le_bytes()].concat();
        let locator =
            [&END_64_LOCATOR[..], &[0; 4], &(start + directory.len() as u64 + end).to_le_bytes(), &[1, 0, 0, 0]];
        let last = [&END[..], &[0; 4], &[0xff; 12], &[0; 2]].concat();
        [local, directory, record, places, locator.concat(), last].concat()
    }

    #[test]
    fn sizes_of_64_bits_are_read() {
        let file = wide(b"hello", 0);
        let archive = Archive::open(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(archive.names().collect::<Vec<_>>(), ["n"]);
        assert_eq!(archive.read("n").expect("it is whole").as_deref(), Some(&b"hello"[..]));
        assert!(archive.read("m").expect("it is not there").is_none());
    }

    #[test]
    fn places_of_64_bits_stay_inside() {
        for end in [1, 1 << 20, u64::MAX - 500] {
            assert!(matches!(Archive::open(&wide(b"hello", end)), Err(ArchiveError::Damaged { .. })), "{end}");
        }
        let file = wide(b"hello", 0);
        for at in 0..file.len() {
            let mut changed = file.clone();
            for replacement in [0, 0x7f, 0xff] {
                changed[at] = replacement;
                if let Ok(archive) = Archive::open(&changed) {
                    let names: Vec<_> = archive.names().map(str::to_string).collect();
                    assert!(names.iter().all(|name| !matches!(archive.read(name), Ok(None))));
                }
            }
        }
    }

    #[test]
    fn a_comment_at_the_end_is_stepped_over() {
        let mut file = wide(b"hello", 0);
        let length = file.len();
        file[length - 2] = 3;
        file.extend(b"abc");
        assert!(Archive::open(&file).is_ok());
        file.push(b'd');
        assert!(matches!(Archive::open(&file), Err(ArchiveError::NoDirectory)));
    }
}
