//! Keeps the memory slots of a hypervisor partition in step with a flat view
