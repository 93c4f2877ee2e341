//! What picks find in a source: pieces of its JSON text, as they stand there.
//!
//! Invariants: a source is read once however many picks there are, and nothing is made of it but places in its text: what
//! that takes grows with the text and the picks, never with one times the other. Of a name that stands twice the last counts.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use ltmc_model::Payload;
use ltmc_model::workflow::Pick;
use serde::de::IgnoredAny;

/// How many names of an object's fields are told.
const TOLD: usize = 8;

/// A source's JSON text, known to be whole.
pub(crate) struct Json<'a>(Cow<'a, str>);

impl<'a> Json<'a> {
    /// Of a payload: its text where it is JSON, otherwise the text as a string; none: that would be longer than `most`.
    ///
    /// # Errors
    /// Where it says that it is JSON and is not, or is neither JSON nor text in UTF-8.
    pub(crate) fn of(payload: &'a Payload, most: usize) -> Result<Option<Self>, String> {
        let text = std::str::from_utf8(&payload.bytes);
        if payload.is_json() {
            let text = text.map_err(|e| format!("not JSON: {e}"))?;
            serde_json::from_str::<IgnoredAny>(text).map_err(|e| format!("not JSON: {e}"))?;
            return Ok(Some(Self(Cow::Borrowed(text.trim_matches([' ', '\t', '\r', '\n'])))));
        }
        let text =
            text.map_err(|e| format!("neither JSON (its type is `{}`) nor text in UTF-8: {e}", payload.content_type))?;
        let mut quoted = Bounded::new(most);
        Ok(serde_json::to_writer(&mut quoted, text).ok().map(|()| Self(Cow::Owned(quoted.into_text()))))
    }

    /// The text itself.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// A name that stands there twice, of the first `most` of its fields' names.
    pub(crate) fn twice(&self, most: usize) -> Option<String> {
        let (mut seen, mut members) = (HashSet::new(), Members::of(&self.0, 0));
        while let Some(member) = members.next().filter(|_| seen.len() <= most) {
            members.skip(member.at);
            let name = name_of(member.name);
            if seen.contains(&name) {
                return Some(name.into_owned());
            }
            seen.insert(name);
        }
        None
    }

    /// Its fields, each once, in order; none: it is no object. The error: it has more than `most`.
    pub(crate) fn fields(&self, most: usize) -> Result<Option<Vec<(&str, &str)>>, String> {
        let text = &*self.0;
        if !text.starts_with('{') {
            return Ok(None);
        }
        let (mut fields, mut places) = (Vec::new(), HashMap::new());
        let mut members = Members::of(text, 0);
        while let Some(member) = members.next() {
            let value = &text[member.at..members.skip(member.at)];
            let place = *places.entry(name_of(member.name)).or_insert(fields.len());
            if place >= most {
                return Err(format!("an object with more than {most} fields"));
            }
            match fields.get_mut(place) {
                Some((_, known)) => *known = value,
                None => fields.push((member.name, value)),
            }
        }
        Ok(Some(fields))
    }
}

/// The items of a list, each as it stands there. The error: what it is instead, or that it has more than `most`.
pub(crate) fn items(text: &str, most: usize) -> Result<Vec<&str>, String> {
    if !text.starts_with('[') {
        return Err(format!("{}, and no list", describe(text)));
    }
    let (mut items, mut members) = (Vec::new(), Members::of(text, 0));
    while let Some(member) = members.next() {
        if items.len() == most {
            return Err(format!("a list of more than {most} items"));
        }
        items.push(&text[member.at..members.skip(member.at)]);
    }
    Ok(items)
}

/// A field's name, as it is looked up by.
pub(crate) fn name_of(quoted: &str) -> Cow<'_, str> {
    match quoted.get(1..quoted.len().saturating_sub(1)) {
        Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
        // One that is no text, such as half a surrogate pair, is found by nobody.
        _ => Cow::Owned(serde_json::from_str(quoted).unwrap_or_default()),
    }
}

