"""What networks are made of is what torch has: convolutions, pooling, interpolation, norms, recurrent layers, indices.

The kernels run as the Python that they are; `test_operator_database` asks torch's own samples of the same.
"""

from functools import partial

import interpreted_cpu
import pytest
import torch
from operation_cases import numbers, off, values_and_gradients
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fastpoly import descend
from fastpoly._fuse.picks import COMPARED, CROWDED, met


@pytest.fixture(autouse=True)
def as_python(monkeypatch):
    """No kernel is compiled."""
    interpreted_cpu.install(monkeypatch)


LINE, IMAGE, VOLUME = (
    numbers(*shape, seed=float(i)) for i, shape in enumerate([(2, 4, 9), (1, 4, 6, 7), (1, 2, 4, 3, 5)])
)


def weighed(shape, function):
    """A case with params of this shape."""
    count = torch.Size(shape).numel()
    return lambda w: function(w[:count].reshape(shape))


CONVOLUTIONS = {
    "1d": weighed((3, 4, 3), lambda w: F.conv1d(LINE * w.sum(), w, padding=1)),
    "2d, strided, dilated": weighed((3, 4, 2, 3), lambda w: F.conv2d(IMAGE, w, w[:, 0, 0, 0], 2, 1, (1, 2))),
    "2d, in groups": weighed((4, 2, 2, 2), lambda w: F.conv2d(IMAGE * w[0, 0, 0, 0], w, groups=2, stride=(1, 3))),
    "3d": weighed((2, 2, 2, 2, 2), lambda w: F.conv3d(VOLUME * w.sum(), w, padding=(0, 1, 0))),
    "transposed": weighed((4, 2, 3, 2), lambda w: F.conv_transpose2d(IMAGE * w.sum(), w, None, (2, 1), (1, 0), (1, 0))),
    "transposed, in groups": weighed((4, 2, 3), lambda w: F.conv_transpose1d(LINE, w, groups=2, dilation=2)),
    "of one image": weighed((2, 4, 3, 3), lambda w: F.conv2d(IMAGE[0], w, padding="same")),
}


CORNERS = torch.arange(9).reshape(1, 1, 3, 3).expand(1, 4, 3, 3)


def pooled(function):
    return lambda w: function(IMAGE * w[:7] + w[3] ** 2)


POOLS = {
    "max": pooled(lambda t: F.max_pool2d(t, 2)),
    "max, overlapping": pooled(lambda t: F.max_pool2d(t, 3, 2, 1, ceil_mode=True)),
    "max, dilated": pooled(lambda t: F.max_pool2d(t, 2, 1, dilation=2)),
    "max of a line": lambda w: F.max_pool1d(LINE * w[:9], 3, 2),
    "adaptive max": pooled(lambda t: F.adaptive_max_pool2d(t, (4, 3))),
    "unpooled": pooled(
        lambda t: F.max_unpool2d(F.avg_pool2d(t, 2), torch.arange(9).reshape(1, 1, 3, 3).expand(1, 4, 3, 3), 2)
    ),
    "average": pooled(lambda t: F.avg_pool2d(t, 3, 2, 1, count_include_pad=False)),
    "average, by a divisor": pooled(lambda t: F.avg_pool2d(t, 2, divisor_override=3)),
    "average of a volume": lambda w: F.avg_pool3d(VOLUME * w[:5], 2, 1),
    "adaptive average": pooled(lambda t: F.adaptive_avg_pool2d(t, (4, 3))),
    "a norm of responses": pooled(lambda t: F.local_response_norm(t, 2)),
    "folded": pooled(lambda t: F.fold(F.unfold(t, 2), (6, 7), 2)),
}

RESIZED = {
    **{
        mode: pooled(lambda t, mode=mode: F.interpolate(t, (9, 4), mode=mode))
        for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
    },
    "by a factor": pooled(lambda t: F.interpolate(t, scale_factor=(1.7, 2), mode="bilinear")),
    "with corners": pooled(lambda t: F.interpolate(t, (4, 9), mode="bicubic", align_corners=True)),
    "smoothed": pooled(lambda t: F.interpolate(t, (4, 3), mode="bilinear", antialias=True)),
    **{
        mode: pooled(lambda t, mode=mode: F.pad(t, (2, 1, 3, 0), mode=mode))
        for mode in ("reflect", "replicate", "circular")
    },
    "shuffled": pooled(lambda t: F.pixel_shuffle(t, 2)),
}

GRID = 1.3 * numbers(1, 3, 2, 2, seed=5.0)

SAMPLED = {
    f"{mode}, {padding}, {corners}": lambda w, m=mode, p=padding, c=corners: F.grid_sample(
        IMAGE[:, :2, :3, :3] * w[0], GRID * w[1] + w[2], m, p, c
    )
    for mode, padding, corners in [
        ("bilinear", "zeros", False),
        ("bilinear", "reflection", True),
        ("nearest", "border", False),
        ("bicubic", "reflection", False),
    ]
}

