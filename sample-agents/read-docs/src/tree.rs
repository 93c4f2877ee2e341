//! The Markdown below a directory, within bounds.
//!
//! Invariants: the order is that of the names, so that a call that is resumed reads the same again; symbolic links are not
//! followed, and what begins with a dot is not looked at; what was not read is named, with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

/// How much is read at most. What is beyond is skipped and named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Documents that are read.
    pub files: usize,
    /// Bytes of one document.
    pub file_bytes: usize,
    /// Bytes of all together.
    pub bytes: usize,
    /// Directories in one another.
    pub depth: usize,
    /// Files and directories that are looked at.
    pub entries: usize,
    /// Sections of one document.
    pub sections: usize,
    /// Links of one document.
    pub links: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            files: 1_000,
            file_bytes: 1 << 20,
            bytes: 8 << 20,
            depth: 16,
            entries: 20_000,
            sections: 400,
            links: 400,
        }
    }
}

/// What there is.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Documents by their names: the directory's name, then the path in it.
    pub(crate) documents: BTreeMap<String, String>,
    /// Every other file, and every directory.
    pub(crate) others: BTreeSet<String>,
    /// What was not read, and why.
    pub(crate) skipped: Vec<(String, String)>,
    /// What failed to be read: what is known of it, and of what is below it, stays.
    pub(crate) unreadable: BTreeSet<String>,
    /// Whether there may be more than what was seen.
    pub(crate) cut: bool,
    entries: usize,
    bytes: usize,
}

/// The longest name of a document, in bytes: an entity with an anchor has to find room.
const MAX_NAME: usize = 160;

/// Reads what is below `root`, under the name `name`.
pub(crate) fn read(root: &Path, name: &str, bounds: &Bounds) -> io::Result<Tree> {
    let mut tree = Tree::default();
    // The root alone must be there: what fails below it is skipped.
    let entries = names(root, &mut tree, bounds)?;
    tree.others.insert(name.to_owned());
    tree.walk(root, name, entries, 1, bounds);
    Ok(tree)
}

impl Tree {
    fn walk(&mut self, at: &Path, name: &str, entries: Vec<(String, fs::FileType)>, depth: usize, bounds: &Bounds) {
        for (entry, kind) in entries {
            let (path, name) = (at.join(&entry), format!("{name}/{entry}"));
            if kind.is_dir() {
                self.others.insert(name.clone());
                if depth >= bounds.depth {
                    self.cut = true;
                    self.skip(name, format!("directories are read {} deep at most", bounds.depth));
                    continue;
                }
                match names(&path, self, bounds) {
                    Ok(entries) => self.walk(&path, &name, entries, depth + 1, bounds),
                    Err(error) => self.fail(name, &error),
                }
            } else if !is_markdown(&entry) {
                self.others.insert(name);
            } else if kind.is_symlink() {
                self.others.insert(name.clone());
                self.skip(name, "a symbolic link".to_owned());
            } else if !kind.is_file() {
                self.others.insert(name.clone());
                self.skip(name, "no regular file".to_owned());
            } else {
                self.document(&path, name, bounds);
            }
        }
    }

    fn document(&mut self, path: &Path, name: String, bounds: &Bounds) {
        let why = match self.text(path, &name, bounds) {
            Ok(Ok(text)) => {
                self.bytes += text.len();
                self.documents.insert(name, text);
                return;
            }
            Ok(Err(why)) => why,
            Err(error) => {
                self.others.insert(name.clone());
                return self.fail(name, &error);
            }
        };
        self.others.insert(name.clone());
        self.skip(name, why);
    }

    /// A document's text, or why it is skipped.
    fn text(&self, path: &Path, name: &str, bounds: &Bounds) -> io::Result<Result<String, String>> {
        if name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Ok(Err(format!("a name has at most {MAX_NAME} bytes without control characters")));
        }
        if self.documents.len() >= bounds.files {
            return Ok(Err(format!("{} documents are read at most", bounds.files)));
        }
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(bounds.file_bytes as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > bounds.file_bytes {
            return Ok(Err(format!("a document has at most {} bytes", bounds.file_bytes)));
        }
        if self.bytes + bytes.len() > bounds.bytes {
            return Ok(Err(format!("all documents have at most {} bytes together", bounds.bytes)));
        }
        Ok(String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            format!("not UTF-8: byte {at} begins no character")
        }))
    }

    fn skip(&mut self, name: String, why: String) {
        self.skipped.push((name, why));
    }

    fn fail(&mut self, name: String, error: &io::Error) {
        self.unreadable.insert(name.clone());
        self.skip(name, format!("cannot be read: {error}"));
    }
}

/// What stands in a directory, in the order of the names.
fn names(directory: &Path, tree: &mut Tree, bounds: &Bounds) -> io::Result<Vec<(String, fs::FileType)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        if tree.entries >= bounds.entries {
            if !tree.cut {
                tree.skip(directory.display().to_string(), format!("{} files are looked at, at most", bounds.entries));
            }
            tree.cut = true;
            break;
        }
        tree.entries += 1;
        let entry = entry?;
        match entry.file_name().into_string() {
            Ok(name) if name.starts_with('.') => {}
            Ok(name) => found.push((name, entry.file_type()?)),
            Err(name) => tree.skip(name.to_string_lossy().into_owned(), "its name is not UTF-8".to_owned()),
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn is_markdown(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("md"))
}
