//! Wire types shared by every worker (contract 01). No I/O, no async, nothing of the bus.
//!
//! Two rules shape this layer. What others wrote is kept as they wrote it: a transcript message travels as
//! [`RawMessage`], the JSON object itself, so unknown members survive. What we write has a type: the enums and
//! structs here serialise to exactly the member names of the contract.

pub mod api;
pub mod call;
pub mod catalog;
pub mod event;
pub mod frame;
pub mod key;
pub mod lenient;
pub mod measure;
pub mod message;
pub mod money;
pub mod price;
pub mod raw;
pub mod route;
pub mod spend;
pub mod text;
pub mod tokens;
pub mod turn;
pub mod usage;
pub mod window;

pub use call::{AgentFunction, ExecutionMode, FunctionCall, FunctionResult};
pub use event::{AgentEvent, AssistantEvent};
pub use key::{CallId, EntryId, FunctionId, ProviderId, SessionId};
pub use message::{
    AgentMessage, AssistantMessage, ContentBlock, ErrorKind, FunctionResultMessage, StopReason,
    ThinkingLevel, UserMessage,
};
pub use money::Usd;
pub use raw::RawMessage;
pub use turn::{AwaitingCall, TurnError, TurnState, TurnStateView};
pub use usage::Usage;