NORMS = {
    "batch_norm": pooled(lambda t: F.batch_norm(t, None, None, t[0, :, 0, 0], training=True)),
    "group_norm": pooled(lambda t: F.group_norm(t, 2, t[0, :, 0, 0], t[0, :, 1, 0])),
    "instance_norm": pooled(lambda t: F.instance_norm(t)),
}

PLACES = torch.tensor([3, 0, 3, 5, 1])
TABLE = torch.tensor([[0, 2, 2], [5, 5, 5]])

PICKED = {
    "index_put": lambda w: w.index_put((PLACES,), w[:5].exp()),
    "index_put, by two": lambda w: w[:12].reshape(4, 3).index_put((torch.tensor([1, 1]), torch.tensor([0, -1])), w[:2]),
    "index_put, added": lambda w: w.index_put((PLACES,), w[:5].exp(), accumulate=True),
    "by two of three": lambda w: w[:24].reshape(2, 3, 4)[:, TABLE[0], torch.tensor([1, 3, 0])],
    "put": lambda w: w[:12].reshape(3, 4).put(PLACES, w[5:10] ** 2),
    "index_fill": lambda w: w.index_fill(0, PLACES, 2.0) * w,
    "index_copy": lambda w: w.index_copy(0, torch.tensor([7, 2]), w[:2].exp()),
    "masked_scatter": lambda w: w.masked_scatter(torch.arange(len(w)) % 3 == 0, w.sin()),
    "masked_select": lambda w: w.masked_select(torch.arange(len(w)) % 3 == 0) ** 2,
    **{
        f"scatter_reduce, {kind}": lambda w, k=kind: (
            w[:12].reshape(2, 6).scatter_reduce(1, TABLE, w[:6].reshape(2, 3), k)
        )
        for kind in ("sum", "mean", "prod", "amax", "amin")
    },
    "index_reduce": lambda w: w.index_reduce(0, PLACES, w[:5].exp(), "mean", include_self=False),
    "embedding_bag": lambda w: F.embedding_bag(PLACES, w[:18].reshape(6, 3), torch.tensor([0, 2, 2]), mode="max"),
    "segments": lambda w: torch.segment_reduce(w[:6], "prod", lengths=torch.tensor([2, 0, 4])),
}

DISTANCES = {
    **{
        f"cdist, {p}": lambda w, p=p: torch.cdist(w[:12].reshape(4, 3), w[12:21].reshape(3, 3), p)
        for p in (0.5, 1.0, 2.0, 3.0)
    },
    "pdist": lambda w: F.pdist(w[:12].reshape(4, 3)),
    "bilinear": lambda w: F.bilinear(w[:6].reshape(2, 3), w[6:10].reshape(2, 2), w[:18].reshape(3, 3, 2)),
    "multi_margin_loss": lambda w: F.multi_margin_loss(w[:12].reshape(4, 3), torch.tensor([0, 2, 1, 1]), p=2),
    "multilabel_margin_loss": lambda w: F.multilabel_margin_loss(
        w[:6].reshape(2, 3), torch.tensor([[2, -1, 1], [0, 1, -1]])
    ),
    "hardshrink": lambda w: F.hardshrink(w),
    "softshrink": lambda w: F.softshrink(w, 0.3),
    "addbmm": lambda w: torch.addbmm(w[:4].reshape(2, 2), w[:8].reshape(2, 2, 2), w[8:16].reshape(2, 2, 2), alpha=0.5),
}

KINDS = {
    "convolutions": CONVOLUTIONS,
    "pools": POOLS,
    "resized": RESIZED,
    "sampled": SAMPLED,
    "norms": NORMS,
    "picked": PICKED,
    "distances": DISTANCES,
}


