//! Shapes of the functions that one worker calls of another. The handler lives in the owner's folder; here is only what
//! both sides must agree on, so that no worker imports another one. Functions called from outside only keep their
//! shapes in their own file.

pub mod approval;
pub mod budget;
pub mod compaction;
pub mod models;
pub mod provider;
pub mod run;
pub mod session;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

/// A function as its caller sees it: id and shapes.
pub trait Contract: 'static {
    /// Id on the bus.
    const ID: &'static str;
    /// What is sent.
    type Request: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
    /// What comes back.
    type Response: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
}

/// Declares a [`Contract`] as an empty type.
macro_rules! contract {
    ($(#[$doc:meta])* $name:ident = $id:literal, $request:ty => $response:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}
        impl $crate::model::api::Contract for $name {
            const ID: &'static str = $id;
            type Request = $request;
            type Response = $response;
        }
    };
}
use contract;
