//! What a value becomes when its range is cut.

use crate::Access;
use alloc::string::String;
use alloc::sync::Arc;

/// A value that a [`RangeMap`](crate::RangeMap) can hold.
///
/// When the map cuts an entry, each part needs a value. The part that keeps the entry's start keeps
/// the value too. A part that starts later gets what [`tail`](Self::tail) returns.
///
/// Most values hold for every address of their range alike, and the provided `tail` clones them. A
/// value that counts from the start of its range must move on with the cut:
///
/// ```
/// use memory_range::{MemoryRange, RangeMap, RangeValue};
///
/// /// Where in a file the range's first byte lies.
/// #[derive(Clone, PartialEq, Debug)]
/// struct FileOffset(u64);
///
/// impl RangeValue for FileOffset {
///     fn tail(&self, offset: u64) -> Self {
///         FileOffset(self.0 + offset)
///     }
/// }
///
/// let mut map = RangeMap::new();
/// map.insert(MemoryRange::new(0x1000..0x4000), FileOffset(0x8000))?;
/// map.remove(MemoryRange::new(0x2000..0x3000));
/// let entries: Vec<_> = map.iter().map(|(range, value)| (range.to_string(), value.0)).collect();
/// assert_eq!(entries, [("0x1000-0x2000".into(), 0x8000), ("0x3000-0x4000".into(), 0xa000)]);
/// # Ok::<(), memory_range::Occupied>(())
/// ```
pub trait RangeValue: Clone {
    /// Returns the value for the part of the range that starts `offset` bytes after its start.
    ///
    /// The offset is a multiple of [`PAGE_SIZE`](crate::PAGE_SIZE), more than 0 and less than the
    /// range's length. Taking the tail at `a` and then at `b` must give what the tail at `a + b`
    /// gives.
    fn tail(&self, offset: u64) -> Self {
        let _ = offset;
        self.clone()
    }
}

macro_rules! alike_everywhere {
    ($($value:ty),* $(,)?) => {
        $(impl RangeValue for $value {})*
    };
}

alike_everywhere!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    &str,
    String,
    Access,
);

/// Shares the value: every part of the range gets the same one.
impl<T: ?Sized> RangeValue for Arc<T> {}

/// Takes the tail of the value, where there is one.
impl<V: RangeValue> RangeValue for Option<V> {
    fn tail(&self, offset: u64) -> Self {
        self.as_ref().map(|value| value.tail(offset))
    }
}

/// Takes the tails of both.
impl<A: RangeValue, B: RangeValue> RangeValue for (A, B) {
    fn tail(&self, offset: u64) -> Self {
        (self.0.tail(offset), self.1.tail(offset))
    }
}
