//! Where the parts of a virtqueue lie, checked as a whole.

use std::fmt;
use thiserror::Error;
use vhost::VringConfigData;

/// A virtqueue as the driver has placed it, in guest physical addresses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Split or packed.
    pub layout: RingLayout,
    /// The number of descriptors.
    pub size: u16,
    /// Whether `VIRTIO_F_EVENT_IDX` was negotiated: a split ring's areas then have a field more.
    pub event_index: bool,
    /// The descriptor table, or the packed ring itself.
    pub descriptors: u64,
    /// The available ring, or the driver's event suppression.
    pub driver: u64,
    /// The used ring, or the device's event suppression.
    pub device: u64,
}

/// The layout of a virtqueue.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RingLayout {
    /// Virtio 1.2, section 2.7.
    Split,
    /// Virtio 1.2, section 2.8.
    Packed,
}

/// A part of a virtqueue.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RingPart {
    /// The descriptors.
    Descriptors,
    /// What the driver writes.
    Driver,
    /// What the device writes.
    Device,
}

impl fmt::Display for RingPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptors => "descriptor area",
            Self::Driver => "driver area",
            Self::Device => "device area",
        })
    }
}

/// Why a virtqueue cannot be given to a vhost device.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RingError {
    /// The size is zero, above 32,768, or, in a split ring, no power of two.
    #[error("{size} is no size of a {layout:?} ring")]
    Size {
        /// The size.
        size: u16,
        /// The layout that does not allow it.
        layout: RingLayout,
    },
    /// A part begins at an address that the layout does not allow.
    #[error("the {part} at gpa {gpa:#x} is not aligned to {alignment}")]
    Unaligned {
        /// The part.
        part: RingPart,
        /// Where it begins.
        gpa: u64,
        /// In bytes.
        alignment: u64,
    },
    /// A part does not lie in one entry of the memory table from its first to its last byte.
    #[error(
        "the {part} of {len:#x} bytes at gpa {gpa:#x} is contiguous in the memory table for {there:#x} \
         bytes only"
    )]
    NotContiguous {
        /// The part.
        part: RingPart,
        /// Where it begins.
        gpa: u64,
        /// Its length in bytes.
        len: u64,
        /// How many bytes from its start on lie in one entry.
        there: u64,
    },
}

/// A part of a ring: which, where, how long, how aligned.
type Area = (RingPart, u64, u64, u64);

impl Ring {
    /// The areas, after virtio 1.2, sections 2.7 and 2.8.
    fn areas(&self) -> [Area; 3] {
        let size = u64::from(self.size);
        let event = if self.event_index { 2 } else { 0 };
        let (driver, device) = match self.layout {
            // None wraps: the size has 16 bits.
            RingLayout::Split => (
                (
                    4_u64.wrapping_add(size.wrapping_mul(2)).wrapping_add(event),
                    2,
                ),
                (
                    4_u64.wrapping_add(size.wrapping_mul(8)).wrapping_add(event),
                    4,
                ),
            ),
            RingLayout::Packed => ((4, 4), (4, 4)),
        };
        let descriptors = (size.wrapping_mul(16), 16);
        [
            (RingPart::Descriptors, self.descriptors, descriptors),
            (RingPart::Driver, self.driver, driver),
            (RingPart::Device, self.device, device),
        ]
        .map(|(part, gpa, (len, alignment))| (part, gpa, len, alignment))
    }

    fn has_a_size(&self) -> bool {
        let fits = (1..=0x8000).contains(&self.size);
        fits && (self.layout == RingLayout::Packed || self.size.is_power_of_two())
    }

    /// Finds the host addresses of the parts. `find` returns the host address of a guest physical one,
    /// and how many bytes from there on lie in one entry of a table.
    pub(crate) fn place(
        &self,
        find: impl Fn(u64) -> Option<(u64, u64)>,
    ) -> Result<VringConfigData, RingError> {
        if !self.has_a_size() {
            return Err(RingError::Size {
                size: self.size,
                layout: self.layout,
            });
        }
        let mut hosts = [0; 3];
        for ((part, gpa, len, alignment), place) in self.areas().into_iter().zip(&mut hosts) {
            if !gpa.is_multiple_of(alignment) {
                return Err(RingError::Unaligned {
                    part,
                    gpa,
                    alignment,
                });
            }
            let (host, there) = find(gpa).unwrap_or((0, 0));
            if there < len {
                return Err(RingError::NotContiguous {
                    part,
                    gpa,
                    len,
                    there,
                });
            }
            *place = host;
        }
        let [descriptors, driver, device] = hosts;
        Ok(VringConfigData {
            queue_max_size: self.size,
            queue_size: self.size,
            flags: 0,
            desc_table_addr: descriptors,
            used_ring_addr: device,
            avail_ring_addr: driver,
            log_addr: None,
        })
    }
}
