"""The fuser: a function of torch tensors, traced once, becomes one loop of machine code.

    stand_ins.py    torch's decompositions without what they import for nothing
    arguments.py    the arguments of operations, and the shapes of what these give
    own_operations.py  those of ours that take turns of their own: sorting, putting
    launches.py     what torch would launch for a step, for whoever asks what that costs
    graph.py        what a trace is written down as
    callers.py      the line of the caller that an operation comes from
    constants.py    what no input changes: torch computes it, once
    plans.py        what an operation is written down as, for all arguments of the same kinds
    branches.py     both sides of a branch, and which of them a step takes
    instructions.py the instructions of two operands, in Python and LLVM
    expressions.py  numbers as expressions: constants folded, common parts shared
    pointwise.py    elementwise operations that take more than a line
    special.py      special functions as formulas of elements
    special_apart.py  those whose formulas depend on a whole number or the dtype, in operations
    rules.py        the others: sums, products of matrices, views, picks
    lift.py         an operation on single values as one on rows of them
    bounds.py       what whole numbers may become
    operations.py   the table of operations: a record each, with all that is asked of it
    picks.py        what constant indices name: each place's own picks, found once
    windows.py      convolutions and the largest of windows
    separable.py    what is a matrix along each dimension: interpolation, averages, padding
    dense.py        operations on matrices that have loops of their own
    factorizations.py  solving, inverting and factorizing small matrices, in rows and columns
    orders.py       sorting, by counting or in order
    spectra.py      eigenvalues and singular values, by rotations
    complex_numbers.py  complex tensors as real ones
    fourier.py      Fourier transforms as products of matrices
    sampling.py, segments.py, sequences.py, recurrent.py, packed.py, attention.py, distances.py, losses.py
                    operations of networks in terms of simpler ones, a kind each
    apart.py        the table of these, for what torch does not take apart itself
    storages.py     memory that tensors share while a step is traced: a write is a new value of it
    writes.py       what a step writes there, and what it reads of it afterwards
    complex_tensors.py  complex tensors of a trace, and the memory that they share with their parts
    refusing.py     what cannot be traced, in words
    tracer.py       what is done to tensors, written down as a graph
    trace.py        run the function once and write down every ATen operation on what changes from step to step
    scan.py         a loop within a step, as a node of the graph
    running.py      running sums along long axes as loops
    numbers.py      Python's numbers in a step: part of the kernel, or arguments once they have changed
    whole_numbers.py  whole numbers that change: exact within their bounds, or refused
    whole_inputs.py  where whole numbers may start that are carried from step to step
    runs.py         where a sequence repeats itself
    iterations.py   what the iterations of a run read, and whether they read alike
    splitting.py    a loop as scans of what is serial, and as operations on rows
    rolling.py      such iterations as operations on rows, sums over rows, and scans
    reroll.py       a graph with its equal iterations as loops, of which only what is serial stays one
    known_rows.py   a counter of a loop: computed while it is traced
    given.py        a loop whose iterations are given, as rows, sums over rows, and scans
    bodies.py       the step of a loop that a loss writes openly, traced once
    written_loops.py such a loop, forward and backward, as an operation of autograd's
    control_flow.py torch's own conditions and loops
    survey.py       which axis the registers run along as a rule, which are short, what must be kept
    ir.py           the loop IR: what a kernel does, with the kind of every value
    verify.py       does a kernel hold together? (asked in tests)
    memories.py     which tensors lie in memory, and their elements' order there
    terms.py        what a sum adds up
    in_turns.py     what takes turns of its own between nests: sorting, putting at places that change
    plan.py         loop nests, the sums and elements that they compute, and what can be said of them
    schedule.py     the plan of a graph: which sums need which loops, and which values must be kept between them
    register_axis.py  which axis registers run along, where several may be: the one whose plan takes the fewest cycles
    recurrences.py  the plan of a scan: one iteration's schedule within that of the step
    sums.py         sums of products as chains
    registers.py    how many registers of samples a turn takes
    caches.py       what the first cache still holds when it is read again
    recursion.py    room for long chains of operations
    layout.py       where everything lies in memory
    names.py        names for a page, each once
    naming.py       which expressions are computed by themselves
    to_python.py    a kernel as a page of Python, to be read
    to_triton.py    a GPU's kernel as a page of Triton, to be compiled
    listing.py      graphs and plans in words
    stages.py       a program after each stage, for whoever wants to see it
    traced.py       a traced step as a kernel, for whatever machine it is written; kernels are remembered
    builder.py      statements one after the other, and the values of expressions
    eliminations.py matrices that have a loop of their own, in memory of their own
    triangles.py, pivoting.py, reflections.py, rotations.py  these loops, a kind each
    matrices.py     the table of them
    products.py     which sums are products of matrices
    turns.py        what a nest does in one turn of its loops
    tiles.py        a product of matrices, tile by tile
    nests.py        a loop nest
    blocks.py       nests that share their data, on one block of samples after the other
    write_in_turns.py  sorting and putting, as statements
    exchange.py     threads that share the samples, and tell each other their sums
    write.py        the whole kernel, the loop over the steps on the outside
    llvm_pieces.py  numbers, elementary functions and meetings of threads, as text for LLVM
    to_llvm.py      a kernel as text for LLVM
    machine.py      that as machine code, from the disk if it was compiled before
    pack.py         tensors into the arrays of a kernel, and out of them
    program.py      all of it together, for given tensors
    evaluation.py   a function as one call of a kernel
    recycled.py     large results of such calls, in memory that earlier ones have left
    widen.py        a kernel of one problem as one of several, a problem in each lane
    blocks_of_problems.py  the loop over blocks of problems, in machine code
    many.py         all of it together, for many problems

and what is different for a GPU:

    gpu_warps.py    how many warps a program has
    gpu_builder.py  see builder.py: an axis is a block of elements, spread over threads
    gpu_nests.py    see nests.py: sums go through the tree of threads together
    gpu_grid.py     see exchange.py: programs meet for their sums
    gpu_write.py    see write.py: one program takes all steps, or each of several
    gpu_program.py  all of it together, for tensors on a GPU

Each imports only what stands above it.
"""
