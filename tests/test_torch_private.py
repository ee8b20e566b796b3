"""Every private name of torch that fastpoly uses is there and does its work: if torch drops one, this says which."""

import contextvars
import importlib.util
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import fastpoly
from fastpoly import _torch_private as private

aten = torch.ops.aten


def test_a_tensor_without_values():
    class Traced(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, *of):
            raise AssertionError

    tensor = private.without_values(Traced, (2, 3), (3, 1), torch.float64, torch.device("cpu"), 4)
    assert (tensor.shape, tensor.stride(), tensor.dtype) == ((2, 3), (3, 1), torch.float64)
    assert tensor.storage_offset() == 4
    private.reshaped_in_place(aten.unsqueeze_.default, (tensor, 0), {})
    assert tensor.shape == (1, 2, 3)
    assert private.changes_shape(aten.unsqueeze_.default)
    assert not private.changes_shape(aten.add_.Tensor)


def test_tensors_that_share_memory():
    whole = torch.zeros(4)
    assert private.storage(whole) == private.storage(whole[1:]) != private.storage(whole.clone())


def test_a_mode_sees_operations_and_whose_gradient_they_are():
    class Seen(private.LightDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            backward = private.differentiated()
            found.append((private.schema(func).name, backward, private.sequence_number()))
            return func(*args, **(kwargs or {}))

    found = []
    x = torch.ones(2, requires_grad=True)
    with Seen():
        torch.autograd.grad(x.sin().sum(), x)
    (number,) = [forward for name, backward, forward in found if name == "aten::sin"]
    assert [name for name, backward, _ in found if backward == number] == ["aten::cos", "aten::mul"]


def test_distributions_ask_whether_they_are_valid():
    class Seen(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch._is_all_true:
                found.append(private.validates(sys._getframe(1)))
            return func(*args, **(kwargs or {}))

    found = []
    with Seen():
        distribution = torch.distributions.Normal(0.0, 1.0, validate_args=True)
        assert found == [True, True]  # of loc and scale
        distribution.log_prob(torch.ones(()))
        assert found == [True] * 3
        torch._is_all_true(torch.ones(()) > 0)
    assert found[3:] == [False]


def test_decompositions():
    assert private.decomposition(aten.silu.default)(torch.zeros(1)).tolist() == [0.0]
    assert private.decomposition(aten.linear.default)(torch.ones(1, 2), torch.ones(3, 2)).tolist() == [[2.0] * 3]


def test_other_parameters_of_a_module():
    module = torch.nn.Linear(1, 1, bias=False)
    with private.with_parameters(module, {"weight": torch.full((1, 1), 3.0)}):
        assert module(torch.ones(1, 1)).item() == 3.0


def test_a_recurrent_layer_has_its_own_weights_again():
    module = torch.nn.GRU(1, 2)
    own = dict(module.named_parameters())
    torch.func.functional_call(module, {name: weight.detach() + 1 for name, weight in own.items()}, torch.ones(1, 1))
    weights = module._flat_weights
    assert weights[0] is not own["weight_ih_l0"]
    private.restore_weights(weights)
    assert all(one is other for one, other in zip(weights, own.values(), strict=True))


def test_trees():
    leaves, structure = private.tree.tree_flatten({"a": [1, 2], "b": 3})
    assert leaves == [1, 2, 3] == private.tree.tree_leaves(private.tree.tree_unflatten(leaves, structure))


@pytest.mark.slow
def test_the_compiler():
    assert issubclass(private.refused_by_compiler(), Exception)
    private.refuse_without_compiler()
    assert importlib.util.find_spec(private.COMPILER) is not None


@pytest.mark.parametrize("name", ["_cuda_endAllocateToPool", "_cuda_releasePool"])
def test_the_end_of_a_capture(name):
    if torch.version.cuda is None:
        pytest.skip("a torch without CUDA")
    assert hasattr(torch._C, name)


def test_nothing_else_uses_them():
    """But for what stands in for torch's compiler, and what is timed because an optimizer calls it."""
    package = Path(fastpoly.__file__).parent
    private_name = re.compile(r"(?<!`)(torch\._[a-zA-Z]|torch\.utils\._)|\._(schema|cdata|C|overloadname)\b")
    for file in package.rglob("*.py"):
        if file.name not in ("_torch_private.py", "stand_ins.py", "split.py"):
            used = [line for line in file.read_text().splitlines() if private_name.search(line)]
            assert used == [], file.relative_to(package)


def test_writes_are_counted():
    tensor = torch.zeros(3)
    before = private.version(tensor)
    tensor[0] = 1
    assert private.version(tensor) > before


def test_hooks_of_an_optimizers_step_are_seen():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    assert not private.has_step_hooks(optimizer)
    optimizer.register_step_post_hook(lambda *_: None)
    assert private.has_step_hooks(optimizer)


def test_optimizers_take_tensors_for_numbers():
    with private.in_tensors(as_if_compiling=True):
        assert torch.compiler.is_compiling()
        assert torch.optim._adafactor.max(1.0, torch.tensor(0.5)) == 1
        assert torch.optim._adafactor.min(0.1, torch.tensor(0.5)) == torch.tensor(0.1)
    assert not torch.compiler.is_compiling()
    assert not hasattr(torch.optim._adafactor, "max")


def test_the_narrowest_floats_are_seen():
    with private.Narrowest() as seen:
        (torch.ones(2, dtype=torch.float64).float() * 2).double()
    assert seen.bytes == 4


def test_who_looks_at_operations_is_known():
    assert not private.is_watched()
    with private.Narrowest():
        assert private.is_watched()


def test_control_flow_is_called(monkeypatch):
    from torch._higher_order_ops import utils

    monkeypatch.setattr(utils, "_hop_compile_and_call", utils._hop_compile_and_call)
    private.take_control_flow(lambda name, args: (name, len(args)))
    found = torch.cond(torch.tensor(True), torch.sin, torch.cos, (torch.ones(2),))
    assert found == ("_cond_op_wrapper", 4)


def test_a_tensor_within_vmap_has_no_memory_of_its_own():
    found = []
    torch.func.vmap(lambda row: found.append(private.memory_of(row)) or row)(torch.zeros(2, 3))
    assert found == [None]
    assert private.memory_of(torch.zeros(2)) is not None


def test_hooks_of_tensors():
    one, other = (torch.ones(2, requires_grad=True) for _ in range(2))
    one.register_hook(lambda gradient: gradient * 3)
    private.take_hooks(one, other)
    assert torch.autograd.grad(other.sum(), other)[0].tolist() == [3.0, 3.0]
    assert not private.has_hooks_behind(one)
    one.register_post_accumulate_grad_hook(lambda tensor: None)
    assert private.has_hooks_behind(one)


def test_a_checkpoint_is_a_call():
    from torch.utils.checkpoint import checkpoint

    calls, x = [], torch.ones(2, requires_grad=True)
    with private.without_checkpoints():
        torch.autograd.grad(checkpoint(lambda x: calls.append(1) or x.sin().sum(), x, use_reentrant=False), x)
    assert len(calls) == 1
    torch.autograd.grad(checkpoint(lambda x: calls.append(1) or x.sin().sum(), x, use_reentrant=False), x)
    assert len(calls) == 3


def overlapping(one, other):
    """Enter one block, then the other, and leave them in the same order, as two threads may."""
    first, second = one(), other()
    threads = [contextvars.copy_context() for _ in range(2)]
    for step in ("__enter__", "__exit__"):
        for thread, block in zip(threads, (first, second), strict=True):
            thread.run(getattr(block, step), *([None] * 3 if step == "__exit__" else []))


def test_blocks_of_two_threads_leave_torch_as_it_was():
    from torch.utils.checkpoint import checkpoint

    overlapping(private.without_checkpoints, private.without_checkpoints)
    calls, x = [], torch.ones(2, requires_grad=True)
    torch.autograd.grad(checkpoint(lambda x: calls.append(1) or x.sin().sum(), x, use_reentrant=False), x)
    assert len(calls) == 2
    for wishes in ((True, True), (False, True), (True, False)):
        overlapping(*(partial(private.in_tensors, wish) for wish in wishes))
        assert not torch.compiler.is_compiling()
        assert not hasattr(torch.optim._adafactor, "max")


def test_what_a_module_has():
    module = torch.nn.BatchNorm1d(2)
    module.kept = torch.ones(2)
    buffers, others = private.attributes(module)
    assert set(buffers) == {"running_mean", "running_var", "num_batches_tracked"}
    assert others["kept"] is module.kept


def test_what_no_mode_sees():
    found = []

    class Seen(private.LightDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found.append(func)
            return func(*args, **(kwargs or {}))

    with Seen():
        with private.without_modes():
            torch.zeros(2)
        assert found == []
        torch.zeros(2)
    assert len(found) == 1
