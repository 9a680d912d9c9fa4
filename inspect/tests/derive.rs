//! Every attribute of the derive, by what it makes visible.

#![allow(dead_code, reason = "fields that are skipped are read by nobody")]

use expect_test::{Expect, expect};
use inspect::{Inspect, Query, Request, Response, Sensitivity};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

#[track_caller]
fn check(object: &dyn Inspect, expected: Expect) {
    expected.assert_eq(&inspect::inspect(object).compact().to_string());
}

#[test]
fn struct_shows_its_fields() {
    #[derive(Inspect)]
    struct Region {
        name: &'static str,
        priority: u8,
        r#type: Option<String>,
    }
    check(
        &Region {
            name: "ram",
            priority: 255,
            r#type: None,
        },
        expect!["{name: ram, priority: 255, type: none}"],
    );
}

#[test]
fn tuple_struct_shows_indices() {
    #[derive(Inspect)]
    struct Pair(u8, #[inspect(hex)] u64);
    check(&Pair(1, 16), expect!["{0: 1, 1: 0x10}"]);
}

#[test]
fn unit_struct_is_an_empty_directory() {
    #[derive(Inspect)]
    struct Unit;
    check(&Unit, expect!["{}"]);
}

#[test]
fn rename_and_skip() {
    #[derive(Inspect)]
    struct S {
        #[inspect(rename = "new name")]
        old: u8,
        #[inspect(skip)]
        hidden: fn(),
    }
    check(
        &S {
            old: 1,
            hidden: || (),
        },
        expect!["{new name: 1}"],
    );
}

#[test]
fn styles_reach_into_containers() {
    #[derive(Inspect)]
    struct S {
        #[inspect(hex)]
        gpa: Option<u64>,
        #[inspect(hex)]
        list: Vec<i32>,
        #[inspect(binary)]
        flags: u8,
        #[inspect(counter)]
        faults: AtomicU64,
        #[inspect(bytes)]
        id: [u8; 3],
    }
    check(
        &S {
            gpa: Some(4096),
            list: vec![10, -10],
            flags: 5,
            faults: AtomicU64::new(7),
            id: [0, 1, 255],
        },
        expect!["{faults: 7, flags: 0b101, gpa: 0x1000, id: [00 01 ff], list: {0: 0xa, 1: -0xa}}"],
    );
}

struct Opaque(u32);

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.0)
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opaque {}", self.0)
    }
}

impl Opaque {
    fn number(&self) -> u32 {
        self.0
    }

    fn bits(&self) -> impl Iterator<Item = (u32, bool)> {
        (0..3).map(|bit| (bit, self.0 >> bit & 1 != 0))
    }
}

#[test]
fn display_debug_and_with() {
    #[derive(Inspect)]
    struct S {
        #[inspect(display)]
        a: Opaque,
        #[inspect(debug)]
        b: Opaque,
        #[inspect(with = "Opaque::number")]
        c: Opaque,
        #[inspect(with = Opaque::number, hex)]
        d: Opaque,
        #[inspect(with = "Opaque::bits", iter_by_key)]
        e: Opaque,
    }
    check(
        &S {
            a: Opaque(1),
            b: Opaque(2),
            c: Opaque(3),
            d: Opaque(20),
            e: Opaque(5),
        },
        expect!["{a: <1>, b: Opaque 2, c: 3, d: 0x14, e: {0: true, 1: false, 2: true}}"],
    );
}

