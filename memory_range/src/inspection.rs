//! How ranges look in an inspection tree.

use crate::Access;
use crate::MemoryRange;
use crate::RangeMap;
use inspect::Inspect;
use inspect::Request;

/// Shows the range as text: `0x1000-0x2000`.
impl Inspect for MemoryRange {
    fn inspect(&self, req: Request<'_>) {
        req.display(self);
    }
}

/// Shows `ro` or `rw`.
impl Inspect for Access {
    fn inspect(&self, req: Request<'_>) {
        req.display(self);
    }
}

/// Shows a directory with each entry's value under its range.
impl<V: Inspect> Inspect for RangeMap<V> {
    fn inspect(&self, req: Request<'_>) {
        req.by_key(self.iter());
    }
}
