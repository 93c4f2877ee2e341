//! Approvals: questions that runs ask people, looked at and answered.
//!
//! Invariants: who may answer is a role, never an agent; it is looked at when the question is shown and again, by what the journal
//! says was asked, in the moment in which the answer is taken. A question has one answer, which is journaled as one with looking whether it is still open.
//! Questions of a run that may not be seen are not there.

use ltmc_journal::History;
use ltmc_model::caller::{Caller, Role};
use ltmc_model::journal::Event;
use ltmc_model::question::{Asked, Question, Standing, Token};
use ltmc_model::workflow::Node;
use ltmc_model::{KeyId, Payload, Seq, StepPath, Timestamp};
use ltmc_policy::{Action, Denied};
use ltmc_ports::questions::QuestionFilter;
use ltmc_tenancy::Error;
use serde_json::Value;

use crate::judge;
use crate::runs::{Runs, may_see};

/// An answer to a question.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What is answered.
    pub answer: Value,
    /// What is said besides; it stands in the journal.
    pub comment: Option<String>,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The key that answered.
    pub by: KeyId,
    /// When it answered.
    pub at: Timestamp,
    /// The answer itself, as the question's schema has it.
    pub answer: Value,
    /// What was said besides.
    pub comment: Option<String>,
}

/// Entries of a journal that are looked through at once, and bytes of them.
const PAGE: u32 = 256;
const PAGE_BYTES: usize = 1 << 20;

impl Runs {
    /// Open questions that a caller may answer, those first that were asked first, after `filter.after`.
    ///
    /// # Errors
    /// Where the caller's role does not allow it, or the record does not answer.
    pub async fn questions(&self, caller: &Caller, filter: QuestionFilter) -> Result<Vec<Asked>, Error> {
        self.inner.ports.authority.authorize(caller, Action::Answer).await?;
        let of = ltmc_policy::may_answer_for(caller.role).to_vec();
        let by = (caller.role == Role::Caller).then(|| caller.key.clone());
        let filter = QuestionFilter { of, by, ..filter };
        Ok(self.inner.ports.questions.questions(&caller.tenant, &filter).await?)
    }

    /// A question that a caller may answer, or that was one.
    ///
    /// # Errors
    /// Where it is not there, or is another's to answer.
    pub async fn question(&self, caller: &Caller, token: &Token) -> Result<Asked, Error> {
        self.inner.ports.authority.authorize(caller, Action::Answer).await?;
        self.asked(caller, token).await
    }

