//! From a type and its attributes to a model in which every combination has a meaning.

use crate::model::{
    Contents, Field, Form, Level, Model, Reach, Render, Shape, Trait, Variant, Walk,
};
use crate::parse::{self, Attribute, Attributes, Errors, Place, Word};
use proc_macro2::Span;
use std::collections::HashMap;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, Index, Member};

/// Checks a type.
///
/// # Errors
///
/// All mistakes, combined into one error.
pub(crate) fn check(input: &DeriveInput, implemented: Trait) -> Result<Model<'_>, Error> {
    let mut errors = Errors::default();
    for parameter in &input.generics.params {
        let attributes = match parameter {
            syn::GenericParam::Type(parameter) => &parameter.attrs,
            syn::GenericParam::Lifetime(parameter) => &parameter.attrs,
            syn::GenericParam::Const(parameter) => &parameter.attrs,
        };
        parse::parse(attributes, Place::GenericParameter, &mut errors);
    }
    let place = match &input.data {
        Data::Enum(_) => Place::Enum,
        _ => Place::Struct,
    };
    let attributes = parse::parse(&input.attrs, place, &mut errors);
    check_contradictions(&attributes, &mut errors);
    let level = level(&attributes, Level::Default);
    let extra = attributes.path(Word::Extra).cloned();

    let shape = match &input.data {
        Data::Struct(data) => {
            let why = "the field is seen by whoever sees the struct";
            check_transparent_levels(&attributes, why, &mut errors);
            let contents = contents(&data.fields, &attributes, level, &mut errors);
            Shape::Struct(contents, extra)
        }
        Data::Enum(data) => {
            let untagged = attributes.has(Word::Untagged);
            let variants = variants(data, level, untagged, &mut errors);
            let any_field = variants
                .iter()
                .any(|variant| variant.contents.fields().count() > 0);
            check_level_applies(&attributes, any_field, &mut errors);
            match attributes.name(Word::Tag) {
                Some(tag) => {
                    let tag = check_tag(tag, &variants, &mut errors);
                    Shape::Tagged {
                        tag,
                        variants,
                        extra,
                    }
                }
                None => {
                    if let Some(extra) = attributes.get(Word::Extra) {
                        errors.add(
                            extra.span,
                            "`extra` on an enum needs `tag = \"name\"`: without it there is no \
                             directory to add children to",
                        );
                    }
                    match untagged {
                        true => Shape::Untagged(variants),
                        false => Shape::External(variants),
                    }
                }
            }
        }
        Data::Union(data) => {
            errors.add(
                data.union_token.span,
                "a union can't derive `Inspect`, since nothing tells which field is valid; \
                 implement it by hand",
            );
            Shape::External(Vec::new())
        }
    };
    let whole = WHOLE.iter().any(|word| attributes.has(*word));
    let shape = match whole {
        true => {
            check_no_field_attributes(input, &attributes, &mut errors);
            check_whole_is_shown(implemented, &attributes, &mut errors);
            Shape::Whole(render(&attributes))
        }
        false => shape,
    };
    errors.finish()?;
    Ok(Model {
        implemented,
        ident: &input.ident,
        generics: &input.generics,
        bound: attributes.predicates(Word::Bound).map(<[_]>::to_vec),
        shape,
    })
}

/// The words on a type that say how all of it is shown.
const WHOLE: &[Word] = &[Word::Display, Word::Debug, Word::With];

/// The words of which one place has one at most.
const FORMS: &[Word] = &[
    Word::Hex,
    Word::Binary,
    Word::Counter,
    Word::Bytes,
    Word::Display,
    Word::Debug,
    Word::Format,
];

/// The words that say which text stands for something.
const TEXTS: &[Word] = &[Word::Bytes, Word::Display, Word::Debug, Word::Format];

/// The words that say what becomes of the name of an enum's variant.
const TAGS: &[Word] = &[Word::Tag, Word::ExternalTag, Word::Untagged];

