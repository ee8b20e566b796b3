"""Nonlinear least squares of one problem, and of many at once: what `least_squares` and `curve_fit` are made of.

`levenberg.py` is a step of the method and `objective.py` what it minimizes; `solve.py` repeats the step for all
problems in one kernel (`_fuse/many.py`); `covariance.py` says how well the parameters
are known. `samples.py`, `curves.py` and `curve_result.py` are `curve_fit`'s arguments and results, `result.py`
`least_squares`'.
"""
