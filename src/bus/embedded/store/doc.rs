//! A stored JSON value: its text, and its parsed form once somebody asks for it.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::error::{Error, Result};

/// Deepest nesting that can be read back (the JSON parser stops at 128).
const MAX_DEPTH: usize = 127;

/// One JSON value. Made from a value it is serialised at once, on the caller's thread; read from the store it is parsed
/// only on demand, and only once.
#[derive(Debug)]
pub struct Doc {
    text: Box<str>,
    value: OnceLock<Arc<Value>>,
}

impl Doc {
    /// Serialises a value.
    ///
    /// # Errors
    /// [`Error::Store`] for one that could not be read back.
    pub fn new(value: Arc<Value>) -> Result<Self> {
        if is_deeper_than(&value, MAX_DEPTH) {
            return Err(Error::store(
                "store",
                format!("the value is nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        let text = serde_json::to_string(&*value).map_err(|error| Error::store("store", error))?;
        Ok(Self {
            text: text.into_boxed_str(),
            value: OnceLock::from(value),
        })
    }

    pub(super) fn from_text(text: String) -> Self {
        Self {
            text: text.into_boxed_str(),
            value: OnceLock::new(),
        }
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value, parsed at the first call.
    ///
    /// # Errors
    /// [`Error::Store`] when the stored text is not JSON (the file was edited).
    pub fn value(&self) -> Result<Arc<Value>> {
        if let Some(value) = self.value.get() {
            return Ok(Arc::clone(value));
        }
        let parsed = Arc::new(parse(&self.text)?);
        Ok(Arc::clone(self.value.get_or_init(|| parsed)))
    }

    /// The value for somebody who wants to own it; copied only when it is shared.
    pub fn into_value(self) -> Result<Value> {
        match self.value.into_inner() {
            Some(value) => Ok(Arc::unwrap_or_clone(value)),
            None => parse(&self.text),
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::store("stored value", error))
}

fn is_deeper_than(value: &Value, left: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        Value::Array(items) => left == 0 || items.iter().any(|item| is_deeper_than(item, left - 1)),
        Value::Object(fields) => left == 0 || fields.values().any(|field| is_deeper_than(field, left - 1)),
    }
}
