"""`covariance`: how well the parameters of a fit are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._problem import shown
from ._tensors import need_torch, refuse_no_floats, refuse_no_function

if TYPE_CHECKING:
    import torch

KINDS = ("hessian", "jacobian", "sandwich")


def covariance(
    function: Callable[..., torch.Tensor],
    params: Any,
    data: Any = (),
    *,
    kind: str,
    in_dims: Any = None,
    absolute_sigma: bool = False,
) -> torch.Tensor:
    """The covariance of fitted params, from the curvature of what was minimized; of one problem, or of many.

    By torch's own derivatives, all problems at once.

    Args:
        function: takes the params and the data. What it returns is up to `kind`.
        params: where the fit ended, as for `descend`; with many problems a row for each.
        data: what else it takes: a tensor or a tuple.
        kind: "jacobian": the function returns residuals (n,), and the covariance is the inverse of J' J, times the
            variance of the residuals. "hessian": it returns one number, a negative log-likelihood, and the covariance
            is the inverse of its second derivatives. "sandwich": it returns the negative log-likelihood of each sample,
            (n,); H^-1 (sum of g g') H^-1 of the gradients g of the samples and the Hessian H of their sum holds where
            the model is not quite right, too (White 1982).
        in_dims: None for one problem; for many, which tensors have an axis of problems, as for `descend_many`.
        absolute_sigma: with "jacobian": residuals are divided by their deviations already.

    Returns:
        (p, p), in the order of the params' elements; of many problems (problems, p, p). All infinite where the data do
        not fix the params: the curvature has no inverse, or has a direction in which there is no minimum.

    Raises:
        TypeError, ValueError: an argument cannot be meant.
    """
    need_torch()
    import torch

    from ._problem_axes import Problems
    from ._torch_private import tree

    refuse_no_function(function, "function")
    if kind not in KINDS:
        raise ValueError(f"kind: wants one of {', '.join(KINDS)}, got {shown(kind)}; jacobian is for residuals")
    refuse_no_floats(tree.tree_leaves(params))
    data = data if isinstance(data, tuple) else (data,)
    is_many = in_dims is not None
    if not is_many:
        params = tree.tree_map(lambda leaf: leaf[None], params)
        in_dims = (0, *[None] * len(data))
    axes = Problems((params, *data), in_dims, ("params", *(f"data[{i}]" for i in range(len(data)))))
    count = len(tree.tree_leaves(params))
    leaves = [leaf.detach() for leaf in axes.leaves]
    shapes = [leaf.shape[1:] if own else leaf.shape for leaf, own in zip(leaves[:count], axes.is_own, strict=False)]
    sizes = [shape.numel() for shape in shapes]
    rows = [
        leaf.expand(axes.count, *shape).reshape(axes.count, -1) for leaf, shape in zip(leaves, shapes, strict=False)
    ]

    def values(flat: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        own = [part.reshape(shape) for part, shape in zip(torch.split(flat, sizes), shapes, strict=True)]
        found = function(*axes.filled([*own, *rest]))
        if kind == "hessian":
            if found.numel() != 1:
                raise ValueError(f"function: wants to return one number for 'hessian', got shape {tuple(found.shape)}")
            return found.reshape(())
        return found.reshape(-1)

    def of_one(flat: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        if kind == "hessian":
            return _inverse(_second(values)(flat, *rest))
        jacobian = torch.func.jacrev(values)(flat, *rest)
        outer = jacobian.mT @ jacobian
        if kind == "sandwich":
            inverse = _inverse(_second(lambda flat, *rest: values(flat, *rest).sum())(flat, *rest))
            whole = inverse @ outer @ inverse
            return torch.where(inverse.isinf(), inverse, whole)
        inverse = _inverse(outer)
        if absolute_sigma:
            return inverse
        residuals = values(flat, *rest)
        left = len(residuals) - len(flat)
        if left <= 0:
            return torch.full_like(inverse, torch.inf)
        return torch.where(inverse.isinf(), inverse, inverse * ((residuals * residuals).sum() / left))

    axis = [0 if own else None for own in axes.is_own[count:]]
    found = torch.vmap(of_one, in_dims=(0, *axis))(torch.cat(rows, 1), *leaves[count:])
    return found if is_many else found[0]


def _inverse(matrix: torch.Tensor) -> torch.Tensor:
    """Of a symmetric matrix, scaled to a diagonal of 1; all infinity if it is not positive definite."""
    import torch

    diagonal = torch.diagonal(matrix)
    scale = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
    values, vectors = torch.linalg.eigh(matrix * scale * scale[:, None])
    least = torch.finfo(matrix.dtype).eps * len(diagonal)
    good = (values[0] > least * values[-1]) & (diagonal > 0).all()
    inverse = (vectors / torch.where(good, values, 1.0)) @ vectors.mT * scale * scale[:, None]
    return torch.where(good, inverse, torch.full_like(inverse, torch.inf))


def _second(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Its second derivatives, by reverse mode twice: torch's forward mode has no rule for some operations."""
    import torch

    return torch.func.jacrev(torch.func.jacrev(function))
