//! New values: who takes them, and what is said where nobody does.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use expect_test::{Expect, expect};
use inspect::{
    FromText, Inspect, InspectMut, Invalid, ParseUpdateError, Path, Query, Request, Sensitivity,
    Update, UpdateError, Value,
};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicI8, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

/// Everything that can be updated behind a shared reference.
#[derive(Inspect, Default)]
struct Live {
    #[inspect(mut)]
    verbose: AtomicBool,
    #[inspect(mut, hex)]
    features: AtomicU64,
    #[inspect(mut)]
    level: Cell<i32>,
    #[inspect(mut)]
    name: Mutex<String>,
    #[inspect(mut)]
    limits: Arc<RwLock<Limits>>,
    #[inspect(mut)]
    queues: Vec<AtomicI8>,
    #[inspect(mut, with = "limited")]
    percent: Cell<u8>,
    #[inspect(mut, sensitive)]
    secret: AtomicU64,
    #[inspect(mut, flatten)]
    flat: AtomicU64,
    #[inspect(flatten)]
    inner: Inner,
    fixed: u64,
    #[inspect(skip)]
    _hidden: AtomicU64,
}

#[derive(Inspect, Default)]
struct Inner {
    #[inspect(mut)]
    deep: AtomicU64,
}

/// Fields that can be updated by their owner only.
#[derive(InspectMut, Default)]
struct Limits {
    #[inspect(mut)]
    timeout: Duration,
    #[inspect(mut)]
    most: Option<u32>,
    #[inspect(mut)]
    mode: Mode,
    #[inspect(mut)]
    by_name: BTreeMap<String, f64>,
    fixed: u8,
}

#[derive(Inspect, InspectMut, Default)]
enum Mode {
    #[default]
    Slow,
    #[inspect(transparent)]
    Fast(#[inspect(mut)] Cell<u8>),
}

fn limited(percent: &Cell<u8>) -> impl InspectMut + '_ {
    inspect::setter(
        || percent.get(),
        |text| match u8::from_text(text) {
            Ok(number @ 0..=100) => {
                percent.set(number);
                Ok(())
            }
            _ => Err(Invalid::expected("a percentage")),
        },
    )
}

fn live() -> Live {
    let live = Live {
        queues: vec![AtomicI8::new(1), AtomicI8::new(2)],
        ..Live::default()
    };
    let mut limits = live.limits.write().unwrap();
    limits.mode = Mode::Fast(Cell::new(1));
    limits.by_name.insert("a/b=c".into(), 0.5);
    drop(limits);
    live
}

/// Makes an update written as `path=value`, and compares the value, or why there is none.
#[track_caller]
fn check(object: &(impl Inspect + ?Sized), update: &str, expected: Expect) {
    let update: Update = update.parse().unwrap();
    match update.run(object) {
        Ok(value) => {
            let seen = Query::new().path(update.path().clone()).run(object);
            assert_eq!(seen.unwrap().as_value(), Some(&value), "what is there now");
            expected.assert_eq(&value.to_string());
        }
        Err(error) => expected.assert_eq(&error.to_string()),
    }
}

