//! Page-aligned address ranges, and maps keyed by them
