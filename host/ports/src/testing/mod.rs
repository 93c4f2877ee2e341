//! In-memory adapters, and one contract suite per port that every adapter passes.
