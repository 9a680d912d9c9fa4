//! What each attribute of a field expands to.

use super::{check, check_of};
use crate::model::Trait;
use expect_test::expect;

#[test]
fn field() {
    check(
        r##"
            struct S { a: u8, r#type: String }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond().field("a", &self.a).field("type", &self.r#type);
                }
            }
        "##]],
    );
}

#[test]
fn rename() {
    check(
        r##"
            struct S { #[inspect(rename = "b c")] a: u8 }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond().field("b c", &self.a);
                }
            }
        "##]],
    );
}

#[test]
fn skip() {
    check(
        r##"
            struct S { #[inspect(skip)] a: u8, b: u8 }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond().field("b", &self.b);
                }
            }
        "##]],
    );
}

#[test]
fn flatten() {
    check(
        r##"
            struct S { #[inspect(flatten)] a: A, #[inspect(flatten, with = "f")] b: B }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request
                        .respond()
                        .flatten("a", &self.a)
                        .flatten(
                            "b",
                            &::inspect::from_fn(|request| {
                                ::inspect::Inspect::inspect(&f(&self.b), request);
                            }),
                        );
                }
            }
        "##]],
    );
}

#[test]
fn safe_and_sensitive() {
    check(
        r##"
            #[inspect(sensitive)]
            struct S { a: u8, #[inspect(safe)] b: u8, #[inspect(safe, with = "f")] c: u8, #[inspect(flatten)] d: D }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request
                        .respond()
                        .field_at(::inspect::Sensitivity::Sensitive, "a", &self.a)
                        .field_at(::inspect::Sensitivity::Safe, "b", &self.b)
                        .child_at(
                            ::inspect::Sensitivity::Safe,
                            "c",
                            |request| {
                                ::inspect::Inspect::inspect(&f(&self.c), request);
                            },
                        )
                        .flatten_at(::inspect::Sensitivity::Sensitive, "d", &self.d);
                }
            }
        "##]],
    );
}

#[test]
fn hex() {
    check(
        r##"
            struct S { #[inspect(hex)] a: u64 }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond().field("a", &::inspect::hex(&self.a));
                }
            }
        "##]],
    );
}

#[test]
fn binary() {
    check(
        r##"
            struct S { #[inspect(binary)] a: u64 }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond().field("a", &::inspect::binary(&self.a));
                }
            }
        "##]],
    );
}

#[test]
fn counter() {
    check(
        r##"
            struct S { #[inspect(counter)] a: u64 }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond().field("a", &::inspect::counter(&self.a));
                }
            }
        "##]],
    );
}

#[test]
fn bytes() {
    check(
        r##"
            struct S { #[inspect(bytes)] a: [u8; 16] }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond().field("a", &::inspect::bytes(&self.a));
                }
            }
        "##]],
    );
}

#[test]
fn display() {
    check(
        r##"
            struct S { #[inspect(display)] a: A }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond().field("a", &::inspect::display(&self.a));
                }
            }
        "##]],
    );
}

#[test]
fn debug() {
    check(
        r##"
            struct S { #[inspect(debug)] a: A }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond().field("a", &::inspect::debug(&self.a));
                }
            }
        "##]],
    );
}

#[test]
fn with() {
    check(
        r##"
            struct S { #[inspect(with = "A::len")] a: A, #[inspect(with = self::f, hex)] b: B }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request
                        .respond()
                        .child(
                            "a",
                            |request| {
                                ::inspect::Inspect::inspect(&A::len(&self.a), request);
                            },
                        )
                        .child(
                            "b",
                            |request| {
                                ::inspect::Inspect::inspect(
                                    &::inspect::hex(self::f(&self.b)),
                                    request,
                                );
                            },
                        );
                }
            }
        "##]],
    );
}

#[test]
fn iter_by_index() {
    check(
        r##"
            struct S { #[inspect(iter_by_index)] a: A, #[inspect(iter_by_index, hex)] b: B }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request
                        .respond()
                        .child(
                            "a",
                            |request| {
                                request.by_index(&self.a);
                            },
                        )
                        .child(
                            "b",
                            |request| {
                                request
                                    .by_index(
                                        ::core::iter::Iterator::map(
                                            ::core::iter::IntoIterator::into_iter(&self.b),
                                            |item| ::inspect::hex(item),
                                        ),
                                    );
                            },
                        );
                }
            }
        "##]],
    );
}

#[test]
fn iter_by_key() {
    check(
        r##"
            struct S { #[inspect(iter_by_key)] a: A, #[inspect(with = "f", iter_by_key, display)] b: B }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request
                        .respond()
                        .child(
                            "a",
                            |request| {
                                request
                                    .by_key(
                                        ::core::iter::Iterator::map(
                                            ::core::iter::IntoIterator::into_iter(&self.a),
                                            |(key, item)| (key, item),
                                        ),
                                    );
                            },
                        )
                        .child(
                            "b",
                            |request| {
                                request
                                    .by_key(
                                        ::core::iter::Iterator::map(
                                            ::core::iter::IntoIterator::into_iter(f(&self.b)),
                                            |(key, item)| (key, ::inspect::display(item)),
                                        ),
                                    );
                            },
                        );
                }
            }
        "##]],
    );
}

