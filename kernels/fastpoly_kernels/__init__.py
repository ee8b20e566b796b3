"""The ground floor of fastpoly: compiled kernels, one family a file.

Kernels are functions of arrays and numbers. They trust their caller (shapes, dtypes and contiguity are checked once, in
`fastpoly`) and import nothing of `fastpoly`. This package itself imports nothing: each file brings in its own compiler.

    descent   the whole gradient-descent run over the samples in one call
    moments   the power sums of samples in one pass
    gram      the run from the moments alone
    triton_descent  the descent on the GPU, for one problem or a batch in one launch (triton)
    tuples    the small algebra on tuples of scalars and vectors that these are written in
    vectors   whole numbers, arrays, and vectors of their elements: loads, stores and sums
    emitter   floats as expressions that become LLVM code
    functions  the table of elementary functions: what each target makes of them
    coefficients  polynomials that these are made of
    formulas  exp, log, sin, tanh, erf and the like in such expressions, to 2 ulp
    kernel    the decorator: a function in these words as machine code, made at its first call
    stage     from that function to LLVM: what is known is computed, the rest is written
    machine_code  LLVM's object code: made once a machine, kept on disk (`store`), linked
    processor, stamp  what machine code depends on
    aside, forking  threads, Ctrl-C and forks
    log       what FASTPOLY_LOG=1 prints
"""
