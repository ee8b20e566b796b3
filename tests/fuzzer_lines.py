"""What random losses are made of: lines of torch code with holes, one table for each kind of line.

Expressions are separated by semicolons; in STATEMENTS, INPLACE and SETITEM a line is one alternative, and semicolons
separate its statements. The holes, all of them of one value {a} (see `fuzzer_writer`):

    {a} {b} {s}     floats: any; one that broadcasts with a; one that broadcasts into a's shape
    {m} {n}         masks that broadcast with a
    {e} {f}         whole numbers that broadcast with a
    {z}             a tensor of the caller's that lines may write to
    {c}             a tensor that requires a gradient and is no param: the loss reaches it through its closure
    {d} {dd}        an axis of a; the same, perhaps counted from the end
    {size} {count}  of that axis; of all elements
    {i} {j}         places along the axis, often near its end; {lo} {hi} the same in order
    {step} {k}      small numbers
    {axes} {keep}   some of a's axes; True or False
    {front}         ':, ' as often as takes an index to the axis
    {shape} {to1} {to3} {cut} {along}  a's shape; with the axis 1, 3, or shorter; with all other axes 1
    {t}             the new value
"""


def alternatives(text):
    """The expressions of a table."""
    return tuple(part.strip() for line in text.strip().splitlines() for part in line.split(";") if part.strip())


def lines(text):
    """The lines of a table, their statements as lines of their own."""
    return tuple(line.strip().replace("; ", "\n") for line in text.strip().splitlines())


UNARY = alternatives("""
torch.sin({a}); torch.cos({a}); torch.tanh({a}); torch.sigmoid({a}); torch.erf({a}); torch.erfc({a}); F.softplus({a})
F.gelu({a}); F.gelu({a}, approximate='tanh'); F.silu({a}); F.mish({a}); F.elu({a}, 0.7); F.selu({a}); F.celu({a}, 0.6)
F.relu({a}); F.relu6(3 * {a}); F.leaky_relu({a}, 0.1); F.hardtanh({a}, -0.77, 0.81); torch.sigmoid({a}) * 2
F.logsigmoid({a}); F.tanhshrink({a}); F.softsign({a}); F.softshrink({a}, 0.3); F.hardshrink({a}, 0.3)
F.threshold({a}, 0.1, 0.05); F.hardswish({a}); F.hardsigmoid({a}); F.prelu({a}, torch.tensor([0.2], dtype=D))
torch.exp(-{a} ** 2); torch.exp(0.3 * {a}); torch.expm1(0.3 * {a}); torch.log1p({a} ** 2); torch.log(1.5 + {a} ** 2)
torch.log2(1.5 + {a} ** 2); torch.log10(1.5 + {a} ** 2); torch.exp2(0.3 * {a}); torch.sqrt(1 + {a} ** 2)
torch.rsqrt(1 + {a} ** 2); torch.reciprocal(1.5 + {a} ** 2); 1 / (1 + {a}.abs()); 2 ** (0.5 * {a})
(2 + torch.sin({a})) ** 1.7; (2 + torch.sin({a})) ** -0.5; {a} ** 2 * 0.3; {a} ** 3 * 0.1; (0.3 * {a}) ** 4
(1.5 + {a} ** 2) ** -1; (1.5 + {a} ** 2) ** -2; {a}.pow(1); {a}.pow(0) + {a}; (2 + {a}.sin()) ** 2.5
torch.abs({a}); torch.neg({a}); -{a}; +{a}; {a}.square(); 1 - {a}; 2 - 0.5 * {a}; 0.5 / (1.5 + {a} ** 2); {a} / 3
{a} * 0.5 + 0.25; torch.atan({a}); torch.asinh({a}); torch.acosh(1.5 + {a} ** 2); torch.atanh(0.5 * torch.tanh({a}))
torch.sinh(0.3 * {a}); torch.cosh(0.3 * {a}); torch.tan(0.3 * {a}); torch.asin(0.5 * torch.tanh({a}))
torch.acos(0.5 * torch.tanh({a})); torch.sinc({a}); torch.erfinv(0.5 * torch.tanh({a})); torch.special.ndtr({a})
torch.special.log_ndtr({a}); torch.special.entr(1.5 + {a} ** 2); torch.lgamma(2.5 + {a} ** 2)
torch.digamma(2.5 + {a} ** 2); torch.special.i0({a}); torch.logit(torch.sigmoid({a})); torch.special.expit({a})
{a}.clamp(-0.7, 0.9); {a}.clamp(min=-0.3); {a}.clamp(max=0.4); {a}.clamp(0.2, -0.1)
torch.clamp({a}, torch.tensor(-0.5, dtype=D), torch.tensor(0.5, dtype=D)); torch.floor(3 * {a}) * 0.1 + {a}
torch.round(3 * {a}) * 0.1 + {a}; torch.trunc(3 * {a}) * 0.1 + {a}; torch.ceil(3 * {a}) * 0.1 + {a}; torch.frac(3 * {a})
torch.round({a}, decimals=2); torch.sign({a}) * {a}; torch.sgn(clean({a})) + {a}; torch.nan_to_num({a}); torch.deg2rad(57 * {a})
torch.rad2deg({a}) / 60; {a}.detach() * {a}; {a} + (torch.round({a}) - {a}).detach(); {a} * ({a} > 0.1)
{a} * ({a} > 0.1).to(D); {a}.where({a} > 0.2, 0.1 * {a}); torch.where({a} > 0, {a}, 0.3 * {a})
torch.where({a}.abs() < 0.5, {a} ** 2, {a}.abs() - 0.25); {a}.masked_fill({a} > 0.5, 0.5)
{a}.masked_fill({a}.detach() > 0.5, 0.25); torch.where({a} > 0, torch.sqrt({a}.clamp(min=1e-3)), {a})
torch.heaviside({a}, torch.tensor(0.5, dtype=D)) * {a}; ({a} != 0) * {a}; (~({a} > 0)) * {a}
(({a} > -0.5) & ({a} < 0.5)) * {a}; (({a} > 0.5) | ({a} < -0.5)).to(D) * {a}; Cube.apply({a}); Flip.apply({a})
Clip.apply({a}, -0.5, 0.6); {a}.clone(); {a}.contiguous(); torch.ones_like({a}) * {a}; {a}.new_zeros({a}.shape) + {a}
torch.zeros_like({a}) + {a}; torch.full_like({a}, 0.3) * {a}; {a}.new_full((1,), 0.7) * {a}; {a}.type_as({a}); {a}.to(D)
{a}.real; {a} - {a}; {a} / {a}.detach().abs().clamp(min=0.5); {a} + 0; {a} * 1; 0 * {a} + 1; {a}.float().to(D); {a}.half().to(D)
""")  # noqa: E501

