//! Entries as nested nodes, never deeper than a reply can be (contract 06 §4.6). Pure, without recursion.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::entry::SessionEntry;
use super::tree::{Response, TreeNode};
use crate::model::EntryId;
use crate::model::measure::measure;

/// Levels of JSON that an engine's frame can hold, less its own.
const MAX_LEVELS: usize = 126;

/// Levels of nodes in an answer that holds not all of them.
const SHOWN_LEVELS: usize = 40;

/// Nests entries that are in stored order; `None` when there is no root.
pub(super) fn nest(entries: &[Arc<SessionEntry>]) -> Option<Response> {
    let family = Family::of(entries);
    let root = family.roots.iter().copied().find(|position| {
        let entry = entries.get(*position);
        entry.is_some_and(|entry| entry.parent_id.is_none())
    })?;
    let other_roots = family.roots.iter().filter(|position| **position != root);
    let other_roots: Vec<EntryId> = other_roots
        .filter_map(|position| Some(entries.get(*position)?.id.clone()))
        .collect();

    let descent = family.descent(root);
    let fits = |&(position, level): &(usize, usize)| {
        let entry = entries.get(position);
        entry.is_none_or(|entry| room_at(level).is_some_and(|room| measure(&entry.to_value()).depth <= room))
    };
    let truncated = !descent.iter().all(fits);
    let shown = descent
        .iter()
        .copied()
        .filter(|(_, level)| !truncated || *level <= SHOWN_LEVELS);
    let node = assemble(entries, &family, &shown.collect::<Vec<_>>())?;
    Some(Response {
        entry: node.entry,
        children: node.children,
        truncated: truncated.then_some(true),
        // The root, its list, and then the entry.
        entries: truncated.then(|| {
            entries
                .iter()
                .map(|entry| within(entry, MAX_LEVELS - 2))
                .collect()
        }),
        other_roots: (!other_roots.is_empty()).then_some(other_roots),
    })
}

/// Levels that are left for the entry of a node: each node is an object in a list, but for the first.
fn room_at(level: usize) -> Option<usize> {
    MAX_LEVELS.checked_sub(2 * level - 1)
}

/// An entry, without its own members when they are nested too deep for their place.
fn within(entry: &SessionEntry, room: usize) -> Value {
    let value = entry.to_value();
    if measure(&value).depth <= room {
        return value;
    }
    json!({
        "type": value.get("type"), "id": entry.id, "parent_id": entry.parent_id, "timestamp": entry.timestamp,
        "too_deep": true,
    })
}

/// Builds the nodes of a descent, the last first, so that a node's children are there before it.
fn assemble(entries: &[Arc<SessionEntry>], family: &Family, descent: &[(usize, usize)]) -> Option<TreeNode> {
    let mut built: HashMap<usize, TreeNode> = HashMap::with_capacity(descent.len());
    for &(position, level) in descent.iter().rev() {
        let children = family.children.get(position)?;
        let node = TreeNode {
            entry: within(entries.get(position)?, room_at(level).unwrap_or_default()),
            children: children.iter().filter_map(|child| built.remove(child)).collect(),
        };
        built.insert(position, node);
    }
    built.remove(&descent.first()?.0)
}

/// Who is under whom, by position in stored order.
struct Family {
    /// Without a parent, or with one that does not exist.
    roots: Vec<usize>,
    children: Vec<Vec<usize>>,
}

impl Family {
    fn of(entries: &[Arc<SessionEntry>]) -> Self {
        let positions: HashMap<&EntryId, usize> = (entries.iter().map(|entry| &entry.id)).zip(0..).collect();
        let mut family = Self {
            roots: Vec::new(),
            children: vec![Vec::new(); entries.len()],
        };
        for (position, entry) in entries.iter().enumerate() {
            let parent = entry.parent_id.as_ref().and_then(|parent| positions.get(parent));
            match parent.and_then(|parent| family.children.get_mut(*parent)) {
                Some(siblings) => siblings.push(position),
                None => family.roots.push(position),
            }
        }
        family
    }

