//! Dirty pages, behind vm-memory's `Bitmap`.

use guest_memory_manager::DirtyBitmap;
use std::fmt::Debug;
use std::sync::Arc;
use vm_memory::bitmap::{Bitmap, BitmapSlice, WithBitmapSlice};

/// Whether writes through vm-memory are marked: `()` marks nothing and costs nothing,
/// [`DirtyMarks`] marks pages in a [`DirtyBitmap`].
pub trait Marks: Bitmap + Clone + Debug + Send + Sync + Sized + 'static {
    /// Where to mark.
    type Source: Clone + Send + 'static;

    /// Marks for the memory from a guest physical address on.
    #[doc(hidden)]
    fn new(source: &Self::Source, gpa: u64) -> Self;

    /// Marks for the memory from `bytes` further on.
    #[doc(hidden)]
    fn moved(&self, bytes: u64) -> Self;
}

impl Marks for () {
    type Source = ();

    fn new((): &(), _: u64) {}

    fn moved(&self, _: u64) {}
}

/// Marks what is written through vm-memory in a [`DirtyBitmap`].
///
/// It stands for the memory from one guest physical address on; offsets are in bytes from there.
/// Whoever writes through a raw pointer of a slice marks by himself, as vm-memory documents.
#[derive(Clone, Debug)]
pub struct DirtyMarks {
    bitmap: Arc<DirtyBitmap>,
    gpa: u64,
}

/// A [`DirtyMarks`] from another address on, as a slice carries it.
#[derive(Copy, Clone, Debug)]
pub struct DirtyMarksSlice<'a> {
    bitmap: &'a DirtyBitmap,
    gpa: u64,
}

impl Marks for DirtyMarks {
    type Source = Arc<DirtyBitmap>;

    fn new(bitmap: &Arc<DirtyBitmap>, gpa: u64) -> Self {
        Self {
            bitmap: bitmap.clone(),
            gpa,
        }
    }

    fn moved(&self, bytes: u64) -> Self {
        Self {
            bitmap: self.bitmap.clone(),
            gpa: self.gpa.saturating_add(bytes),
        }
    }
}

impl<'a> WithBitmapSlice<'a> for DirtyMarks {
    type S = DirtyMarksSlice<'a>;
}

impl Bitmap for DirtyMarks {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.slice_at(0).mark_dirty(offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.slice_at(0).dirty_at(offset)
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> DirtyMarksSlice<'_> {
        DirtyMarksSlice {
            bitmap: &self.bitmap,
            gpa: self.gpa.saturating_add(offset as u64),
        }
    }
}

impl WithBitmapSlice<'_> for DirtyMarksSlice<'_> {
    type S = Self;
}

impl BitmapSlice for DirtyMarksSlice<'_> {}

impl Bitmap for DirtyMarksSlice<'_> {
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        let gpa = self.gpa.saturating_add(offset as u64);
        self.bitmap.mark(gpa, len as u64);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let gpa = self.gpa.saturating_add(offset as u64);
        self.bitmap.is_marked(gpa)
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> Self {
        Self {
            bitmap: self.bitmap,
            gpa: self.gpa.saturating_add(offset as u64),
        }
    }
}