BINARY = alternatives("""
{a} + {b}; {a} - 0.5 * {b}; 0.5 * {a} * {b}; {a} / (1.5 + {b} ** 2); torch.add({a}, {b}, alpha=0.3)
torch.sub({a}, {b}, alpha=0.3); torch.rsub({a}, {b}, alpha=0.5); torch.maximum({a}, {b} + 0.0123)
torch.minimum({a}, {b} + 0.0123); torch.fmax({a}, {b} + 0.0123); torch.fmin({a}, {b} + 0.0123)
torch.where({a} > {b} + 0.0123, {a}, {b}); torch.where({a} > 0.123, {b}, 0.5); torch.lerp({a}, {b}, 0.3)
torch.lerp({a}, {b}, torch.sigmoid({a})); torch.addcmul({a}, {a}, {b}, value=0.3)
torch.addcdiv({a}, {b}, 1.5 + {a} ** 2, value=0.3); torch.atan2({a}, 1.5 + {b} ** 2); torch.hypot({a} + 2, {b})
torch.fmod({a}, 0.7) + {b}; torch.remainder({a}, 0.7) + {b}; {a} % 0.7 + {b}; {a} % (1.5 + {b} ** 2)
torch.div({a}, 1.5 + {b} ** 2, rounding_mode='floor') * 0.1 + {a}; {a} // 0.7 * 0.1 + {b}
torch.div({a} * 3, 0.7, rounding_mode='trunc') * 0.1 + {b}; (1.5 + {a} ** 2) ** (0.3 * {b}); torch.copysign({a}, {b})
torch.logaddexp({a}, {b}); torch.logaddexp2({a}, {b}); torch.xlogy({a}, 1.5 + {b} ** 2); {a}.masked_fill({b} > 0.3, 0.2)
torch.dist({a}, {b} + 2); F.mse_loss({a}, ({a} + {b}) * 0.5); F.smooth_l1_loss({a}, 0.5 * {a} + 0.1 + 0 * {b})
F.huber_loss({a}, 0.3 * {a} + 0 * {b}); F.l1_loss({a}, {a} * {b}); (({a} > {b}) * {a}); (({a} > {b}) * 2 - 1) * {a}
torch.true_divide({a}, 2 + {b} ** 2); {a} - {b}.detach(); {a} * {b}.detach(); torch.special.xlog1py({a}, {b} ** 2)
torch.float_power(1.5 + {a} ** 2, 0.3 * {b}); ({a} + {b}) * ({a} - {b}); {a} * {b} - {b} * {a} + {a}
torch.where({b} > 0, {a}, {a}.detach()); torch.where(({a} > 0) & ({b} > 0), {a}, {b})
torch.where({a} > 0, {a} / (1.5 + {b} ** 2), 0.0); sum([{a}, {b}, {a}]) * 0.3
torch.stack(torch.broadcast_tensors({a}, {b})).mean(0); torch.addcmul({b}, {a}, {b}); ({a} == {a}) * {b}
F.binary_cross_entropy_with_logits({a}, torch.sigmoid({b}).expand_as({a})); F.gaussian_nll_loss({a}, {b}, 1 + {a} ** 2)
torch.square({a} - {b}).mean(); {a} * {c}.sum() * 0.1; {a} + {c}.mean(); {a} * {c}.flatten()[0]
""")

REDUCTION = alternatives("""
{a}.sum() / 10; {a}.mean(); {a}.amax(); {a}.amin(); {a}.max(); {a}.min(); {a}.norm(); {a}.var(); {a}.std()
torch.linalg.vector_norm({a}, 3); {a}.square().sum().sqrt(); {a}.abs().max(); torch.logsumexp({a}.reshape(-1), 0)
{a}.nansum() / 10; {a}.nanmean(); clean({a}).count_nonzero() * 0.01 + {a}.mean(); torch.linalg.vector_norm({a}, float('inf'))
torch.linalg.vector_norm({a}, 1) / 10; {a}.median(); ({a} > 0).sum() * 0.01 * {a}.mean()
({a} > 0).to(D).mean() * {a}.mean(); (0.5 + 0.01 * {a}).prod(); {a}.var(unbiased=False); torch.var_mean({a})[1]
torch.std_mean({a})[0]; torch.aminmax({a})[0]; {a}.sum({axes}, keepdim={keep}) / 5; {a}.mean({axes}, keepdim={keep})
{a}.amax({axes}, keepdim={keep}); {a}.amin({axes}, keepdim={keep}); {a}.max({dd}, keepdim={keep}).values
{a}.min({dd}, keepdim={keep})[0]; {a}.norm(dim={axes}, keepdim={keep}); {a}.var({axes}, keepdim={keep})
{a}.std({axes}, keepdim={keep}); torch.logsumexp({a}, {axes}, keepdim={keep})
torch.linalg.vector_norm({a}, 3, dim={axes}, keepdim={keep}); {a}.softmax({dd}); {a}.log_softmax({dd}) * 0.2
F.softmin({a}, {dd}); {a}.cumsum({dd}) * 0.1; torch.cumprod(1 + 0.01 * {a}, {dd}); torch.logcumsumexp({a}, {dd}) * 0.3
{a}.cummax({dd}).values; F.normalize({a} + 2, dim={dd}); {a}.sort({dd}).values; {a}.topk(1, {dd}).values
{a}.median({dd}).values; {a}.flip({dd}).cumsum({dd}) * 0.1; (0.5 + 0.01 * {a}).prod({dd}, keepdim={keep})
({a} - {a}.mean({axes}, keepdim=True)) / (1 + {a}.std({axes}, keepdim=True))
{a}.argmax({dd}, keepdim={keep}) * 0.01 * {a}.mean(); {a}.max({dd}).indices * 0.01 + {a}.mean()
F.layer_norm({a}, {a}.shape[-1:]); F.layer_norm({a}, {a}.shape[-1:], {a}.new_ones({a}.shape[-1:]) * 1.5)
{a}.diff(dim={dd}); torch.trapezoid({a}, dim={dd}) * 0.1; F.cosine_similarity({a} + 2, {a} * {a} + 1, dim={dd})
{a}.sum({axes}, keepdim={keep}).clamp(-5, 5); torch.renorm({a} + 1, 2, 0, 1.0); {a}.nansum({dd}, keepdim={keep}) / 5
{a}.all({dd}) * {a}.mean(); ({a} > 0).any({dd}) * {a}.mean(); {a}.std({axes}, unbiased=False, keepdim={keep})
{a}.mean({axes}, keepdim={keep}) * {a}.numel() * 0.01; F.batch_norm({a}, None, None, training=True)
F.instance_norm({a}[None]); torch.linalg.matrix_norm({a}); F.group_norm({a}, 1); F.rms_norm({a}, {a}.shape[-1:])
F.cross_entropy({a}, torch.arange({a}.shape[0]) % {a}.shape[1]); F.nll_loss({a}.log_softmax(-1), torch.arange({a}.shape[0]) % {a}.shape[1])
F.kl_div({a}.log_softmax(-1), {a}.detach().softmax(-1)); {a}.sum((), keepdim={keep}) / 10
""")  # noqa: E501

