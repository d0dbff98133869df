//! Files for tests: JPEG of any kind, made of given coefficients, because no program at hand writes all that ITU T.81 allows;
//! PNG with given chunks.

use super::jpeg_coefficients::standard_huffman_table;
use crate::random::{below, stream};

/// What a file is made of.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) width: u16,
    pub(super) height: u16,
    /// Horizontal and vertical sampling factors of each component.
    pub(super) factors: Vec<(u8, u8)>,
    /// Identifiers of the components.
    pub(super) ids: Vec<u8>,
    pub(super) is_progressive: bool,
    pub(super) scans: Vec<MadeScan>,
    /// Units between two restart markers; 0 for none.
    pub(super) restart_interval: u16,
    pub(super) tables: MadeTables,
    /// Segments before the frame header.
    pub(super) front: Vec<u8>,
    /// Segments between the frame header and the tables.
    pub(super) after_frame: Vec<u8>,
    /// Segments after the last scan.
    pub(super) after_scans: Vec<u8>,
    /// Whether quantization tables come only before the first scan of a component, and others before later ones.
    pub(super) redefines_quantization: bool,
    /// Of each component, blocks as in an interleaved scan, each in zigzag order. Outside of the picture they are 0.
    pub(super) coefficients: Vec<Vec<i16>>,
}

/// Which Huffman tables are used and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MadeTables {
    /// One table of each class that has every symbol.
    Own,
    /// Those of annex K.
    Standard,
    /// The same, but the file does not hold them.
    LeftOut,
}

/// A scan: its components and its parameters.
#[derive(Clone, Debug)]
pub(super) struct MadeScan {
    pub(super) components: Vec<usize>,
    pub(super) start: u8,
    pub(super) end: u8,
    pub(super) high_bit: u8,
    pub(super) low_bit: u8,
}

impl MadeScan {
    /// A sequential scan.
    pub(super) fn of(components: &[usize]) -> Self {
        Self { components: components.to_vec(), start: 0, end: 63, high_bit: 0, low_bit: 0 }
    }

    fn part(components: &[usize], (start, end): (u8, u8), (high_bit, low_bit): (u8, u8)) -> Self {
        Self { components: components.to_vec(), start, end, high_bit, low_bit }
    }

    /// A progression as libjpeg makes it: DC interleaved, AC in two bands, bits of both refined in two steps.
    pub(super) fn progression(num_components: usize) -> Vec<Self> {
        let all: Vec<usize> = (0..num_components).collect();
        let mut scans = vec![Self::part(&all, (0, 0), (0, 1))];
        let each = |band, bits| all.iter().map(move |&one| Self::part(&[one], band, bits));
        scans.extend(each((1, 5), (0, 2)));
        scans.extend(each((6, 63), (0, 2)));
        scans.extend(each((1, 63), (2, 1)));
        scans.push(Self::part(&all, (0, 0), (1, 0)));
        scans.extend(each((1, 63), (1, 0)));
        scans
    }
}

/// Blocks of a component.
struct Grid {
    /// Blocks in a row that belong to the picture.
    wide: usize,
    /// Rows of them.
    high: usize,
    stride: usize,
    rows: usize,
}

impl Made {
    /// A sequential file of one scan with random coefficients, all small: levels stay within 0 to 255.
    pub(super) fn new((width, height): (u16, u16), factors: &[(u8, u8)], seed: u64) -> Self {
        let all: Vec<usize> = (0..factors.len()).collect();
        let mut made = Self {
            width,
            height,
            factors: factors.to_vec(),
            ids: (1..=factors.len() as u8).collect(),
            is_progressive: false,
            scans: vec![MadeScan::of(&all)],
            restart_interval: 0,
            tables: MadeTables::Own,
            front: Vec::new(),
            after_frame: Vec::new(),
            after_scans: Vec::new(),
            redefines_quantization: false,
            coefficients: Vec::new(),
        };
        let mut rng = stream("made jpeg", &[seed]);
        let mut within = |end: u64| below(&mut rng, 2 * end + 1) as i16 - end as i16;
        for component in 0..factors.len() {
            let grid = made.grid(component);
            let mut values = vec![0; grid.stride * grid.rows * 64];
            for row in 0..grid.high {
                for column in 0..grid.wide {
                    let block = &mut values[(row * grid.stride + column) * 64..][..64];
                    block[0] = within(60);
                    // Many blocks without AC coefficients, and long runs of zeros, so that runs of both occur.
                    if within(1) == 0 {
                        continue;
                    }
                    for value in &mut block[1..] {
                        *value = if within(6) == 0 { within(5) } else { 0 };
                    }
                    if within(2) == 0 {
                        block[3..60].fill(0);
                        block[60] = 1;
                    }
                }
            }
            made.coefficients.push(values);
        }
        made
    }

