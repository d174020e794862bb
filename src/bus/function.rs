//! A function of this process: typed for its author, uniform for the bus.

use std::any::Any;
use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::context::CallContext;
use super::cx::Cx;
use super::decode::decode;
use super::{Bus, to_json};
use crate::error::{Error, Result};
use crate::model::FunctionId;

/// One function on the bus: an id, two shapes and a handler.
pub trait Function: 'static {
    /// Id on the bus, `service::name`.
    const ID: &'static str;
    /// Published description, exactly the contract's.
    const DESCRIPTION: &'static str;
    /// String members that must be there and not empty, checked in this order before anything else.
    const REQUIRED: &'static [&'static str] = &[];
    /// Whether a payload `{body: {…}}` stands for its `body` (contract 01 §8.3).
    const UNWRAP_BODY: bool = false;
    /// Whether browsers call it; published as metadata `{"client": true}` (contract 00 §12).
    const CLIENT: bool = false;
    /// Memory of the worker that it uses.
    type State: Send + Sync + 'static;
    /// What it takes.
    type Request: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
    /// What it answers.
    type Response: Serialize + DeserializeOwned + JsonSchema + Send + 'static;

    /// Reads the payload. Override only where the contract has error texts of its own.
    fn decode(payload: Value) -> Result<Self::Request> {
        decode(payload, Self::REQUIRED, Self::UNWRAP_BODY)
    }

    /// Does the work.
    fn call(
        cx: &Cx<Self::State>,
        request: Self::Request,
    ) -> impl Future<Output = Result<Self::Response>> + Send;
}

/// A payload on its way: JSON, or the Rust value itself when caller and callee are in this process.
#[derive(Debug)]
pub enum Payload {
    /// As on the wire.
    Json(Value),
    /// As the other side's type; `to_json` is for a receiver of another type.
    Typed {
        /// The value.
        value: Box<dyn Any + Send>,
        /// Turns it into JSON.
        to_json: fn(Box<dyn Any + Send>) -> Result<Value>,
    },
}

impl Payload {
    /// Wraps a value without serialising it.
    pub fn typed<T: Serialize + Send + 'static>(value: T) -> Self {
        Self::Typed {
            value: Box::new(value),
            to_json: boxed_to_json::<T>,
        }
    }

    /// The value as `T`, or as JSON when it is something else.
    pub fn into_typed<T: 'static>(self) -> Result<std::result::Result<T, Value>> {
        match self {
            Self::Json(value) => Ok(Err(value)),
            Self::Typed { value, to_json } => match value.downcast::<T>() {
                Ok(value) => Ok(Ok(*value)),
                Err(value) => to_json(value).map(Err),
            },
        }
    }

    /// The value as JSON.
    pub fn into_json(self) -> Result<Value> {
        match self {
            Self::Json(value) => Ok(value),
            Self::Typed { value, to_json } => to_json(value),
        }
    }
}

fn boxed_to_json<T: Serialize + 'static>(value: Box<dyn Any + Send>) -> Result<Value> {
    match value.downcast::<T>() {
        Ok(value) => to_json(&*value),
        Err(_) => Err(Error::Unavailable("payload of another type".into())),
    }
}

type Handler = dyn Fn(Bus, CallContext, Payload) -> BoxFuture<'static, Result<Payload>> + Send + Sync;
type SchemaFn = fn() -> Value;

/// A function as the bus keeps it.
#[derive(Clone)]
pub struct FunctionDef {
    id: FunctionId,
    description: Cow<'static, str>,
    client: bool,
    schemas: Option<(SchemaFn, SchemaFn)>,
    handler: Arc<Handler>,
}

/// What others may know of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionInfo {
    /// Id.
    pub id: FunctionId,
    /// Description.
    pub description: String,
    /// JSON Schema (draft 07) of the request, when there is one.
    pub request_schema: Option<Value>,
    /// JSON Schema (draft 07) of the response, when there is one.
    pub response_schema: Option<Value>,
    /// Registration metadata.
    pub metadata: Option<Value>,
}

impl FunctionDef {
    /// A function with its own id.
    pub fn of<F: Function>(state: Arc<F::State>) -> Self {
        Self::named::<F>(F::ID, F::DESCRIPTION, state)
    }

    /// A function that several workers offer under ids of their own, such as `provider::<id>::stream`.
    pub fn named<F: Function>(
        id: impl Into<FunctionId>,
        description: impl Into<Cow<'static, str>>,
        state: Arc<F::State>,
    ) -> Self {
        let handler = move |bus: Bus, context: CallContext, payload: Payload| {
            let cx = Cx::new(bus, Arc::clone(&state), context);
            async move {
                let request = match payload.into_typed::<F::Request>()? {
                    Ok(request) => request,
                    Err(json) => F::decode(json)?,
                };
                F::call(&cx, request).await.map(Payload::typed)
            }
            .boxed()
        };
        Self {
            id: id.into(),
            description: description.into(),
            client: F::CLIENT,
            schemas: Some((schema_of::<F::Request>, schema_of::<F::Response>)),
            handler: Arc::new(handler),
        }
    }

    /// A function made of a closure over JSON: handlers of clients and test doubles.
    pub fn ad_hoc<H, R>(id: impl Into<FunctionId>, handler: H) -> Self
    where
        H: Fn(Value, CallContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value>> + Send + 'static,
    {
        let handler = move |_: Bus, context: CallContext, payload: Payload| match payload.into_json() {
            Ok(json) => handler(json, context)
                .map(|result| result.map(Payload::Json))
                .boxed(),
            Err(error) => futures::future::ready(Err(error)).boxed(),
        };
        Self {
            id: id.into(),
            description: Cow::Borrowed(""),
            client: false,
            schemas: None,
            handler: Arc::new(handler),
        }
    }

    /// Id on the bus.
    pub fn id(&self) -> &FunctionId {
        &self.id
    }

    /// Published description.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Registration metadata.
    pub fn metadata(&self) -> Option<Value> {
        self.client.then(|| json!({ "client": true }))
    }

    /// What others may know of it. Schemas are made on demand: they are large and rarely read.
    pub fn info(&self) -> FunctionInfo {
        FunctionInfo {
            id: self.id.clone(),
            description: self.description.clone().into_owned(),
            request_schema: self.schemas.map(|(request, _)| request()),
            response_schema: self.schemas.map(|(_, response)| response()),
            metadata: self.metadata(),
        }
    }

    pub(super) fn start(
        &self,
        bus: Bus,
        context: CallContext,
        payload: Payload,
    ) -> BoxFuture<'static, Result<Payload>> {
        (self.handler)(bus, context, payload)
    }
}

impl std::fmt::Debug for FunctionDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionDef")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn schema_of<T: JsonSchema>() -> Value {
    SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}
