//! What each attribute of a field expands to.

use super::check;
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
