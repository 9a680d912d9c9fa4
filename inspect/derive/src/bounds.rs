//! What an implementation demands of the generic parameters.

use crate::model::{Field, Form, Model, Reach, Shape, Trait, Walk};
use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use std::collections::HashSet;
use syn::{Ident, Type};

/// Returns the predicates for the `where` clause: what the attribute says, or what is derived.
pub(crate) fn predicates(model: &Model<'_>) -> Vec<TokenStream> {
    if let Some(bound) = &model.bound {
        return bound.iter().map(ToTokens::to_token_stream).collect();
    }
    let parameters: HashSet<&Ident> = model
        .generics
        .type_params()
        .map(|parameter| &parameter.ident)
        .collect();
    if parameters.is_empty() {
        return Vec::new();
    }
    let fields: Vec<&Field<'_>> = match &model.shape {
        // What the whole type is shown by has its own conditions, which can be stated as such.
        Shape::Whole(render) => {
            let demand = match render.form {
                Form::Display => quote!(::core::fmt::Display),
                Form::Debug => quote!(::core::fmt::Debug),
                _ => return Vec::new(),
            };
            if render.with.is_some() {
                return Vec::new();
            }
            return vec![quote!(Self: #demand)];
        }
        Shape::Struct(contents, _) => contents.fields().collect(),
        Shape::External(variants) | Shape::Untagged(variants) | Shape::Tagged { variants, .. } => {
            variants
                .iter()
                .flat_map(|variant| variant.contents.fields())
                .collect()
        }
    };

    let mut known = HashSet::new();
    let mut predicates = Vec::new();
    let mut add = |predicate: TokenStream| {
        if known.insert(predicate.to_string()) {
            predicates.push(predicate);
        }
    };
    for field in fields {
        if field.render.with.is_some() || is_phantom_data(field.ty) {
            // Nothing is known of what `with` returns.
            continue;
        }
        let mut uses = Vec::new();
        find_uses(field.ty.to_token_stream(), &parameters, &mut uses);
        for demand in demands(field) {
            for used in &uses {
                add(quote!(#used: #demand));
            }
        }
        if uses.is_empty() {
            continue;
        }
        // What can be updated behind a reference depends on the type around the parameter: a lock
        // asks less of it than a list.
        let ty = field.ty;
        match (&field.render.reach, model.implemented, field.render.walk) {
            (Reach::Update, Trait::Inspect, Walk::Whole) => {
                add(quote!(for<'inspect> &'inspect #ty: ::inspect::InspectMut));
            }
            (Reach::Update, Trait::Inspect, _) => {
                for used in &uses {
                    add(quote!(for<'inspect> &'inspect #used: ::inspect::InspectMut));
                }
            }
            (Reach::Update, Trait::InspectMut, _) => {
                for used in &uses {
                    add(quote!(#used: ::inspect::InspectMut));
                }
            }
            _ => {}
        }
    }
    predicates
}

/// Returns the traits that show the field.
fn demands(field: &Field<'_>) -> Vec<TokenStream> {
    let demand = match (&field.render.form, &field.render.reach) {
        // Nothing is known of what receives a message, and what can be updated is not shown by
        // `Inspect`.
        (_, Reach::Send(_)) | (Form::Own, Reach::Update) => return Vec::new(),
        (Form::Own, _) => quote!(::inspect::Inspect),
        (Form::Hex | Form::Binary | Form::Counter, _) => quote!(::inspect::Number),
        // `Vec<T>` is bytes for one `T` only; `T` itself is what has to be bytes elsewhere.
        (Form::Bytes, _) => {
            if field.render.walk == Walk::Whole && !is_parameter_like(field.ty) {
                return Vec::new();
            }
            quote!(::core::convert::AsRef<[u8]>)
        }
        (Form::Display, _) => quote!(::core::fmt::Display),
        (Form::Debug, _) => quote!(::core::fmt::Debug),
        (Form::Format(format), _) => return formatted(&format.value()),
    };
    vec![demand]
}

/// Returns the traits by which a format string shows its argument.
fn formatted(format: &str) -> Vec<TokenStream> {
    let plain = format.replace("{{", "").replace("}}", "");
    let placeholders = plain
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next());
    let demand = placeholders.map(|placeholder| {
        let kind = placeholder
            .split_once(':')
            .map_or("", |(_, kind)| kind.trim_end());
        match kind.chars().last() {
            Some('?') => quote!(::core::fmt::Debug),
            Some('x') => quote!(::core::fmt::LowerHex),
            Some('X') => quote!(::core::fmt::UpperHex),
            Some('o') => quote!(::core::fmt::Octal),
            Some('b') => quote!(::core::fmt::Binary),
            Some('e') => quote!(::core::fmt::LowerExp),
            Some('E') => quote!(::core::fmt::UpperExp),
            Some('p') => quote!(::core::fmt::Pointer),
            _ => quote!(::core::fmt::Display),
        }
    });
    demand.collect()
}

/// Tells whether a type is nothing but a path without arguments, as a parameter is.
fn is_parameter_like(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path
            .path
            .segments
            .iter()
            .all(|segment| segment.arguments.is_none()),
        Type::Reference(reference) => is_parameter_like(&reference.elem),
        _ => false,
    }
}

fn is_phantom_data(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|segment| segment.ident == "PhantomData"),
        _ => false,
    }
}

/// Finds the parameters that occur in a type, and types that are associated to one (`T::Item`).
///
/// It looks at tokens, since all that matters is which names occur, not how the type is built.
fn find_uses(ty: TokenStream, parameters: &HashSet<&Ident>, uses: &mut Vec<TokenStream>) {
    let mut tokens = ty.into_iter().peekable();
    // After a colon comes the rest of a path, after an apostrophe a lifetime.
    let mut after_mark = false;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if !after_mark && parameters.contains(&ident) => {
                let mut used = ident.into_token_stream();
                while tokens.next_if(is_colon).is_some() && tokens.next_if(is_colon).is_some() {
                    if let Some(associated) = tokens.next_if(is_ident) {
                        used.extend(quote!(::#associated));
                    }
                }
                uses.push(used);
                after_mark = false;
            }
            TokenTree::Group(group) => {
                find_uses(group.stream(), parameters, uses);
                after_mark = false;
            }
            TokenTree::Punct(punct) => after_mark = matches!(punct.as_char(), ':' | '\''),
            _ => after_mark = false,
        }
    }
}

fn is_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':')
}

fn is_ident(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Ident(_))
}