PRODUCT = alternatives("""
{a} @ {b} / {root}; {a} @ {b}.mT / {root}; F.linear({a}, {b}) / {root}; torch.inner({a}, {b}) / {root}
torch.einsum('...i,...i->...', {a}, {b}) / {root}; torch.dot({a}, {b}) / {root}; {a}.vdot({b}) / {root}
torch.outer({a}, {b}); torch.kron({a}, {b}); {a}[:, None] * {b}; torch.einsum('i,j->ij', {a}, {b})
torch.cdist({a}[:, None], {b}[:, None] + 3); torch.einsum('ij,kj->ik', {a}, {b}) / {root}
torch.einsum('ij,kj->ki', {a}, {b}) / {root}; torch.tensordot({a}, {b}, ([1], [1])) / {root}; torch.cdist({a}, {b} + 3)
torch.addmm(torch.zeros(1, dtype=D), {a}, {b}.t(), alpha=0.3) / {root}; {a}.mm({b}.t()) / {root}
torch.einsum('ij,kj->', {a}, {b}) / {count}; F.linear({a}, {b}, {b}[:, 0]) / {root}; torch.matmul({b}, {a}.T).T / {root}
torch.matmul({a}, {b}) / {root}; {b}.T @ {a} / {root}; torch.mv({b}.t(), {a}) / {root}; torch.bmm({a}, {b}.mT) / {root}
torch.einsum('bij,bkj->bik', {a}, {b}) / {root}; {a}.T @ {b} / {root}; torch.einsum('ni,nj->nij', {a}, {b})
torch.einsum('ni,nj->ij', {a}, {b}) / {root}; torch.linalg.vander({a}, N={k}) * 0.3
torch.stack([{a} ** k for k in range({k})], -1) * 0.3; ({a}[:, None] ** torch.arange({k})) * 0.3
sum(0.2 * {a} ** k for k in range({k})); torch.baddbmm({a} @ {b}.mT, {a}, {b}.mT) / {root}; torch.chain_matmul({a}, {b}) / {root}
F.scaled_dot_product_attention({a}, {b}, {b}); torch.nn.functional.bilinear({a}, {b}, torch.ones(1, {a}.shape[-1], {b}.shape[-1], dtype=D)) / {count}
""")  # noqa: E501

INDEX = alternatives("""
{a}[None]; {a}.reshape(1, 1, -1); {a}.expand(3); {a}.repeat(2); torch.stack([{a}, {a}]); {a}.unsqueeze(0); {a}.view(1)
{a}.flatten(); {a}.permute({order}); {a}.unsqueeze({dd}); {a}[..., None]; {a}.flip({dd}); {a}.reshape(-1)
{a}.transpose(0, {dd}); {a}.movedim({d}, 0); {a}.repeat_interleave(2, {dd}); torch.cat([{a}, 0.5 * {a}], {dd})
torch.stack([{a}, {a}.cos()], {dd}); F.pad({a}, (1, 2)); F.pad({a}, (1, 0), value=0.3); F.pad({a}, (-1, 2)); {a}.tile(2)
{a}.repeat(*[2] * {a}.ndim); {a}.squeeze(); torch.atleast_2d({a}); torch.hstack([{a}, {a}]); torch.vstack([{a}, {a} * 2])
{a}.unfold({d}, 1, 1); {a}.ravel(); {a}.view({shape}); {a}.swapaxes(0, {d}); {a}.view_as({a}); {a}.contiguous().view(-1)
torch.dstack([{a}, {a}]); {a}.roll(1); {a}[{front}{i}]; {a}[{front}{i} - {size}]; {a}[{front}{lo}:{hi} + 1:{step}]
{a}[{front}::{step}]; {a}[{front}{lo}:]; {a}[{front}:{hi} + 1]; {a}.select({dd}, {i}); {a}.narrow({dd}, {lo}, {hi} - {lo} + 1)
{a}.roll({i}, {dd}); {a}[..., -1:]; {a}.index_select({dd}, torch.tensor([{i}, {j}, {i}])); {a}[{front}[{i}, {j}, {i}]]
{a}[{front}torch.tensor([{i}, {j}])]; {a}.chunk(2, {dd})[-1]; {a}.split(max(1, {size} // 2), {dd})[0]
{a}.tensor_split(2, {dd})[-1]; torch.cat([{a}.narrow({d}, {hi}, {size} - {hi}), {a}.narrow({d}, 0, {hi})], {d})
{a}.unbind({dd})[{i}]; sum(p * (k + 1) * 0.1 for k, p in enumerate({a}.unbind({d})[:5]))
torch.take_along_dim({a}, {a}.argsort({d}), {d}); {a}.gather({d}, torch.full({to1}, {i}))
{a}.take(torch.tensor([0, {count} - 1])); {a}.as_strided((1,), (1,)); {a}[{front}{lo}:{hi} + 1:{step}].flip({d})
{a}[{front}{lo}:{hi} + 1] * {a}[{front}{size} - 1 - {hi}:{size} - {lo}].flip({d}); {a}[{front}1:] - {a}[{front}:-1]
{a}[{front}2:] - 2 * {a}[{front}1:-1] + {a}[{front}:-2]; {a}.unfold({d}, 2, 1).mean(-1); {a}.unfold({d}, 3, 2)
{a}[{front}::2].sum() - {a}[{front}1::2].sum(); F.avg_pool1d({a}.reshape(1, 1, -1), 2); F.max_pool1d({a}.reshape(1, 1, -1), 2)
F.conv1d({a}.reshape(1, 1, -1), torch.ones(1, 1, 3, dtype=D) / 3); F.interpolate({a}.reshape(1, 1, -1), scale_factor=2)
F.pad({a}.reshape(1, 1, -1), (1, 1), mode='reflect'); F.pad({a}.reshape(1, 1, -1), (2, 1), mode='circular')
F.pad({a}.reshape(1, 1, -1), (2, 1), mode='replicate'); {a}.squeeze({dd}); {a}.expand({to3}); {a}.unflatten({d}, (2, -1))
{a}.unflatten({d}, (3, -1)).sum({d}) * 0.3; {a}.unflatten({d}, (4, -1)); {a}.unflatten({d}, (-1, 5)).flip({d}); F.glu({a}, {d})
{a}.mT; {a}.tril(); {a}.triu(1); {a}.diagonal(dim1=-2, dim2=-1); torch.rot90({a}, 1, (0, 1)); {a}.tril(-1) + {a}.triu(1)
{a}.flatten(0, 1); torch.trace({a}.reshape({a}.shape[0], -1)); {a}.T; {a}.fliplr(); torch.diag({a}); torch.diag_embed({a})
torch.block_diag({a}, torch.ones(1, 1, dtype=D)); torch.tril(torch.outer({a}, {a}))
{a}[torch.arange({size})[:, None] - torch.arange({size})]; {a}[(torch.arange({size})[:, None] * 3 + torch.arange(2)) % {size}]
{a}[{front}torch.arange({size} - 1, -1, -1)]; {a}[{front}torch.arange({size}) // 2]; {a}[{front}torch.tensor({i})]
{a}.index_select({dd}, torch.full((), {i})); {a}.gather({d}, torch.full((1,) * {a}.ndim, {i}))
{a}.gather({d}, (torch.arange({size}) * 7 % {size}).reshape({along}).expand({shape}))
{a}.gather({d}, torch.full({cut}, {j})); {a}.gather({d}, (torch.arange(2) * {i} % {size}).reshape(-1, *[1] * ({a}.ndim - 1 - {d})))
{a}.gather({d}, {e}.long().reshape({along}) % {size}); {a}[{front}{e}.long() % {size}]; F.embedding({e}.long() % {a}.shape[0], {a})
{a}.index_select({dd}, {e}.long().reshape(-1) % {size}); {a}[{front}-1 - {e}.long() % {size}]; {a}[{m}]; torch.masked_select({a}, {m})
{a}[{m}].reshape(-1)[::2]; {a}[{front}{a}.detach().argmax({d}).clamp(max={size} - 1)]; {a}.gather({d}, {a}.argmax({d}, keepdim=True))
{a}[..., torch.tensor([], dtype=torch.long)]; {a}[:0]; {a}[torch.zeros({a}.shape[0], dtype=torch.bool)]
{a}[[{i}, 0], ..., [{j}, 0]]; {a}[torch.tensor([[{i}], [{j}]]), torch.tensor([0, -1])]; {a}[{i}, ..., -1]; {a}[None, ..., [{i}, -1]]
""")  # noqa: E501

