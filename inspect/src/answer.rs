//! Ready answers: texts, sequences and maps for a request, children of all kinds for a response.

use crate::from_text::{FromText, Invalid};
use crate::request::{Inspect, InspectMut, Request, Response, Sensitivity};
use crate::tape::{Content, Name};
use crate::value::{Style, Value};
use alloc::boxed::Box;
use alloc::string::ToString;
use core::fmt;

impl Request<'_> {
    /// Answers with the text that `value` displays.
    pub fn display(self, value: &(impl fmt::Display + ?Sized)) {
        self.answer(|tape| Content::Text(tape.write(value)));
    }

    /// Answers with the text of `value`'s `Debug`.
    pub fn debug(self, value: &(impl fmt::Debug + ?Sized)) {
        self.display(&format_args!("{value:?}"));
    }

    /// Answers with text.
    pub(crate) fn text(self, text: &str) {
        self.answer(|tape| Content::Text(tape.write_str(text)));
    }

    /// Answers with bytes that are not text.
    pub fn bytes(self, bytes: &(impl AsRef<[u8]> + ?Sized)) {
        self.answer(|_| Content::Boxed(Box::new(Value::from(bytes.as_ref()))));
    }

    /// Answers with `place`, which an [`Update`](crate::Update) may replace.
    pub fn value_mut<T: FromText + Inspect>(self, place: &mut T) {
        let req = self.update(|text| {
            *place = T::from_text(text)?;
            Ok(())
        });
        place.inspect(req);
    }

    /// Answers with a directory that has the items of `items` as children, named `0`, `1`, ...
    pub fn by_index<I>(self, items: I)
    where
        I: IntoIterator<Item: Inspect>,
    {
        self.each_by_index(items, |item, req| item.inspect(req));
    }

    /// Answers with a directory that has the items of `items` as children, named `0`, `1`, ...,
    /// and can be updated.
    pub fn by_index_mut<I>(self, items: I)
    where
        I: IntoIterator<Item: InspectMut>,
    {
        self.each_by_index(items, |mut item, req| item.inspect_mut(req));
    }

    fn each_by_index<I: IntoIterator>(self, items: I, answer: impl Fn(I::Item, Request<'_>)) {
        let mut response = self.respond();
        // Even if the path leads to no item: this is a directory, and no value can replace it.
        if !response.is_open() {
            return;
        }
        let mut items = items.into_iter();
        if let Some(name) = response.wanted() {
            // Goes straight to the item that the path names, if it does name one.
            if let Ok(index) = name.parse::<usize>()
                && index.to_string() == name
                && let Some(item) = items.nth(index)
            {
                response.element(&index, |req| answer(item, req));
            }
            return;
        }
        for (index, item) in items.enumerate() {
            response.element(&index, |req| answer(item, req));
        }
    }

    /// Answers with a directory that has the values of `items` as children, named by their keys.
    pub fn by_key<I, K, V>(self, items: I)
    where
        I: IntoIterator<Item = (K, V)>,
        K: fmt::Display,
        V: Inspect,
    {
        let mut response = self.respond();
        if response.is_open() {
            for (key, item) in items {
                response.element(&key, |req| item.inspect(req));
            }
        }
    }

    /// Answers with a directory that has the values of `items` as children, named by their keys,
    /// that can be updated.
    pub fn by_key_mut<I, K, V>(self, items: I)
    where
        I: IntoIterator<Item = (K, V)>,
        K: fmt::Display,
        V: InspectMut,
    {
        let mut response = self.respond();
        if response.is_open() {
            for (key, mut item) in items {
                response.element(&key, |req| item.inspect_mut(req));
            }
        }
    }
}

