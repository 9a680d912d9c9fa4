//! Makes the state of a running program visible as a tree
