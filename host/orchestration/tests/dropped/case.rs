//! What a case is, and how it is asked for and dropped at every await point.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ltmc_tenancy::Error;

use crate::house::{House, cut, in_paused_time};

/// More polls than any use case takes.
pub(crate) const MANY: usize = 600;
/// Within so long whatever is done on a task of the host's is done, and nothing else is that comes by as time goes by.
const SHORTLY: Duration = Duration::from_secs(1);

/// Something that is done in a house.
pub(crate) type Asks<T> = fn(Arc<House>) -> BoxFuture<'static, T>;

/// A use case.
pub(crate) struct Case {
    /// What stands there before.
    pub(crate) before: Asks<()>,
    /// Whether something of that is under way still, and has nothing to come to its end by.
    pub(crate) is_during: bool,
    /// What is asked for.
    pub(crate) ask: Asks<Result<(), Error>>,
    /// What a retry may be answered where the first was done already.
    pub(crate) again: &'static [&'static str],
    /// Whether all that was asked for is there, or nothing of it: a moment after it was dropped, before anything is asked again.
    pub(crate) whole: Asks<bool>,
    /// Whether all that was asked for is there, after a retry.
    pub(crate) done: Asks<bool>,
}

/// The cases of a file: their names, and the sites of the source that each goes through.
pub(crate) type Covered = &'static [(&'static str, &'static [&'static str])];

/// What an error says of itself.
pub(crate) fn code(error: &Error) -> &'static str {
    match error {
        Error::NotFound { .. } => "not-found",
        Error::Conflict { .. } => "conflict",
        Error::Invalid { .. } => "invalid",
        _ => "another",
    }
}

/// Asks for it, and drops what was asked after 0, 1, 2, … polls, until it is answered.
pub(crate) fn dropped_everywhere(name: &str, case: &Case) {
    let mut cuts = 0;
    for polls in 0.. {
        assert!(polls < MANY, "{name}: it is not done after {MANY} polls");
        let answered = in_paused_time(async {
            let house = House::new().await;
            (case.before)(house.clone()).await;
            if !case.is_during {
                house.settle().await;
                house.is_at_rest(&format!("{name}, before")).await;
            }
            house.agrees(&format!("{name}, before")).await;
            let reader = tokio::spawn({
                let house = house.clone();
                // So many times that it is at it longer than any of these takes.
                async move { cut(house.read_on(), 2 * MANY).await }
            });
            let first = cut((case.ask)(house.clone()), polls).await;
            let when = format!("{name}, dropped after {polls} polls");
            reader.await.unwrap();
            tokio::time::sleep(SHORTLY).await;
            assert!((case.whole)(house.clone()).await, "{when}: it is half done");
            house.settle().await;
            if !case.is_during {
                house.is_at_rest(&when).await;
            }
            house.agrees(&when).await;
            if let Some(first) = &first {
                assert!(first.is_ok(), "{name}, not dropped: {first:?}");
            }
            let retry = tokio::time::timeout(Duration::from_secs(3_600), (case.ask)(house.clone())).await;
            match retry.unwrap_or_else(|_| panic!("{when}: a retry is not answered")) {
                Ok(()) => {}
                Err(error) => assert!(case.again.contains(&code(&error)), "{when}: a retry gives {error:?}"),
            }
            house.settle().await;
            house.agrees(&format!("{when}, and asked again")).await;
            house.is_at_rest(&format!("{when}, and asked again")).await;
            assert!((case.done)(house).await, "{when}: a retry does not give what the first would have given");
            first.is_some()
        });
        if answered {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 2, "{name}: it was dropped at {cuts} points only");
}

/// Nothing stands there but what stands in every house.
pub(crate) fn nothing(_: Arc<House>) -> BoxFuture<'static, ()> {
    async {}.boxed()
}

/// Nothing is to be looked at before a retry but what every house is looked at for.
pub(crate) fn in_one_act(_: Arc<House>) -> BoxFuture<'static, bool> {
    async { true }.boxed()
}

/// A test for each case, and the list of them.
macro_rules! dropped {
    (@during before) => { false };
    (@during during) => { true };
    (@whole) => { $crate::case::in_one_act };
    (@whole $whole:expr) => { |house| async move { $whole(house).await }.boxed() };
    ($(
        $(#[$about:meta])*
        $name:ident:
            of [$($site:literal),+],
            $when:ident $before:expr,
            ask $ask:expr,
            again $again:expr,
            $(whole $whole:expr,)?
            done $done:expr;
    )*) => {
        pub(crate) const COVERED: $crate::case::Covered = &[$((stringify!($name), &[$($site),+])),*];
        $(
            $(#[$about])*
            #[test]
            fn $name() {
                use futures::FutureExt as _;
                let (ask, done): (
                    $crate::case::Asks<Result<(), ltmc_tenancy::Error>>,
                    $crate::case::Asks<bool>,
                ) = (|house| async move { $ask(house).await }.boxed(), |house| async move { $done(house).await }.boxed());
                let whole: $crate::case::Asks<bool> = dropped!(@whole $($whole)?);
                let before: $crate::case::Asks<()> = $before;
                let is_during = dropped!(@during $when);
                let case = $crate::case::Case { before, is_during, ask, again: &$again, whole, done };
                $crate::case::dropped_everywhere(stringify!($name), &case);
            }
        )*
    };
}

pub(crate) use dropped;
