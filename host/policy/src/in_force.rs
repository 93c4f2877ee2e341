//! What is in force for an agent: grant ∩ ceiling.

use ltmc_model::capability::Any;
use ltmc_model::{AgentName, Capability};

/// An agent's grants under its tenant's ceiling.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InForce {
    grants: Vec<Capability>,
    ceiling: Vec<Capability>,
}

/// What policy says of one host call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed, by this one of the capabilities it needs; none: it needs none.
    Allowed(Option<Capability>),
    /// Refused for lack of this one.
    Denied(Capability),
    /// Refused, for the tenant's ceiling withholds this one: it is granted.
    Withheld(Capability),
}

impl InForce {
    /// What these grants give under this ceiling.
    pub fn new(grants: Vec<Capability>, ceiling: Vec<Capability>) -> Self {
        Self { grants, ceiling }
    }

    /// Whether `wanted` is in force: covered by a grant, and by the ceiling.
    pub fn allows(&self, wanted: &Capability) -> bool {
        covered(&self.grants, wanted) && covered(&self.ceiling, wanted)
    }

    /// Whether the directory of this name may be written to; none: it may not be seen.
    pub fn may_write(&self, directory: &AgentName) -> Option<bool> {
        let one = || Any::One(directory.clone());
        let write = self.allows(&Capability::FsWrite(one()));
        (write || self.allows(&Capability::FsRead(one()))).then_some(write)
    }

    /// What becomes of a call that needs one of these; of none where it needs none. For lack of all the first is denied, unless one
    /// of them is granted and withheld.
    pub fn decide(&self, needs: &[Capability]) -> Verdict {
        let Some(first) = needs.first() else { return Verdict::Allowed(None) };
        let granted = || needs.iter().find(|wanted| covered(&self.grants, wanted));
        match (needs.iter().find(|wanted| self.allows(wanted)), granted()) {
            (Some(allowed), _) => Verdict::Allowed(Some(allowed.clone())),
            (None, Some(granted)) => Verdict::Withheld(granted.clone()),
            (None, None) => Verdict::Denied(first.clone()),
        }
    }

    /// What of these the ceiling withholds, whatever is granted.
    pub fn withheld(&self, of: &[Capability]) -> Vec<Capability> {
        of.iter().filter(|wanted| !covered(&self.ceiling, wanted)).cloned().collect()
    }

    /// What of `asks` is not in force.
    pub fn missing(&self, asks: &[Capability]) -> Vec<Capability> {
        asks.iter().filter(|wanted| !self.allows(wanted)).cloned().collect()
    }
}

fn covered(by: &[Capability], wanted: &Capability) -> bool {
    by.iter().any(|capability| capability.covers(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(texts: &[&str]) -> Vec<Capability> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn nothing_is_in_force_by_default() {
        let log = &caps(&["log"])[0];
        assert!(!InForce::default().allows(log));
        assert!(!InForce::new(caps(&["log"]), vec![]).allows(log));
        assert!(!InForce::new(vec![], caps(&["log"])).allows(log));
        assert!(InForce::new(caps(&["log"]), caps(&["log"])).allows(log));
    }

    #[test]
    fn a_ceiling_cuts_what_a_wider_grant_gives() {
        let in_force = InForce::new(caps(&["memory:write:*"]), caps(&["memory:write:agent", "memory:read:*"]));
        let needs = caps(&["memory:write:agent"]);
        assert_eq!(in_force.decide(&needs), Verdict::Allowed(Some(needs[0].clone())));
        let needs = caps(&["memory:read:agent", "memory:write:global"]);
        assert_eq!(in_force.decide(&needs), Verdict::Withheld(needs[1].clone()), "that one is granted");
        assert_eq!(in_force.decide(&needs[..1]), Verdict::Denied(needs[0].clone()), "and that one only allowed");
        assert_eq!(in_force.withheld(&needs), needs[1..]);
        assert_eq!(in_force.missing(&caps(&["memory:write:agent", "memory:read:agent"])), caps(&["memory:read:agent"]));
    }

    #[test]
    fn a_call_that_needs_nothing_is_allowed_and_what_is_lacking_is_named() {
        assert_eq!(InForce::default().decide(&[]), Verdict::Allowed(None));
        let needs = caps(&["memory:read:agent", "memory:write:agent"]);
        assert_eq!(InForce::default().decide(&needs), Verdict::Denied(needs[0].clone()));
    }

    #[test]
    fn one_of_several_needs_is_enough() {
        let in_force = InForce::new(caps(&["memory:write:agent"]), caps(&["memory:write:*"]));
        let needs = caps(&["memory:read:agent", "memory:write:agent"]);
        assert_eq!(in_force.decide(&needs), Verdict::Allowed(Some(needs[1].clone())));
    }
}
