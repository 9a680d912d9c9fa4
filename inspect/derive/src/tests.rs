//! Snapshots of what the derive writes, one for each attribute.
//!
//! `UPDATE_EXPECT=1` writes them anew.

mod fields;
mod types;

use crate::derive;
use crate::model::Trait;
use expect_test::{Expect, expect};
use quote::ToTokens;

/// Expands a type, and compares the result as formatted Rust. What does not parse fails.
#[track_caller]
fn check(input: &str, expected: Expect) {
    check_of(Trait::Inspect, input, expected);
}

/// The same for either trait.
#[track_caller]
fn check_of(implemented: Trait, input: &str, expected: Expect) {
    let output = derive(input.parse().unwrap(), implemented);
    let file: syn::File = syn::parse2(output).unwrap();
    expected.assert_eq(&prettyplease::unparse(&file));
}

/// Expands a type that is wrong, and compares all its errors.
#[track_caller]
fn check_errors(input: &str, expected: Expect) {
    let input = syn::parse_str(input).unwrap();
    let error = crate::check::check(&input, Trait::Inspect).err().unwrap();
    let errors: Vec<String> = error.into_iter().map(|error| error.to_string()).collect();
    expected.assert_eq(&errors.join("\n"));
}

#[test]
fn all_errors_are_told_at_once() {
    check_errors(
        r##"
            #[inspect(hx, tag = "t")]
            struct S {
                #[inspect(hex, debug)]
                a: u8,
                #[inspect(skip = 5, rename)]
                b: u8,
            }
        "##,
        expect![[r#"
            unknown attribute `hx`; expected one of `safe`, `sensitive`, `display`, `debug`, `with`, `transparent`, `extra` or `bound`
            `tag` has no meaning on a struct; expected one of `safe`, `sensitive`, `display`, `debug`, `with`, `transparent`, `extra` or `bound`
            `debug` contradicts `hex`: both say how a value is written
            `skip` takes no value
            `rename` needs a value: `rename = "name"`"#]],
    );
}

#[test]
fn what_is_allowed_is_listed_for_each_place() {
    check_errors(
        r##"
            #[inspect(x)]
            enum E {
                #[inspect(x)]
                A(#[inspect(x)] u8),
            }
        "##,
        expect![[r#"
            unknown attribute `x`; expected one of `safe`, `sensitive`, `display`, `debug`, `with`, `tag`, `external_tag`, `untagged`, `extra` or `bound`
            unknown attribute `x`; expected one of `rename`, `safe`, `sensitive` or `transparent`
            unknown attribute `x`; expected one of `rename`, `skip`, `flatten`, `safe`, `sensitive`, `hex`, `binary`, `counter`, `bytes`, `display`, `debug`, `format`, `with`, `iter_by_index`, `iter_by_key`, `mut` or `send`"#]],
    );
    check_errors(
        "#[inspect(x)] struct S;",
        expect![
            "unknown attribute `x`; expected one of `safe`, `sensitive`, `display`, `debug`, `with`, `transparent`, `extra` or `bound`"
        ],
    );
}

#[test]
fn other_attributes_are_left_alone() {
    let plain = derive("struct S { a: u8 }".parse().unwrap(), Trait::Inspect);
    let decorated = "/// Text.
        #[derive(Clone)] #[repr(C)] struct S { #[serde(skip)] a: u8 }";
    let decorated = derive(decorated.parse().unwrap(), Trait::Inspect);
    assert_eq!(plain.to_string(), decorated.into_token_stream().to_string());
}
