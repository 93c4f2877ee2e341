-- The revision of what a key of a session's memory held before a turn: what the chain commits to has it. Null: nothing, or kept before this.

alter table session_keeps add column revision integer;
