//! Prioritised, overlapping regions of guest memory, and the smallest plan from one flat view to the next
