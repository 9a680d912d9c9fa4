//! The host view of guest memory: one reservation, its mappings, and access by guest physical address
