//! Files of PyTorch and Paddle built by hand, for tests that need them wrong.

/// A pickle, instruction by instruction.
#[derive(Default, Clone)]
pub(crate) struct Pickle(pub(crate) Vec<u8>);

impl Pickle {
    pub(crate) fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).expect("a short text");
        self.raw(b"X").raw(&length.to_le_bytes()).raw(text.as_bytes())
    }

    pub(crate) fn int(self, value: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&value.to_le_bytes())
    }

    pub(crate) fn tuple(mut self, values: &[i64]) -> Self {
        self = self.raw(b"(");
        for value in values {
            self = self.int(*value);
        }
        self.raw(b"t")
    }

    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// Storage `0` of float32.
    pub(crate) fn storage(self, elements: i64) -> Self {
        let this = self.raw(b"(").text("storage").global("torch", "FloatStorage").text("0").text("cpu").int(elements);
        this.raw(b"tQ")
    }

    /// A tensor on that storage.
    pub(crate) fn tensor(self, elements: i64, offset: i64, shape: &[i64], stride: &[i64]) -> Self {
        let this = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"(").storage(elements).int(offset);
        let this = this.tuple(shape).tuple(stride).raw(b"\x89").global("collections", "OrderedDict").raw(b")R");
        this.raw(b"tR")
    }

    /// An array of float32 as NumPy pickles it; `data` makes its bytes.
    pub(crate) fn array(self, shape: &[i64], data: &[u8]) -> Self {
        let this =
            self.global("numpy.core.multiarray", "_reconstruct").raw(b"(").global("numpy", "ndarray").tuple(&[0]);
        let this = this.raw(b"C\x01btR(K\x01").tuple(shape).global("numpy", "dtype").raw(b"(").text("f4");
        let this = this.raw(b"\x89\x88tR(K\x03").text("<").raw(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb");
        this.raw(b"\x89").raw(data).raw(b"tb")
    }

    pub(crate) fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// `{"a.weight": tensor}`.
pub(crate) fn one_tensor(elements: i64, offset: i64, shape: &[i64], stride: &[i64]) -> Vec<u8> {
    Pickle::new().raw(b"}").text("a.weight").tensor(elements, offset, shape, stride).raw(b"s").stop()
}

/// An entry of a zip file; what is `None` is as it should be.
#[derive(Default, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) size: Option<u32>,
    pub(crate) packed: Option<u32>,
    pub(crate) header: Option<u32>,
    pub(crate) checksum: u32,
}

impl Entry {
    pub(crate) fn new(name: &str, data: &[u8]) -> Self {
        Self { name: name.to_string(), data: data.to_vec(), ..Self::default() }
    }
}

/// A zip file without checksums.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    let word = |value: usize| u32::try_from(value).expect("a small file").to_le_bytes();
    let short = |value: usize| u16::try_from(value).expect("few").to_le_bytes();
    for entry in entries {
        let header = entry.header.map_or(word(file.len()), u32::to_le_bytes);
        let packed = entry.packed.map_or(word(entry.data.len()), u32::to_le_bytes);
        let size = entry.size.map_or(word(entry.data.len()), u32::to_le_bytes);
        let middle = [
            &entry.flags.to_le_bytes()[..],
            &entry.method.to_le_bytes(),
            &[0; 4],
            &entry.checksum.to_le_bytes(),
            &packed,
            &size,
            &short(entry.name.len()),
            &[0; 2],
        ]
        .concat();
        file.extend([&b"PK\x03\x04\x14\0"[..], &middle, entry.name.as_bytes(), &entry.data].concat());
        let entry = [&b"PK\x01\x02\x14\0\x14\0"[..], &middle, &[0; 10], &header, entry.name.as_bytes()].concat();
        directory.extend(entry);
    }
    let count = short(entries.len());
    let end = [&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &word(directory.len()), &word(file.len()), &[0; 2]].concat();
    file.extend(directory);
    file.extend(end);
    file
}

/// A file of PyTorch with that pickle and that storage `0`.
pub(crate) fn torch_zip(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    zip(&[Entry::new("a/data.pkl", pickle), Entry::new("a/byteorder", b"little"), Entry::new("a/data/0", storage)])
}

/// The same in the format before 1.6.
pub(crate) fn torch_legacy(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    // Without tensors there are no storages.
    if !pickle.windows(12).any(|window| window == b"FloatStorage") {
        return [&magic[..], b"\x80\x02M\xe9\x03.", b"\x80\x02}.", pickle, b"\x80\x02]."].concat();
    }
    let names = Pickle::new().raw(b"]").text("0").raw(b"a").stop();
    let count = (storage.len() as u64 / 4).to_le_bytes();
    [&magic[..], b"\x80\x02M\xe9\x03.", b"\x80\x02}.", pickle, &names, &count, storage].concat()
}
