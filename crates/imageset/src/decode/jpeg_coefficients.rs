//! The quantized coefficients of a JPEG file: sequential or progressive, in any number of scans, with any sampling factors.
//!
//! This is the part of a decoder before the cosine transform. It serves the files that `zune-jpeg` gets wrong, so it is
//! written to be compared with ITU T.81, whose sections the comments name, rather than to be fast. Data that end too early or
//! leave a block are an error: half a picture would be trained on.

use super::jpeg_header::{Component, JpegHeader, Process, Scan, TableKind};

/// Coefficients of a block.
pub(super) const BLOCK: usize = 64;

/// All coefficients of one component.
pub(super) struct ComponentCoefficients {
    /// Columns of samples that belong to the picture (A.1.1).
    pub(super) width: usize,
    /// Rows of samples that belong to the picture.
    pub(super) height: usize,
    /// Blocks from one row of blocks to the next: interleaved scans code more than the picture needs.
    pub(super) stride: usize,
    /// Step sizes in zigzag order.
    pub(super) quantization: [u16; BLOCK],
    /// Quantized coefficients, block by block and row by row, each block in zigzag order.
    pub(super) values: Vec<i16>,
}

/// Why the data of a scan could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScanFault {
    #[error("it is cut short: the data of scan {scan} end too early")]
    EndsEarly { scan: usize },
    #[error("the data of scan {scan} hold a code that is not in its Huffman table")]
    UnknownCode { scan: usize },
    #[error("the data of scan {scan} have more coefficients in a block than fit")]
    TooManyCoefficients { scan: usize },
    #[error("a restart marker of scan {scan} is missing")]
    RestartMissing { scan: usize },
    #[error("the progression parameters of scan {scan} are impossible")]
    Progression { scan: usize },
    #[error("scan {scan} needs a Huffman table that is missing")]
    NoHuffmanTable { scan: usize },
    #[error("component {component} needs a quantization table that is missing")]
    NoQuantizationTable { component: usize },
    #[error("its {segment} are malformed")]
    BadTables { segment: &'static str },
}

/// Where the coefficients of blocks go.
trait Blocks {
    /// The block of a component at a place within its [`Layout`].
    fn at(&mut self, component: usize, place: usize) -> &mut [i16];
}

impl Blocks for Vec<ComponentCoefficients> {
    fn at(&mut self, component: usize, place: usize) -> &mut [i16] {
        &mut self[component].values[place * BLOCK..(place + 1) * BLOCK]
    }
}

/// One block for all: nothing is kept.
struct Unkept([i16; BLOCK]);

impl Blocks for Unkept {
    fn at(&mut self, _: usize, _: usize) -> &mut [i16] {
        &mut self.0
    }
}

/// How the blocks of a component lie in the picture (A.1.1, A.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Columns of samples that belong to the picture.
    pub(super) width: usize,
    /// Rows of samples that belong to the picture.
    pub(super) height: usize,
    /// Blocks in a row of a scan of this component alone.
    blocks_wide: usize,
    /// Rows of blocks in a scan of this component alone.
    blocks_high: usize,
    /// Blocks in a row of an interleaved scan.
    stride: usize,
    /// Rows of blocks in an interleaved scan.
    rows: usize,
}

impl Layout {
    /// The layout of each component.
    pub(super) fn of(header: &JpegHeader) -> Vec<Self> {
        let frame = &header.frame;
        let (width, height) = (usize::from(frame.width), usize::from(frame.height));
        let (units_wide, units_high) = units(header);
        let (most_horizontal, most_vertical) = most_sampled(&frame.components);
        let layouts = frame.components.iter().map(|component| {
            let (horizontal, vertical) = (usize::from(component.horizontal), usize::from(component.vertical));
            let (width, height) =
                ((width * horizontal).div_ceil(most_horizontal), (height * vertical).div_ceil(most_vertical));
            Self {
                width,
                height,
                blocks_wide: width.div_ceil(8),
                blocks_high: height.div_ceil(8),
                stride: units_wide * horizontal,
                rows: units_high * vertical,
            }
        });
        layouts.collect()
    }

    /// How many coefficients a component has, those outside of the picture included.
    pub(super) fn coefficients(&self) -> usize {
        self.stride * self.rows * BLOCK
    }
}

/// The largest sampling factors of a frame: horizontal and vertical.
pub(super) fn most_sampled(components: &[Component]) -> (usize, usize) {
    let horizontal = components.iter().map(|component| component.horizontal).max().unwrap_or(1);
    let vertical = components.iter().map(|component| component.vertical).max().unwrap_or(1);
    (usize::from(horizontal), usize::from(vertical))
}

/// Units of an interleaved scan (MCUs): how many lie side by side, and how many above each other (A.2.4).
fn units(header: &JpegHeader) -> (usize, usize) {
    let (horizontal, vertical) = most_sampled(&header.frame.components);
    (usize::from(header.frame.width).div_ceil(8 * horizontal), usize::from(header.frame.height).div_ceil(8 * vertical))
}

