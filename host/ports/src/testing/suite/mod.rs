//! One contract suite per port. A case takes a [`Fixture`] and panics where the contract is broken.

use std::sync::Arc;

use async_trait::async_trait;

use super::MemoryRecord;
use crate::{
    Purge, ReadCascades, ReadCatalog, ReadChains, ReadJournal, ReadLog, ReadMemory, ReadQuestions, ReadSchedules,
    ReadSessions, ReadStates, ReadTriggers, TakeUps, Waits, WriteCatalog, WriteJournal, WriteSchedules, WriteTriggers,
};

pub mod bus;
pub mod catalog;
pub mod chains;
pub mod embedder;
pub mod expect;
pub mod graph;
pub mod journal;
pub mod memory;
pub mod projection;
pub mod provenance;
pub mod purge;
pub mod questions;
pub mod record;
pub mod schedules;
pub mod sessions;
pub mod states;
pub mod triggers;
pub mod vectors;
pub mod waits;

/// A store that has all the ports.
pub trait Store:
    WriteJournal
    + TakeUps
    + ReadJournal
    + ReadLog
    + ReadQuestions
    + Waits
    + ReadMemory
    + WriteCatalog
    + ReadCatalog
    + Purge
    + ReadChains
    + WriteSchedules
    + ReadSchedules
    + ReadSessions
    + ReadStates
    + ReadTriggers
    + ReadCascades
    + WriteTriggers
    + 'static
{
}

impl<S> Store for S where
    S: WriteJournal
        + TakeUps
        + ReadJournal
        + ReadLog
        + ReadQuestions
        + Waits
        + ReadMemory
        + WriteCatalog
        + ReadCatalog
        + Purge
        + ReadChains
        + WriteSchedules
        + ReadSchedules
        + ReadSessions
        + ReadStates
        + ReadTriggers
        + ReadCascades
        + WriteTriggers
        + 'static
{
}

/// How a suite gets a store.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The store that the suite is run against.
    type Store: Store;

    /// An empty one.
    async fn fresh(&self) -> Arc<Self::Store>;

    /// The host dies, and opens what is left again. Nobody else has a reference to `store`.
    async fn crash(&self, store: Arc<Self::Store>) -> Arc<Self::Store>;
}

/// The in-memory record.
#[derive(Debug, Default)]
pub struct InMemory;

#[async_trait]
impl Fixture for InMemory {
    type Store = MemoryRecord;

    async fn fresh(&self) -> Arc<MemoryRecord> {
        MemoryRecord::new()
    }

    async fn crash(&self, store: Arc<MemoryRecord>) -> Arc<MemoryRecord> {
        store.crash()
    }
}

