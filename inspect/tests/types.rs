//! The types that can be inspected without further ado.

use expect_test::{Expect, expect};
use inspect::Inspect;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::marker::PhantomData;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI8, AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

#[track_caller]
fn check(object: &dyn Inspect, expected: Expect) {
    expected.assert_eq(&inspect::inspect(object).compact().to_string());
}

#[test]
fn values() {
    check(&0_u8, expect!["0"]);
    check(&u64::MAX, expect!["18446744073709551615"]);
    check(&i64::MIN, expect!["-9223372036854775808"]);
    check(&usize::MAX, expect!["18446744073709551615"]);
    check(&-1_isize, expect!["-1"]);
    check(&1.5_f32, expect!["1.5"]);
    check(&1e300, expect!["1e300"]);
    check(&true, expect!["true"]);
    check(&'x', expect!["x"]);
    check(&"text", expect!["text"]);
    check(&String::from("text"), expect!["text"]);
    check(&Cow::Borrowed("text"), expect!["text"]);
    check(&Duration::from_nanos(1_000_001), expect!["1.000001ms"]);
    check(&NonZero::<u16>::MIN, expect!["1"]);
    check(&AtomicBool::new(true), expect!["true"]);
    check(&AtomicU32::new(7), expect!["7"]);
    check(&AtomicI8::new(-7), expect!["-7"]);
    check(&Path::new("/dev/kvm"), expect!["/dev/kvm"]);
    check(&PathBuf::from("a b"), expect!["a b"]);
}

#[test]
fn pointers_show_what_they_point_to() {
    check(&Box::new(1), expect!["1"]);
    check(&Rc::new(1), expect!["1"]);
    check(&Arc::<str>::from("text"), expect!["text"]);
    check(&&&mut 1, expect!["1"]);
    let object: Arc<dyn Inspect> = Arc::new(vec![1]);
    check(&object, expect!["{0: 1}"]);
}

#[test]
fn containers() {
    check(&Some(1), expect!["1"]);
    check(&None::<u8>, expect!["none"]);
    check(&Cell::new(1), expect!["1"]);
    check(&[1, 2], expect!["{0: 1, 1: 2}"]);
    check(&&[1, 2][..], expect!["{0: 1, 1: 2}"]);
    check(&VecDeque::from([1, 2]), expect!["{0: 1, 1: 2}"]);
    check(&BTreeSet::from(["b", "a"]), expect!["{0: a, 1: b}"]);
    check(
        &BTreeMap::from([(10, 'a'), (9, 'b')]),
        expect!["{9: b, 10: a}"],
    );
    check(
        &HashMap::from([("x10", 1), ("x9", 2), ("x11", 3)]),
        expect!["{x9: 2, x10: 1, x11: 3}"],
    );
    check(&vec![Some(PhantomData::<u8>)], expect!["{}"]);
}

#[test]
fn once_lock_shows_what_was_set() {
    let lock = OnceLock::new();
    check(&lock, expect!["none"]);
    lock.set(5).unwrap();
    check(&lock, expect!["5"]);
}

#[test]
fn poisoned_locks_are_read() {
    let mutex = Mutex::new(vec![1]);
    let lock = RwLock::new(2);
    std::thread::scope(|scope| {
        let panicking = scope.spawn(|| {
            let _mutex = mutex.lock().unwrap();
            let _lock = lock.write().unwrap();
            panic!("poisons both locks");
        });
        panicking.join().unwrap_err();
    });
    assert!(mutex.is_poisoned() && lock.is_poisoned());
    check(&mutex, expect!["{0: 1}"]);
    check(&lock, expect!["2"]);
}

#[test]
fn styles_reach_numbers_in_containers() {
    check(&inspect::hex(Some(16)), expect!["0x10"]);
    check(
        &inspect::hex([Some(16), None]),
        expect!["{0: 0x10, 1: none}"],
    );
    check(
        &inspect::hex(BTreeMap::from([(16, 16)])),
        expect!["{16: 0x10}"],
    );
    check(
        &inspect::hex(Mutex::new(AtomicUsize::new(16))),
        expect!["0x10"],
    );
    check(&inspect::binary(Arc::new(vec![-5])), expect!["{0: -0b101}"]);
    // The innermost style wins, being the one of the object itself.
    check(
        &inspect::from_fn(|req| inspect::hex(16).inspect(req)),
        expect!["0x10"],
    );
}

#[test]
fn ways_to_show() {
    check(&inspect::display("a"), expect!["a"]);
    check(&inspect::debug("a"), expect![[r#""\"a\"""#]]);
    check(&inspect::bytes("az"), expect!["[61 7a]"]);
    check(&inspect::bytes(vec![0, 255]), expect!["[00 ff]"]);
}
