"""The loop IR: what a page means, what does not hold together, and what LLVM makes of it."""

import ctypes
import math
import re
import struct

import numpy as np
import pytest

from fastpoly._fuse.ir import (
    BOOL,
    FLOAT,
    INDEX,
    Assign,
    Break,
    Const,
    If,
    Kernel,
    KindError,
    Loop,
    Store,
    Var,
    operation,
)
from fastpoly._fuse.read import read
from fastpoly._fuse.to_llvm import number, to_llvm
from fastpoly._fuse.verify import verify
from fastpoly_kernels import machine_code

HEAD = '''
def kernel(carry, data, scratch, out, steps, every, wait):
    """A page."""
'''
LANES = {"float32": 8, "float64": 4}
NAMES = (f"k{i}" for i in range(10**6))
KEPT = []
BUFFERS = ("carry", "data", "scratch", "out")


def page(body):
    return HEAD + "\n".join("    " + line for line in body.strip().splitlines()) + "\n"


def run(body, dtype="float64", steps=0, **arrays):
    """What a page makes of arrays, by LLVM; the page ends with `return`."""
    import llvmlite.binding as llvm

    kernel = read(page(body), dtype, LANES[dtype], LANES[dtype])
    verify(kernel)
    symbol = f"of_a_test_{next(NAMES)}"
    module = llvm.parse_assembly(to_llvm(kernel, symbol))
    module.verify()
    KEPT.append(machine_code.Linked(symbol, machine_code.target(3).emit_object(module)))
    function = KEPT[-1].function(ctypes.c_int64, *[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 3)
    room = {name: np.ascontiguousarray(arrays.get(name, np.zeros(64)), dtype) for name in BUFFERS}
    return function(*(array.ctypes.data for array in room.values()), steps, 1, 0), room


# -- what a page means


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("data[0] + data[1] * 2.0 - data[2] / 4.0", lambda a, b, c: a + b * 2 - c / 4),
        ("-data[0]", lambda a, b, c: -a),
        ("where(data[0] < data[1], data[2], -1.0)", lambda a, b, c: c if a < b else -1),
        ("where((data[0] < data[1]) & (data[1] != data[2]), 1.0, 2.0)", lambda a, b, c: 1 if a < b != c else 2),
        (
            "where(inverse(data[0] >= data[1]) | (data[0] == 0.0), 1.0, 2.0)",
            lambda a, b, c: 1 if a < b or a == 0 else 2,
        ),
        ("maximum(data[0], data[1]) + minimum(data[1], data[2])", lambda a, b, c: max(a, b) + min(b, c)),
        ("absolute(data[0]) + floor(data[1]) + ceil(data[2])", lambda a, b, c: abs(a) + math.floor(b) + math.ceil(c)),
        ("trunc(data[0]) + nearest(data[1])", lambda a, b, c: math.trunc(a) + round(b)),
        ("data[int(data[3])]", lambda a, b, c: c),
        ("float64(steps + 2 * 3 - 1)", lambda a, b, c: 12),
        ("float64((steps * 5) // 4 % 5)", lambda a, b, c: 3),
        ("float64(min(steps, 3) + (steps & 5))", lambda a, b, c: 3 + 5),
        ("math.inf", lambda a, b, c: math.inf),
        ("exp(data[0]) + log1p(data[1])", lambda a, b, c: math.exp(a) + math.log1p(b)),
        ("pow(data[1], data[2])", lambda a, b, c: b**c),
        ("total(load(data, 0))", lambda a, b, c: a + b + c + 2),
        ("product(load(data, 0))", lambda a, b, c: a * b * c * 2),
        ("largest(load(data, 0)) - smallest(load(data, 0))", lambda a, b, c: max(a, b, c, 2) - min(a, b, c, 2)),
        ("total(masked(first_lanes(data, 2), load(data, 0)))", lambda a, b, c: a + b),
        ("total(where(first_lanes(data, 1), load(data, 0), 2.0 * load(data, 0)))", lambda a, b, c: a + 2 * (b + c + 2)),
        ("total(splat(data[1], data) * load(data, 0) + 1.0)", lambda a, b, c: b * (a + b + c + 2) + 4),
        ("total(tanh(load(data, 0)))", lambda a, b, c: sum(map(math.tanh, (a, b, c, 2)))),
    ],
)
def test_an_expression(expression, value, dtype):
    if dtype == "float32":
        expression = expression.replace("load(data, 0)", "load(narrow(data), 0)").replace("float64(", "float32(")
    a, b, c = -1.25, 0.5, 1.75
    kernel = f"out[0] = {expression}\nreturn steps"
    given = {"data": np.array([a, b, c, 2.0, *[0.0] * 12])}
    steps, arrays = run_of_four(kernel, dtype, given)
    assert steps == 7
    assert arrays["out"][0] == pytest.approx(value(a, b, c), rel=1e-6 if dtype == "float32" else 1e-14)


def run_of_four(kernel, dtype, given):
    """With registers of four lanes, whatever the dtype."""
    before, LANES[dtype] = LANES[dtype], 4
    try:
        return run(kernel, dtype, steps=7, **given)
    finally:
        LANES[dtype] = before


