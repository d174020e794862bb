mod bounds;
mod properties;

use pretty_assertions::assert_eq;

use super::*;

/// Applies one operation and gives back the value and the codes of the errors.
fn run(current: Value, op: Value) -> (Value, Vec<String>) {
    run_on(Some(current), &[op])
}

fn run_on(current: Option<Value>, ops: &[Value]) -> (Value, Vec<String>) {
    let applied = apply(current, &parse(ops).expect("well formed operations"));
    let code = |error: &Value| error["code"].as_str().expect("a code").to_owned();
    (applied.value, applied.errors.iter().map(code).collect())
}

fn ok(value: Value) -> (Value, Vec<String>) {
    (value, vec![])
}

fn refused(value: Value, code: &str) -> (Value, Vec<String>) {
    (value, vec![code.to_owned()])
}

#[test]
fn c00_case_08_dots_separate_nothing_and_nested_append_opens_an_array() {
    let ops = [
        json!({"type":"set","path":"a.b","value":1}),
        json!({"type":"append","path":["x","y"],"value":"s"}),
    ];
    assert_eq!(run_on(None, &ops), ok(json!({"a.b":1,"x":{"y":["s"]}})));
}

#[test]
fn c00_case_09_set_on_null_is_reported_whole() {
    let ops = parse(&[json!({"type":"set","path":"a","value":1})]).expect("well formed");
    let error = json!({
        "op_index": 0,
        "code": "set.target_not_object",
        "message": "the target is null, not an object",
        "doc_url": "https://iii.dev/docs/workers/iii-state#error-codes",
    });
    assert_eq!(
        apply(Some(Value::Null), &ops),
        Applied {
            value: Value::Null,
            errors: vec![error]
        }
    );
}

#[test]
fn c00_case_10_append_to_a_string() {
    assert_eq!(
        run(
            json!({"t":"hel"}),
            json!({"type":"append","path":"t","value":"lo"})
        ),
        ok(json!({"t":"hello"}))
    );
    assert_eq!(
        run(
            json!({"t":"hello"}),
            json!({"type":"append","path":"t","value":1})
        ),
        refused(json!({"t":"hello"}), "append.type_mismatch")
    );
}

#[test]
fn c00_case_11_increment() {
    assert_eq!(
        run(json!({}), json!({"type":"increment","path":"n","by":2})),
        ok(json!({"n":2}))
    );
    assert_eq!(
        run(json!({"n":"x"}), json!({"type":"increment","path":"n","by":2})),
        refused(json!({"n":"x"}), "increment.not_number")
    );
}

#[test]
fn c00_case_12_merge_refuses_prototype_keys() {
    for value in [
        json!({"__proto__":{}}),
        json!({"a":{"constructor":1}}),
        json!({"a":[{"prototype":1}]}),
    ] {
        assert_eq!(
            run(json!({"k":1}), json!({"type":"merge","value":value})),
            refused(json!({"k":1}), "merge.value.proto_polluted")
        );
    }
}

#[test]
fn set_and_remove() {
    let table = [
        (
            json!({"a":1}),
            json!({"type":"set","path":"a"}),
            ok(json!({"a":null})),
        ),
        (
            json!({"a":1}),
            json!({"type":"set","path":"","value":[1]}),
            ok(json!([1])),
        ),
        (json!({"a":1}), json!({"type":"set","path":""}), ok(Value::Null)),
        (
            json!([1]),
            json!({"type":"set","path":"a","value":1}),
            refused(json!([1]), "set.target_not_object"),
        ),
        (
            json!({"a":1,"b":2,"c":3}),
            json!({"type":"remove","path":"a"}),
            ok(json!({"b":2,"c":3})),
        ),
        (
            json!({"a":1}),
            json!({"type":"remove","path":"zz"}),
            ok(json!({"a":1})),
        ),
        (
            json!({"a":1}),
            json!({"type":"remove","path":""}),
            ok(Value::Null),
        ),
        (
            json!(7),
            json!({"type":"remove","path":"a"}),
            refused(json!(7), "remove.target_not_object"),
        ),
    ];
    for (current, op, expected) in table {
        assert_eq!(run(current, op.clone()), expected, "{op}");
    }
}

