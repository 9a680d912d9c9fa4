//! What types and their attributes expand to.

use super::{check, check_of};
use crate::model::Trait;
use expect_test::expect;

#[test]
fn tuple_struct() {
    check(
        r##"
            struct S(u8, u8);
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond().field("0", &self.0).field("1", &self.1);
                }
            }
        "##]],
    );
}

#[test]
fn unit_struct() {
    check(
        r##"
            struct S;
        "##,
        expect![[r#"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond();
                }
            }
        "#]],
    );
}

#[test]
fn transparent() {
    check(
        r##"
            #[inspect(transparent)]
            struct S { #[inspect(hex)] a: u64, #[inspect(skip)] b: u8 }
        "##,
        expect![[r#"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    ::inspect::Inspect::inspect(&::inspect::hex(&self.a), request);
                }
            }
        "#]],
    );
}

#[test]
fn extra() {
    check(
        r##"
            #[inspect(extra = "S::more")]
            struct S { a: u8 }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for S {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    let mut response = request.respond();
                    response.field("a", &self.a);
                    S::more(self, &mut response);
                }
            }
        "##]],
    );
}

#[test]
fn display_on_type() {
    check(
        r##"
            #[inspect(display)]
            struct S<T> { a: T }
        "##,
        expect![[r#"
            #[automatically_derived]
            impl<T> ::inspect::Inspect for S<T>
            where
                Self: ::core::fmt::Display,
            {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    ::inspect::Inspect::inspect(&::inspect::display(self), request);
                }
            }
        "#]],
    );
}

#[test]
fn with_on_type() {
    check(
        r##"
            #[inspect(with = "S::len")]
            struct S<T> { a: T }
        "##,
        expect![[r#"
            #[automatically_derived]
            impl<T> ::inspect::Inspect for S<T> {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    ::inspect::Inspect::inspect(&S::len(self), request);
                }
            }
        "#]],
    );
}

#[test]
fn external_enum() {
    check(
        r##"
            enum E { A, #[inspect(rename = "b")] B { c: u8, d: u8 }, C(u8, #[inspect(skip)] u8), #[inspect(transparent)] D(u8) }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for E {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    match self {
                        Self::A { .. } => request.value(::inspect::Value::literal("A")),
                        Self::B { c: field_c, d: field_d, .. } => {
                            request
                                .respond()
                                .child_at(
                                    ::inspect::Sensitivity::Safe,
                                    "b",
                                    |request| {
                                        request.respond().field("c", field_c).field("d", field_d);
                                    },
                                );
                        }
                        Self::C { 0: field_0, .. } => {
                            request
                                .respond()
                                .child_at(
                                    ::inspect::Sensitivity::Safe,
                                    "C",
                                    |request| {
                                        request.respond().field("0", field_0);
                                    },
                                );
                        }
                        Self::D { 0: field_0, .. } => {
                            request
                                .respond()
                                .child(
                                    "D",
                                    |request| {
                                        ::inspect::Inspect::inspect(field_0, request);
                                    },
                                );
                        }
                    }
                }
            }
        "##]],
    );
}

#[test]
fn tagged_enum() {
    check(
        r##"
            #[inspect(tag = "kind", extra = "E::more")]
            enum E { A, #[inspect(sensitive)] B { c: u8 } }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for E {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    match self {
                        Self::A { .. } => {
                            let mut response = request.respond();
                            response
                                .child_at(
                                    ::inspect::Sensitivity::Safe,
                                    "kind",
                                    |request| {
                                        request.value(::inspect::Value::literal("A"));
                                    },
                                );
                            E::more(self, &mut response);
                        }
                        Self::B { c: field_c, .. } => {
                            let mut response = request.respond();
                            response
                                .child_at(
                                    ::inspect::Sensitivity::Safe,
                                    "kind",
                                    |request| {
                                        request.value(::inspect::Value::literal("B"));
                                    },
                                )
                                .field_at(::inspect::Sensitivity::Sensitive, "c", field_c);
                            E::more(self, &mut response);
                        }
                    }
                }
            }
        "##]],
    );
}

