//! Every misuse of the derive, by what the compiler says about it.
//!
//! `TRYBUILD=overwrite` writes the expected messages anew.

#[test]
fn misuse_is_an_error_at_its_own_place() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
