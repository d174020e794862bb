//! What stands between a bus and its engine and is interested in calls and commits alone.

/// The other methods of a [`Transport`](harness::bus::Transport), passed on to the one in this field. A call with a limit
/// of its own goes the way of the others.
macro_rules! pass_on_to {
    ($inner:tt) => {
        crate::support::pass_on::pass_on_to!($inner, owned);

        fn ownership(&self) -> tokio::sync::watch::Receiver<Option<std::sync::Arc<str>>> {
            self.$inner.ownership()
        }
    };
    // All but the ownership.
    ($inner:tt, owned) => {
        fn start(&self, bus: harness::bus::Bus) -> harness::bus::CallFuture<()> {
            self.$inner.start(bus)
        }

        fn registered(&self, function: harness::bus::FunctionDef) {
            self.$inner.registered(function);
        }

        fn unregistered(&self, id: &str) {
            self.$inner.unregistered(id);
        }

        fn settle(&self) -> harness::bus::CallFuture<()> {
            self.$inner.settle()
        }

        fn link(&self) -> tokio::sync::watch::Receiver<harness::bus::Link> {
            self.$inner.link()
        }

        fn enqueue(&self, queue: &str, invocation: harness::bus::Invocation) -> harness::bus::CallFuture {
            self.$inner.enqueue(queue, invocation)
        }

        fn bind(&self, trigger: harness::bus::TriggerSpec) -> harness::bus::CallFuture<()> {
            self.$inner.bind(trigger)
        }

        fn open_writer(
            &self,
            channel: &harness::model::api::provider::ChannelRef,
        ) -> harness::bus::CallFuture<harness::bus::ChannelWriter> {
            self.$inner.open_writer(channel)
        }

        fn open_reader(
            &self,
            channel: &harness::model::api::provider::ChannelRef,
        ) -> harness::bus::CallFuture<harness::bus::ChannelReader> {
            self.$inner.open_reader(channel)
        }

        fn info(&self) -> harness::bus::EngineInfo {
            self.$inner.info()
        }

        fn missing(&self) -> Vec<&'static str> {
            self.$inner.missing()
        }

        fn shutdown(&self) -> futures::future::BoxFuture<'static, ()> {
            self.$inner.shutdown()
        }
    };
}

pub(crate) use pass_on_to;
