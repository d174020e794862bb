//! Three ways to the same functions, and tests that go all three.

use std::future::Future;

/// Where a test stands when it calls, serves, and reads what is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// In the program, beside the workers.
    #[default]
    InProcess,
    /// Outside, as a program of the official SDK that is connected to the embedded engine. The workers are inside it.
    Listener,
    /// Outside, too. The engine hosts nothing; the workers are connected to it as the test is.
    Connect,
}

tokio::task_local! {
    static HERE: Way;
}

impl Way {
    /// The way of the test that runs; [`Way::InProcess`] in tests that do not say.
    pub(crate) fn here() -> Self {
        HERE.try_with(|way| *way).unwrap_or_default()
    }

    /// Runs a test this way.
    pub(crate) async fn go(self, test: impl Future<Output = ()>) {
        HERE.scope(self, Box::pin(test)).await;
    }
}

/// Makes three tests of each function: `name::in_process`, `name::listener` and `name::connect`. They assert the same
/// texts, rows, events and order, so what differs between the ways is a failure.
macro_rules! three_ways {
    ($($name:ident $(on $threads:literal threads)?),+ $(,)?) => {
        $(
            mod $name {
                use $crate::support::way::Way;

                #[tokio::test $((flavor = "multi_thread", worker_threads = $threads))?]
                async fn in_process() {
                    Way::InProcess.go(super::$name()).await;
                }

                #[tokio::test $((flavor = "multi_thread", worker_threads = $threads))?]
                async fn listener() {
                    Way::Listener.go(super::$name()).await;
                }

                #[tokio::test $((flavor = "multi_thread", worker_threads = $threads))?]
                async fn connect() {
                    Way::Connect.go(super::$name()).await;
                }
            }
        )+
    };
}

pub(crate) use three_ways;
