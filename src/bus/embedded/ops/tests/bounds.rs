//! What is too long, too deep or not understood.

use pretty_assertions::assert_eq;

use super::*;

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!({ "n": inner }))
}

#[test]
fn merge_bounds() {
    let keys = |n: usize| (0..n).map(|i| (format!("k{i}"), json!(1))).collect::<Map<_, _>>();
    let merge = |value: Value| run(json!({}), json!({"type":"merge","value":value})).1;
    assert_eq!(merge(nested(MAX_MERGE_DEPTH)), Vec::<String>::new());
    assert_eq!(merge(nested(MAX_MERGE_DEPTH + 1)), ["merge.value.too_deep"]);
    assert_eq!(merge(Value::Object(keys(MAX_MERGE_KEYS))), Vec::<String>::new());
    assert_eq!(
        merge(Value::Object(keys(MAX_MERGE_KEYS + 1))),
        ["merge.value.too_many_keys"]
    );
}

#[test]
fn path_bounds_of_every_operation() {
    let long = "x".repeat(MAX_SEGMENT_BYTES + 1);
    let fits = "x".repeat(MAX_SEGMENT_BYTES);
    let with = |name: &str, path: Value| match name {
        "merge" => json!({"type":name,"path":path,"value":{}}),
        "increment" | "decrement" => json!({"type":name,"path":path,"by":1}),
        _ => json!({"type":name,"path":path,"value":1}),
    };
    for name in ["set", "merge", "increment", "decrement", "append", "remove"] {
        assert_eq!(
            run(json!({}), with(name, json!(fits))).1,
            Vec::<String>::new(),
            "{name}"
        );
        let code = |end: &str| vec![format!("{name}.path.{end}")];
        assert_eq!(
            run(json!({}), with(name, json!(long))),
            (json!({}), code("segment_too_long"))
        );
        assert_eq!(
            run(json!({}), with(name, json!("prototype"))),
            (json!({}), code("proto_polluted"))
        );
    }
    for name in ["merge", "append"] {
        let code = |end: &str| vec![format!("{name}.path.{end}")];
        let deep = |n: usize| Value::from(vec!["a"; n]);
        assert_eq!(
            run(json!({}), with(name, deep(MAX_PATH_DEPTH))).1,
            Vec::<String>::new()
        );
        assert_eq!(
            run(json!({}), with(name, deep(MAX_PATH_DEPTH + 1))),
            (json!({}), code("too_deep"))
        );
        assert_eq!(
            run(json!({}), with(name, json!(["a", ""]))),
            (json!({}), code("empty_segment"))
        );
    }
}

#[test]
fn malformed_operations_are_named() {
    let error = |op: Value| parse(&[json!({"type":"set","path":"a"}), op]).expect_err("malformed");
    assert_eq!(error(json!({"type":"append"})), "ops[1]: missing field `value`");
    assert_eq!(
        error(json!({"type":"increment","path":"a"})),
        "ops[1]: missing field `by`"
    );
    assert!(error(json!({"type":"explode"})).starts_with("ops[1]: unknown variant `explode`"));
    assert!(error(json!(5)).starts_with("ops[1]: "));
}
