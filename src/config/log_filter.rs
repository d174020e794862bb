//! What `log.level` means.

use tracing_subscriber::EnvFilter;

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// The filter of a level or of filter directives. A bare level is for our own lines; those of dependencies stay at
/// `warn`, because their traces may hold request headers, and those of the engine's SDK at `error`, because it repeats
/// itself every two seconds while there is no engine, and what it warns of is said by us.
pub fn log_filter(level: &str) -> Result<EnvFilter, String> {
    let level = level.trim();
    if level.is_empty() {
        return Err("a level is missing".into());
    }
    EnvFilter::builder()
        .parse(directives(level)?)
        .map_err(|error| error.to_string())
}

fn directives(level: &str) -> Result<String, String> {
    // The filter's own syntax would take an unknown word for the name of a module.
    let is_word = level.chars().all(|c| c.is_ascii_alphabetic());
    if !is_word {
        return Ok(level.to_owned());
    }
    let word = level.to_ascii_lowercase();
    match word.as_str() {
        "off" | "error" => Ok(word),
        known if LEVELS.contains(&known) => Ok(format!("warn,iii_sdk=error,harness={known}")),
        _ => Err(format!("`{level}` is not a level")),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn levels_and_filters() {
        for (level, directives) in [
            ("info", Some("iii_sdk=error,harness=info,warn")),
            (" DEBUG ", Some("iii_sdk=error,harness=debug,warn")),
            ("off", Some("off")),
            ("error", Some("error")),
            ("info,harness::bus=trace", Some("harness::bus=trace,info")),
            ("verbose", None),
            ("", None),
            ("harness=loud", None),
        ] {
            assert_eq!(
                log_filter(level).ok().map(|filter| filter.to_string()).as_deref(),
                directives,
                "{level:?}"
            );
        }
    }
}
