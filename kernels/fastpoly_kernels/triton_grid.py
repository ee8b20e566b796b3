"""Programs of a grid that wait for each other."""

import triton
import triton.language as tl


@triton.jit
def meet(counter, due):
    """Wait until `due` arrivals are counted, this program's own among them.

    What every program stored before, all of them load afterwards. They must all be on the GPU at a time, as those of a
    cooperative launch are.

    Args:
        counter: a pointer to an int64 that is 0 when the kernel starts.
        due: how many programs arrive at a meeting, times the number of this meeting, from 1 on.
    """
    tl.debug_barrier()  # one thread counts for all, when all have stored
    tl.atomic_add(counter, 1, sem="release", scope="gpu")
    while tl.atomic_add(counter, 0, sem="acquire", scope="gpu") < due:
        pass
    tl.debug_barrier()
