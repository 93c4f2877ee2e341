//! Places of a document: where its nodes stand, whichever item or round it is.

use super::{Document, Loop, Node};

/// What stands in a place for any item of a `map`, and for any round of a `loop`.
pub const ANY: &str = "*";

impl Document {
    /// Every node with its place, in the order of the document.
    pub fn places(&self) -> Vec<(String, &Node)> {
        let mut places = Vec::new();
        collect(&self.flow, "0".to_owned(), &mut places);
        places
    }
}

fn collect<'d>(node: &'d Node, place: String, into: &mut Vec<(String, &'d Node)>) {
    into.push((place.clone(), node));
    for (number, child) in node.children().into_iter().enumerate() {
        collect(child, format!("{place}/{number}"), into);
    }
    if let Some(template) = node.template() {
        collect(template, format!("{place}/{ANY}"), into);
    }
    for (number, rescue) in node.behind().chain(node.compensation()) {
        collect(rescue, format!("{place}/{number}"), into);
    }
}

/// Whether a path of a run leads to this place.
pub fn is_at(path: &str, place: &str) -> bool {
    let (mut path, mut place) = (path.split('/'), place.split('/'));
    loop {
        match (path.next(), place.next()) {
            (None, None) => return true,
            (Some(one), Some(wanted)) if one == wanted || wanted == ANY && is_of_many(one) => {}
            _ => return false,
        }
    }
}

/// Whether it is the number of an item or a round: behind those stands what judges, closes, is done in a node's place, or undoes it.
fn is_of_many(number: &str) -> bool {
    number.parse::<usize>().is_ok_and(|number| Loop::round(number).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_that_of_every_item() {
        assert!(is_at("0/3/17/0", "0/3/*/0") && !is_at("0/3/17", "0/3/*/0") && !is_at("0/2/17/0", "0/3/*/0"));
        for behind in [Node::VALIDATOR, Node::CLOSING, Node::FALLBACK, Node::HANDLER, Node::COMPENSATION] {
            assert!(!is_at(&format!("0/3/{behind}"), "0/3/*"), "{behind} is no item");
        }
        let source = "{name: n, flow: {map: $.input, do: {sequence: [{agent: a, fallback: [{agent: b}]}]}}}";
        let document = Document::parse(source, None).unwrap();
        let places: Vec<String> = document.places().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["0", "0/*", "0/*/0", "0/*/0/11000"]);
    }
}
