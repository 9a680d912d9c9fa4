//! How a block of assembly writes its entry into the recovery table.
//!
//! The section is kept (`R`) when the linker collects garbage: nothing refers to a single entry,
//! only to the section's start and end.

/// Writes the index, in `mcontext_t::gregs`, of the register that `$register` stands for.
///
/// The assembler compares names, because only it knows which register the compiler chose. A
/// register that is missing here writes nothing, which makes the table's length odd and is
/// found when the table is read.
#[rustfmt::skip]
macro_rules! register_index {
    ($register:literal) => {
        concat!(
            ".ifc ", $register, ",r8\n.long 0\n.endif\n",
            ".ifc ", $register, ",r9\n.long 1\n.endif\n",
            ".ifc ", $register, ",r10\n.long 2\n.endif\n",
            ".ifc ", $register, ",r11\n.long 3\n.endif\n",
            ".ifc ", $register, ",r12\n.long 4\n.endif\n",
            ".ifc ", $register, ",r13\n.long 5\n.endif\n",
            ".ifc ", $register, ",r14\n.long 6\n.endif\n",
            ".ifc ", $register, ",r15\n.long 7\n.endif\n",
            ".ifc ", $register, ",rdi\n.long 8\n.endif\n",
            ".ifc ", $register, ",rsi\n.long 9\n.endif\n",
            ".ifc ", $register, ",rbp\n.long 10\n.endif\n",
            ".ifc ", $register, ",rbx\n.long 11\n.endif\n",
            ".ifc ", $register, ",rdx\n.long 12\n.endif\n",
            ".ifc ", $register, ",rax\n.long 13\n.endif\n",
            ".ifc ", $register, ",rcx\n.long 14\n.endif\n",
        )
    };
}

/// An entry for the instructions from `$start` to `$end`: go on at `$resume`, with the packed fault
/// in the register `$status`, which must be zero before.
#[rustfmt::skip]
macro_rules! recover_with_status {
    ($start:literal, $end:literal, $resume:literal, $status:literal) => {
        concat!(
            ".pushsection sparse_alloc_recovery,\"aR\",@progbits\n",
            ".balign 4\n",
            ".long ", $start, " - .\n",
            ".long ", $end, " - .\n",
            ".long ", $resume, " - .\n",
            register_index!($status),
            ".popsection",
        )
    };
}

/// An entry for the instructions from `$start` to `$end`: go on at the label `$fault`, with no
/// register changed.
#[rustfmt::skip]
macro_rules! recover_at {
    ($start:literal, $end:literal, $fault:literal) => {
        concat!(
            ".pushsection sparse_alloc_recovery,\"aR\",@progbits\n",
            ".balign 4\n",
            ".long ", $start, " - .\n",
            ".long ", $end, " - .\n",
            ".long ", $fault, " - .\n",
            ".long -1\n",
            ".popsection",
        )
    };
}
