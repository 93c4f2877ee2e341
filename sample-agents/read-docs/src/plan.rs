//! What is to be remembered and related: a pure function of the documents.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::links::{self, Target};
use crate::markdown::{Document, Section};
use crate::tree::{Bounds, Tree};
use crate::{BrokenLink, Skipped};

/// How documents become notes. Whoever changes that changes this number, so that everything is remembered anew.
const VERSION: &[u8] = b"read-docs 1";
/// The longest text of a note, in bytes: with its heading it has to fit into what the host keeps.
const MAX_TEXT: usize = 48 << 10;
/// The longest entity, in bytes.
const MAX_ENTITY: usize = 256;
/// The longest metadatum, in bytes.
const MAX_HEADING: usize = 500;
/// Where a link to a directory leads, if it is there.
const INDEXES: [&str; 2] = ["README.md", "index.md"];

/// Everything that is to be, and what is wrong with the documents.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) documents: BTreeMap<String, Wanted>,
    pub(crate) broken: Vec<BrokenLink>,
    pub(crate) outside: usize,
    pub(crate) skipped: Vec<Skipped>,
    /// See [`Tree::unreadable`].
    pub(crate) unreadable: BTreeSet<String>,
}

/// What is to be of one document.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) hash: String,
    /// In the order of the sections.
    pub(crate) notes: Vec<Note>,
    /// From where to where.
    pub(crate) links: BTreeSet<(String, String)>,
}

/// A section to be remembered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) heading: String,
    pub(crate) line: usize,
}

impl Plan {
    /// The plan for a tree that is seen under the name `root`.
    pub(crate) fn new(root: &str, tree: Tree, bounds: &Bounds) -> Self {
        let parsed: BTreeMap<&str, Parsed> =
            tree.documents.iter().map(|(file, text)| (file.as_str(), Parsed::new(file, text, bounds))).collect();
        let mut plan = Self { unreadable: tree.unreadable.clone(), ..Self::default() };
        plan.skipped =
            tree.skipped.iter().map(|(file, why)| Skipped { file: file.clone(), why: why.clone() }).collect();
        for (file, text) in &tree.documents {
            let one = &parsed[file.as_str()];
            plan.skip_parts(file, one, bounds);
            let hash = hash(text);
            let notes = one.notes(file);
            let links = plan.links(root, file, one, &parsed, &tree, bounds);
            plan.documents.insert(file.clone(), Wanted { hash, notes, links });
        }
        plan
    }

    fn links(
        &mut self,
        root: &str,
        file: &str,
        one: &Parsed,
        parsed: &BTreeMap<&str, Parsed>,
        tree: &Tree,
        bounds: &Bounds,
    ) -> BTreeSet<(String, String)> {
        let mut links = BTreeSet::new();
        for link in one.document.links.iter().take(bounds.links) {
            let (path, anchor) = match links::target(root, file, &link.target) {
                Target::Elsewhere => continue,
                Target::Outside => {
                    self.outside += 1;
                    continue;
                }
                Target::Inside(path, anchor) => (path, anchor),
            };
            let index =
                || INDEXES.iter().map(|index| format!("{path}/{index}")).find(|i| tree.documents.contains_key(i));
            let document = if tree.documents.contains_key(&path) { Some(path.clone()) } else { index() };
            let to = match document {
                Some(to) => match parsed.get(to.as_str()).and_then(|document| document.entity(&to, &anchor)) {
                    Some(entity) => entity,
                    None => {
                        self.broken(file, link.line, &link.target, format!("{to} has no heading for #{anchor}"));
                        continue;
                    }
                },
                // Something that is no document, or that was not looked at.
                None if tree.cut || tree.others.contains(&path) || tree.is_unreadable(&path) => continue,
                None => {
                    self.broken(file, link.line, &link.target, format!("there is no {path}"));
                    continue;
                }
            };
            let from = one.names[link.section].clone().unwrap_or_else(|| file.to_owned());
            if from != to {
                links.insert((from, to));
            }
        }
        links
    }

