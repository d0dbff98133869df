//! Whatever the bytes are, the reader answers, and what it gives is consistent. The functions that take bytes are what targets
//! of cargo-fuzz would call.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::build::{Pickle, one_tensor, torch_legacy, torch_zip};
use foreign_weights::ForeignWeights;

/// A file of any kind.
fn any_file(bytes: &[u8]) {
    for key in [None, Some("state_dict"), Some("a.b")] {
        match ForeignWeights::parse(Path::new("w.pth"), bytes, key) {
            Ok(weights) => {
                for tensor in &weights.tensors {
                    assert_eq!(tensor.shape.iter().product::<usize>(), tensor.values.len(), "{}", tensor.name);
                }
                assert!(weights.notes.iter().all(|note| note.len() < 20_000));
            }
            Err(error) => {
                let mut cause: Option<&dyn std::error::Error> = Some(&error);
                while let Some(error) = cause {
                    assert!(error.to_string().len() < 20_000);
                    cause = error.source();
                }
            }
        }
    }
}

/// The pickle of an otherwise sound zip file.
fn pickle_of_a_zip_file(bytes: &[u8]) {
    any_file(&torch_zip(bytes, &[0; 64]));
}

/// The pickle of an otherwise sound file of the old format.
fn pickle_of_an_old_file(bytes: &[u8]) {
    any_file(&torch_legacy(bytes, &[0; 64]));
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn files() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/files")
}

fn small_safetensors() -> Vec<u8> {
    use safetensors::tensor::{Dtype, TensorView};
    let bytes = [7; 24];
    let view = |shape: &[usize], dtype| TensorView::new(dtype, shape.to_vec(), &bytes).expect("a view");
    safetensors::serialize([("a", view(&[2, 3], Dtype::F32)), ("b.c", view(&[3], Dtype::I64))], None).expect("a file")
}

/// One small file of every format, without checksums where there can be some.
fn small() -> Vec<Vec<u8>> {
    let made = |name: &str| std::fs::read(files().join("made").join(name)).expect("the file");
    let pickle = Pickle::new().raw(b"}").text("state_dict").raw(&one_tensor(4, 0, &[2, 2], &[1, 2])[2..]);
    let pickle = pickle.0[..pickle.0.len() - 1].to_vec();
    let pickle = Pickle(pickle).raw(b"s").text("args").global("wild", "Args").raw(b")\x81}bs").stop();
    vec![
        torch_zip(&pickle, &[1; 16]),
        torch_legacy(&pickle, &[1; 16]),
        made("no_checksums.pth"),
        made("views_legacy.pth"),
        made("deflated.pth"),
        small_safetensors(),
        made("arrays.pdparams"),
        made("arrays_protocol2.pdparams"),
    ]
}

#[test]
fn every_beginning_of_a_file_is_answered() {
    for file in small() {
        assert!(ForeignWeights::parse(Path::new("w.pth"), &file, None).is_ok());
        for end in 0..file.len() {
            any_file(&file[..end]);
            assert!(ForeignWeights::parse(Path::new("w.pth"), &file[..end], None).is_err(), "{end} bytes");
        }
    }
}

#[test]
fn every_changed_byte_is_answered() {
    let mut random = Random(1);
    for file in small() {
        let mut changed = file.clone();
        for at in 0..file.len() {
            for replacement in [file[at] ^ (1 << random.below(8)), random.next() as u8, 0, 0xff] {
                changed[at] = replacement;
                any_file(&changed);
            }
            changed[at] = file[at];
        }
    }
}

/// A changed copy of one file, with pieces of another.
fn mutated(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    const LENGTHS: [u64; 8] = [0, 1, 0x7f, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX >> 1, u64::MAX];
    const WHOLE: &[u8] = b"(.012FIJKLMNPQRSTUVXabcdeghijlopqrstu}]).\x80\x81\x85\x86\x87\x88\x8a\x8c\x8d\x8f\x90\x91\x92\x93\x94\x95\x96";
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len());
        let length = random.below(64).min(bytes.len() - at);
        match random.below(10) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            2 => bytes.insert(at, WHOLE[random.below(WHOLE.len())]),
            3 if !bytes.is_empty() => bytes[at] = WHOLE[random.below(WHOLE.len())],
            4 => drop(bytes.drain(at..at + length)),
            5 => {
                let piece = bytes[at..at + length].to_vec();
                let place = random.below(bytes.len());
                bytes.splice(place..place, piece.repeat(1 + random.below(20)));
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let piece = other[from..from + random.below(200).min(other.len() - from)].to_vec();
                bytes.splice(at..at + length, piece);
            }
            7 => bytes.truncate(at),
            8 => {
                let number = LENGTHS[random.below(LENGTHS.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            _ => {
                let number = random.next() % 1000;
                let width = [2, 4, 8][random.below(3)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            }
        }
    }
    bytes
}

/// The pickles of stored zip files.
fn pickles(files: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let find = |bytes: &[u8], wanted: &[u8]| bytes.windows(wanted.len()).position(|window| window == wanted);
    files
        .iter()
        .filter_map(|file| {
            let start = (2..6).filter_map(|protocol| find(file, &[0x80, protocol])).min()?;
            let end = start + find(&file[start..], b"PK")?;
            Some(file[start..end].to_vec())
        })
        .collect()
}

/// Runs for a while and returns how many files it tried.
fn mutate_for(duration: Duration, seed: u64) -> usize {
    let mut seeds = small();
    let mut directory: Vec<_> = std::fs::read_dir(files().join("made"))
        .expect("the files")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "json"))
        .collect();
    directory.sort();
    seeds.extend(directory.iter().map(|path| std::fs::read(path).expect("the file")));
    let pickles = pickles(&seeds);
    assert!(pickles.len() > 20);
    let arrays: Vec<_> =
        directory.iter().filter(|path| path.extension().is_some_and(|end| end == "pdparams")).collect();
    let arrays: Vec<_> = arrays.into_iter().map(|path| std::fs::read(path).expect("the file")).collect();
    assert!(arrays.len() > 10);
    let (mut random, started, mut tried) = (Random(seed), Instant::now(), 0);
    while started.elapsed() < duration {
        let begun = Instant::now();
        let (target, bytes): (fn(&[u8]), _) = match random.below(5) {
            0 => (any_file, mutated(&mut random, &seeds)),
            1 => (pickle_of_an_old_file, mutated(&mut random, &pickles)),
            2 => (any_file, mutated(&mut random, &arrays)),
            _ => (pickle_of_a_zip_file, mutated(&mut random, &pickles)),
        };
        target(&bytes);
        assert!(begun.elapsed() < Duration::from_secs(5), "seed {seed}, file {tried}: {:?}", begun.elapsed());
        tried += 1;
    }
    tried
}

#[test]
fn two_seconds_of_mutations_are_answered() {
    assert!(mutate_for(Duration::from_secs(2), 7) > 100);
}

/// `MUTATION_SECONDS=60 cargo test --release -p foreign-weights --test it -- --ignored longer_mutations`
#[test]
#[ignore = "takes as long as it is told to"]
fn longer_mutations_are_answered() {
    let number =
        |name: &str, otherwise| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let tried = mutate_for(Duration::from_secs(number("MUTATION_SECONDS", 60)), number("MUTATION_SEED", 11));
    assert!(tried > 1000, "{tried}");
}