/// Picks from one source, as a tree of the names on their ways.
pub(crate) struct Picked<'s> {
    text: &'s str,
    nodes: Vec<Node<'s>>,
}

/// A place that some pick's way leads through.
#[derive(Default)]
struct Node<'s> {
    parent: usize,
    below: HashMap<&'s str, usize>,
    found: Range<usize>,
    /// How often it was come by, and the count of its parent when it last was; 0: never.
    visits: u64,
    in_visit: u64,
}

const ROOT: usize = 0;

impl<'s> Picked<'s> {
    /// What stands at the ways of `picks` in a source.
    pub(crate) fn from(source: &'s Json<'_>, picks: impl Iterator<Item = &'s Pick>) -> Self {
        let mut picked = Self { text: &source.0, nodes: vec![Node::default()] };
        for pick in picks {
            let mut at = ROOT;
            for part in &pick.path {
                let fresh = picked.nodes.len();
                let next = *picked.nodes[at].below.entry(part).or_insert(fresh);
                if next == fresh {
                    picked.nodes.push(Node { parent: at, ..Node::default() });
                }
                at = next;
            }
        }
        picked.walk(0, ROOT);
        picked
    }

    /// What a pick found.
    ///
    /// # Errors
    /// How far its way leads, and what stands there instead.
    pub(crate) fn get(&self, pick: &Pick) -> Result<&'s str, String> {
        let mut at = ROOT;
        for (depth, part) in pick.path.iter().enumerate() {
            let next = self.nodes[at].below.get(part.as_str()).copied();
            let Some(next) = next.filter(|next| self.is_there(*next)) else {
                let reached = Pick { source: pick.source.clone(), path: pick.path[..depth].to_vec(), or_else: None };
                let there = describe(&self.text[self.nodes[at].found.clone()]);
                return Err(format!("`{pick}` is not there: `{reached}` is {there}"));
            };
            at = next;
        }
        Ok(&self.text[self.nodes[at].found.clone()])
    }

    /// Whether it was come by in the visit of its parent that counts: the last. Asked from the top down.
    fn is_there(&self, node: usize) -> bool {
        let Node { parent, in_visit, .. } = self.nodes[node];
        in_visit != 0 && in_visit == self.nodes[parent].visits
    }

    /// Reads the value that begins at `at`, which is `node`'s; where it ends.
    fn walk(&mut self, at: usize, node: usize) -> usize {
        let text = self.text;
        let in_visit = self.nodes[self.nodes[node].parent].visits;
        self.nodes[node].visits += 1;
        let mut members = Members::of(text, at);
        if self.nodes[node].below.is_empty() {
            members.skip(at);
        } else {
            while let Some(member) = members.next() {
                let name = match member.name {
                    "" => Cow::Owned(member.number.to_string()),
                    name => name_of(name),
                };
                match self.nodes[node].below.get(&*name).copied() {
                    Some(child) => members.at = self.walk(member.at, child),
                    None => drop(members.skip(member.at)),
                }
            }
        }
        let node = &mut self.nodes[node];
        (node.found, node.in_visit) = (at..members.at, in_visit);
        members.at
    }
}

/// The members of an object or a list, one after the other. After each of them [`Members::at`] is to be moved behind it. What is
/// neither has none, and is passed over.
struct Members<'a> {
    text: &'a str,
    at: usize,
    close: u8,
    number: usize,
}

struct Member<'a> {
    /// Of a field, in quotes as it stands there; empty in a list.
    name: &'a str,
    number: usize,
    /// Where its value begins.
    at: usize,
}

impl<'a> Members<'a> {
    fn of(text: &'a str, at: usize) -> Self {
        let close = match byte(text, at) {
            b'{' => b'}',
            b'[' => b']',
            _ => 0,
        };
        Self { text, at, close, number: 0 }
    }

