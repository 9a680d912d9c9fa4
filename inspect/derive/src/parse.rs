//! From attributes to words with their values.
//!
//! All words stand in one table, which is also the source of every message about what is allowed.
//! Whether a word agrees with its neighbours is `check`'s to say.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, ExprPath, Ident, LitStr, Meta, Token, WherePredicate};

/// Where an attribute stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Struct,
    Enum,
    Variant,
    Field,
    GenericParameter,
}

impl Place {
    fn describe(self) -> &'static str {
        match self {
            Self::Struct => "a struct",
            Self::Enum => "an enum",
            Self::Variant => "a variant",
            Self::Field => "a field",
            Self::GenericParameter => "a generic parameter",
        }
    }
}

/// What an attribute says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Rename,
    Skip,
    Flatten,
    Safe,
    Sensitive,
    Hex,
    Binary,
    Counter,
    Bytes,
    Display,
    Debug,
    Format,
    With,
    IterByIndex,
    IterByKey,
    Mut,
    Send,
    Transparent,
    Tag,
    ExternalTag,
    Untagged,
    Extra,
    Bound,
}

/// What follows a word.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Takes {
    Nothing,
    Name,
    Format,
    Path,
    Predicates,
}

impl Takes {
    fn usage(self, word: &str) -> String {
        match self {
            Self::Nothing => format!("`{word}`"),
            Self::Name => format!("`{word} = \"name\"`"),
            Self::Format => format!("`{word} = \"{{:#x}}\"`"),
            Self::Path => format!("`{word} = \"path::to::function\"`"),
            Self::Predicates => format!("`{word} = \"T: Bound, U: Bound\"`"),
        }
    }
}

struct Entry {
    word: Word,
    text: &'static str,
    takes: Takes,
    places: &'static [Place],
}

const fn entry(word: Word, text: &'static str, takes: Takes, places: &'static [Place]) -> Entry {
    Entry {
        word,
        text,
        takes,
        places,
    }
}

/// In the order in which messages list them.
const WORDS: &[Entry] = {
    use Place::{Enum, Field, Struct, Variant};
    use Takes::{Format, Name, Nothing, Path, Predicates};
    &[
        entry(Word::Rename, "rename", Name, &[Variant, Field]),
        entry(Word::Skip, "skip", Nothing, &[Field]),
        entry(Word::Flatten, "flatten", Nothing, &[Field]),
        entry(Word::Safe, "safe", Nothing, &[Struct, Enum, Variant, Field]),
        entry(
            Word::Sensitive,
            "sensitive",
            Nothing,
            &[Struct, Enum, Variant, Field],
        ),
        entry(Word::Hex, "hex", Nothing, &[Field]),
        entry(Word::Binary, "binary", Nothing, &[Field]),
        entry(Word::Counter, "counter", Nothing, &[Field]),
        entry(Word::Bytes, "bytes", Nothing, &[Field]),
        entry(Word::Display, "display", Nothing, &[Struct, Enum, Field]),
        entry(Word::Debug, "debug", Nothing, &[Struct, Enum, Field]),
        entry(Word::Format, "format", Format, &[Field]),
        entry(Word::With, "with", Path, &[Struct, Enum, Field]),
        entry(Word::IterByIndex, "iter_by_index", Nothing, &[Field]),
        entry(Word::IterByKey, "iter_by_key", Nothing, &[Field]),
        entry(Word::Mut, "mut", Nothing, &[Field]),
        entry(Word::Send, "send", Path, &[Field]),
        entry(
            Word::Transparent,
            "transparent",
            Nothing,
            &[Struct, Variant],
        ),
        entry(Word::Tag, "tag", Name, &[Enum]),
        entry(Word::ExternalTag, "external_tag", Nothing, &[Enum]),
        entry(Word::Untagged, "untagged", Nothing, &[Enum]),
        entry(Word::Extra, "extra", Path, &[Struct, Enum]),
        entry(Word::Bound, "bound", Predicates, &[Struct, Enum]),
    ]
};

/// The value of an attribute.
pub(crate) enum Value {
    Nothing,
    Name(LitStr),
    Path(ExprPath),
    Predicates(Vec<WherePredicate>),
}

/// One word with its value.
pub(crate) struct Attribute {
    pub(crate) word: Word,
    pub(crate) text: &'static str,
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// The attributes of one place, in the order in which they are written; each word once.
#[derive(Default)]
pub(crate) struct Attributes(Vec<Attribute>);

impl Attributes {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Attribute> {
        self.0.iter()
    }

    pub(crate) fn get(&self, word: Word) -> Option<&Attribute> {
        self.0.iter().find(|attribute| attribute.word == word)
    }

    pub(crate) fn has(&self, word: Word) -> bool {
        self.get(word).is_some()
    }

    /// Returns the value of a word that takes a name or a format.
    pub(crate) fn name(&self, word: Word) -> Option<&LitStr> {
        match self.get(word)?.value {
            Value::Name(ref name) => Some(name),
            _ => None,
        }
    }

    /// Returns the value of a word that takes a path.
    pub(crate) fn path(&self, word: Word) -> Option<&ExprPath> {
        match self.get(word)?.value {
            Value::Path(ref path) => Some(path),
            _ => None,
        }
    }

