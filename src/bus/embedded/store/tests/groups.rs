//! Writes that share a transaction, and whoever looks on.

use pretty_assertions::assert_eq;

use super::*;

fn fail() -> impl FnOnce(&Connection) -> Result<()> {
    |connection| {
        connection
            .execute(
                "INSERT INTO collections (kind, name, grp) VALUES (0, 'half', '')",
                [],
            )
            .map_err(|error| Error::store("test", error))?;
        Err(Error::store("test", "on purpose"))
    }
}

#[test]
fn a_batch_is_all_or_nothing() {
    both(|store| {
        // The second write cannot be done: the number it would count up is no JSON any more.
        one(store, set(Address::state("d", "broken"), json!(1)));
        wait(store.transact(|connection| {
            connection
                .execute("UPDATE rows SET value = 'not json'", [])
                .map_err(|error| Error::store("test", error))
        }))
        .unwrap();
        let batch = vec![
            set(Address::state("d", "a"), json!(1)),
            update(
                Address::state("d", "broken"),
                &[json!({"type":"increment","path":"n","by":1})],
            ),
        ];
        let error = wait(store.write(batch)).unwrap_err();
        assert!(matches!(error, Error::Store { .. }), "{error:?}");
        assert_eq!(value_at(store, Address::state("d", "a")), None);
    });
}

#[test]
fn a_failed_task_does_not_fail_its_neighbours() {
    both(|store| {
        let (release, held) = hold(store);
        let before = store.write(vec![set(Address::state("d", "before"), json!(1))]);
        let failing = store.transact(fail());
        let panicking = store.transact(|_| -> Result<()> { panic!("on purpose") });
        let after = store.write(vec![set(Address::state("d", "after"), json!(2))]);
        drop(release);
        wait(held).unwrap();
        wait(before).unwrap();
        assert_eq!(wait(failing), Err(Error::store("test", "on purpose")));
        assert_eq!(
            wait(panicking),
            Err(Error::store("store", "a step of the store panicked"))
        );
        wait(after).unwrap();
        assert_eq!(wait(store.list(Place::state("d"))).unwrap(), [json!(1), json!(2)]);
        assert_eq!(wait(store.state_scopes()).unwrap(), ["d"]);
    });
}

#[test]
fn a_failed_task_alone_leaves_nothing() {
    both(|store| {
        assert_eq!(
            wait(store.transact(fail())),
            Err(Error::store("test", "on purpose"))
        );
        assert_eq!(wait(store.state_scopes()).unwrap(), Vec::<String>::new());
        one(store, set(Address::state("d", "k"), json!(1)));
        assert_eq!(wait(store.state_scopes()).unwrap(), ["d"]);
    });
}

#[test]
fn figures_are_right_after_an_undone_insert() {
    both(|store| {
        let (release, held) = hold(store);
        // Makes the collection, then fails: the next write must not trust what was remembered of it.
        let half = store.write(vec![
            set(Address::state("new", "a"), json!(1)),
            update(
                Address::state("new", "a"),
                &[json!({"type":"set","path":"","value":too_deep()})],
            ),
        ]);
        let whole = store.write(vec![set(Address::state("new", "b"), json!(2))]);
        drop(release);
        wait(held).unwrap();
        assert!(wait(half).is_err());
        wait(whole).unwrap();
        assert_eq!(wait(store.list(Place::state("new"))).unwrap(), [json!(2)]);
    });
}

#[test]
fn writes_are_queued_at_the_call_and_hooks_run_in_commit_order() {
    both(|store| {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut pending: Vec<_> = (0..100)
            .map(|n| {
                let order = Arc::clone(&order);
                let hook: AfterCommit = Box::new(move |written| {
                    order.lock().unwrap().push((n, seen(&written[0]).new));
                });
                store.write_then(vec![set(Address::state("d", "k"), json!(n))], Some(hook))
            })
            .collect();
        // Awaited backwards, or never: the order is that of the calls.
        wait(pending.pop().unwrap()).unwrap();
        drop(pending);
        let expected: Vec<_> = (0..100).map(|n| (n, Some(json!(n)))).collect();
        assert_eq!(*order.lock().unwrap(), expected);
    });
}

#[test]
fn a_hook_that_panics_does_not_stop_the_store() {
    both(|store| {
        let hook: AfterCommit = Box::new(|_| panic!("on purpose"));
        wait(store.write_then(vec![set(Address::state("d", "k"), json!(1))], Some(hook))).unwrap();
        assert_eq!(value_at(store, Address::state("d", "k")), Some(json!(1)));
    });
}

#[test]
fn a_lost_group_is_reported_until_the_next_one_goes_well() {
    both(|store| {
        // A task that fails for a reason of its own says nothing about the store.
        assert_eq!(
            wait(store.transact(fail())),
            Err(Error::store("test", "on purpose"))
        );
        assert_eq!(store.problem(), None);
        // Ends the transaction under the writer's feet: COMMIT has nothing to commit, the group is lost.
        let lost = store.transact(|connection| {
            connection
                .execute_batch("ROLLBACK")
                .map_err(|error| Error::store("test", error))?;
            Err::<(), _>(Error::store("test", "lost"))
        });
        assert_eq!(wait(lost), Err(Error::store("test", "lost")));
        assert_eq!(store.problem(), Some("test: lost".to_owned()));
        one(store, set(Address::state("d", "k"), json!(1)));
        assert_eq!(store.problem(), None);
    });
}

#[test]
fn sixty_four_writers_lose_nothing() {
    both(|store| {
        std::thread::scope(|scope| {
            for writer in 0..64 {
                scope.spawn(move || {
                    for n in 0..20 {
                        let count = update(
                            Address::state("d", "n"),
                            &[json!({"type":"increment","path":"n","by":1})],
                        );
                        let own = set(Address::state(format!("w{writer}"), format!("k{n}")), json!(n));
                        wait(store.write(vec![count, own])).unwrap();
                        assert_eq!(
                            value_at(store, Address::state(format!("w{writer}"), format!("k{n}"))),
                            Some(json!(n))
                        );
                    }
                });
            }
        });
        assert_eq!(
            value_at(store, Address::state("d", "n")),
            Some(json!({"n": 1280}))
        );
        for writer in 0..64 {
            let expected: Vec<_> = (0..20).map(Value::from).collect();
            assert_eq!(
                wait(store.list(Place::state(format!("w{writer}")))).unwrap(),
                expected
            );
        }
    });
}

#[test]
fn readers_are_not_blocked_by_a_writer_at_work() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path(), &directory_options()).unwrap();
    one(&store, set(Address::state("d", "k"), json!(1)));
    let (release, held) = hold(&store);
    assert_eq!(value_at(&store, Address::state("d", "k")), Some(json!(1)));
    drop(release);
    wait(held).unwrap();
}

/// The last handle may go inside a hook, on the writer thread itself.
#[test]
fn the_last_handle_may_go_on_the_writer_thread() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path(), &directory_options()).unwrap();
    let (gone, seen) = mpsc::channel();
    let last = store.clone();
    let (release, held) = hold(&store);
    drop(store.write_then(
        vec![set(Address::state("d", "k"), json!(1))],
        Some(Box::new(move |_| {
            drop(last);
            gone.send(()).unwrap();
        })),
    ));
    drop(store);
    drop(release);
    wait(held).unwrap();
    seen.recv().unwrap();
}