    fn grid(&self, component: usize) -> Grid {
        let most = |factor: fn(&(u8, u8)) -> u8| usize::from(self.factors.iter().map(factor).max().unwrap());
        let (most_horizontal, most_vertical) = (most(|factors| factors.0), most(|factors| factors.1));
        let (horizontal, vertical) = self.factors[component];
        let (horizontal, vertical) = (usize::from(horizontal), usize::from(vertical));
        let (width, height) = (usize::from(self.width), usize::from(self.height));
        Grid {
            wide: (width * horizontal).div_ceil(most_horizontal).div_ceil(8),
            high: (height * vertical).div_ceil(most_vertical).div_ceil(8),
            stride: width.div_ceil(8 * most_horizontal) * horizontal,
            rows: height.div_ceil(8 * most_vertical) * vertical,
        }
    }

    /// The file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = vec![0xff, 0xd8];
        bytes.extend(&self.front);
        if !self.redefines_quantization {
            bytes.extend(self.quantization_tables(|_| true));
        }
        let mut frame = vec![8u8];
        frame.extend(self.height.to_be_bytes());
        frame.extend(self.width.to_be_bytes());
        frame.push(self.factors.len() as u8);
        for (component, (id, (horizontal, vertical))) in self.ids.iter().zip(&self.factors).enumerate() {
            frame.extend([*id, horizontal << 4 | vertical, self.table_of(component)]);
        }
        bytes.extend(segment(if self.is_progressive { 0xc2 } else { 0xc0 }, &frame));
        bytes.extend(&self.after_frame);
        if self.tables != MadeTables::LeftOut {
            for (class, number) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let (counts, symbols) = self.huffman_table(class, number);
                bytes.extend(segment(0xc4, &[&[class << 4 | number], counts.as_slice(), &symbols].concat()));
            }
        }
        if self.restart_interval > 0 {
            bytes.extend(segment(0xdd, &self.restart_interval.to_be_bytes()));
        }
        let mut is_begun = vec![false; self.factors.len()];
        for scan in &self.scans {
            if self.redefines_quantization {
                let begin = scan.components.iter().filter(|&&one| !std::mem::replace(&mut is_begun[one], true));
                let needed: Vec<u8> = begin.map(|&component| self.table_of(component)).collect();
                bytes.extend(self.quantization_tables(|number| needed.contains(&number)));
            }
            let mut header = vec![scan.components.len() as u8];
            for &component in &scan.components {
                let table = self.table_of(component);
                header.extend([self.ids[component], table << 4 | table]);
            }
            header.extend([scan.start, scan.end, scan.high_bit << 4 | scan.low_bit]);
            bytes.extend(segment(0xda, &header));
            bytes.extend(Encoder::new(self, scan).encode());
        }
        bytes.extend(&self.after_scans);
        bytes.extend([0xff, 0xd9]);
        bytes
    }

    /// Number of the tables of a component.
    pub(super) fn table_of(&self, component: usize) -> u8 {
        u8::from(component > 0)
    }

    /// Both tables as segments; with wrong steps where `is_right` says no to its number.
    fn quantization_tables(&self, is_right: impl Fn(u8) -> bool) -> Vec<u8> {
        let table = |number: u8| {
            let steps = quantization_steps(number);
            let steps = if is_right(number) { steps } else { steps.map(|step| 200 - step) };
            segment(0xdb, &[&[number], steps.as_slice()].concat())
        };
        [table(0), table(1)].concat()
    }

    fn huffman_table(&self, class: u8, number: u8) -> ([u8; 16], Vec<u8>) {
        if self.tables != MadeTables::Own {
            let (counts, symbols) = standard_huffman_table(class, number).unwrap();
            return (*counts, symbols.to_vec());
        }
        let mut counts = [0; 16];
        if class == 0 {
            counts[4] = 16;
            return (counts, (0..16).collect());
        }
        (counts[7], counts[8]) = (200, 56);
        (counts, (0..=255).collect())
    }
}

/// The step sizes of a table in zigzag order, uneven so that another table or another order shows.
pub(super) fn quantization_steps(number: u8) -> [u8; 64] {
    std::array::from_fn(|at| match (number, at) {
        (0, 0) => 8,
        (0, _) => 4 + (at * 7 % 9) as u8,
        (_, 0) => 9,
        _ => 3 + (at * 5 % 11) as u8,
    })
}

