//! A rehearsal: the journaled host calls of an attempt, made again by another version of its agent, to see whether that goes on as the one
//! before it would.
//!
//! Invariants: nothing is performed and nothing is journaled. A call is answered from the journal where it is the one that stands there; the
//! first that is another ends the rehearsal. Once all of them were made it is over, and nothing that is asked then is answered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ltmc_model::call::Call;
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Effect;
use ltmc_model::{AgentName, Capability, Digest, TenantId, Timestamp};
use ltmc_policy::Verdict;
use ltmc_ports::runner::{Directory, Gate, Outcome};
use ltmc_tenancy::Authority;
use tokio::sync::Notify;

use crate::{broken, next_read};

/// Whether a call is the one that the journal has in its place.
pub(crate) enum Fits {
    /// It is.
    Same,
    /// It is another.
    Other,
    /// The journal has it in a form that a newer host wrote.
    Unknown,
}

impl Fits {
    /// Holds the call with this number against what is journaled.
    pub(crate) fn of(recorded: &Effect, number: u32, call: &Call) -> Self {
        match call.request_in(recorded.form) {
            None => Self::Unknown,
            Some(request)
                if recorded.number == number
                    && recorded.call == call.name()
                    && recorded.request == request.digest() =>
            {
                Self::Same
            }
            Some(_) => Self::Other,
        }
    }
}

/// One attempt's way to nothing but its journal.
pub struct Rehearsal {
    authority: Arc<Authority>,
    tenant: TenantId,
    agent: AgentName,
    component: Digest,
    held: Mutex<Held>,
    over: Notify,
}

struct Held {
    replay: VecDeque<Effect>,
    /// The number of the last call that was made.
    number: u32,
    /// What is to be read of the clock before the next call.
    clock: VecDeque<(Timestamp, u32)>,
    latest: Timestamp,
    /// Where it went apart.
    wrong: Option<String>,
}

impl Held {
    fn attend(&mut self) {
        self.clock = self.replay.front().map(|next| next.clock.iter().copied().collect()).unwrap_or_default();
    }
}

impl Rehearsal {
    /// Of a version of an agent, with what the journal has up to the last checkpoint.
    pub fn new(
        authority: Arc<Authority>,
        tenant: TenantId,
        agent: AgentName,
        component: Digest,
        replay: Vec<Effect>,
    ) -> Self {
        let latest = Timestamp::default();
        let mut held = Held { replay: replay.into(), number: 0, clock: VecDeque::new(), latest, wrong: None };
        held.attend();
        Self { authority, tenant, agent, component, held: Mutex::new(held), over: Notify::new() }
    }

    /// Comes when all calls were made, or one was another: whoever runs the version may end it.
    pub async fn over(&self) {
        self.over.notified().await;
    }

    /// What came of it, by how the version ended, where it did so by itself.
    ///
    /// # Errors
    /// Where it went apart, for people.
    pub fn came_to(&self, ended: Option<&Result<Outcome, Failure>>) -> Result<(), String> {
        let held = self.held();
        if let Some(wrong) = &held.wrong {
            return Err(wrong.clone());
        }
        let Some(next) = held.replay.front() else { return Ok(()) };
        let how = match ended {
            Some(Err(failure)) => failure.to_string(),
            Some(Ok(_)) | None => "it comes to its end".to_owned(),
        };
        Err(format!("before host call {}, which was {} ({}): {how}", next.number, next.call, next.about))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next one; what this version lacks for it stands beside it, and is no difference where the one before lacked it, too.
    fn made(&self, call: &Call, lacks: Option<Capability>) -> Result<Result<Reply, Refusal>, Failure> {
        let mut held = self.held();
        if held.wrong.is_some() {
            return Err(ended());
        }
        let Some(recorded) = held.replay.pop_front() else { return Err(ended()) };
        held.number += 1;
        let number = held.number;
        match Fits::of(&recorded, number, call) {
            Fits::Same if lacks.is_some() && !matches!(recorded.reply, Err(Refusal::Denied(_))) => {
                let lacks = lacks.map(|capability| capability.to_string()).unwrap_or_default();
                held.wrong = Some(format!(
                    "at host call {number}, which is {} ({}): `{lacks}` is not in force for this version, and was for the one before",
                    recorded.call, recorded.about
                ));
                self.over.notify_one();
                Err(ended())
            }
            Fits::Same => {
                held.attend();
                if held.replay.is_empty() {
                    self.over.notify_one();
                }
                Ok(recorded.reply)
            }
            found => {
                held.wrong = Some(match found {
                    Fits::Unknown => {
                        format!("at host call {number}: a newer version of the host journaled it, and can try")
                    }
                    _ => format!(
                        "at host call {number}, which is {} ({}), where the journal has {} ({})",
                        call.name(),
                        call.about(),
                        recorded.call,
                        recorded.about
                    ),
                });
                self.over.notify_one();
                Err(ended())
            }
        }
    }
}

fn ended() -> Failure {
    Failure::new(Code::Cancelled, "the rehearsal is over")
}

#[async_trait]
impl Gate for Rehearsal {
    async fn cross(&self, call: Call) -> Result<Result<Reply, Refusal>, Failure> {
        let in_force = self.authority.in_force(&self.tenant, &self.agent, &self.component).await;
        let verdict = in_force.map_err(|e| broken(&e))?.decide(&call.needs());
        if !matches!(call, Call::Log(_)) {
            let lacks = match verdict {
                Verdict::Allowed(_) => None,
                Verdict::Denied(capability) | Verdict::Withheld(capability) => Some(capability),
            };
            return self.made(&call, lacks);
        }
        // Lines are not journaled as effects: they are made again, and their refusal with them.
        Ok(match verdict {
            Verdict::Allowed(_) => Ok(Reply::Done),
            Verdict::Denied(capability) | Verdict::Withheld(capability) => Err(Refusal::Denied(capability)),
        })
    }

    async fn grants(&self, _: &Directory) -> bool {
        false
    }

    fn now(&self) -> Timestamp {
        let mut held = self.held();
        let at = next_read(&mut held.clock).unwrap_or(held.latest).max(held.latest);
        held.latest = at;
        at
    }

    fn stderr(&self, _: &str) {}
}

impl std::fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rehearsal").field("agent", &self.agent).finish_non_exhaustive()
    }
}
