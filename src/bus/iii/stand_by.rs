//! Who serves the engine: one process at a time, whatever its version (design §4, one active process per engine).
//!
//! Two things must be so before a process connects: no worker has our name, and the row `harness_owner/<name>` is ours. The first
//! says that the connection of whoever served before has ended, and with it whatever it had sent; the second decides between
//! several that see the same, and keeps out a process that is about to reconnect. Until then it stands by and looks again.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::greet::{Greeting, Visit};
use super::{Core, call};
use crate::bus::claim::{Claimant, Holder, Taken, Taking};
use crate::bus::lease::{Lease, Row};
use crate::bus::{Bus, CallContext, Invocation};
use crate::error::{Error, Result};

/// State scope of the leases, key = worker name: programs of different names have different functions.
const SCOPE: &str = "harness_owner";

/// Pauses between visits to an engine that is not there yet.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Pauses between looks at an engine that somebody serves; the second one is added at random.
const LOOK_EVERY: Duration = Duration::from_millis(400);
const LOOK_JITTER_MS: u64 = 200;

/// Pause after an engine refused us although our name was free, as a part of the lease: five seconds of the usual one.
const REFUSED_PART: u32 = 6;

/// How long after its first answer an engine may have no state: its parts start after it.
const STARTING: Duration = Duration::from_secs(3);

/// Most time for one visit.
const VISIT_WITHIN: Duration = Duration::from_secs(5);

/// A claim so much older than it may be that clocks cannot explain it is over at once.
const LONG_OVER: u32 = 6;

/// What one look found.
enum Found {
    /// The engine is ours; without a lease where there is no state worker.
    Ours(Option<Lease>),
    /// Somebody serves it, or did a moment ago.
    Served(String),
}

/// What was seen of holders, to tell by our own clock when they lapse.
#[derive(Default)]
struct Seen {
    holders: Vec<(Holder, Instant)>,
    /// The nonce that we had ourselves.
    ours: Option<String>,
}

impl Seen {
    /// Whether one of the holders may still be at work. None at all means an engine that forgot them: one that was seen alive
    /// may be about to come back.
    fn is_any_alive(&mut self, holders: Vec<Holder>, now_ms: i64, ttl: Duration) -> bool {
        if !holders.is_empty() {
            let known = std::mem::take(&mut self.holders);
            self.holders = holders
                .into_iter()
                .map(|holder| {
                    let since = known.iter().find(|(known, _)| *known == holder);
                    let since = since.map_or_else(Instant::now, |(_, since)| *since);
                    (holder, since)
                })
                .collect();
        }
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let longest_ms = ttl_ms.saturating_mul(i64::from(LONG_OVER));
        self.holders.iter().any(|(holder, since)| {
            let is_ours = self.ours.as_ref() == Some(&holder.nonce);
            !is_ours && holder.is_alive(now_ms, longest_ms) && !has_died(holder) && since.elapsed() < ttl
        })
    }
}

/// Waits until the engine is ours to serve. A lease of our own of before, whose connection is closed, does not hold us up.
///
/// # Errors
/// [`Error::Stopped`]: the process stops before.
pub(super) async fn wait(
    core: &Arc<Core>,
    bus: &Bus,
    before: Option<&Lease>,
    was_refused: bool,
) -> Result<Option<Lease>> {
    let stop = bus.shutdown_token();
    let mut pauses = pauses();
    let mut seen = Seen {
        ours: before.map(|lease| lease.nonce().to_owned()),
        ..Seen::default()
    };
    let mut stateless_since = None;
    if was_refused {
        stop.run_until_cancelled(sleep(core.options.lease / REFUSED_PART))
            .await
            .ok_or(Error::Stopped)?;
    }
    loop {
        let visited = stop.run_until_cancelled(timeout(VISIT_WITHIN, look(core, bus, &mut seen)));
        let pause = match visited.await.ok_or(Error::Stopped)? {
            Ok(Ok(Found::Ours(None)))
                if stateless_since.get_or_insert_with(Instant::now).elapsed() < STARTING =>
            {
                away(core, "the engine has no state worker");
                FIRST_PAUSE
            }
            Ok(Ok(Found::Ours(lease))) => {
                core.link.stands_by(false);
                return Ok(lease);
            }
            Ok(Ok(Found::Served(by))) => {
                core.link.stands_by(true);
                if core.link.fall(&by) {
                    tracing::info!(
                        url = core.options.shown_url(),
                        why = by,
                        "standing by; takes over when that ends"
                    );
                }
                pauses = self::pauses();
                LOOK_EVERY + jitter(bus)
            }
            Ok(Err(error)) => {
                away(core, &error.to_string());
                pauses.next().unwrap_or(LONGEST_PAUSE)
            }
            Err(_) => {
                away(core, "no answer");
                pauses.next().unwrap_or(LONGEST_PAUSE)
            }
        };
        stop.run_until_cancelled(sleep(pause))
            .await
            .ok_or(Error::Stopped)?;
    }
}

