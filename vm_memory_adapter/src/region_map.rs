//! The regions of a snapshot, in chunks, so that the next snapshot shares what did not change.

use crate::dirty_marks::Marks;
use crate::region::SnapshotRegion;
use crate::starts::Starts;
use std::ops::Range;
use std::sync::Arc;

/// How many regions a chunk has at most, and how few before it is joined with its neighbour. Long chunks
/// make look-ups fast, since the usual guest has one; short ones would make changes cheap.
const MOST: usize = 2048;
const FEW: usize = 256;

/// Regions, sorted and disjoint. It never changes; [`RegionMap::replaced`] makes another one, which
/// costs a copy of the chunks that a change touches, and a pointer for each other chunk.
#[derive(Clone, Debug)]
pub struct RegionMap<B> {
    /// Where each chunk starts.
    starts: Starts,
    chunks: Box<[Arc<Chunk<B>>]>,
    /// How many regions there are.
    len: usize,
}

/// Not empty.
#[derive(Debug)]
struct Chunk<B> {
    /// Where each region starts.
    starts: Starts,
    regions: Box<[SnapshotRegion<B>]>,
}

impl<B: Marks> Chunk<B> {
    fn new(regions: &[SnapshotRegion<B>]) -> Self {
        Self {
            starts: Starts::new(regions.iter().map(SnapshotRegion::start)),
            regions: regions.into(),
        }
    }

    fn start(&self) -> u64 {
        self.regions.first().map_or(0, SnapshotRegion::start)
    }

    fn end(&self) -> u64 {
        self.regions.last().map_or(0, SnapshotRegion::end)
    }
}

impl<B: Marks> RegionMap<B> {
    pub(crate) fn empty() -> Self {
        Self {
            starts: Starts::new([]),
            chunks: Box::default(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The region that an address lies in.
    #[inline(always)]
    pub(crate) fn find(&self, gpa: u64) -> Option<&SnapshotRegion<B>> {
        let (region, _) = self.find_into(gpa)?;
        Some(region)
    }

    /// As [`find`](Self::find), with the bytes from the region's start to the address.
    #[inline(always)]
    pub(crate) fn find_into(&self, gpa: u64) -> Option<(&SnapshotRegion<B>, u64)> {
        let chunk = match &*self.chunks {
            [only] => only,
            chunks => chunks.get(self.starts.place(gpa))?,
        };
        let region = match &*chunk.regions {
            [only] => only,
            regions => regions.get(chunk.starts.place(gpa))?,
        };
        Some((region, region.into(gpa)?))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &SnapshotRegion<B>> {
        self.chunks.iter().flat_map(|chunk| chunk.regions.iter())
    }

    /// The last region.
    pub(crate) fn last(&self) -> Option<&SnapshotRegion<B>> {
        self.chunks.last()?.regions.last()
    }

    /// The addresses whose regions a change of `dirty` may concern: what overlaps or touches it, and
    /// what shares a chunk with that. No region reaches over its border, or touches it and goes on
    /// in the memory beyond.
    pub(crate) fn span(&self, dirty: Range<u64>) -> Span {
        let first = self.chunks.partition_point(|one| one.end() < dirty.start);
        let last = self.chunks.partition_point(|one| one.start() <= dirty.end);
        let touched = self.chunks.get(first..last).unwrap_or_default();
        let start = touched
            .first()
            .map_or(dirty.start, |one| one.start().min(dirty.start));
        let end = touched
            .last()
            .map_or(dirty.end, |one| one.end().max(dirty.end));
        Span {
            range: start..end,
            first,
            last: last.max(first),
        }
    }

    /// The same map with all regions of a span replaced.
    pub(crate) fn replaced(&self, span: &Span, regions: Vec<SnapshotRegion<B>>) -> Self {
        self.replaced_in_chunks(span, regions, FEW, MOST)
    }

    /// As [`replaced`](Self::replaced), with chunks of `few` to `most` regions.
    fn replaced_in_chunks(
        &self,
        span: &Span,
        regions: Vec<SnapshotRegion<B>>,
        few: usize,
        most: usize,
    ) -> Self {
        let mut regions = regions;
        let mut before = self.chunks.get(..span.first).unwrap_or_default();
        let mut after = self.chunks.get(span.last..).unwrap_or_default();
        if regions.len() < few {
            // So that chunks do not get small, and then many.
            if let Some((next, others)) = after.split_first() {
                regions.extend_from_slice(&next.regions);
                after = others;
            } else if let Some((previous, others)) = before.split_last() {
                regions.splice(0..0, previous.regions.iter().cloned());
                before = others;
            }
        }
        // Of even sizes, or else the last would be small.
        let pieces = regions.len().div_ceil(most).max(1);
        let size = regions.len().div_ceil(pieces).max(1);
        let between = regions.chunks(size).map(|part| Arc::new(Chunk::new(part)));
        let chunks: Box<[Arc<Chunk<B>>]> = before
            .iter()
            .cloned()
            .chain(between)
            .chain(after.iter().cloned())
            .collect();
        Self {
            starts: Starts::new(chunks.iter().map(|one| one.start())),
            len: chunks.iter().map(|one| one.regions.len()).sum(),
            chunks,
        }
    }
}

/// A part of a [`RegionMap`] that is to be replaced.
pub(crate) struct Span {
    /// The addresses.
    pub(crate) range: Range<u64>,
    /// The chunks.
    first: usize,
    last: usize,
}

#[cfg(test)]
mod tests;