    /// A root and everything under it with its level, 1 for the root; level by level.
    fn descent(&self, root: usize) -> Vec<(usize, usize)> {
        let mut descent = vec![(root, 1)];
        let mut next = 0;
        while let Some(&(position, level)) = descent.get(next) {
            next += 1;
            let children = self.children.get(position).into_iter().flatten();
            descent.extend(children.map(|child| (*child, level + 1)));
        }
        descent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn entries(rows: &[(&str, Option<&str>)]) -> Vec<Arc<SessionEntry>> {
        let read = |(n, (id, parent)): (usize, &(&str, Option<&str>))| {
            let row = json!({"type": "message", "id": id, "parent_id": parent, "timestamp": n,
                             "message": {"role": "user", "content": [{"type": "text", "text": id}]}});
            Arc::new(SessionEntry::read(row).0.unwrap())
        };
        rows.iter().enumerate().map(read).collect()
    }

    fn chain(len: usize) -> Vec<Arc<SessionEntry>> {
        let names: Vec<String> = (0..len).map(|n| format!("e{n}")).collect();
        let rows: Vec<_> = (0..len)
            .map(|n| {
                (
                    names[n].as_str(),
                    n.checked_sub(1).map(|before| names[before].as_str()),
                )
            })
            .collect();
        entries(&rows)
    }

    fn shape(node: &Value) -> Value {
        let children = node["children"].as_array().unwrap();
        json!([
            node["entry"]["id"],
            children.iter().map(shape).collect::<Vec<_>>()
        ])
    }

    #[test]
    fn children_come_in_stored_order_under_their_parent() {
        let entries = entries(&[
            ("early", Some("b")),
            ("a", None),
            ("b", Some("a")),
            ("c", Some("a")),
            ("other", None),
            ("lost", Some("gone")),
            ("x", Some("y")),
            ("y", Some("x")),
        ]);
        let tree = serde_json::to_value(nest(&entries).unwrap()).unwrap();
        assert_eq!(shape(&tree), json!(["a", [["b", [["early", []]]], ["c", []]]]));
        assert_eq!(tree["other_roots"], json!(["other", "lost"]));
        assert_eq!(tree.get("truncated"), None);
    }

    #[test]
    fn without_a_root_there_is_no_tree() {
        assert_eq!(nest(&entries(&[("a", Some("gone")), ("x", Some("x"))])), None);
    }

    #[test]
    fn a_chain_is_cut_where_a_frame_would_be_too_deep() {
        let whole = serde_json::to_value(nest(&chain(61)).unwrap()).unwrap();
        assert_eq!(whole.get("truncated"), None);
        assert_eq!(whole.get("entries"), None);
        let frame = json!({ "result": whole }).to_string();
        serde_json::from_str::<Value>(&frame).unwrap();

        let cut = serde_json::to_value(nest(&chain(62)).unwrap()).unwrap();
        assert_eq!(cut["truncated"], true);
        assert_eq!(cut["entries"].as_array().unwrap().len(), 62);
        let mut levels = 1;
        let mut node = &cut;
        while let Some(child) = node["children"].get(0) {
            levels += 1;
            node = child;
        }
        assert_eq!(levels, SHOWN_LEVELS);
    }

    #[test]
    fn no_entry_makes_a_reply_too_deep() {
        let mut deep = json!(1);
        for _ in 0..117 {
            deep = json!([deep]);
        }
        let mut chain = chain(50);
        for place in [0, 30, 49] {
            let mut row = chain[place].to_value();
            row["message"]["details"] = deep.clone();
            chain[place] = Arc::new(SessionEntry::read(row).0.unwrap());
        }
        let tree = nest(&chain).unwrap();
        assert_eq!(tree.truncated, Some(true));
        assert_eq!(tree.entry, chain[0].to_value());
        let tree = serde_json::to_value(tree).unwrap();
        let rows: Vec<Value> = chain.iter().map(|entry| entry.to_value()).collect();
        assert_eq!(tree["entries"], json!(rows));
        let frame = json!({ "result": tree }).to_string();
        serde_json::from_str::<Value>(&frame).unwrap();
    }

    #[test]
    fn a_very_long_chain_needs_no_stack() {
        assert_eq!(nest(&chain(100_000)).unwrap().entries.unwrap().len(), 100_000);
    }
}
