//! What a stream trigger hands to its function (contract 00 §5.1), in each of the forms it has had.

use serde_json::Value;

/// What happened to the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It is there now, or the frame does not say.
    Created,
    /// It has other data than before.
    Updated,
    /// It is gone.
    Deleted,
    /// Nothing is stored: the data was only sent.
    Sent,
}

/// A frame of a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamFrame<'a> {
    /// The group; not empty.
    pub group: &'a str,
    /// The item, if the frame names it.
    pub item: Option<&'a str>,
    /// What happened to it.
    pub happened: Happened,
    /// Its data: the `data` of `event`, else the frame's own.
    pub data: Option<&'a Value>,
}

impl<'a> StreamFrame<'a> {
    /// Reads a frame; `None` for what names no group.
    pub fn read(frame: &'a Value) -> Option<Self> {
        let text = |key| {
            let text = frame.get(key).and_then(Value::as_str);
            text.filter(|text| !text.is_empty())
        };
        let group = text("groupId").or_else(|| text("group_id"))?;
        let event = frame.get("event");
        let happened = match event.and_then(|event| event.get("type")).and_then(Value::as_str) {
            Some("update") => Happened::Updated,
            Some("delete") => Happened::Deleted,
            Some("event") => Happened::Sent,
            _ => Happened::Created,
        };
        Some(Self {
            group,
            item: text("id"),
            happened,
            data: event
                .and_then(|event| event.get("data"))
                .or_else(|| frame.get("data")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn what_names_no_group_is_no_frame() {
        for frame in [
            json!(null),
            json!("x"),
            json!([1]),
            json!({}),
            json!({"groupId": "", "group_id": 3, "data": 1}),
        ] {
            assert_eq!(StreamFrame::read(&frame), None);
        }
    }

    #[test]
    fn the_data_of_the_event_counts_before_the_frames_own() {
        let data = json!({"n": 1});
        for (frame, item, happened, data) in [
            (
                json!({"groupId": "g", "group_id": "h", "id": "i", "event": {"type": "create", "data": data}, "data": 2}),
                Some("i"),
                Happened::Created,
                Some(&data),
            ),
            (
                json!({"groupId": 1, "group_id": "g", "event": {"type": "update"}, "data": data}),
                None,
                Happened::Updated,
                Some(&data),
            ),
            (
                json!({"groupId": "g", "id": "", "event": {"type": "delete", "data": null}}),
                None,
                Happened::Deleted,
                Some(&Value::Null),
            ),
            (
                json!({"groupId": "g", "id": "i", "event": {"type": "event", "event": {"type": "x", "data": 1}}}),
                Some("i"),
                Happened::Sent,
                None,
            ),
            (
                json!({"groupId": "g", "event": "text"}),
                None,
                Happened::Created,
                None,
            ),
        ] {
            let expected = StreamFrame {
                group: "g",
                item,
                happened,
                data,
            };
            assert_eq!(StreamFrame::read(&frame), Some(expected));
        }
    }
}
