//! What every store does with questions: rows that follow journals.

use ltmc_model::caller::Role;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Entry, Event};
use ltmc_model::question::{Asked, Question, Standing, Token};
use ltmc_model::run::State;
use ltmc_model::workflow::Node;
use ltmc_model::{Payload, StepPath};

use super::{Fixture, Store};
use crate::Durability::{Barrier, Lazy};
use crate::questions::QuestionFilter;
use crate::testing::sample::{Owner, at, tenant};
use crate::{ReadQuestions as _, WriteJournal as _};

fn token(number: u64) -> Token {
    format!("{number:032x}").parse().expect("a token")
}

fn node(number: u64) -> StepPath {
    StepPath::root().child(usize::try_from(number).unwrap_or(0))
}

/// That node `number` asks question `number`, at that moment.
fn ask(number: u64, of: Role) -> Entry {
    let question = Question {
        title: format!("question {number}"),
        of,
        show: Some(Payload::text("this")),
        schema: Some("true".into()),
        until: Some(at(9)),
    };
    Entry {
        at: at(number),
        event: Event::Asked { node: node(number), token: token(number), question: Box::new(question) },
    }
}

fn answer(number: u64) -> Entry {
    let (by, answer) = ("abcdefghijkl".parse().expect("a key's id"), Payload::json(&true.into()));
    let event = Event::Answered { node: node(number), token: token(number), by, answer, comment: None };
    Entry { at: at(number), event }
}

fn everything() -> QuestionFilter {
    QuestionFilter { of: vec![Role::Admin, Role::Author, Role::Caller], limit: 100, ..QuestionFilter::default() }
}

async fn open<S: Store>(store: &S, of: &str, filter: &QuestionFilter) -> Vec<Token> {
    store.questions(&tenant(of), filter).await.unwrap().into_iter().map(|asked| asked.token).collect()
}

async fn standing<S: Store>(store: &S, number: u64) -> Standing {
    store.question(&tenant("acme"), &token(number)).await.unwrap().unwrap().standing
}

/// A question is open until it is answered or withdrawn.
pub async fn a_question_is_open_until_it_is_answered_or_withdrawn<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    store.append(owner.append(1), Lazy).await.unwrap();
    store.append(owner.write(vec![ask(1, Role::Admin), ask(2, Role::Admin), ask(3, Role::Admin)]), Lazy).await.unwrap();
    let whole = store.question(&tenant("acme"), &token(1)).await.unwrap().unwrap();
    let Event::Asked { question, .. } = ask(1, Role::Admin).event else { unreachable!("it asks") };
    let (run, by) = (owner.row.id, owner.row.by.clone());
    let wanted =
        Asked { token: token(1), run, node: node(1), by, at: at(1), standing: Standing::Open, question: *question };
    assert_eq!(whole, wanted);
    assert_eq!(open(&*store, "acme", &everything()).await, [1, 2, 3].map(token));
    let withdrawn = Entry { at: at(4), event: Event::WaitCancelled { node: node(3) } };
    store.append(owner.write(vec![answer(2), withdrawn]), Lazy).await.unwrap();
    assert_eq!(open(&*store, "acme", &everything()).await, [token(1)]);
    assert_eq!((standing(&*store, 2).await, standing(&*store, 3).await), (Standing::Answered, Standing::Withdrawn));
    let closed = store.question(&tenant("acme"), &token(2)).await.unwrap().unwrap().question;
    assert_eq!((closed.title.as_str(), closed.show), ("question 2", None), "of one that is closed little is kept");
    assert_eq!(store.question(&tenant("acme"), &token(9)).await.unwrap(), None);
    assert_eq!(store.question(&tenant("beta"), &token(1)).await.unwrap(), None, "another tenant's is not there");
}