def test_loops_carry_what_they_assign():
    body = """
a = carry[0]
b = count = 0.0
rows = 0
for step in range(steps):
    for i in range(0, 10, 3):
        count = count + 1.0
        scratch[i] = a
    for j in range(3, -1, -1):
        b = b + float64(j)
    if a > 20.0:
        break
    if rows == 2:
        out[1] = a
        rows += 10
    rows += 1
    a = a * 2.0
    a, b = a, b + a
carry[0] = a
out[0] = count
out[2] = b
return rows
"""
    rows, arrays = run(body, steps=100, carry=np.array([1.0]))
    a, b, count, r, out1 = 1.0, 0.0, 0, 0, 0.0
    for _ in range(100):
        count += 4
        b += 6
        if a > 20:
            break
        if r == 2:
            out1 = a
            r += 10
        r += 1
        a *= 2
        b += a
    assert rows == r
    assert arrays["carry"][0] == a
    assert arrays["out"][:3].tolist() == [count, out1, b]


def test_names_are_no_identities():
    """Variables that differ in their endings only, labels, arguments and Greek letters meet in no text of LLVM's."""
    body = """
v1 = carry[0]
v = 2.0
head1 = 3.0
μ = 4.0
data_1 = 5.0
for step in range(steps):
    v = v + v1
    v1 = v1 + head1
    head1 = head1 + μ
    μ = μ + data_1
out[0] = v + v1 + head1 + μ + data_1
return steps
"""
    _, arrays = run(body, steps=3, carry=np.array([1.0]))
    v1, v, head1, mu = 1.0, 2.0, 3.0, 4.0
    for _ in range(3):
        v, v1, head1, mu = v + v1, v1 + head1, head1 + mu, mu + 5.0
    assert arrays["out"][0] == v + v1 + head1 + mu + 5.0


def test_a_value_that_is_not_finite_ends_a_loop():
    body = """
a = carry[0]
for step in range(steps):
    if not math.isfinite(a):
        break
    a = a * a
    wait += 1
return wait
"""
    assert run(body, steps=50, carry=np.array([10.0]))[0] == 9  # 10**(2**9) is infinite
    assert run(body, steps=50, carry=np.array([math.nan]))[0] == 0
    assert run(body, steps=50, carry=np.array([0.5]))[0] == 50


@pytest.mark.parametrize("value", [0.1, -0.0, 1e-310, 1e39, math.pi, math.inf, -math.inf, math.nan])
def test_numbers_are_theirs_to_the_bit(value):
    (bits,) = struct.unpack("d", struct.pack("Q", int(number(value, "float64"), 16)))
    assert bits == value or math.isnan(value)
    (single,) = struct.unpack("d", struct.pack("Q", int(number(value, "float32"), 16)))
    with np.errstate(over="ignore"):
        assert single == np.float32(value) or math.isnan(value)


@pytest.mark.parametrize(
    "line",
    ["while True: pass", "a = carry.sum()", "a = carry[0] if steps else 0.0", "print(steps)", "a = [1.0]", "del a"],
)
def test_what_is_not_of_the_language_is_refused(line):
    with pytest.raises(NotImplementedError, match="the language of kernels has no "):
        read(page(f"{line}\nreturn steps"), "float64", 4, 4)


def test_operands_go_together():
    assert operation("add", Const(1, INDEX), Const(2, INDEX)).kind == INDEX
    assert operation("mul", Var("a", FLOAT.of(4)), Const(2.0, FLOAT)).kind == FLOAT.of(4)
    assert operation("lt", Var("a", FLOAT.of(4)), Const(2.0, FLOAT)).kind == BOOL.of(4)
    for name, *args in (
        ("add", Const(1, INDEX), Const(2.0, FLOAT)),
        ("add", Var("a", FLOAT.of(4)), Var("b", FLOAT.of(8))),
        ("div", Const(1, INDEX), Const(2, INDEX)),
        ("not", Const(1.0, FLOAT)),
        ("where", Const(1.0, FLOAT), Const(1.0, FLOAT), Const(1.0, FLOAT)),
        ("total", Const(1.0, FLOAT)),
        ("floordiv", Const(1.0, FLOAT), Const(1.0, FLOAT)),
    ):
        with pytest.raises(KindError, match=f"^{name} of "):
            operation(name, *args)


# -- what does not hold together

A, B, AXIS = Var("a", FLOAT), Var("b", FLOAT), Var("i", INDEX)
ONE, ZERO, TEN = Const(1.0, FLOAT), Const(0, INDEX), Const(10, INDEX)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ([Assign(A, B)], "b has no value, in: a: float = b"),
        ([Assign(A, ZERO)], "a is float and becomes index"),
        ([Loop(AXIS, ZERO, TEN, 1, [Assign(A, ONE)]), Assign(B, A)], "a has no value"),
        ([If(Const(True, BOOL), [Assign(A, ONE)]), Assign(B, A)], "a has no value"),
        ([Loop(AXIS, ZERO, TEN, 1, [Assign(AXIS, ZERO)])], "the axis i is assigned"),
        ([Loop(AXIS, ONE, TEN, 1, [])], "a bound is no index"),
        ([Loop(AXIS, ZERO, TEN, 0, [])], "a loop does not move"),
        ([Break()], "break outside of a loop"),
        ([Store("data", ZERO, ONE)], "what never changes is stored to"),
        ([Store("nowhere", ZERO, ONE)], "no buffer nowhere"),
        ([Store("out", ONE, ONE)], "a place is no index"),
        ([If(ONE, [])], "float decides"),
        ([Assign(A, Const(1, FLOAT))], "1 as float"),
    ],
)
def test_what_does_not_hold_together_is_found(body, what):
    kernel = Kernel("float64", 4, ("carry", "data", "out"), {}, body, ZERO)
    with pytest.raises(AssertionError, match=re.escape(what)):
        verify(kernel)
    str(kernel)