#[test]
fn each_kind_takes_its_values() {
    let live = live();
    check(&live, "verbose=on", expect!["true"]);
    check(&live, "features=0xff", expect!["0xff"]);
    check(&live, "level=-3", expect!["-3"]);
    check(&live, "name= a b ", expect![[r#"" a b ""#]]);
    check(&live, "limits/timeout=1.5ms", expect!["1.5ms"]);
    check(&live, "limits/most=7", expect!["7"]);
    check(&live, "limits/most=none", expect!["none"]);
    check(&live, "limits/mode/Fast=9", expect!["9"]);
    check(&live, r"limits/by_name/a\/b\=c=2.5", expect!["2.5"]);
    check(&live, "queues/1=-128", expect!["-128"]);
    check(&live, "percent=100", expect!["100"]);
    check(&live, "flat=5", expect!["5"]);
    check(&live, "deep=6", expect!["6"]);
    expect!["{deep: 6, features: 0xff, fixed: 0, flat: 5, level: -3, limits: {by_name: {a/b=c: 2.5}, fixed: 0, mode: {Fast: 9}, most: none, timeout: 1.5ms}, name: \" a b \", percent: 100, queues: {0: 1, 1: -128}, verbose: true}"]
        .assert_eq(&inspect::inspect(&live).compact().to_string());
}

#[test]
fn what_is_refused_is_explained_and_changes_nothing() {
    let live = live();
    let before = inspect::inspect(&live);
    check(
        &live,
        "verbose=maybe",
        expect![[r#"`verbose` can't be "maybe": expected `true` or `false`"#]],
    );
    check(
        &live,
        "features=0x1ffffffffffffffff",
        expect![[
            r#"`features` can't be "0x1ffffffffffffffff": expected an integer from 0 to 18446744073709551615"#
        ]],
    );
    check(
        &live,
        "features=-1",
        expect![[
            r#"`features` can't be "-1": expected an integer from 0 to 18446744073709551615"#
        ]],
    );
    check(
        &live,
        "queues/0=128",
        expect![[r#"`queues/0` can't be "128": expected an integer from -128 to 127"#]],
    );
    check(
        &live,
        "queues/2=0",
        expect!["nothing at `queues/2`: `queues` has only `0`, `1`"],
    );
    check(
        &live,
        "percent=101",
        expect![[r#"`percent` can't be "101": expected a percentage"#]],
    );
    check(
        &live,
        "limits/timeout=5",
        expect![[
            r#"`limits/timeout` can't be "5": expected a span of time with its unit, such as `1.5ms`"#
        ]],
    );
    check(
        &live,
        "limits/most=some",
        expect![[
            r#"`limits/most` can't be "some": expected an integer from 0 to 4294967295, or `none`"#
        ]],
    );
    check(
        &live,
        "limits/fixed=1",
        expect!["`limits/fixed` can't be changed"],
    );
    check(
        &live,
        "limits/mode=Slow",
        expect!["`limits/mode` can't be changed"],
    );
    check(&live, "limits=1", expect!["`limits` can't be changed"]);
    check(&live, "fixed=1", expect!["`fixed` can't be changed"]);
    check(
        &live,
        "fixed/deeper=1",
        expect!["nothing at `fixed/deeper`: `fixed` has no children"],
    );
    check(
        &live,
        "_hidden=1",
        expect![
            "nothing at `_hidden`: the root has only `deep`, `features`, `fixed`, `flat`, `level`, `limits`, `name`, `percent`, `queues`, `verbose`"
        ],
    );
    check(&live, "=1", expect!["the root can't be changed"]);
    // Places that a query doesn't see can't be changed either.
    check(
        &live,
        "secret=1",
        expect![
            "nothing at `secret`: the root has only `deep`, `features`, `fixed`, `flat`, `level`, `limits`, `name`, `percent`, `queues`, `verbose`"
        ],
    );
    assert_eq!(inspect::inspect(&live), before);

    let secret: Update = "secret=1".parse().unwrap();
    let secret = secret.sensitivity(Sensitivity::Sensitive);
    assert_eq!(secret.run(&live).unwrap().as_u64(), Some(1));
}

#[test]
fn owners_are_updated_through_themselves() {
    let mut limits = Limits::default();
    let update = |limits: &mut Limits, text: &str| {
        let update: Update = text.parse().unwrap();
        update.run_mut(limits)
    };
    update(&mut limits, "timeout=2s").unwrap();
    update(&mut limits, "most=3").unwrap();
    assert_eq!(
        (limits.timeout, limits.most),
        (Duration::from_secs(2), Some(3))
    );
    assert!(matches!(
        update(&mut limits, "fixed=3"),
        Err(UpdateError::ReadOnly { .. })
    ));
    let tree = Query::new().run_mut(&mut limits).unwrap();
    expect!["{by_name: {}, fixed: 0, mode: Slow, most: 3, timeout: 2s}"]
        .assert_eq(&tree.compact().to_string());
}

#[test]
fn by_hand() {
    struct Hand {
        limit: Mutex<u32>,
        level: Cell<&'static str>,
    }
    impl Inspect for Hand {
        fn inspect(&self, req: Request<'_>) {
            let mut limit = self.limit.lock().unwrap();
            req.respond()
                .field_mut("limit", &mut *limit)
                .field_with_setter(
                    "level",
                    &inspect::from_fn(|req| req.value(self.level.get())),
                    |text| {
                        let known = ["low", "high"].into_iter().find(|level| *level == text);
                        self.level
                            .set(known.ok_or_else(|| Invalid::expected("`low` or `high`"))?);
                        Ok(())
                    },
                );
        }
    }
    let hand = Hand {
        limit: Mutex::new(1),
        level: Cell::new("low"),
    };
    check(&hand, "limit=2", expect!["2"]);
    check(&hand, "level=high", expect!["high"]);
    check(
        &hand,
        "level=middle",
        expect![[r#"`level` can't be "middle": expected `low` or `high`"#]],
    );
}

#[test]
fn of_several_contributors_the_first_that_stands_is_changed() {
    let cells = [Cell::new(1_u8), Cell::new(2), Cell::new(3)];
    let [first, second, third] = &cells;
    let object = inspect::from_fn(|req| {
        req.respond()
            .field_mut("a", &mut &*first)
            .field_mut("a", &mut &*second)
            .value("b", 0)
            .field_mut("b", &mut &*third);
    });
    check(&object, "a=9", expect!["9"]);
    // The value that is seen can't be changed, and the one that could isn't seen.
    check(&object, "b=9", expect!["`b` can't be changed"]);
    assert_eq!(cells.each_ref().map(Cell::get), [9, 2, 3]);

    // One that has taken the value and shows nothing has taken it all the same.
    let quiet = inspect::from_fn(|req| {
        req.respond()
            .child("a", |req| {
                drop(req.update(|text| {
                    first.set(u8::from_text(text)?);
                    Ok(())
                }));
            })
            .field_mut("a", &mut &*second);
    });
    let update: Update = "a=5".parse().unwrap();
    assert_eq!(update.run(&quiet).unwrap().as_u64(), Some(2));
    assert_eq!(cells.each_ref().map(Cell::get), [5, 2, 3]);
}

#[test]
fn queries_change_nothing() {
    let never = inspect::from_fn(|req| {
        req.update(|_| panic!("nobody has asked for a change"))
            .value(1);
    });
    assert_eq!(inspect::inspect(&never).to_string(), "1");
    // Neither does an update of another place.
    let cell = Cell::new(1_u8);
    let parent = inspect::from_fn(|req| {
        req.respond()
            .field("never", &never)
            .field_mut("a", &mut &cell);
    });
    check(&parent, "a=2", expect!["2"]);
}

#[test]
fn text_is_read_as_it_is_written() {
    fn read<T: FromText + std::fmt::Debug>(text: &str) -> String {
        match T::from_text(text) {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.to_string(),
        }
    }
    for (text, expected) in [
        ("12", "12"),
        (" +12 ", "12"),
        ("0xfF", "255"),
        ("0b1111_0000", "240"),
        ("1_0", "10"),
    ] {
        assert_eq!(read::<u8>(text), expected, "{text}");
    }
    for text in [
        "", "+", "--1", "0x", "0x_1", "_1", "1_", "0xg", "1.0", "256", "é",
    ] {
        assert_eq!(
            read::<u8>(text),
            "expected an integer from 0 to 255",
            "{text}"
        );
    }
    assert_eq!(read::<i8>("-0x80"), "-128");
    assert_eq!(read::<u64>("18446744073709551615"), u64::MAX.to_string());
    assert_eq!(
        read::<NonZero<i8>>("0"),
        "expected an integer from -128 to 127, but not 0"
    );
    assert_eq!(read::<f64>("1e3"), "1000.0");
    assert_eq!(read::<char>("xy"), "expected one character");
    assert_eq!(read::<bool>(" off "), "false");
    for (text, expected) in [
        ("2s", "2s"),
        ("1.5 ms", "1.5ms"),
        ("0.000000001s", "1ns"),
        ("3µs", "3µs"),
        ("3us", "3µs"),
        ("1.0ns", "1ns"),
    ] {
        assert_eq!(read::<Duration>(text), expected, "{text}");
    }
    for text in [
        "",
        "5",
        "s",
        "1.5ns",
        "-1s",
        "1h",
        "1.2.3s",
        "99999999999999999999s",
        ".s",
    ] {
        assert!(Duration::from_text(text).is_err(), "{text}");
    }
}

#[test]
fn texts_that_are_no_updates() {
    assert!(matches!(
        "verbose".parse::<Update>(),
        Err(ParseUpdateError::NoValue { .. })
    ));
    assert!(matches!(
        r"a\=b".parse::<Update>(),
        Err(ParseUpdateError::NoValue { .. })
    ));
    assert!(matches!(
        r"a\x=b".parse::<Update>(),
        Err(ParseUpdateError::Path(_))
    ));
    let update: Update = "a=b=c".parse().unwrap();
    assert_eq!(
        (update.path().to_string().as_str(), update.text()),
        ("a", "b=c")
    );
}

proptest! {
    #[test]
    fn updates_read_back(
        names in proptest::collection::vec("[ab/\\\\e=]{0,4}|\\PC{0,4}", 0..6),
        text in "[a=\\\\/]{0,4}|\\PC*",
    ) {
        let update = Update::new(Path::from_names(names).unwrap(), text);
        prop_assert_eq!(update.to_string().parse::<Update>().unwrap(), update);
    }

    #[test]
    fn any_text_is_an_update_or_an_error(text in "[ab/\\\\e=]{0,12}|\\PC*") {
        if let Ok(update) = text.parse::<Update>() {
            prop_assert_eq!(update.to_string().parse::<Update>().unwrap(), update);
        }
    }

    #[test]
    fn any_text_is_a_value_or_an_error(text in "[-+0-9a-fxb_. nmsu]{0,12}|\\PC*") {
        // What was read and shown is read again as the same.
        fn check<T: FromText + Into<Value> + PartialEq + std::fmt::Debug + Copy>(text: &str) {
            if let Ok(value) = T::from_text(text) {
                let shown: Value = value.into();
                assert_eq!(T::from_text(&shown.to_string()).unwrap(), value, "{text:?}");
            }
        }
        check::<u64>(&text);
        check::<i8>(&text);
        check::<bool>(&text);
        check::<Duration>(&text);
        check::<Option<u16>>(&text);
    }

    #[test]
    fn integers_are_read_in_every_style(number: i64) {
        for style in [inspect::Style::Decimal, inspect::Style::Hex, inspect::Style::Binary] {
            let text = Value::from(number).with_style(style).to_string();
            prop_assert_eq!(i64::from_text(&text).unwrap(), number);
        }
    }

    #[test]
    fn spans_of_time_are_read_back(duration: Duration) {
        prop_assert_eq!(Duration::from_text(&Value::from(duration).to_string()), Ok(duration));
    }
}
