//! How guest memory comes to be.

use crate::attach::AttachOptions;
use crate::backing::SharedMemoryBacking;
use crate::error::{BuildError, ChangeError};
use crate::layout::MemoryLayout;
use crate::manager::GuestMemoryManager;
use crate::ram::{self, RAM_PRIORITY, RamRange, RamRegion};
use crate::shared::Shared;
use crate::va_sink::VaSink;
use crate::write_only::WriteOnlyRegions;
use mapping_manager::VaMapper;
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use region_manager::{EditError, MapParams, MappingSink, RegionManager, RegionSpec, Transaction};
use sparse_alloc::{Alignment, Backing, MappableCache};
use std::sync::Arc;

/// Chooses how guest memory is made.
///
/// ```
/// use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout, Vtl, SoftwarePartition};
/// use std::sync::Arc;
///
/// # async fn vmm() -> Result<(), Box<dyn std::error::Error>> {
/// let layout = MemoryLayout::new(64 << 20, &[], None)?;
/// let memory = GuestMemoryBuilder::new()
///     .x86_legacy_support(true)
///     .build(&layout)
///     .await?;
/// let partition = Arc::new(SoftwarePartition::new());
/// memory.attach_partition(Vtl::Vtl0, &partition, None).await?;
///
/// memory.client().guest_memory().await?.write_plain(0x1000, &42_u32)?;
/// # Ok(())
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// #     runtime.block_on(vmm())
/// # }
/// ```
#[derive(Debug, Default, Clone)]
#[must_use = "a builder builds nothing until `build` is called"]
pub struct GuestMemoryBuilder {
    existing_backing: Option<SharedMemoryBacking>,
    claim_backing: bool,
    vtl0_alias_map: Option<u64>,
    pin_mappings: bool,
    prefetch_ram: bool,
    x86_legacy_support: bool,
}

/// Puts another sink between the plans and the VA mapper: failure tests count its calls.
type SinkWrapper<'a> = &'a dyn Fn(Box<dyn MappingSink<Backing>>) -> Box<dyn MappingSink<Backing>>;

impl GuestMemoryBuilder {
    /// Fresh RAM, no alias map, nothing pinned or prefetched, no legacy regions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this memory for RAM, contents included; `None`: fresh memory.
    ///
    /// The layout must ask for memory of the same lengths. Memory of a manager in this process may
    /// be laid around other gaps; memory that was [received](SharedMemoryBacking::receive) from
    /// another process is refused unless RAM lies where it lay there.
    pub fn existing_backing(mut self, backing: Option<SharedMemoryBacking>) -> Self {
        self.existing_backing = backing;
        self
    }

    /// Refuses to be built with memory that another manager has claimed, and claims it for the
    /// manager that is built, until that is dropped or gives the claim up
    /// ([`take_claim`](GuestMemoryManager::take_claim)). A manager that does not claim is not
    /// noticed by one that does, so each that might be built with the same memory should.
    ///
    /// Needs `/proc` and a descriptor for each memory; see [`SharedMemoryBacking::claim`].
    pub fn claim_backing(mut self, claim: bool) -> Self {
        self.claim_backing = claim;
        self
    }

    /// Shows everything that VTL0 sees to VTL2 once more, `offset` higher, which must be at or
    /// above the layout's end; `None`: no mirror.
    pub fn vtl0_alias_map(mut self, offset: Option<u64>) -> Self {
        self.vtl0_alias_map = offset;
        self
    }

    /// Locks in memory (`mlock`) whatever a partition is shown, as long as it is shown. A
    /// partition that cannot is refused when it is attached, and a change that exceeds the
    /// limit (`ulimit -l`) fails.
    pub fn pin_mappings(mut self, pin: bool) -> Self {
        self.pin_mappings = pin;
        self
    }

    /// Faults all of RAM in when a partition is attached, and again whenever RAM is shown.
    pub fn prefetch_ram(mut self, prefetch: bool) -> Self {
        self.prefetch_ram = prefetch;
        self
    }

    /// Divides the first mebibyte as a PC's chipset does, so that the visibility of each part can
    /// be changed: 0x0-0xa0000, 0xa0000-0xc0000, twelve segments of 16 KiB from 0xc0000 to
    /// 0xf0000, 0xf0000-0x100000, and the rest.
    pub fn x86_legacy_support(mut self, legacy: bool) -> Self {
        self.x86_legacy_support = legacy;
        self
    }

    /// Makes guest memory as `layout` and the options say, all of RAM visible and writable.
    ///
    /// # Errors
    ///
    /// As [`build_now`](Self::build_now).
    pub async fn build(self, layout: &MemoryLayout) -> Result<GuestMemoryManager, BuildError> {
        self.build_now(layout)
    }

