//! Permission rules: the file `iii-permissions.yaml`, the deny floor, and what surrounds a decision (contract 03).
//!
//! Pure: no I/O, no async, nothing of the bus. [`RuleSet`] answers what the file says about a call, [`Floor`] what no agent
//! may do in any mode, [`levels()`] which calls are inside a call, [`consult`] holds the small steps of the consult order around them, [`denial`] the results that a
//! model gets instead of an answer, [`redact()`] the arguments as shown to people, [`explain()`] and [`review()`] what people
//! ask about the rules themselves.
//!
//! Failing closed is the rule of the house: a file with one bad rule is refused as a whole, a search that takes too long
//! counts for a deny rule and against an allow rule, and what no rule mentions needs a person.

mod args;
pub mod consult;
pub mod denial;
mod ecma;
mod example;
mod explain;
mod file;
mod finding;
mod floor;
mod glob;
mod levels;
mod pattern;
mod redact;
mod review;
mod rule;
mod set;

pub use args::{Args, RuleArgs};
pub use explain::{Explanation, LevelExplanation, ModeOutcome, PassedOver, explain};
pub use file::{MAX_BYTES, RuleFile};
pub use finding::{Finding, RuleFileError};
pub use floor::Floor;
pub use glob::IdPattern;
pub use levels::{AGENT_TRIGGER, Level, inner_call, levels, parse_embedded};
pub use redact::redact;
pub use review::{line_of_rule, review};
pub use set::RuleSet;
