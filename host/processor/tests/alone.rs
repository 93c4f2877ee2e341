//! In a process of its own, for all that a process does is divided in one place: here nobody else wants the processor, and what goes
//! over to the lanes does so because one poll of it took long, and for no other reason.

use std::thread;
use std::time::{Duration, Instant};

use ltmc_processor::{Account, run};

fn lane() -> bool {
    thread::current().name() == Some("lane")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_long_poll_is_enough_also_where_nobody_else_wants_the_processor() {
    let work = async {
        assert!(!lane());
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        tokio::task::yield_now().await;
        lane()
    };
    assert!(run(Account::of(&"alone".parse().unwrap()), work).await);
}
