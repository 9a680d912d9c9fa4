//! What a manager shows of itself.
//!
//! Nothing is written, sorted or named while the change lock is held: what inspection shows is copied
//! under it, and written when changes go on. Regions are the most of it, and lie all over memory. They
//! are copied some at a time, with the lock free in between; a transaction notes meanwhile which ones
//! it edits, and these are copied again with all the rest in the last hold of the lock: so the copy is
//! of that moment. Memory for it is allocated and touched before, because a first touch costs more than
//! what is copied there.

use crate::change_lock::LockError;
use crate::damage::Damage;
use crate::dma::DmaFailure;
use crate::listener::ListenerId;
use crate::manager::{Counters, Failed, RegionManager, State};
use crate::reason::Reason;
use crate::region::{Contents, Region};
use crate::{
    BackingHandle, MapParams, Mapping, MemoryKind, Plan, RegionId, Slot, SubMapping, Visible,
};
use inspect::{Inspect, Request};
use memory_range::MemoryRange;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A region, but for what lies in the lists of the [`Copied`] state.
struct CopiedRegion {
    id: RegionId,
    /// In the text of all names.
    name: Range<usize>,
    len: u64,
    priority: u8,
    kind: MemoryKind,
    one_slot: bool,
    placed: Option<MemoryRange>,
    mapped: Option<MapParams>,
    contents: CopiedContents,
}

enum CopiedContents {
    /// In the list of all mappings.
    Mappings(Range<usize>),
    Alias {
        target: RegionId,
        offset: u64,
    },
}

/// What a listener shows.
enum Answer {
    /// A copy that it has made.
    Copy(Box<dyn Inspect>),
    /// It makes none, and has to be asked under the lock.
    Ask(ListenerId),
}

/// The state of a manager at one moment. The lists hold their values in options so that they can be
/// filled, and with that touched, before there are any.
struct Copied<B: BackingHandle> {
    space: MemoryRange,
    names: String,
    /// By place until all are copied, then by id.
    regions: Vec<Option<CopiedRegion>>,
    mappings: Vec<Option<(MemoryRange, Mapping<B>)>>,
    view: Vec<Option<(MemoryRange, Visible<B>)>>,
    slots: Vec<Option<Slot>>,
    sub_mappings: Vec<Option<SubMapping<B>>>,
    listeners: Vec<(String, Answer)>,
    dma_failures: Vec<DmaFailure<B>>,
    damage: Vec<Damage<B>>,
    counters: Counters,
    last_plan: Option<Arc<Plan<B>>>,
    reason: Reason,
    took: Option<Duration>,
    last_failure: Option<Arc<Failed>>,
}

/// How long the lists will be, or nearly.
#[derive(Default)]
struct Lengths {
    names: usize,
    places: usize,
    mappings: usize,
    view: usize,
    slots: usize,
    sub_mappings: usize,
}

/// How many places of regions are looked at in one hold of the lock.
const PLACES: u32 = 512;

/// Looks at all regions, some at a time. Measures the longest hold of the lock.
fn in_parts<B: BackingHandle>(
    manager: &RegionManager<B>,
    longest: &mut Duration,
    mut visit: impl FnMut(RegionId, &Region<B>),
) -> Result<(), LockError> {
    let mut from = 0_u32;
    loop {
        let state = manager.read()?;
        let since = Instant::now();
        let Some(part) = state.table.part(from, PLACES as usize) else {
            return Ok(());
        };
        part.for_each(|(id, region)| visit(id, region));
        drop(state);
        *longest = since.elapsed().max(*longest);
        manager.let_others();
        // There are no more places than that.
        from = from.saturating_add(PLACES);
    }
}

impl Lengths {
    /// Counts. It may be a little wrong where changes go on.
    fn of<B: BackingHandle>(
        manager: &RegionManager<B>,
        longest: &mut Duration,
    ) -> Result<Self, LockError> {
        let mut lengths = Self::default();
        in_parts(manager, longest, |id, region| {
            let places = (id.place as usize).saturating_add(1);
            lengths.places = lengths.places.max(places);
            lengths.names = lengths.names.saturating_add(region.name.len());
            if let Contents::Mappings(mappings) = &region.contents {
                lengths.mappings = lengths.mappings.saturating_add(mappings.len());
            }
        })?;
        let state = manager.read()?;
        lengths.view = state.view.len();
        lengths.slots = state.slots.len();
        lengths.sub_mappings = state.dma.as_ref().map_or(0, |dma| dma.len());
        Ok(lengths)
    }
}

