//! What every caller of a model provider needs: where its calls go, and a channel for the events (contract 02 §5.3, §5.4).

use futures::future::{join, try_join_all};
use serde_json::{Value, json};

use super::{Bus, CallContext, CallOptions, ChannelOptions, ChannelReader};
use crate::error::{Error, Result};
use crate::model::api::provider::{ChannelRef, Direction, Empty, List};
use crate::model::route::{self, Route};

const REGISTRY_MS: u64 = 5_000;

/// Codes with which an engine says that there is no such function, or none for us (contract 00 §9); the last one is that of
/// an engine without introspection.
const NO_SUCH: [&str; 4] = [
    "NOT_FOUND",
    "FORBIDDEN",
    "INVALID_ARGUMENTS",
    "function_not_found",
];

/// Where model calls go that name this provider, or none, and this model. `known` is what [`known`] found out.
///
/// # Errors
/// It cannot be told now whether there is such a provider.
pub fn route(bus: &Bus, provider: &str, model: &str, known: Result<Vec<String>>) -> Result<Route> {
    let known = match known {
        Err(error) if error.is_function_not_found() => Vec::new(),
        Err(error) => {
            return Err(Error::Transient(format!(
                "provider {provider} cannot be looked up: {error}"
            )));
        }
        Ok(known) => known,
    };
    Ok(route::route(provider, model, |spelling| {
        bus.hosts(&stream_of(spelling)) || known.iter().any(|known| known == spelling)
    }))
}

/// The function that streams answers of a provider.
pub fn stream_of(provider: &str) -> String {
    format!("provider::{provider}::stream")
}

/// The spellings of a name under which there is a provider, on the bus or declared; none when nobody has to be asked.
///
/// # Errors
/// There is none, as [`Error::FunctionNotFound`]; or it cannot be told.
pub async fn known(bus: &Bus, context: &CallContext, name: &str) -> Result<Vec<String>> {
    if !route::needs_lookup(name) || bus.hosts(&stream_of(name)) {
        return Ok(Vec::new());
    }
    let mut spellings = vec![name.to_owned(), name.to_lowercase()];
    spellings.dedup();
    let (declared, on_the_bus) = join(
        bus.call::<List>(context, Empty {}, CallOptions::timeout_ms(REGISTRY_MS)),
        try_join_all(
            spellings
                .iter()
                .map(|spelling| has_stream(bus, context, spelling)),
        ),
    )
    .await;
    let declared = match declared {
        Err(error) if error.is_function_not_found() => Vec::new(),
        list => list?.providers,
    };
    let mut on_the_bus = on_the_bus?.into_iter();
    spellings.retain(|spelling| {
        on_the_bus.next() == Some(true) || declared.iter().any(|row| *row.id == **spelling)
    });
    if spellings.is_empty() {
        return Err(Error::FunctionNotFound(stream_of(name)));
    }
    Ok(spellings)
}

async fn has_stream(bus: &Bus, context: &CallContext, provider: &str) -> Result<bool> {
    let id = stream_of(provider);
    if bus.hosts(&id) {
        return Ok(true);
    }
    let info = json!({ "function_id": id });
    let limit = CallOptions::timeout_ms(REGISTRY_MS);
    match bus.invoke(context, "engine::functions::info", info, limit).await {
        Ok(_) => Ok(true),
        Err(error) if NO_SUCH.contains(&error.wire_code()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A channel for what this function streams: inside the process when the function is, else one of the engine. `slim` as in
/// [`ChannelOptions`].
///
/// # Errors
/// The engine gives none.
pub async fn open_channel(
    bus: &Bus,
    context: &CallContext,
    function: &str,
    slim: bool,
) -> Result<(ChannelRef, ChannelReader)> {
    let (writer, reader) = if bus.hosts(function) {
        let pair = bus.create_channel(ChannelOptions {
            slim,
            ..ChannelOptions::default()
        });
        (pair.writer, pair.reader)
    } else {
        let limit = CallOptions::timeout_ms(REGISTRY_MS);
        let mut pair = bus
            .invoke(context, "engine::channels::create", json!({}), limit)
            .await?;
        (
            channel_end(&mut pair, "writer", Direction::Write)?,
            channel_end(&mut pair, "reader", Direction::Read)?,
        )
    };
    Ok((writer, bus.open_reader(&reader).await?))
}

fn channel_end(pair: &mut Value, end: &str, direction: Direction) -> Result<ChannelRef> {
    let reference = pair.get_mut(end).map(Value::take).unwrap_or_default();
    serde_json::from_value(reference)
        .map(|reference| ChannelRef {
            direction,
            ..reference
        })
        .map_err(|error| Error::Unavailable(format!("unexpected {end} of a channel: {error}")))
}