/// Makes a test of every case of every suite: `ltmc_ports::contract!(MyFixture::default());`. The crate needs tokio's macros.
#[macro_export]
macro_rules! contract {
    ($fixture:expr) => {
        $crate::contract! { @port journal, $fixture;
            entries_come_back_in_order_and_in_pages
            a_page_is_bounded_in_bytes_and_has_an_entry_at_least
            another_length_is_a_conflict
            a_new_run_exists_once
            a_claim_fences_the_owner_before
            two_owners_at_once_never_both_write
            the_last_two_snapshots_of_a_run_are_kept
            a_run_that_the_record_lost_is_fenced
            lazy_appends_are_seen_at_once
            a_barrier_is_durable_with_all_before_it
            an_empty_barrier_makes_durable
            nothing_of_a_refused_append_is_recorded
            rows_say_what_was_written
            lists_of_runs_obey_every_filter
            unfinished_runs_are_found_again
            suspended_runs_stand_in_the_order_in_which_they_go_on
            the_end_of_a_run_makes_its_parent_and_its_children_due
            how_often_a_run_was_taken_up_outlives_the_host
            idempotency_keys_expire
            an_idempotency_key_starts_one_run
            tenants_with_the_same_names_never_meet
            large_payloads_come_back
            many_at_once_are_all_there_and_the_chain_is_whole
        }
        $crate::contract! { @port questions, $fixture;
            a_question_is_open_until_it_is_answered_or_withdrawn
            a_run_that_is_over_has_no_open_questions
            a_run_that_is_being_undone_asks_nothing_of_its_own
            lists_of_questions_obey_every_filter_and_are_paged
            questions_outlive_the_host
        }
        $crate::contract! { @port waits, $fixture;
            an_event_makes_those_due_that_may_wait_for_it_and_no_others
            events_of_a_subject_are_found_in_their_order
            who_is_suspended_without_knowing_of_an_event_is_due_at_once
            who_is_over_or_has_its_event_waits_no_more
            waits_outlive_the_host
            so_many_wait_for_the_same_and_no_more
        }
        $crate::contract! { @port expect, $fixture;
            a_key_stands_where_it_is_expected
            what_has_expired_is_not_expected
            a_part_of_the_record_is_as_it_was_at_a_place_of_the_log
            revisions_of_a_key_and_of_a_note_only_grow
            facts_and_notes_stand_where_they_are_expected
            messages_are_where_they_are_expected
            what_is_bounded_stays_within_its_bound
            an_act_is_refused_where_its_ground_is_gone
            sixteen_who_decide_on_what_they_read_lose_nothing
        }
        $crate::contract! { @port memory, $fixture;
            what_was_put_is_got_until_deleted
            a_value_may_be_empty
            the_last_change_of_an_append_counts
            drawers_and_tenants_never_meet
            what_has_expired_is_not_there
            lists_are_by_prefix_in_byte_order
            lists_are_paged_by_cursor
            lists_are_bounded_in_bytes
            lists_see_what_is_not_on_disk_yet
            revisions_only_grow
            revisions_are_each_tenants_own
            usage_counts_keys_and_values_of_the_tenant
        }
        $crate::contract! { @port catalog, $fixture;
            tenants_are_made_once_and_listed
            ceilings_have_a_default
            keys_are_made_once_and_revoked_by_their_tenant
            agents_have_versions_and_a_newest_one
            deleted_agents_leave_nothing
            grants_are_set_whole
            grants_are_a_version_s
            only_the_newest_versions_have_grants
            workflows_are_put_and_deleted
            components_are_in_use_while_any_tenant_has_them
            catalogs_of_tenants_never_meet
            a_deleted_tenant_is_written_no_more_and_its_name_is_free_once_nothing_is_left
            every_act_is_in_the_ledger_and_durable
            a_refused_act_leaves_no_trace
        }
        $crate::contract! { @port schedules, $fixture;
            schedules_follow_their_document
            a_schedule_that_stays_the_same_goes_on_as_it_was
            a_tick_starts_one_run
            a_start_that_is_to_be_alone_waits_for_the_run_before
            ticks_that_start_nothing_are_dealt_with_once
            paused_schedules_start_nothing
            schedules_stand_in_the_order_in_which_they_come
            a_tenant_has_so_many_schedules
        }
        $crate::contract! { @port states, $fixture;
            timers_follow_what_is_kept_of_states
        }
        $crate::contract! { @port sessions, $fixture;
            turns_begin_one_after_the_other
            nobody_fills_a_session
            a_place_is_taken_once
            a_turn_that_is_not_at_work_changes_nothing
            sessions_close_and_expire
            sessions_that_are_due_are_read_tenant_by_tenant
            a_session_that_is_closed_at_once_begins_nothing
            what_undoes_a_turn_may_come_late
            what_memory_held_after_a_turn_is_kept
            a_conversation_is_handed_on_by_the_turn_at_work_and_between_turns
            a_session_is_summed_up_and_its_memory_archived
            who_belongs_to_a_turn_that_is_undone_or_over_writes_no_memory
            keys_come_and_go_in_a_session
            sessions_of_two_tenants_by_one_name_are_two
            lists_of_sessions_obey_every_filter
            sessions_outlive_the_host
        }
        $crate::contract! { @port triggers, $fixture;
            subscriptions_follow_acts
            what_came_is_taken_in_once
            an_event_starts_one_run
            dead_letters_are_released_and_skipped
            what_is_told_of_events_is_bounded
            what_is_published_makes_subscriptions_due
            what_changes_in_memory_makes_subscriptions_due
            events_that_were_gathered_start_one_run
            a_tenant_has_so_many_subscriptions
            so_many_events_follow_from_one
            what_follows_from_an_event_is_found
        }
        $crate::contract! { @port purge, $fixture;
            only_deleted_tenants_are_purged
            a_deleted_tenant_goes_piece_by_piece_and_is_written_no_more
            who_has_a_deleted_tenant_s_name_is_another
        }
        $crate::contract! { @port chains, $fixture;
            a_chain_ends_with_the_hash_over_all_of_its_entries
            ends_of_chains_are_in_the_order_of_names_and_in_pages
            no_crash_takes_back_an_end_that_was_told
        }
    };
    (@port $port:ident, $fixture:expr; $($case:ident)*) => {
        mod $port {
            #[allow(unused_imports, reason = "a fixture may need nothing of the module above")]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $crate::testing::suite::$port::$case(&$fixture).await;
                }
            )*
        }
    };
}

#[cfg(test)]
mod tests {
    use super::InMemory;
    crate::contract!(InMemory);
}
