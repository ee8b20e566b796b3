"""Which loop `auto` takes: the one that a run of so many steps is done with the soonest, by a model of what they cost.

    work.py         what a step asks of torch and of a fused kernel, as numbers
    machines.py     what these numbers take on a processor or a graphics card
    costs.py        from both, for each backend: seconds until its loop begins, and seconds of a step
    decision.py     the backend that is done the soonest, or a few timed steps where two come near
    memory.py       what was taken and measured before, in files beside the kernels
    calibration.py  a machine that nothing is known of, measured once
    polynomial.py   the same for `fit` in single precision on a card
    begin.py        all of it together, for a step that is about to be repeated

costs.py and decision.py are functions of numbers and nothing else: what they would say can be computed anywhere.
"""
