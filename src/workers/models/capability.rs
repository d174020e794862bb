//! Capability strings (contract 09 A4).

use serde_json::Value;

/// The member of a record that a capability string stands for; `None` for an unknown string.
pub(super) fn member(capability: &str) -> Option<&'static str> {
    match capability {
        "thinking" | "thinking:minimal" | "thinking:low" | "thinking:medium" | "thinking:high" => {
            Some("supports_thinking")
        }
        "thinking:xhigh" => Some("supports_xhigh"),
        "tools" => Some("supports_tools"),
        "vision" => Some("supports_vision"),
        "cache" => Some("supports_cache"),
        _ => None,
    }
}

/// Whether a record says that it has it; absent counts as no.
pub(super) fn has(record: &Value, member: &str) -> bool {
    record.get(member) == Some(&Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn c09_case_21_thinking_levels() {
        let record = json!({"supports_thinking": true, "supports_vision": "yes"});
        let verdicts: Vec<(&str, Option<bool>)> = [
            "thinking",
            "thinking:minimal",
            "thinking:low",
            "thinking:medium",
            "thinking:high",
            "thinking:xhigh",
            "tools",
            "vision",
            "cache",
            "thinking:off",
            "Tools",
            "",
        ]
        .map(|capability| (capability, member(capability).map(|member| has(&record, member))))
        .to_vec();
        assert_eq!(
            verdicts,
            [
                ("thinking", Some(true)),
                ("thinking:minimal", Some(true)),
                ("thinking:low", Some(true)),
                ("thinking:medium", Some(true)),
                ("thinking:high", Some(true)),
                ("thinking:xhigh", Some(false)),
                ("tools", Some(false)),
                ("vision", Some(false)),
                ("cache", Some(false)),
                ("thinking:off", None),
                ("Tools", None),
                ("", None),
            ]
        );
    }
}