SCATTER = alternatives("""
torch.zeros({shape}, dtype=D).index_add({d}, torch.arange({size}).flip(0), {a})
torch.zeros({to3}, dtype=D).index_add({d}, torch.arange({size}) % 3, {a}) * 0.2
torch.zeros({to3}, dtype=D).scatter_add({d}, (torch.arange({size}) % 3).reshape({along}).expand({shape}), {a}) * 0.2
{a}.scatter_add({d}, torch.full({to1}, {i}), {b}.expand({shape}) * 0.3)
{a}.scatter_add({d}, torch.full({cut}, {i}), 0.1 * {a}); {a}.scatter({d}, torch.full({cut}, {i}), 0.1 * {a})
{a}.scatter({d}, torch.full({to1}, {i}), 0.3); {a}.scatter({d}, torch.tensor({i}), 0.3); {a}.scatter({d}, torch.full((1,) * {a}.ndim, {i}), 0.5)
{a}.scatter({d}, (torch.arange({size}) * 3 % {size}).reshape({along}).expand({shape}), 0.5 * {a})
{a}.scatter({d}, (torch.arange({size}) // 2).reshape({along}).expand({shape}), {a} * 0.5 + 0.1)
{a}.scatter({d}, {a}.argmax({d}, keepdim=True), 0.3); {a}.scatter_add({d}, {a}.argmax({d}, keepdim=True), {a} * 0.3)
{a}.scatter({d}, torch.zeros({shape}, dtype=torch.long)[:0], {a}); {a}.scatter_reduce({d}, torch.full({to1}, {i}), {a}, 'sum')
{a}.index_add({d}, torch.tensor([{i}, {j}, {i}]), {b}.expand({to3}) * 0.3); {a}.index_add({d}, torch.tensor({i}), {a}.select({d}, 0) * 0.3)
{a}.index_put((torch.tensor([{i}, 0, {i}]),), torch.tensor(0.5, dtype=D), accumulate=True)
{a}.index_put((torch.tensor([-1, {i}]),), {a}[:1] * 0.3, accumulate=True)
{a}.index_put((torch.tensor([{i}]), torch.tensor([-1])), {b}.sum() * 0.01, accumulate=True)
{a}.index_put((torch.tensor([{i}]),), torch.tensor(0.5, dtype=D)); {a}.index_fill({d}, torch.tensor([{i}]), 0.3)
{a}.index_copy({d}, torch.tensor([{i}]), {a}.narrow({d}, {j}, 1) * 2); {a}.slice_scatter({a}[{front}{lo}:] * 2, {d}, {lo})
{a}.select_scatter({a}.select({d}, 0) * 2, {d}, {i}); {a}.diagonal_scatter({a}.diagonal() * 2); {a}.masked_scatter({m}, {a})
torch.zeros({size}, dtype=D).scatter_add(0, {e}.long().reshape(-1) % {size}, {a}.reshape(-1)) * 0.1
torch.bincount({e}.long().reshape(-1) % 7, minlength=7)[0] * 0.01 * {a}; F.one_hot({e}.long() % 5, 5).to(D) * {a}[..., None]
torch.stack([{a}.select({d}, {i}), {a}.select({d}, {j})]).index_add(0, torch.tensor([1]), {a}.select({d}, 0)[None])
""")  # noqa: E501

JOIN = alternatives("""
torch.cat([{a}.narrow({d}, 0, {lo}), {a}.narrow({d}, {hi}, {size} - {hi}) * 2, {a}.narrow({d}, 0, 1)], {d})
torch.cat([{a}.sum({d}, keepdim=True) * 0.1, {a}, {a}.mean({d}, keepdim=True)], {d})
torch.cat([{a}[:0], {a}, {a}[:{k}]]); torch.cat([torch.zeros(0, dtype=D), {a}]); torch.cat([{a}, {b}], {d}); torch.cat([{b}, {a}, {b}], {dd})
torch.cat([{a}.reshape(-1), {b}.reshape(-1)]); torch.cat([{b}.reshape(-1)[:3], {a}.reshape(-1)[1:], {b}.reshape(-1)])
torch.cat([{a}.reshape(-1), {b}.reshape(-1)]).softmax(0); torch.cat([{a}.reshape(-1), {b}.reshape(-1)]).flip(0).cumsum(0) * 0.05
torch.cat([{b}.reshape(-1), {a}.reshape(-1)]).diff(); torch.cat([{a}.reshape(-1)[:7], {b}.reshape(-1)]).amax()
torch.cat([{a}.reshape(-1), {b}.reshape(-1)])[1::2]; torch.cat([{a}.reshape(-1), {b}.reshape(-1)]).roll(3)
torch.cat([{a}.reshape(-1), {b}.reshape(-1)[:1]]).square().mean(); torch.cat([{a}, {b}], {d}).sum({d}) * 0.2
(lambda u: u - u.mean())(torch.cat([{a}.reshape(-1), {b}.reshape(-1)])); (lambda u: u @ u.flip(0) / len(u))(torch.cat([{a}.reshape(-1), {b}.reshape(-1)]))
(lambda u: u * u.roll(1))(torch.cat([{b}.reshape(-1), {a}.reshape(-1)[:{k}], {b}.reshape(-1) * 2]))
torch.cat([{a}.reshape(-1), {b}.reshape(-1)])[torch.tensor([0, -1, {count} - 1])]; torch.stack([{a}, {b}.expand({shape}), {a} * 2]).amax(0)
torch.stack([{a}, {b}.expand({shape})], -1).flatten(); torch.stack([{a}.sum(), {b}.mean(), {a}.max()]).softmax(0)
torch.stack([{a}.sum(), {b}.mean()])[[0, 1, 0]]; torch.cat([{a}, {a} * {m}], {d}); torch.cat([{a}.unsqueeze(0), {a}.sin()[None], {b}.expand({shape})[None]]).var(0)
torch.cat([p * k for k, p in enumerate({a}.split({k}, {d}))], {d}) * 0.3; torch.cat(list({a}.chunk(3, {d}))[::-1], {d})
torch.cat([{a}.tril(), {a}.triu()], -1).sum(-1) * 0.2; torch.cat([{a}[..., -1:], {a}[..., :-1]], -1) - {a}
torch.cat([{a}.reshape(-1), {b}.reshape(-1), {a}.reshape(-1)]).reshape(-1, 1).mT.mean(); torch.column_stack([{a}, {b}])
""")  # noqa: E501

