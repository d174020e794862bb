//! What holds for any value and any operation.

use proptest::prelude::*;

use super::*;

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
