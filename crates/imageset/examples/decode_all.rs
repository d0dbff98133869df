//! Decodes every file of a folder and compares it with what another program made of it, for `tests/pillow_differential.py`.
//!
//! ```text
//! cargo run --release -p imageset --example decode_all -- FOLDER
//! ```
//!
//! Beside `NAME` there may be `NAME.rgb`: width and height as 32-bit numbers, lowest byte first, and then red, green and blue
//! of each pixel. Prints a line for each `NAME`, with tabs between: the name, `same` or `differs` or `alone` or `refused`, and
//! then width, height, largest and mean difference of levels, or the reason. A picture of another size differs by 255.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use imageset::{DecodeLimits, RgbImage, decode, quiet_decoder_panics};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [folder] = arguments.as_slice() else { return Err("usage: decode_all FOLDER".into()) };
    quiet_decoder_panics();
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    paths.retain(|path| path.is_file() && path.extension().is_none_or(|ending| ending != "rgb"));
    paths.sort();
    let mut out = std::io::stdout().lock();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let image = match decode(&fs::read(&path)?, &DecodeLimits::default()) {
            Ok(image) => image,
            Err(error) => {
                writeln!(out, "{name}\trefused\t{error}")?;
                continue;
            }
        };
        let mut reference = path.clone().into_os_string();
        reference.push(".rgb");
        let (width, height) = (image.width, image.height);
        match fs::read(&reference) {
            Ok(reference) => {
                let (largest, mean) = difference(&image, &reference);
                let word = if largest == 0 { "same" } else { "differs" };
                writeln!(out, "{name}\t{word}\t{width}\t{height}\t{largest}\t{mean:.4}")?;
            }
            Err(_) => writeln!(out, "{name}\talone\t{width}\t{height}")?,
        }
    }
    Ok(())
}

/// Largest and mean difference of levels.
fn difference(image: &RgbImage, reference: &[u8]) -> (u8, f64) {
    let size = [image.width.to_le_bytes(), image.height.to_le_bytes()].concat();
    match reference.strip_prefix(size.as_slice()) {
        Some(pixels) if pixels.len() == image.pixels.len() => {
            let differences = image.pixels.iter().zip(pixels).map(|(&ours, &theirs)| ours.abs_diff(theirs));
            let sum: f64 = differences.clone().map(f64::from).sum();
            (differences.max().unwrap_or(0), sum / pixels.len().max(1) as f64)
        }
        _ => (255, 255.0),
    }
}