MASK = alternatives("""
{a} > 0.1; {a} <= {b}; ({a} > 0) & ({b} < 0.3); {m} & {n}; {m} | {n}; {m} ^ {n}; ~{m}; {m} + {n}; {m} * {n}; {m} + {m}; {m} == {n}
{m} != {n}; {m} < {n}; {m} >= {n}; torch.logical_and({m}, {n}); torch.logical_xor({m}, clean({a})); torch.logical_not(clean({a})); {m}.any({dd})
{m}.all({dd}, keepdim={keep}); {m}.any(); {m}.all(); torch.cat([{m}, {n}], {d}); torch.stack([{m}, {m}]); {m}.flip({d}); {m} + True; {m} * False
torch.where({m}, {n}, {a} > 0.2); {m}.clone().logical_not(); {a}.isnan(); {a}.isfinite(); {a}.isinf(); clean({a}).bool(); {e} > 1; {e}.bool()
{e} == {f}; {e} != 0; {m}.masked_fill({n}, True); {m}.to(torch.uint8) == 1; ({m} + {n}) & {m}; {m}.amax({d}); {m}.prod({d}) > 0
torch.maximum({m}, {n}); torch.minimum({m}, {n}); {m}.to(D) > {a}; torch.isclose({a}, {b}); clean({a}).signbit(); {m}[{front}{i}]; {m}.cumsum({d}) > 1
{m}.roll(1, {d}); {m}.gather({d}, torch.full({to1}, {i})); ({a} > {b}).reshape(-1); {m}.expand({shape}); {m}.sum({d}) > 1; {m}.mT
torch.tensor(True); torch.zeros({shape}, dtype=torch.bool); torch.ones({shape}, dtype=torch.bool).tril()
""")  # noqa: E501

WHOLE = alternatives("""
({a} * 5).to(torch.int64); ({a} * 5).abs().to(torch.uint8); ({a} * 5).to(torch.int32); ({a} * 5).to(torch.int8); {a}.detach().long(); {m}.long(); {m}.to(torch.uint8)
{m}.sum({d}); {m}.sum(); {m}.cumsum({d}); {m} + 1; {m} * 3; {m}.int() + {n}; {m}.to(torch.int8) * 100; {m}.to(torch.uint8) + 255; {m}.to(torch.uint8) - 1
{m}.to(torch.int16) * 300 * 200; {m}.to(torch.int32) * 2 ** 30 * 4; {m}.long() * 2 ** 62 * 2; {e} + {f}; {e} - {f}; {e} * {f}; {e} // 2; {e} % 3; {e} // ({f}.abs() + 1)
{e} % ({f}.abs() + 1); {e} // -2; {e} % -3; -{e}; {e}.abs(); {e} & 3; {e} | 4; {e} ^ {f}; ~{e}; {e} << 2; {e} >> 1; {e} ** 2; {e}.sign(); {e}.square()
{e} * 100; {e} + 200; {e} - 200; {e}.to(torch.uint8); {e}.to(torch.int8); {e}.to(torch.int16); {e}.to(torch.int32); {e}.long(); {e}.cumsum({d}); {e}.sum(); {e}.sum({d})
{e}.prod({d}); {e}.amax({d}); {e}.amin(); {e}.max({d}).values; {e}.clamp(-2, 3); {e}.clamp(min=1); torch.maximum({e}, {f}); torch.minimum({e}, {f})
torch.where({m}, {e}, {f}); torch.where({m}, {e}, 0); torch.where({a} > 0, 1, -1); torch.where({m}, 3, {e}); {e}.masked_fill({m}, 7); torch.cat([{e}, {e} * 2], {d})
torch.stack([{e}, {e}]); {e}.flip({d}); {e}[{front}{i}]; {e}.roll(1, {d}); {e}.gather({d}, torch.full({to1}, {i})); {a}.argmax({d}); {a}.argmin(); {a}.argmax({d}, keepdim=True)
torch.div({e}, 3, rounding_mode='trunc'); torch.div({e}, -3, rounding_mode='floor'); torch.fmod({e}, 3); torch.remainder({e}, -3); torch.bitwise_and({e}, {f})
torch.bitwise_not({e}); torch.bitwise_left_shift({e}, 3); torch.gcd({e}, {f}); {e}.count_nonzero(); clean({a}).count_nonzero(); ({e} > 1) + 1; {e} + True; {e} - {m}.long()
torch.arange({size}); torch.arange({size}) * {e}; {e}.expand({shape}); {e}.mT; torch.bucketize({a}, torch.linspace(-1, 1, 5, dtype=D)); torch.searchsorted(torch.linspace(-1, 1, 5, dtype=D), {a})
torch.ones_like({e}); torch.zeros_like({e}) + {f}; torch.full_like({e}, 5); {e}.index_add({d}, torch.tensor([{i}]), {e}.narrow({d}, 0, 1)); {e}.float().to(torch.int64)
{e}.scatter_add({d}, torch.full({to1}, {i}), {e}); torch.tensor({i}); {e} * 10 ** 8; {e}.long() * 2 ** 40; {e} + 2 ** 53; {e}.long() + 2 ** 24; {e}.short() * 3
torch.heaviside({e}, {f}); torch.floor_divide({e}, 2); {e}.remainder({f} + 100); {e} @ {f}; torch.dot({e}, {f}); {e}.diff(); {e}.topk(1).values; {e}.sort().values
""")  # noqa: E501

MIXED = alternatives("""
torch.where({m}, {a}, 0.3 * {a}); {a} * {m}; {a}.masked_fill({m}, 0.1); {a} + {m}; torch.where({m}, {a}, 0.0); {a} * ~{m}; ({a} * {m}).sum() / ({m}.sum() + 1)
{a} * ({m} + {n}); {a} + ({m} * {n}); torch.where({m} + {n}, {a}, {b}); {a} * ({m} + {m}).sum() * 0.01; {a} - {m}.to(D); {a} * {m}.to(D).mean(); {a} / ({m} + 1)
{a} ** {m}; ({a} * {m}).amax(); {a} * ({m} ^ {n}); torch.where({m}, {a}, {n}); torch.where({m}, 0.5, {a}); {a} * (1 - {m}.to(D)); {a} * {m}.sum({d}, keepdim=True) * 0.1
{a} * {m}.any({d}, keepdim=True); torch.where({m}, {a}.sum({d}, keepdim=True) * 0.1, {a}); {a} * {e} * 0.02; {a} + torch.tanh({e}.to(D) * 0.1); torch.where({e} > 1, {a}, 0.2 * {a})
{a} / ({e}.abs() + 1); {a} * ({e} % 2); (1.5 + 0.1 * {a}) ** ({e} % 4); {a} * ({e} // 2 % 5) * 0.1; {a} * {e}.to(D).sin(); {a} * torch.where({e} > {f}, 1, 2); torch.tanh({a} * {e} * 0.1)
{a} + ({e} == {f}); {a} * torch.tanh({e} * 0.1); {a} - 0.1 * torch.sin({e}.to(D)); {e} / 3 * {a} * 0.1; {a} * torch.sqrt({e}.abs() + 1) * 0.1; {a} * torch.exp(-{e}.to(D) ** 2); {e} * 0.5 * {a} * 0.1
torch.true_divide({e}, 7) * {a} * 0.1; {e}.to(D).mean() * {a} * 0.01; torch.maximum({a}, {e}.to(D) * 0.1); {a} * {o}.to(D); {a} + {o}.to(D); {a} * {o}; {a} + {o}; torch.maximum({a}, {o}.to(D))
""")  # noqa: E501