#[test]
fn remove_keeps_the_order_of_the_other_keys() {
    let (value, _) = run(
        json!({"a":1,"b":2,"c":3,"d":4}),
        json!({"type":"remove","path":"b"}),
    );
    assert_eq!(value.to_string(), r#"{"a":1,"c":3,"d":4}"#);
}

#[test]
fn numbers_keep_their_kind_and_never_wrap() {
    let big = u64::MAX - 1;
    let table = [
        (
            json!({"n":1}),
            json!({"type":"decrement","path":"n","by":3}),
            ok(json!({"n":-2})),
        ),
        (
            json!({}),
            json!({"type":"decrement","path":"n","by":3}),
            ok(json!({"n":-3})),
        ),
        (
            json!({"n":1.5}),
            json!({"type":"increment","path":"n","by":2}),
            ok(json!({"n":3.5})),
        ),
        (
            json!({"n":big}),
            json!({"type":"increment","path":"n","by":1}),
            ok(json!({"n":u64::MAX})),
        ),
        (
            json!({"n":u64::MAX}),
            json!({"type":"increment","path":"n","by":1}),
            refused(json!({"n":u64::MAX}), "increment.not_number"),
        ),
        (
            json!({"n":i64::MAX}),
            json!({"type":"increment","path":"n","by":1}),
            refused(json!({"n":i64::MAX}), "increment.not_number"),
        ),
        (
            json!({}),
            json!({"type":"decrement","path":"n","by":i64::MIN}),
            refused(json!({}), "decrement.not_number"),
        ),
        (
            json!({"n":null}),
            json!({"type":"decrement","path":"n","by":1}),
            refused(json!({"n":null}), "decrement.not_number"),
        ),
        (
            json!([]),
            json!({"type":"increment","path":"n","by":1}),
            refused(json!([]), "increment.target_not_object"),
        ),
        (
            json!(1),
            json!({"type":"decrement","path":"n","by":1}),
            refused(json!(1), "decrement.target_not_object"),
        ),
        (
            json!({}),
            json!({"type":"increment","path":"","by":1}),
            refused(json!({}), "increment.path.empty_segment"),
        ),
    ];
    for (current, op, expected) in table {
        assert_eq!(run(current, op.clone()), expected, "{op}");
    }
}

#[test]
fn merge_is_shallow_and_makes_its_way() {
    let table = [
        (
            json!({"a":{"x":1}}),
            json!({"type":"merge","value":{"a":{"y":2},"b":1}}),
            ok(json!({"a":{"y":2},"b":1})),
        ),
        (
            json!({"a":1}),
            json!({"type":"merge","path":"","value":{"b":1}}),
            ok(json!({"a":1,"b":1})),
        ),
        (
            json!({"a":1}),
            json!({"type":"merge","path":[],"value":{"b":1}}),
            ok(json!({"a":1,"b":1})),
        ),
        (
            json!({"a":1}),
            json!({"type":"merge","path":"a","value":{"b":1}}),
            ok(json!({"a":{"b":1}})),
        ),
        (
            json!({}),
            json!({"type":"merge","path":["a","b.c"],"value":{"d":1}}),
            ok(json!({"a":{"b.c":{"d":1}}})),
        ),
        (
            json!([1]),
            json!({"type":"merge","value":{"b":1}}),
            ok(json!([1])),
        ),
        (
            json!(null),
            json!({"type":"merge","value":{"b":1}}),
            ok(json!(null)),
        ),
        (
            json!(null),
            json!({"type":"merge","path":"a","value":{"b":1}}),
            ok(json!({"a":{"b":1}})),
        ),
        (
            json!({}),
            json!({"type":"merge","value":[1]}),
            refused(json!({}), "merge.value.not_an_object"),
        ),
        (
            json!({}),
            json!({"type":"merge","value":null}),
            refused(json!({}), "merge.value.not_an_object"),
        ),
    ];
    for (current, op, expected) in table {
        assert_eq!(run(current, op.clone()), expected, "{op}");
    }
}

#[test]
fn append_by_place_and_kind() {
    let table = [
        (json!([1]), json!({"type":"append","value":2}), ok(json!([1, 2]))),
        (json!("a"), json!({"type":"append","value":"b"}), ok(json!("ab"))),
        (json!(null), json!({"type":"append","value":"b"}), ok(json!("b"))),
        (json!(null), json!({"type":"append","value":1}), ok(json!([1]))),
        (
            json!({}),
            json!({"type":"append","path":"t","value":"b"}),
            ok(json!({"t":"b"})),
        ),
        (
            json!({}),
            json!({"type":"append","path":["t"],"value":"b"}),
            ok(json!({"t":"b"})),
        ),
        (
            json!({"t":null}),
            json!({"type":"append","path":"t","value":"b"}),
            ok(json!({"t":"b"})),
        ),
        (
            json!({}),
            json!({"type":"append","path":"t","value":null}),
            ok(json!({"t":[null]})),
        ),
        (
            json!({}),
            json!({"type":"append","path":["t","u"],"value":"b"}),
            ok(json!({"t":{"u":["b"]}})),
        ),
        (
            json!({"t":{"u":"a"}}),
            json!({"type":"append","path":["t","u"],"value":"b"}),
            ok(json!({"t":{"u":"ab"}})),
        ),
        (
            json!({}),
            json!({"type":"append","value":1}),
            refused(json!({}), "append.type_mismatch"),
        ),
        (
            json!({"t":1}),
            json!({"type":"append","path":["t","u"],"value":"b"}),
            refused(json!({"t":1}), "append.target_not_object"),
        ),
        (
            json!([]),
            json!({"type":"append","path":"t","value":1}),
            refused(json!([]), "append.target_not_object"),
        ),
    ];
    for (current, op, expected) in table {
        assert_eq!(run(current, op.clone()), expected, "{op}");
    }
}

#[test]
fn a_failed_operation_does_not_stop_the_next() {
    let ops = [
        json!({"type":"increment","path":"s","by":1}),
        json!({"type":"set","path":"t","value":1}),
        json!({"type":"append","path":"t","value":1}),
    ];
    let parsed = parse(&ops).expect("well formed");
    let applied = apply(Some(json!({"s":"x"})), &parsed);
    assert_eq!(applied.value, json!({"s":"x","t":1}));
    let indices: Vec<_> = applied
        .errors
        .iter()
        .map(|error| error["op_index"].clone())
        .collect();
    assert_eq!(indices, [json!(0), json!(2)]);
}
