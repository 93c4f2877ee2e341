//! Where everything stands: what comes later lower, what is side by side beside each other. A document is a tree, so a box is as large
//! as what is in it, and no search is made for a good place: libraries that lay out graphs would not keep the order that was written.
//!
//! Invariant: what a [`Cell`] holds is within its width and height; cells are put beside each other and never over each other.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::figure::{Body, Branch, Figure};

/// How wide a character is, and how high a line: of a font of fixed width, in 12 px.
const CHARACTER: f64 = 7.3;
pub(crate) const LINE: f64 = 17.0;
/// Between a box's border and what is in it.
const PADDING: f64 = 12.0;
/// Between what stands below each other, with an arrow between.
const DOWN: f64 = 26.0;
/// Between what stands side by side.
const ACROSS: f64 = 24.0;
/// What is longer is cut; all of it is in the box's title.
const COLUMNS: usize = 46;

/// A picture, or a part of one.
#[derive(Debug, Default)]
pub(crate) struct Cell<'a> {
    pub(crate) width: f64,
    pub(crate) height: f64,
    /// Where the way through it comes in at its top, from its left border on.
    axis: f64,
    /// Where the way goes out, from its top on.
    out: f64,
    pub(crate) boxes: Vec<Boxed<'a>>,
    pub(crate) ways: Vec<Way>,
    pub(crate) labels: Vec<Label>,
}

/// A node's box.
#[derive(Debug)]
pub(crate) struct Boxed<'a> {
    pub(crate) figure: &'a Figure,
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
    /// Its title and its notes, cut.
    pub(crate) lines: Vec<String>,
    /// Whether it is done only where something fails, or judges.
    pub(crate) is_dashed: bool,
}

/// A line from corner to corner.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) corners: Vec<(f64, f64)>,
    pub(crate) is_dashed: bool,
    pub(crate) has_arrow: bool,
}

/// A text that stands for itself.
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) text: String,
    pub(crate) whole: String,
}

/// A figure with what judges it below, and what is done in its place at its right.
pub(crate) fn lay(figure: &Figure, is_dashed: bool) -> Cell<'_> {
    let mut cell = own(figure, is_dashed);
    if let Some(judge) = &figure.judge {
        let judge = own(judge, true);
        let (from, y) = (cell.out, cell.height + DOWN / 2.0);
        cell.out = y + judge.height;
        cell.ways.push(Way::straight((cell.axis, from), (cell.axis, y), true, false));
        let x = cell.axis - judge.axis;
        cell.put(judge, x, y);
    }
    rescues(cell, figure)
}

fn rescues<'a>(mut cell: Cell<'a>, figure: &'a Figure) -> Cell<'a> {
    let (right, middle) = (cell.width, cell.boxes.first().map_or(0.0, |own| own.y + LINE));
    let from = cell.boxes.first().map_or(right, |own| own.x + own.width);
    let mut y = cell.boxes.first().map_or(0.0, |own| own.y);
    for Branch { label, figure } in &figure.rescues {
        let rescue = labelled(label.as_deref(), figure, true);
        let x = right + 2.0 * ACROSS;
        let turn = right + ACROSS;
        let at = y + rescue.boxes.first().map_or(0.0, |first| first.y + LINE);
        let to = x + rescue.boxes.first().map_or(0.0, |first| first.x);
        let corners = vec![(from, middle), (turn, middle), (turn, at), (to, at)];
        cell.ways.push(Way { corners, is_dashed: true, has_arrow: true });
        let height = rescue.height;
        cell.put(rescue, x, y);
        y += height + ACROSS / 2.0;
    }
    cell
}

/// A figure's own box, with what is in it.
fn own(figure: &Figure, is_dashed: bool) -> Cell<'_> {
    let lines = lines(figure);
    let head = PADDING + LINE * lines.len() as f64;
    let wide = lines.iter().map(|line| width(line)).fold(0.0, f64::max);
    let mut cell = match &figure.body {
        Body::Leaf => Cell::default(),
        Body::Down(children) => down(children),
        Body::Across(branches) => across(branches),
        Body::Led(chair, branches) => under(lay(chair, false), across(branches), false),
        Body::Each(child) => lay(child, false),
        Body::Again(child) => again(child),
    };
    if let Some(closing) = &figure.closing {
        let is_dashed = figure.closes_at_times();
        cell = under(cell, labelled(closing.label.as_deref(), &closing.figure, is_dashed), is_dashed);
    }
    let is_leaf = cell.boxes.is_empty();
    let inner = cell.width.max(wide);
    let x = PADDING + (inner - cell.width) / 2.0;
    let above = if is_leaf { head } else { head + PADDING };
    cell.shift(x, above);
    let (width, height) = (inner + 2.0 * PADDING, above + cell.height + PADDING);
    cell.boxes.insert(0, Boxed { figure, x: 0.0, y: 0.0, width, height, lines, is_dashed });
    let axis = if is_leaf { width / 2.0 } else { cell.axis };
    Cell { width, height, axis, out: height, ..cell }
}

/// One below the other, an arrow between.
fn down(children: &[Figure]) -> Cell<'_> {
    let mut cell = Cell::default();
    for child in children {
        let child = lay(child, false);
        if cell.boxes.is_empty() {
            cell = child;
            continue;
        }
        let y = cell.height + DOWN;
        cell.ways.push(Way::straight((cell.axis, cell.out), (cell.axis, y), false, true));
        cell.out = y + child.out;
        let x = cell.axis - child.axis;
        cell.put(child, x, y);
    }
    cell
}

