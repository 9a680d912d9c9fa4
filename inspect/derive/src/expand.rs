//! From the model to the implementation.

use crate::bounds;
use crate::model::{
    Contents, Field, Form, Level, Model, Reach, Render, Shape, Trait, Variant, Walk,
};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{ExprPath, Member};

/// Writes the implementation of the trait.
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

    let writer = Writer {
        implemented: model.implemented,
    };
    let body = match &model.shape {
        Shape::Whole(render) => answer(render, &quote!(self), Span::call_site()),
        Shape::Struct(contents, extra) => {
            let place = |field: &Field<'_>| writer.own_field(field);
            self::contents(contents, &place, extra.as_ref())
        }
        Shape::External(variants) => writer.external(variants),
        Shape::Untagged(variants) => writer.untagged(variants),
        Shape::Tagged {
            tag,
            variants,
            extra,
        } => writer.tagged(tag, variants, extra.as_ref()),
    };
    let function = match model.implemented {
        Trait::Inspect => quote! {
            impl #impl_generics ::inspect::Inspect for #ident #type_generics #where_clause {
                fn inspect(&self, request: ::inspect::Request<'_>) {
                    #body
                }
            }
        },
        Trait::InspectMut => quote! {
            impl #impl_generics ::inspect::InspectMut for #ident #type_generics #where_clause {
                fn inspect_mut(&mut self, request: ::inspect::Request<'_>) {
                    #body
                }
            }
        },
    };
    quote! {
        #[automatically_derived]
        #function
    }
}

