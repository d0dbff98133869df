//! Data sets drawn at random, laid out as folders, archives, directories of archives and lists: what is read is what was made, links
//! included, and the rest is counted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::measure::MeasuredSet;
use crate::random::below;
use crate::source::{DataSet, ImageSource, OpenOptions};

/// How many are drawn.
const DRAWS: u64 = 300;

/// Spellings of the parts that go together, and which takes the place of `val`.
const PARTS: [&[&str]; 7] = [
    &[],
    &["train"],
    &["train", "val"],
    &["Training", "Testing"],
    &["seg_train", "seg_test"],
    &["TRAIN", "valid_set", "Test"],
    &["train2017", "val2017"],
];
const CLASSES: [&str; 10] =
    ["cat", "Cats and dogs", "Ähre", "犬", "train", "test", "10", "9", "o'neil", "comma, semicolon; quote\""];
const ENDINGS: [&str; 8] = ["png", "PNG", "jpg", "JPeG", "jfif", "webp", "bmp", "gif"];
/// Paths below a class folder that are not taken, and how many entries they are counted as.
const NOISE: [&str; 6] =
    [".hidden.png", "notes.txt", "@eaDir/1.png/thumb.jpg", "Thumbs.db", "LICENSE", ".cache/deep/er.png"];

/// Paths at the root that are not taken, each counted once.
const ROOT_NOISE: [&str; 4] = ["README.md", "LICENSE", ".git/objects/1.png", "desktop.ini"];

/// One file, and the part and class that it was made for; None if it is to be left out.
struct Made {
    path: String,
    part: usize,
    class: Option<&'static str>,
    /// Another file, if it is a link to that.
    link: Option<String>,
}

/// Several files of a data set of these parts.
fn draw(rng: &mut ChaCha8Rng, parts: &[&str]) -> Vec<Made> {
    let mut pick = |from: usize| below(rng, from as u64) as usize;
    let mut classes = BTreeSet::new();
    while classes.len() < 2 + pick(3) || classes.len() < 2 {
        classes.insert(CLASSES[pick(CLASSES.len())]);
    }
    let mut made = Vec::new();
    for part in 0..parts.len().max(1) {
        for &class in &classes {
            // All classes train; others may lack one.
            let count = if part == 0 { 2 + pick(4) } else { pick(4) };
            let count = if part > 0 && class == *classes.first().expect("two") { count.max(1) } else { count };
            let folder = parts.get(part).map_or_else(|| class.to_owned(), |part| format!("{part}/{class}"));
            for index in 0..count {
                // A class that is called like a part is known by images that lie in it directly.
                let is_direct = index == 0 && ["train", "test"].contains(&class);
                let below = if is_direct { "" } else { ["", "deep/", "deep/er/"][pick(3)] };
                let path = format!("{folder}/{below}{index}.{}", ENDINGS[pick(ENDINGS.len())]);
                made.push(Made { path, part, class: Some(class), link: None });
            }
            if count > 0 && pick(4) == 0 {
                let target = made[pick(made.len())].path.clone();
                let is_image =
                    crate::layout::is_image_name(&target) && !target.contains("/.") && !target.contains("/@");
                let link = is_image.then_some(target);
                made.extend(link.map(|link| Made {
                    path: format!("{folder}/link.png"),
                    part,
                    class: Some(class),
                    link: Some(link),
                }));
            }
            if count > 0 && pick(4) == 0 {
                made.push(Made {
                    path: format!("{folder}/{}", NOISE[pick(NOISE.len())]),
                    part,
                    class: None,
                    link: None,
                });
            }
        }
    }
    if pick(3) == 0 {
        made.push(Made { path: ROOT_NOISE[pick(ROOT_NOISE.len())].to_owned(), part: 0, class: None, link: None });
    }
    made
}

/// The way from the folder of a file to another file.
fn way(path: &str, target: &str) -> String {
    format!("{}{target}", "../".repeat(path.matches('/').count()))
}

