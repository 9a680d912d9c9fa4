//! Reserved host address space, the memory mapped into it, and access to it that survives faults