    /// Returns the value of a word that takes predicates.
    pub(crate) fn predicates(&self, word: Word) -> Option<&[WherePredicate]> {
        match self.get(word)?.value {
            Value::Predicates(ref predicates) => Some(predicates),
            _ => None,
        }
    }
}

/// Collects errors, so that the compiler shows all of them at once.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        }
    }

    pub(crate) fn add(&mut self, span: Span, message: impl std::fmt::Display) {
        self.push(Error::new(span, message));
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        self.0.map_or(Ok(()), Err)
    }
}

/// Reads the `inspect` attributes among `attributes`, which stand at `place`.
pub(crate) fn parse(
    attributes: &[syn::Attribute],
    place: Place,
    errors: &mut Errors,
) -> Attributes {
    let mut parsed = Attributes::default();
    for attribute in attributes {
        if !attribute.path().is_ident("inspect") {
            continue;
        }
        let empty = match &attribute.meta {
            Meta::List(list) => list.tokens.is_empty(),
            _ => true,
        };
        if empty || place == Place::GenericParameter {
            errors.add(
                attribute.meta.span(),
                format_args!("expected {}", allowed(place)),
            );
            continue;
        }
        match attribute.parse_args_with(Punctuated::<Item, Token![,]>::parse_terminated) {
            Ok(items) => {
                for item in items {
                    if let Err(error) = item.read(place, &mut parsed) {
                        errors.push(error);
                    }
                }
            }
            Err(error) => errors.push(error),
        }
    }
    parsed
}

/// A word with whatever follows it.
struct Item {
    word: Ident,
    value: Option<RawValue>,
}

enum RawValue {
    Text(LitStr),
    Path(ExprPath),
    Other(Span),
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let word = input.call(Ident::parse_any)?;
        if input.peek(syn::token::Paren) {
            return Err(Error::new(
                word.span(),
                format_args!(
                    "`{word}` takes no parentheses; a value is written `{word} = \"...\"`"
                ),
            ));
        }
        if input.parse::<Option<Token![=]>>()?.is_none() {
            return Ok(Self { word, value: None });
        }
        let value = if input.peek(LitStr) {
            RawValue::Text(input.parse()?)
        } else if input.peek(syn::Lit) {
            RawValue::Other(input.parse::<syn::Lit>()?.span())
        } else {
            let path = input.parse().map_err(|error: Error| {
                let message = format_args!("expected a string or a path as the value of `{word}`");
                Error::new(error.span(), message)
            })?;
            RawValue::Path(path)
        };
        Ok(Self {
            word,
            value: Some(value),
        })
    }
}

impl Item {
    fn read(self, place: Place, parsed: &mut Attributes) -> syn::Result<()> {
        let span = self.word.span();
        let error = |message: String| Error::new(span, message);

        let written = self.word.to_string();
        let Some(entry) = WORDS.iter().find(|entry| entry.text == written) else {
            return Err(error(format!(
                "unknown attribute `{written}`; expected {}",
                allowed(place)
            )));
        };
        if !entry.places.contains(&place) {
            return Err(error(format!(
                "`{written}` has no meaning on {}; expected {}",
                place.describe(),
                allowed(place)
            )));
        }
        if parsed.has(entry.word) {
            return Err(error(format!("`{written}` is already given")));
        }
        let value = entry.value(span, self.value)?;
        parsed.0.push(Attribute {
            word: entry.word,
            text: entry.text,
            span,
            value,
        });
        Ok(())
    }
}

impl Entry {
    fn value(&self, span: Span, value: Option<RawValue>) -> syn::Result<Value> {
        let usage = self.takes.usage(self.text);
        match (self.takes, value) {
            (Takes::Nothing, None) => Ok(Value::Nothing),
            (Takes::Nothing, Some(_)) => Err(Error::new(
                span,
                format_args!("`{}` takes no value", self.text),
            )),
            (_, None) => Err(Error::new(
                span,
                format_args!("`{}` needs a value: {usage}", self.text),
            )),
            (Takes::Name, Some(RawValue::Text(name))) if name.value().is_empty() => {
                Err(Error::new(name.span(), "the name must not be empty"))
            }
            (Takes::Name | Takes::Format, Some(RawValue::Text(text))) => Ok(Value::Name(text)),
            (Takes::Path, Some(RawValue::Path(path))) => Ok(Value::Path(path)),
            (Takes::Path, Some(RawValue::Text(text))) => text
                .parse()
                .map(Value::Path)
                .map_err(|_| Error::new(text.span(), format_args!("no path; expected {usage}"))),
            (Takes::Predicates, Some(RawValue::Text(text))) => text
                .parse_with(Punctuated::<WherePredicate, Token![,]>::parse_terminated)
                .map(|predicates| Value::Predicates(predicates.into_iter().collect()))
                .map_err(|_| Error::new(text.span(), format_args!("no bounds; expected {usage}"))),
            (_, Some(value)) => Err(Error::new(value.span(), format_args!("expected {usage}"))),
        }
    }
}

impl RawValue {
    fn span(&self) -> Span {
        match self {
            Self::Text(text) => text.span(),
            Self::Path(path) => path.span(),
            Self::Other(span) => *span,
        }
    }
}

/// Lists what may stand at a place.
fn allowed(place: Place) -> String {
    let words: Vec<String> = WORDS
        .iter()
        .filter(|entry| entry.places.contains(&place))
        .map(|entry| format!("`{}`", entry.text))
        .collect();
    match words.split_last() {
        None => format!("no `inspect` attribute on {}", place.describe()),
        Some((last, others)) => format!("one of {} or {last}", others.join(", ")),
    }
}