#[test]
fn format() {
    check(
        r##"
            struct S<T, U> { #[inspect(format = "{:#018x}")] a: u64, #[inspect(format = "<{:?}>", with = "f")] b: T, #[inspect(format = "{0:x}{{{0:?}", iter_by_index)] c: Vec<U> }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl<T, U> ::inspect::Inspect for S<T, U>
            where
                U: ::core::fmt::LowerHex,
                U: ::core::fmt::Debug,
            {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request
                        .respond()
                        .field("a", &::inspect::display(::core::format_args!("{:#018x}", & self.a)))
                        .child(
                            "b",
                            |request| {
                                ::inspect::Inspect::inspect(
                                    &::inspect::display(::core::format_args!("<{:?}>", f(& self.b))),
                                    request,
                                );
                            },
                        )
                        .child(
                            "c",
                            |request| {
                                request
                                    .by_index(
                                        ::core::iter::Iterator::map(
                                            ::core::iter::IntoIterator::into_iter(&self.c),
                                            |item| ::inspect::from_fn(move |
                                                request: ::inspect::Request<'_>|
                                            {
                                                request
                                                    .display(&::core::format_args!("{0:x}{{{0:?}", item));
                                            }),
                                        ),
                                    );
                            },
                        );
                }
            }
        "##]],
    );
}

#[test]
fn mut_behind_a_reference() {
    check(
        r##"
            struct S<T> { #[inspect(mut)] a: AtomicU64, #[inspect(mut, hex, safe)] b: AtomicU64, #[inspect(mut, with = "f")] c: C, #[inspect(mut, flatten)] d: D, #[inspect(mut, flatten, with = "f")] e: E, #[inspect(mut, iter_by_index, hex)] f: Vec<T>, #[inspect(mut, iter_by_key)] g: G, #[inspect(mut)] h: Mutex<T> }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl<T> ::inspect::Inspect for S<T>
            where
                T: ::inspect::Number,
                for<'inspect> &'inspect T: ::inspect::InspectMut,
                for<'inspect> &'inspect Mutex<T>: ::inspect::InspectMut,
            {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request
                        .respond()
                        .field_mut("a", &mut &self.a)
                        .field_mut_at(
                            ::inspect::Sensitivity::Safe,
                            "b",
                            &mut ::inspect::hex(&self.b),
                        )
                        .child(
                            "c",
                            |request| {
                                ::inspect::InspectMut::inspect_mut(&mut f(&self.c), request);
                            },
                        )
                        .flatten_mut("d", &mut &self.d)
                        .flatten_mut(
                            "e",
                            &mut ::inspect::from_fn_mut(|request| {
                                ::inspect::InspectMut::inspect_mut(&mut f(&self.e), request);
                            }),
                        )
                        .child(
                            "f",
                            |request| {
                                request
                                    .by_index_mut(
                                        ::core::iter::Iterator::map(
                                            ::core::iter::IntoIterator::into_iter(&self.f),
                                            |item| ::inspect::hex(item),
                                        ),
                                    );
                            },
                        )
                        .child(
                            "g",
                            |request| {
                                request
                                    .by_key_mut(
                                        ::core::iter::Iterator::map(
                                            ::core::iter::IntoIterator::into_iter(&self.g),
                                            |(key, item)| (key, item),
                                        ),
                                    );
                            },
                        )
                        .field_mut("h", &mut &self.h);
                }
            }
        "##]],
    );
}

#[test]
fn mut_of_an_owner() {
    check_of(
        Trait::InspectMut,
        r##"
            struct S<T> { #[inspect(mut)] a: T, #[inspect(mut, hex, safe)] b: u64, #[inspect(mut, with = "f")] c: C, #[inspect(mut, flatten)] d: D, #[inspect(mut, flatten, with = "f")] e: E, #[inspect(mut, iter_by_index)] f: Vec<u8>, g: u8 }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl<T> ::inspect::InspectMut for S<T>
            where
                T: ::inspect::InspectMut,
            {
                fn inspect_mut(&mut self, request: ::inspect::Request<'_>) {
                    request
                        .respond()
                        .field_mut("a", &mut &mut self.a)
                        .field_mut_at(
                            ::inspect::Sensitivity::Safe,
                            "b",
                            &mut ::inspect::hex(&mut self.b),
                        )
                        .child(
                            "c",
                            |request| {
                                ::inspect::InspectMut::inspect_mut(&mut f(&mut self.c), request);
                            },
                        )
                        .flatten_mut("d", &mut &mut self.d)
                        .flatten_mut(
                            "e",
                            &mut ::inspect::from_fn_mut(|request| {
                                ::inspect::InspectMut::inspect_mut(&mut f(&mut self.e), request);
                            }),
                        )
                        .child(
                            "f",
                            |request| {
                                request.by_index_mut(&mut self.f);
                            },
                        )
                        .field("g", &self.g);
                }
            }
        "##]],
    );
}

#[test]
fn send() {
    check(
        r##"
            struct S<T> { #[inspect(send = "Message::Inspect")] a: Sender<T>, #[inspect(send = f, flatten)] b: B }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl<T> ::inspect::Inspect for S<T> {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request
                        .respond()
                        .child(
                            "a",
                            |request| {
                                let _ = (&self.a).send(Message::Inspect(request.defer()));
                            },
                        )
                        .flatten(
                            "b",
                            &::inspect::from_fn(|request| {
                                let _ = (&self.b).send(f(request.defer()));
                            }),
                        );
                }
            }
        "##]],
    );
}
