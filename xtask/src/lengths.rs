//! A function fits a screen: outside tests none has more than 80 lines of code, unless it says why it reads better whole.

use std::path::Path;

use crate::house::{root, sources};

/// The lines of code that a function may have, as clippy counts them: `too-many-lines-threshold` in clippy.toml.
const MOST: usize = 80;
/// What a function says that is longer, with its reason: clippy holds that it is.
const SAYS_WHY: &str = "clippy::too_many_lines, reason = ";

/// Whether a source is there for tests alone.
fn is_for_tests(path: &Path) -> bool {
    path.components()
        .any(|part| ["tests", "benches", "examples"].contains(&part.as_os_str().to_string_lossy().as_ref()))
        || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// The name in a line that begins a function.
fn begins(line: &str) -> Option<&str> {
    let (before, rest) = line.trim_start().split_once("fn ")?;
    let words = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "default", "extern"];
    let is_begin = before.split_whitespace().all(|word| words.contains(&word) || word.starts_with("pub(in"));
    (is_begin || before.trim_end().ends_with(')')).then(|| rest.split(['(', '<']).next().unwrap_or_default())
}

/// Functions of a source that are too long and do not say why: the line of each, its name, and how long it is.
fn too_long(source: &str) -> Vec<(usize, &str, usize)> {
    let lines: Vec<&str> = source.lines().collect();
    let tests =
        lines.windows(2).position(|two| two[0].trim() == "#[cfg(test)]" && two[1].trim_end().ends_with("mod tests {"));
    let lines = &lines[..tests.unwrap_or(lines.len())];
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let Some(name) = begins(line) else { continue };
        // Formatted, its body begins behind the first line that ends so, and ends with a brace under its first word.
        let head = lines[number..].iter().position(|line| line.ends_with(['{', '}', ';'])).unwrap_or_default();
        if !lines[number + head].ends_with('{') {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let body = lines[number + head + 1..].iter().take_while(|line| **line != end);
        let length = body.filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).count();
        let above = lines[..number].iter().rev().take_while(|line| line.trim_start().starts_with(['#', '/']));
        if length > MOST && !above.into_iter().any(|line| line.contains(SAYS_WHY)) {
            found.push((number + 1, name, length));
        }
    }
    found
}

#[test]
fn a_function_fits_a_screen() {
    let mut wrong = Vec::new();
    for path in sources(&root()) {
        let shown = path.strip_prefix(root()).unwrap_or(&path).to_owned();
        if is_for_tests(&shown) {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        wrong.extend(too_long(&source).into_iter().map(|(line, name, length)| {
            format!("{}:{line}: `{name}` has {length} lines of code, {MOST} at most: take it apart, or say by `#[expect({SAYS_WHY}…)]` why it reads better whole", shown.display())
        }));
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_that_is_too_long_is_found_and_its_reason_is_taken() {
    let long = |head: &str| {
        format!("impl A {{\n    {head}\n{}\n    }}\n}}\n", "        b();\n\n        // c\n".repeat(MOST + 1))
    };
    let source = long("pub(crate) async fn far<T>(&self) {");
    assert_eq!(too_long(&source), [(2, "far", MOST + 1)]);
    let source = long("fn far(\n        &self,\n    ) -> u32 {");
    assert_eq!(too_long(&source), [(2, "far", MOST + 1)]);
    for fine in [
        long("#[expect(clippy::too_many_lines, reason = \"a table\")]\n    fn far(&self) {"),
        format!("#[cfg(test)]\nmod tests {{\n{}}}\n", long("fn far() {")),
        source.replacen("        b();\n", "", 1),
        "fn near(self);\n\nfn far() {}\n".repeat(MOST),
    ] {
        assert_eq!(too_long(&fine), [], "{fine}");
    }
}