    fn broken(&mut self, file: &str, line: usize, target: &str, why: String) {
        let target = short(target, 200);
        self.broken.push(BrokenLink { file: file.to_owned(), line, target, why: short(&why, 400) });
    }

    /// What of a document is too much.
    fn skip_parts(&mut self, file: &str, one: &Parsed, bounds: &Bounds) {
        let mut skip = |file: String, why: String| self.skipped.push(Skipped { file, why });
        if one.document.sections.len() > bounds.sections {
            skip(file.to_owned(), format!("only its first {} sections are remembered", bounds.sections));
        }
        if one.document.links.len() > bounds.links {
            skip(file.to_owned(), format!("only its first {} links are followed", bounds.links));
        }
        for (section, name) in one.document.sections.iter().zip(&one.names) {
            if let Some(name) = name.as_ref().filter(|_| section.text.len() > MAX_TEXT) {
                skip(name.clone(), format!("only its first {} KiB are remembered", MAX_TEXT >> 10));
            }
        }
    }
}

impl Tree {
    pub(crate) fn is_unreadable(&self, path: &str) -> bool {
        below(&self.unreadable, path)
    }
}

/// Whether a path is one of these, or below one.
pub(crate) fn below(these: &BTreeSet<String>, path: &str) -> bool {
    these.iter().any(|one| path.strip_prefix(one.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// A document with the names of its sections.
struct Parsed {
    document: Document,
    /// The entity of each section; none: there is nothing in it to be remembered.
    names: Vec<Option<String>>,
}

impl Parsed {
    fn new(file: &str, text: &str, bounds: &Bounds) -> Self {
        let document = Document::parse(text);
        let name = |(number, section): (usize, &Section)| {
            (number < bounds.sections && !section.text.trim().is_empty()).then(|| entity(file, &section.anchor))
        };
        let names = document.sections.iter().enumerate().map(name).collect();
        Self { document, names }
    }

    /// Where an anchor leads: to a section, or to the whole document; none: nowhere.
    fn entity(&self, file: &str, anchor: &str) -> Option<String> {
        if anchor.is_empty() {
            return Some(file.to_owned());
        }
        match self.document.anchors.get(anchor) {
            Some(section) => Some(self.names[*section].clone().unwrap_or_else(|| file.to_owned())),
            // Every page has this one.
            None if anchor == "top" => Some(file.to_owned()),
            None => None,
        }
    }

    fn notes(&self, file: &str) -> Vec<Note> {
        let sections = self.document.sections.iter().zip(&self.names);
        let notes = sections.filter_map(|(section, name)| {
            let id = name.clone()?;
            let heading = section.heading.join(" › ");
            let body = &section.text[..section.text.floor_char_boundary(MAX_TEXT)];
            let above = if heading.is_empty() { file } else { &heading };
            let text = format!("{above}\n\n{body}");
            Some(Note { id, text, heading: short(&heading, MAX_HEADING), line: section.line })
        });
        notes.collect()
    }
}

/// A section's name: it is a note's id, and an entity of the graph.
fn entity(file: &str, anchor: &str) -> String {
    let room = MAX_ENTITY.saturating_sub(file.len() + 1);
    if anchor.len() <= room && !anchor.chars().any(char::is_control) {
        return format!("{file}#{anchor}");
    }
    let mark = hash(anchor);
    let kept: String = anchor.chars().filter(|c| !c.is_control()).collect();
    let kept = &kept[..kept.floor_char_boundary(room.saturating_sub(mark.len() + 1))];
    format!("{file}#{kept}-{mark}")
}

/// 32 hexadecimal digits.
fn hash(text: &str) -> String {
    let digest = Sha256::new().chain_update(VERSION).chain_update([0]).chain_update(text).finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn short(text: &str, most: usize) -> String {
    if text.len() <= most { text.to_owned() } else { format!("{}…", &text[..text.floor_char_boundary(most)]) }
}
