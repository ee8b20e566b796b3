"""Arrays of dask: samples in chunks (`samples`), and problems in chunks (`problems` and what is beside it).

Nothing here is imported for callers without such an array: `fastpoly._arrays.is_dask` tells.
"""