/// A segment with its marker and length.
pub(super) fn segment(code: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16 + 2).to_be_bytes();
    [&[0xff, code], length.as_slice(), payload].concat()
}

/// Adobe's segment.
pub(super) fn adobe(transform: u8) -> Vec<u8> {
    segment(0xee, &[b"Adobe\0\x64\0\0\0\0".as_slice(), &[transform]].concat())
}

/// The segment of JFIF.
pub(super) fn jfif() -> Vec<u8> {
    segment(0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0")
}

/// A chunk of a PNG file with its length and checksum.
pub(super) fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    [(data.len() as u32).to_be_bytes().as_slice(), kind, data, &crc.sum().to_be_bytes()].concat()
}

/// A PNG file of 16 x 8 pixels with chunks before the pixels and after them.
pub(super) fn with_chunks(front: &[u8], after: &[u8]) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(16, 8, |x, y| image::Rgb([x as u8 * 9, y as u8 * 20, 50]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let bytes = bytes.into_inner();
    let (header, rest) = bytes.split_at(8 + 4 + 4 + 13 + 4);
    let (pixels, end) = rest.split_at(rest.len() - 12);
    [header, front, pixels, after, end].concat()
}

/// The code of each symbol: bits and their number (C.2).
fn codes((counts, symbols): ([u8; 16], Vec<u8>)) -> Vec<(u32, u32)> {
    let mut codes = vec![(0, 0); 256];
    let mut symbols = symbols.into_iter();
    let mut code = 0;
    for (length, count) in (1..).zip(counts) {
        for symbol in symbols.by_ref().take(usize::from(count)) {
            codes[usize::from(symbol)] = (code, length);
            code += 1;
        }
        code <<= 1;
    }
    codes
}

/// Writes the data of a scan.
struct Encoder<'a> {
    made: &'a Made,
    scan: &'a MadeScan,
    /// By class and number of the table.
    codes: [[Vec<(u32, u32)>; 2]; 2],
    bytes: Vec<u8>,
    /// The bits of the byte that is not full yet.
    bits: u32,
    num_bits: u32,
    predictions: [i32; 4],
    /// Blocks that have ended and are not written yet, and the correction bits in them (G.1.2.2, G.1.2.3).
    ended: u32,
    corrections: Vec<u32>,
}

impl<'a> Encoder<'a> {
    fn new(made: &'a Made, scan: &'a MadeScan) -> Self {
        let codes = [0, 1].map(|class| [0, 1].map(|number| codes(made.huffman_table(class, number))));
        let (bytes, corrections) = (Vec::new(), Vec::new());
        Self { made, scan, codes, bytes, bits: 0, num_bits: 0, predictions: [0; 4], ended: 0, corrections }
    }

    fn encode(mut self) -> Vec<u8> {
        for (number, unit) in self.units().into_iter().enumerate() {
            let interval = usize::from(self.made.restart_interval);
            if interval > 0 && number > 0 && number.is_multiple_of(interval) {
                self.end_segment();
                self.bytes.extend([0xff, 0xd0 + ((number / interval - 1) % 8) as u8]);
                self.predictions = [0; 4];
            }
            for (component, block) in unit {
                let block: Vec<i32> = self.made.coefficients[component][block * 64..][..64]
                    .iter()
                    .map(|&value| i32::from(value))
                    .collect();
                self.block(component, &block);
            }
        }
        self.end_segment();
        self.bytes
    }

    /// The blocks of each unit: component and number.
    fn units(&self) -> Vec<Vec<(usize, usize)>> {
        if let [component] = *self.scan.components.as_slice() {
            let grid = self.made.grid(component);
            let places = (0..grid.high).flat_map(|row| (0..grid.wide).map(move |column| (row, column)));
            return places.map(|(row, column)| vec![(component, row * grid.stride + column)]).collect();
        }
        let (horizontal, vertical) = self.made.factors[self.scan.components[0]];
        let grid = self.made.grid(self.scan.components[0]);
        let (units_wide, units_high) = (grid.stride / usize::from(horizontal), grid.rows / usize::from(vertical));
        let mut units = Vec::new();
        for unit_row in 0..units_high {
            for unit_column in 0..units_wide {
                let mut unit = Vec::new();
                for &component in &self.scan.components {
                    let (horizontal, vertical) = self.made.factors[component];
                    let (horizontal, vertical) = (usize::from(horizontal), usize::from(vertical));
                    let stride = self.made.grid(component).stride;
                    for row in 0..vertical {
                        for column in 0..horizontal {
                            let place = (unit_row * vertical + row) * stride + unit_column * horizontal + column;
                            unit.push((component, place));
                        }
                    }
                }
                units.push(unit);
            }
        }
        units
    }

