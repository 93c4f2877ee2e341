//! The conversation that a turn is part of, against the in-memory host; and what docs/sessions.md shows, compiled and run: every block of Rust in it
//! stands in this file.

use ltmc::Error;
use ltmc::testing::Host;

fn told() -> Result<Vec<String>, Error> {
    let before = ltmc::session::history(10)?;
    let said = before.iter().map(|it| String::from_utf8_lossy(&it.message.bytes));
    Ok(said.map(|said| said.into_owned()).collect())
}

#[test]
fn what_was_said_before_is_told_in_its_order() {
    let host = Host::new().grant("session:history");
    host.said("My parcel has not come.", Some("Which one?"));
    host.said("Order 4711.", None);
    assert_eq!(host.within(told).unwrap(), ["My parcel has not come.", "Order 4711."]);
    let denied = Host::new();
    assert!(matches!(denied.within(told), Err(Error::AccessDenied(_))));
}

#[test]
fn every_block_of_rust_stands_in_this_file() {
    let page = include_str!("../../docs/sessions.md");
    let dense = |text: &str| text.split_whitespace().collect::<String>();
    let here = dense(include_str!("sessions.rs"));
    let blocks: Vec<&str> = page.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 1);
    for block in blocks {
        assert!(here.contains(&dense(block)), "this block is not compiled anywhere:\n{block}");
    }
}