/// Memory for so many values and some more, touched.
fn touched<T>(len: usize) -> Vec<Option<T>> {
    let len = len.saturating_add(len / 16).saturating_add(8);
    let mut list = Vec::new();
    list.resize_with(len, || None);
    list.clear();
    list
}

impl<B: BackingHandle> Copied<B> {
    /// Copies a manager's state.
    fn new(manager: &RegionManager<B>) -> Result<Self, LockError> {
        let mut longest = Duration::ZERO;
        let lengths = Lengths::of(manager, &mut longest)?;
        let mut names = "\0".repeat(lengths.names.saturating_add(256));
        names.clear();
        let mut copied = Self {
            space: MemoryRange::EMPTY,
            names,
            regions: touched(lengths.places),
            mappings: touched(lengths.mappings),
            view: touched(lengths.view),
            slots: touched(lengths.slots),
            sub_mappings: touched(lengths.sub_mappings),
            listeners: Vec::new(),
            dma_failures: Vec::new(),
            damage: Vec::new(),
            counters: Counters::default(),
            last_plan: None,
            reason: Reason::default(),
            took: None,
            last_failure: None,
        };
        let mut state = manager.read()?;
        let edits = &mut state.edits;
        edits.watchers = edits.watchers.saturating_add(1);
        let first_edited = edits.watched.len();
        drop(state);
        in_parts(manager, &mut longest, |id, region| {
            copied.take_region(id, region)
        })?;

        let mut state = manager.read()?;
        let since = Instant::now();
        let edited = state.edits.watched.get(first_edited..).unwrap_or_default();
        for id in edited {
            match state.table.get(*id) {
                Ok(region) => copied.take_region(*id, region),
                Err(_) => copied.forget_region(*id),
            }
        }
        let edits = &mut state.edits;
        edits.watchers = edits.watchers.saturating_sub(1);
        if edits.watchers == 0 {
            edits.watched = Vec::new();
        }
        copied.take_rest(&state);
        drop(state);
        manager.note_inspection(since.elapsed().max(longest));
        copied
            .regions
            .sort_unstable_by_key(|region| region.as_ref().map(|region| region.id));
        Ok(copied)
    }

    /// Copies a region, perhaps once more; the change lock is held.
    fn take_region(&mut self, id: RegionId, region: &Region<B>) {
        let name = self.names.len();
        self.names.push_str(&region.name);
        let contents = match &region.contents {
            Contents::Mappings(mappings) => {
                let first = self.mappings.len();
                for (range, mapping) in mappings.iter() {
                    self.mappings.push(Some((range, mapping.clone())));
                }
                CopiedContents::Mappings(first..self.mappings.len())
            }
            Contents::Alias { target, offset } => CopiedContents::Alias {
                target: *target,
                offset: *offset,
            },
        };
        let place = id.place as usize;
        if self.regions.len() <= place {
            self.regions.resize_with(place.saturating_add(1), || None);
        }
        let Some(copy) = self.regions.get_mut(place) else {
            return;
        };
        *copy = Some(CopiedRegion {
            id,
            name: name..self.names.len(),
            len: region.len,
            priority: region.priority,
            kind: region.kind,
            one_slot: region.one_slot,
            placed: region.placed_range(),
            mapped: region.mapped,
            contents,
        });
    }

    /// Forgets a region that is gone. Another one may be in its place.
    fn forget_region(&mut self, id: RegionId) {
        if let Some(copy) = self.regions.get_mut(id.place as usize) {
            copy.take_if(|region| region.id == id);
        }
    }

    /// Copies all but the regions; the change lock is held.
    fn take_rest(&mut self, state: &State<B>) {
        self.space = state.table.space();
        let view = state.view.iter();
        self.view
            .extend(view.map(|(range, visible)| Some((range, visible.clone()))));
        self.slots.extend(state.slots.iter().copied().map(Some));
        if let Some(dma) = &state.dma {
            self.sub_mappings.extend(dma.iter().cloned().map(Some));
        }
        let neighbours = &state.neighbours;
        for one in &neighbours.listeners {
            let name = format!("{} {}", one.id, one.listener.name());
            let copy = one.listener.inspection_copy();
            let answer = copy.map_or(Answer::Ask(one.id), Answer::Copy);
            self.listeners.push((name, answer));
        }
        for one in &neighbours.dma {
            let name = format!("{} {}", one.id, one.listener.name());
            let copy = one.listener.inspection_copy();
            let answer = copy.map_or(Answer::Ask(one.id), Answer::Copy);
            self.listeners.push((name, answer));
        }
        self.dma_failures
            .extend(neighbours.failures.iter().cloned());
        self.damage.extend(state.damage.iter().cloned());
        self.counters = state.counters;
        self.last_plan = state.last_plan.clone();
        self.reason = state.last_reason;
        self.took = state.last_took;
        self.last_failure = state.last_failure.clone();
    }

