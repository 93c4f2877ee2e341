//! What must agree in a house at any moment, and what must be so where nothing is under way.

use ltmc_model::Digest;
use ltmc_model::caller::Role;
use ltmc_model::question::Standing as Asking;
use ltmc_model::run::Run;
use ltmc_model::session::Stage;
use ltmc_model::trigger::Stage as Dealt;
use ltmc_policy::InForce;
use ltmc_ports::questions::QuestionFilter;
use ltmc_ports::recall::IndexId;
use ltmc_ports::{
    ReadCatalog as _, ReadJournal as _, ReadNotes as _, ReadQuestions as _, ReadTriggers as _, Vectors as _,
};

use crate::house::{House, echo, first, flow, newest, second, tenant};

impl House {
    /// Panics where anything is counted as alive, or goes on.
    pub(crate) async fn is_at_rest(&self, when: &str) {
        assert_eq!(self.runs.alive(), 0, "{when}: runs are counted as alive");
        assert_eq!(self.runs.input_bytes(), 0, "{when}: inputs of runs are counted");
        assert_eq!(self.authority.tasks().under_way(), 0, "{when}: tasks are counted as under way");
        assert_eq!(self.context.overlays.out(), 0, "{when}: changes that are not true are counted");
    }

    /// Panics where record, caches, registry and tasks do not agree.
    pub(crate) async fn agrees(&self, when: &str) {
        let runs = self.all_runs().await;
        // One that waits for long is a row and nothing else.
        let under_way = self.record.unfinished(None, 100).await.unwrap();
        assert_eq!(
            self.runs.alive(),
            under_way.len(),
            "{when}: a run is under way without a task, or has one and is not"
        );
        self.sessions_agree(when, &runs).await;
        self.subscriptions_agree(when, &runs).await;
        self.questions_agree(when, &runs).await;
        self.notes_agree(when).await;
        self.catalog_agrees(when).await;
    }

    /// A session's turns are over just where their runs are, and one at most is at work.
    async fn sessions_agree(&self, when: &str, runs: &[Run]) {
        for session in self.all_sessions().await {
            let turns = self.turns(&session.id).await;
            let own = turns.iter().filter(|(turn, _)| turn.number > session.copied);
            let mut queued = 0;
            for (turn, state) in own {
                assert_eq!(turn.stage == Stage::Over, state.is_final(), "{when}: {turn:?} is {}", state.as_str());
                let is_active = session.active.is_some_and(|active| active.run == turn.run);
                assert_eq!(turn.stage == Stage::Active, is_active, "{when}: {turn:?} of {session:?}");
                queued += u32::from(turn.stage == Stage::Queued);
                let is_ended = turn.number >= session.interrupted || turn.stage == Stage::Over;
                assert!(is_ended, "{when}: {turn:?} was interrupted and goes on");
            }
            assert_eq!(session.queued, queued, "{when}: turns that wait");
            let of = runs.iter().filter(|run| run.session == session.id && run.turn.is_some()).count();
            let copied = turns.iter().filter(|(turn, _)| turn.number <= session.copied).count();
            assert_eq!(of + copied, turns.len(), "{when}: each turn is a run");
        }
    }

    /// What a subscription counts is there, and what is under way has a run that is.
    async fn subscriptions_agree(&self, when: &str, runs: &[Run]) {
        let arrivals = self.arrivals().await;
        let rows = self.record.triggers(&tenant(), None, 100).await.unwrap();
        for row in &rows {
            let of = |is: fn(Dealt) -> bool| arrivals.iter().filter(|one| one.id == row.id && is(one.stage)).count();
            let counted = [row.waiting, row.under_way, row.dead].map(|count| count as usize);
            let there = [
                of(|stage| stage == Dealt::Waiting),
                of(|stage| stage == Dealt::UnderWay),
                of(|stage| matches!(stage, Dealt::Parked | Dealt::Dead)),
            ];
            assert_eq!(counted, there, "{when}: what subscription {} counts", row.id);
        }
        for one in arrivals {
            assert!(rows.iter().any(|row| row.id == one.id), "{when}: an event of a subscription that is not there");
            let run = runs.iter().find(|run| Some(run.id) == one.run);
            let is_under_way = run.is_some_and(|run| !run.state.is_over());
            assert_eq!(one.stage == Dealt::UnderWay, is_under_way, "{when}: {one:?}");
        }
    }

    /// Whatever is asked is asked by a run that waits.
    async fn questions_agree(&self, when: &str, runs: &[Run]) {
        let of = vec![Role::Caller, Role::Author, Role::Admin];
        let filter = QuestionFilter { of, limit: 100, ..QuestionFilter::default() };
        for asked in self.record.questions(&tenant(), &filter).await.unwrap() {
            assert_eq!(asked.standing, Asking::Open);
            let waits = runs.iter().any(|run| run.id == asked.run && !run.state.is_final());
            assert!(waits, "{when}: a question is open of a run that is over");
        }
    }

    /// The index of notes, where there is one, has just what the record has.
    async fn notes_agree(&self, when: &str) {
        let place = IndexId { tenant: tenant(), embedder: self.index.embedder().id().clone() };
        if self.vectors.stamp(&place).await.unwrap().is_some() {
            let there = self.vectors.ids(&place).await.unwrap();
            let kept = self.record.vectors(&place.tenant, &place.embedder, None, u32::MAX).await.unwrap();
            assert_eq!(there, kept.iter().map(|passage| passage.id).collect::<Vec<_>>(), "{when}: vectors");
        }
    }

    async fn catalog_agrees(&self, when: &str) {
        let (record, acme, agent) = (&self.record, tenant(), newest());
        let texts = self.texts.lock().unwrap().clone();
        for (id, text) in texts {
            let good = record.key(&id).await.unwrap().is_some_and(|key| key.revoked_at.is_none());
            assert_eq!(self.access.authenticate(&text).await.is_ok(), good, "{when}: a key");
        }
        let ceiling = record.ceiling(&acme).await.unwrap();
        for version in [first(), second()] {
            let granted = record.grants(&acme, &echo(), &version).await.unwrap();
            let in_force = InForce::new(granted.capabilities, ceiling.capabilities.clone());
            let believed = self.authority.in_force(&acme, &echo(), &version).await.unwrap();
            assert_eq!(*believed, in_force, "{when}: what is in force");
        }
        assert_eq!(*self.authority.ceiling(&acme).await.unwrap(), ceiling, "{when}: the ceiling");
        let there = record.agent(&acme, &echo(), None).await.unwrap();
        let known = self.authority.agent(&acme, &agent).await.unwrap();
        assert_eq!(known.as_deref(), there.as_ref(), "{when}: the agent");
        let there = record.workflow(&acme, &flow()).await.unwrap();
        let known = self.authority.workflow(&acme, &flow()).await.unwrap();
        assert_eq!(known.as_deref(), there.as_ref(), "{when}: the workflow");
        let shelf = self.shelf.0.lock().unwrap().clone();
        for digest in shelf {
            let older = Digest::of(b"first");
            let needed = digest == older || record.component_in_use(&digest).await.unwrap();
            assert!(needed, "{when}: a component stands on the shelf that nobody has");
        }
    }
}