    /// As [`build`](Self::build), for a caller without an executor.
    ///
    /// # Errors
    ///
    /// The alias map is unaligned, or below the end of RAM or MMIO, or too high; legacy regions are
    /// asked for and the first mebibyte isn't all RAM; the host has no room for the address
    /// space or the memory; the backing doesn't fit the layout, or is claimed. Each has its own
    /// variant.
    pub fn build_now(self, layout: &MemoryLayout) -> Result<GuestMemoryManager, BuildError> {
        self.build_with(layout, &|sink| sink)
    }

    pub(crate) fn build_with(
        self,
        layout: &MemoryLayout,
        wrap: SinkWrapper<'_>,
    ) -> Result<GuestMemoryManager, BuildError> {
        let end = self.address_space_end(layout)?;
        let ranges = ram::divide(layout, self.x86_legacy_support).ok_or_else(|| {
            BuildError::NoLegacyRam {
                first: layout.ram().first().copied().unwrap_or(MemoryRange::EMPTY),
            }
        })?;
        // Before RAM is made: the address space is where too much RAM fails first.
        let mapper = VaMapper::new("guest memory", end, alignment(end))
            .map_err(|source| BuildError::AddressSpace { len: end, source })?;
        let backing = match self.existing_backing {
            Some(backing) => backing.fitted(layout)?,
            None => SharedMemoryBacking::new(layout)?,
        };
        let claim = self.claim_backing.then(|| backing.claim()).transpose();
        let claim = claim.map_err(BuildError::Claim)?;
        let sink = wrap(Box::new(VaSink::new(mapper.clone())));
        let regions = RegionManager::new(end, sink).map_err(|_| BuildError::AliasUnaligned {
            // Everything else that `end` comes from is page aligned.
            alias: end,
        })?;
        let ram =
            show_ram(&regions, &ranges, &backing, self.prefetch_ram).map_err(BuildError::Map)?;
        let options = AttachOptions {
            alias: self.vtl0_alias_map,
            pin: self.pin_mappings,
        };
        let shared = Shared {
            layout: layout.clone(),
            regions,
            mapper,
            ram,
            write_only: WriteOnlyRegions::default(),
            backing,
            files: MappableCache::default(),
            #[cfg(feature = "remote")]
            remotes: crate::remote::Remotes::default(),
        };
        Ok(GuestMemoryManager::new(Arc::new(shared), options, claim))
    }

    /// Where guest physical addresses end: with the layout, or where the mirror of it starts, so
    /// that nothing is ever mapped over the mirror.
    fn address_space_end(&self, layout: &MemoryLayout) -> Result<u64, BuildError> {
        let end = layout.end();
        let Some(alias) = self.vtl0_alias_map else {
            return Ok(end);
        };
        if !alias.is_multiple_of(PAGE_SIZE) {
            return Err(BuildError::AliasUnaligned { alias });
        }
        if alias < end {
            return Err(BuildError::AliasBelowEnd { alias, end });
        }
        match MemoryRange::try_from_len(alias, end) {
            Ok(_) => Ok(end),
            Err(_) => Err(BuildError::AliasTooHigh { alias, len: end }),
        }
    }
}

/// GPA and HVA share enough low bits for the largest pages that the guest could have.
pub(crate) fn alignment(end: u64) -> Alignment {
    match end {
        0..0x20_0000 => Alignment::Page,
        0x20_0000..0x4000_0000 => Alignment::Huge2M,
        _ => Alignment::Huge1G,
    }
}

/// Makes all of RAM visible, in one change.
fn show_ram(
    regions: &RegionManager<Backing>,
    ranges: &[RamRange],
    backing: &SharedMemoryBacking,
    prefetch: bool,
) -> Result<Vec<RamRegion>, ChangeError> {
    let mut change = regions.transaction()?;
    let ram = create_ram(&mut change, ranges, backing, prefetch)?;
    let _plan = change.commit()?;
    Ok(ram)
}

fn create_ram(
    change: &mut Transaction<'_, Backing>,
    ranges: &[RamRange],
    backing: &SharedMemoryBacking,
    prefetch: bool,
) -> Result<Vec<RamRegion>, EditError> {
    let mut regions = Vec::new();
    for ram in ranges {
        let Some(memory) = backing.memories().get(ram.backing) else {
            continue;
        };
        let (start, len) = (ram.range.start(), ram.range.len());
        let name = format!("ram {}", ram.range);
        let spec = RegionSpec::new(name, len, RAM_PRIORITY)
            .ram()
            .placed_at(start);
        let id = change.create_region(spec)?;
        let whole = ram.range.shifted_down(start).unwrap_or(MemoryRange::EMPTY);
        let handle = Backing::from(memory.mappable().clone());
        change.add_mapping(id, whole, handle, ram.offset, Access::ReadWrite)?;
        change.map_region(
            id,
            MapParams::new(start, Access::ReadWrite).prefetched(prefetch),
        )?;
        regions.push(RamRegion {
            range: ram.range,
            id,
            backing: ram.backing,
            offset: ram.offset,
            prefetch,
        });
    }
    Ok(regions)
}
