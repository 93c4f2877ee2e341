//! What is wrong with a declaration as a whole: names that nobody has, states that nobody comes to or gets out of, events that may go two
//! ways.

use std::collections::{BTreeMap, BTreeSet};

use super::{Declaration, Transition};

impl Declaration {
    /// All of it.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = self.unknown();
        // Where names are missing, ways are too: what follows from that is not said twice.
        if faults.is_empty() {
            faults.extend(self.lost());
            faults.extend(self.ring());
        }
        faults.extend(self.overlaps());
        if let Err(refused) = self.fits(&self.first(0)) {
            faults.push(format!("what it begins with does not hold: {}", refused.message));
        }
        if let Some(migrate) = self.migrate.as_ref().filter(|migrate| migrate.from >= self.version) {
            faults.push(format!("`migrate` leads from version {} to {}: to a newer one", migrate.from, self.version));
        }
        faults
    }

    fn unknown(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut known = |name: &String, at: String| {
            if !self.states.contains_key(name) {
                faults.push(format!("{at}: there is no state `{name}`"));
            }
        };
        known(&self.initial, "`initial`".to_owned());
        for (number, transition) in (1..).zip(&self.transitions) {
            known(&transition.from, format!("transition {number}: `from`"));
            known(&transition.to, format!("transition {number}: `to`"));
        }
        for (name, lasts) in &self.states {
            if let Some((_, to)) = &lasts.timeout {
                known(to, format!("state `{name}`: `to`"));
            }
        }
        for (name, _) in self.states.iter().filter(|(_, lasts)| lasts.is_final) {
            if self.states[name].timeout.is_some() {
                faults.push(format!("state `{name}` is final: it has no `timeout`"));
            }
            if let Some(number) = self.transitions.iter().position(|transition| transition.from == *name) {
                faults.push(format!("transition {}: state `{name}` is final: nothing leads out of it", number + 1));
            }
        }
        faults
    }

    /// The states that come next after one.
    fn next<'a>(&'a self, of: &'a str) -> impl Iterator<Item = &'a str> {
        let by_event = self.transitions.iter().filter(move |one| one.from == of).map(|one| one.to.as_str());
        let by_time = self.states.get(of).and_then(|lasts| lasts.timeout.as_ref()).map(|(_, to)| to.as_str());
        by_event.chain(by_time)
    }

    /// States that nobody comes to, and that nobody gets out of.
    fn lost(&self) -> Vec<String> {
        let mut reached = BTreeSet::from([self.initial.as_str()]);
        let mut open = vec![self.initial.as_str()];
        while let Some(state) = open.pop() {
            open.extend(self.next(state).filter(|next| reached.insert(next)));
        }
        let mut faults = Vec::new();
        for (name, lasts) in &self.states {
            if !reached.contains(name.as_str()) {
                faults.push(format!("state `{name}` is never reached from `{}`", self.initial));
            }
            if !lasts.is_final && self.next(name).all(|next| next == name) {
                faults.push(format!(
                    "state `{name}` is a dead end: nothing leads out of it, and it is not `final: true`"
                ));
            }
        }
        faults
    }

    /// States that end by time alone in one another, for ever.
    fn ring(&self) -> Option<String> {
        let after = |name: &str| Some(self.states.get(name)?.timeout.as_ref()?.1.as_str());
        let begins = self.states.keys().find(|begins| {
            let way = std::iter::successors(after(begins), |name| after(name));
            way.take(self.states.len()).any(|name| name == begins.as_str())
        })?;
        Some(format!("state `{begins}` comes back to itself by `timeout` alone: something else has to end that"))
    }

    /// Events that are not told apart.
    fn overlaps(&self) -> Vec<String> {
        let mut groups: BTreeMap<(&str, &str), Vec<(usize, &Transition)>> = BTreeMap::new();
        for (number, one) in (1..).zip(&self.transitions) {
            groups.entry((&one.from, &one.on)).or_default().push((number, one));
        }
        let mut faults = Vec::new();
        for ((from, on), group) in groups {
            for (place, (number, one)) in group.iter().enumerate() {
                if let Some((other, _)) = group[..place].iter().find(|(_, other)| other.when == one.when) {
                    let same = if one.when.is_some() { "have the same `when`" } else { "have no `when`" };
                    faults.push(format!(
                        "transitions {other} and {number} overlap: both are of `{on}` in state `{from}`, and both {same}"
                    ));
                }
            }
        }
        faults
    }
}
