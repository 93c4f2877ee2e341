//! A picture as SVG: one file that needs nothing else, read on light and on dark ground.
//!
//! Invariant: what a document has in it is escaped, and stands in text and in attributes' values alone.

use std::fmt::Write as _;

use crate::figure::{Body, Figure};
use crate::layout::{self, Boxed, Cell, LINE, Label, Way};
use crate::state::Status;

/// Around everything.
const MARGIN: f64 = 20.0;
/// Of the name above.
const HEAD: f64 = 34.0;

/// A colour on light ground and on dark.
struct Colour {
    name: &'static str,
    light: &'static str,
    dark: &'static str,
}

/// What is written with, what lines are drawn with, the grounds that texts stand on, and the borders of what has a state.
const COLOURS: [Colour; 15] = [
    colour("ink", "#1f2328", "#e6edf3"),
    colour("faint", "#57606a", "#9da7b3"),
    colour("line", "#6e7781", "#8b949e"),
    colour("page", "#ffffff", "#0d1117"),
    colour("step", "#eaf2fb", "#16263a"),
    colour("frame", "#f6f8fa", "#161b22"),
    colour("aside", "#fff8e6", "#2b2410"),
    colour("completed", "#1a7f37", "#3fb950"),
    colour("failed", "#cf222e", "#f85149"),
    colour("running", "#0969da", "#58a6ff"),
    colour("paused", "#bc4c00", "#db6d28"),
    colour("waiting", "#9a6700", "#d29922"),
    colour("cancelled", "#8250df", "#a371f7"),
    colour("skipped", "#8c959f", "#6e7681"),
    colour("pending", "#8c959f", "#6e7681"),
];

const fn colour(name: &'static str, light: &'static str, dark: &'static str) -> Colour {
    Colour { name, light, dark }
}

const STYLE: &str = "text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:var(--faint);white-space:pre}\
    .title,.name{fill:var(--ink);font-weight:600}.title{font-size:15px}.page{fill:var(--page)}\
    .box{fill:var(--frame);stroke:var(--line)}.step>.box{fill:var(--step)}.dashed>.box{fill:var(--aside);stroke-dasharray:5 4}\
    .plain>.box{fill:none;stroke:var(--line);stroke-opacity:.35}.each>.box{stroke-width:2.5}\
    .way{fill:none;stroke:var(--line)}.way.dashed{stroke-dasharray:5 4}#head>path{fill:var(--line)}";

impl Figure {
    /// As SVG, under this name.
    pub fn svg(&self, name: &str) -> String {
        let cell = layout::lay(self, false);
        let title = layout::width(name) * 1.3;
        let (width, height) = (cell.width.max(title) + 2.0 * MARGIN, cell.height + HEAD + 2.0 * MARGIN);
        let mut out = String::new();
        // Writing to a text does not fail.
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\">\n<title>{0}</title>\n<style>{1}</style>\n\
             <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n\
             <rect class=\"page\" width=\"100%\" height=\"100%\"/>\n\
             <text class=\"title\" x=\"{MARGIN}\" y=\"{2:.1}\">{0}</text>\n<g transform=\"translate({MARGIN} {3:.1})\">\n",
            escaped(name),
            style(),
            MARGIN + LINE,
            MARGIN + HEAD,
        );
        let Cell { boxes, ways, labels, .. } = &cell;
        boxes.iter().for_each(|one| put_box(&mut out, one));
        ways.iter().for_each(|way| put_way(&mut out, way));
        labels.iter().for_each(|label| put_label(&mut out, label));
        out.push_str("</g>\n</svg>\n");
        out
    }
}