/// Tells why two words can't stand at the same place, where `walks` says whether items are iterated
/// over.
fn contradiction(first: Word, second: Word, walks: bool) -> Option<&'static str> {
    let both = |a: &[Word], b: &[Word]| {
        a.contains(&first) && b.contains(&second) || a.contains(&second) && b.contains(&first)
    };
    if first == Word::Skip || second == Word::Skip {
        return Some("a skipped field is not shown at all");
    }
    if both(FORMS, FORMS) {
        return Some("both say how a value is written");
    }
    if both(&[Word::Safe], &[Word::Sensitive]) {
        return Some("only one sensitivity is possible");
    }
    if both(&[Word::IterByIndex], &[Word::IterByKey]) {
        return Some("only one kind of name is possible");
    }
    if both(&[Word::Flatten], &[Word::Rename]) {
        return Some("a flattened field has no name of its own");
    }
    if both(&[Word::Flatten], TEXTS) && !walks {
        return Some("a single value has no children");
    }
    if both(TAGS, TAGS) {
        return Some("the name of a variant has one place only");
    }
    if both(&[Word::Mut], TEXTS) {
        return Some("a new value is not read in the form in which this is shown");
    }
    let shown = [Word::With, Word::IterByIndex, Word::IterByKey, Word::Mut];
    if both(&[Word::Send], FORMS) || both(&[Word::Send], &shown) {
        return Some("whoever receives the request says how it is answered");
    }
    if both(&[Word::Transparent], &[Word::Extra]) {
        return Some("a transparent type has no directory of its own to add children to");
    }
    None
}

fn check_contradictions(attributes: &Attributes, errors: &mut Errors) {
    let mut before: Vec<&Attribute> = Vec::new();
    let walks = attributes.has(Word::IterByIndex) || attributes.has(Word::IterByKey);
    for attribute in attributes.iter() {
        let clash = before.iter().find_map(|earlier| {
            let reason = contradiction(earlier.word, attribute.word, walks)?;
            Some((earlier, reason))
        });
        if let Some((earlier, reason)) = clash {
            errors.add(
                attribute.span,
                format_args!(
                    "`{}` contradicts `{}`: {reason}",
                    attribute.text, earlier.text
                ),
            );
        }
        before.push(attribute);
    }
}

/// Checks a type that is shown as a whole: whatever is said about fields would be ignored.
fn check_no_field_attributes(input: &DeriveInput, attributes: &Attributes, errors: &mut Errors) {
    let mut wholes = attributes
        .iter()
        .filter(|attribute| WHOLE.contains(&attribute.word));
    let Some(whole) = wholes.next() else {
        return;
    };
    // `with` may be combined with a form, as on a field.
    let others = attributes
        .iter()
        .filter(|attribute| !WHOLE.contains(&attribute.word) && attribute.word != Word::Bound);
    for other in others {
        errors.add(
            other.span,
            format_args!(
                "`{}` contradicts `{}`: no field is shown",
                other.text, whole.text
            ),
        );
    }
    let (variants, fields): (Vec<_>, Vec<_>) = match &input.data {
        Data::Struct(data) => (Vec::new(), data.fields.iter().collect()),
        Data::Enum(data) => (
            data.variants.iter().collect(),
            data.variants
                .iter()
                .flat_map(|variant| &variant.fields)
                .collect(),
        ),
        Data::Union(_) => return,
    };
    let inner = variants
        .iter()
        .flat_map(|variant| &variant.attrs)
        .chain(fields.iter().flat_map(|field| &field.attrs));
    for attribute in inner.filter(|attribute| attribute.path().is_ident("inspect")) {
        errors.add(
            attribute.meta.span(),
            format_args!(
                "contradicts `{}` on the type: no field is shown",
                whole.text
            ),
        );
    }
}

/// Checks a type that is shown as a whole: nothing of it can be updated.
fn check_whole_is_shown(implemented: Trait, attributes: &Attributes, errors: &mut Errors) {
    let whole = attributes
        .iter()
        .find(|attribute| WHOLE.contains(&attribute.word));
    if let (Trait::InspectMut, Some(whole)) = (implemented, whole) {
        errors.add(
            whole.span,
            format_args!(
                "`{}` on the type leaves nothing to update; derive `Inspect`, or implement \
                 `InspectMut` by hand",
                whole.text
            ),
        );
    }
}

