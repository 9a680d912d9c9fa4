//! Reads a memory map from a tree.

use crate::map::cursor::Cursor;
use crate::map::{Alias, Listener, MapError, Mapping, MemoryMap, Region, Slot, Visible};
use crate::range::ByteRange;
use inspect::{Node, Path};
use std::collections::{BTreeMap, VecDeque};

impl MemoryMap {
    /// Reads the memory map of the view that lies nearest to the root of the tree, wherever it is.
    ///
    /// A view is a directory with the children `regions` and `flat_view`. Of several that are as near,
    /// it is the first one. [`read`](Self::read) takes another.
    ///
    /// # Errors
    ///
    /// There is no view, or something is missing in it or can't be read; the error names the path.
    pub fn find(tree: &Node) -> Result<Self, MapError> {
        let mut queue = VecDeque::from([(Vec::new(), tree, None)]);
        while let Some((names, node, parent)) = queue.pop_front() {
            let Some(directory) = node.as_directory() else {
                continue;
            };
            if directory.get("regions").is_some() && directory.get("flat_view").is_some() {
                return read(&path(&names), node, parent);
            }
            for (name, child) in directory.iter() {
                let mut names = names.clone();
                names.push(name);
                queue.push_back((names, child, Some(node)));
            }
        }
        Err(MapError::NoView)
    }

    /// Reads the memory map of the view that stands at `at`, or of the nearest one below it.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find); [`MapError::Missing`] if nothing stands there.
    pub fn read(tree: &Node, at: &Path) -> Result<Self, MapError> {
        let Some(node) = tree.get(at) else {
            return Err(MapError::Missing {
                path: at.to_string(),
            });
        };
        let is_view = node.child("regions").is_some() && node.child("flat_view").is_some();
        match at.split_last() {
            // What stands beside the view tells more of it.
            Some((parent, _)) if is_view => read(at, node, tree.get(&parent)),
            _ => Self::find(node),
        }
    }
}

fn path(names: &[&str]) -> Path {
    // No deeper than a path can be: the tree was walked, and trees end at the same depth.
    Path::from_names(names.iter().copied()).unwrap_or_default()
}

fn read(at: &Path, view: &Node, parent: Option<&Node>) -> Result<MemoryMap, MapError> {
    let above = at.split_last().map_or(Path::ROOT, |(above, _)| above);
    let view = Cursor::new(at, view);
    let parent = parent.map(|node| Cursor::new(&above, node));
    Ok(MemoryMap {
        space: view.need("address_space")?.range()?,
        mmio_gaps: match parent {
            Some(parent) => mmio_gaps(&parent)?,
            None => Vec::new(),
        },
        regions: regions(&view.need("regions")?)?,
        view: visible(&view.need("flat_view")?)?,
        mappings: match parent {
            Some(parent) => va_mappings(&parent)?,
            None => Vec::new(),
        },
        listeners: match view.child("listeners") {
            Some(listeners) => read_listeners(&listeners)?,
            None => Vec::new(),
        },
    })
}

fn regions(list: &Cursor<'_>) -> Result<Vec<Region>, MapError> {
    let mut regions = Vec::new();
    for (name, node) in list.directory()?.iter() {
        let region = list.at(name, node);
        let Ok(id) = name.parse() else {
            return Err(MapError::WrongKind {
                path: region.path(None),
                expected: "named by the number of a region",
            });
        };
        let placed = region.need("placed_at")?;
        let mapped = region.need("mapped")?;
        let alias = match region.child("alias").filter(|alias| !alias.is_null()) {
            Some(alias) => Some(Alias {
                of: alias.need("of")?.number()?,
                offset: alias.need("offset")?.number()?,
            }),
            None => None,
        };
        regions.push(Region {
            id,
            name: region.need("name")?.text()?.to_owned(),
            priority: region.need("priority")?.number()?,
            len: region.need("len")?.number()?,
            placed: match placed.text()? {
                "nowhere" => None,
                text => Some(placed.range_of(text)?),
            },
            mapped: match mapped.is_null() {
                true => None,
                false => Some(mapped.need("access")?.text()?.to_owned()),
            },
            mappings: match (region.child("mappings"), &alias) {
                (None, Some(_)) => Vec::new(),
                _ => mappings(&region.need("mappings")?)?,
            },
            alias,
            one_slot: region
                .child("one_slot")
                .is_some_and(|one_slot| one_slot.is_true()),
        });
    }
    regions.sort_by_key(|region| region.id);
    // The target of an alias is older than the alias, so what it shows is known when it is needed.
    let mut resolved: Vec<Region> = Vec::new();
    for mut region in regions {
        if let Some(alias) = region.alias {
            let target = resolved.binary_search_by_key(&alias.of, |target| target.id);
            let target = target.ok().and_then(|index| resolved.get(index));
            let Some(target) = target else {
                return Err(MapError::WrongKind {
                    path: list.path(Some(&region.id.to_string())),
                    expected: "an alias of a region that is older",
                });
            };
            region.mappings = seen_through(target, alias.offset, region.len);
        }
        resolved.push(region);
    }
    Ok(resolved)
}

