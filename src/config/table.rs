//! The table of all keys. Structs, defaults, checks, variable names, hints, the example file and the documentation
//! follow from it; a new key is one entry here.
//!
//! An entry reads `name: type = default => accepted values`; its doc comment is the text users see.
//! `.original()` marks keys that existed before and stay lenient (contract 12 §1 rule 4).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::choice::{AtCeiling, Durability, EngineMode, LogFormat, StoreBackend, Unpriced};
use super::floor::default_floor;
use super::older::{
    base_url, comma_list, floored_from_1000, leading_integer, limit, on_unless_off, only_false,
    positive_digits, switches_off, text as older_text,
};
use super::secret::Secret;
use super::spec::{
    Applies, Key, Section, address, boolean, integer, log_filter, models, names, number, one_of, rules,
    secret, text, url,
};

const HTTP: &[&str] = &["http", "https"];
const WEBSOCKET: &[&str] = &["ws", "wss"];

macro_rules! settings {
    (
        top level { $( $(#[doc = $top_doc:literal])+ $top:ident: $Top:ty = $top_default:expr => $top_spec:expr; )+ }
        $(
            $(#[doc = $section_doc:literal])+
            $section:ident: $Section:ident, $applies:ident {
                $( $(#[doc = $doc:literal])+ $key:ident: $Type:ty = $default:expr => $spec:expr; )+
            }
        )+
    ) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[serde(default)]
            pub struct $Section {
                $( $(#[doc = $doc])+ pub $key: $Type, )+
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $key: $default, )+ }
                }
            }
        )+

        /// The whole configuration, one member per section (contract 12).
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Config {
            $( $(#[doc = $top_doc])+ pub $top: $Top, )+
            $( $(#[doc = $section_doc])+ pub $section: $Section, )+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $( $top: $top_default, )+ $( $section: $Section::default(), )+ }
            }
        }

        impl Config {
            /// Puts the running values back into the sections that need a restart; answers the sections that differed.
            pub(super) fn keep_restart_sections(&mut self, running: &Self) -> Vec<&'static str> {
                let mut kept = Vec::new();
                $(
                    if matches!(Applies::$applies, Applies::Restart) && self.$section != running.$section {
                        self.$section = running.$section.clone();
                        kept.push(stringify!($section));
                    }
                )+
                kept
            }
        }

        /// All sections, in the order of the example file.
        pub const SECTIONS: &[Section] = &[ $( Section {
            name: stringify!($section),
            meaning: concat!($($section_doc),+),
            applies: Applies::$applies,
        }, )+ ];

        /// All keys, in the order of the example file.
        pub const KEYS: &[Key] = &[
            $( Key {
                section: "",
                name: stringify!($top),
                meaning: concat!($($top_doc),+),
                spec: $top_spec,
            }, )+
            $( $( Key {
                section: stringify!($section),
                name: stringify!($key),
                meaning: concat!($($doc),+),
                spec: $spec,
            }, )+ )+
        ];
    };
}

settings! {
    top level {
        /// Permission rule file, watched.
        permissions_path: PathBuf = "./iii-permissions.yaml".into() => text().original();
    }

    /// The engine: an iii engine elsewhere, or the embedded one.
    engine: Engine, Restart {
        /// Which engine is used. auto: connect to a given address or to one at the default address, else embedded.
        mode: EngineMode = EngineMode::Auto => one_of(EngineMode::NAMES);
        /// Engine address; connect without one uses `ws://127.0.0.1:49134`.
        url: Option<String> = None => url(WEBSOCKET).optional().older("III_URL", older_text);
        /// Reported worker name; the console looks for exactly `harness`.
        worker_name: String = "harness".into() => text().older("III_WORKER_NAME", older_text);
        /// Limit of a bus call that has none of its own.
        call_timeout_ms: u64 = 30_000 => integer(1);
        /// Earliest answer to an outside call after its arrival, when connected; 0 = off.
        result_holdback_ms: u64 = 2 => integer(0);
        /// Worker listener of the embedded engine; port 0 = any free one.
        listen: String = "127.0.0.1:49134".into() => address(false);
        /// Token that outside workers must show; required when `listen` is not loopback. Only as ${VAR}.
        listen_token: Option<Secret> = None => secret().optional();
        /// Store of the embedded engine, locked by one process.
        data_dir: PathBuf = "./harness-data".into() => text();
        /// full: sync each write group; normal: leave it to the system.
        durability: Durability = Durability::Full => one_of(Durability::NAMES);
        /// Items kept per group of an embedded stream; the oldest go first.
        stream_items_per_group: usize = 10_000 => integer(1);
        /// Limit per subscriber of one embedded trigger event.
        trigger_timeout_ms: u64 = 30_000 => integer(1);
    }

    /// The admin server: /healthz, /readyz, /metrics.
    http: Http, Restart {
        /// Where it listens; empty = off.
        listen: String = "127.0.0.1:49135".into() => address(true);
    }

    /// Turns and the calls of a turn.
    turn: Turn, Live {
        /// Calls of one batch at a time; 1 = one after the other.
        parallel_calls: usize = 8 => integer(1);
        /// Limit of one call by the agent.
        call_timeout_ms: u64 = 300_000 => integer(1);
        /// Longest silence of a provider stream; never shorter than the limits of our own providers.
        stream_timeout_ms: u64 = 300_000 => integer(1);
        /// Repeats of a step after a passing error.
        step_retries: u32 = 5 => integer(0);
        /// First pause before a repeat, doubling to 30 s.
        step_backoff_ms: u64 = 1_000 => integer(1);
        /// Cap for runs that give no `max_turns`.
        default_max_turns: Option<u64> = None => integer(1).optional();
        /// Functions (ids or globs) that may be called again after a crash.
        retry_safe: Vec<String> = Vec::new() => names();
        /// Models to try in this order, each `provider::model`, while the one of a run is rate limited or not reachable.
        fallback_models: Vec<String> = Vec::new() => models();
        /// Queue for an additional durable wake; `default` or any declared name.
        wake_queue: Option<String> = None => text().optional();
    }

    /// Events of a running agent.
    events: Events, Live {
        /// Flush interval of `message_update`; 0 = no merging.
        coalesce_ms: u64 = 60 => integer(0);
        /// Flush size of `message_update`.
        coalesce_chars: usize = 4_096 => integer(1);
        /// `message_update` without the repeated partial message.
        slim_updates: bool = true => boolean();
    }

    /// Pushes to browsers.
    ui: Ui, Live {
        /// Limit of one push.
        push_timeout_ms: u64 = 2_000 => integer(1);
        /// Events waiting per browser and session before updates are merged.
        queue_len: usize = 256 => integer(1);
        /// How long a browser with vanished handlers is remembered; 0 = dropped at once.
        suspend_ms: u64 = 30_000 => integer(0);
    }

    /// What agents may never do. The rules themselves are in the file `permissions_path`.
    permissions: Permissions, Live {
        /// Calls no agent may make in any mode; a given list replaces the default.
        deny_floor: Vec<Value> = default_floor() => rules();
    }

    /// Collecting answers of hooks.
    hook_fanout: HookFanout, Live {
        /// Limit of `publish_collect` when the request has none.
        default_timeout_ms: u64 = 10_000 => number(false).original();
        /// Shorter limits are raised to this.
        min_timeout_ms: u64 = 50 => number(false).original();
        /// Quiet time that ends a collection; 0 = off.
        quiescence_ms: u64 = 200 => number(true).original();
    }

    /// Where conversations are kept.
    session: Session, Restart {
        /// Where trees and inboxes live.
        store_backend: StoreBackend = StoreBackend::IiiState => one_of(StoreBackend::NAMES).original();
        /// State scope of the inboxes.
        state_scope: String = "inbox".into() => text().original();
        /// In-memory session indexes before the least used is dropped.
        cache_bytes: usize = 67_108_864 => integer(0);
    }

    /// `web::fetch`.
    web: Web, Live {
        /// Ceiling and default of `timeout_ms`.
        max_timeout_ms: u64 = 30_000 => integer(1).original();
        /// Ceiling and default of `max_bytes`.
        max_response_bytes: usize = 5_242_880 => integer(1).original();
        /// Redirects that are followed.
        max_redirects: usize = 5 => integer(0).original();
        /// Default user agent.
        user_agent: String = "iii-harness/0.1 (+web::fetch)".into() => text().original();
        /// Whether loopback addresses may be fetched.
        allow_loopback: bool = true => boolean().original();
        /// Fetches at a time.
        max_concurrent: usize = 64 => integer(1);
    }

    /// Money limits.
    budgets: Budgets, Live {
        /// Budget of runs that name none.
        default_budget_id: Option<String> = None => text().optional();
        /// Life of an unsettled reservation.
        reservation_ttl_ms: u64 = 600_000 => integer(1);
        /// A model without a price while a budget is attached.
        unpriced: Unpriced = Unpriced::Refuse => one_of(Unpriced::NAMES);
        /// What a run does that its budget does not let go on.
        at_ceiling: AtCeiling = AtCeiling::End => one_of(AtCeiling::NAMES);
    }

    /// Calls to model providers, all of them.
    provider: Provider, Live {
        /// Attempts after the first, before content; 0 = off.
        max_retries: u32 = 2 => integer(0);
        /// Limit for the connection.
        connect_timeout_ms: u64 = 10_000 => integer(1);
        /// Limit until response headers, cloud providers.
        headers_timeout_ms: u64 = 120_000 => integer(1);
        /// Longest silence between body chunks, cloud providers.
        idle_timeout_ms: u64 = 120_000 => integer(1);
        /// The same for lmstudio and llamacpp.
        local_idle_timeout_ms: u64 = 240_000 => integer(1);
        /// Longest wait for a place where `max_concurrent` or `requests_per_minute` of a provider is set.
        queue_timeout_ms: u64 = 60_000 => integer(1);
        /// Cap of the automatic output limit.
        output_token_max: u64 = 32_000 => integer(1).older("HARNESS_OUTPUT_TOKEN_MAX", positive_digits);
    }

    /// The provider `anthropic`.
    provider_anthropic: ProviderAnthropic, Live {
        /// Default address.
        default_api_url: String = "https://api.anthropic.com/v1/messages".into() => url(HTTP).original();
        /// Default output limit.
        default_max_tokens: u64 = 8_192 => integer(1).original();
        /// Requests at a time; the others wait for their turn.
        max_concurrent: Option<u64> = None => integer(1).optional();
        /// Requests that may begin in any minute.
        requests_per_minute: Option<u64> = None => integer(1).optional();
        /// Whether cache markers are sent.
        prompt_cache: bool = true => boolean().older("HARNESS_ANTHROPIC_CACHE", on_unless_off);
    }

    /// The provider `openai`.
    provider_openai: ProviderOpenai, Live {
        /// Default address.
        default_api_url: String = "https://api.openai.com/v1/chat/completions".into() => url(HTTP).original();
        /// Default output limit.
        default_max_tokens: u64 = 8_192 => integer(1).original();
        /// Requests at a time; the others wait for their turn.
        max_concurrent: Option<u64> = None => integer(1).optional();
        /// Requests that may begin in any minute.
        requests_per_minute: Option<u64> = None => integer(1).optional();
        /// Effort sent when a run names no level.
        default_reasoning_effort: Option<String> = None => text().optional();
    }

    /// The provider `kimi`.
    provider_kimi: ProviderKimi, Live {
        /// Default address.
        default_api_url: String = "https://api.moonshot.ai/v1/chat/completions".into() => url(HTTP).original();
        /// Default output limit.
        default_max_tokens: u64 = 8_192 => integer(1).original();
        /// Requests at a time; the others wait for their turn.
        max_concurrent: Option<u64> = None => integer(1).optional();
        /// Requests that may begin in any minute.
        requests_per_minute: Option<u64> = None => integer(1).optional();
    }

    /// The provider `lmstudio`.
    provider_lmstudio: ProviderLmstudio, Live {
        /// Default address.
        default_api_url: String = "http://localhost:1234/v1/chat/completions".into()
            => url(HTTP).original().older("LMSTUDIO_BASE_URL", base_url);
        /// Default output limit.
        default_max_tokens: u64 = 8_192 => integer(1).original();
        /// Requests at a time; the others wait for their turn.
        max_concurrent: Option<u64> = None => integer(1).optional();
        /// Requests that may begin in any minute.
        requests_per_minute: Option<u64> = None => integer(1).optional();
    }

    /// The provider `llamacpp`.
    provider_llamacpp: ProviderLlamacpp, Live {
        /// Default address.
        default_api_url: String = "http://localhost:8080/v1/chat/completions".into()
            => url(HTTP).original().older("LLAMACPP_BASE_URL", base_url);
        /// Default output limit.
        default_max_tokens: u64 = 8_192 => integer(1).original();
        /// Requests at a time; the others wait for their turn.
        max_concurrent: Option<u64> = None => integer(1).optional();
        /// Requests that may begin in any minute.
        requests_per_minute: Option<u64> = None => integer(1).optional();
        /// Limit until response headers.
        headers_timeout_ms: u64 = 120_000 => integer(1_000).older("LLAMACPP_FETCH_TIMEOUT_MS", floored_from_1000);
    }

    /// Shortening long conversations.
    compaction: Compaction, Live {
        /// Compaction before a turn and in the background; `/compact` works either way.
        auto: bool = true => boolean();
        /// Part of the window that is kept free.
        reserved_tokens: u64 = 20_000 => integer(1).older("COMPACT_RESERVED_TOKENS", leading_integer);
        /// Recent user turns considered for the verbatim tail.
        tail_turns: usize = 2 => integer(1).older("COMPACT_TAIL_TURNS", leading_integer);
        /// Overrides the size of the verbatim tail.
        preserve_recent_tokens: Option<u64> = None
            => integer(1).optional().older("COMPACT_PRESERVE_RECENT_TOKENS", leading_integer);
        /// Newest tool output that is never pruned.
        prune_protect_tokens: u64 = 40_000 => integer(1).older("COMPACT_PRUNE_PROTECT", leading_integer);
        /// Prune only for at least this gain.
        prune_min_free_tokens: u64 = 20_000 => integer(1).older("COMPACT_PRUNE_MIN_FREE", leading_integer);
        /// Cut of tool output in what the summariser reads.
        tool_output_max_chars: usize = 2_000 => integer(1).older("COMPACT_TOOL_OUTPUT_MAX_CHARS", leading_integer);
        /// Longest wait for another compaction of the session.
        busy_timeout_ms: u64 = 30_000 => integer(1).older("COMPACT_BUSY_TIMEOUT_MS", leading_integer);
        /// Functions (ids) whose outputs are never pruned.
        prune_protected_tools: Vec<String> = Vec::new() => names().older("COMPACT_PRUNE_PROTECTED_TOOLS", comma_list);
        /// Latest reply of `compact_session`; 0 = waits for the end.
        session_reply_ms: u64 = 25_000 => integer(0);
    }

    /// Logs on stderr.
    log: Log, Restart {
        /// A level for the program's own lines, or a filter like `info,harness::bus=debug`.
        level: String = "info".into() => log_filter().older("LOG_LEVEL", older_text);
        /// How lines look.
        format: LogFormat = LogFormat::Text => one_of(LogFormat::NAMES);
    }

    /// Traces, metrics and logs for the engine.
    telemetry: Telemetry, Restart {
        /// Whether they are sent.
        enabled: bool = true => boolean().older("OTEL_ENABLED", only_false);
        /// Inputs and outputs on spans, with secrets masked.
        trace_payloads: bool = false => boolean().forced_by("III_DISABLE_TRACE_PAYLOADS", switches_off);
        /// Cut of such a payload.
        trace_payload_max_bytes: Option<usize> = None
            => integer(1).optional().older("III_TRACE_PAYLOAD_MAX_BYTES", limit);
    }

    /// Stopping.
    shutdown: Shutdown, Restart {
        /// Time for running provider streams after the first signal.
        grace_ms: u64 = 20_000 => integer(0);
    }
}
