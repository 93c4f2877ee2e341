//! Names, and what can be picked from where: what is picked has to come before, on every way that leads to where it is picked.

use std::collections::HashMap;

use super::super::{Place as At, Source, StepName};
use super::{Reader, nearest};

/// What a level of a way is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A node itself, or what is done where it fails: by their numbers the later after the earlier.
    Body,
    /// One after the other.
    Sequence,
    /// Side by side.
    Parallel,
    /// One of several.
    Choice,
    /// For every item.
    Map,
    /// In every round, or after it.
    Loop,
    /// For every conflict of branches.
    Conflict,
    /// Where the work of a node is undone.
    Compensation,
}

/// One level of the way down to where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) at: Place,
    pub(super) number: usize,
    /// Whether what stands here may come to nothing, and the run goes on all the same.
    pub(super) may_be_missing: bool,
}

/// Where the reader is, and what it has met.
#[derive(Default)]
pub(super) struct Scope {
    way: Vec<Level>,
    /// Every name, with the way to it and its place.
    names: HashMap<StepName, (Vec<Level>, At)>,
    picks: Vec<Found>,
    /// What items are called in the maps around here, from the outside in.
    pub(super) maps: Vec<Option<StepName>>,
    /// The loops around here; whether it is in their `until`.
    pub(super) loops: Vec<bool>,
    /// How many nodes have failed around here.
    pub(super) errors: usize,
    /// Whether it is said what a step works on whose output is judged, and which is tried again.
    pub(super) is_tried_again: bool,
    /// Whether it is said which event is waited for.
    pub(super) is_of_event: bool,
    /// Whether what is read undoes something.
    pub(super) is_undoing: bool,
}

/// A pick of a node's output.
struct Found {
    name: StepName,
    has_else: bool,
    way: Vec<Level>,
    place: At,
}

impl Scope {
    pub(super) fn enter(&mut self, level: Level) {
        self.way.push(level);
    }

    pub(super) fn leave(&mut self) {
        self.way.pop();
    }

    /// Says whether the node that is read may be skipped.
    pub(super) fn conditional(&mut self, is: bool) {
        if let Some(level) = self.way.last_mut() {
            level.may_be_missing |= is;
        }
    }

    pub(super) fn picked(&mut self, name: StepName, has_else: bool, place: At) {
        self.picks.push(Found { name, has_else, way: self.way.clone(), place });
    }
}

impl Reader {
    pub(super) fn name(&mut self, id: &StepName, place: At) {
        match self.scope.names.get(id) {
            Some((_, first)) => {
                let message = format!(
                    "the step's name `{id}` is taken by the one at {first}; name this one with `id:`, names are unique in a \
                     document"
                );
                self.fault(place, message);
            }
            None => drop(self.scope.names.insert(id.clone(), (self.scope.way.clone(), place))),
        }
    }

    /// Looks whether the source of a pick is there at all, and which item is meant.
    pub(super) fn resolve(&mut self, source: Source, path: &mut Vec<String>) -> Result<Source, String> {
        let scope = &self.scope;
        match source {
            Source::Item(name) => item(scope, name, path, "$.item").map(Source::Item),
            Source::Index(name) => item(scope, name, path, "$.index").map(Source::Index),
            Source::Round | Source::Last if scope.loops.is_empty() => {
                Err("`$.round` and `$.last` are known inside of a loop only".into())
            }
            Source::Error if scope.errors == 0 => Err(
                "`$.error` is known in `fallback` and `on-error`, where a node has failed, and in `compensate` only"
                    .into(),
            ),
            Source::Rejected if !scope.is_tried_again => Err(
                "`$.rejected` is known in the `with` of a step that has `validate` and `retry` only: what was found wrong with what it gave before".into(),
            ),
            Source::Output | Source::Given if !scope.is_undoing => Err(
                "`$.output` and `$.given` are known in `compensate` only: what the node gave, and what it was given"
                    .into(),
            ),
            Source::Event if !scope.is_of_event => {
                Err("`$.event` is known in the `where` of a `wait` only; later it is what the `wait` gives".into())
            }
            source => Ok(source),
        }
    }

    /// Whether `$.last` is there in every round.
    pub(super) fn has_last(&self) -> bool {
        self.scope.loops.last().copied().unwrap_or(false)
    }

