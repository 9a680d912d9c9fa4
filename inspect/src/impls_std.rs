//! `Inspect` for the types of `std`.

use crate::request::{Inspect, Request};
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
