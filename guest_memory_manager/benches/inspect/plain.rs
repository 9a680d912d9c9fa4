//! The tree's contents in structures as one would write them for serde. What there is once is kept as
//! it comes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

type Rest = Map<String, Value>;

#[derive(Serialize, Deserialize)]
pub(crate) struct Plain {
    mapper: Mapper,
    view: View,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Serialize, Deserialize)]
struct Mapper {
    mappings: BTreeMap<String, Mapping>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    access: String,
    backing: String,
    offset: u64,
}

#[derive(Serialize, Deserialize)]
struct View {
    flat_view: BTreeMap<String, Visible>,
    listeners: BTreeMap<String, Listener>,
    regions: BTreeMap<String, Region>,
    slots: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Visible {
    access: String,
    backing: String,
    kind: String,
    offset: u64,
    permissions: String,
    region: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Region {
    kind: String,
    len: u64,
    mapped: Option<Mapped>,
    mappings: BTreeMap<String, Mapping>,
    name: String,
    one_slot: bool,
    placed_at: String,
    priority: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapped {
    access: String,
    execute: String,
    gpa: u64,
    prefetch: bool,
}

#[derive(Serialize, Deserialize)]
struct Listener {
    partition: Partition,
    pieces: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Serialize, Deserialize)]
struct Partition {
    slots: BTreeMap<String, Slot>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slot {
    access: String,
    execute: String,
    flags: Option<String>,
    gpa: String,
    hva: u64,
    id: u64,
}
