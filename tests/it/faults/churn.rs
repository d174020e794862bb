//! Many workers that come, register, work and go, one half of them without a word.

use std::time::Duration;

use futures::future::join_all;
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Rig, channel, channel_path};
use crate::listener::eventually;
use crate::support::proxy::End;
use crate::support::ws::{Socket, Ws, open};

const ROUNDS: usize = 25;
/// Workers that are there at the same time: one half stays polite, the other is cut off.
const AT_ONCE: usize = 40;

#[tokio::test]
async fn a_thousand_workers_leave_nothing_behind() {
    let rig = Rig::start().await;
    let (release, released) = watch::channel(false);
    rig.open.engine.serve("p::slow", move |_, _| {
        let mut released = released.clone();
        async move {
            released
                .wait_for(|released| *released)
                .await
                .map_err(|_| Error::Stopped)?;
            Ok(Value::Null)
        }
    });
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (everything, tasks_before) = (rig.everything().await, tasks());

    for round in 0..ROUNDS {
        let workers = join_all((0..AT_ONCE).map(|n| live(&rig, n, n % 2 == 0))).await;
        assert_eq!(rig.open.engine.embedded.workers_connected(), AT_ONCE);
        let (polite, cut): (Vec<_>, Vec<_>) = workers.into_iter().partition(|worker| worker.is_polite);
        rig.proxy.cut(if round % 2 == 0 { End::Fin } else { End::Rst });
        for worker in polite {
            worker.ws.leave().await;
        }
        drop(cut);
        rig.open.workers(0).await;
    }

    assert_eq!(rig.everything().await, everything);
    eventually(|| rig.channels() == 0).await;
    eventually(|| rig.proxy.open() == 0).await;
    // What the program does for a caller that has gone is done to its end.
    release.send_replace(true);
    eventually(|| tasks() <= tasks_before).await;
    assert!(
        rig.open.engine.bus.shutdown(Duration::from_secs(20)).await,
        "tasks were left"
    );
}

struct Worker {
    ws: Ws,
    is_polite: bool,
    /// Both ends of a channel.
    _channel: [Socket; 2],
}

/// Does everything that a worker can do, and leaves a call open in each direction.
async fn live(rig: &Rig, n: usize, is_polite: bool) -> Worker {
    let address = if is_polite {
        rig.open.address
    } else {
        rig.proxy.address()
    };
    let mut ws = Ws::join(address).await;
    let (name, own_type) = (format!("w{n}"), format!("type{n}"));
    let (first, second) = (format!("{name}::a"), format!("{name}::b"));
    ws.void("engine::workers::register", json!({"name": name, "pid": n + 1}))
        .await;
    ws.send(json!({"type": "registertriggertype", "id": own_type, "description": ""}))
        .await;
    ws.host(&[&first, &second]).await;
    for trigger_type in [
        "state",
        "stream",
        "subscribe",
        own_type.as_str(),
        "parked",
        "engine::workers-available",
    ] {
        let config = json!({"scope": "churn", "stream_name": "churn", "topic": "churn"});
        ws.bind(&format!("{name}/{trigger_type}"), trigger_type, &first, config)
            .await;
    }
    ws.begin("p::slow", json!({})).await;
    ws.begin(&second, json!({})).await;
    ws.void("state::set", json!({"scope": "churn", "key": name, "value": n}))
        .await;
    let (writer, reader) = channel(&mut ws, json!({})).await;
    let ends = [
        open(address, &channel_path(&writer, "write"), None)
            .await
            .unwrap(),
        open(address, &channel_path(&reader, "read"), None).await.unwrap(),
    ];
    Worker {
        ws,
        is_polite,
        _channel: ends,
    }
}
