//! `Inspect` for the types of `std`.

use crate::request::{Inspect, InspectMut, Request};
use crate::show::Number;
use crate::value::Value;
use std::collections::HashMap;
use std::fmt::Display;
use std::path;
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

/// Waits for the lock, and holds it while the contents answer. A poisoned lock is read all the
/// same: the state after a panic is just what one wants to see.
impl<T: Inspect + ?Sized> Inspect for Mutex<T> {
    fn inspect(&self, req: Request<'_>) {
        self.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .inspect(req);
    }
}

impl<T: Number + ?Sized> Number for Mutex<T> {}

/// Waits for the lock, and holds it while the contents answer.
impl<T: InspectMut + ?Sized> InspectMut for &Mutex<T> {
    fn inspect_mut(&mut self, req: Request<'_>) {
        self.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .inspect_mut(req);
    }
}

impl<T: InspectMut + ?Sized> InspectMut for Mutex<T> {
    fn inspect_mut(&mut self, req: Request<'_>) {
        self.get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .inspect_mut(req);
    }
}

/// Waits for the lock, and holds it for reading while the contents answer. A poisoned lock is
/// read all the same.
impl<T: Inspect + ?Sized> Inspect for RwLock<T> {
    fn inspect(&self, req: Request<'_>) {
        self.read()
            .unwrap_or_else(PoisonError::into_inner)
            .inspect(req);
    }
}

impl<T: Number + ?Sized> Number for RwLock<T> {}

/// Waits for the lock, and holds it for writing while the contents answer, since they might
/// change.
impl<T: InspectMut + ?Sized> InspectMut for &RwLock<T> {
    fn inspect_mut(&mut self, req: Request<'_>) {
        self.write()
            .unwrap_or_else(PoisonError::into_inner)
            .inspect_mut(req);
    }
}

impl<T: InspectMut + ?Sized> InspectMut for RwLock<T> {
    fn inspect_mut(&mut self, req: Request<'_>) {
        self.get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .inspect_mut(req);
    }
}

/// [`Value::Null`] until it is set.
impl<T: Inspect> Inspect for OnceLock<T> {
    fn inspect(&self, req: Request<'_>) {
        match self.get() {
            Some(object) => object.inspect(req),
            None => req.value(Value::Null),
        }
    }
}

impl<T: Number> Number for OnceLock<T> {}

/// A directory with the keys as names.
impl<K: Display, V: Inspect, S> Inspect for HashMap<K, V, S> {
    fn inspect(&self, req: Request<'_>) {
        req.by_key(self);
    }
}

impl<K: Display, V: Number, S> Number for HashMap<K, V, S> {}

impl<K: Display, V: InspectMut, S> InspectMut for HashMap<K, V, S> {
    fn inspect_mut(&mut self, req: Request<'_>) {
        req.by_key_mut(self);
    }
}

impl<K: Display, V, S> InspectMut for &HashMap<K, V, S>
where
    for<'t> &'t V: InspectMut,
{
    fn inspect_mut(&mut self, req: Request<'_>) {
        req.by_key_mut(self.iter());
    }
}

/// The path as text, with U+FFFD in place of what is not Unicode.
impl Inspect for path::Path {
    fn inspect(&self, req: Request<'_>) {
        req.display(&self.display());
    }
}

/// The path as text, with U+FFFD in place of what is not Unicode.
impl Inspect for path::PathBuf {
    fn inspect(&self, req: Request<'_>) {
        self.as_path().inspect(req);
    }
}
