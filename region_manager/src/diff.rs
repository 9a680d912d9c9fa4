//! Where two views differ.

use crate::overlay::Shown;
use crate::va_ops::hole;
use crate::view::Attributes;
use crate::{BackingHandle, Visible};
use memory_range::MemoryRange;
use std::iter::Peekable;

/// A range where the new view differs from the old one, each side uniform.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference<B> {
    pub(crate) range: MemoryRange,
    pub(crate) old: Option<Attributes>,
    pub(crate) new: Option<(Attributes, Bytes<B>)>,
}

/// What holds the bytes of a range in the new view.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Bytes<B> {
    /// What holds them in the old view: no handle needs to be copied.
    Kept,
    /// A backing from an offset on, in bytes.
    Fresh(B, u64),
}

impl<B> Difference<B> {
    /// Something is visible where nothing was.
    pub(crate) fn appeared(range: MemoryRange, visible: &Visible<B>) -> Self
    where
        B: Clone,
    {
        let bytes = Bytes::Fresh(visible.backing.clone(), visible.offset);
        Self {
            range,
            old: None,
            new: Some((visible.attributes(), bytes)),
        }
    }

    /// The same for what a region shows.
    pub(crate) fn shown_anew(shown: &Shown<'_, B>) -> Self
    where
        B: Clone,
    {
        Self {
            range: shown.range,
            old: None,
            new: Some((shown.attributes, fresh(shown.range, shown))),
        }
    }

    pub(crate) fn attributes(&self) -> Option<Attributes> {
        self.new.as_ref().map(|(attributes, _)| *attributes)
    }

    /// Whether other bytes appear where some were visible before, or none.
    pub(crate) fn has_fresh_bytes(&self) -> bool {
        matches!(&self.new, Some((_, Bytes::Fresh(..))))
    }
}

/// Compares what a view shows in a range with what is to be visible there, a piece after the other.
pub(crate) struct Comparison<'f, B, I: Iterator> {
    /// The entries of the view that end behind `at`.
    old: Peekable<I>,
    /// How far they have been compared.
    at: u64,
    /// What differs, by address.
    found: &'f mut Vec<Difference<B>>,
}

impl<'a, 'f, B, I> Comparison<'f, B, I>
where
    B: BackingHandle,
    I: Iterator<Item = (MemoryRange, &'a Visible<B>)>,
{
    /// Compares from `at` on, with the entries of a view that end behind it; appends to `found`.
    pub(crate) fn new(old: I, at: u64, found: &'f mut Vec<Difference<B>>) -> Self {
        let old = old.peekable();
        Self { old, at, found }
    }

    /// Nothing is to be visible from where the comparison stands to `addr`.
    pub(crate) fn nothing_until(&mut self, addr: u64) {
        while let Some(&(at, old)) = self.old.peek()
            && at.start() < addr
        {
            // Empty where the piece before went on to here.
            let from = at.start().max(self.at);
            let to = at.end().min(addr);
            if from < to
                && let Ok(range) = MemoryRange::try_new(from..to)
            {
                self.found.push(Difference {
                    range,
                    old: Some(old.attributes()),
                    new: None,
                });
            }
            if at.end() > addr {
                break;
            }
            self.old.next();
        }
        self.at = self.at.max(addr);
    }

    /// This is what is to be visible next.
    pub(crate) fn shown(&mut self, new: &Shown<'_, B>) {
        self.nothing_until(new.range.start());
        while let Some(&(at, old)) = self.old.peek()
            && at.start() < new.range.end()
        {
            let common = at.intersection(&new.range);
            self.appears_until(common.start(), new);
            if let Some(difference) = between(common, (at, old), new) {
                self.found.push(difference);
            }
            self.at = common.end();
            if at.end() > new.range.end() {
                break;
            }
            self.old.next();
        }
        self.appears_until(new.range.end(), new);
    }

    /// Nothing was visible from where the comparison stands to `addr`, and this is to be.
    fn appears_until(&mut self, addr: u64, new: &Shown<'_, B>) {
        if self.at < addr
            && let Ok(range) = MemoryRange::try_new(self.at..addr)
        {
            self.found.push(Difference {
                range,
                old: None,
                new: Some((new.attributes, fresh(range, new))),
            });
        }
        self.at = self.at.max(addr);
    }
}

/// Compares a part of an entry with what its region shows there now, a piece after the other.
pub(crate) struct Repainting<'e, 'f, B> {
    at: MemoryRange,
    old: &'e Visible<B>,
    /// How far it has been compared.
    to: u64,
    /// What differs, by address.
    found: &'f mut Vec<Difference<B>>,
}

impl<'e, 'f, B: BackingHandle> Repainting<'e, 'f, B> {
    /// Compares from `start` on, with an entry that lies there; appends to `found`.
    #[inline]
    pub(crate) fn new(
        (at, old): (MemoryRange, &'e Visible<B>),
        start: u64,
        found: &'f mut Vec<Difference<B>>,
    ) -> Self {
        Self {
            at,
            old,
            to: start,
            found,
        }
    }

    /// This is what is visible next. It lies within the entry.
    #[inline]
    pub(crate) fn shown(&mut self, new: &Shown<'_, B>) {
        self.nothing_until(new.range.start());
        if let Some(difference) = between(new.range, (self.at, self.old), new) {
            self.found.push(difference);
        }
        self.to = new.range.end();
    }

    /// Nothing is visible any more from where the comparison stands to `addr`.
    #[inline]
    pub(crate) fn nothing_until(&mut self, addr: u64) {
        if let Some(range) = hole(self.to, addr) {
            self.found.push(Difference {
                range,
                old: Some(self.old.attributes()),
                new: None,
            });
        }
    }
}

/// Compares what both views show in a range.
#[inline]
fn between<B: BackingHandle>(
    range: MemoryRange,
    (at, old): (MemoryRange, &Visible<B>),
    new: &Shown<'_, B>,
) -> Option<Difference<B>> {
    // Offsets relative to the address are compared, so that no entry has to be cut first.
    let same_bytes = old.offset.wrapping_sub(at.start())
        == new.offset.wrapping_sub(new.range.start())
        && old.backing == *new.backing;
    let attributes = old.attributes();
    if same_bytes && attributes == new.attributes {
        return None;
    }
    let bytes = if same_bytes {
        Bytes::Kept
    } else {
        fresh(range, new)
    };
    Some(Difference {
        range,
        old: Some(attributes),
        new: Some((new.attributes, bytes)),
    })
}

/// What holds the bytes of `range`, which is a part of what is shown.
fn fresh<B: Clone>(range: MemoryRange, shown: &Shown<'_, B>) -> Bytes<B> {
    let inside = range.start().saturating_sub(shown.range.start());
    // Does not wrap: offset + length was checked when the mapping was added.
    Bytes::Fresh(shown.backing.clone(), shown.offset.wrapping_add(inside))
}
