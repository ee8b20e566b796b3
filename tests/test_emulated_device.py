"""On the emulated device (see `emulated_cuda`) the fused loop of the GPU gives what eager torch gives there.

What stands here went wrong on a GPU and not on the CPU, or would have. What the emulation itself is worth comes first.
"""

import contextlib
import warnings
from types import SimpleNamespace

import pytest
import torch

from fastpoly import UnsupportedOperationError, descend
from fastpoly._loops.capture import CudaCapture

DOUBLE = torch.float64


def numbers(count):
    return torch.linspace(-0.5, 0.7, count, dtype=DOUBLE)


# -- the device; all functions up to the first test run in the process of the fixture `interpreted`
# ----------------------------------------------------------------------------------------


def emulated(function, *arguments):
    """What function(*arguments) gives where there is the device, or the error's name and words."""
    import emulated_cuda

    with emulated_cuda.installed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of elements that are masked
        try:
            return function(*arguments)
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def mixed(name):
    """An operation with tensors of two devices."""
    return MIXED[name](numbers(4).cuda(), numbers(4)).tolist()


MIXED = {
    "sum": lambda a, b: a + b,
    "product of matrices": lambda a, b: a.reshape(2, 2) @ b.reshape(2, 2),
    "cat with a number": lambda a, b: torch.cat([a, b[:1]]),
    "gather": lambda a, b: a.gather(0, torch.tensor([1, 0])),
    "index of a tensor of the CPU": lambda a, b: b[torch.tensor([1, 0]).cuda()],
    "a number": lambda a, b: a * b[0],
    "a mask with a number": lambda a, b: a.masked_fill(a > 0, b[0]),
    "index": lambda a, b: a[torch.tensor([1, 0])],
    "copy": lambda a, b: torch.zeros_like(a).copy_(b),
    "list as index": lambda a, b: a[[1, 0]],
}


def what_nobody_wrote():
    """Is all of it NaN?"""
    made = torch.empty(3, device="cuda"), torch.empty(3), numbers(3).cuda().new_empty(3), torch.empty_like(numbers(3))
    return [bool(tensor.isnan().all()) for tensor in made]


def where_it_lies():
    """What tensors say of themselves."""
    made = torch.zeros(3, device="cuda"), torch.tensor([1.0]).cuda(), torch.ones(2).to("cuda:0", DOUBLE)
    with torch.device("cuda"):
        made = *made, torch.arange(3)
    return [(str(tensor.device), tensor.is_cuda, tensor.is_cpu, tensor.cpu().is_cpu) for tensor in made]


def gradient_on_the_device():
    x = numbers(3).cuda().requires_grad_()
    (gradient,) = torch.autograd.grad((x**2).sum(), x)
    return gradient.device.type, gradient.tolist()


def captured(waits):
    from fastpoly._loops import capture

    a = numbers(3).cuda()
    return capture.CudaCapture(a.device)(lambda: a.sum().item() if waits else a.sum()) is not None


@pytest.mark.parametrize("name", MIXED)
def test_tensors_of_two_devices(interpreted, name):
    """As on a GPU; see torch's notes on CUDA semantics."""
    got = interpreted(emulated, mixed, name)
    if list(MIXED).index(name) < 5:
        assert got.startswith("RuntimeError: ")
        assert "on the same device" in got
    else:
        assert got == MIXED[name](numbers(4), numbers(4)).tolist()


def test_memory_that_nobody_wrote_is_nan(interpreted):
    assert interpreted(emulated, what_nobody_wrote) == [True] * 4


def test_tensors_say_where_they_lie(interpreted):
    assert interpreted(emulated, where_it_lies) == [("cuda:0", True, False, True)] * 4
    assert not torch.cuda.is_available() or torch.version.cuda, "all of it is undone"


def test_gradients_on_the_device(interpreted):
    assert interpreted(emulated, gradient_on_the_device) == ("cuda", (2 * numbers(3)).tolist())


def test_who_waits_in_a_capture_is_noticed(interpreted):
    assert interpreted(emulated, captured, False) is True
    assert "AssertionError: waits in what is captured" in interpreted(emulated, captured, True)


# -- losses
# ----------------------------------------------------------------------------------------