/// One below the other, an arrow between.
fn under<'a>(mut cell: Cell<'a>, other: Cell<'a>, is_dashed: bool) -> Cell<'a> {
    let y = cell.height + DOWN;
    let top = other.boxes.first().map_or(0.0, |first| first.y);
    cell.ways.push(Way::straight((cell.axis, cell.out), (cell.axis, y + top), is_dashed, true));
    cell.out = y + other.out;
    let x = cell.axis - other.axis;
    cell.put(other, x, y);
    cell
}

/// Side by side, between two lines.
fn across(branches: &[Branch]) -> Cell<'_> {
    let mut cell = Cell::default();
    let mut ports = Vec::new();
    for Branch { label, figure } in branches {
        let branch = labelled(label.as_deref(), figure, false);
        let x = if ports.is_empty() { 0.0 } else { cell.width + ACROSS };
        let top = branch.boxes.first().map_or(0.0, |first| first.y);
        ports.push((x + branch.axis, DOWN + top, DOWN + branch.out));
        cell.put(branch, x, DOWN);
    }
    let (Some(first), Some(last)) = (ports.first(), ports.last()) else { return cell };
    let (left, right) = (first.0, last.0);
    let join = cell.height + DOWN / 2.0;
    for (x, top, out) in &ports {
        cell.ways.push(Way::straight((*x, 0.0), (*x, *top), false, true));
        cell.ways.push(Way::straight((*x, *out), (*x, join), false, false));
    }
    cell.ways.push(Way::straight((left, 0.0), (right, 0.0), false, false));
    cell.ways.push(Way::straight((left, join), (right, join), false, false));
    Cell { height: join, axis: left.midpoint(right), out: join, ..cell }
}

/// With the way back at its right.
fn again(child: &Figure) -> Cell<'_> {
    let mut cell = lay(child, false);
    let (top, right) = (DOWN / 2.0, cell.width + ACROSS / 2.0);
    cell.shift(0.0, DOWN);
    cell.height += DOWN;
    cell.out += DOWN;
    let (axis, end) = (cell.axis, cell.height + DOWN / 2.0);
    let corners = vec![(axis, cell.out), (axis, end), (right, end), (right, top), (axis, top), (axis, DOWN)];
    cell.ways.push(Way { corners, is_dashed: false, has_arrow: true });
    Cell { width: right, height: end, out: end, ..cell }
}

/// With what it is called above it.
fn labelled<'a>(label: Option<&str>, figure: &'a Figure, is_dashed: bool) -> Cell<'a> {
    let mut cell = lay(figure, is_dashed);
    let Some(label) = label else { return cell };
    let (text, first) = (cut(label), cell.boxes.first().map_or(0.0, |first| first.x));
    let space = LINE + PADDING / 2.0;
    cell.shift(0.0, space);
    cell.height += space;
    cell.out += space;
    // Beside the line that comes down to it.
    let x = if is_dashed { first } else { cell.axis + PADDING / 2.0 };
    cell.width = cell.width.max(x + width(&text));
    cell.labels.push(Label { x, y: LINE - PADDING / 4.0, text, whole: label.to_owned() });
    cell
}

impl<'a> Cell<'a> {
    /// Moves everything in it.
    fn shift(&mut self, x: f64, y: f64) {
        for one in &mut self.boxes {
            one.x += x;
            one.y += y;
        }
        for (across, down) in self.ways.iter_mut().flat_map(|way| &mut way.corners) {
            *across += x;
            *down += y;
        }
        for label in &mut self.labels {
            label.x += x;
            label.y += y;
        }
        self.axis += x;
    }

    /// Takes another in with its corner at a place, which may be left of everything here.
    fn put(&mut self, mut other: Cell<'a>, x: f64, y: f64) {
        let left = (-x).max(0.0);
        if left > 0.0 {
            self.shift(left, 0.0);
            self.width += left;
        }
        other.shift(x + left, y);
        self.width = self.width.max(x + left + other.width);
        self.height = self.height.max(y + other.height);
        self.boxes.append(&mut other.boxes);
        self.ways.append(&mut other.ways);
        self.labels.append(&mut other.labels);
    }
}

impl Way {
    fn straight(from: (f64, f64), to: (f64, f64), is_dashed: bool, has_arrow: bool) -> Self {
        Self { corners: vec![from, to], is_dashed, has_arrow }
    }
}

fn lines(figure: &Figure) -> Vec<String> {
    let title = if figure.word == "validate" { format!("validate by {}", figure.title) } else { figure.title.clone() };
    let state = figure.state.as_ref().map(|state| state.note.as_str());
    [title.as_str()].into_iter().chain(figure.notes.iter().map(String::as_str)).chain(state).map(cut).collect()
}

fn cut(text: &str) -> String {
    if text.width() <= COLUMNS {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        if out.width() + c.width().unwrap_or(0) + 1 > COLUMNS {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

pub(crate) fn width(text: &str) -> f64 {
    text.width() as f64 * CHARACTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_and_what_is_wide_counts_double() {
        assert_eq!(cut("short"), "short");
        assert!(cut(&"x".repeat(100)).width() <= COLUMNS && cut(&"漢".repeat(100)).width() <= COLUMNS);
        assert!((width("漢字") - width("abcd")).abs() < f64::EPSILON);
    }
}
