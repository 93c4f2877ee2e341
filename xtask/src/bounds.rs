//! What tenants share is bounded, and docs/security.md says of each bound who fills it and by what it is divided. This holds the
//! page against the code: each statement, or field, of the host's code that makes something shared (a pot, a queue, a channel,
//! turns, a cache, a thread or a process of its own, so much side by side) stands directly under a comment `// bound: NAME`, each name has a row in the page's table, and each row a place
//! in the code. What has no bound is not to be had at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::house::root;

/// What makes something shared.
const MADE: [&str; 16] = [
    "Pot::new(",
    "Pot::divided(",
    "Semaphore::new(",
    "mpsc::channel(",
    "sync_channel(",
    "broadcast::channel(",
    "broadcast::Sender::new(",
    "Cache::new(",
    "Cache::builder(",
    "LruCache::new(",
    "Admission::new(",
    "Turns::new(",
    "JoinSet::new(",
    // A process, a thread, and so many futures at once, too.
    "Command::new(",
    "spawn_blocking(",
    "buffer_unordered(",
];
/// What is never made.
const WITHOUT: [&str; 3] = ["unbounded_channel", "mpsc::unbounded", "LruCache::unbounded"];
const MARK: &str = "// bound: ";
const SECTION: &str = "## What is shared, and by what it is divided";

/// A place in the code where something shared is made.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    line: usize,
    /// The bound's name; none: it has none.
    bound: Option<String>,
}

/// The places of a source, and the names of bounds in it. Its unit tests are left out.
fn made(source: &str) -> (Vec<Made>, BTreeSet<String>) {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let name = |line: &str| {
        let name = line.trim().strip_prefix(MARK)?;
        Some(name.split(" (").next().unwrap_or_default().to_owned())
    };
    let lines: Vec<&str> = source.lines().collect();
    let mut places = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let is_code = !line.trim_start().starts_with("//");
        if is_code && MADE.iter().any(|made| line.contains(made)) {
            places.push(Made { line: index + 1, bound: mark(&lines[..index]).and_then(name) });
        }
    }
    (places, lines.into_iter().filter_map(name).collect())
}

/// The mark over a line that comes after these: directly over it, or over the statement or field that it goes on with. Other
/// comments may stand between.
fn mark<'a>(above: &[&'a str]) -> Option<&'a str> {
    let is_comment = |line: &str| line.starts_with("//");
    let goes_on = |line: &str| !line.is_empty() && !line.ends_with([';', '{', '}', ',']);
    let mut above = above.iter().map(|line| line.trim()).rev().peekable();
    while above.next_if(|line| !is_comment(line) && goes_on(line)).is_some() {}
    above.take_while(|line| is_comment(line)).find(|line| line.starts_with(MARK))
}

/// Every source of the host, but for its tests, and for commands that are no host.
fn sources(of: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(of).expect("a folder of the host").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            if name == "commands" {
                found.push(path.join("serve.rs"));
            } else if !["tests", "testing", "target", "benches", "native"].contains(&name.as_str()) {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// The first cell of each row of the page's table, without its backticks.
fn rows() -> BTreeSet<String> {
    let page = std::fs::read_to_string(root().join("docs/security.md")).expect("docs/security.md");
    let section = page.split_once(SECTION).expect("docs/security.md has the section").1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split('|').nth(1));
    cells.map(|cell| cell.trim().to_owned()).filter(|cell| cell != "bound" && !cell.starts_with("---")).collect()
}

#[test]
fn whatever_is_shared_has_a_bound_that_the_page_tells() {
    let mut files = Vec::new();
    sources(&root().join("host"), &mut files);
    assert!(files.len() > 100, "these are not all of the host's sources");
    let (mut named, mut wrong): (BTreeMap<String, PathBuf>, Vec<String>) = (BTreeMap::new(), Vec::new());
    for file in files {
        let source = std::fs::read_to_string(&file).expect("a source");
        let shown = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        let (places, names) = made(&source);
        for place in places.into_iter().filter(|place| place.bound.is_none()) {
            wrong.push(format!(
                "{shown}:{}: what is made here is shared, and names no bound (`{MARK}NAME`)",
                place.line
            ));
        }
        for without in WITHOUT.iter().filter(|without| source.contains(**without)) {
            wrong.push(format!("{shown}: `{without}` has no bound"));
        }
        named.extend(names.into_iter().map(|name| (name, file.clone())));
    }
    let rows = rows();
    for (name, file) in named.iter().filter(|(name, _)| !rows.contains(*name)) {
        wrong.push(format!("{}: the bound `{name}` has no row in docs/security.md ({SECTION})", file.display()));
    }
    for row in rows.iter().filter(|row| !named.contains_key(*row)) {
        wrong.push(format!("docs/security.md: no code makes `{row}`"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_names_no_bound_is_found_and_tests_are_left_out() {
    let source = [
        "fn a() {",
        "    // bound: seats",
        "    Pot::new(1, 1)",
        "}",
        "// bound: lines (of one kind)",
        "// Another word.",
        "let (to, from) =",
        "    mpsc::channel(1);",
        "let other = Semaphore::new(1);",
        "Self {",
        "    // bound: caches",
        "    one: Cache::builder()",
        "        .weigher(|_| Cache::new(1))",
        "        .build(),",
        "    two: Cache::new(1),",
        "}",
        "// Pot::new(",
        "    // bound: judges",
        "    let child = std::process::Command::new(exe)",
        "        .spawn();",
        "    let found = tokio::task::spawn_blocking(work).await;",
        "    let all = stream::iter(all)",
        "        // bound: rounds",
        "        .buffer_unordered(4);",
        "#[cfg(test)]",
        "Pot::new(1, 1)",
    ];
    let (places, names) = made(&source.join("\n"));
    let found: Vec<_> = places.iter().map(|place| (place.line, place.bound.as_deref())).collect();
    let named = [
        (3, Some("seats")),
        (8, Some("lines")),
        (9, None),
        (12, Some("caches")),
        (13, Some("caches")),
        (15, None),
        (19, Some("judges")),
        (21, None),
        (24, Some("rounds")),
    ];
    assert_eq!(found, named);
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["caches", "judges", "lines", "rounds", "seats"]);
}
