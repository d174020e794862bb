//! Programs that want one engine, on days when links and engines fail. Their leases are short.

use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all, select_all};
use harness::bus::iii::{Iii, IiiOptions};
use harness::bus::{Bus, FunctionDef, Link, TriggerSpec};
use pretty_assertions::assert_eq;
use serde_json::json;

use super::{LEASE, anywhere, call, eventually, join, joining, problem, serving, serving_as};
use crate::support::engine::{ports, served, within};
use crate::support::fake_engine::{FakeEngine, Script};
use crate::support::proxy::{End, Mode, Proxy};
use crate::support::ws::Ws;

fn is_up(bus: &Bus) -> bool {
    *bus.link().borrow() != Link::Down
}

/// A program whose start is polled by hand.
type Start = LocalBoxFuture<'static, Bus>;

fn starting(bus: &Bus) -> Start {
    let bus = bus.clone();
    async move {
        assert_eq!(bus.host(Vec::new()).await.unwrap(), Vec::<String>::new());
        bus
    }
    .boxed_local()
}

/// Does something while a program stands by, which it must do all the time.
async fn beside<T>(start: &mut Start, work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        _ = start => panic!("it serves too early"),
        done = within(work) => done,
    }
}

async fn stop(bus: &Bus) {
    assert!(bus.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_started_at_once_exactly_one_serves() {
    let (engine, address) = served(anywhere(), None).await;
    // Most of a round is the pause of those who stand by, so rounds of programs of other names go on beside it.
    let names = ["harness", "one", "two", "three", "four"];
    join_all(names.map(async |name| {
        for _ in 0..4 {
            three_rivals(&engine, address, name).await;
        }
        eventually(async || (serving_as(&engine, name).await == 0).then_some(())).await;
    }))
    .await;
}

/// Three programs of a name: one serves, then another one, as soon as the one before has gone.
async fn three_rivals(engine: &Bus, address: SocketAddr, name: &str) {
    let options = IiiOptions {
        worker_name: name.to_owned(),
        ..joining(address, LEASE)
    };
    let programs: Vec<Bus> = (0..3)
        .map(|_| Bus::new(ports(), Iii::new(options.clone())))
        .collect();
    let starts = programs.iter().map(|bus| bus.host(Vec::new()).boxed_local());
    let (outcome, first, others) = within(select_all(starts)).await;
    assert_eq!(outcome.unwrap(), Vec::<String>::new());
    eventually(async || {
        let waiting = programs
            .iter()
            .filter(|bus| problem(bus).starts_with("standby at"));
        (waiting.count() == 2).then_some(())
    })
    .await;
    assert_eq!(programs.iter().filter(|bus| is_up(bus)).count(), 1);
    assert_eq!(serving_as(engine, name).await, 1);
    stop(&programs[first]).await;
    let (outcome, next, last) = within(select_all(others)).await;
    assert_eq!(outcome.unwrap(), Vec::<String>::new());
    assert_eq!(programs.iter().filter(|bus| is_up(bus)).count(), 1);
    drop((next, last));
    for bus in &programs {
        stop(bus).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_stops_before_another_one_starts() {
    let (engine, address) = served(anywhere(), None).await;
    let proxy = Proxy::start(address).await;
    let first = within(join(joining(proxy.address(), LEASE))).await;
    let mut second = starting(&Bus::new(ports(), Iii::new(joining(address, LEASE))));
    let mut owned = first.transport().ownership();
    assert!(owned.borrow_and_update().is_some());
    proxy.shut(End::Rst);
    // It knows by itself, and the second one has waited for that.
    beside(&mut second, owned.changed()).await.unwrap();
    assert_eq!(*owned.borrow_and_update(), None);
    let second = within(second).await;
    assert_eq!((is_up(&first), is_up(&second)), (false, true));
    proxy.reopen();
    eventually(async || problem(&first).starts_with("standby at").then_some(())).await;
    assert_eq!(serving(&engine).await, 1);
    // It serves again, once it may.
    stop(&second).await;
    eventually(async || is_up(&first).then_some(())).await;
    assert_eq!(serving(&engine).await, 1);
}

/// Power loss: the engine does not notice that the other end is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ghost_is_waited_out() {
    let (engine, address) = served(anywhere(), None).await;
    let proxy = Proxy::start(address).await;
    let first = within(join(joining(proxy.address(), LEASE))).await;
    let waiting = Bus::new(ports(), Iii::new(joining(address, LEASE)));
    let mut second = starting(&waiting);
    proxy.set(Mode::Hole);
    let gone = eventually(async || first.transport().ownership().borrow().is_none().then_some(()));
    beside(&mut second, gone).await;
    let stands_by = eventually(async || problem(&waiting).starts_with("standby at").then_some(()));
    beside(&mut second, stands_by).await;
    assert_eq!(serving(&engine).await, 1, "the ghost");
    proxy.shut(End::Rst);
    within(second).await;
    assert!(is_up(&waiting));
    assert_eq!(serving(&engine).await, 1);
}

/// What the engine keeps in memory is gone after its restart, and with it who served it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_engine_is_served_by_one() {
    let restarted = async |keeps_state: bool| {
        let dir = tempfile::tempdir().unwrap();
        let data = || keeps_state.then(|| dir.path().join("data"));
        let (before, address) = served(anywhere(), data()).await;
        let lease = Duration::from_secs(6);
        let first = within(join(joining(address, lease))).await;
        let waiting = Bus::new(ports(), Iii::new(joining(address, lease)));
        let mut second = starting(&waiting);
        let stands_by = || eventually(async || problem(&waiting).starts_with("standby at").then_some(()));
        beside(&mut second, stands_by()).await;
        let restarted = async {
            assert!(before.shutdown(Duration::from_secs(5)).await);
            drop(before);
            let (engine, _) = served(address, data()).await;
            eventually(async || (*first.link().borrow() == Link::Up(2)).then_some(())).await;
            stands_by().await;
            engine
        };
        let engine = beside(&mut second, restarted).await;
        // Somebody who only looks has the name for a moment.
        let one_serves = || eventually(async || (serving(&engine).await == 1).then_some(()));
        beside(&mut second, one_serves()).await;
        stop(&first).await;
        within(second).await;
        one_serves().await;
    };
    futures::join!(restarted(true), restarted(false));
}

/// Engines from 0.23 on refuse the second of a name. The visit may have seen none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c00_case_38_a_refused_worker_stands_by() {
    let script = Script {
        refuses_worker: true,
        ..Script::default()
    };
    let engine = FakeEngine::start(script).await;
    let bus = Bus::new(ports(), Iii::new(joining(engine.address, LEASE)));
    let mut start = starting(&bus);
    let refused = async || {
        let problem = problem(&bus);
        let says_so = problem.starts_with("standby at") && problem.contains("WORKER_NAMESPACE_CONFLICT");
        says_so.then_some(())
    };
    beside(&mut start, eventually(refused)).await;
    let connections = engine.connections();
    engine.rescript(|script| script.refuses_worker = false);
    within(start).await;
    // One visit and one connection; the clock of the first visit may have run out meanwhile.
    assert!(engine.connections() <= connections + 4, "no loop");
    assert_eq!(problem(&bus), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_registered_is_there_again_with_the_next_turn() {
    let (engine, address) = served(anywhere(), None).await;
    let proxy = Proxy::start(address).await;
    let program = within(join(joining(proxy.address(), LEASE))).await;
    let echo = FunctionDef::ad_hoc("test::echo", |payload, _| async move { Ok(payload) });
    program.register(echo).unwrap();
    let spec = TriggerSpec::new("state", "test::echo", json!({ "scope": "s" }));
    program.transport().bind(spec).await.unwrap();
    proxy.shut(End::Rst);
    eventually(async || program.transport().ownership().borrow().is_none().then_some(())).await;
    proxy.reopen();
    eventually(async || is_up(&program).then_some(())).await;
    assert_eq!(call(&engine, "test::echo", json!(1)).await, Ok(json!(1)));
    let worker = json!({ "worker": "harness" });
    let bound = call(&engine, "engine::registered-triggers::list", worker)
        .await
        .unwrap();
    assert_eq!(bound["registered_triggers"].as_array().unwrap().len(), 1);
}

/// A process that was asleep registers all it has before it learns that it serves no more, and takes it along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rival_took_along_is_registered_again() {
    let (engine, address) = served(anywhere(), None).await;
    let options = IiiOptions {
        heartbeat: Duration::from_millis(500),
        ..joining(address, LEASE)
    };
    let program = within(join(options)).await;
    for id in ["test::echo", "test::other"] {
        let echo = FunctionDef::ad_hoc(id, |payload, _| async move { Ok(payload) });
        program.register(echo).unwrap();
    }
    eventually(async || call(&engine, "test::other", json!(1)).await.ok()).await;
    for _ in 0..2 {
        let mut rival = Ws::join(address).await;
        rival.host(&["test::echo"]).await;
        rival.settle().await;
        rival.leave().await;
        let gone = call(&engine, "test::echo", json!(1)).await.unwrap_err();
        assert_eq!(gone.wire_code(), "function_not_found");
        eventually(async || call(&engine, "test::echo", json!(1)).await.ok()).await;
        assert_eq!(call(&engine, "test::other", json!(2)).await, Ok(json!(2)));
    }
    // Over the same connection: nothing else was disturbed.
    assert_eq!(*program.link().borrow(), Link::Up(1));
}
