//! Draws the bundled sample of Fashion-MNIST again, byte for byte.
//!
//! ```text
//! cargo run -p imageset --example draw_fashion_mnist_sample -- \
//!     /usr/share/datasets/fashion-mnist datasets/fashion-mnist-sample
//! ```
//!
//! The rule: from the *train* file only, for each label, its first 300 rows in file order are `train` and the next 60 are
//! `val`. The test file is not touched. Within the files labels ascend, and rows ascend within a label.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::GzBuilder;
use flate2::read::GzDecoder;
use imageset::idx::{IdxImages, parse_labels};

/// Folder names in label order.
const CLASSES: [&str; 10] =
    ["t-shirt-top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"];
const TRAIN_PER_CLASS: usize = 300;
const VAL_PER_CLASS: usize = 60;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [from, to] = arguments.as_slice() else {
        return Err("usage: draw_fashion_mnist_sample FASHION_MNIST_DIR SAMPLE_DIR".into());
    };
    let images = IdxImages::parse(unpacked(&from.join("train-images-idx3-ubyte.gz"))?)?;
    let labels = parse_labels(unpacked(&from.join("train-labels-idx1-ubyte.gz"))?)?;

    let (mut train, mut val) = (Vec::new(), Vec::new());
    for label in 0..CLASSES.len() as u8 {
        let rows = (0..labels.len()).filter(|&row| labels[row] == label);
        let rows: Vec<usize> = rows.take(TRAIN_PER_CLASS + VAL_PER_CLASS).collect();
        train.extend_from_slice(&rows[..TRAIN_PER_CLASS]);
        val.extend_from_slice(&rows[TRAIN_PER_CLASS..]);
    }

    fs::create_dir_all(to.join("examples"))?;
    write_pair(to, "train", &train, &images, &labels)?;
    write_pair(to, "val", &val, &images, &labels)?;
    fs::write(to.join("classes.txt"), CLASSES.map(|class| format!("{class}\n")).concat())?;
    for (label, class) in CLASSES.iter().enumerate() {
        let picture = image::GrayImage::from_raw(
            images.width,
            images.height,
            pixels(&images, val[label * VAL_PER_CLASS]).to_vec(),
        );
        picture.ok_or("an image of a wrong size")?.save(to.join("examples").join(format!("{class}.png")))?;
    }
    Ok(())
}

fn unpacked(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(path)?).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn pixels(images: &IdxImages, row: usize) -> &[u8] {
    let len = images.width as usize * images.height as usize;
    &images.gray[row * len..][..len]
}

fn write_pair(dir: &Path, part: &str, rows: &[usize], images: &IdxImages, labels: &[u8]) -> Result<(), Box<dyn Error>> {
    let count = u32::try_from(rows.len())?;
    let mut content: Vec<u8> =
        [0x803, count, images.height, images.width].into_iter().flat_map(u32::to_be_bytes).collect();
    for &row in rows {
        content.extend_from_slice(pixels(images, row));
    }
    write_packed(&dir.join(format!("{part}-images-idx3-ubyte.gz")), &content)?;
    let mut content: Vec<u8> = [0x801, count].into_iter().flat_map(u32::to_be_bytes).collect();
    content.extend(rows.iter().map(|&row| labels[row]));
    write_packed(&dir.join(format!("{part}-labels-idx1-ubyte.gz")), &content)
}

/// Without a time or a name in its header, the same content gives the same file.
fn write_packed(path: &Path, content: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut encoder = GzBuilder::new().mtime(0).write(fs::File::create(path)?, Compression::best());
    encoder.write_all(content)?;
    encoder.finish()?;
    Ok(())
}