#[test]
fn iterates_by_index_and_key() {
    fn pairs(pairs: &[(u8, u8)]) -> impl Iterator<Item = (u8, u8)> {
        pairs.iter().copied()
    }
    #[derive(Inspect)]
    struct S {
        #[inspect(iter_by_index, display)]
        list: Vec<Opaque>,
        #[inspect(iter_by_key, hex)]
        map: BTreeMap<String, u32>,
        #[inspect(iter_by_key)]
        pairs: Vec<(&'static str, u32)>,
        #[inspect(iter_by_key, display)]
        shown: Vec<(u8, Opaque)>,
        #[inspect(with = "pairs", iter_by_key)]
        with: Vec<(u8, u8)>,
        #[inspect(flatten, iter_by_key)]
        flat: Vec<(&'static str, u8)>,
    }
    check(
        &S {
            list: vec![Opaque(1), Opaque(2)],
            map: BTreeMap::from([("a".into(), 10)]),
            pairs: vec![("b", 11)],
            shown: vec![(10, Opaque(3)), (9, Opaque(4))],
            with: vec![(1, 2)],
            flat: vec![("x", 1), ("y", 2)],
        },
        expect![
            "{list: {0: <1>, 1: <2>}, map: {a: 0xa}, pairs: {b: 11}, shown: {9: <4>, 10: <3>}, with: {1: 2}, x: 1, y: 2}"
        ],
    );
}

#[test]
fn flatten_merges_and_keeps_values() {
    #[derive(Inspect)]
    struct Inner {
        a: u8,
        b: u8,
    }
    #[derive(Inspect)]
    struct Outer {
        a2: u8,
        #[inspect(flatten)]
        inner: Inner,
        #[inspect(flatten)]
        value: u8,
        #[inspect(flatten, with = "Some")]
        again: u8,
    }
    let outer = Outer {
        a2: 0,
        inner: Inner { a: 1, b: 2 },
        value: 3,
        again: 4,
    };
    check(&outer, expect!["{a: 1, a2: 0, again: 4, b: 2, value: 3}"]);
    for (name, value) in [("a", 1), ("a2", 0), ("value", 3), ("again", 4)] {
        let node = Query::new()
            .path(name.parse().unwrap())
            .run(&outer)
            .unwrap();
        assert_eq!(node.as_value().unwrap().as_u64(), Some(value), "{name}");
    }
    assert!(
        Query::new()
            .path("inner".parse().unwrap())
            .run(&outer)
            .is_err()
    );
}

#[test]
fn sensitivity_limits_what_is_seen() {
    #[derive(Inspect)]
    #[inspect(safe)]
    struct S {
        a: Vec<u8>,
        #[inspect(sensitive)]
        b: u8,
        #[inspect(flatten, sensitive)]
        c: C,
    }
    #[derive(Inspect)]
    struct C {
        d: u8,
        #[inspect(safe)]
        e: u8,
    }
    let s = S {
        a: vec![1],
        b: 2,
        c: C { d: 3, e: 4 },
    };
    let see = |sensitivity| {
        let node = Query::new().sensitivity(sensitivity).run(&s).unwrap();
        node.compact().to_string()
    };
    expect!["{a: {0: 1}}"].assert_eq(&see(Sensitivity::Safe));
    expect!["{a: {0: 1}}"].assert_eq(&see(Sensitivity::Default));
    expect!["{a: {0: 1}, b: 2, d: 3, e: 4}"].assert_eq(&see(Sensitivity::Sensitive));
}

#[derive(Inspect)]
enum State {
    Idle,
    #[inspect(rename = "running")]
    Running {
        #[inspect(hex)]
        pc: u64,
    },
    Moved(u8, u8),
    #[inspect(transparent)]
    Failed(#[inspect(display)] Opaque),
}

#[test]
fn external_enum() {
    check(&State::Idle, expect!["Idle"]);
    check(
        &State::Running { pc: 255 },
        expect!["{running: {pc: 0xff}}"],
    );
    check(&State::Moved(1, 2), expect!["{Moved: {0: 1, 1: 2}}"]);
    check(&State::Failed(Opaque(3)), expect!["{Failed: <3>}"]);
}

#[test]
fn variants_keep_the_level_of_their_fields() {
    #[derive(Inspect)]
    enum E {
        Fields {
            a: u8,
        },
        #[inspect(transparent)]
        Value(u8),
        #[inspect(transparent, sensitive)]
        Secret(u8),
        #[inspect(safe)]
        Open(u8),
    }
    let see = |sensitivity, object: &E| {
        let node = Query::new().sensitivity(sensitivity).run(object).unwrap();
        node.compact().to_string()
    };
    let all = [E::Fields { a: 1 }, E::Value(1), E::Secret(1), E::Open(1)];
    for (sensitivity, expected) in [
        (
            Sensitivity::Safe,
            ["{Fields: {}}", "{}", "{}", "{Open: {0: 1}}"],
        ),
        (
            Sensitivity::Default,
            ["{Fields: {a: 1}}", "{Value: 1}", "{}", "{Open: {0: 1}}"],
        ),
        (
            Sensitivity::Sensitive,
            [
                "{Fields: {a: 1}}",
                "{Value: 1}",
                "{Secret: 1}",
                "{Open: {0: 1}}",
            ],
        ),
    ] {
        assert_eq!(
            all.each_ref().map(|object| see(sensitivity, object)),
            expected
        );
    }
}

#[test]
fn tagged_enum() {
    #[derive(Inspect)]
    #[inspect(tag = "kind", extra = "Backing::extra")]
    enum Backing {
        Anonymous,
        File { path: String },
        Part(#[inspect(flatten)] Inner),
    }
    #[derive(Inspect)]
    struct Inner {
        offset: u64,
    }
    impl Backing {
        fn extra(&self, response: &mut Response<'_>) {
            response.value("size", 1);
        }
    }
    check(&Backing::Anonymous, expect!["{kind: Anonymous, size: 1}"]);
    check(
        &Backing::File { path: "a".into() },
        expect!["{kind: File, path: a, size: 1}"],
    );
    check(
        &Backing::Part(Inner { offset: 4 }),
        expect!["{kind: Part, offset: 4, size: 1}"],
    );
}

#[test]
fn enum_without_variants() {
    #[derive(Inspect)]
    enum Never {}
    check(&None::<Never>, expect!["none"]);
}

#[test]
fn transparent_struct() {
    #[derive(Inspect)]
    #[inspect(transparent)]
    struct Gpa(#[inspect(hex)] u64);
    impl inspect::Number for Gpa {}

    #[derive(Inspect)]
    #[inspect(transparent)]
    struct Named<'a> {
        inner: &'a [u8],
        #[inspect(skip)]
        other: u8,
    }
    check(&Gpa(16), expect!["0x10"]);
    check(&inspect::binary(Gpa(16)), expect!["0x10"]);
    check(
        &Named {
            inner: &[1],
            other: 0,
        },
        expect!["{0: 1}"],
    );
}

#[test]
fn whole_types() {
    #[derive(Inspect, Debug)]
    #[inspect(debug)]
    struct A(u8);

    #[derive(Inspect)]
    #[inspect(with = "B::len")]
    struct B(Vec<u8>);
    impl B {
        fn len(&self) -> usize {
            self.0.len()
        }
    }

    #[derive(Inspect)]
    #[inspect(display)]
    enum C {
        D,
    }
    impl fmt::Display for C {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the only one")
        }
    }
    check(&A(1), expect!["A(1)"]);
    check(&B(vec![1, 2]), expect!["2"]);
    check(&C::D, expect!["the only one"]);
}

#[test]
fn extra_adds_children() {
    #[derive(Inspect)]
    #[inspect(extra = "more")]
    struct S {
        a: u8,
    }
    fn more(this: &S, response: &mut Response<'_>) {
        response.value("twice", this.a * 2).value("a", "loses");
    }
    check(&S { a: 1 }, expect!["{a: 1, twice: 2}"]);
}

#[test]
fn generics_get_bounds() {
    struct NotInspect;
    trait Host {
        type Handle;
    }
    impl Host for NotInspect {
        type Handle = u8;
    }

    #[derive(Inspect)]
    struct S<'a, T, D: ?Sized, H: Host, N, P, U, const L: usize>
    where
        P: Clone,
    {
        plain: Vec<T>,
        #[inspect(display)]
        shown: &'a D,
        handle: Option<H::Handle>,
        #[inspect(hex)]
        number: [N; L],
        phantom: PhantomData<P>,
        #[inspect(skip)]
        unused: Option<U>,
        #[inspect(with = "Option::is_some")]
        some: Option<U>,
    }
    check(
        &S::<u8, str, NotInspect, u8, NotClone, NotInspect, 1> {
            plain: vec![1],
            shown: "s",
            handle: Some(1),
            number: [16],
            phantom: PhantomData,
            unused: None,
            some: None,
        },
        expect!["{handle: 1, number: {0: 0x10}, plain: {0: 1}, shown: s, some: false}"],
    );

    #[derive(Clone)]
    struct NotClone;

    #[derive(Inspect)]
    #[inspect(bound = "T: fmt::Display, for<'b> &'b C: IntoIterator<Item = &'b T>")]
    struct Bounded<C, T> {
        #[inspect(iter_by_index, display)]
        items: C,
        #[inspect(skip)]
        marker: PhantomData<T>,
    }
    check(
        &Bounded {
            items: vec![Opaque(1)],
            marker: PhantomData,
        },
        expect!["{items: {0: <1>}}"],
    );
}

#[test]
fn skipped_with_functions_do_not_run() {
    fn never(_: &u8) -> u8 {
        panic!("a child that is not wanted was evaluated")
    }
    #[derive(Inspect)]
    struct S {
        a: Duration,
        #[inspect(with = "never")]
        b: u8,
        #[inspect(sensitive, with = "never")]
        c: u8,
    }
    let s = S {
        a: Duration::from_millis(1500),
        b: 0,
        c: 0,
    };
    let node = Query::new().path("a".parse().unwrap()).run(&s).unwrap();
    expect!["1.5s"].assert_eq(&node.to_string());
    let node = Query::new().depth(0).run(&s).unwrap();
    expect!["..."].assert_eq(&node.to_string());
}

#[test]
fn hygiene() {
    // Names that the expansion uses too must not meet those of the type.
    #[derive(Inspect)]
    struct Response {
        request: u8,
        response: u8,
    }
    #[derive(Inspect)]
    #[allow(
        non_camel_case_types,
        reason = "the method's name, as hostile as can be"
    )]
    enum Request {
        Value {
            request: u8,
            response: u8,
            r#match: u8,
        },
        inspect(u8),
    }
    check(
        &Response {
            request: 1,
            response: 2,
        },
        expect!["{request: 1, response: 2}"],
    );
    check(
        &Request::Value {
            request: 1,
            response: 2,
            r#match: 3,
        },
        expect!["{Value: {match: 3, request: 1, response: 2}}"],
    );
    check(&Request::inspect(1), expect!["{inspect: {0: 1}}"]);
}

#[test]
fn hand_written_and_derived_mix() {
    struct Hand;
    impl Inspect for Hand {
        fn inspect(&self, req: Request<'_>) {
            req.respond()
                .display("range", "0x0-0x1000")
                .child("slots", |req| req.value(3));
        }
    }
    #[derive(Inspect)]
    struct S {
        hand: Hand,
    }
    check(
        &S { hand: Hand },
        expect!["{hand: {range: 0x0-0x1000, slots: 3}}"],
    );
}

#[test]
fn formats() {
    #[derive(Inspect)]
    struct S<T> {
        #[inspect(format = "{:#06x}")]
        a: T,
        #[inspect(format = "{0} is {0:?}", iter_by_index)]
        b: Vec<&'static str>,
        #[inspect(format = "<{:>3}>", with = "Opaque::number")]
        c: Opaque,
        #[inspect(format = "{{{:.1}}}", iter_by_key)]
        d: BTreeMap<u8, f32>,
    }
    check(
        &S {
            a: 255_u8,
            b: vec!["x"],
            c: Opaque(7),
            d: BTreeMap::from([(1, 0.25)]),
        },
        expect![[r#"{a: 0x00ff, b: {0: x is "x"}, c: <  7>, d: {1: "{0.2}"}}"#]],
    );
}

#[test]
fn external_tag_says_what_holds_anyway() {
    #[derive(Inspect)]
    #[inspect(external_tag)]
    enum E {
        A,
        B(u8),
    }
    check(&[E::A, E::B(1)], expect!["{0: A, 1: {B: {0: 1}}}"]);
}

#[test]
fn untagged_enum() {
    #[derive(Inspect)]
    #[inspect(untagged)]
    enum Source<'a, T> {
        #[inspect(rename = "nowhere")]
        Nothing,
        File {
            path: &'a str,
            #[inspect(sensitive)]
            contents: T,
        },
        #[inspect(transparent)]
        Address(#[inspect(hex)] u64),
        Pair(u8, #[inspect(flatten)] BTreeMap<&'a str, u8>),
    }
    let file = Source::File {
        path: "a",
        contents: 1_u8,
    };
    check(
        &[
            Source::Nothing,
            file,
            Source::Address(16),
            Source::Pair(1, BTreeMap::from([("x", 2)])),
        ],
        expect!["{0: nowhere, 1: {path: a}, 2: 0x10, 3: {0: 1, x: 2}}"],
    );
}
