//! Answers from other threads: in time, late, never, and what they hide (nothing).

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use expect_test::expect;
use inspect::{
    Deferred, Inspect, Node, Path, Query, Request, Snapshot, Unresolved, Update, UpdateError, Value,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Far longer than any of these tests takes: a test that waits this long has failed.
const LONG: Duration = Duration::from_secs(60);

/// Puts its requests into a list.
#[derive(Default)]
struct Later(Mutex<Vec<Deferred>>);

impl Inspect for Later {
    fn inspect(&self, req: Request<'_>) {
        self.0.lock().unwrap().push(req.defer());
    }
}

impl Later {
    fn take(&self) -> Deferred {
        self.0.lock().unwrap().pop().unwrap()
    }
}

/// Answers each request from another thread, after it has been asked.
fn answered_by<'a>(answer: impl Fn(Deferred) + Clone + Send + 'static) -> impl Inspect + 'a {
    inspect::from_fn(move |req| {
        let (deferred, answer) = (req.defer(), answer.clone());
        thread::spawn(move || answer(deferred));
    })
}

fn collect(object: &impl Inspect, query: &Query) -> Node {
    inspect::collect(object, query, LONG).unwrap()
}

#[test]
fn answers_come_from_other_threads() {
    let state = BTreeMap::from([("a", 1), ("b", 2)]);
    let object = inspect::from_fn(|req| {
        let state = state.clone();
        req.respond()
            .value("z", 0)
            .field(
                "later",
                &answered_by(move |deferred| deferred.inspect(&state)),
            )
            .field("value", &answered_by(|deferred| deferred.value(5)));
    });
    let tree = collect(&object, &Query::new());
    expect!["{later: {a: 1, b: 2}, value: 5, z: 0}"].assert_eq(&tree.compact().to_string());
    let tree = collect(&object, &Query::new().path("later/b".parse().unwrap()));
    expect!["2"].assert_eq(&tree.to_string());
    let tree = collect(&object, &Query::new().depth(1));
    expect!["{later: ..., value: 5, z: 0}"].assert_eq(&tree.compact().to_string());
    let error = Query::new()
        .path("later/c".parse().unwrap())
        .deadline(LONG)
        .run(&object);
    expect!["nothing at `later/c`: `later` has only `a`, `b`"]
        .assert_eq(&error.unwrap_err().to_string());
}

#[test]
fn a_child_that_never_answers_hides_nothing() {
    let hung = Later::default();
    let object = inspect::from_fn(|req| {
        req.respond()
            .value("a", 1)
            .field("hung", &hung)
            .child("dropped", |req| drop(req.defer()))
            .field("late", &answered_by(|deferred| deferred.value(2)))
            .value("z", 3);
    });
    // The hung child stands before the one that answers, and its deadline has passed when that
    // one is looked at; what has come by then counts.
    let query = Query::new().deadline(Duration::from_millis(200));
    let snapshot: Snapshot = query.snapshot(&object).unwrap();
    let tree = snapshot.to_node();
    assert_eq!(
        tree.child("hung"),
        Some(&Node::Unresolved(Unresolved::Late))
    );
    assert_eq!(
        tree.child("dropped"),
        Some(&Node::Unresolved(Unresolved::Dropped))
    );
    let others: Vec<_> = ["a", "z"]
        .map(|name| tree.child(name).unwrap().to_string())
        .into();
    assert_eq!(others, ["1", "3"]);

    // The answer that comes too late reaches nobody, and says so beforehand.
    let deferred = hung.take();
    assert!(!deferred.is_wanted());
    deferred.respond_with(|_| panic!("nobody waits for this"));
}

