//! Pictures of workflow documents: as text for a terminal, and as SVG.
//!
//! Invariants: every node of a document is drawn once, under its place in the tree; boxes stand beside each other, or one inside of
//! the other where that is what the document says. Whatever a document has in it is text in a picture and nothing else. Pure: no I/O.
//!
//! - [`figure`]: what is drawn of a document, the same for every form of picture
//! - `text`: a tree of lines
//! - `layout`: where everything stands, a document being a tree; `svg`: written out
//! - [`state`]: what became of each node in a run
//!
//! To draw a new node: its arm in `figure.rs`, which does not compile before.

pub mod figure;
mod layout;
mod note;
pub mod state;
mod svg;
mod text;

pub use figure::Figure;
pub use state::{Seen, Status};
