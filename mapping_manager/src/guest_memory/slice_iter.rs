//! Elements of guest memory, one after the other.

use super::slice::GuestSlice;
use crate::error::AccessError;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;
use zerocopy::FromBytes;

/// Reads the elements of a [`GuestSlice`], each when it is asked for. One that cannot be read is
/// an error, and the next is tried all the same.
#[must_use = "nothing is read until it is asked for"]
pub struct GuestSliceIter<'a, T> {
    slice: &'a GuestSlice<T>,
    left: Range<u64>,
}

impl<'a, T> GuestSliceIter<'a, T> {
    pub(super) fn new(slice: &'a GuestSlice<T>) -> Self {
        Self {
            slice,
            left: 0..slice.len(),
        }
    }
}

impl<T: FromBytes> Iterator for GuestSliceIter<'_, T> {
    type Item = Result<T, AccessError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left.next().map(|index| self.slice.get(index))
    }

    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        self.left.nth(n).map(|index| self.slice.get(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl<T: FromBytes> DoubleEndedIterator for GuestSliceIter<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.left.next_back().map(|index| self.slice.get(index))
    }
}

impl<T: FromBytes> FusedIterator for GuestSliceIter<'_, T> {}

impl<'a, T: FromBytes> IntoIterator for &'a GuestSlice<T> {
    type Item = Result<T, AccessError>;
    type IntoIter = GuestSliceIter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> fmt::Debug for GuestSliceIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestSliceIter")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