/// Decodes all scans.
///
/// The memory it takes is 2 bytes for each of [`Layout::coefficients`]; the time is bounded by the number of scans, which
/// the caller limits, times that of blocks.
pub(super) fn decode(bytes: &[u8], header: &JpegHeader) -> Result<Vec<ComponentCoefficients>, ScanFault> {
    let layouts = Layout::of(header);
    let components = layouts.iter().map(|layout| ComponentCoefficients {
        width: layout.width,
        height: layout.height,
        stride: layout.stride,
        quantization: [0; BLOCK],
        values: vec![0; layout.coefficients()],
    });
    let mut picture = Picture { bytes, header, blocks: components.collect::<Vec<_>>(), layouts };
    let mut tables = Tables::standard();
    let mut is_begun = vec![false; picture.blocks.len()];
    for (scan, number) in scans_to_decode(header).iter().zip(1..) {
        tables.read_before(scan, header, bytes)?;
        // A component keeps the quantization table of its first scan, whatever is defined later (libjpeg, jdinput.c).
        for selected in &scan.components {
            if !std::mem::replace(&mut is_begun[selected.index], true) {
                let table = usize::from(header.frame.components[selected.index].quantization_table);
                let steps = tables.quantization.get(table).copied().flatten();
                let steps = steps.ok_or(ScanFault::NoQuantizationTable { component: selected.index + 1 })?;
                picture.blocks[selected.index].quantization = steps;
            }
        }
        let coding = Coding::of(header.frame.process, scan).ok_or(ScanFault::Progression { scan: number })?;
        picture.decode_scan(scan, coding, &tables).map_err(|fault| fault.of_scan(number))?;
    }
    Ok(picture.blocks)
}

/// Checks that the data of some scans do not end too early, and keeps nothing of them. Other faults are not reported here.
///
/// `is_checked` chooses among [`scans_to_decode`], by place and content. A scan that refines AC coefficients needs those before it,
/// so it is never checked.
pub(super) fn check_lengths(
    bytes: &[u8],
    header: &JpegHeader,
    is_checked: impl Fn(usize, &Scan) -> bool,
) -> Result<(), ScanFault> {
    let mut picture = Picture { bytes, header, blocks: Unkept([0; BLOCK]), layouts: Layout::of(header) };
    let mut tables = Tables::standard();
    for (at, scan) in scans_to_decode(header).iter().enumerate().filter(|&(at, scan)| is_checked(at, scan)) {
        if tables.read_before(scan, header, bytes).is_err() {
            return Ok(());
        }
        match Coding::of(header.frame.process, scan) {
            None | Some(Coding::AcRefine(_)) => {}
            Some(coding) => {
                if let Err(DataFault::EndsEarly) = picture.decode_scan(scan, coding, &tables) {
                    return Err(DataFault::EndsEarly.of_scan(at + 1));
                }
            }
        }
    }
    Ok(())
}

/// A picture whose scans are being decoded.
struct Picture<'a, B> {
    bytes: &'a [u8],
    header: &'a JpegHeader,
    blocks: B,
    layouts: Vec<Layout>,
}

/// The scans that make the picture: once a sequential scan has all components, nothing after it counts (libjpeg, jdapimin.c).
pub(super) fn scans_to_decode(header: &JpegHeader) -> &[Scan] {
    let is_complete = |scan: &Scan| scan.components.len() == header.frame.components.len();
    match header.scans.split_first() {
        Some((first, _)) if header.frame.process != Process::Progressive && is_complete(first) => {
            std::slice::from_ref(first)
        }
        _ => header.scans.as_slice(),
    }
}

/// What the data of a scan hold for each block (F.1.2, G.1.2).
#[derive(Clone, Copy)]
enum Coding {
    Sequential,
    DcFirst { low_bit: u8 },
    DcRefine { low_bit: u8 },
    AcFirst(Band),
    AcRefine(Band),
}

/// The coefficients that a scan is about.
#[derive(Clone, Copy)]
struct Band {
    /// First coefficient in zigzag order, at least 1.
    start: usize,
    /// Last coefficient, at most 63.
    end: usize,
    /// The lowest bit that is known after the scan.
    low_bit: u8,
}

impl Coding {
    /// [`None`] for parameters that G.1.1.1 forbids. Sequential scans are read whatever theirs are, as libjpeg does.
    fn of(process: Process, scan: &Scan) -> Option<Self> {
        if process != Process::Progressive {
            return Some(Self::Sequential);
        }
        let (start, end) = (usize::from(scan.spectral_start), usize::from(scan.spectral_end));
        let (low_bit, is_first) = (scan.low_bit, scan.high_bit == 0);
        // jdphuff.c, start_pass_phuff_decoder.
        if low_bit > 13 || (!is_first && scan.high_bit != low_bit + 1) {
            return None;
        }
        match (start, is_first) {
            (0, _) if end != 0 => None,
            (0, true) => Some(Self::DcFirst { low_bit }),
            (0, false) => Some(Self::DcRefine { low_bit }),
            _ if end < start || end >= BLOCK || scan.components.len() != 1 => None,
            (_, true) => Some(Self::AcFirst(Band { start, end, low_bit })),
            (_, false) => Some(Self::AcRefine(Band { start, end, low_bit })),
        }
    }