    fn block(&mut self, component: usize, block: &[i32]) {
        let scan = self.scan;
        let table = usize::from(self.made.table_of(component));
        let band = usize::from(scan.start.max(1))..=usize::from(scan.end);
        if scan.start == 0 {
            // The point transform of a DC coefficient is a shift of its two's complement (A.4).
            let value = block[0] >> scan.low_bit;
            if scan.high_bit > 0 {
                self.put(value as u32 & 1, 1);
            } else {
                let difference = value - std::mem::replace(&mut self.predictions[component], value);
                let size = bit_length(difference);
                self.symbol(0, table, size as u8);
                self.value(difference, size);
            }
        }
        if band.is_empty() {
            return;
        }
        // That of an AC coefficient is a division that rounds towards 0.
        let values = band.map(|at| block[at].signum() * (block[at].abs() >> scan.low_bit)).collect::<Vec<_>>();
        if scan.high_bit == 0 {
            self.first_band(table, &values);
        } else {
            self.refined_band(table, &values);
        }
    }

    /// F.1.2.2, and G.1.2.2 with runs of blocks that end.
    fn first_band(&mut self, table: usize, values: &[i32]) {
        let mut zeros = 0;
        for &value in values {
            if value == 0 {
                zeros += 1;
                continue;
            }
            self.write_ended(table);
            while zeros > 15 {
                self.symbol(1, table, 0xf0);
                zeros -= 16;
            }
            let size = bit_length(value);
            self.symbol(1, table, (zeros << 4 | size) as u8);
            self.value(value, size);
            zeros = 0;
        }
        if zeros > 0 {
            self.ended += 1;
            if !self.made.is_progressive {
                self.write_ended(table);
            }
        }
    }

    /// G.1.2.3.
    fn refined_band(&mut self, table: usize, values: &[i32]) {
        let last_new = values.iter().rposition(|value| value.abs() == 1);
        let mut zeros = 0;
        let mut corrections = Vec::new();
        for (at, &value) in values.iter().enumerate() {
            if value == 0 {
                zeros += 1;
                continue;
            }
            // After the last new coefficient, zeros belong to the end of the band.
            while zeros > 15 && last_new.is_some_and(|last| at <= last) {
                self.write_ended(table);
                self.symbol(1, table, 0xf0);
                corrections.drain(..).for_each(|bit| self.put(bit, 1));
                zeros -= 16;
            }
            if value.abs() > 1 {
                corrections.push(value.unsigned_abs() & 1);
                continue;
            }
            self.write_ended(table);
            self.symbol(1, table, (zeros << 4 | 1) as u8);
            self.put(u32::from(value > 0), 1);
            corrections.drain(..).for_each(|bit| self.put(bit, 1));
            zeros = 0;
        }
        if zeros > 0 || !corrections.is_empty() {
            self.ended += 1;
            self.corrections.extend(corrections);
        }
    }

    /// Writes how many blocks have ended, and their correction bits.
    fn write_ended(&mut self, table: usize) {
        if self.ended > 0 {
            let exponent = self.ended.ilog2();
            self.symbol(1, table, (exponent << 4) as u8);
            self.put(self.ended - (1 << exponent), exponent);
            self.ended = 0;
            for bit in std::mem::take(&mut self.corrections) {
                self.put(bit, 1);
            }
        }
    }

    fn symbol(&mut self, class: usize, table: usize, symbol: u8) {
        let (code, length) = self.codes[class][table][usize::from(symbol)];
        assert!(length > 0, "class {class} has no code for {symbol:#04x}");
        self.put(code, length);
    }

    fn value(&mut self, value: i32, size: u32) {
        let value = if value < 0 { value - 1 } else { value };
        self.put(value as u32 & ((1 << size) - 1), size);
    }

    fn put(&mut self, bits: u32, count: u32) {
        for at in (0..count).rev() {
            self.bits = self.bits << 1 | (bits >> at & 1);
            self.num_bits += 1;
            if self.num_bits == 8 {
                self.bytes.push(self.bits as u8);
                if self.bits == 0xff {
                    self.bytes.push(0);
                }
                (self.bits, self.num_bits) = (0, 0);
            }
        }
    }

    fn end_segment(&mut self) {
        let table = usize::from(self.made.table_of(self.scan.components[0]));
        self.write_ended(table);
        while self.num_bits > 0 {
            self.put(1, 1);
        }
    }
}

fn bit_length(value: i32) -> u32 {
    32 - value.unsigned_abs().leading_zeros()
}