fn variants<'a>(
    data: &'a syn::DataEnum,
    default_level: Level,
    untagged: bool,
    errors: &mut Errors,
) -> Vec<Variant<'a>> {
    let mut names = HashMap::new();
    let variants = data.variants.iter().map(|variant| {
        let attributes = parse::parse(&variant.attrs, Place::Variant, errors);
        check_contradictions(&attributes, errors);
        let (name, span) = match attributes.name(Word::Rename) {
            Some(name) => (name.value(), name.span()),
            None => (variant.ident.unraw().to_string(), variant.ident.span()),
        };
        check_unique(
            &mut names,
            "variant",
            &name,
            &variant.ident.to_string(),
            span,
            errors,
        );
        let level = level(&attributes, default_level);
        let contents = contents(&variant.fields, &attributes, level, errors);
        if untagged {
            check_untagged(&attributes, &contents, errors);
        }
        Variant {
            ident: &variant.ident,
            name,
            contents,
        }
    });
    variants.collect()
}

/// Checks a variant whose name is shown only if there is nothing else.
fn check_untagged(attributes: &Attributes, contents: &Contents<'_>, errors: &mut Errors) {
    if let Some(rename) = attributes.get(Word::Rename)
        && !matches!(contents, Contents::Nothing)
    {
        errors.add(
            rename.span,
            "`rename` has no meaning here: in an `untagged` enum only a variant without fields \
             shows its name",
        );
    }
    if let Contents::Transparent(_) = contents {
        check_transparent_levels(
            attributes,
            "the field is seen by whoever sees the enum",
            errors,
        );
    }
}

/// Checks that the tag leaves every field visible, and returns it.
fn check_tag(tag: &syn::LitStr, variants: &[Variant<'_>], errors: &mut Errors) -> String {
    for variant in variants {
        match &variant.contents {
            Contents::Nothing => {}
            Contents::Transparent(_) => errors.add(
                variant.ident.span(),
                "a transparent variant leaves no place for the `tag`; put `flatten` on its field",
            ),
            Contents::Fields(fields) => {
                if fields
                    .iter()
                    .any(|field| !field.flatten && field.name == tag.value())
                {
                    errors.add(
                        tag.span(),
                        format_args!(
                            "variant `{}` has a field of the name `{}` too",
                            variant.ident,
                            tag.value()
                        ),
                    );
                }
            }
        }
    }
    tag.value()
}

/// Checks what is inside of a struct or variant that has `attributes`.
fn contents<'a>(
    fields: &'a Fields,
    attributes: &Attributes,
    default_level: Level,
    errors: &mut Errors,
) -> Contents<'a> {
    let transparent = attributes.get(Word::Transparent);
    let mut names = HashMap::new();
    let mut shown = Vec::new();
    for (index, field) in (0_u32..).zip(fields) {
        let attributes = parse::parse(&field.attrs, Place::Field, errors);
        check_contradictions(&attributes, errors);
        if attributes.has(Word::Skip) {
            continue;
        }
        if transparent.is_some() {
            check_transparent_field(&attributes, errors);
        }
        let (member, own_name) = match &field.ident {
            Some(ident) => (Member::Named(ident.clone()), ident.unraw().to_string()),
            None => {
                let span = field.ty.span();
                (Member::Unnamed(Index { index, span }), index.to_string())
            }
        };
        let (name, name_span) = match attributes.name(Word::Rename) {
            Some(name) => (name.value(), name.span()),
            None => (own_name.clone(), member.span()),
        };
        let flatten = attributes.has(Word::Flatten);
        if !flatten {
            check_unique(&mut names, "field", &name, &own_name, name_span, errors);
        }
        shown.push(Field {
            member,
            ty: &field.ty,
            name,
            flatten,
            level: level(&attributes, default_level),
            render: render(&attributes),
        });
    }
    check_level_applies(attributes, !shown.is_empty(), errors);
    match (transparent, fields) {
        (None, Fields::Unit) => Contents::Nothing,
        (None, _) => Contents::Fields(shown),
        (Some(transparent), _) => {
            let count = shown.len();
            let mut shown = shown.into_iter();
            match (shown.next(), count) {
                (Some(field), 1) => Contents::Transparent(Box::new(field)),
                _ => {
                    errors.add(
                        transparent.span,
                        format_args!(
                            "`transparent` needs exactly one field that is not skipped, and there \
                             are {count}"
                        ),
                    );
                    Contents::Nothing
                }
            }
        }
    }
}