impl Response<'_> {
    /// Adds an object as a child.
    pub fn field(&mut self, name: impl Into<Name>, object: &(impl Inspect + ?Sized)) -> &mut Self {
        self.field_at(Sensitivity::Default, name, object)
    }

    /// Adds an object as a child of that sensitivity.
    pub fn field_at(
        &mut self,
        level: Sensitivity,
        name: impl Into<Name>,
        object: &(impl Inspect + ?Sized),
    ) -> &mut Self {
        self.child_at(level, name, |request| object.inspect(request))
    }

    /// Adds an object as a child that can be updated.
    ///
    /// For an atomic or a lock behind a shared reference, `object` is a reference to that
    /// reference: `&mut &self.limit`.
    pub fn field_mut(
        &mut self,
        name: impl Into<Name>,
        object: &mut (impl InspectMut + ?Sized),
    ) -> &mut Self {
        self.field_mut_at(Sensitivity::Default, name, object)
    }

    /// Adds an object as a child of that sensitivity that can be updated.
    pub fn field_mut_at(
        &mut self,
        level: Sensitivity,
        name: impl Into<Name>,
        object: &mut (impl InspectMut + ?Sized),
    ) -> &mut Self {
        self.child_at(level, name, |request| object.inspect_mut(request))
    }

    /// Adds an object as a child that `set` changes: it gets the new value as text. If it returns
    /// an error, it must have changed nothing.
    ///
    /// The object is shown after the change, so `set` changes it behind a shared reference.
    pub fn field_with_setter(
        &mut self,
        name: impl Into<Name>,
        object: &(impl Inspect + ?Sized),
        set: impl FnOnce(&str) -> Result<(), Invalid>,
    ) -> &mut Self {
        self.child(name, |request| object.inspect(request.update(set)))
    }

    /// Adds a value.
    pub fn value(&mut self, name: impl Into<Name>, value: impl Into<Value>) -> &mut Self {
        self.child(name, |request| request.value(value))
    }

    /// Adds an integer that is written as hexadecimal.
    pub fn hex(&mut self, name: impl Into<Name>, value: impl Into<Value>) -> &mut Self {
        self.styled(name, value, Style::Hex)
    }

    /// Adds an integer that is written as binary.
    pub fn binary(&mut self, name: impl Into<Name>, value: impl Into<Value>) -> &mut Self {
        self.styled(name, value, Style::Binary)
    }

    /// Adds a number that only grows.
    pub fn counter(&mut self, name: impl Into<Name>, value: impl Into<Value>) -> &mut Self {
        self.styled(name, value, Style::Counter)
    }

    fn styled(
        &mut self,
        name: impl Into<Name>,
        value: impl Into<Value>,
        style: Style,
    ) -> &mut Self {
        self.child(name, |request| {
            request.value(value.into().with_style(style))
        })
    }

    /// Adds bytes that are not text.
    pub fn bytes(
        &mut self,
        name: impl Into<Name>,
        bytes: &(impl AsRef<[u8]> + ?Sized),
    ) -> &mut Self {
        self.child(name, |request| request.bytes(bytes))
    }

    /// Adds the text that `value` displays.
    pub fn display(
        &mut self,
        name: impl Into<Name>,
        value: &(impl fmt::Display + ?Sized),
    ) -> &mut Self {
        self.child(name, |request| request.display(value))
    }

    /// Adds the text of `value`'s `Debug`.
    pub fn debug(
        &mut self,
        name: impl Into<Name>,
        value: &(impl fmt::Debug + ?Sized),
    ) -> &mut Self {
        self.child(name, |request| request.debug(value))
    }

    /// Adds the children of an object, as if they were children of this directory.
    ///
    /// An object that answers with a value, and so has no children, stands under `name`.
    pub fn flatten(
        &mut self,
        name: impl Into<Name>,
        object: &(impl Inspect + ?Sized),
    ) -> &mut Self {
        self.flatten_at(Sensitivity::Default, name, object)
    }

    /// Adds the children of an object, if the query sees that sensitivity, as if they were
    /// children of this directory. Their own sensitivity counts as well.
    ///
    /// An object that answers with a value, and so has no children, stands under `name`.
    pub fn flatten_at(
        &mut self,
        level: Sensitivity,
        name: impl Into<Name>,
        object: &(impl Inspect + ?Sized),
    ) -> &mut Self {
        self.flattened(level, name.into(), |request| object.inspect(request))
    }

    /// Adds the children of an object, as if they were children of this directory, so that they
    /// can be updated.
    ///
    /// An object that answers with a value, and so has no children, stands under `name`.
    pub fn flatten_mut(
        &mut self,
        name: impl Into<Name>,
        object: &mut (impl InspectMut + ?Sized),
    ) -> &mut Self {
        self.flatten_mut_at(Sensitivity::Default, name, object)
    }

    /// Adds the children of an object, if the query sees that sensitivity, as if they were
    /// children of this directory, so that they can be updated.
    ///
    /// An object that answers with a value, and so has no children, stands under `name`.
    pub fn flatten_mut_at(
        &mut self,
        level: Sensitivity,
        name: impl Into<Name>,
        object: &mut (impl InspectMut + ?Sized),
    ) -> &mut Self {
        self.flattened(level, name.into(), |request| object.inspect_mut(request))
    }
}