fn style() -> String {
    let all =
        |of: fn(&Colour) -> &str| COLOURS.iter().map(|one| format!("--{}:{};", one.name, of(one))).collect::<String>();
    let states = Status::ALL.map(|status| {
        let name = status.as_str();
        format!(
            ".{name}>.box{{stroke:var(--{name});stroke-width:2}}.{name}>.state{{fill:var(--{name});font-weight:600}}"
        )
    });
    format!(
        "svg{{color-scheme:light dark;{}}}@media(prefers-color-scheme:dark){{svg{{{}}}}}{STYLE}{}",
        all(|one| one.light),
        all(|one| one.dark),
        states.concat()
    )
}

fn put_box(out: &mut String, one: &Boxed<'_>) {
    let Boxed { figure, x, y, width, height, lines, is_dashed } = one;
    let mut classes = vec![match &figure.body {
        Body::Leaf => "step",
        Body::Each(_) => "each",
        Body::Down(_) => "plain",
        Body::Across(_) | Body::Led(..) | Body::Again(_) => "framed",
    }];
    classes.extend(is_dashed.then_some("dashed"));
    classes.extend(figure.state.as_ref().map(|state| state.status.as_str()));
    let whole = [figure.title.clone()].into_iter().chain(figure.notes.iter().cloned()).collect::<Vec<_>>().join("\n");
    let _ = write!(
        out,
        "<g class=\"node {}\" data-path=\"{}\" data-word=\"{}\"><title>{}</title><rect class=\"box\" x=\"{x:.1}\" \
         y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"6\"/>",
        classes.join(" "),
        escaped(&figure.path),
        escaped(figure.word),
        escaped(&whole),
    );
    for (number, line) in lines.iter().enumerate() {
        let is_state = figure.state.is_some() && number + 1 == lines.len();
        let class = if number == 0 {
            "name"
        } else if is_state {
            "state"
        } else {
            "note"
        };
        let (x, y) = (x + 12.0, y + 8.0 + LINE * (number as f64 + 0.75));
        let _ = write!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(line));
    }
    out.push_str("</g>\n");
}

fn put_way(out: &mut String, way: &Way) {
    let corner =
        |(number, (x, y)): (usize, &(f64, f64))| format!("{}{x:.1} {y:.1}", if number == 0 { "M" } else { "L" });
    let path: String = way.corners.iter().enumerate().map(corner).collect();
    let class = if way.is_dashed { "way dashed" } else { "way" };
    let arrow = if way.has_arrow { " marker-end=\"url(#head)\"" } else { "" };
    let _ = writeln!(out, "<path class=\"{class}\" d=\"{path}\"{arrow}/>");
}

fn put_label(out: &mut String, label: &Label) {
    let Label { x, y, text, whole } = label;
    let _ = writeln!(
        out,
        "<text class=\"label\" x=\"{x:.1}\" y=\"{y:.1}\"><title>{}</title>{}</text>",
        escaped(whole),
        escaped(text)
    );
}

/// A text as XML has it. What no XML may have in it, and what makes a line read as another one than it is, is shown as such.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As WCAG 2 reckons it.
    fn contrast(one: &str, other: &str) -> f64 {
        let luminance = |colour: &str| {
            let part = |at: usize| f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            let linear = |c: f64| if c <= 0.039_28 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
            0.2126 * linear(part(1)) + 0.7152 * linear(part(3)) + 0.0722 * linear(part(5))
        };
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn every_text_can_be_read_on_every_ground() {
        let of = |name: &str| COLOURS.iter().find(|one| one.name == name).unwrap();
        for ground in ["page", "step", "frame", "aside"].map(of) {
            for text in ["ink", "faint"].map(of) {
                for ratio in [contrast(text.light, ground.light), contrast(text.dark, ground.dark)] {
                    assert!(ratio >= 4.5, "{} on {}: {ratio:.2}", text.name, ground.name);
                }
            }
            for border in Status::ALL.map(|status| of(status.as_str())) {
                for ratio in [contrast(border.light, ground.light), contrast(border.dark, ground.dark)] {
                    assert!(ratio >= 2.5, "{} on {}: {ratio:.2}", border.name, ground.name);
                }
            }
        }
    }
}
