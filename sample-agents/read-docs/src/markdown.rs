//! A document's sections, anchors and links.
//!
//! A section goes from a heading to the next one, whatever its level; what stands before the first is a section without a
//! heading. Headings in quotes and lists divide nothing: their anchors lead to the section around them. Anchors are made as
//! GitHub makes them, so that links written for it lead somewhere here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use pulldown_cmark::{Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd};
use regex_lite::Regex;

/// A document, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// In their order; the first is what stands before every heading.
    pub sections: Vec<Section>,
    /// Which section an anchor leads to.
    pub anchors: BTreeMap<String, usize>,
    /// In their order.
    pub links: Vec<Link>,
}

/// A part of a document.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Unique in the document; empty: it has no heading.
    pub anchor: String,
    /// Its heading, after those that it stands under.
    pub heading: Vec<String>,
    /// Where it begins, from 1 on.
    pub line: usize,
    /// What stands under the heading, without trailing blank lines.
    pub text: String,
}

/// A link or an image.
#[derive(Debug, PartialEq, Eq)]
pub struct Link {
    /// The section it stands in.
    pub section: usize,
    /// Where it stands, from 1 on.
    pub line: usize,
    /// As it is written.
    pub target: String,
}

/// The longest title of a heading, in characters: what is longer is cut.
const MAX_TITLE: usize = 100;

const OPTIONS: Options = Options::ENABLE_TABLES
    .union(Options::ENABLE_FOOTNOTES)
    .union(Options::ENABLE_STRIKETHROUGH)
    .union(Options::ENABLE_TASKLISTS)
    .union(Options::ENABLE_HEADING_ATTRIBUTES)
    .union(Options::ENABLE_GFM);

impl Document {
    /// Takes a document apart. Every text is one.
    pub fn parse(source: &str) -> Self {
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        // Every line end is one: the parser does not know a lone CR, and nobody wants to read them.
        let source = &source.replace("\r\n", "\n").replace('\r', "\n");
        let begin = front_matter(source);
        let mut reading = Reading::new(source, begin);
        for (event, range) in Parser::new_ext(&source[begin..], OPTIONS).into_offset_iter() {
            reading.take(event, range.start + begin, range.end + begin);
        }
        reading.finish()
    }
}

/// A document that is being taken apart.
struct Reading<'a> {
    document: Document,
    lines: Lines<'a>,
    anchors: Anchors,
    /// Where the text of the last section begins.
    text: usize,
    /// The heading that is open.
    heading: Option<Heading>,
    /// The headings that the last section stands under, and its own.
    under: Vec<(HeadingLevel, String)>,
    /// How many quotes, lists and footnotes are open.
    inside: usize,
}

struct Heading {
    level: HeadingLevel,
    id: Option<String>,
    title: String,
    /// Whether it begins a section.
    divides: bool,
}

impl<'a> Reading<'a> {
    fn new(source: &'a str, begin: usize) -> Self {
        let mut lines = Lines { source, at: 0, line: 1 };
        let text = begin + source[begin..].len() - source[begin..].trim_start().len();
        let first = Section { line: lines.of(text), ..Section::default() };
        Self {
            document: Document { sections: vec![first], ..Document::default() },
            lines: Lines { source, at: 0, line: 1 },
            anchors: Anchors::default(),
            text: begin,
            heading: None,
            under: Vec::new(),
            inside: 0,
        }
    }

