"""The fuser: a function of torch tensors, traced once, becomes one loop of machine code.

    stand_ins.py    torch's decompositions without what they import for nothing
    trace.py        run the function once and write down every ATen operation on what changes from step to step
    expressions.py  numbers as expressions: constants folded, common parts shared
    pointwise.py    the table from elementwise operation to expression
    rules.py        the table for the rest: sums, products of matrices, views
    survey.py       which axis the registers run along, which are short, what must be kept
    schedule.py     which sums need which loops over which axes, and which values must be kept in memory between them
    recursion.py    room for long chains of operations
    layout.py       where everything lies in memory
    traced.py       a traced step as the text of a kernel, for whatever machine writes it; texts are remembered
    page.py         a page of Python: lines, names, expressions as text
    nests.py        a loop nest on such a page
    blocks.py       nests that share their data, on one block of samples after the other
    write.py        the whole function, the loop over the steps on the outside
    ir.py           the loop IR: what a kernel does, with the kind of every value
    read.py         the text of a function as loop IR
    verify.py       does a kernel hold together? (asked in tests)
    to_llvm.py      the loop IR as text for LLVM
    machine.py      that as machine code, from the disk if it was compiled before
    pack.py         tensors into the arrays of a kernel, and out of them
    program.py      all of it together, for given tensors

and for a GPU, from page.py on:

    gpu_page.py     a page of Triton: an axis is a block of elements, spread over threads
    gpu_nests.py    a loop nest on such a page, with sums that go through the tree of threads together
    gpu_write.py    the whole kernel: one program takes all steps
    gpu_program.py  all of it together, for tensors on a GPU

Each imports only what stands above it.
"""