/// What `len` bytes of a region show, from `offset` on, by offset in these bytes.
fn seen_through(target: &Region, offset: u64, len: u64) -> Vec<Mapping> {
    let Some(part) = offset
        .checked_add(len)
        .and_then(|end| ByteRange::try_new(offset, end))
    else {
        return Vec::new();
    };
    let seen = target.mappings.iter().filter_map(|mapping| {
        let cut = mapping.range.intersection(part)?;
        let moved = ByteRange::try_new(cut.start() - offset, cut.end() - offset)?;
        Some(Mapping {
            range: moved,
            offset: mapping
                .offset
                .wrapping_add(cut.start() - mapping.range.start()),
            ..mapping.clone()
        })
    });
    seen.collect()
}

fn mappings(list: &Cursor<'_>) -> Result<Vec<Mapping>, MapError> {
    sorted(
        list,
        |range, entry| {
            Ok(Mapping {
                range,
                backing: entry.need("backing")?.text()?.to_owned(),
                offset: entry.need("offset")?.number()?,
                access: entry.need("access")?.text()?.to_owned(),
            })
        },
        |mapping| mapping.range,
    )
}

fn visible(list: &Cursor<'_>) -> Result<Vec<Visible>, MapError> {
    sorted(
        list,
        |range, entry| {
            Ok(Visible {
                range,
                region: entry.need("region")?.number()?,
                backing: entry.need("backing")?.text()?.to_owned(),
                offset: entry.need("offset")?.number()?,
                permissions: entry.need("permissions")?.text()?.to_owned(),
            })
        },
        |visible| visible.range,
    )
}

/// The table of a VA mapper that stands beside the view.
fn va_mappings(parent: &Cursor<'_>) -> Result<Vec<Mapping>, MapError> {
    let Some(mapper) = parent.child("mapper") else {
        return Ok(Vec::new());
    };
    match mapper.child("mappings") {
        Some(list) => mappings(&list),
        None => Ok(Vec::new()),
    }
}

fn mmio_gaps(parent: &Cursor<'_>) -> Result<Vec<ByteRange>, MapError> {
    let Some(layout) = parent.child("layout") else {
        return Ok(Vec::new());
    };
    let Some(gaps) = layout.child("mmio_gaps") else {
        return Ok(Vec::new());
    };
    let words = gaps.text()?.split_whitespace();
    words
        .filter(|word| word.starts_with("0x"))
        .map(|word| gaps.range_of(word))
        .collect()
}

fn read_listeners(list: &Cursor<'_>) -> Result<Vec<Listener>, MapError> {
    let mut listeners = Vec::new();
    for (key, node) in list.directory()?.iter() {
        let listener = list.at(key, node);
        // Some listeners keep no slots.
        let Some(pieces) = listener.child("pieces") else {
            continue;
        };
        let offset = match listener.child("offset") {
            Some(offset) => offset.number()?,
            None => 0,
        };
        let ids = slot_ids(&listener)?;
        listeners.push(Listener {
            key: key.to_owned(),
            name: match listener.child("name") {
                Some(name) => name.text()?.to_owned(),
                None => key.to_owned(),
            },
            offset,
            slots: sorted(
                &pieces,
                |range, piece| {
                    // `rwx`, then whatever is remarkable.
                    let text = piece.text()?;
                    let (permissions, note) = text.split_once(' ').unwrap_or((text, ""));
                    Ok(Slot {
                        range,
                        permissions: permissions.to_owned(),
                        id: range.shifted(offset).and_then(|gpa| ids.get(&gpa).copied()),
                        note: note.to_owned(),
                    })
                },
                |slot| slot.range,
            )?,
        });
    }
    Ok(listeners)
}

/// The numbers of a partition's slots, by what the partition knows as their addresses.
fn slot_ids(listener: &Cursor<'_>) -> Result<BTreeMap<ByteRange, u64>, MapError> {
    let mut ids = BTreeMap::new();
    let Some(partition) = listener.child("partition") else {
        return Ok(ids);
    };
    let Some(slots) = partition.child("slots") else {
        return Ok(ids);
    };
    for (name, node) in slots.directory()?.iter() {
        let slot = slots.at(name, node);
        ids.insert(slot.need("gpa")?.range()?, slot.need("id")?.number()?);
    }
    Ok(ids)
}

/// Reads a directory whose children are named by ranges, and sorts them.
fn sorted<T>(
    list: &Cursor<'_>,
    read: impl Fn(ByteRange, &Cursor<'_>) -> Result<T, MapError>,
    range: impl Fn(&T) -> ByteRange,
) -> Result<Vec<T>, MapError> {
    let mut entries = Vec::new();
    for (name, node) in list.directory()?.iter() {
        let entry = list.at(name, node);
        entries.push(read(entry.range_of(name)?, &entry)?);
    }
    entries.sort_by_key(&range);
    for (first, second) in entries.iter().zip(entries.iter().skip(1)) {
        let (first, second) = (range(first), range(second));
        if first.overlaps(second) {
            return Err(MapError::Overlap {
                path: list.path(None),
                first,
                second,
            });
        }
    }
    Ok(entries)
}