    fn take(&mut self, event: Event<'_>, start: usize, end: usize) {
        match event {
            Event::Start(Tag::Heading { level, id, .. }) => {
                let divides = self.inside == 0;
                if divides {
                    self.close(start);
                    let line = self.lines.of(start);
                    self.document.sections.push(Section { line, ..Section::default() });
                }
                self.heading = Some(Heading { level, id: id.map(|id| id.to_string()), title: String::new(), divides });
            }
            Event::End(TagEnd::Heading(_)) => self.head(end),
            Event::Start(Tag::BlockQuote(_) | Tag::List(_) | Tag::FootnoteDefinition(_)) => self.inside += 1,
            Event::End(TagEnd::BlockQuote(_) | TagEnd::List(_) | TagEnd::FootnoteDefinition) => {
                self.inside = self.inside.saturating_sub(1);
            }
            Event::Start(Tag::Link { link_type, dest_url, .. } | Tag::Image { link_type, dest_url, .. })
                if link_type != LinkType::Email =>
            {
                let (section, line) = (self.section(), self.lines.of(start));
                self.document.links.push(Link { section, line, target: dest_url.into_string() });
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                static NAMED: LazyLock<Option<Regex>> =
                    LazyLock::new(|| Regex::new(r#"<[A-Za-z][^>]*\s(?:id|name)\s*=\s*["']([^"'\s]+)["']"#).ok());
                let section = self.section();
                for found in NAMED.iter().flat_map(|named| named.captures_iter(&html)) {
                    self.document.anchors.entry(found[1].to_owned()).or_insert(section);
                }
            }
            Event::Text(text) | Event::Code(text) => self.title(&text),
            Event::SoftBreak | Event::HardBreak => self.title(" "),
            _ => {}
        }
    }

    fn section(&self) -> usize {
        self.document.sections.len() - 1
    }

    fn title(&mut self, text: &str) {
        if let Some(heading) = &mut self.heading {
            heading.title.push_str(text);
        }
    }

    /// A heading is read: gives the section its names.
    fn head(&mut self, end: usize) {
        let Some(Heading { level, id, title, divides }) = self.heading.take() else { return };
        let anchor = self.anchors.add(id, &title);
        let place = self.section();
        self.document.anchors.insert(anchor.clone(), place);
        if !divides {
            return;
        }
        self.text = end;
        self.under.retain(|(above, _)| *above < level);
        self.under.push((level, shown(&title)));
        let section = &mut self.document.sections[place];
        section.anchor = anchor;
        section.heading = self.under.iter().map(|(_, title)| title.clone()).filter(|title| !title.is_empty()).collect();
    }

    /// The last section ends here.
    fn close(&mut self, end: usize) {
        let text = self.lines.source.get(self.text..end).unwrap_or_default();
        // Blank lines go, but not the indentation of the first line: it may be code.
        let first = text.split_inclusive('\n').take_while(|line| line.trim().is_empty()).map(str::len).sum();
        if let Some(section) = self.document.sections.last_mut() {
            section.text = text.get(first..).unwrap_or_default().trim_end().to_owned();
        }
    }

    fn finish(mut self) -> Document {
        self.close(self.lines.source.len());
        self.document
    }
}

/// Line numbers of places that come in order; of earlier ones too, but slowly.
struct Lines<'a> {
    source: &'a str,
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn of(&mut self, place: usize) -> usize {
        if place < self.at {
            (self.at, self.line) = (0, 1);
        }
        let passed = self.source.as_bytes().get(self.at..place).unwrap_or_default();
        self.line += passed.iter().filter(|byte| **byte == b'\n').count();
        self.at = place;
        self.line
    }
}

/// The anchors of a document, each once.
#[derive(Default)]
struct Anchors {
    taken: HashSet<String>,
    /// How often a heading has come.
    times: HashMap<String, usize>,
}

impl Anchors {
    fn add(&mut self, id: Option<String>, title: &str) -> String {
        let base = id.filter(|id| !id.is_empty()).unwrap_or_else(|| slug(title));
        let times = self.times.entry(base.clone()).or_default();
        let mut anchor = if *times == 0 { base.clone() } else { format!("{base}-{times}") };
        while self.taken.contains(&anchor) {
            *times += 1;
            anchor = format!("{base}-{times}");
        }
        *times += 1;
        self.taken.insert(anchor.clone());
        anchor
    }
}

/// A heading as an anchor: small letters, without punctuation, hyphens for spaces.
fn slug(title: &str) -> String {
    let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect();
    if slug.is_empty() { "section".to_owned() } else { slug }
}

/// A heading as people read it: one line, not too long.
fn shown(title: &str) -> String {
    let words: Vec<&str> =
        title.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let title = words.join(" ");
    match title.char_indices().nth(MAX_TITLE) {
        Some((cut, _)) => format!("{}…", &title[..cut]),
        None => title,
    }
}

/// Where a document begins after its front matter: `---` in its first line up to the next `---` or `...`. Markdown itself
/// would take that for a rule and a heading.
fn front_matter(source: &str) -> usize {
    let mut lines = source.split_inclusive('\n');
    let Some(first) = lines.next().filter(|line| line.trim_end() == "---") else { return 0 };
    let mut at = first.len();
    for line in lines {
        at += line.len();
        if matches!(line.trim_end(), "---" | "...") {
            return at;
        }
    }
    0
}

#[cfg(test)]
mod tests;
