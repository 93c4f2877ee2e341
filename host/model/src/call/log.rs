//! The interface `ltmc:agent/log`: log lines of an attempt.

use super::form::{Canonical, Request, Values};
use super::{Class, HostCall};
use crate::capability::Capability;
use crate::effect::LogLine;

interface! {
    /// Calls on the log.
    Log: LogCall { Write }
}

/// `log.write`: a line, kept once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write(pub LogLine);

impl HostCall for Write {
    type Reply = ();
    const NAME: &'static str = "log.write";
    const CLASS: Class = Class::Pure;
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::Log]
    }

    fn about(&self) -> String {
        self.0.level.as_str().to_owned()
    }

    fn request(&self) -> Request {
        Request::new("log", &self.0)
    }
}

impl Canonical for LogLine {
    fn write(&self, to: &mut Vec<u8>) {
        let mut list = Values::new().with(self.level.as_str()).with(&self.message);
        if !self.fields.is_empty() {
            let pairs = self.fields.iter().map(|(name, value)| Values::new().with(name).with(value));
            list = list.with(&pairs.fold(Values::new(), |all, pair| all.with(&pair)));
        }
        list.write(to);
    }
}