/// Checks that a level for fields has a field to apply to.
fn check_level_applies(attributes: &Attributes, any_field: bool, errors: &mut Errors) {
    let level = attributes
        .get(Word::Safe)
        .or(attributes.get(Word::Sensitive));
    if let Some(level) = level
        && !any_field
    {
        errors.add(
            level.span,
            format_args!("`{}` has no meaning here: no field is shown", level.text),
        );
    }
}

/// Checks what shows its only field in its own place, which is a place that has a level already.
fn check_transparent_levels(attributes: &Attributes, why: &str, errors: &mut Errors) {
    let Some(transparent) = attributes.get(Word::Transparent) else {
        return;
    };
    let levels = [Word::Safe, Word::Sensitive];
    for level in attributes
        .iter()
        .filter(|attribute| levels.contains(&attribute.word))
    {
        errors.add(
            level.span,
            format_args!("`{}` contradicts `{}`: {why}", level.text, transparent.text),
        );
    }
}

/// Checks a field that stands in the place of its struct: it has no name and no level there.
fn check_transparent_field(attributes: &Attributes, errors: &mut Errors) {
    let nameless = [Word::Rename, Word::Flatten, Word::Safe, Word::Sensitive];
    for attribute in attributes
        .iter()
        .filter(|attribute| nameless.contains(&attribute.word))
    {
        errors.add(
            attribute.span,
            format_args!(
                "`{}` contradicts `transparent`: the field is no child, but stands in the place \
                 of what it lies in",
                attribute.text
            ),
        );
    }
}

fn check_unique(
    names: &mut HashMap<String, String>,
    kind: &str,
    name: &str,
    own_name: &str,
    span: Span,
    errors: &mut Errors,
) {
    if let Some(other) = names.insert(name.to_owned(), own_name.to_owned()) {
        errors.add(
            span,
            format_args!("the name `{name}` is taken by the {kind} `{other}`"),
        );
    }
}

fn level(attributes: &Attributes, default: Level) -> Level {
    if attributes.has(Word::Safe) {
        Level::Safe
    } else if attributes.has(Word::Sensitive) {
        Level::Sensitive
    } else {
        default
    }
}

fn render(attributes: &Attributes) -> Render {
    Render {
        with: attributes.path(Word::With).cloned(),
        walk: if attributes.has(Word::IterByIndex) {
            Walk::ByIndex
        } else if attributes.has(Word::IterByKey) {
            Walk::ByKey
        } else {
            Walk::Whole
        },
        form: form(attributes),
        reach: match attributes.path(Word::Send) {
            Some(message) => Reach::Send(message.clone()),
            None if attributes.has(Word::Mut) => Reach::Update,
            None => Reach::Show,
        },
    }
}

fn form(attributes: &Attributes) -> Form {
    if let Some(format) = attributes.name(Word::Format) {
        return Form::Format(format.clone());
    }
    let form = |attribute: &Attribute| match attribute.word {
        Word::Hex => Some(Form::Hex),
        Word::Binary => Some(Form::Binary),
        Word::Counter => Some(Form::Counter),
        Word::Bytes => Some(Form::Bytes),
        Word::Display => Some(Form::Display),
        Word::Debug => Some(Form::Debug),
        _ => None,
    };
    attributes.iter().find_map(form).unwrap_or(Form::Own)
}