/// Writes an answer to `request` with the contents of a struct or variant. `place` makes the
/// expression of a reference to a field.
fn contents(
    contents: &Contents<'_>,
    place: &dyn Fn(&Field<'_>) -> TokenStream,
    extra: Option<&ExprPath>,
) -> TokenStream {
    let fields = match contents {
        Contents::Transparent(field) => {
            return answer(&field.render, &place(field), field.ty.span());
        }
        Contents::Nothing => [].as_slice(),
        Contents::Fields(fields) => fields,
    };
    let children = fields.iter().map(|field| child(field, &place(field)));
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
    let level = argument(field.level);
    let reach = match field.render.reach {
        Reach::Update => "_mut",
        Reach::Show | Reach::Send(_) => "",
    };
    if let Some(object) = object(&field.render, place, span) {
        let kind = if field.flatten { "flatten" } else { "field" };
        let method = method(&format!("{kind}{reach}"), field.level);
        return quote!(.#method(#level #name, #object));
    }
    let answer = answer(&field.render, place, span);
    if field.flatten {
        let method = method(&format!("flatten{reach}"), field.level);
        let object = match &field.render.reach {
            Reach::Update => quote!(&mut ::inspect::from_fn_mut(|request| { #answer })),
            Reach::Show | Reach::Send(_) => quote!(&::inspect::from_fn(|request| { #answer })),
        };
        quote!(.#method(#level #name, #object))
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
    match (&render.reach, &render.form) {
        (Reach::Send(_), _) => None,
        (Reach::Show, Form::Own) => Some(place),
        (Reach::Show, form) => {
            let shown = shown(form, &place, span);
            Some(quote_spanned!(span=> &#shown))
        }
        (Reach::Update, form) => {
            let shown = shown(form, &place, span);
            Some(quote_spanned!(span=> &mut #shown))
        }
    }
}

/// Writes the statement that answers `request` with what is at `place`.
fn answer(render: &Render, place: &TokenStream, span: Span) -> TokenStream {
    let span = located(span);
    let place = respan(place, span);
    let update = matches!(render.reach, Reach::Update);
    if let Reach::Send(message) = &render.reach {
        // If nobody receives the message, the request in it is dropped, which is an answer too.
        return quote_spanned!(span=> let _ = (#place).send(#message(request.defer())););
    }
    if let Some(object) = object(render, &place, span) {
        return match update {
            true => quote!(::inspect::InspectMut::inspect_mut(#object, request);),
            false => quote!(::inspect::Inspect::inspect(#object, request);),
        };
    }
    let source = match &render.with {
        Some(with) => quote_spanned!(span=> #with(#place)),
        None => place,
    };
    let method = |name: &str| match update {
        true => format_ident!("{name}_mut", span = span),
        false => format_ident!("{name}", span = span),
    };
    match (render.walk, &render.form) {
        (Walk::Whole, form) => {
            let shown = shown(form, &source, span);
            match update {
                true => quote_spanned! {span=>
                    ::inspect::InspectMut::inspect_mut(&mut #shown, request);
                },
                false => quote_spanned! {span=>
                    ::inspect::Inspect::inspect(&#shown, request);
                },
            }
        }
        (Walk::ByIndex, Form::Own) => {
            let by_index = method("by_index");
            quote_spanned!(span=> request.#by_index(#source);)
        }
        (Walk::ByIndex, form) => {
            let by_index = method("by_index");
            let item = shown_item(form, span);
            quote_spanned! {span=>
                request.#by_index(::core::iter::Iterator::map(
                    ::core::iter::IntoIterator::into_iter(#source),
                    |item| #item,
                ));
            }
        }
        // The pattern takes references to pairs as well as pairs of references.
        (Walk::ByKey, form) => {
            let by_key = method("by_key");
            let item = shown_item(form, span);
            quote_spanned! {span=>
                request.#by_key(::core::iter::Iterator::map(
                    ::core::iter::IntoIterator::into_iter(#source),
                    |(key, item)| (key, #item),
                ));
            }
        }
    }
}

/// Returns the expression of what shows `what` in that form.
fn shown(form: &Form, what: &TokenStream, span: Span) -> TokenStream {
    match form {
        Form::Own => what.clone(),
        Form::Hex => quote_spanned!(span=> ::inspect::hex(#what)),
        Form::Binary => quote_spanned!(span=> ::inspect::binary(#what)),
        Form::Counter => quote_spanned!(span=> ::inspect::counter(#what)),
        Form::Bytes => quote_spanned!(span=> ::inspect::bytes(#what)),
        Form::Display => quote_spanned!(span=> ::inspect::display(#what)),
        Form::Debug => quote_spanned!(span=> ::inspect::debug(#what)),
        Form::Format(format) => quote_spanned! {span=>
            ::inspect::display(::core::format_args!(#format, #what))
        },
    }
}

/// Returns the expression of what shows the variable `item` in that form, and may outlive it.
fn shown_item(form: &Form, span: Span) -> TokenStream {
    match form {
        // The arguments of a format are borrowed.
        Form::Format(format) => quote_spanned! {span=>
            ::inspect::from_fn(move |request: ::inspect::Request<'_>| {
                request.display(&::core::format_args!(#format, item));
            })
        },
        form => shown(form, &quote_spanned!(span=> item), span),
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

/// Writes what differs between the two traits: how a field is reached.
struct Writer {
    implemented: Trait,
}

impl Writer {
    /// Returns the expression of a reference to a field of `self`.
    fn own_field(&self, field: &Field<'_>) -> TokenStream {
        let member = &field.member;
        match (self.implemented, &field.render.reach) {
            (Trait::InspectMut, Reach::Update) => quote!(&mut self.#member),
            _ => quote!(&self.#member),
        }
    }

    /// Returns the expression of a reference to a field of a variant, which a pattern has bound.
    fn bound_field(&self, field: &Field<'_>) -> TokenStream {
        let binding = binding(&field.member);
        match (self.implemented, &field.render.reach) {
            // The binding is a reference of the kind that is needed.
            (Trait::Inspect, Reach::Show | Reach::Send(_)) => quote!(#binding),
            (Trait::InspectMut, Reach::Update) => quote!(&mut *#binding),
            // A place of its own, since it is about to be borrowed.
            (Trait::Inspect, Reach::Update) | (Trait::InspectMut, _) => quote!(&*#binding),
        }
    }

    /// Writes the answer of an enum whose variants' names stand above their fields.
    fn external(&self, variants: &[Variant<'_>]) -> TokenStream {
        let arms = variants.iter().map(|variant| {
            let (pattern, name) = (pattern(variant), &variant.name);
            if let Contents::Nothing = variant.contents {
                return quote!(#pattern => request.value(::inspect::Value::literal(#name)),);
            }
            let body = contents(&variant.contents, &|field| self.bound_field(field), None);
            // Whoever sees the object sees which variant it is; fields have levels of their own.
            // What stands in the place of the variant is a field.
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

    /// Writes the answer of an enum whose variants' names don't show beside their fields.
    fn untagged(&self, variants: &[Variant<'_>]) -> TokenStream {
        let arms = variants.iter().map(|variant| {
            let (pattern, name) = (pattern(variant), &variant.name);
            if let Contents::Nothing = variant.contents {
                return quote!(#pattern => request.value(::inspect::Value::literal(#name)),);
            }
            let body = contents(&variant.contents, &|field| self.bound_field(field), None);
            quote!(#pattern => { #body })
        });
        choose(arms)
    }

    /// Writes the answer of an enum whose variant's name is a child beside the fields.
    fn tagged(&self, tag: &str, variants: &[Variant<'_>], extra: Option<&ExprPath>) -> TokenStream {
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
                .map(|field| child(field, &self.bound_field(field)));
            let body = respond(std::iter::once(kind).chain(children), extra);
            quote!(#pattern => { #body })
        });
        choose(arms)
    }
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
    let fields = variant.contents.fields().map(|field| {
        let (member, binding) = (&field.member, binding(&field.member));
        quote!(#member: #binding,)
    });
    // With braces, a pattern fits variants of every kind.
    quote!(Self::#ident { #(#fields)* .. })
}

/// Returns the variable that holds a reference to a field of a variant.
fn binding(member: &Member) -> Ident {
    match member {
        Member::Named(ident) => format_ident!("field_{}", ident),
        Member::Unnamed(index) => format_ident!("field_{}", index.index),
    }
}