BY = numbers(5)
X = numbers(40)
OUTSIDE = torch.tensor([0, 1])
NOWHERE = torch.tensor(0)  # an index without dimensions
SEQUENCE, STATE = torch.ones(4, 1, 2, dtype=DOUBLE), torch.zeros(1, 1, 3, dtype=DOUBLE)
RECURRENT = True, 1, 0.0, False, False, False


def kept_by_another_nest(p):
    """A value that two nests store, each a part."""
    c = torch.cat([torch.sin(p[0] * X.to(p.device) + p[1]), torch.exp(p) * 2 + p * p])
    return ((c - 0.3) ** 2).sum() + ((c[:40] - c[41]) ** 2).sum()


def many_memories(p):
    """Sixty values that need memory, one after the other."""
    matrix, h = p.reshape(24, 8), p[:8]
    for _ in range(21):
        a = matrix @ h
        h = torch.tanh(a[16:] * torch.sigmoid(a[:8])) * torch.sigmoid(a[8:16]) + h
    return (h**2).sum()


def made_on_its_device(p):
    """By keyword and by position."""
    steps = torch.arange(5, device=p.device) + torch.zeros(5, dtype=DOUBLE).to(p.device, DOUBLE)
    weights = p.new_full((5,), 0.5) + torch.ones_like(p) + torch.linspace(0, 1, 5, dtype=DOUBLE, device=p.device)
    return (p * steps * weights).square().sum() + (torch.eye(5, dtype=DOUBLE, device=p.device) @ p).sin().sum()


def it_says_where_it_lies(p):
    """A traced tensor, what is computed of it, and a gradient."""
    assert (p * 2).sin().device == p.device == torch.ones_like(p).device == p.detach().device
    assert (p * 2).is_cuda == p.is_cuda == (p.device.type == "cuda") != p.is_cpu
    (gradient,) = torch.autograd.grad((p**3).sum(), p, create_graph=True)
    assert gradient.device == p.device
    return (gradient**2).sum()


def weights_of(p):
    return [p[:18].reshape(9, 2), p[18:45].reshape(9, 3), p[45:54], p[54:]]


def gru(p):
    return (torch.gru(SEQUENCE.to(p.device), STATE.to(p.device), weights_of(p), *RECURRENT)[0] ** 2).sum()


def gru_cell(p):
    return (torch.gru_cell(SEQUENCE[0].to(p.device), STATE[0].to(p.device), *weights_of(p)) ** 2).sum()


def cartesian(p):
    """It writes to the real and the imaginary part of one tensor."""
    return (torch.view_as_real(torch.complex(p * 2, p * p)) ** 2).sum()


LOSSES = {  # name: (loss, number of params)
    "a value that is stored and used in one nest": (lambda p: (BY.to(p.device) * torch.gradient(p)[0] ** 2).sum(), 5),
    "a value that two nests store": (kept_by_another_nest, 3),
    "more than sixty memories": (many_memories, 192),
    "gather without dimensions": (lambda p: torch.gather(p[0], 0, NOWHERE.to(p.device)) ** 2, 3),
    "scatter without dimensions": (lambda p: torch.scatter(p[0], 0, NOWHERE.to(p.device), 2.5) ** 2 + p.sum(), 3),
    "indices of the CPU": (lambda p: (p[torch.arange(2) + OUTSIDE] ** 2).sum(), 3),
    "made on its device": (made_on_its_device, 5),
    "it says where it lies": (it_says_where_it_lies, 5),
    "gru": (gru, 63),
    "gru_cell": (gru_cell, 63),
    "complex": (cartesian, 3),  # its own gradients of others, as of polar, the emulated device has wrong
    "vdot": (lambda p: torch.vdot(p, p) ** 2, 5),
}


def losses(name, backend, steps):
    """In the process of `interpreted`, on its device or, fused, on the CPU."""
    loss, count = LOSSES[name]
    params = numbers(count) if backend == "fused" else numbers(count).cuda()
    return descend(loss, params, learn_rate=1e-3, steps=steps, backend=backend).loss.tolist()


SLOW = {"more than sixty memories": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in LOSSES])
def test_it_gives_eagers_losses(interpreted, name):
    steps = 1 if "memories" in name else 3
    want = interpreted(emulated, losses, name, "eager", steps)
    assert len(want) == steps
    assert interpreted(emulated, losses, name, "triton", steps) == pytest.approx(want, rel=1e-12)