    /// A pick is of what comes before. The names are all known only once the whole document is read.
    pub(super) fn check_picks(&mut self) {
        for found in std::mem::take(&mut self.scope.picks) {
            if let Some(message) = self.wrong(&found) {
                self.fault(found.place, message);
            }
        }
    }

    fn wrong(&self, found: &Found) -> Option<String> {
        let Found { name, has_else, way, .. } = found;
        let Some((there, at)) = self.scope.names.get(name) else {
            let hint = nearest(name.as_str(), self.scope.names.keys().map(StepName::as_str));
            let hint = hint.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
            return Some(format!("there is no step `{name}` to pick from{hint}"));
        };
        let same = |(one, other): &(&Level, &Level)| one.at == other.at && one.number == other.number;
        let common = way.iter().zip(there).take_while(same).count();
        let is_undone = way.get(common).is_some_and(|level| level.at == Place::Compensation);
        let Some(level) = there.get(common) else {
            return Some(match is_undone {
                true => format!("step `{name}` is what is undone here: its output is `$.output`"),
                false => format!("step `{name}` picks its own output: a cycle"),
            });
        };
        if there[common..].iter().any(|level| level.at == Place::Compensation) {
            return Some(format!(
                "step `{name}` (at {at}) is in a `compensate`: it is done where something is undone, and picked from within that only"
            ));
        }
        let later = || {
            format!(
                "step `{name}` (at {at}) does not come before this one: a step picks from earlier ones, anything else would be a \
                 cycle"
            )
        };
        match (way.get(common), level.at) {
            (None, _) => return Some(later()),
            (Some(here), Place::Parallel) if here.at == Place::Parallel => {
                return Some(format!(
                    "step `{name}` (at {at}) is in a branch beside this one: branches do not see each other, pick what is before \
                     them or behind them"
                ));
            }
            (Some(here), Place::Choice) if here.at == Place::Choice => {
                return Some(format!(
                    "step `{name}` (at {at}) is in another option of the choice: of those one only is done"
                ));
            }
            (Some(here), _) if here.number < level.number => return Some(later()),
            (Some(_), _) => {}
        }
        // Behind the items of a map, or the turns of a debate, stands what makes one of them.
        let is_behind = way.get(common).is_some_and(|here| here.at != level.at);
        let inside = &there[if is_behind { common } else { common + 1 }..];
        if inside.iter().any(|level| level.at == Place::Conflict) {
            return Some(format!(
                "step `{name}` (at {at}) settles conflicts of branches, of which there may be many or none: what it gives is what their \
                 keys hold then"
            ));
        }
        if let Some(inside) = inside.iter().find(|level| matches!(level.at, Place::Map | Place::Loop)) {
            let what = if inside.at == Place::Map { "a `map`" } else { "a `loop`, a `debate` or a `hand-off`" };
            return Some(format!(
                "step `{name}` (at {at}) is inside of {what}, where there are many of it: give that an `id` and pick from what it \
                 gives"
            ));
        }
        // What is undone may have come as far as anywhere.
        let may_be_missing = is_undone || there[common..].iter().any(|level| level.may_be_missing);
        (may_be_missing && !has_else).then(|| {
            format!(
                "step `{name}` (at {at}) may give nothing: it is not done in every run; say what is taken then, as in `{{pick: \
                 $.steps.{name}.output, else: null}}`"
            )
        })
    }
}

/// Which map's item is meant. A map that names its items has them under that name only.
fn item(scope: &Scope, name: Option<StepName>, path: &mut Vec<String>, what: &str) -> Result<Option<StepName>, String> {
    let Some(innermost) = scope.maps.last() else {
        return Err(format!("`{what}` is known inside of a `map` only"));
    };
    let known = |name: &str| scope.maps.iter().flatten().find(|known| known.as_str() == name).cloned();
    if let Some(name) = name {
        return known(name.as_str()).map(Some).ok_or_else(|| {
            format!("no `map` around here calls its items `{name}`; with a JSON Pointer it is `{what}/…`")
        });
    }
    if let Some(name) = path.first().and_then(|first| known(first)) {
        path.remove(0);
        return Ok(Some(name));
    }
    match innermost {
        None => Ok(None),
        Some(name) => Err(format!("this `map` calls its items `{name}`: write `{what}.{name}`")),
    }
}