    /// The answer that a question had, as its run's journal has it; none: it has none.
    ///
    /// # Errors
    /// Where it is not there, or is another's to answer.
    pub async fn answered(&self, caller: &Caller, token: &Token) -> Result<Option<Answered>, Error> {
        self.inner.ports.authority.authorize(caller, Action::Answer).await?;
        let asked = self.asked(caller, token).await?;
        if asked.standing != Standing::Answered {
            return Ok(None);
        }
        let (read, mut after) = (&self.inner.ports.read, Seq(0));
        loop {
            let page = read.page(&caller.tenant, asked.run, after, PAGE, PAGE_BYTES).await?;
            let Some(last) = page.last() else { return Ok(None) };
            after = last.seq;
            for placed in page {
                match placed.entry.event {
                    Event::Answered { token: of, by, answer, comment, .. } if of == *token => {
                        let answer = answer.to_value().map_err(|message| Error::Internal { message })?;
                        return Ok(Some(Answered { by, at: placed.entry.at, answer, comment }));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Answers a question. On return that is on disk, and its run goes on with it.
    ///
    /// # Errors
    /// Where it is not there, is another's to answer, is open no more, or asks for something else.
    pub async fn answer(&self, caller: &Caller, token: Token, answer: Answer) -> Result<(), Error> {
        let (runs, by) = (self.clone(), caller.clone());
        let work = async move { runs.take_answer(&by, &token, answer).await };
        self.inner.ports.authority.perform(caller, Action::Answer, work).await
    }

    async fn asked(&self, caller: &Caller, token: &Token) -> Result<Asked, Error> {
        let found = self.inner.ports.questions.question(&caller.tenant, token).await?;
        let asked = found.filter(|asked| may_see(caller, &asked.by)).ok_or_else(|| missing(token))?;
        match ltmc_policy::may_answer(caller, asked.question.of) {
            Ok(()) => Ok(asked),
            Err(denied) => Err(self.inner.ports.authority.refuse(caller, denied).await),
        }
    }

    async fn take_answer(&self, caller: &Caller, token: &Token, answer: Answer) -> Result<(), Error> {
        let Asked { run, node, standing, question, .. } = self.asked(caller, token).await?;
        if standing != Standing::Open {
            return Err(closed(standing));
        }
        let Answer { answer, comment } = answer;
        check_comment(comment.as_deref())?;
        let answer = Payload::json(&answer);
        self.check(caller, &question, &answer).await?;
        let answered =
            Event::Answered { node: node.clone(), token: token.clone(), by: caller.key.clone(), answer, comment };
        let decide = |history: &History| -> Result<Vec<Event>, Error> {
            let known = history.node(&node).and_then(|node| Some((node, node.asks.as_ref()?)));
            let (known, asks) =
                known.filter(|(_, asks)| asks.token == *token).ok_or_else(|| closed(Standing::Withdrawn))?;
            if history.ending().is_some() && !Node::is_undoing(&node, &StepPath::root()) {
                return Err(closed(Standing::Over));
            }
            if !known.is_waiting() {
                return Err(closed(if known.has_ended() && !known.is_cancelled {
                    Standing::Answered
                } else {
                    Standing::Withdrawn
                }));
            }
            ltmc_policy::may_answer(caller, asks.of).map_err(denied)?;
            let until = known.until;
            if until.is_some_and(|until| until <= self.inner.ports.clock.now()) {
                return Err(closed(Standing::Withdrawn));
            }
            Ok(vec![answered.clone()])
        };
        let taken = self.deliver(&caller.tenant, run, &decide).await;
        match taken {
            // What became of it since is told rather than that its run is not as it was; of a run that is paused, that it is.
            Err(error @ Error::Conflict { .. }) => {
                let now = self.inner.ports.questions.question(&caller.tenant, token).await?;
                let standing = now.ok_or_else(|| missing(token))?.standing;
                Err(if standing == Standing::Open { error } else { closed(standing) })
            }
            taken => taken,
        }
    }

    /// Whether an answer is what was asked for.
    async fn check(&self, caller: &Caller, question: &Question, answer: &Payload) -> Result<(), Error> {
        let bytes = answer.bytes.len();
        if bytes > Question::MAX_ANSWER {
            let most = Question::MAX_ANSWER;
            return Err(wrong("answer", format!("an answer has at most {most} bytes, this has {bytes}")));
        }
        let Some(schema) = &question.schema else { return Ok(()) };
        let judged = self.inner.ports.schemas.judge(&caller.tenant, schema, answer).await;
        let found = judged.map_err(judge::trouble)?;
        match judge::rejection(&found) {
            None => Ok(()),
            Some(rejection) => {
                Err(wrong("answer", format!("the answer is not what was asked for: {}", rejection.message)))
            }
        }
    }
}

fn denied(denied: Denied) -> Error {
    Error::Denied { why: denied.to_string() }
}

fn missing(token: &Token) -> Error {
    Error::not_found(format!("question `{token}`"))
}

fn wrong(field: &'static str, message: String) -> Error {
    Error::invalid("bad-answer", field, message)
}

fn check_comment(comment: Option<&str>) -> Result<(), Error> {
    let most = Question::MAX_COMMENT;
    match comment {
        Some(text) if text.len() > most => {
            Err(wrong("comment", format!("a comment has at most {most} bytes, this has {}", text.len())))
        }
        _ => Ok(()),
    }
}

/// Why a question takes no answer any more.
fn closed(standing: Standing) -> Error {
    let (code, message) = match standing {
        Standing::Answered => ("already-answered", "the question has its answer already: the first one counts"),
        Standing::Open | Standing::Withdrawn => {
            ("question-closed", "the question is open no more: it took too long, or is not needed any more")
        }
        Standing::Over => (
            "question-closed",
            "the question is open no more: its run is over, or being undone; where that is resumed it is asked anew",
        ),
    };
    Error::Conflict { code, message: message.into() }
}
