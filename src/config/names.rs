//! Which names there are, and which one was probably meant.

use super::spec::Key;
use super::table::{KEYS, SECTIONS};

/// Names of earlier drafts that are not like what they are called now (contract 12 §3).
const RENAMED: &[(&str, &str)] = &[("turn_queue", "turn.wake_queue"), ("admin", "http.listen")];

/// How like ours a foreign top-level name must be to get a hint.
const NEAR: f64 = 0.85;

/// The key of this name; an empty section means the top level.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// Whether this is one of our sections.
pub(super) fn is_section(name: &str) -> bool {
    SECTIONS.iter().any(|section| section.name == name)
}

/// The known name that was probably meant: always one inside our sections, else only if something is near.
pub(super) fn hint(section: &str, name: &str) -> Option<String> {
    let path = path(section, name);
    if let Some((_, now)) = RENAMED.iter().find(|(old, _)| *old == path) {
        return Some((*now).to_owned());
    }
    let keys = KEYS
        .iter()
        .filter(|key| key.section == section)
        .map(|key| key.name);
    if is_section(section) {
        return nearest(keys, name).map(|(_, known)| known.to_owned());
    }
    // A key of a section that was written at top level.
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return Some(key.path());
    }
    let names = keys.chain(SECTIONS.iter().map(|section| section.name));
    nearest(names, name)
        .filter(|(likeness, _)| *likeness >= NEAR)
        .map(|(_, known)| known.to_owned())
}

/// `section.name`, or the name alone at the top level.
pub(super) fn path(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    }
}

fn nearest<'a>(names: impl Iterator<Item = &'a str>, name: &str) -> Option<(f64, &'a str)> {
    names
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
}
