//! `InspectMut` for the types of `core` and `alloc`.

use crate::from_text::FromText;
use crate::request::{Inspect, InspectMut, Request};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt::Display;
use core::num::NonZero;
use core::sync::atomic;
use core::time::Duration;

macro_rules! values {
    ($($type:ty)*) => {$(
        impl InspectMut for $type {
            fn inspect_mut(&mut self, req: Request<'_>) {
                req.value_mut(self);
            }
        }
    )*};
}

values!(bool char f32 f64 Duration String);
values!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl InspectMut for NonZero<$type> {
            fn inspect_mut(&mut self, req: Request<'_>) {
                req.value_mut(self);
            }
        }
    )*};
}

numbers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

impl<T: FromText + Inspect> InspectMut for Option<T> {
    fn inspect_mut(&mut self, req: Request<'_>) {
        req.value_mut(self);
    }
}

/// Atomics are stored to relaxed: a new value is seen at some time, in no order with others.
macro_rules! atomics {
    ($($width:literal: $($type:ident = $value:ty)*;)*) => {$($(
        #[cfg(target_has_atomic = $width)]
        impl InspectMut for atomic::$type {
            fn inspect_mut(&mut self, req: Request<'_>) {
                (&*self).inspect_mut(req);
            }
        }

        #[cfg(target_has_atomic = $width)]
        impl InspectMut for &atomic::$type {
            fn inspect_mut(&mut self, req: Request<'_>) {
                let req = req.update(|text| {
                    self.store(<$value>::from_text(text)?, atomic::Ordering::Relaxed);
                    Ok(())
                });
                self.inspect(req);
            }
        }
    )*)*};
}

atomics! {
    "8": AtomicBool = bool AtomicU8 = u8 AtomicI8 = i8;
    "16": AtomicU16 = u16 AtomicI16 = i16;
    "32": AtomicU32 = u32 AtomicI32 = i32;
    "64": AtomicU64 = u64 AtomicI64 = i64;
    "ptr": AtomicUsize = usize AtomicIsize = isize;
}

impl<T: FromText + Inspect + Copy> InspectMut for Cell<T> {
    fn inspect_mut(&mut self, req: Request<'_>) {
        req.value_mut(self.get_mut());
    }
}

impl<T: FromText + Inspect + Copy> InspectMut for &Cell<T> {
    fn inspect_mut(&mut self, req: Request<'_>) {
        let mut value = self.get();
        req.value_mut(&mut value);
        self.set(value);
    }
}

impl<T: InspectMut + ?Sized> InspectMut for &mut T {
    fn inspect_mut(&mut self, req: Request<'_>) {
        (**self).inspect_mut(req);
    }
}

impl<T: InspectMut + ?Sized> InspectMut for Box<T> {
    fn inspect_mut(&mut self, req: Request<'_>) {
        (**self).inspect_mut(req);
    }
}

/// What is shared can be updated if a reference to it can.
macro_rules! shared {
    ($($type:ty)*) => {$(
        impl<T: ?Sized> InspectMut for $type
        where
            for<'t> &'t T: InspectMut,
        {
            fn inspect_mut(&mut self, req: Request<'_>) {
                (&***self).inspect_mut(req);
            }
        }
    )*};
}

shared!(&&T &Box<T> &Rc<T> &Arc<T>);

macro_rules! owners {
    ($($type:ty)*) => {$(
        impl<T: ?Sized> InspectMut for $type
        where
            for<'t> &'t T: InspectMut,
        {
            fn inspect_mut(&mut self, req: Request<'_>) {
                (&**self).inspect_mut(req);
            }
        }
    )*};
}

owners!(Rc<T> Arc<T>);

macro_rules! sequences {
    ($($type:ty)*) => {$(
        impl<T: InspectMut> InspectMut for $type {
            fn inspect_mut(&mut self, req: Request<'_>) {
                req.by_index_mut(self);
            }
        }

        impl<T> InspectMut for &$type
        where
            for<'t> &'t T: InspectMut,
        {
            fn inspect_mut(&mut self, req: Request<'_>) {
                req.by_index_mut(self.iter());
            }
        }
    )*};
}

sequences!([T] Vec<T> VecDeque<T>);

impl<T: InspectMut, const N: usize> InspectMut for [T; N] {
    fn inspect_mut(&mut self, req: Request<'_>) {
        req.by_index_mut(self);
    }
}

impl<T, const N: usize> InspectMut for &[T; N]
where
    for<'t> &'t T: InspectMut,
{
    fn inspect_mut(&mut self, req: Request<'_>) {
        req.by_index_mut(self.iter());
    }
}

impl<K: Display, V: InspectMut> InspectMut for BTreeMap<K, V> {
    fn inspect_mut(&mut self, req: Request<'_>) {
        req.by_key_mut(self);
    }
}

impl<K: Display, V> InspectMut for &BTreeMap<K, V>
where
    for<'t> &'t V: InspectMut,
{
    fn inspect_mut(&mut self, req: Request<'_>) {
        req.by_key_mut(self.iter());
    }
}
