//! A picture as text: a tree of lines. What is done only where something fails, and who judges, hangs on a dashed branch.

use crate::figure::Figure;

impl Figure {
    /// As lines, each ended; `name` above them.
    pub fn text(&self, name: &str) -> String {
        let mut out = format!("{name}\n");
        branch(&mut out, "", &Twig { figure: self, label: None, is_dashed: false, is_last: true });
        out
    }
}

/// One figure below another.
struct Twig<'a> {
    figure: &'a Figure,
    label: Option<&'a str>,
    is_dashed: bool,
    is_last: bool,
}

fn branch(out: &mut String, before: &str, twig: &Twig<'_>) {
    let figure = twig.figure;
    let (corner, rest) = match (twig.is_last, twig.is_dashed) {
        (false, false) => ("├─ ", "│  "),
        (true, false) => ("└─ ", "   "),
        (false, true) => ("├┄ ", "│  "),
        (true, true) => ("└┄ ", "   "),
    };
    let label = twig.label.map_or_else(String::new, |label| format!("{label}: "));
    let word = if figure.word == "validate" { "validate by " } else { "" };
    let notes = figure.notes.iter().map(|note| format!("  · {note}")).collect::<String>();
    let state = figure.state.as_ref().map_or_else(String::new, |state| format!("  [{}]", state.note));
    let line = format!("{before}{corner}{label}{word}{}{notes}{state}", figure.title);
    // One line a node, whatever somebody wrote into it.
    out.extend(line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
    out.push('\n');
    let before = format!("{before}{rest}");
    let below = figure.children().into_iter().map(|(label, figure)| (label, figure, false));
    let judge = figure.judge.iter().map(|judge| (None, judge.as_ref(), true));
    let rescues = figure.rescues.iter().map(|rescue| (rescue.label.as_deref(), &rescue.figure, true));
    let is_dashed = figure.closes_at_times();
    let closing = figure.closing.iter().map(|closing| (closing.label.as_deref(), &closing.figure, is_dashed));
    let twigs: Vec<_> = below.chain(closing).chain(judge).chain(rescues).collect();
    for (number, (label, figure, is_dashed)) in twigs.iter().enumerate() {
        let is_last = number + 1 == twigs.len();
        branch(out, &before, &Twig { figure, label: *label, is_dashed: *is_dashed, is_last });
    }
}