#[test]
fn enum_without_variants() {
    check(
        r##"
            enum E {}
        "##,
        expect![[r#"
            #[automatically_derived]
            impl ::inspect::Inspect for E {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    let _ = request;
                    match *self {}
                }
            }
        "#]],
    );
}

#[test]
fn derived_bounds() {
    check(
        r##"
            struct S<'a, T, U: Sized, D, N, P, const L: usize> where P: Clone {
                a: Vec<T>, b: U::Item, c: Option<<D>::Item>, d: Box<U::Item>, #[inspect(hex)] e: [N; L],
                #[inspect(display)] f: &'a D, #[inspect(debug)] g: T, #[inspect(bytes)] h: N,
                i: PhantomData<P>, #[inspect(skip)] j: P, #[inspect(with = "f")] k: P, l: crate::T::P, m: dyn Fn(&'T u8)
            }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl<'a, T, U: Sized, D, N, P, const L: usize> ::inspect::Inspect
            for S<'a, T, U, D, N, P, L>
            where
                P: Clone,
                T: ::inspect::Inspect,
                U::Item: ::inspect::Inspect,
                D: ::inspect::Inspect,
                N: ::inspect::Number,
                D: ::core::fmt::Display,
                T: ::core::fmt::Debug,
                N: ::core::convert::AsRef<[u8]>,
            {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request
                        .respond()
                        .field("a", &self.a)
                        .field("b", &self.b)
                        .field("c", &self.c)
                        .field("d", &self.d)
                        .field("e", &::inspect::hex(&self.e))
                        .field("f", &::inspect::display(&self.f))
                        .field("g", &::inspect::debug(&self.g))
                        .field("h", &::inspect::bytes(&self.h))
                        .field("i", &self.i)
                        .child(
                            "k",
                            |request| {
                                ::inspect::Inspect::inspect(&f(&self.k), request);
                            },
                        )
                        .field("l", &self.l)
                        .field("m", &self.m);
                }
            }
        "##]],
    );
}

#[test]
fn bound() {
    check(
        r##"
            #[inspect(bound = "T: Copy, Vec<T>: Inspect")]
            struct S<T> where T: Clone { a: T }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl<T> ::inspect::Inspect for S<T>
            where
                T: Clone,
                T: Copy,
                Vec<T>: Inspect,
            {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond().field("a", &self.a);
                }
            }
        "##]],
    );
}

#[test]
fn empty_bound() {
    check(
        r##"
            #[inspect(bound = "")]
            struct S<T> { a: T }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl<T> ::inspect::Inspect for S<T> {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    request.respond().field("a", &self.a);
                }
            }
        "##]],
    );
}

#[test]
fn external_tag() {
    check(
        r##"
            #[inspect(external_tag)] enum E { A, B(u8) }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::Inspect for E {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    match self {
                        Self::A { .. } => request.value(::inspect::Value::literal("A")),
                        Self::B { 0: field_0, .. } => {
                            request
                                .respond()
                                .child_at(
                                    ::inspect::Sensitivity::Safe,
                                    "B",
                                    |request| {
                                        request.respond().field("0", field_0);
                                    },
                                );
                        }
                    }
                }
            }
        "##]],
    );
}

#[test]
fn untagged() {
    check(
        r##"
            #[inspect(untagged)] enum E<T> { #[inspect(rename = "a")] A, B { c: T }, C(#[inspect(hex)] u8, #[inspect(mut)] AtomicU8), #[inspect(transparent)] D(u8) }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl<T> ::inspect::Inspect for E<T>
            where
                T: ::inspect::Inspect,
            {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    match self {
                        Self::A { .. } => request.value(::inspect::Value::literal("a")),
                        Self::B { c: field_c, .. } => {
                            request.respond().field("c", field_c);
                        }
                        Self::C { 0: field_0, 1: field_1, .. } => {
                            request
                                .respond()
                                .field("0", &::inspect::hex(field_0))
                                .field_mut("1", &mut &*field_1);
                        }
                        Self::D { 0: field_0, .. } => {
                            ::inspect::Inspect::inspect(field_0, request);
                        }
                    }
                }
            }
        "##]],
    );
}

#[test]
fn enum_that_is_updated() {
    check_of(
        Trait::InspectMut,
        r##"
            #[inspect(tag = "kind", extra = "E::more")] enum E { A, B { #[inspect(mut)] c: u8, d: u8, #[inspect(mut, hex)] e: u8 } }
        "##,
        expect![[r##"
            #[automatically_derived]
            impl ::inspect::InspectMut for E {
                fn inspect_mut(&mut self, request: ::inspect::Request<'_>) {
                    match self {
                        Self::A { .. } => {
                            let mut response = request.respond();
                            response
                                .child_at(
                                    ::inspect::Sensitivity::Safe,
                                    "kind",
                                    |request| {
                                        request.value(::inspect::Value::literal("A"));
                                    },
                                );
                            E::more(self, &mut response);
                        }
                        Self::B { c: field_c, d: field_d, e: field_e, .. } => {
                            let mut response = request.respond();
                            response
                                .child_at(
                                    ::inspect::Sensitivity::Safe,
                                    "kind",
                                    |request| {
                                        request.value(::inspect::Value::literal("B"));
                                    },
                                )
                                .field_mut("c", &mut &mut *field_c)
                                .field("d", &*field_d)
                                .field_mut("e", &mut ::inspect::hex(&mut *field_e));
                            E::more(self, &mut response);
                        }
                    }
                }
            }
        "##]],
    );
}

#[test]
fn transparent_that_is_updated() {
    check_of(
        Trait::InspectMut,
        r##"
            #[inspect(transparent)] struct S(#[inspect(mut)] u8);
        "##,
        expect![[r#"
            #[automatically_derived]
            impl ::inspect::InspectMut for S {
                fn inspect_mut(&mut self, request: ::inspect::Request<'_>) {
                    ::inspect::InspectMut::inspect_mut(&mut &mut self.0, request);
                }
            }
        "#]],
    );
}