@pytest.mark.filterwarnings("ignore:index_reduce:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradient_are_torchs(kind):
    assert off(values_and_gradients(KINDS[kind]), 0.5 * numbers(80)) == {}


@pytest.mark.parametrize("kind", ["sum", "prod", "amax", "amin"])
@pytest.mark.parametrize("shape", [(5, 300), (200, 100)])
def test_what_meets_at_a_place(kind, shape):
    """Also where most goes to one place: long lists are cut."""
    places, count = shape
    generator = torch.Generator().manual_seed(0)
    at = (torch.rand(count, generator=generator) ** 6 * places).long()
    assert torch.bincount(at).max() * places > CROWDED * count or places == 5
    values = 1 + 0.1 * numbers(count, 2)
    start = {"sum": 0.0, "prod": 1.0, "amax": -torch.inf, "amin": torch.inf}[kind]
    want = torch.full((places, 2), start, dtype=values.dtype)
    want = want.scatter_reduce(0, at[:, None].expand(-1, 2), values, kind)
    assert torch.allclose(met(values, at, places, kind), want, rtol=1e-13)


def test_many_lookups_in_a_large_table():
    """Beyond COMPARED a gradient reads what goes to each place, and nothing else."""
    at = (numbers(300) * 50 + 100).long() % 100
    assert 100 * len(at) > COMPARED
    cases = {
        "rows": lambda w: torch.outer(w, torch.arange(1.0, 4.0, dtype=w.dtype))[at] ** 2,
        "gathered": lambda w: w.gather(0, at) ** 2 * torch.arange(300),
    }
    assert off(values_and_gradients(cases), numbers(100)) == {}


X = numbers(6, 2, 3)

LAYERS = {
    "RNN": lambda: nn.RNN(3, 2),
    "RNN with relu, of two layers": lambda: nn.RNN(3, 2, num_layers=2, nonlinearity="relu"),
    "GRU, both ways": lambda: nn.GRU(3, 2, bidirectional=True, batch_first=True),
    "LSTM": lambda: nn.LSTM(3, 2),
    "LSTM, projected": lambda: nn.LSTM(3, 3, proj_size=2, bias=False),
    "RNNCell": lambda: nn.RNNCell(3, 2),
    "GRUCell": lambda: nn.GRUCell(3, 2),
    "LSTMCell": lambda: nn.LSTMCell(3, 2),
    "MultiheadAttention": lambda: nn.MultiheadAttention(3, 1),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(3, 1, 4, dropout=0.0),
}


def of_layer(module):
    own = X[0] if "Cell" in type(module).__name__ else X

    def loss(params, x=own):
        given = (x, x, x) if isinstance(module, nn.MultiheadAttention) else (x,)
        found = torch.utils._pytree.tree_leaves(torch.func.functional_call(module, params, given))
        return sum((out**2 * torch.arange(1, 1 + out.shape[-1])).sum() for out in found)

    return loss


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    torch.manual_seed(0)
    module = LAYERS[name]().double()
    params = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    runs = [descend(of_layer(module), params, learn_rate=0.01, steps=3, backend=b) for b in ("eager", "fused")]
    assert runs[1].loss.tolist() == pytest.approx(runs[0].loss.tolist(), rel=1e-12)
    for key in params:
        assert torch.allclose(runs[0].params[key], runs[1].params[key], rtol=1e-12, atol=1e-14)


class OfSeveralLengths(nn.Module):
    """A layer that goes through packed sequences, of what a layer before has made."""

    def __init__(self, layer, **options):
        super().__init__()
        self.layer, self.before, self.options = layer, nn.Linear(3, 3), options

    def forward(self, x):
        packed = pack_padded_sequence(self.before(x), torch.tensor([4, 6, 2]), enforce_sorted=False)
        out, last = self.layer(packed)
        return pad_packed_sequence(out, **self.options)[0], last


PACKED = {
    "RNN": lambda: OfSeveralLengths(nn.RNN(3, 2)),
    "GRU of two layers with dropout": lambda: OfSeveralLengths(nn.GRU(3, 2, num_layers=2, dropout=0.3)),
    "LSTM, both ways": lambda: OfSeveralLengths(nn.LSTM(3, 2, bidirectional=True), padding_value=0.5, total_length=8),
    "LSTM, projected": lambda: OfSeveralLengths(nn.LSTM(3, 3, proj_size=2, bias=False), batch_first=True),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_sequences(name):
    torch.manual_seed(0)
    module = PACKED[name]().double()
    params = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    loss, x = of_layer(module), numbers(6, 3, 3)
    runs = [
        descend(partial(loss, x=x), params, learn_rate=0.01, steps=3, backend=b, seed=1) for b in ("eager", "fused")
    ]
    assert runs[1].loss.tolist() == pytest.approx(runs[0].loss.tolist(), rel=1e-12)
    for key in params:
        assert torch.allclose(runs[0].params[key], runs[1].params[key], rtol=1e-12, atol=1e-14)


def test_sequences_that_were_packed_before():
    module = nn.GRU(3, 2).double()
    packed = pack_padded_sequence(X, torch.tensor([6, 4]))
    params = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def loss(p, data, counts):
        given = nn.utils.rnn.PackedSequence(data, counts)
        return torch.func.functional_call(module, p, (given,))[0].data.square().sum()

    runs = [descend(loss, params, packed[:2], learn_rate=0.1, steps=3, backend=b).loss for b in ("eager", "fused")]
    assert torch.allclose(*runs, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:running with backend='eager'")
@pytest.mark.parametrize("lengths", [[4, 6], [6], [6, 0]], ids=str)
def test_lengths_that_torch_does_not_take(lengths):
    """It says so, whoever asks."""

    def loss(p):
        return pack_padded_sequence(X * p, torch.tensor(lengths))[0].sum()

    said = []
    for backend in ("eager", "auto"):
        with pytest.raises(RuntimeError) as found:
            descend(loss, torch.ones((), dtype=X.dtype), learn_rate=0.1, steps=1, backend=backend)
        said.append(str(found.value))
    assert said[0] == said[1]
