//! From the model to the implementation.

use crate::bounds;
use crate::check::{Contents, Field, Form, Level, Model, Render, Shape, Variant, Walk};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{ExprPath, Member};

/// Writes the implementation of `Inspect`.
pub(crate) fn expand(model: &Model<'_>) -> TokenStream {
    let ident = model.ident;
    let (impl_generics, type_generics, where_clause) = model.generics.split_for_impl();
    let stated = where_clause.map(|clause| &clause.predicates);
    let stated = stated
        .into_iter()
        .flatten()
        .map(|predicate| quote!(#predicate));
    let predicates: Vec<TokenStream> = stated.chain(bounds::predicates(model)).collect();
    let where_clause = (!predicates.is_empty()).then(|| quote!(where #(#predicates,)*));

    let body = match &model.shape {
        Shape::Whole(render) => answer(render, &quote!(self), Span::call_site()),
        Shape::Struct(contents, extra) => {
            let place = |member: &Member| quote!(&self.#member);
            self::contents(contents, &place, extra.as_ref())
        }
        Shape::External(variants) => external(variants),
        Shape::Tagged {
            tag,
            variants,
            extra,
        } => tagged(tag, variants, extra.as_ref()),
    };
    quote! {
        #[automatically_derived]
        impl #impl_generics ::inspect::Inspect for #ident #type_generics #where_clause {
            fn inspect(&self, request: ::inspect::Request<'_>) {
                #body
            }
        }
    }
}

/// Writes an answer to `request` with the contents of a struct or variant. `place` makes the
/// expression of a reference to a field.
fn contents(
    contents: &Contents<'_>,
    place: &dyn Fn(&Member) -> TokenStream,
    extra: Option<&ExprPath>,
) -> TokenStream {
    let fields = match contents {
        Contents::Transparent(field) => {
            return answer(&field.render, &place(&field.member), field.ty.span());
        }
        Contents::Nothing => [].as_slice(),
        Contents::Fields(fields) => fields,
    };
    let children = fields
        .iter()
        .map(|field| child(field, &place(&field.member)));
    respond(children, extra)
}

/// Writes an answer to `request` with a directory.
fn respond(children: impl Iterator<Item = TokenStream>, extra: Option<&ExprPath>) -> TokenStream {
    let children: Vec<TokenStream> = children.collect();
    match extra {
        Some(extra) => {
            let add = (!children.is_empty()).then(|| quote!(response #(#children)*;));
            quote! {
                let mut response = request.respond();
                #add
                #extra(self, &mut response);
            }
        }
        None => quote!(request.respond() #(#children)*;),
    }
}

/// Writes the call that adds a field to a response.
fn child(field: &Field<'_>, place: &TokenStream) -> TokenStream {
    let name = &field.name;
    let span = field.ty.span();
    let object = object(&field.render, place, span);
    let level = argument(field.level);
    if let Some(object) = object {
        let method = method(if field.flatten { "flatten" } else { "field" }, field.level);
        return quote!(.#method(#level #name, #object));
    }
    let answer = answer(&field.render, place, span);
    if field.flatten {
        let method = method("flatten", field.level);
        quote!(.#method(#level #name, &::inspect::from_fn(|request| { #answer })))
    } else {
        let method = method("child", field.level);
        quote!(.#method(#level #name, |request| { #answer }))
    }
}

fn method(name: &str, level: Level) -> Ident {
    match level {
        Level::Default => format_ident!("{name}"),
        Level::Safe | Level::Sensitive => format_ident!("{name}_at"),
    }
}

/// Returns the level as the first argument of a method that takes one.
fn argument(level: Level) -> Option<TokenStream> {
    match level {
        Level::Safe => Some(quote!(::inspect::Sensitivity::Safe,)),
        Level::Default => None,
        Level::Sensitive => Some(quote!(::inspect::Sensitivity::Sensitive,)),
    }
}

/// Returns the expression of a reference to what is shown, if there is one that costs nothing to
/// make: it is evaluated even if the query doesn't want the child.
fn object(render: &Render, place: &TokenStream, span: Span) -> Option<TokenStream> {
    if render.with.is_some() || render.walk != Walk::Whole {
        return None;
    }
    let span = located(span);
    let place = respan(place, span);
    Some(match form(render.form, span) {
        Some(form) => quote_spanned!(span=> &#form(#place)),
        None => place,
    })
}

/// Writes the statement that answers `request` with what is at `place`.
fn answer(render: &Render, place: &TokenStream, span: Span) -> TokenStream {
    if let Some(object) = object(render, place, span) {
        return quote!(::inspect::Inspect::inspect(#object, request););
    }
    let span = located(span);
    let place = respan(place, span);
    let source = match &render.with {
        Some(with) => quote_spanned!(span=> #with(#place)),
        None => place,
    };
    let form = form(render.form, span);
    match (render.walk, form) {
        (Walk::Whole, None) => quote_spanned! {span=>
            ::inspect::Inspect::inspect(&#source, request);
        },
        (Walk::Whole, Some(form)) => quote_spanned! {span=>
            ::inspect::Inspect::inspect(&#form(#source), request);
        },
        (Walk::ByIndex, None) => quote_spanned!(span=> request.by_index(#source);),
        (Walk::ByIndex, Some(form)) => quote_spanned! {span=>
            request.by_index(::core::iter::Iterator::map(
                ::core::iter::IntoIterator::into_iter(#source),
                |item| #form(item),
            ));
        },
        // The pattern takes references to pairs as well as pairs of references.
        (Walk::ByKey, form) => {
            let item = form.map_or(quote!(item), |form| quote!(#form(item)));
            quote_spanned! {span=>
                request.by_key(::core::iter::Iterator::map(
                    ::core::iter::IntoIterator::into_iter(#source),
                    |(key, item)| (key, #item),
                ));
            }
        }
    }
}

/// Returns a span with which a type error points at the field, not at the derive, while names
/// (`self`, `request`) are still those of the generated function.
fn located(field: Span) -> Span {
    Span::call_site().located_at(field)
}

fn respan(tokens: &TokenStream, span: Span) -> TokenStream {
    let respanned = tokens.clone().into_iter().map(|mut token| {
        token.set_span(span);
        token
    });
    respanned.collect()
}

/// Returns the function that makes something show itself in that form.
fn form(form: Form, span: Span) -> Option<TokenStream> {
    match form {
        Form::Own => None,
        Form::Hex => Some(quote_spanned!(span=> ::inspect::hex)),
        Form::Binary => Some(quote_spanned!(span=> ::inspect::binary)),
        Form::Counter => Some(quote_spanned!(span=> ::inspect::counter)),
        Form::Bytes => Some(quote_spanned!(span=> ::inspect::bytes)),
        Form::Display => Some(quote_spanned!(span=> ::inspect::display)),
        Form::Debug => Some(quote_spanned!(span=> ::inspect::debug)),
    }
}

/// Writes the answer of an enum whose variants' names stand above their fields.
fn external(variants: &[Variant<'_>]) -> TokenStream {
    let arms = variants.iter().map(|variant| {
        let (pattern, name) = (pattern(variant), &variant.name);
        if let Contents::Nothing = variant.contents {
            return quote!(#pattern => request.value(::inspect::Value::literal(#name)),);
        }
        let body = contents(&variant.contents, &binding, None);
        // Whoever sees the object sees which variant it is; fields have levels of their own. What
        // stands in the place of the variant is a field.
        let level = match &variant.contents {
            Contents::Transparent(field) => field.level,
            Contents::Nothing | Contents::Fields(_) => Level::Safe,
        };
        let (method, level) = (method("child", level), argument(level));
        quote! {
            #pattern => {
                request.respond().#method(#level #name, |request| { #body });
            }
        }
    });
    choose(arms)
}

/// Writes the answer of an enum whose variant's name is a child beside the fields.
fn tagged(tag: &str, variants: &[Variant<'_>], extra: Option<&ExprPath>) -> TokenStream {
    let arms = variants.iter().map(|variant| {
        let (pattern, name) = (pattern(variant), &variant.name);
        let kind = quote! {
            .child_at(::inspect::Sensitivity::Safe, #tag, |request| {
                request.value(::inspect::Value::literal(#name));
            })
        };
        let fields = match &variant.contents {
            Contents::Fields(fields) => fields.as_slice(),
            Contents::Nothing | Contents::Transparent(_) => &[],
        };
        let children = fields
            .iter()
            .map(|field| child(field, &binding(&field.member)));
        let body = respond(std::iter::once(kind).chain(children), extra);
        quote!(#pattern => { #body })
    });
    choose(arms)
}

fn choose(arms: impl Iterator<Item = TokenStream>) -> TokenStream {
    let arms: Vec<TokenStream> = arms.collect();
    if arms.is_empty() {
        // A reference to an enum without variants is no empty match by itself.
        return quote! {
            let _ = request;
            match *self {}
        };
    }
    quote!(match self { #(#arms)* })
}

/// Writes the pattern of a variant, which binds the shown fields.
fn pattern(variant: &Variant<'_>) -> TokenStream {
    let ident = variant.ident;
    let fields = match &variant.contents {
        Contents::Nothing => &[],
        Contents::Transparent(field) => std::slice::from_ref(field),
        Contents::Fields(fields) => fields.as_slice(),
    };
    let fields = fields.iter().map(|field| {
        let (member, binding) = (&field.member, binding(&field.member));
        quote!(#member: #binding,)
    });
    // With braces, a pattern fits variants of every kind.
    quote!(Self::#ident { #(#fields)* .. })
}

/// Returns the variable that holds a reference to a field of a variant.
fn binding(member: &Member) -> TokenStream {
    let binding = match member {
        Member::Named(ident) => format_ident!("field_{}", ident),
        Member::Unnamed(index) => format_ident!("field_{}", index.index),
    };
    quote!(#binding)
}
