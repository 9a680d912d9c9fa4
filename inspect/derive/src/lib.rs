//! The derive macro of the `inspect` crate, which exports it as `inspect::Inspect`.
//!
//! Three steps, a module each: `parse` turns attributes into words with their values, `check`
//! turns a type with its attributes into a model in which every remaining combination has a
//! meaning, and `expand` writes the implementation. `bounds` finds what it demands of generic
//! parameters.
//!
//! The generated code names everything by `::inspect::` and `::core::`, so `inspect` must be a
//! dependency under this name.

#![forbid(unsafe_code)]

mod bounds;
mod check;
mod expand;
mod parse;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;

/// Implements `inspect::Inspect`.
///
/// A struct answers with a directory: each field under its name, those of a tuple struct under
/// their index. An enum answers with the name of its variant if that has no fields, otherwise with
/// a directory that has the variant's name as its only child, and in it the fields.
///
/// Attributes are written `#[inspect(word, word = value)]`. One that is unknown, doubled, out of
/// place or contradicts another is an error where it stands.
///
/// # On a field
///
/// | attribute | the field |
/// |---|---|
/// | `rename = "name"` | has that name |
/// | `skip` | is not shown |
/// | `flatten` | shows its children as children of the directory that it lies in |
/// | `safe`, `sensitive` | has that sensitivity (`inspect::Sensitivity`) |
/// | `hex`, `binary`, `counter` | shows integers in that style; its type is an `inspect::Number` |
/// | `bytes` | shows its `AsRef<[u8]>` as one value |
/// | `display`, `debug` | shows the text of that trait |
/// | `with = "path"` | shows what the function `fn(&Field) -> T` returns |
/// | `iter_by_index` | shows the items that `&Field` iterates over, by their position |
/// | `iter_by_key` | shows the pairs that `&Field` iterates over: a key that displays, and an item |
///
/// `with` may stand beside an `iter_by_` word, and then returns what is iterated over. Either may
/// stand beside a word that says how the result, or each item, is shown. A path is written as a
/// string or without quotes.
///
/// # On a struct, an enum or a variant
///
/// | attribute | on | meaning |
/// |---|---|---|
/// | `safe`, `sensitive` | all | the sensitivity of fields that state none |
/// | `rename = "name"` | variant | has that name |
/// | `transparent` | struct, variant | shows its only field, skipped ones aside, in its own place |
/// | `tag = "kind"` | enum | shows the variant's name as the child `kind` beside the fields |
/// | `extra = "path"` | struct, enum with `tag` | calls `fn(&Self, &mut inspect::Response<'_>)`, which adds children |
/// | `bound = "T: Bound"` | struct, enum | replaces the bounds that are derived; may be empty |
/// | `display`, `debug` | struct, enum | shows the text of that trait, and no fields |
/// | `with = "path"` | struct, enum | shows what the function `fn(&Self) -> T` returns, and no fields |
///
/// # Bounds
///
/// A type parameter that occurs in the type of a shown field must implement what shows it:
/// `Inspect`, or for `hex` `Number`, for `display` `Display`, and so on. `with` and `extra` demand
/// nothing. Where that is too much or not enough, `bound` says what is right.
#[proc_macro_derive(Inspect, attributes(inspect))]
pub fn derive_inspect(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    derive(input.into()).into()
}

/// The same as [`derive_inspect`], on tokens that also exist outside of a compiler.
fn derive(input: TokenStream) -> TokenStream {
    syn::parse2(input)
        .and_then(|input| check::check(&input).map(|model| expand::expand(&model)))
        .unwrap_or_else(|error| error.to_compile_error())
}