#[test]
fn what_is_missing_reads_as_such() {
    let object = inspect::from_fn(|req| {
        req.respond()
            .child("dropped", |req| drop(req.defer()))
            .field("hung", &Later::default())
            .value("text", "... (no answer by the deadline)");
    });
    // `Later` drops its requests with itself.
    let query = Query::new().deadline(Duration::ZERO);
    let tree = query.run(&object).unwrap();
    expect![[r#"
        dropped: ... (dropped without an answer)
        hung: ... (dropped without an answer)
        text: "... (no answer by the deadline)""#]]
    .assert_eq(&tree.to_string());
    expect![[r#"{"dropped":{"...":"dropped without an answer"},"hung":{"...":"dropped without an answer"},"text":"... (no answer by the deadline)"}"#]]
    .assert_eq(&tree.to_json_string());
    assert_eq!(Node::from_json(&tree.to_json()), tree);
    // A tree that was taken shows again as what it was.
    let again = inspect::from_fn(|req| {
        req.respond().field("tree", &tree);
    });
    assert_eq!(inspect::inspect(&again).child("tree"), Some(&tree));
}

#[test]
fn a_path_that_leads_nowhere_yet_is_unresolved() {
    let object = inspect::from_fn(|req| {
        req.respond().field("hung", &Later::default());
    });
    let hung = Later::default();
    let kept = inspect::from_fn(|req| {
        req.respond().field("hung", &hung);
    });
    let query = Query::new()
        .path("hung/a/b".parse().unwrap())
        .deadline(Duration::ZERO);
    for object in [&object as &dyn Inspect, &kept] {
        assert!(matches!(query.run(object), Ok(Node::Unresolved(_))));
    }
    let elsewhere = Query::new().path("other".parse().unwrap());
    assert!(elsewhere.deadline(Duration::ZERO).run(&kept).is_err());
}

#[test]
fn contributors_merge_with_deferred_ones() {
    let directory = |number: u8| {
        move |deferred: Deferred| deferred.inspect(&BTreeMap::from([(number, number)]))
    };
    let object = inspect::from_fn(|req| {
        req.respond()
            .field("a", &answered_by(directory(2)))
            .field("a", &BTreeMap::from([(1, 1)]))
            .field("a", &answered_by(directory(3)))
            // The value stands, since the first answer is none.
            .child("b", |req| drop(req.defer()))
            .value("b", 5)
            .field("c", &answered_by(|deferred| deferred.value(1)))
            .value("c", 2);
    });
    expect!["{a: {1: 1, 2: 2, 3: 3}, b: 5, c: 1}"]
        .assert_eq(&collect(&object, &Query::new()).compact().to_string());
    for (path, expected) in [
        ("a/1", "1"),
        ("a/2", "2"),
        ("a/3", "3"),
        ("b", "5"),
        ("c", "1"),
    ] {
        let query = Query::new().path(path.parse().unwrap());
        assert_eq!(collect(&object, &query).to_string(), expected, "{path}");
    }
    let query = Query::new().path("a".parse().unwrap());
    expect!["{1: 1, 2: 2, 3: 3}"].assert_eq(&collect(&object, &query).compact().to_string());
}

#[test]
fn flattened_answers_merge_into_their_directory() {
    let object = inspect::from_fn(|req| {
        req.respond()
            .value("b", 0)
            .flatten(
                "directory",
                &answered_by(|deferred| deferred.inspect(&BTreeMap::from([("a", 1), ("c", 2)]))),
            )
            .flatten("value", &answered_by(|deferred| deferred.value(3)))
            .flatten("missing", &inspect::from_fn(|req| drop(req.defer())));
    });
    expect!["{a: 1, b: 0, c: 2, missing: ... (dropped without an answer), value: 3}"]
        .assert_eq(&collect(&object, &Query::new()).compact().to_string());
    let parent = inspect::from_fn(|req| {
        req.respond().field("inner", &object);
    });
    let tree = collect(&parent, &Query::new());
    assert_eq!(tree.child("inner"), Some(&collect(&object, &Query::new())));
    for (path, expected) in [("a", "1"), ("value", "3"), ("b", "0")] {
        let query = Query::new().path(path.parse().unwrap());
        assert_eq!(collect(&object, &query).to_string(), expected, "{path}");
    }
}

#[test]
fn answers_defer_in_turn_but_not_for_ever() {
    let nested = answered_by(|deferred| {
        deferred.inspect(&inspect::from_fn(|req| {
            req.respond()
                .field("inner", &answered_by(|deferred| deferred.value(1)));
        }));
    });
    expect!["{inner: 1}"].assert_eq(&collect(&nested, &Query::new()).compact().to_string());

    fn again(deferred: Deferred) {
        deferred.respond_with(|req| {
            let deferred = req.defer();
            thread::spawn(move || again(deferred));
        });
    }
    let endless = answered_by(again);
    assert_eq!(
        collect(&endless, &Query::new()),
        Node::Unresolved(Unresolved::Dropped)
    );
}

#[test]
fn updates_reach_other_threads() {
    let cell = Arc::new(AtomicU64::new(1));
    let object = inspect::from_fn(|req| {
        let cell = Arc::clone(&cell);
        req.respond().field(
            "later",
            &answered_by(move |deferred| deferred.inspect_mut(&mut &*cell)),
        );
    });
    let update = |text: &str| {
        let update: Update = text.parse().unwrap();
        update.deadline(LONG).run(&object)
    };
    assert_eq!(update("later=7").unwrap(), Value::from(7_u64));
    assert_eq!(cell.load(Ordering::Relaxed), 7);
    expect![[r#"`later` can't be "x": expected an integer from 0 to 18446744073709551615"#]]
        .assert_eq(&update("later=x").unwrap_err().to_string());
    expect!["nothing at `later/x`: `later` has no children"]
        .assert_eq(&update("later/x=1").unwrap_err().to_string());

    // An update that nobody has begun by the deadline is not made afterwards.
    let hung = Later::default();
    let update = Update::new(Path::ROOT, "9").deadline(Duration::ZERO);
    assert_eq!(
        update.run(&hung),
        Err(UpdateError::Unresolved {
            path: Path::ROOT,
            why: Unresolved::Late
        })
    );
    hung.take().inspect_mut(&mut &*cell);
    assert_eq!(cell.load(Ordering::Relaxed), 7);
}

/// Another process, as far as this one can tell: it gets questions and returns trees.
fn remote(deferred: Deferred, object: &(impl Inspect + ?Sized)) {
    if let Some(update) = deferred.update() {
        let result = update.run(object);
        deferred.updated(result);
        return;
    }
    match deferred.query().run(object) {
        Ok(node) => deferred.node(&Node::from_json(&node.to_json())),
        Err(_) => deferred.respond_with(|req| drop(req)),
    }
}

#[test]
fn answers_come_from_other_processes() {
    #[derive(Inspect)]
    struct Remote {
        a: BTreeMap<u8, u8>,
        #[inspect(mut)]
        b: AtomicU64,
    }
    let object = Arc::new(Remote {
        a: BTreeMap::from([(1, 1)]),
        b: AtomicU64::new(2),
    });
    let local = inspect::from_fn(|req| {
        let object = Arc::clone(&object);
        req.respond().field(
            "remote",
            &answered_by(move |deferred| remote(deferred, &*object)),
        );
    });
    let tree = collect(&local, &Query::new());
    expect!["{remote: {a: {1: 1}, b: 2}}"].assert_eq(&tree.compact().to_string());
    let at = |path: &str| {
        Query::new()
            .path(path.parse().unwrap())
            .deadline(LONG)
            .run(&local)
    };
    expect!["{1: 1}"].assert_eq(&at("remote/a").unwrap().compact().to_string());
    expect!["1"].assert_eq(&at("remote/a/1").unwrap().to_string());
    expect!["nothing at `remote/c`: `remote` has only `a`, `b`"]
        .assert_eq(&at("remote/c").unwrap_err().to_string());
    let shallow = Query::new().depth(1).path("remote".parse().unwrap());
    expect!["{a: ..., b: 2}"].assert_eq(&collect(&local, &shallow).compact().to_string());

    let update = |text: &str| text.parse::<Update>().unwrap().deadline(LONG).run(&local);
    assert_eq!(update("remote/b=3").unwrap().as_u64(), Some(3));
    expect![[r#"`remote/b` can't be "x": expected an integer from 0 to 18446744073709551615"#]]
        .assert_eq(&update("remote/b=x").unwrap_err().to_string());
    assert!(matches!(
        update("remote/c=1"),
        Err(UpdateError::NotFound(_))
    ));
}

#[test]
fn the_derive_sends() {
    enum Message {
        Inspect(Deferred),
        Stop,
    }
    #[derive(Inspect)]
    struct Vmm {
        #[inspect(send = "Message::Inspect")]
        worker: Sender<Message>,
        #[inspect(send = "Message::Inspect", flatten)]
        gone: Sender<Message>,
        running: AtomicBool,
    }
    fn work(messages: Receiver<Message>) {
        let state = Cow { milk: 3 };
        for message in messages {
            match message {
                Message::Inspect(deferred) => deferred.inspect(&state),
                Message::Stop => return,
            }
        }
    }
    #[derive(Inspect)]
    struct Cow {
        milk: u8,
    }
    let (sender, receiver) = mpsc::channel();
    let worker = thread::spawn(move || work(receiver));
    let vmm = Vmm {
        worker: sender,
        gone: mpsc::channel().0,
        running: AtomicBool::new(true),
    };
    let tree = collect(&vmm, &Query::new());
    expect!["{gone: ... (dropped without an answer), running: true, worker: {milk: 3}}"]
        .assert_eq(&tree.compact().to_string());
    vmm.worker.send(Message::Stop).unwrap();
    worker.join().unwrap();
    let tree = collect(&vmm, &Query::new());
    expect!["{gone: ... (dropped without an answer), running: true, worker: ... (dropped without an answer)}"]
    .assert_eq(&tree.compact().to_string());
}
