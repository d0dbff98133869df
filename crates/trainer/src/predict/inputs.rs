//! What a command line names to be classified: files, folders, lists of files, and patterns.

use std::path::{Path, PathBuf};

use anyhow::bail;
use imageset::name::matches;
use imageset::{LeftOut, folder, list};

/// Endings of lists of images.
const LIST_ENDINGS: [&str; 5] = ["csv", "tsv", "json", "jsonl", "txt"];

/// What an argument stands for.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Image files, in order.
    pub files: Vec<PathBuf>,
    /// The files of a folder that are not images, with the reasons.
    pub left_out: LeftOut,
}

/// The image files that an argument stands for: itself, all in a folder at any depth, those that a list names, or those that have the form
/// of a pattern. A file that has the name is taken as it is, whatever characters are in it.
///
/// # Errors
///
/// If there are none, or if a folder or list cannot be read.
pub fn expand(argument: &Path) -> anyhow::Result<Inputs> {
    let shown = argument.display();
    if argument.is_dir() {
        let (files, left_out) = folder::image_files(argument)?;
        if files.is_empty() {
            let told = left_out.line().map_or_else(String::new, |line| format!(" ({line})"));
            bail!("the folder `{shown}` holds no images{told}");
        }
        return Ok(Inputs { files, left_out });
    }
    let ending = argument.extension().unwrap_or_default();
    if argument.is_file() && LIST_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)) {
        let files = list::image_files(argument)?;
        if files.is_empty() {
            bail!("the list `{shown}` names no images");
        }
        return Ok(Inputs { files, ..Inputs::default() });
    }
    if argument.exists() {
        return Ok(Inputs { files: vec![argument.to_path_buf()], ..Inputs::default() });
    }
    if let Some(text) = argument.to_str() {
        if ["http://", "https://", "ftp://"].iter().any(|scheme| text.starts_with(scheme)) {
            bail!(
                "`{shown}` is a URL, but images are read from files only\n\nhint: download it first: `curl -LO '{shown}'`"
            );
        }
        if text.contains(['*', '?']) {
            let files = matching(text);
            if files.is_empty() {
                bail!(
                    "no file matches the pattern `{shown}`\n\n\
                     hint: `*` and `?` stand for characters of one name and `**` for any folders; a folder may be named as a whole"
                );
            }
            return Ok(Inputs { files, ..Inputs::default() });
        }
    }
    bail!("there is no file or folder `{shown}`\n\nhint: relative paths begin at `{}`", current_folder())
}

fn current_folder() -> String {
    std::env::current_dir().map_or_else(|_| ".".to_string(), |folder| folder.display().to_string())
}

/// A folder and all folders in it at any depth, without hidden ones and without following links.
fn with_folders_below(folder: &Path, found: &mut Vec<PathBuf>) {
    found.push(folder.to_path_buf());
    for entry in entries(folder) {
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !is_hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            with_folders_below(&folder.join(entry.file_name()), found);
        }
    }
}

/// What a folder holds; an empty path stands for the current one.
fn entries(folder: &Path) -> impl Iterator<Item = std::fs::DirEntry> {
    let read = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::fs::read_dir(read).into_iter().flatten().filter_map(Result::ok)
}

/// Files whose paths match a pattern, in bytewise order. `*` and `?` stand for characters of one name, and `**` for any number of folders.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let is_absolute = pattern.starts_with('/');
    let mut found = vec![PathBuf::from(if is_absolute { "/" } else { "" })];
    let names: Vec<&str> = pattern.split('/').filter(|name| !name.is_empty()).collect();
    for (place, name) in names.iter().enumerate() {
        let is_last = place + 1 == names.len();
        let mut next = Vec::new();
        for folder in &found {
            if *name == "**" && !is_last {
                with_folders_below(folder, &mut next);
                continue;
            }
            if !name.contains(['*', '?']) {
                next.push(folder.join(name));
                continue;
            }
            let fitting = entries(folder).filter(|entry| {
                let found = entry.file_name();
                let found = found.to_string_lossy();
                // As in a shell, a hidden name must be asked for.
                found.starts_with('.') == name.starts_with('.') && matches(name, &found)
            });
            next.extend(fitting.map(|entry| folder.join(entry.file_name())));
        }
        next.retain(|path| if is_last { path.is_file() } else { path.is_dir() });
        next.sort();
        next.dedup();
        found = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_stands_for_a_file_a_folder_a_list_or_a_pattern() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path();
        for name in ["a/1.png", "a/2.jpg", "a/notes.md", "b/3.png", "odd[1].png", ".hidden.png"] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, name).expect("a file");
        }
        std::fs::write(root.join("list.csv"), "file_name;x\na\\1.png;1\nb/3.png;2\n").expect("a file");
        std::fs::write(root.join("list.txt"), "a/2.jpg\n\nb/3.png\n").expect("a file");
        let expanded = |argument: &str| -> Result<Vec<String>, String> {
            let inputs = expand(&root.join(argument)).map_err(|error| error.to_string())?;
            let name = |path: PathBuf| path.strip_prefix(root).expect("below it").display().to_string();
            Ok(inputs.files.into_iter().map(name).collect())
        };
        for (argument, files) in [
            ("a/1.png", &["a/1.png"][..]),
            ("odd[1].png", &["odd[1].png"]),
            ("a", &["a/1.png", "a/2.jpg"]),
            ("list.csv", &["a/1.png", "b/3.png"]),
            ("list.txt", &["a/2.jpg", "b/3.png"]),
            ("*/*.png", &["a/1.png", "b/3.png"]),
            ("*.png", &["odd[1].png"]),
            ("**/*.png", &["a/1.png", "b/3.png", "odd[1].png"]),
        ] {
            assert_eq!(expanded(argument).expect(argument), files, "{argument}");
        }
        assert!(expanded("c/*.png").expect_err("nothing").contains("no file matches the pattern"));
        assert!(expanded("none.png").expect_err("nothing").contains("there is no file or folder"));
        let url = expand(Path::new("https://example.org/a.png")).expect_err("no file").to_string();
        assert!(url.contains("curl -LO 'https://example.org/a.png'"), "{url}");
    }
}