INPLACE = lines("""
{t} = {a} * 1.0; {t} += {s}
{t} = {a} * 1.0; {t} *= 0.5; {t} -= {s}
{t} = {a} + 0.1; {t}.mul_({s}).mul_(0.5)
{t} = {a}.clone(); {t}.add_({s}, alpha=0.3)
{t} = torch.zeros({shape}, dtype=D); {t} += {a}; {t} += {s}
{t} = torch.zeros({shape}, dtype=D); {t} = {t} + {a}; {t} *= 0.5
{t} = torch.sin({a}); {t}.clamp_(-0.5, 0.6)
{t} = {a}.clone(); {t}.zero_(); {t} = {t} + {s} + 0 * {a}
{t} = {a}.clone(); {t}.copy_({s}.expand({shape})); {t} = {t} + {a}
{t} = {a} * 2; {t}.neg_(); {t}.tanh_()
{t} = {a} + 0; {t}.sigmoid_()
{t} = {a} * 1.0; {t}.relu_()
{t} = {a} * 1.0; {t}.masked_fill_({s} > 0.3, 0.2)
{t} = torch.zeros_like({a}); {t}.copy_({a})
{t} = torch.empty({shape}, dtype=D).fill_(0.3); {t} = {t} * {a}
{t} = {a} * 1.0; w{t} = {t} * {s}; {t} += 1; {t} = {t} + w{t}
{t} = {a} * 1.0; w{t} = {t}.detach(); {t} = {t} * w{t}
{t} = torch.ones({shape}, dtype=D); w{t} = {t} * 2; {t}.add_({a}); {t} = {t} + w{t}
{t} = torch.ones({shape}, dtype=D); w{t} = {t}.sum() * {a}.mean(); {t}.add_(1); {t} = {t} * {a} + w{t} * 0.01
{t} = torch.arange({count}, dtype=D).reshape({shape}) / {count}; w{t} = {t} * {a}; {t} += 1; {t} = {t} * {a} * 0.1 + w{t} * 0.1
{t} = {a} * 1.0; w{t} = {t}.reshape(-1); {t} += {s}; {t} = {t} + w{t}.mean()
{t} = {a} * 1.0; w{t} = {t}[...]; w{t} += {s}
{t} = {a} * 1.0; w{t} = {t}.detach(); {t} += 1; {t} = {t} + w{t}
{t} = {a}.detach().clone(); w{t} = {t}.view(-1); {t}.mul_(0.5); {t} = {a} + w{t}.sum() * 0.01
{t} = torch.zeros({shape}, dtype=D); w{t} = {t}.view(-1); {t} += 1; {t} = {a} * w{t}.reshape({shape})
{t} = torch.zeros({shape}, dtype=D); w{t} = {t} * {a}; {t} += {a}; {t} = {t} * 0.5 + w{t}
{t} = torch.ones({shape}, dtype=D); {t}.cumsum_(0); {t} = {a} * {t} / {count}
{t} = torch.full({shape}, 2, dtype=torch.uint8); {t} *= 200; {t} = {a} * {t} * 0.01
{t} = torch.zeros({shape}, dtype=torch.bool); {t} |= {a} > 0; {t} = {a} * {t}
{t} = {m} & {n}; {t} ^= {m}; {t} = {a} * {t}
{t} = {a} > 0; {t}.logical_not_(); {t} = {a} * {t}
{t} = ({a} * 5).to(torch.int64); {t} += 1; {t} %= 4; {t} = {a} * {t} * 0.3
{t} = {a}.clone(); {t}.t_() if {a}.ndim == 2 else None
{t} = {a}.clone(); {t}.unsqueeze_(0)
""")  # noqa: E501

SETITEM = lines("""
{t} = {a} * 1.0; {t}[{front}{i}] = 0.3
{t} = {a} * 1.0; {t}[{i}] = {t}[0] * 2
{t} = torch.zeros({shape}, dtype=D); {t}[{i}] = {a}[{i}]
{t} = torch.zeros({shape}, dtype=D); {t}[::2] = {a}[::2]
{t} = {a}.clone(); {t}[{i}:] *= 0.5
{t} = {a}.clone(); {t}[..., 0] += 1
{t} = torch.ones({shape}, dtype=D); {t}[{i}] = 5; {t} = {t} * {a} * 0.2
{t} = torch.ones({shape}, dtype=D); w{t} = {t}[{i}:]; w{t} *= 3; {t} = {t} * {a} * 0.2
{t} = torch.zeros({shape}, dtype=D); {t}[{m}] = 1; {t} = {t} * {a}
{t} = torch.zeros({shape}, dtype=torch.long); {t}[{front}{i}:] = {i}; {t} = {a}.gather({d}, {t})
{t} = torch.arange({size}); {t}[{i}] = 0; {t} = {a}.index_select({d}, {t})
{t} = torch.arange({size}); w{t} = {a}.index_select({d}, {t}); {t}.copy_({t}.flip(0)); {t} = {a}.index_select({d}, {t}) - 0.5 * w{t}
{t} = torch.ones({shape}, dtype=D); w{t} = {t}[{front}{i}:] * {a}[{front}{i}:]; {t}[{front}{i}] = 3; {t} = {t} * {a}; {t} = {t}.sum() * 0.1 + w{t}
{t} = {a}.clone(); {t}[{m}] = 0.1
{t} = {a}.clone(); {t}.index_fill_({d}, torch.tensor([{i}]), 0.2)
{t} = {a}.clone(); {t}.scatter_({d}, torch.full({to1}, {i}), 0.2)
{t} = {a}.clone(); {t}.index_add_({d}, torch.tensor([{i}]), {a}.narrow({d}, {j}, 1))
{t} = {a}.clone(); {t}.scatter_add_({d}, torch.full({to1}, {i}), {a})
""")  # noqa: E501

