//! The context of whoever made a job, kept beside it (contract 00 §11.2).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::bus::{Baggage, CallContext};

/// Members of the baggage that belong to the maker's own work, not to the job.
const LEFT_OUT: [&str; 3] = ["iii.tag.kind", "iii.tag.display_name", "iii.tag.hidden"];

/// As it is stored.
pub(super) fn text(context: &CallContext) -> String {
    json!({
        "session_id": context.baggage.session_id,
        "message_id": context.baggage.message_id,
        "others": context.baggage.others.as_deref().and_then(kept),
        "traceparent": context.traceparent,
    })
    .to_string()
}

/// As the job gets it. Without it a job still runs.
pub(super) fn read(text: &str) -> CallContext {
    let stored: Value = serde_json::from_str(text).unwrap_or_default();
    let member = |name: &str| stored.get(name).and_then(Value::as_str).map(Arc::from);
    CallContext {
        baggage: Baggage {
            session_id: member("session_id"),
            message_id: member("message_id"),
            others: member("others"),
        },
        traceparent: member("traceparent"),
        metadata: None,
        cancel: None,
        batch: None,
    }
}

fn kept(members: &str) -> Option<String> {
    let is_kept = |member: &&str| {
        let key = member.split('=').next().unwrap_or_default().trim();
        !LEFT_OUT.contains(&key)
    };
    let kept: Vec<_> = members.split(',').filter(is_kept).collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn through_the_store(baggage: &str) -> Option<String> {
        let context = CallContext {
            baggage: Baggage::parse(baggage),
            traceparent: Some("00-a-b-01".into()),
            ..CallContext::default()
        };
        let back = read(&text(&context));
        assert_eq!(back.traceparent, context.traceparent);
        back.baggage.render("f")
    }

    #[test]
    fn a_job_keeps_the_baggage_of_its_maker() {
        assert_eq!(
            through_the_store("iii.session.id=s,tenant=t;p=1,iii.tag.kind=chat,iii.tag.message=hi")
                .as_deref(),
            Some("iii.session.id=s,iii.function.id=f,tenant=t;p=1,iii.tag.message=hi")
        );
        assert_eq!(
            through_the_store("iii.tag.kind=chat,iii.tag.hidden=true,iii.tag.display_name=x"),
            None
        );
        assert_eq!(read("nonsense").baggage, Baggage::default());
    }
}
