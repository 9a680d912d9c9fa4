//! From what shall be shown to the fewest calls that show it.

use super::batch::{Wanted, is_fill};
use super::error::ChangeError;
use crate::VaMapper;
use crate::table::ActiveMapping;
use memory_range::{Access, MemoryRange, RangeMap};
use sparse_alloc::Backing;

/// A call.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Map(Wanted),
    Protect(Access),
    Unmap,
}

/// Has a mapper show what is wanted, wherever it does not do so already.
///
/// What is replaced is replaced in one step for whoever reads there. A failing call ends it; the calls
/// before it stay made, and the mapper's table says what is mapped.
pub(super) fn apply(
    mapper: &VaMapper,
    ranges: &RangeMap<Option<Wanted>>,
) -> Result<(), ChangeError> {
    let mut steps = Steps::default();
    for (range, wanted) in ranges.iter() {
        let present: Vec<_> = mapper.read_table().parts(range).collect();
        match wanted {
            None => steps.hide(&present),
            Some(wanted) => steps.show(range, wanted, &present),
        }
    }
    steps
        .0
        .into_iter()
        .try_for_each(|(range, step)| match step {
            Step::Map(Wanted {
                backing,
                offset,
                access,
            }) => mapper
                .map(range, &backing, offset, access)
                .map_err(|source| ChangeError::Map { range, source }),
            Step::Protect(access) => mapper
                .protect(range, access)
                .map_err(|source| ChangeError::Protect { range, source }),
            Step::Unmap => mapper
                .unmap(range)
                .map_err(|source| ChangeError::Unmap { range, source }),
        })
}

/// Calls by address, those that go on in the one before joined with it.
#[derive(Default)]
struct Steps(Vec<(MemoryRange, Step)>);

impl Steps {
    /// From the first to the last that is there; holes between them are no matter.
    fn hide(&mut self, present: &[(MemoryRange, ActiveMapping)]) {
        if let (Some((first, _)), Some((last, _))) = (present.first(), present.last()) {
            self.push(first.start(), last.end(), Step::Unmap);
        }
    }

    fn show(
        &mut self,
        range: MemoryRange,
        wanted: &Wanted,
        present: &[(MemoryRange, ActiveMapping)],
    ) {
        let part = |start: u64| {
            Step::Map(Wanted {
                offset: wanted.offset_at(start.saturating_sub(range.start())),
                ..wanted.clone()
            })
        };
        let mut at = range.start();
        for (there, mapping) in present {
            if at < there.start() {
                self.push(at, there.start(), part(at));
            }
            let into = there.start().saturating_sub(range.start());
            if !shows(mapping, &wanted.backing, wanted.offset_at(into)) {
                self.push(there.start(), there.end(), part(there.start()));
            } else if mapping.access != wanted.access {
                self.push(there.start(), there.end(), Step::Protect(wanted.access));
            }
            at = there.end();
        }
        if at < range.end() {
            self.push(at, range.end(), part(at));
        }
    }

    fn push(&mut self, start: u64, end: u64, step: Step) {
        // Both are ends of ranges.
        let Ok(range) = MemoryRange::try_new(start..end) else {
            return;
        };
        if let Some((last, before)) = self.0.last_mut()
            && last.end() == start
            && goes_on(before, last.len(), &step)
            && let Ok(joined) = MemoryRange::try_new(last.start()..end)
        {
            *last = joined;
            return;
        }
        self.0.push((range, step));
    }
}

/// Whether a mapping shows these bytes.
fn shows(mapping: &ActiveMapping, backing: &Backing, offset: u64) -> bool {
    mapping.backing == *backing && (is_fill(backing) || mapping.offset == offset)
}

/// Whether a step does right behind another one, which is `len` bytes long, what that one would do
/// there if it were longer.
fn goes_on(before: &Step, len: u64, step: &Step) -> bool {
    match (before, step) {
        (Step::Map(before), Step::Map(step)) => {
            before.backing == step.backing
                && before.access == step.access
                && before.offset_at(len) == step.offset
        }
        (Step::Protect(before), Step::Protect(step)) => before == step,
        (Step::Unmap, Step::Unmap) => true,
        _ => false,
    }
}