    fn next(&mut self) -> Option<Member<'a>> {
        if self.close == 0 {
            self.skip(self.at);
            return None;
        }
        // Behind what opens it, or the member before.
        let mut at = space(self.text, self.at + usize::from(self.number == 0));
        if byte(self.text, at) == b',' {
            at = space(self.text, at + 1);
        }
        if byte(self.text, at) == self.close || at >= self.text.len() {
            self.at = at + 1;
            return None;
        }
        let (number, mut name) = (self.number, "");
        self.number += 1;
        if self.close == b'}' {
            let end = end_of(self.text, at);
            name = &self.text[at..end];
            // The colon.
            at = space(self.text, space(self.text, end) + 1);
        }
        Some(Member { name, number, at })
    }

    /// Passes over the value at `at`; where it ends.
    fn skip(&mut self, at: usize) -> usize {
        self.at = end_of(self.text, at);
        self.at
    }
}

fn byte(text: &str, at: usize) -> u8 {
    text.as_bytes().get(at).copied().unwrap_or(0)
}

fn space(text: &str, mut at: usize) -> usize {
    while matches!(byte(text, at), b' ' | b'\t' | b'\r' | b'\n') {
        at += 1;
    }
    at
}

/// Where the value that begins at `at` ends, in a text that is whole.
fn end_of(text: &str, mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < text.len() {
        match byte(text, at) {
            b'"' => at = end_of_string(text, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ if depth > 0 => {
                at += 1;
                continue;
            }
            _ => {
                while at < text.len() && !matches!(byte(text, at), b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n') {
                    at += 1;
                }
            }
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn end_of_string(text: &str, at: usize) -> usize {
    let mut at = at + 1;
    while at < text.len() {
        match byte(text, at) {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn describe(text: &str) -> String {
    let mut members = Members::of(text, 0);
    let (mut names, mut count) = (Vec::new(), 0_usize);
    match byte(text, 0) {
        b'{' | b'[' => {
            while let Some(member) = members.next() {
                if names.len() < TOLD && !member.name.is_empty() {
                    names.push(name_of(member.name).chars().take(300).collect::<String>());
                }
                count += 1;
                members.skip(member.at);
            }
        }
        _ => {}
    }
    match byte(text, 0) {
        b'n' => "null".into(),
        b't' | b'f' => "true or false".into(),
        b'"' => "a text".into(),
        b'[' => format!("a list of {count}"),
        b'{' if count == 0 => "an empty object".into(),
        b'{' => {
            if count > names.len() {
                names.push("…".into());
            }
            format!("an object with {}", names.join(", ")).chars().take(300).collect()
        }
        _ => "a number".into(),
    }
}

/// Bytes that are written, up to a bound: what would go beyond it is refused.
pub(crate) struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Bounded {
    pub(crate) fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), most }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn into_text(self) -> String {
        // What was written is JSON, which is text.
        String::from_utf8(self.bytes).unwrap_or_default()
    }
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > self.most - self.bytes.len() {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(text: &str, picks: &[&str]) -> Vec<Result<String, String>> {
        let payload = Payload { content_type: Payload::JSON.into(), bytes: text.to_owned().into() };
        let json = Json::of(&payload, 1_000).unwrap().unwrap();
        let picks: Vec<Pick> = picks.iter().map(|pick| pick.parse().unwrap()).collect();
        let picked = Picked::from(&json, picks.iter());
        picks.iter().map(|pick| picked.get(pick).map(str::to_owned)).collect()
    }

    #[test]
    fn picks_find_what_stands_there() {
        let text =
            r#" { "files" : [ {"path":"a.rs", "n": 1e2}, [ ] , null ], "a.b": {"c/d": true}, "\u0061": "\"}" } "#;
        let ways = ["$.input.files.0.path", "$.input.files.0", "$.input/a.b/c~1d", "$.input.a", "$.input.files.1"];
        let there: Vec<String> = found(text, &ways).into_iter().map(Result::unwrap).collect();
        assert_eq!(there, [r#""a.rs""#, r#"{"path":"a.rs", "n": 1e2}"#, "true", r#""\"}""#, "[ ]"]);
        assert_eq!(found(text, &["$.input"])[0].as_deref().unwrap(), text.trim());
    }

    #[test]
    fn of_a_name_that_stands_twice_the_last_counts() {
        let text = r#"{"a": {"b": 1, "c": 2}, "a": {"b": 3}}"#;
        let [b, c] = <[_; 2]>::try_from(found(text, &["$.input.a.b", "$.input.a.c"])).unwrap();
        assert_eq!(b.unwrap(), "3");
        assert_eq!(c.unwrap_err(), "`$.input.a.c` is not there: `$.input.a` is an object with b");
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let text = r#"{"files": [{"path": "a"}], "n": 1}"#;
        let told = |pick| found(text, &[pick]).remove(0).unwrap_err();
        assert_eq!(told("$.input.files.1.path"), "`$.input.files.1.path` is not there: `$.input.files` is a list of 1");
        assert_eq!(told("$.input.file"), "`$.input.file` is not there: `$.input` is an object with files, n");
        assert_eq!(told("$.input.n.x"), "`$.input.n.x` is not there: `$.input.n` is a number");
        assert!(told("$.input.files.00").contains("a list of 1"), "a number has one form");
    }

    /// Against the same look-up in a tree of values, on texts made at random.
    #[test]
    fn it_finds_what_a_tree_of_values_has() {
        fn value(seed: &mut u64, depth: u32) -> Value {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (kind, few) = ((*seed >> 33) % 8, (*seed >> 40) % 4);
            match kind {
                0..=2 if depth > 0 => Value::Array((0..few).map(|_| value(seed, depth - 1)).collect()),
                3..=5 if depth > 0 => {
                    let names = ["a", "0", "1", "x\"y\\", "é\n", "{}[],:"].into_iter().cycle().skip(*seed as usize % 6);
                    names.take(few as usize).map(|name| (name.to_owned(), value(seed, depth - 1))).collect()
                }
                6 => json!("[\"}\\"),
                _ => json!(*seed >> 12),
            }
        }
        let names = ["a", "0", "1", "x\"y\\", "é\n", "{}[],:"];
        let mut ways: Vec<Vec<String>> = vec![vec![]];
        for round in 0..3 {
            let longer: Vec<_> = ways.iter().filter(|way| way.len() == round).cloned().collect();
            ways.extend(longer.iter().flat_map(|way| names.map(|name| [way.as_slice(), &[name.to_owned()]].concat())));
        }
        let source = ltmc_model::workflow::Source::Input;
        let picks: Vec<Pick> =
            ways.into_iter().map(|path| Pick { source: source.clone(), path, or_else: None }).collect();
        let mut seed = 7;
        let mut hits = 0;
        for round in 0..300 {
            let value = value(&mut seed, 4);
            let text = if round % 2 == 0 { value.to_string() } else { serde_json::to_string_pretty(&value).unwrap() };
            let payload = Payload { content_type: Payload::JSON.into(), bytes: text.into() };
            let json = Json::of(&payload, 0).unwrap().unwrap();
            let picked = Picked::from(&json, picks.iter());
            for pick in &picks {
                let in_tree = pick.path.iter().try_fold(&value, |at, part| match at {
                    Value::Array(items) => part.parse().ok().and_then(|index: usize| items.get(index)),
                    at => at.get(part),
                });
                let here = picked.get(pick).ok().map(|text| serde_json::from_str::<Value>(text).unwrap());
                hits += usize::from(here.is_some());
                assert_eq!(here.as_ref(), in_tree, "{pick} in {value}");
            }
        }
        assert!(hits > 1_000, "{hits}");
    }

    #[test]
    fn an_object_s_fields_stand_in_order_and_are_counted() {
        let payload = Payload { content_type: Payload::JSON.into(), bytes: r#"{"b":1,"a":[2],"b":3}"#.into() };
        let json = Json::of(&payload, 0).unwrap().unwrap();
        assert_eq!(json.fields(2).unwrap().unwrap(), [("\"b\"", "3"), ("\"a\"", "[2]")]);
        assert!(json.fields(1).unwrap_err().contains("more than 1 fields"));
        assert!(Json::of(&Payload::text("abc"), 4).unwrap().is_none(), "in quotes it is longer");
    }
}
