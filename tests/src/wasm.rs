//! Components in text form, for what no compiler of a language would write: the files of `guests/wat`, and one that is
//! made to cost its compiler more than it may take.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The component (or module) of `guests/wat/NAME.wat`.
///
/// # Errors
/// Where there is none, or its text is wrong.
pub fn from_text(name: &str) -> Result<Vec<u8>> {
    let path = path(name);
    wat::parse_file(&path).with_context(|| format!("{} does not parse", path.display()))
}

/// Whether there is such a text.
pub fn is_text(name: &str) -> bool {
    path(name).exists()
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("guests/wat/{name}.wat"))
}

/// A command of one function with `blocks` blocks, each a function of the one before: cheap to write, dear to compile.
///
/// # Errors
/// Where its text is wrong.
pub fn compile_bomb(blocks: usize) -> Result<Vec<u8>> {
    let step = "(local.set $a (i64.add (i64.mul (local.get $a) (local.get $b)) (i64.rotl (local.get $b) (local.get $a))))\
                (if (i64.lt_s (local.get $a) (local.get $b)) (then (local.set $b (i64.xor (local.get $a) (i64.const 7)))))\n";
    let text = format!(
        "(component (core module $guest (func (export \"run\") (result i32) (local $a i64) (local $b i64)\n{}\
         (i32.wrap_i64 (i64.and (local.get $a) (i64.const 0)))))\
         (core instance $guest (instantiate $guest))\
         (func $run (result (result)) (canon lift (core func $guest \"run\")))\
         (instance $exported (export \"run\" (func $run)))\
         (export \"wasi:cli/run@0.2.6\" (instance $exported)))",
        step.repeat(blocks)
    );
    wat::parse_str(text).context("the bomb's text does not parse")
}
