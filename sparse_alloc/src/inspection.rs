//! What the types of this crate show of themselves.

use inspect::{Inspect, Request};

use crate::mapped_region::MappedRegion;
use crate::{
    Alignment, Backing, CallCounts, HostRange, LinearView, Mappable, Reservation, ReservedSpace,
    RomImage, SharedMemory,
};

fn address(region: &dyn MappedRegion) -> u64 {
    u64::try_from(region.base().addr().get()).unwrap_or(u64::MAX)
}

impl Inspect for Alignment {
    fn inspect(&self, req: Request<'_>) {
        req.value(match self {
            Self::Page => "4K",
            Self::Huge2M => "2M",
            Self::Huge1G => "1G",
        });
    }
}

impl Inspect for CallCounts {
    fn inspect(&self, req: Request<'_>) {
        req.respond()
            .counter("mmap", self.map)
            .counter("munmap", self.unmap)
            .counter("mprotect", self.protect)
            .counter("madvise", self.advise)
            .counter("mlock", self.lock)
            .counter("munlock", self.unlock);
    }
}

/// Shows where it is, and what calls it took.
impl Inspect for ReservedSpace {
    fn inspect(&self, req: Request<'_>) {
        req.respond()
            .hex("base", address(self))
            .hex("len", self.len())
            .field("alignment", &self.alignment())
            .field("calls", &self.calls());
    }
}

/// Shows where it is, how much of it is mapped, and what calls it took.
impl Inspect for Reservation {
    fn inspect(&self, req: Request<'_>) {
        let summary = self.summary();
        req.respond()
            .hex("base", address(self))
            .hex("len", self.len())
            .field("alignment", &self.alignment())
            .value("mapped_ranges", summary.ranges)
            .hex("mapped_bytes", summary.bytes)
            .value("headroom", summary.headroom)
            .field("calls", &self.calls());
    }
}

/// Shows its name, access and length; its linear view if it has one.
impl Inspect for Mappable {
    fn inspect(&self, req: Request<'_>) {
        let mut resp = req.respond();
        resp.value("name", self.name())
            .display("access", &self.access());
        if let Ok(Some(len)) = self.len() {
            resp.hex("len", len);
        }
        if let Some(view) = self.existing_linear_view() {
            resp.field("linear_view", view.as_ref());
        }
    }
}

impl Inspect for LinearView {
    fn inspect(&self, req: Request<'_>) {
        req.respond()
            .hex("base", address(self))
            .hex("len", self.len())
            .display("access", &self.access());
    }
}

/// A mappable shows itself; the others show what they are.
impl Inspect for Backing {
    fn inspect(&self, req: Request<'_>) {
        match self {
            Self::Mappable(mappable) => mappable.inspect(req),
            Self::Anonymous | Self::Zeros | Self::Ones => req.value(self.name()),
        }
    }
}

impl Inspect for SharedMemory {
    fn inspect(&self, req: Request<'_>) {
        self.mappable().inspect(req);
    }
}

/// Shows what its mappable shows, and how much of it is the image proper.
impl Inspect for RomImage {
    fn inspect(&self, req: Request<'_>) {
        req.respond()
            .hex("image_len", self.image_len())
            .flatten("mappable", self.mappable());
    }
}

impl Inspect for HostRange {
    fn inspect(&self, req: Request<'_>) {
        req.respond()
            .hex(
                "base",
                u64::try_from(self.as_ptr().addr()).unwrap_or(u64::MAX),
            )
            .hex("len", self.len());
    }
}
