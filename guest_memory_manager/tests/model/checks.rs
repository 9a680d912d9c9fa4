//! Whether everyone meets what the model says.

use crate::painted::{Byte, Painted, Shown};
use crate::recorder::Record;
use crate::support::{memory_of, pages};
use crate::{ALIAS, World};
use guest_memory_manager::{Cause, GuestAccess, SoftwarePartition};
use memory_range::{Access, PAGE_SIZE};
use partition_mapper::MmioExit;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A page of the partition, the page of the view that it is, and what shows there.
type GuestPage = (u64, u64, Painted);

impl World {
    pub(crate) fn check(&mut self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.manager.damaged(), Some(Vec::new()));
        prop_assert_eq!(self.manager.dma_failures(), Some(Vec::new()));
        let painted = self.model.paint();
        let vtl2_ram = pages(28, 30);
        self.check_devices(&painted)?;
        let is_vtl2 = |page: u64| vtl2_ram.page_numbers().contains(&page);
        let own = (0..)
            .zip(&painted)
            .map(|(page, shown)| (page, page, *shown));
        let vtl0: Vec<GuestPage> = own
            .clone()
            .map(|(at, page, shown)| (at, page, shown.filter(|_| !is_vtl2(page))))
            .collect();
        self.check_guest(&self.vtl0.clone(), &vtl0)?;
        if let Some((vtl2, _)) = self.vtl2.clone() {
            let mirror = vtl0
                .iter()
                .map(|(at, page, shown)| (at + ALIAS, *page, *shown));
            self.check_guest(&vtl2, &own.chain(mirror).collect::<Vec<_>>())?;
        }
        // A slot for each mapping, and so with the permissions of the mapping.
        let ram_only: Vec<GuestPage> = vtl0
            .iter()
            .map(|(at, page, shown)| {
                let shown = shown.filter(|shown| shown.is_ram);
                let of_mapping = |shown: Shown| Shown {
                    slot: shown.access,
                    ..shown
                };
                (*at, *page, shown.map(of_mapping))
            })
            .collect();
        self.check_guest(&self.ram_only.clone(), &ram_only)?;
        self.check_dma(&self.dma, &vtl0)?;
        if let Some((late, _)) = &self.late_dma {
            self.check_dma(late, &vtl0)?;
        }
        self.check_table(&ram_only)
    }

    fn check_devices(&mut self, painted: &[Painted]) -> Result<(), TestCaseError> {
        let memory = memory_of(&self.manager);
        for (page, shown) in (0..).zip(painted) {
            let gpa = page * PAGE_SIZE;
            let read = memory.read_plain::<u32>(gpa).map_err(|error| error.cause());
            let value = self.next_value();
            let write = memory
                .write_plain(gpa, &value)
                .map_err(|error| error.cause());
            match shown {
                None => {
                    prop_assert_eq!(read, Err(Cause::Hole { gpa }));
                    prop_assert_eq!(write, Err(Cause::Hole { gpa }));
                }
                Some(Shown { byte, access, .. }) => {
                    let expected = self.model.contents(page, *byte);
                    prop_assert_eq!(read, Ok(expected), "page {:#x}", page);
                    if access.is_writable() {
                        prop_assert_eq!(write, Ok(()), "page {:#x}", page);
                        self.model.store(page, *byte, value);
                    } else {
                        prop_assert_eq!(write, Err(Cause::ReadOnly { gpa }));
                    }
                }
            }
        }
        let end = painted.len() as u64 * PAGE_SIZE;
        prop_assert_eq!(
            memory.read_plain::<u8>(end).map_err(|error| error.cause()),
            Err(Cause::OutOfRange { end })
        );
        Ok(())
    }

    fn check_guest(
        &mut self,
        guest: &SoftwarePartition,
        painted: &[GuestPage],
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(guest.broken_rules(), []);
        let slots = guest.slots();
        for pair in slots.windows(2) {
            prop_assert!(!pair[0].gpa.overlaps(&pair[1].gpa), "{:?}", pair);
        }
        let ids: BTreeSet<u32> = slots.iter().map(|slot| slot.id).collect();
        prop_assert_eq!(ids.len(), slots.len(), "an id belongs to one slot");
        // Exactly what is visible lies in a slot.
        let in_slots: u64 = slots.iter().map(|slot| slot.gpa.page_count()).sum();
        let visible = painted.iter().filter(|(.., shown)| shown.is_some()).count();
        prop_assert_eq!(in_slots, visible as u64);

        for (at, page, shown) in painted {
            let gpa = at * PAGE_SIZE;
            let value = self.next_value();
            let mut found = [0xff; 4];
            let load = guest.load(gpa, &mut found).unwrap();
            let store = guest.store(gpa, &value.to_le_bytes());
            let mmio_write = GuestAccess::Mmio(vec![MmioExit::Write {
                gpa,
                data: value.to_le_bytes().to_vec(),
            }]);
            let Some(Shown {
                byte, access, slot, ..
            }) = shown
            else {
                let mmio_read = GuestAccess::Mmio(vec![MmioExit::Read { gpa, len: 4 }]);
                let both = (load, store.unwrap());
                prop_assert_eq!(both, (mmio_read, mmio_write), "page {:#x}", at);
                continue;
            };
            prop_assert_eq!(load, GuestAccess::Done, "page {:#x}", at);
            let found = u32::from_le_bytes(found);
            let expected = self.model.contents(*page, *byte);
            prop_assert_eq!(found, expected, "page {:#x}", at);
            match (slot, access) {
                (Access::ReadOnly, _) => prop_assert_eq!(store.unwrap(), mmio_write),
                // The slot cannot say that the memory behind it is read-only.
                (_, Access::ReadOnly) => prop_assert!(store.is_err(), "page {:#x}", at),
                (_, Access::ReadWrite) => {
                    prop_assert_eq!(store.unwrap(), GuestAccess::Done);
                    self.model.store(*page, *byte, value);
                }
            }
        }
        Ok(())
    }

    /// A target has exactly what is visible and has a file, and reads what everyone reads.
    fn check_dma(&self, record: &Record, painted: &[GuestPage]) -> Result<(), TestCaseError> {
        let held = record.held();
        for (_, page, shown) in painted {
            let gpa = page * PAGE_SIZE;
            let found = held.iter().find(|(range, ..)| range.contains_addr(gpa));
            let shown = shown.filter(|shown| !matches!(shown.byte, Byte::Fill(..)));
            let found = found.map(|(.., writable)| Access::from_writable(*writable));
            prop_assert_eq!(found, shown.map(|shown| shown.access), "page {:#x}", page);
            let word = shown.map(|shown| self.model.contents(*page, shown.byte));
            prop_assert_eq!(record.word(gpa), word, "page {:#x}", page);
        }
        Ok(())
    }

    /// A table has exactly the RAM that can be written, in as few entries as can be.
    fn check_table(&self, ram: &[GuestPage]) -> Result<(), TestCaseError> {
        let table = self.table.lock().unwrap();
        let mut needed = 0;
        let mut before: Option<Byte> = None;
        for (_, page, shown) in ram {
            let gpa = page * PAGE_SIZE;
            let found = table.iter().find(|entry| entry.gpa().contains_addr(gpa));
            let byte = shown
                .filter(|shown| shown.access.is_writable())
                .map(|shown| shown.byte);
            prop_assert_eq!(found.is_some(), byte.is_some(), "page {:#x}", page);
            if let (Some(entry), Some(byte)) = (found, byte) {
                let mut word = [0; 4];
                entry
                    .host()
                    .read(gpa - entry.gpa().start(), &mut word)
                    .unwrap();
                let expected = self.model.contents(*page, byte);
                prop_assert_eq!(u32::from_le_bytes(word), expected, "page {:#x}", page);
                let continues = match (before, byte) {
                    (Some(Byte::Ram(last)), Byte::Ram(next)) => last + 1 == next,
                    _ => false,
                };
                needed += usize::from(!continues);
            }
            before = byte;
        }
        prop_assert_eq!(table.len(), needed, "{:?}", table);
        Ok(())
    }
}
