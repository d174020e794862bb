use pretty_assertions::assert_eq;
use proptest::prelude::*;

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

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!({ "n": inner }))
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

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9f64).prop_map(Value::from),
        "[a-c]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-c]{1,2}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_op() -> impl Strategy<Value = Op> {
    let key = "[a-c]{0,2}";
    let path = prop_oneof![
        Just(None),
        key.prop_map(|key| Some(Path::Key(key))),
        prop::collection::vec("[a-c]{0,2}", 0..4).prop_map(|segments| Some(Path::Segments(segments))),
    ];
    prop_oneof![
        (key, json_value()).prop_map(|(path, value)| Op::Set { path, value }),
        (path.clone(), json_value()).prop_map(|(path, value)| Op::Merge { path, value }),
        (key, any::<i64>()).prop_map(|(path, by)| Op::Increment { path, by }),
        (key, any::<i64>()).prop_map(|(path, by)| Op::Decrement { path, by }),
        (path, json_value()).prop_map(|(path, value)| Op::Append { path, value }),
        key.prop_map(|path| Op::Remove { path }),
    ]
}

proptest! {
    #[test]
    fn a_skipped_operation_leaves_the_value_alone(current in json_value(), op in any_op()) {
        let applied = apply(Some(current.clone()), std::slice::from_ref(&op));
        if !applied.errors.is_empty() {
            prop_assert_eq!(applied.value, current);
        }
    }

    #[test]
    fn a_list_is_the_same_as_one_by_one(current in json_value(), ops in prop::collection::vec(any_op(), 0..8)) {
        let at_once = apply(Some(current.clone()), &ops);
        let mut value = current;
        let mut skipped = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let applied = apply(Some(value), std::slice::from_ref(op));
            value = applied.value;
            if !applied.errors.is_empty() {
                skipped.push(json!(index));
            }
        }
        let indices: Vec<_> = at_once.errors.iter().map(|error| error["op_index"].clone()).collect();
        prop_assert_eq!(at_once.value, value);
        prop_assert_eq!(indices, skipped);
    }

    #[test]
    fn increment_and_decrement_undo_each_other(start in any::<i32>(), by in any::<i32>()) {
        let ops = [
            Op::Increment { path: "n".to_owned(), by: i64::from(by) },
            Op::Decrement { path: "n".to_owned(), by: i64::from(by) },
        ];
        let applied = apply(Some(json!({"n":start})), &ops);
        prop_assert_eq!(applied, Applied { value: json!({"n":start}), errors: vec![] });
    }
}