fn away(core: &Core, why: &str) {
    core.link.stands_by(false);
    if core.link.fall(why) {
        tracing::warn!(url = core.options.shown_url(), why, "waiting for the engine");
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

/// So that several do not look in step.
fn jitter(bus: &Bus) -> Duration {
    let drawn = bus.uuid().bytes().map(u64::from).sum::<u64>() * 7919;
    Duration::from_millis(drawn % LOOK_JITTER_MS)
}

/// One look, and a claim when nobody is there.
async fn look(core: &Arc<Core>, bus: &Bus, seen: &mut Seen) -> Result<Found> {
    let (options, ids) = (&core.options, bus.ports().ids.as_ref());
    let mut visit = Visit::begin(&options.url, options.token.as_ref()).await?;
    let found = look_around(core, bus, seen, &mut visit, ids).await;
    visit.end().await;
    found
}

async fn look_around(
    core: &Arc<Core>,
    bus: &Bus,
    seen: &mut Seen,
    visit: &mut Visit,
    ids: &dyn crate::ids::Ids,
) -> Result<Found> {
    let name = &core.options.worker_name;
    let is_taken = visit.greet(name, ids).await? == Greeting::NameTaken;
    let row = visit
        .ask("state::get", json!({ "scope": SCOPE, "key": name }), ids)
        .await;
    let row = match row {
        Ok(row) => Some(row),
        Err(Error::Coded { .. }) => None,
        Err(error) => return Err(error),
    };
    let holders = row.as_ref().map(Holder::all_of).unwrap_or_default();
    let is_alive = seen.is_any_alive(holders.clone(), bus.now_ms(), core.options.lease);
    if is_taken {
        return Ok(Found::Served(format!("a worker named `{name}` is connected")));
    }
    if is_alive {
        return Ok(Found::Served("the one that served it may come back".to_owned()));
    }
    let Some(row) = row else {
        return Ok(Found::Ours(None));
    };
    let claimant = Claimant {
        // Tells the names apart also where only the nonce is seen.
        nonce: format!("{name}/{}", bus.uuid()),
        by: this_process(),
    };
    let mut taking = Taking::new(&claimant, crate::bus::claim::next_epoch(&row));
    let sent = Instant::now();
    loop {
        let update = json!({ "scope": SCOPE, "key": name, "ops": taking.ops(bus.now_ms()) });
        let reply = match visit.ask("state::update", update, ids).await {
            Err(Error::Coded { .. }) => return Ok(Found::Ours(None)),
            reply => reply?,
        };
        // Only those that were watched have lapsed; whoever was quicker than us is alive.
        let outcome = taking.answered(&reply, |holder| {
            !holder.is_released && !holders.contains(holder) && holder.nonce != claimant.nonce
        });
        match outcome? {
            Some(Taken::Ours(epoch)) => {
                let row = row_on(core, bus);
                return Ok(Found::Ours(Some(Lease::taken(row, claimant, epoch, sent))));
            }
            Some(Taken::Theirs(holder)) => {
                seen.holders.push((holder, Instant::now()));
                return Ok(Found::Served("another process was quicker".to_owned()));
            }
            None => {}
        }
    }
}

/// The row, over the connection of the SDK.
fn row_on(core: &Arc<Core>, bus: &Bus) -> Row {
    let core = Arc::downgrade(core);
    let ttl = core
        .upgrade()
        .map_or(crate::bus::lease::TTL, |core| core.options.lease);
    let clock = Arc::clone(&bus.ports().clock);
    Row {
        update: Arc::new(move |ops: Value| {
            let core = core.upgrade();
            async move {
                let core = core.ok_or(Error::Stopped)?;
                let invocation = Invocation {
                    function_id: "state::update".into(),
                    payload: json!({ "scope": SCOPE, "key": core.options.worker_name, "ops": ops }),
                    context: CallContext::default(),
                };
                call::send(&core, invocation, None, core.options.lease / 3).await
            }
            .boxed()
        }),
        // Asked when the engine has forgotten us: whoever is there now came after us.
        is_alive: Arc::new(|holder| !holder.is_released && !has_died(holder)),
        clock,
        ttl,
    }
}

/// Names this process so that another one on the same machine can tell whether it still runs; nothing where that cannot be
/// told.
fn this_process() -> Option<String> {
    let (boot, space) = machine()?;
    let pid = std::process::id();
    Some(format!("{boot}/{space}/{pid}/{}", began(pid)?))
}

/// Whether the holder was a process of this machine that is gone.
fn has_died(holder: &Holder) -> bool {
    let Some(by) = &holder.by else { return false };
    let mut parts = by.split('/');
    let place = (parts.next(), parts.next());
    let process = parts
        .next()
        .and_then(|pid| pid.parse::<u32>().ok())
        .zip(parts.next());
    let (Some((boot, space)), Some((pid, began_at))) = (machine(), process) else {
        return false;
    };
    place == (Some(&boot), Some(&space)) && began(pid).as_deref() != Some(began_at)
}

/// This boot of this machine, and which of its processes we are sure to see: those of our user in our space of process ids.
fn machine() -> Option<(String, String)> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let user = std::fs::metadata("/proc/self").ok()?.uid();
    Some((boot.trim().to_owned(), format!("{}+{user}", space.to_str()?)))
}

/// When a process began, in ticks of the machine; nothing when there is none, or only its remains.
fn began(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything: state is the first field, the start the twentieth.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let is_gone = matches!(fields.next()?, "Z" | "X");
    let start = fields.nth(18)?;
    (!is_gone).then(|| start.to_owned())
}