/// A run that is over has no open questions; one that is completed waits for nothing.
pub async fn a_run_that_is_over_has_no_open_questions<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for (number, state) in (1..).zip([State::Failed, State::Cancelled, State::Quarantined]) {
        let mut owner = Owner::new("acme", number);
        store.append(owner.append(1), Lazy).await.unwrap();
        store.append(owner.write(vec![ask(number, Role::Admin)]), Lazy).await.unwrap();
        assert_eq!(open(&*store, "acme", &everything()).await, [token(number)]);
        owner.row.state = state;
        store.append(owner.append(1), Lazy).await.unwrap();
        assert_eq!(
            (open(&*store, "acme", &everything()).await, standing(&*store, number).await),
            (vec![], Standing::Over)
        );
    }
}

/// What a run asks is open no more once that is being undone; what undoes it asks on.
pub async fn a_run_that_is_being_undone_asks_nothing_of_its_own<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let failing = Event::RunFailing { failure: Failure::new(Code::AgentError, "no") };
    let cancelling = Event::RunCancelling { by: None, reason: "enough".into() };
    for (number, ends) in (1..).zip([failing, cancelling]) {
        let mut owner = Owner::new("acme", number);
        let undoing = StepPath::root().child(Node::COMPENSATION).child(0);
        let own = ask(number, Role::Admin);
        let mut undoes = ask(number + 10, Role::Admin);
        if let Event::Asked { node, .. } = &mut undoes.event {
            *node = undoing;
        }
        store.append(owner.append(1), Lazy).await.unwrap();
        store.append(owner.write(vec![own, undoes, Entry { at: at(number), event: ends }]), Lazy).await.unwrap();
        assert_eq!(open(&*store, "acme", &everything()).await, [token(number + 10)]);
        assert_eq!(standing(&*store, number).await, Standing::Over);
        owner.row.state = State::Cancelled;
        store.append(owner.append(1), Lazy).await.unwrap();
    }
}

/// Lists of questions obey every filter and are paged, those first that were asked first.
pub async fn lists_of_questions_obey_every_filter_and_are_paged<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let roles = [Role::Admin, Role::Author, Role::Caller];
    for (number, of) in (1..).zip([roles, roles].concat()) {
        let mut owner = Owner::new("acme", number);
        if number > 3 {
            owner.row.by = "zyxwvutsrqpo".parse().expect("a key's id");
        }
        store.append(owner.append(1), Lazy).await.unwrap();
        store.append(owner.write(vec![ask(number, of)]), Lazy).await.unwrap();
    }
    let of = QuestionFilter { of: vec![Role::Author, Role::Caller], ..everything() };
    assert_eq!(open(&*store, "acme", &of).await, [2, 3, 5, 6].map(token));
    let by = QuestionFilter { by: Some("zyxwvutsrqpo".parse().expect("a key's id")), ..everything() };
    assert_eq!(open(&*store, "acme", &by).await, [4, 5, 6].map(token));
    let nobody = QuestionFilter { of: Vec::new(), ..everything() };
    assert!(open(&*store, "acme", &nobody).await.is_empty());
    assert!(open(&*store, "beta", &everything()).await.is_empty());
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|asked: &Asked| (asked.at, asked.token.clone()));
        let page = store.questions(&tenant("acme"), &QuestionFilter { after, limit: 2, ..everything() }).await.unwrap();
        if page.is_empty() {
            break;
        }
        found.extend(page);
    }
    assert_eq!(found.iter().map(|asked| asked.token.clone()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6].map(token));
    assert!(found.iter().all(|asked| asked.question.show.is_none()), "a list has what is shown of none");
}

/// Questions outlive the host, as the journal does.
pub async fn questions_outlive_the_host<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    store.append(owner.append(1), Lazy).await.unwrap();
    store.append(owner.write(vec![ask(1, Role::Admin), ask(2, Role::Admin)]), Lazy).await.unwrap();
    store.append(owner.write(vec![answer(1)]), Barrier).await.unwrap();
    let store = fixture.crash(store).await;
    assert_eq!(
        (open(&*store, "acme", &everything()).await, standing(&*store, 1).await),
        (vec![token(2)], Standing::Answered)
    );
}