/// `class path` of all images of a source.
fn read(source: &dyn ImageSource, classes: &[String], root: &str) -> BTreeSet<String> {
    (0..source.len())
        .map(|index| {
            let name = source.name(index);
            let path = name.strip_prefix(root).unwrap_or_else(|| panic!("{name} lies in {root}"));
            format!("{} {path}", classes[source.label(index)])
        })
        .collect()
}

fn expected(made: &[Made], is_part: impl Fn(usize) -> bool) -> BTreeSet<String> {
    let taken = made.iter().filter(|made| is_part(made.part));
    taken.filter_map(|made| Some(format!("{} {}", made.class?, made.path))).collect()
}

/// Opens what lies at a path and compares it with what was made.
fn compare(path: &Path, root: &str, made: &[Made], num_parts: usize, what: &str) {
    let options = OpenOptions { path: Some(path.to_owned()), val_fraction: 0.3, ..OpenOptions::default() };
    let set = DataSet::open(&options).unwrap_or_else(|error| panic!("{what}: {error}"));
    let [train, val] = [&set.train, &set.val].map(|part| read(part.as_ref(), &set.classes, root));
    if num_parts > 1 {
        assert_eq!((train, val), (expected(made, |part| part == 0), expected(made, |part| part == 1)), "{what}");
    } else {
        assert_eq!(&train | &val, expected(made, |_| true), "{what}");
        assert!(train.is_disjoint(&val), "{what}");
    }
    let measured = MeasuredSet::open(&options).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(read(measured.images().as_ref(), &measured.classes, root), expected(made, |_| true), "{what}");
    let left_out = |counts: Vec<crate::LeftOutCount>| counts.iter().map(|count| count.count).sum::<usize>();
    let noise = made.iter().filter(|made| made.class.is_none()).count();
    assert_eq!(left_out(measured.left_out.counts()), noise, "{what}");
    let unused = expected(made, |part| part > 1).len();
    assert_eq!(left_out(set.left_out.counts()), noise + unused, "{what}");
}

