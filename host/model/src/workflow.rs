//! Workflow documents: a name and a tree of patterns.