def looped(backend, most_nodes):
    """In the process of `interpreted`: the losses of a loop over time, and whether the kernel has that loop."""
    from fastpoly._fuse import traced

    x = numbers(30).cuda()

    def loss(p):
        states = [p[:2] * 0]
        for t in range(30):
            states.append(torch.tanh(p[:2] * states[-1] + p[2] * x[t]))
        return sum((state**2).sum() for state in states) + (states[-1] - 1).prod()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traced, "MOST_NODES", most_nodes)
        run = descend(loss, numbers(3).cuda(), learn_rate=1e-2, steps=3, backend=backend)
    return run.loss.tolist(), "for t0 in range(" in (run.source or "")


@pytest.mark.slow
def test_a_loop_that_is_too_long_to_be_written_out(interpreted):
    """Is a loop of the kernel."""
    want, _ = interpreted(emulated, looped, "eager", 10**6)
    for most_nodes in (10**6, 200):
        got, is_loop = interpreted(emulated, looped, "triton", most_nodes)
        assert got == pytest.approx(want, rel=1e-12)
        assert is_loop == (most_nodes == 200)


def moved_away(p):
    """A copy of the params on the CPU, and what was made like them there, are on the CPU, and go with each other."""
    on_the_cpu = p.to("cpu")
    made = torch.full_like(p, 2.0, device="cpu")
    assert (on_the_cpu.device.type, made.device.type) == ("cpu", "cpu")
    return (on_the_cpu * made).square().sum()


def of_moved():
    """The losses of eager torch and of the fused loop."""
    return [
        descend(moved_away, BY.cuda(), learn_rate=1e-3, steps=3, backend=backend).loss.tolist()
        for backend in ("eager", "triton")
    ]


def test_what_is_asked_for_on_the_cpu_is_there(interpreted):
    eager, fused = interpreted(emulated, of_moved)
    assert fused == pytest.approx(eager, rel=1e-12)


def of_two_devices():
    """Of a loss that adds what lies on the CPU: what eager torch says, and what the fused loop says."""
    said = []
    for backend in ("eager", "triton"):
        try:
            descend(lambda p: (p + BY).square().sum(), BY.cuda(), learn_rate=1e-3, steps=1, backend=backend)
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


def test_a_loss_of_two_devices_is_told_in_torchs_words(interpreted):
    eager, fused = interpreted(emulated, of_two_devices)
    assert eager.startswith("RuntimeError: Expected all tensors to be on the same device")
    assert fused == eager


# -- a capture that fails
# ----------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch):
    """What torch's allocator is told, while torch.cuda does nothing."""
    calls = []

    def nothing(*of, **options):
        return contextlib.nullcontext()

    for name in ("device", "current_stream", "stream", "CUDAGraph", "graph", "set_stream"):
        monkeypatch.setattr(torch.cuda, name, nothing)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(wait_stream=nothing))
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(torch._C, name, lambda *of, name=name: calls.append((name, *of)), raising=False)
    return calls


def capture():
    made = CudaCapture.__new__(CudaCapture)
    made.stream = SimpleNamespace(device=SimpleNamespace(index=3), wait_stream=lambda stream: None)
    made.pool = "pool"
    return made


def failing(error):
    """A function that fails when it is captured, after its warm-ups."""
    from fastpoly._loops.replayed import WARM_UPS

    turns = iter(range(WARM_UPS))

    def function():
        if next(turns, None) is None:
            raise error

    return function


OVER = [("_cuda_endAllocateToPool", 3, "pool"), ("_cuda_releasePool", 3, "pool")]


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (RuntimeError("operation not permitted"), UnsupportedOperationError),
        (torch.cuda.OutOfMemoryError("no memory"), torch.cuda.OutOfMemoryError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["refused", "memory", "interrupted"],
)
def test_the_allocator_hears_of_a_capture_that_fails(told, error, becomes):
    """Up to torch 2.12 nobody else tells it, and it would keep what others allocate in the pool of that capture."""
    with pytest.raises(becomes):
        capture()(failing(error))
    assert told == OVER


def test_the_allocator_hears_nothing_of_a_capture_that_succeeds(told):
    capture()(lambda: None)
    assert told == []


def test_a_torch_that_needs_no_telling(told, monkeypatch):
    def raises(*of):
        raise RuntimeError("no such pool")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", raises)
    with pytest.raises(UnsupportedOperationError, match="CUDA cannot capture this step: not permitted"):
        capture()(failing(RuntimeError("not permitted")))