STATEMENTS = lines("""
{t} = {a}; for turn in range({k}): {t} = torch.tanh({t} * 0.7 + {s} * 0.3)
{t} = {a}; for k in range({k}): {t} = {t} + 0.1 * torch.sin({t} + k)
{t} = {a}; for k in range({k}): {t} = {t} - 0.1 * ({t} ** 3 * 0.1 - {s})
{t} = sum(torch.sin((k + 1) * {a}) / (k + 1) for k in range({k}))
with torch.no_grad(): {t} = {a} * 2; {t} = {t} * {s}
with torch.no_grad(): w{t} = {a}.mean(); {t} = {s} - w{t}
{t} = {a} * 1.0; {t}.register_hook(lambda g: g * 0.5) if {t}.requires_grad else None
{t} = {a} * 1.0; {t}.register_hook(lambda g: g.clamp(-0.01, 0.01)) if {t}.requires_grad else None
from torch.utils.checkpoint import checkpoint; {t} = checkpoint(lambda u: torch.tanh(u * 0.5) + u, {a}, use_reentrant=False)
{t} = torch.func.vmap(lambda u: torch.sin(u) * 0.5)({a}) if {a}.ndim else {a}
{t} = torch.func.vmap(lambda u: u.sum() * 0.1 + u)({a}) if {a}.ndim > 1 else {a}
{t} = torch.func.jvp(lambda u: torch.tanh(u) * u, ({a},), (torch.ones_like({a}),))[1]
{t} = torch.func.grad(lambda u: torch.tanh(u).sum())({a})
{t} = torch.func.vmap(torch.func.grad(lambda u: torch.tanh(u) * u))({a}.reshape(-1)).reshape({shape})
w{t} = {a}.detach().clone().requires_grad_(); {t}, = torch.autograd.grad((torch.sin(w{t} * 2) * w{t}).sum(), w{t}, create_graph=True); {t} = {t} * {s}
w{t} = num({shape}, 77).requires_grad_(); {t}, = torch.autograd.grad((torch.tanh(w{t} * {a})).sum(), w{t}, create_graph=True)
w{t} = num({shape}, 78).requires_grad_(); u{t}, = torch.autograd.grad((torch.tanh(w{t} * {a})).sum(), w{t}, create_graph=True); {t}, = torch.autograd.grad(u{t}.sum(), w{t}, create_graph=True)
{t}, = torch.autograd.grad((torch.tanh({a}) * {a}).sum(), {a}, create_graph=True) if {a}.requires_grad else ({a},)
{t}, = torch.autograd.grad((torch.tanh({c}) * {a}.mean()).sum(), {c}, create_graph=True); {t} = {a} * {t}.sum() * 0.1
w{t} = [{a}, {s} * 2]; {t} = w{t}[0] * 0.5 + w{t}[1].mean()
w{t} = dict(u={a}, v={s}); {t} = w{t}['u'] - w{t}['v'] * 0.2
{t} = torch.where({a} > 0, torch.sqrt({a}.abs() + 1e-3), {s})
{t} = torch.where({a}.detach() > 0, {a} ** 2 * 0.2, {s})
{t} = torch.where({a} > 0.5, {a}, torch.sqrt({a} - 0.5).nan_to_num(0.1))
{t} = F.dropout({a}, 0.0, True)
{t} = F.dropout({a}, 0.5, False)
{t} = {a} * {size} * 0.01 + {s} * len({a}.shape) * 0.1
{t} = {a} * num({shape}, 33)
{t} = {a} + torch.linspace(0, 1, {count}, dtype=D).reshape({shape})
{t} = {a} + torch.tensor(0.25, dtype=D)
{t} = {a} * torch.eye({a}.shape[-1], dtype=D)[0] if {a}.ndim else {a}
{t} = {a} * torch.ones({a}.shape[-1], dtype=D) if {a}.ndim else {a}
{t} = {c} * {c}; {t} = {a} * {t}.mean()
w{t} = torch.arange({size}, dtype=D).reshape({along}) / {size}; {t} = {a} * torch.cos(w{t})
w{t} = torch.tensor([{i}, {j}]); {t} = {a}.index_select({d}, w{t}) + {a}.index_select({d}, w{t}.flip(0))
w{t} = {a}.sum({d}, keepdim=True); {t} = torch.cat([{a}, w{t}], {d}) * w{t} * 0.1
w{t}, u{t} = {a}.chunk(2, {d}); {t} = torch.cat([u{t}, w{t} * 2], {d})
{t} = torch.empty(0, {k}, dtype=D); {t} = {a} + {t}.sum()
{t} = {a}[:0].sum() + {a}
{t} = {a} + ({a}[:0].reshape(0, 3) @ torch.ones(3, 2, dtype=D)).sum()
{t} = torch.zeros(2, 0, dtype=D) @ {a}.reshape(-1)[:0].reshape(0, 2); {t} = {t}.sum() + {a}
{t} = {a}[{a}.detach() > 100] if not {a}.requires_grad else {a}[:0]; {t} = {t}.sum() + {a} * {t}.numel() + {a}
{t} = {a} + {a}[..., :0].sum(-1).mean()
{t} = {a} * {a}[:0].prod()
{t} = {a} + {a}[:0].sum(0)
{t} = torch.cat([{a}[:0].sum(0, keepdim=True), {a}])
w{t} = {m} + {n}; {t} = torch.where(w{t}, {a}, {s}) + w{t}.sum() * 0.01
""")  # noqa: E501

LINEAR = alternatives("""
torch.linalg.inv(matrix({a}, {k})); torch.linalg.det(matrix({a}, 3)) * 0.1; torch.linalg.slogdet(matrix({a}, {k}))[1]
torch.linalg.solve(matrix({a}, 3), picked({b}, 3, 2)); torch.linalg.solve(matrix({a}, {k}), picked({b}, {k}))
torch.linalg.cholesky(matrix({a}, 3) @ matrix({a}, 3).mT); torch.linalg.qr(matrix({a}, 3))[1]; torch.trace(matrix({a}, {k}))
torch.linalg.cholesky_ex(matrix({a}, {k}) @ matrix({a}, {k}).mT)[0].diagonal().log(); torch.linalg.matrix_power(matrix({a}, 2), 3) * 0.1
torch.linalg.solve_triangular(matrix({a}, 3), picked({b}, 3, 2), upper=True); torch.linalg.matrix_exp(0.2 * matrix({a}, 2))
torch.cholesky_solve(picked({b}, 3, 1), torch.linalg.cholesky(matrix({a}, 3) @ matrix({a}, 3).mT)); torch.linalg.pinv(matrix({a}, 2))
torch.linalg.eigvalsh(torch.diag(torch.arange(3, dtype=D)) + 0.1 * (matrix({a}, 3) + matrix({a}, 3).mT)); torch.linalg.multi_dot([matrix({a}, 2)] * 3) * 0.1
torch.linalg.svdvals(torch.diag(torch.arange(2, 5, dtype=D)) + 0.1 * matrix({a}, 3)); torch.linalg.inv(torch.stack([matrix({a}, 2), matrix({b}, 2)]))
torch.linalg.inv(matrix({a}, 9)); torch.linalg.solve(matrix({a}, 11), picked({b}, 11, 2)); torch.linalg.slogdet(matrix({a}, 9))[1]
torch.linalg.cholesky(matrix({a}, 12) @ matrix({a}, 12).mT); torch.linalg.solve_triangular(matrix({a}, 9), picked({b}, 9, 1), upper=False)
torch.linalg.solve_triangular(matrix({a}, 10).mT, picked({b}, 10, 3), upper=True); torch.linalg.solve(matrix({a}, 9), picked({b}, 9), left=True)
torch.linalg.lu_factor(matrix({a}, 3))[0]; torch.linalg.cross(picked({a}, 4, 3), picked({b}, 4, 3).flip(0) + 1); torch.linalg.vecdot(picked({a}, 4, 3), picked({b}, 4, 3))
""")  # noqa: E501

COMPLEX = alternatives("""
torch.fft.rfft({a}, dim={dd}).real * 0.1; torch.fft.rfft({a}, dim={dd}).imag * 0.1; torch.view_as_real(torch.fft.fft({a}, dim={dd})) * 0.1
torch.fft.irfft(torch.fft.rfft({a}, dim={dd}) * 2, n={size}, dim={dd}); torch.fft.ifft({a}, dim={dd}).real; torch.fft.fft(picked({a}, 12)).abs().square() * 0.01
torch.fft.fft2(picked({a}, 3, 4)).real * 0.1; torch.fft.fftshift({a}, {dd}); torch.fft.hfft(picked({a}, 5)) * 0.1; torch.fft.ifft2(picked({a}, 4, 4)).imag
(torch.complex({a}, 0.5 * {a}) * (0.3 + 0.4j)).real; torch.complex({a}, {b} + 0 * {a}).abs().square() * 0.1; (torch.complex({a}, {a} + 2)).abs()
torch.view_as_real(torch.polar(1 + {a} ** 2, {a})).sum(-1) * 0.1; torch.exp(torch.complex(0 * {a}, {a})).real; torch.angle(torch.complex(2 + {a} ** 2, {a}))
(1j * {a}).imag * 2; torch.complex({a}, {a}).conj().imag; (torch.complex({a}, 1 + 0 * {a}) ** 2).real; (1 / torch.complex(2 + {a} ** 2, {a})).imag
torch.view_as_complex(torch.stack([{a}, 0.5 * {a}], -1)).sum().real * 0.1; (torch.complex({a}, {b} + 0 * {a}) @ torch.complex({a}, {a})).real * 0.01 if {a}.ndim == 1 else {a}
""")  # noqa: E501

