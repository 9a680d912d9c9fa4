//! `Inspect` for the types of `core` and `alloc`.

use crate::node::Node;
use crate::request::{Inspect, Request};
use crate::show::Number;
use crate::value::Value;
use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt::Display;
use core::marker::PhantomData;
use core::num::NonZero;
use core::sync::atomic;
use core::time::Duration;

macro_rules! values {
    ($($type:ty)*) => {$(
        impl Inspect for $type {
            fn inspect(&self, req: Request<'_>) {
                req.value(*self);
            }
        }
    )*};
}

values!(bool char f32 f64 Duration);
values!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Number for $type {}

        impl Inspect for NonZero<$type> {
            fn inspect(&self, req: Request<'_>) {
                req.value(self.get());
            }
        }

        impl Number for NonZero<$type> {}
    )*};
}

numbers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

/// Atomics are read relaxed: what is shown is some value that they had, in no order with others.
macro_rules! atomics {
    ($($width:literal: $($type:ident)*;)*) => {$($(
        #[cfg(target_has_atomic = $width)]
        impl Inspect for atomic::$type {
            fn inspect(&self, req: Request<'_>) {
                req.value(self.load(atomic::Ordering::Relaxed));
            }
        }

        #[cfg(target_has_atomic = $width)]
        impl Number for atomic::$type {}
    )*)*};
}

atomics! {
    "8": AtomicU8 AtomicI8;
    "16": AtomicU16 AtomicI16;
    "32": AtomicU32 AtomicI32;
    "64": AtomicU64 AtomicI64;
    "ptr": AtomicUsize AtomicIsize;
}

#[cfg(target_has_atomic = "8")]
impl Inspect for atomic::AtomicBool {
    fn inspect(&self, req: Request<'_>) {
        req.value(self.load(atomic::Ordering::Relaxed));
    }
}

impl Inspect for str {
    fn inspect(&self, req: Request<'_>) {
        req.text(self);
    }
}

impl Inspect for String {
    fn inspect(&self, req: Request<'_>) {
        self.as_str().inspect(req);
    }
}

/// Has nothing to show.
impl<T: ?Sized> Inspect for PhantomData<T> {
    fn inspect(&self, _: Request<'_>) {}
}

/// `None` is [`Value::Null`].
impl<T: Inspect> Inspect for Option<T> {
    fn inspect(&self, req: Request<'_>) {
        match self {
            Some(object) => object.inspect(req),
            None => req.value(Value::Null),
        }
    }
}

impl<T: Number> Number for Option<T> {}

impl<T: Inspect + Copy> Inspect for Cell<T> {
    fn inspect(&self, req: Request<'_>) {
        self.get().inspect(req);
    }
}

impl<T: Number + Copy> Number for Cell<T> {}

impl<T: ToOwned + Inspect + ?Sized> Inspect for Cow<'_, T> {
    fn inspect(&self, req: Request<'_>) {
        self.as_ref().inspect(req);
    }
}

macro_rules! pointers {
    ($($type:ty)*) => {$(
        impl<T: Inspect + ?Sized> Inspect for $type {
            fn inspect(&self, req: Request<'_>) {
                (**self).inspect(req);
            }
        }

        impl<T: Number + ?Sized> Number for $type {}
    )*};
}

pointers!(&T &mut T Box<T> Rc<T> Arc<T>);

macro_rules! sequences {
    ($($type:ty)*) => {$(
        /// A directory with the indices as names.
        impl<T: Inspect> Inspect for $type {
            fn inspect(&self, req: Request<'_>) {
                req.by_index(self);
            }
        }

        impl<T: Number> Number for $type {}
    )*};
}

sequences!([T] Vec<T> VecDeque<T> BTreeSet<T>);

/// A directory with the indices as names.
impl<T: Inspect, const N: usize> Inspect for [T; N] {
    fn inspect(&self, req: Request<'_>) {
        req.by_index(self);
    }
}

impl<T: Number, const N: usize> Number for [T; N] {}

/// A directory with the keys as names.
impl<K: Display, V: Inspect> Inspect for BTreeMap<K, V> {
    fn inspect(&self, req: Request<'_>) {
        req.by_key(self);
    }
}

impl<K: Display, V: Number> Number for BTreeMap<K, V> {}

/// A tree that was taken before, shown as a part of another one.
impl Inspect for Node {
    fn inspect(&self, req: Request<'_>) {
        match self {
            Self::Value(value) => req.value(value.clone()),
            Self::Directory(children) => req.by_key(children.iter()),
            Self::Unopened => req.unopened(),
            Self::Unresolved(why) => req.unresolved(*why),
        }
    }
}