    fn needs_dc_table(self) -> bool {
        matches!(self, Self::Sequential | Self::DcFirst { .. })
    }

    fn needs_ac_table(self) -> bool {
        matches!(self, Self::Sequential | Self::AcFirst(_) | Self::AcRefine(_))
    }
}

/// A [`ScanFault`] that does not know its scan yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DataFault {
    EndsEarly,
    UnknownCode,
    TooManyCoefficients,
    RestartMissing,
    NoHuffmanTable,
}

impl DataFault {
    fn of_scan(self, scan: usize) -> ScanFault {
        match self {
            Self::EndsEarly => ScanFault::EndsEarly { scan },
            Self::UnknownCode => ScanFault::UnknownCode { scan },
            Self::TooManyCoefficients => ScanFault::TooManyCoefficients { scan },
            Self::RestartMissing => ScanFault::RestartMissing { scan },
            Self::NoHuffmanTable => ScanFault::NoHuffmanTable { scan },
        }
    }
}

/// A component while a scan is decoded.
struct Channel<'a> {
    index: usize,
    dc_table: Option<&'a HuffmanTable>,
    ac_table: Option<&'a HuffmanTable>,
    /// The DC coefficient of the block before (F.1.2.1), not yet shifted.
    prediction: i32,
}

impl<B: Blocks> Picture<'_, B> {
    fn decode_scan(&mut self, scan: &Scan, coding: Coding, tables: &Tables) -> Result<(), DataFault> {
        let mut channels = Vec::with_capacity(scan.components.len());
        for selected in &scan.components {
            let dc_table = tables.dc.get(usize::from(selected.dc_table)).and_then(Option::as_ref);
            let ac_table = tables.ac.get(usize::from(selected.ac_table)).and_then(Option::as_ref);
            if (coding.needs_dc_table() && dc_table.is_none()) || (coding.needs_ac_table() && ac_table.is_none()) {
                return Err(DataFault::NoHuffmanTable);
            }
            channels.push(Channel { index: selected.index, dc_table, ac_table, prediction: 0 });
        }
        let mut reader = BitReader::new(self.bytes.get(scan.data.clone()).unwrap_or_default());
        let mut decoder = BlockDecoder { coding, end_of_band_run: 0 };
        let mut restarts = Restarts { interval: tables.restart_interval, done: 0, next: 0 };
        // A scan of one component codes its blocks row by row, and only those of the picture; several take turns (A.2.2, A.2.3).
        if let [channel] = channels.as_mut_slice() {
            let layout = self.layouts[channel.index];
            for row in 0..layout.blocks_high {
                for column in 0..layout.blocks_wide {
                    if restarts.is_due() {
                        restarts.read(&mut reader)?;
                        decoder.end_of_band_run = 0;
                        channel.prediction = 0;
                    }
                    let block = self.blocks.at(channel.index, row * layout.stride + column);
                    decoder.decode(&mut reader, channel, block)?;
                }
            }
            return Ok(());
        }
        let (units_wide, units_high) = units(self.header);
        for unit_row in 0..units_high {
            for unit_column in 0..units_wide {
                if restarts.is_due() {
                    restarts.read(&mut reader)?;
                    channels.iter_mut().for_each(|channel| channel.prediction = 0);
                }
                for channel in &mut channels {
                    let component = self.header.frame.components[channel.index];
                    let (horizontal, vertical) = (usize::from(component.horizontal), usize::from(component.vertical));
                    let stride = self.layouts[channel.index].stride;
                    for row in 0..vertical {
                        for column in 0..horizontal {
                            let place = (unit_row * vertical + row) * stride + unit_column * horizontal + column;
                            let block = self.blocks.at(channel.index, place);
                            decoder.decode(&mut reader, channel, block)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Counts units up to the next restart marker (F.2.2.4, G.2).
struct Restarts {
    /// Units between two markers; 0 for no markers.
    interval: u16,
    /// Units since the last marker.
    done: u16,
    /// Number of the next marker, modulo 8.
    next: u8,
}

impl Restarts {
    /// Counts a unit and returns whether a marker comes before it.
    fn is_due(&mut self) -> bool {
        if self.interval == 0 {
            return false;
        }
        if self.done == self.interval {
            self.done = 1;
            return true;
        }
        self.done += 1;
        false
    }

    fn read(&mut self, reader: &mut BitReader) -> Result<(), DataFault> {
        reader.skip_restart_marker(self.next)?;
        self.next = (self.next + 1) % 8;
        Ok(())
    }
}

/// Decodes single blocks.
struct BlockDecoder {
    coding: Coding,
    /// How many blocks more have no further coefficients in this band (G.1.2.2).
    end_of_band_run: u32,
}

impl BlockDecoder {
    fn decode(&mut self, reader: &mut BitReader, channel: &mut Channel, block: &mut [i16]) -> Result<(), DataFault> {
        match self.coding {
            Coding::Sequential => sequential(reader, channel, block),
            Coding::DcFirst { low_bit } => {
                let difference = difference(reader, channel)?;
                channel.prediction = channel.prediction.wrapping_add(difference);
                block[0] = saturated(i64::from(channel.prediction) << low_bit);
                Ok(())
            }
            Coding::DcRefine { low_bit } => {
                if reader.bits(1)? == 1 {
                    block[0] |= 1 << low_bit;
                }
                Ok(())
            }
            Coding::AcFirst(band) => {
                let table = channel.ac_table.ok_or(DataFault::NoHuffmanTable)?;
                self.ac_first(reader, table, band, block)
            }
            Coding::AcRefine(band) => {
                let table = channel.ac_table.ok_or(DataFault::NoHuffmanTable)?;
                self.ac_refine(reader, table, band, block)
            }
        }
    }

    /// G.1.2.2, and figure G.3 read backwards.
    fn ac_first(
        &mut self,
        reader: &mut BitReader,
        table: &HuffmanTable,
        band: Band,
        block: &mut [i16],
    ) -> Result<(), DataFault> {
        if self.end_of_band_run > 0 {
            self.end_of_band_run -= 1;
            return Ok(());
        }
        let mut at = band.start;
        while at <= band.end {
            let (run, size) = run_and_size(reader, table)?;
            match (run, size) {
                (15, 0) => at += 16,
                (_, 0) => {
                    self.end_of_band_run = end_of_band_run(reader, run)? - 1;
                    break;
                }
                _ => {
                    at += usize::from(run);
                    let value = signed(reader, size)?;
                    if at > band.end {
                        return Err(DataFault::TooManyCoefficients);
                    }
                    block[at] = saturated(i64::from(value) << band.low_bit);
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// G.1.2.3 and figure G.7.
    fn ac_refine(
        &mut self,
        reader: &mut BitReader,
        table: &HuffmanTable,
        band: Band,
        block: &mut [i16],
    ) -> Result<(), DataFault> {
        let step = 1i16 << band.low_bit;
        let mut at = band.start;
        if self.end_of_band_run == 0 {
            while at <= band.end {
                let (run, size) = run_and_size(reader, table)?;
                let mut zeros_to_skip = run;
                let mut value = 0;
                match (run, size) {
                    // Sixteen zeros: fifteen are skipped, and the sixteenth stays what it is.
                    (15, 0) => {}
                    (_, 0) => {
                        self.end_of_band_run = end_of_band_run(reader, run)?;
                        break;
                    }
                    (_, 1) => value = if reader.bits(1)? == 1 { step } else { -step },
                    // A coefficient appears with its highest bit alone.
                    _ => return Err(DataFault::UnknownCode),
                }
                while at <= band.end {
                    if block[at] != 0 {
                        refine(reader, &mut block[at], step)?;
                    } else if zeros_to_skip == 0 {
                        break;
                    } else {
                        zeros_to_skip -= 1;
                    }
                    at += 1;
                }
                if value != 0 {
                    *block.get_mut(at).filter(|_| at <= band.end).ok_or(DataFault::TooManyCoefficients)? = value;
                }
                at += 1;
            }
        }
        if self.end_of_band_run > 0 {
            while at <= band.end {
                if block[at] != 0 {
                    refine(reader, &mut block[at], step)?;
                }
                at += 1;
            }
            self.end_of_band_run -= 1;
        }
        Ok(())
    }
}

/// F.2.2.1 and F.2.2.2.
fn sequential(reader: &mut BitReader, channel: &mut Channel, block: &mut [i16]) -> Result<(), DataFault> {
    let table = channel.ac_table.ok_or(DataFault::NoHuffmanTable)?;
    block.fill(0);
    channel.prediction = channel.prediction.wrapping_add(difference(reader, channel)?);
    block[0] = saturated(i64::from(channel.prediction));
    let mut at = 1;
    while at < BLOCK {
        match run_and_size(reader, table)? {
            (15, 0) => at += 16,
            (_, 0) => break,
            (run, size) => {
                at += usize::from(run);
                let value = signed(reader, size)?;
                *block.get_mut(at).ok_or(DataFault::TooManyCoefficients)? = saturated(i64::from(value));
                at += 1;
            }
        }
    }
    Ok(())
}

/// The difference of a DC coefficient to the one before.
fn difference(reader: &mut BitReader, channel: &Channel) -> Result<i32, DataFault> {
    let size = reader.symbol(channel.dc_table.ok_or(DataFault::NoHuffmanTable)?)?;
    // `Tables::read_huffman` allows no larger one.
    signed(reader, size.min(15))
}

/// The next symbol of a band: how many zeros to skip, and how many bits the coefficient has.
fn run_and_size(reader: &mut BitReader, table: &HuffmanTable) -> Result<(u8, u8), DataFault> {
    let symbol = reader.symbol(table)?;
    Ok((symbol >> 4, symbol & 15))
}

/// How many blocks end here, this one included: table G.1.
fn end_of_band_run(reader: &mut BitReader, exponent: u8) -> Result<u32, DataFault> {
    Ok((1 << exponent) + reader.bits(exponent)?)
}

/// One more bit of a coefficient that is not zero. Its sign is known, so the bit only says whether it grows.
fn refine(reader: &mut BitReader, value: &mut i16, step: i16) -> Result<(), DataFault> {
    if reader.bits(1)? == 1 && *value & step == 0 {
        *value = if *value > 0 { value.saturating_add(step) } else { value.saturating_sub(step) };
    }
    Ok(())
}

/// A value of `size` bits with its sign (F.2.2.1, figure F.12).
fn signed(reader: &mut BitReader, size: u8) -> Result<i32, DataFault> {
    if size == 0 {
        return Ok(0);
    }
    let value = reader.bits(size)? as i32;
    Ok(if value < 1 << (size - 1) { value - (1 << size) + 1 } else { value })
}

/// Damaged files have coefficients that no encoder writes.
fn saturated(value: i64) -> i16 {
    value.clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i16
}

/// Reads the entropy-coded data of a scan bit by bit.
struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, in the lowest `available` ones.
    buffer: u64,
    available: u32,
}

impl<'a> BitReader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, buffer: 0, available: 0 }
    }

    /// Takes bytes up to the next marker. A zero after a byte 0xff is stuffed in (F.1.2.3), a second 0xff is a fill byte.
    fn fill(&mut self) {
        while self.available <= 48 {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            if byte == 0xff {
                match self.bytes.get(self.at + 1) {
                    Some(0x00) => self.at += 2,
                    Some(0xff) => {
                        self.at += 1;
                        continue;
                    }
                    _ => return,
                }
            } else {
                self.at += 1;
            }
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.available += 8;
        }
    }

    /// The next `count` bits, at most 16.
    fn bits(&mut self, count: u8) -> Result<u32, DataFault> {
        let count = u32::from(count);
        if self.available < count {
            self.fill();
        }
        self.available = self.available.checked_sub(count).ok_or(DataFault::EndsEarly)?;
        Ok((self.buffer >> self.available & ((1 << count) - 1)) as u32)
    }

    /// The next symbol (F.2.2.3).
    fn symbol(&mut self, table: &HuffmanTable) -> Result<u8, DataFault> {
        if self.available < 16 {
            self.fill();
        }
        // At the end there may be fewer bits than the longest code has.
        let window = if self.available < 16 {
            (self.buffer << (16 - self.available)) as u32 & 0xffff
        } else {
            (self.buffer >> (self.available - 16)) as u32 & 0xffff
        };
        let Some((length, symbol)) = table.find(window) else {
            return Err(if self.available < 16 { DataFault::EndsEarly } else { DataFault::UnknownCode });
        };
        self.available = self.available.checked_sub(length).ok_or(DataFault::EndsEarly)?;
        Ok(symbol)
    }

    /// Moves past the next restart marker. What is left before it is padding, or harmless garbage.
    fn skip_restart_marker(&mut self, number: u8) -> Result<(), DataFault> {
        (self.buffer, self.available) = (0, 0);
        while let Some(&byte) = self.bytes.get(self.at) {
            match self.bytes.get(self.at + 1) {
                Some(&code) if byte == 0xff && (0xd0..=0xd7).contains(&code) => {
                    self.at += 2;
                    return if code - 0xd0 == number { Ok(()) } else { Err(DataFault::RestartMissing) };
                }
                _ => self.at += 1,
            }
        }
        Err(DataFault::EndsEarly)
    }
}

/// A Huffman table for decoding.
struct HuffmanTable {
    /// By the next [`LOOKAHEAD`] bits: length and symbol of the code that they begin with; length 0 where it is longer.
    lookup: Vec<(u8, u8)>,
    /// By length: the largest code, or -1 for none (F.2.2.3).
    largest: [i32; 17],
    /// By length: what to add to a code for the place of its symbol.
    offset: [i32; 17],
    /// Symbols in the order of their codes.
    symbols: Vec<u8>,
}

/// Codes up to this length are found at once.
const LOOKAHEAD: u32 = 9;

impl HuffmanTable {
    /// Makes a table of the number of codes of each length and the symbols (C.2). [`None`] if there is no such code.
    fn new(counts: &[u8], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            lookup: vec![(0, 0); 1 << LOOKAHEAD],
            largest: [-1; 17],
            offset: [0; 17],
            symbols: symbols.to_vec(),
        };
        let mut code = 0i32;
        let mut place = 0usize;
        for (length, &count) in (1u32..=16).zip(counts) {
            let count = usize::from(count);
            table.offset[length as usize] = place as i32 - code;
            for &symbol in symbols.get(place..place + count)? {
                if length <= LOOKAHEAD {
                    let spare = LOOKAHEAD - length;
                    let first = (code as usize) << spare;
                    table.lookup.get_mut(first..first + (1 << spare))?.fill((length as u8, symbol));
                }
                code += 1;
            }
            if count > 0 {
                table.largest[length as usize] = code - 1;
            }
            place += count;
            // A code of ones alone is not allowed (C.2).
            if code >= 1 << length && count > 0 {
                return None;
            }
            code <<= 1;
        }
        (place == symbols.len()).then_some(table)
    }

    /// Length and symbol of the code at the front of 16 bits.
    fn find(&self, window: u32) -> Option<(u32, u8)> {
        let (length, symbol) = *self.lookup.get((window >> (16 - LOOKAHEAD)) as usize)?;
        if length > 0 {
            return Some((u32::from(length), symbol));
        }
        (LOOKAHEAD + 1..=16).find_map(|length| {
            let code = (window >> (16 - length)) as i32;
            if code > self.largest[length as usize] {
                return None;
            }
            let place = usize::try_from(code + self.offset[length as usize]).ok()?;
            Some((length, *self.symbols.get(place)?))
        })
    }
}

/// What segments have defined so far.
struct Tables {
    quantization: [Option<[u16; BLOCK]>; 4],
    dc: [Option<HuffmanTable>; 4],
    ac: [Option<HuffmanTable>; 4],
    restart_interval: u16,
    /// Segments that have been read.
    num_read: usize,
}

impl Tables {
    /// The tables that a file may leave out, as frames of Motion JPEG do (libjpeg-turbo, jstdhuff.c).
    fn standard() -> Self {
        let table = |class, number| {
            let (counts, symbols) = standard_huffman_table(class, number)?;
            HuffmanTable::new(counts, symbols)
        };
        Self {
            quantization: [None; 4],
            dc: [table(0, 0), table(0, 1), None, None],
            ac: [table(1, 0), table(1, 1), None, None],
            restart_interval: 0,
            num_read: 0,
        }
    }

    /// Reads the segments up to a scan, which comes after those of earlier calls.
    fn read_before(&mut self, scan: &Scan, header: &JpegHeader, bytes: &[u8]) -> Result<(), ScanFault> {
        for segment in header.tables.get(self.num_read..scan.tables_before).unwrap_or_default() {
            self.read(segment.kind, bytes.get(segment.payload.clone()).unwrap_or_default())?;
        }
        self.num_read = scan.tables_before;
        Ok(())
    }

    fn read(&mut self, kind: TableKind, content: &[u8]) -> Result<(), ScanFault> {
        match kind {
            TableKind::RestartInterval => {
                let &[high, low] = content else { return Err(ScanFault::BadTables { segment: "restart intervals" }) };
                self.restart_interval = u16::from_be_bytes([high, low]);
                Ok(())
            }
            TableKind::Quantization => {
                self.read_quantization(content).ok_or(ScanFault::BadTables { segment: "quantization tables" })
            }
            TableKind::Huffman => self.read_huffman(content).ok_or(ScanFault::BadTables { segment: "Huffman tables" }),
        }
    }

    /// B.2.4.1.
    fn read_quantization(&mut self, mut content: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = content.split_first() {
            let table = self.quantization.get_mut(usize::from(kind & 15))?;
            let mut steps = [0; BLOCK];
            let bytes_per_step = match kind >> 4 {
                0 => 1,
                1 => 2,
                _ => return None,
            };
            let values = rest.get(..BLOCK * bytes_per_step)?;
            for (step, value) in steps.iter_mut().zip(values.chunks_exact(bytes_per_step)) {
                *step = value.iter().fold(0, |high, &low| high << 8 | u16::from(low));
            }
            *table = Some(steps);
            content = rest.get(BLOCK * bytes_per_step..)?;
        }
        Some(())
    }

    /// B.2.4.2.
    fn read_huffman(&mut self, mut content: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = content.split_first() {
            let (class, number) = (kind >> 4, usize::from(kind & 15));
            let tables = match class {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return None,
            };
            let counts = rest.get(..16)?;
            let count: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let symbols = rest.get(16..16 + count)?;
            // A DC difference has at most 15 bits (jdhuff.c, jpeg_make_d_derived_tbl).
            if count > 256 || (class == 0 && symbols.iter().any(|&size| size > 15)) {
                return None;
            }
            *tables.get_mut(number)? = Some(HuffmanTable::new(counts, symbols)?);
            content = rest.get(16 + count..)?;
        }
        Some(())
    }
}

/// Which Huffman tables a payload defines, as bits: `class * 4 + number`. None of those that are malformed.
pub(super) fn huffman_tables_in(mut content: &[u8]) -> u8 {
    let mut defined = 0;
    while let Some((&kind, rest)) = content.split_first() {
        let Some(counts) = rest.get(..16) else { break };
        let count: usize = counts.iter().map(|&count| usize::from(count)).sum();
        if kind >> 4 > 1 || kind & 15 > 3 {
            break;
        }
        defined |= huffman_table_bit(kind >> 4, kind & 15);
        content = rest.get(16 + count..).unwrap_or_default();
    }
    defined
}

/// The bit of a table in [`huffman_tables_in`]: class 0 for DC and 1 for AC, number 0 to 3.
pub(super) fn huffman_table_bit(class: u8, number: u8) -> u8 {
    1 << ((class & 1) * 4 + (number & 3))
}

/// A table that decoders know (K.3.3): the number of codes of each length, and the symbols. Class 0 is DC and 1 is AC;
/// number 0 is for luma and 1 for chroma.
pub(super) fn standard_huffman_table(class: u8, number: u8) -> Option<(&'static [u8; 16], &'static [u8])> {
    Some(match (class, number) {
        // Table K.3.
        (0, 0) => (&[0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], DC_SYMBOLS),
        // Table K.4.
        (0, 1) => (&[0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], DC_SYMBOLS),
        // Table K.5.
        (1, 0) => (&[0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125], LUMA_AC_SYMBOLS),
        // Table K.6.
        (1, 1) => (&[0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119], CHROMA_AC_SYMBOLS),
        _ => return None,
    })
}

const DC_SYMBOLS: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

#[rustfmt::skip]
const LUMA_AC_SYMBOLS: &[u8] = &[
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
    0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72,
    0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37,
    0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
    0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
    0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[rustfmt::skip]
const CHROMA_AC_SYMBOLS: &[u8] = &[
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
    0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1,
    0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
    0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
    0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
    0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
    0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[cfg(test)]
mod tests {
    use super::super::made::{Made, MadeScan, quantization_steps};
    use super::*;

    /// The bits of a text of zeros and ones as the data of a scan: padded with ones (F.1.2.3), zeros stuffed in.
    fn data(bits: &str) -> Vec<u8> {
        let mut bits: Vec<u8> = bits.bytes().filter(|bit| bit.is_ascii_digit()).map(|bit| bit - b'0').collect();
        bits.resize(bits.len().div_ceil(8) * 8, 1);
        let bytes = bits.chunks(8).map(|byte| byte.iter().fold(0u8, |high, low| high << 1 | low));
        bytes.flat_map(|byte| if byte == 0xff { vec![0xff, 0] } else { vec![byte] }).collect()
    }

    #[test]
    fn coefficients_come_back_in_any_order_of_scans() {
        let samplings: [&[(u8, u8)]; 8] = [
            &[(1, 1)],
            &[(2, 3)],
            &[(2, 2), (1, 1), (1, 1)],
            &[(1, 1), (2, 2), (2, 2)],
            &[(2, 1), (1, 2), (1, 1)],
            &[(1, 1), (3, 1), (1, 4)],
            &[(2, 2), (1, 1), (1, 1), (2, 2)],
            &[(1, 2), (4, 1), (1, 1), (2, 1)],
        ];
        for (number, factors) in samplings.iter().enumerate() {
            let all: Vec<usize> = (0..factors.len()).collect();
            let (first, rest) = all.split_at(1);
            let mut scripts = vec![
                vec![MadeScan::of(&all)],
                all.iter().map(|&one| MadeScan::of(&[one])).collect(),
                all.iter().rev().map(|&one| MadeScan::of(&[one])).collect(),
            ];
            if !rest.is_empty() {
                scripts.push(vec![MadeScan::of(rest), MadeScan::of(first)]);
            }
            for size in [(1, 1), (9, 17), (40, 33)] {
                let made = Made::new(size, factors, number as u64);
                for restart_interval in [0, 1, 7] {
                    for scans in &scripts {
                        let redefines_quantization = restart_interval == 7;
                        let scans = scans.clone();
                        assert_decoded(&Made { scans, restart_interval, redefines_quantization, ..made.clone() });
                    }
                    let scans = MadeScan::progression(factors.len());
                    let redefines_quantization = restart_interval == 7;
                    let is_progressive = true;
                    let made = Made { scans, restart_interval, is_progressive, redefines_quantization, ..made.clone() };
                    assert_decoded(&made);
                }
            }
        }
    }

    fn assert_decoded(made: &Made) {
        let bytes = made.bytes();
        let header = JpegHeader::read(&bytes).unwrap();
        let decoded = decode(&bytes, &header).unwrap();
        for (number, (component, expected)) in decoded.iter().zip(&made.coefficients).enumerate() {
            assert!(component.values == *expected, "{:?} {:?} {:?}", made.factors, made.scans, made.restart_interval);
            let steps = quantization_steps(made.table_of(number)).map(u16::from);
            assert_eq!(component.quantization, steps, "{:?}", made.scans);
        }
        assert_eq!(decoded.len(), made.coefficients.len());
    }

    #[test]
    fn the_standard_tables_are_complete_codes() {
        for (class, number) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (counts, symbols) = standard_huffman_table(class, number).unwrap();
            let mut sorted = symbols.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), symbols.len(), "{class} {number}");
            assert!(HuffmanTable::new(counts, symbols).is_some(), "{class} {number}");
            // All but the code of ones alone are in use: the sum of the codes' shares is one less the last code's.
            let share: u32 = counts.iter().zip(1..).map(|(&count, length)| u32::from(count) << (16 - length)).sum();
            let longest = counts.iter().rposition(|&count| count > 0).unwrap() + 1;
            assert_eq!(share, (1 << 16) - (1 << (16 - longest)), "{class} {number}");
        }
    }

    #[test]
    fn codes_of_any_length_are_found() {
        // One code of each length from 1 to 16: 0, 10, 110, …
        let symbols: Vec<u8> = (100..116).collect();
        let table = HuffmanTable::new(&[1; 16], &symbols).unwrap();
        for length in 1..=16u32 {
            let code = (1u32 << length) - 2;
            let window = code << (16 - length);
            assert_eq!(table.find(window), Some((length, 99 + length as u8)), "{length}");
        }
        assert_eq!(table.find(0xffff), None);
        assert!(HuffmanTable::new(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[1, 2]).is_none(), "all ones");
        assert!(HuffmanTable::new(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]).is_none(), "too few");
    }

    #[test]
    fn bits_come_in_order_and_end() {
        let bytes = data("1011 0000 1111 1111 0101 0101");
        assert_eq!(bytes, [0b1011_0000, 0xff, 0, 0b0101_0101]);
        let mut reader = BitReader::new(&bytes);
        assert_eq!(reader.bits(3), Ok(0b101));
        assert_eq!(reader.bits(0), Ok(0));
        assert_eq!(reader.bits(13), Ok(0b1_0000_1111_1111));
        assert_eq!(reader.bits(8), Ok(0b0101_0101));
        assert_eq!(reader.bits(1), Err(DataFault::EndsEarly));
    }

    #[test]
    fn restart_markers_are_found_by_number() {
        let mut reader = BitReader::new(&[0xaa, 0xff, 0xff, 0xd0, 0x55, 0xff, 0xd3, 0x11]);
        assert_eq!(reader.bits(4), Ok(0xa));
        assert_eq!(reader.skip_restart_marker(0), Ok(()));
        assert_eq!(reader.bits(8), Ok(0x55));
        assert_eq!(reader.bits(1), Err(DataFault::EndsEarly));
        assert_eq!(reader.skip_restart_marker(1), Err(DataFault::RestartMissing));
        assert_eq!(reader.skip_restart_marker(2), Err(DataFault::EndsEarly), "there is none");
    }

    #[test]
    fn signs_follow_the_standard() {
        let bytes = data("0 1 00 11 0000 1111");
        let mut reader = BitReader::new(&bytes);
        let sizes = [1, 1, 2, 2, 4, 4];
        assert_eq!(sizes.map(|size| signed(&mut reader, size).unwrap()), [-1, 1, -3, 3, -15, 15]);
    }

    /// The example of a refinement that skips coefficients: correction bits belong to the skipped coefficients.
    #[test]
    fn refinement_corrects_what_it_passes_over() {
        // Symbols 0x21 (two zeros, then a new one), 0x00 (end of band) and 0xf0 (sixteen zeros), as codes 00, 01, 10.
        let table = HuffmanTable::new(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0x21, 0x00, 0xf0]).unwrap();
        let mut channel = Channel { index: 0, dc_table: None, ac_table: Some(&table), prediction: 0 };
        let mut block = [0i16; BLOCK];
        (block[2], block[5], block[9]) = (4, -4, 4);
        // A new positive one (1); correct the 4 (1); skip zeros at 1 and 3; it lands at 4. End of band; correct -4 (1), 4 (0).
        let bytes = data("00 1 1  01 1 0");
        let mut reader = BitReader::new(&bytes);
        let coding = Coding::AcRefine(Band { start: 1, end: 63, low_bit: 1 });
        let mut decoder = BlockDecoder { coding, end_of_band_run: 0 };
        decoder.decode(&mut reader, &mut channel, &mut block).unwrap();
        let mut expected = [0i16; BLOCK];
        (expected[2], expected[4], expected[5], expected[9]) = (6, 2, -6, 4);
        assert_eq!(block, expected);
        assert_eq!(decoder.end_of_band_run, 0);

        // Sixteen zeros stop at the sixteenth: the correction bit of a coefficient after them comes with the next symbol.
        let mut block = [0i16; BLOCK];
        block[17] = 4;
        let bytes = data("10  01 1");
        let mut reader = BitReader::new(&bytes);
        decoder.decode(&mut reader, &mut channel, &mut block).unwrap();
        assert_eq!(block[17], 6);
        assert!(block.iter().enumerate().all(|(at, &value)| value == 0 || at == 17));
    }
}
