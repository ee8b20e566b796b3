"""The ground floor of fastpoly: compiled kernels, one family a file.

Kernels are functions of arrays and numbers. They trust their caller (shapes, dtypes and contiguity are checked once, in
`fastpoly`) and import nothing of `fastpoly`. This package itself imports nothing: each file brings in its own compiler.

    descent   the whole gradient-descent run over the samples in one call (numba)
    triton_descent  the same on the GPU, for one problem or a batch in one launch (triton)
    moments   the power sums of samples in one pass (numba)
    gram      the run from the moments alone (numba)
    tuples    the small algebra on tuples of scalars and vectors that these are written in
    simd      SIMD vectors for numba: a type, its arithmetic, loads and sums
    vector_math  exp, log, sin, tanh, erf and the like on such vectors, to 2 ulp
    emitter   expressions that become LLVM code, in which those are written
    log       what FASTPOLY_LOG=1 prints
    stamp     a digest of this package's source
    cache     `kernel`, the decorator: compiles once a machine, keeps the result on disk
"""
