//! Guest memory for VMMs on Linux/KVM: layout, visibility, device windows and partitions in one place
