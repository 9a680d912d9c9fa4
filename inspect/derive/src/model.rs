//! What an implementation does, in words that contradict each other no more.
//!
//! `check` makes it of attributes, `bounds` and `expand` read it.

use syn::{ExprPath, Generics, Ident, LitStr, Member, Type, WherePredicate};

/// A type with what its implementation of `Inspect` does.
pub(crate) struct Model<'a> {
    pub(crate) implemented: Trait,
    pub(crate) ident: &'a Ident,
    pub(crate) generics: &'a Generics,
    /// In place of the derived bounds.
    pub(crate) bound: Option<Vec<WherePredicate>>,
    pub(crate) shape: Shape<'a>,
}

/// Which trait is implemented.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trait {
    /// `Inspect`, on `&self`.
    Inspect,
    /// `InspectMut`, on `&mut self`.
    InspectMut,
}

pub(crate) enum Shape<'a> {
    /// The object is shown as one, without its fields.
    Whole(Render),
    Struct(Contents<'a>, Option<ExprPath>),
    /// The variant's name stands above the fields.
    External(Vec<Variant<'a>>),
    Tagged {
        tag: String,
        variants: Vec<Variant<'a>>,
        extra: Option<ExprPath>,
    },
    /// The contents of the variant stand in the place of the enum.
    Untagged(Vec<Variant<'a>>),
}

pub(crate) struct Variant<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) name: String,
    pub(crate) contents: Contents<'a>,
}

/// What is inside of a struct or a variant.
pub(crate) enum Contents<'a> {
    /// A unit struct or variant.
    Nothing,
    /// The field stands in the place of what it lies in.
    Transparent(Box<Field<'a>>),
    /// Without those that are skipped.
    Fields(Vec<Field<'a>>),
}

impl<'a> Contents<'a> {
    /// Returns the shown fields.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field<'a>> {
        match self {
            Self::Nothing => [].iter(),
            Self::Transparent(field) => std::slice::from_ref(&**field).iter(),
            Self::Fields(fields) => fields.iter(),
        }
    }
}

pub(crate) struct Field<'a> {
    pub(crate) member: Member,
    pub(crate) ty: &'a Type,
    pub(crate) name: String,
    pub(crate) flatten: bool,
    pub(crate) level: Level,
    pub(crate) render: Render,
}

#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Level {
    Safe,
    Default,
    Sensitive,
}

/// How something is shown: `with` is called first, its result is walked, and each item of that has
/// the form.
pub(crate) struct Render {
    pub(crate) with: Option<ExprPath>,
    pub(crate) walk: Walk,
    pub(crate) form: Form,
    pub(crate) reach: Reach,
}

/// What a request to something can do.
pub(crate) enum Reach {
    Show,
    /// It can be updated.
    Update,
    /// It is answered by whoever receives the message that this makes of it.
    Send(ExprPath),
}

#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Walk {
    Whole,
    ByIndex,
    ByKey,
}

pub(crate) enum Form {
    Own,
    Hex,
    Binary,
    Counter,
    Bytes,
    Display,
    Debug,
    Format(LitStr),
}
