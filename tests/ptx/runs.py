# SPDX-License-Identifier: Apache-2.0
"""What runs each kernel, for tests of what becomes of mistakes."""

import torch

from torch_init import _ops, _ops_device, _ops_gibbs_cuda
from torch_init.distributions import Normal, TruncatedNormal

NORMAL = Normal(0.0, 1.0).spec()
SKEWED = TruncatedNormal.in_sigmas(0.0, 1.0, -1.0, 3.0).spec()


def uniform(*size, seed):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed)) - 0.5


def layer(visible, hidden, scale=3.0):
    """A weight and both biases."""
    sizes = ((visible, hidden), (visible,), (hidden,))
    return [scale * uniform(*size, seed=k) for k, size in enumerate(sizes)]


def fill(*specs, dtype=torch.float32, size=9001, count=1):
    tensors = [(torch.zeros(size, dtype=dtype), spec, 3) for spec in specs for _ in range(count)]
    _ops.FillPlan(tensors).run_cuda_body_on_host(0)
    return [tensor for tensor, *_ in tensors]


def measure():
    entries = [(uniform(70_003, seed=k),) for k in range(9)]
    moments = _ops.measure_with_cuda_body_on_host(entries, 0)
    return [torch.frombuffer(bytearray(moments.tobytes()), dtype=torch.uint8)]


def flow():
    x = uniform(3000, 97, seed=0)
    totals, features = (torch.zeros(n, dtype=torch.float64) for n in ((2, 76), (3, 97)))
    _ops.accumulate_with_cuda_body_on_host(x, totals, features, 1, -1.0, 0.5, 9, None, None)
    return totals, features


def gibbs(**path):
    """As many sources as four stages and one have, chains for two tiles."""
    weights = _ops.quantize(*layer(150, 40))
    visible = (uniform(130, 150, seed=3) > 0).to(torch.uint8)
    hidden = torch.ones(130, 40, dtype=torch.uint8)
    how = {"key": 1, "half_steps": path.pop("half_steps", 3), **path}
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(weights, visible, hidden, **how)
    return visible, hidden


def statistics(dtype):
    v, h = torch.ones(100, 70, dtype=torch.uint8), torch.ones(100, 130, dtype=dtype)
    out = torch.zeros(70, 130, dtype=torch.int64)
    with _ops_device.cuda_bodies_on_host():
        found = _ops.statistics(_ops.Term(v, h), _ops.Term(v[:40], h[:40]), out=out)
    return found.pairs, found.sums


def quantize(dtype):
    """In the memory of the layer before; and where sums at their limit are added up again."""
    found = None
    near = torch.zeros(256, 40), torch.zeros(256), torch.zeros(40)
    near[0][:, 39] = 2.0**22 + 0.25
    with _ops_device.cuda_bodies_on_host():
        for given in (layer(130, 70), layer(130, 70, scale=300.0)):
            found = _ops.quantize(*(x.to(dtype) for x in given), out=found)
        limit = _ops.quantize(*(x.to(dtype) for x in near))
    made = [[x.scale, x.by_visible, x.by_hidden, *x.limbs, *x.sums] for x in (found, limit)]
    return made[0] + made[1]


def ascend(dtype):
    """A step of everything, of more hidden units than are added up at once."""
    visible, hidden = 20, 1100
    units, rates = (visible, hidden), (0.1, 0.2)
    sums = (100 * uniform(2, visible + hidden, seed=0)).to(torch.int64)
    offsets, values, moved = ([uniform(n, seed=k) for n in units] for k in (1, 2, 3))
    weight, velocity, gradient = (uniform(hidden, visible, seed=k) for k in (4, 5, 6))
    pairs = (1000 * uniform(visible, hidden, seed=7)).to(dtype)
    biases = tuple(map(_ops.Bias, values, moved, rates))
    with _ops_device.cuda_bodies_on_host():
        counts, spins = (100.0,) * 4, (False, True)
        means, changes = _ops.differences(sums, units, counts, spins, tuple(offsets), 0.1)
        slope = _ops.Slope(pairs, 1e-4, *changes.split(units), *offsets)
        pace = _ops.Pace(0.05, 0.9, 1e-3, 1e-4, uniform(hidden, seed=8), means[:visible])
        shifts = _ops.ascend(weight, velocity, slope, pace, gradient, biases)
    return means, changes, weight, velocity, gradient, *shifts, *offsets, *values, *moved


# Each kernel's file, and what runs it and returns what it has made.
KERNELS = {
    "fill_one_kernel": ("fill_cuda", lambda: fill(NORMAL)),
    "fill_many_kernel": ("fill_cuda", lambda: fill(NORMAL, SKEWED, NORMAL, count=9)),
    "measure_chunks_kernel": ("measure_cuda", measure),
    "add_up_chunks_kernel": ("measure_cuda", measure),
    "read_flow_kernel": ("flow_cuda", flow),
    "add_up_flow_kernel": ("flow_cuda", flow),
    "statistics_kernelIh": ("statistics_cuda", lambda: statistics(torch.uint8)),
    "statistics_kernelIs": ("statistics_cuda", lambda: statistics(torch.int16)),
    "measure_layer_kernelIf": ("training_cuda", lambda: quantize(torch.float32)),
    "measure_layer_kernelId": ("training_cuda", lambda: quantize(torch.float64)),
    "quantize_kernelIf": ("training_cuda", lambda: quantize(torch.float32)),
    "quantize_kernelId": ("training_cuda", lambda: quantize(torch.float64)),
    "differences_kernel": ("training_cuda", lambda: ascend(torch.int32)),
    "ascend_kernelIi": ("training_cuda", lambda: ascend(torch.int32)),
    "ascend_kernelIl": ("training_cuda", lambda: ascend(torch.int64)),
    "ascend_kernelIf": ("training_cuda", lambda: ascend(torch.float32)),
    "16half_step_kernel": ("gibbs_cuda", gibbs),
    "grey_half_step_kernel": ("gibbs_cuda", lambda: gibbs(half_steps=1, levels=255)),
    "split_half_step_kernel": ("gibbs_cuda", lambda: gibbs(split=True)),
    "cluster_kernelILi8E": ("gibbs_cluster_cuda", lambda: gibbs(clusters=(1, 8))),
    "cluster_kernelILi16E": ("gibbs_cluster_cuda", lambda: gibbs(clusters=(1, 16))),
    "cluster_kernelILi32E": ("gibbs_cluster_cuda", lambda: gibbs(clusters=(2, 32))),
}