/// An archive of files, below `top`. Links are symbolic, or hard ones if `has_hard_links`.
fn tar<'a>(made: impl IntoIterator<Item = &'a Made>, top: &str, has_hard_links: bool) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for Made { path, link, .. } in made {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        let name = format!("{top}{path}");
        match link {
            None => {
                header.set_size(path.len() as u64);
                builder.append_data(&mut header, name, path.as_bytes()).unwrap();
            }
            Some(link) => {
                header.set_size(0);
                let kind = if has_hard_links { tar::EntryType::Link } else { tar::EntryType::Symlink };
                header.set_entry_type(kind);
                let target = if has_hard_links { format!("{top}{link}") } else { way(path, link) };
                builder.append_link(&mut header, name, target).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

/// Lays the parts out as archives in a directory, opens it, and compares what is read with what was made.
fn compare_directory(dir: &Path, made: &[Made], parts: &[&str], what: &str) {
    fs::create_dir(dir).unwrap();
    let mut num_noise = 0;
    for (number, part) in parts.iter().enumerate() {
        let prefix = format!("{part}/");
        let inner = |path: &String| path.strip_prefix(&prefix).map(str::to_owned);
        let files: Vec<Made> = made
            .iter()
            .filter_map(|Made { path, part, class, .. }| {
                // What a link leads to may be in another archive, so it is a file here.
                Some(Made { path: inner(path)?, part: *part, class: *class, link: None })
            })
            .collect();
        num_noise += files.iter().filter(|made| made.class.is_none()).count();
        fs::write(dir.join(format!("{part}.tar")), tar(&files, ["", "./"][number % 2], false)).unwrap();
    }
    for Made { path, .. } in
        made.iter().filter(|made| !parts.iter().any(|part| made.path.starts_with(&format!("{part}/"))))
    {
        num_noise += 1;
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "words").unwrap();
    }
    let root = format!("{}/", dir.display());
    let named = |source: &dyn ImageSource, classes: &[String]| -> BTreeSet<String> {
        read(source, classes, &root).into_iter().map(|name| name.replacen(".tar/", "/", 1)).collect()
    };
    let options = OpenOptions { path: Some(dir.to_owned()), ..OpenOptions::default() };
    let set = DataSet::open(&options).unwrap_or_else(|error| panic!("{what}: {error}"));
    let [train, val] = [&set.train, &set.val].map(|part| named(part.as_ref(), &set.classes));
    assert_eq!((train, val), (expected(made, |part| part == 0), expected(made, |part| part == 1)), "{what}");
    let measured = MeasuredSet::open(&options).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(named(measured.images().as_ref(), &measured.classes), expected(made, |_| true), "{what}");
    let left_out: usize = measured.left_out.counts().iter().map(|count| count.count).sum();
    assert_eq!(left_out, num_noise, "{what}");
}

fn csv(made: &[Made], parts: &[&str], separator: char) -> String {
    let quoted = |cell: &str| format!("\"{}\"", cell.replace('"', "\"\""));
    let mut list = if parts.is_empty() {
        format!("label{separator}path\n")
    } else {
        format!("split{separator}label{separator}path\n")
    };
    for Made { path, part, class, .. } in made {
        let Some(class) = class else { continue };
        if let Some(part) = parts.get(*part) {
            // A list knows no other words beside those of the part.
            let part = part.trim_start_matches("seg_").trim_end_matches("2017");
            list.push_str(&format!("{part}{separator}"));
        }
        list.push_str(&format!("{}{separator}{}\n", quoted(class), quoted(path)));
    }
    list
}

#[test]
fn what_is_read_is_what_was_made_however_it_is_laid_out() {
    for number in 0..DRAWS {
        let mut rng = ChaCha8Rng::seed_from_u64(number);
        let parts = PARTS[below(&mut rng, PARTS.len() as u64) as usize];
        let made = draw(&mut rng, parts);
        // Two classes that are called like parts, and nothing else, are parts.
        let classes: BTreeSet<&str> = made.iter().filter_map(|made| made.class).collect();
        if classes.iter().all(|class| ["train", "test"].contains(class)) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = format!("{}/", dir.path().display());
        let folder = dir.path().join("folder");
        for Made { path, link, .. } in &made {
            let file = folder.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            match link {
                #[cfg(unix)]
                Some(link) => std::os::unix::fs::symlink(way(path, link), &file).unwrap(),
                _ => fs::write(&file, "an image").unwrap(),
            }
        }
        let what = format!("draw {number} of {parts:?}: {:?}", made.iter().map(|made| &made.path).collect::<Vec<_>>());
        compare(&folder, &format!("{root}folder/"), &made, parts.len(), &format!("folder, {what}"));
        let archive = dir.path().join("set.tar");
        fs::write(&archive, tar(&made, ["", "./"][number as usize % 2], number % 3 == 0)).unwrap();
        compare(&archive, &format!("{root}set.tar/"), &made, parts.len(), &format!("archive, {what}"));
        if parts.len() > 1 {
            compare_directory(&dir.path().join("parts"), &made, parts, &format!("directory of archives, {what}"));
        }
        let separator = [',', ';', '\t'][number as usize % 3];
        fs::write(folder.join("list.csv"), csv(&made, parts, separator)).unwrap();
        let images: Vec<Made> = made.into_iter().filter(|made| made.class.is_some()).collect();
        let options = OpenOptions { path: Some(folder.join("list.csv")), ..OpenOptions::default() };
        let measured = MeasuredSet::open(&options).unwrap_or_else(|error| panic!("list, {what}: {error}"));
        let found = read(measured.images().as_ref(), &measured.classes, &format!("{root}folder/"));
        assert_eq!(found, expected(&images, |_| true), "list, {what}");
    }
}