    fn regions(&self) -> impl Iterator<Item = &CopiedRegion> {
        self.regions.iter().flatten()
    }

    fn name(&self, region: &CopiedRegion) -> &str {
        self.names.get(region.name.clone()).unwrap_or_default()
    }

    fn name_of(&self, id: RegionId) -> Option<String> {
        let region = self.regions().find(|region| region.id == id)?;
        Some(self.name(region).to_owned())
    }
}

impl<B: BackingHandle> Inspect for RegionManager<B> {
    fn inspect(&self, req: Request<'_>) {
        let copied = match Copied::new(self) {
            Ok(copied) => copied,
            Err(error) => return req.value(error.to_string()),
        };
        let mut response = req.respond();
        response
            .display("address_space", &copied.space)
            .child("regions", |req| {
                req.by_key(copied.regions().map(|region| {
                    let shown = inspect::from_fn(|req| inspect_region(&copied, region, req));
                    (region.id, shown)
                }));
            })
            .child("flat_view", |req| {
                let view = copied.view.iter().flatten();
                req.by_key(view.map(|(range, visible)| (range, visible)));
            })
            .child("slots", |req| {
                let slots = copied.slots.iter().flatten();
                req.by_key(slots.map(|slot| (slot.range, inspect::display(&slot.permissions))));
            })
            .field("slot_count", &(copied.slots.len() as u64))
            .child("sub_mappings", |req| {
                let sub_mappings = copied.sub_mappings.iter().flatten();
                req.by_index(sub_mappings.map(inspect::display));
            })
            .child("listeners", |req| {
                let mut response = req.respond();
                for (name, answer) in &copied.listeners {
                    response.child(name.as_str().to_owned(), |req| match answer {
                        Answer::Copy(copy) => copy.inspect(req),
                        Answer::Ask(id) => self.ask(*id, req),
                    });
                }
            })
            .child("dma_failures", |req| req.by_index(&copied.dma_failures))
            .child("damage", |req| req.by_index(&copied.damage))
            .field("counters", &copied.counters)
            .field("last_plan", &copied.last_plan)
            .child("last_change", |req| {
                let mut response = req.respond();
                response
                    .value("reason", copied.reason.describe(|id| copied.name_of(id)))
                    .value("edits", copied.reason.edits());
                match copied.took {
                    Some(took) => response.value("duration", took),
                    None => response.value("duration", "not measured"),
                };
            })
            .field("last_failure", &copied.last_failure)
            .field_mut("time_changes", &mut &*self.time_changes);
    }
}

impl<B: BackingHandle> RegionManager<B> {
    /// Asks a listener that makes no copy: under the lock.
    fn ask(&self, id: ListenerId, req: Request<'_>) {
        let state = match self.read() {
            Ok(state) => state,
            Err(error) => return req.value(error.to_string()),
        };
        let neighbours = &state.neighbours;
        if let Some(one) = neighbours.listeners.iter().find(|one| one.id == id) {
            one.listener.inspect(req);
        } else if let Some(one) = neighbours.dma.iter().find(|one| one.id == id) {
            one.listener.inspect(req);
        }
    }
}

fn inspect_region<B: BackingHandle>(copied: &Copied<B>, region: &CopiedRegion, req: Request<'_>) {
    let mut response = req.respond();
    response
        .field("name", copied.name(region))
        .value("priority", region.priority)
        .hex("len", region.len)
        .display("kind", &region.kind)
        .value("one_slot", region.one_slot)
        .field("mapped", &region.mapped);
    match &region.placed {
        Some(range) => response.display("placed_at", range),
        None => response.value("placed_at", "nowhere"),
    };
    match &region.contents {
        CopiedContents::Mappings(range) => {
            let mappings = copied.mappings.get(range.clone()).unwrap_or_default();
            response.child("mappings", |req| {
                req.by_key(
                    mappings
                        .iter()
                        .flatten()
                        .map(|(range, mapping)| (range, mapping)),
                );
            });
        }
        CopiedContents::Alias { target, offset } => {
            response.child("alias", |req| {
                req.respond()
                    .value("of", target.as_u64())
                    .hex("offset", *offset);
            });
        }
    }
}