IMAGE = alternatives("""
F.conv2d(picked({a}, 1, 1, 4, 5), num((2, 1, 3, 3), 5)) * 0.2; F.conv2d(num((1, 2, 5, 4), 6), picked({a}, 3, 2, 2, 2), padding=1, stride=2) * 0.2
F.conv2d(picked({a}, 2, 2, 4, 4), num((4, 1, 2, 2), 7), groups=2, dilation=2) * 0.2; F.conv_transpose2d(picked({a}, 1, 2, 3, 3), num((2, 1, 2, 2), 8), stride=2) * 0.2
F.conv1d(picked({a}, 2, 2, 9), picked({b}, 3, 2, 3), padding='same') * 0.2; F.conv3d(picked({a}, 1, 1, 3, 3, 3), num((1, 1, 2, 2, 2), 9)) * 0.2
F.max_pool2d(picked({a}, 1, 2, 4, 6) + num((4, 6), 3), 2); F.avg_pool2d(picked({a}, 1, 2, 5, 5), 3, 2, 1); F.adaptive_avg_pool2d(picked({a}, 1, 1, 5, 7), 3)
F.adaptive_max_pool2d(picked({a}, 1, 1, 5, 4) + num((5, 4), 4), 2); F.lp_pool1d(picked({a}, 1, 1, 8) + 2, 2, 2); F.unfold(picked({a}, 1, 1, 4, 4), 2) * 0.3
F.interpolate(picked({a}, 1, 1, 3, 4), scale_factor=2, mode='bilinear'); F.fold(picked({a}, 1, 4, 9), (4, 4), 2) * 0.3; F.pixel_shuffle(picked({a}, 1, 4, 2, 2), 2)
F.batch_norm(picked({a}, 4, 3, 2), torch.zeros(3, dtype=D), torch.ones(3, dtype=D), training=True); F.group_norm(picked({a}, 2, 4, 3), 2)
F.max_pool1d(picked({a}, 1, 1, 9) + num((9,), 5), 3, 1, 1); F.grid_sample(picked({a}, 1, 1, 4, 4), 0.5 * torch.tanh(picked({b}, 1, 2, 2, 2)), align_corners=False)
""")  # noqa: E501

DRAWN = alternatives("""
{a} * torch.rand_like({a}.detach()); {a} + 0.1 * torch.randn({shape}, dtype=D); F.dropout({a}, 0.3); {a} * (torch.rand({shape}) > 0.4); F.alpha_dropout({a}, 0.2)
{a} * torch.bernoulli(torch.full({shape}, 0.4, dtype=D)); torch.normal({a}, 0.1); {a} * torch.empty({shape}, dtype=D).uniform_(-1, 2)
{a} + 0.1 * torch.empty({shape}, dtype=D).exponential_(); {a} * torch.randint(0, 3, {shape}); {a}.reshape(-1)[torch.randint({count}, (3,))]; {a}[torch.randperm({a}.shape[0])]
torch.distributions.Normal({a}, 1 + {a} ** 2).rsample() * 0.1; sum({a} * torch.rand(()).to(D) for _ in range({k})) * 0.3; {a} * torch.randn((), dtype=D)
""")  # noqa: E501

KEPT = lines("""
with torch.no_grad(): {z}.mul_(0.9).add_(0.1 * {a}.mean()); {t} = {a} + {z}.mean()
{t} = {a} * {z}.mean(); {z}.add_(0.1)
{z}.lerp_(torch.tanh({a}.detach().mean()).expand({z}.shape), 0.3); {t} = {a} * {z}.sum() * 0.1
{z}.copy_(torch.maximum({z}, {a}.detach().amax())); {t} = {a} - {z}.mean()
{z}.view(-1)[:1].mul_(0.5); {t} = {a} + {z}.view(-1)[0]
{z}.data.clamp_(-0.5, 0.5); {t} = {a} * {z}.square().mean()
w{t} = {z}.clone(); {z}.neg_(); {t} = {a} * (w{t} * {z}).mean()
torch.add({z}, {a}.detach().mean(), alpha=0.1, out={z}); {t} = {a} + 0.1 * {z}.mean()
""")

BRANCH = lines("""
{t} = {a} * 2 if {a}.detach().sum().item() > 0.1 else {a} - 0.5
{t} = {a} * 0.5 if ({a} > 0.3).any() else {a} + 0.25
{t} = torch.sin({a}) if bool({a}.detach().mean() < {s}.detach().mean()) else torch.cos({a})
{t} = -{a} if ({a}.detach().amax() > 0.7).item() else {a}; {t} = {t} * 0.5 if ({t}.detach().amin() < 0).item() else {t}
assert {a}.detach().sum() < 1e6; {t} = {a} * 0.7
{t} = {a} / 2 if torch.equal({a}, {a} * 1) else {a}
{t} = {a} + 0.1 if {m}.all() else {a} - 0.1
""")

KINDS = {  # kind: (its table, how often it is drawn, what its result is)
    "unary": (UNARY, 4, "float"),
    "binary": (BINARY, 5, "float"),
    "mask": (MASK, 3, "mask"),
    "whole": (WHOLE, 3, "whole"),
    "mixed": (MIXED, 5, "float"),
    "reduction": (REDUCTION, 4, "float"),
    "product": (PRODUCT, 3, "float"),
    "index": (INDEX, 5, "float"),
    "scatter": (SCATTER, 2, "float"),
    "join": (JOIN, 3, "float"),
    "inplace": (INPLACE, 2, "float"),
    "setitem": (SETITEM, 1, "float"),
    "statements": (STATEMENTS, 3, "float"),
    "linear": (LINEAR, 2, "float"),
    "complex": (COMPLEX, 2, "float"),
    "image": (IMAGE, 2, "float"),
    "draws": (DRAWN, 2, "float"),
    "kept": (KEPT, 3, "float"),
    "branch": (BRANCH, 1, "float"),
}

RARELY = alternatives("""
sort(; median; copysign; atan2; cummax; cdist; logcumsumexp; digamma; lgamma; softshrink; hardshrink; .take(
log_ndtr; .i0(; topk(; as_strided; erfinv; avg_pool; max_pool; conv1d; interpolate; replicate; func.jvp
func.vmap; func.grad; masked_scatter; entr(; unfold(; index_fill; index_copy; _scatter(; gcd(; bucketize
searchsorted; signbit; .half(; .float(; bincount; one_hot; {o}; hardswish; <<; >>; ~{e}; logaddexp2
index_put; isclose; argmax; argmin; * 5).to(; * 5).abs().to(; {e} / 3; true_divide({e}; masked_select; {a}[{m}]
.indices; {e} & ; {e} | ; {e} ^ ; bitwise
""")
"""What is refused wherever it is: kept, in one of ten, so that a new rule is tried as soon as it is there."""
