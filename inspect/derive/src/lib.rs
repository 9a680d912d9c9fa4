//! The derive macros of the `inspect` crate, which exports them as `inspect::Inspect` and
//! `inspect::InspectMut`.
//!
//! Three steps, a module each: `parse` turns attributes into words with their values, `check`
//! turns a type with its attributes into a `model` in which every remaining combination has a
//! meaning, and `expand` writes the implementation. `bounds` finds what it demands of generic
//! parameters.
//!
//! The generated code names everything by `::inspect::` and `::core::`, so `inspect` must be a
//! dependency under this name.

#![forbid(unsafe_code)]

mod bounds;
mod check;
mod expand;
mod model;
mod parse;
#[cfg(test)]
mod tests;

use model::Trait;
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
/// | `format = "{:>8}"` | shows the text of that format, whose only argument it is |
/// | `with = "path"` | shows what the function `fn(&Field) -> T` returns |
/// | `iter_by_index` | shows the items that `&Field` iterates over, by their position |
/// | `iter_by_key` | shows the pairs that `&Field` iterates over: a key that displays, and an item |
/// | `mut` | can be updated: `&Field` is an `inspect::InspectMut` |
/// | `send = "Message"` | is sent the request: `field.send(Message(request.defer()))` |
///
/// `with` may stand beside an `iter_by_` word, and then returns what is iterated over. Either may
/// stand beside a word that says how the result, or each item, is shown. A path is written as a
/// string or without quotes.
///
/// `mut` is for what can change behind a reference: atomics, cells, locks, and containers of these.
/// In a struct that derives [`InspectMut`](macro@InspectMut) it is for all that can be made of
/// text.
///
/// `send` is for a channel to whoever answers, such as a `std::sync::mpsc::Sender`. `Message` is a
/// function or an enum's variant that holds an `inspect::Deferred`; the field's `send` takes it and
/// must not block. If it fails, the field shows as unresolved. It needs `inspect`'s feature `std`.
///
/// # On a struct, an enum or a variant
///
/// | attribute | on | meaning |
/// |---|---|---|
/// | `safe`, `sensitive` | all | the sensitivity of fields that state none |
/// | `rename = "name"` | variant | has that name |
/// | `transparent` | struct, variant | shows its only field, skipped ones aside, in its own place |
/// | `external_tag` | enum | shows the variant's name above the fields, as without any attribute |
/// | `untagged` | enum | shows the fields in its own place; only a variant without fields shows its name |
/// | `tag = "kind"` | enum | shows the variant's name as the child `kind` beside the fields |
/// | `extra = "path"` | struct, enum with `tag` | calls `fn(&Self, &mut inspect::Response<'_>)`, which adds children |
/// | `bound = "T: Bound"` | struct, enum | replaces the bounds that are derived; may be empty |
/// | `display`, `debug` | struct, enum | shows the text of that trait, and no fields |
/// | `with = "path"` | struct, enum | shows what the function `fn(&Self) -> T` returns, and no fields |
///
/// # Bounds
///
/// A type parameter that occurs in the type of a shown field must implement what shows it:
/// `Inspect`, or for `hex` `Number`, for `display` `Display`, and so on. For `mut` it is the
/// reference to the field's type that must implement `InspectMut`. `with`, `send` and `extra`
/// demand nothing. Where that is too much or not enough, `bound` says what is right.
#[proc_macro_derive(Inspect, attributes(inspect))]
pub fn derive_inspect(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    derive(input.into(), Trait::Inspect).into()
}

/// Implements `inspect::InspectMut`.
///
/// The type answers as with [`Inspect`](macro@Inspect), which describes all attributes. Fields
/// with `mut` can be updated: their own type is an `inspect::InspectMut`, such as an integer or a
/// struct that derives it, and what `with` calls for them takes `&mut Field`.
///
/// A type derives either this or `Inspect`. One that derives this is shown as a field with `mut`,
/// inside of a lock for example, or with `inspect::Query::run_mut`.
#[proc_macro_derive(InspectMut, attributes(inspect))]
pub fn derive_inspect_mut(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    derive(input.into(), Trait::InspectMut).into()
}

/// The same as the derives, on tokens that also exist outside of a compiler.
fn derive(input: TokenStream, implemented: Trait) -> TokenStream {
    syn::parse2(input)
        .and_then(|input| check::check(&input, implemented).map(|model| expand::expand(&model)))
        .unwrap_or_else(|error| error.to_compile_error())
}
