# SPDX-License-Identifier: Apache-2.0
"""The public functions on CUDA tensors: the bits, and the errors, that CPU tensors have."""

import pytest
import torch
from cases import COMPLEX_DTYPES, REAL_DTYPES, same_bits

import torch_init

pytestmark = pytest.mark.cuda

SHAPE = (48, 16, 3, 3)


def same(a, b):
    a, b = (torch.view_as_real(t) if t.is_complex() else t for t in (a.detach(), b.detach()))
    return same_bits(a.cpu().contiguous(), b.cpu().contiguous())


def check(engine, function, *args, shape=SHAPE, dtypes=REAL_DTYPES, **kwargs):
    """Seeded calls on the device and on the CPU give the same bits, drop-in calls too."""
    for dtype in dtypes:
        for drawn in ({"seed": 5, "name": "conv.weight"}, {}):
            results = []
            for device in (engine.device, "cpu"):
                torch.manual_seed(9)
                tensor = torch.empty(shape, dtype=dtype, device=device)
                results.append(function(tensor, *args, **drawn, **kwargs))
            assert same(*results), (dtype, drawn)


ELEMENTWISE = [
    (torch_init.uniform_, (-0.3, 0.7)),
    (torch_init.normal_, (0.1, 0.02)),
    (torch_init.trunc_normal_, (0.0, 1.0, -1.0, 3.0)),
    (torch_init.bernoulli_, (0.3,)),
    (torch_init.rademacher_, (0.5,)),
    (torch_init.xavier_uniform_, ()),
    (torch_init.xavier_normal_, ()),
    (torch_init.kaiming_uniform_, ()),
    (torch_init.kaiming_normal_, ()),
    (torch_init.xavier_, ()),
    (torch_init.he_, ()),
    (torch_init.lecun_normal_, ()),
    (torch_init.lecun_uniform_, ()),
    (torch_init.variance_scaling_, ()),
]


@pytest.mark.parametrize(
    ("function", "args"), ELEMENTWISE, ids=lambda f: getattr(f, "__name__", "")
)
def test_elementwise(engine, function, args):
    check(engine, function, *args)


def test_complex(engine):
    check(engine, torch_init.normal_, dtypes=COMPLEX_DTYPES)


def test_orthogonal(engine):
    """Computed on the CPU and copied."""
    check(
        engine, torch_init.orthogonal_, 1.5, shape=(33, 65), dtypes=(*REAL_DTYPES, torch.complex64)
    )
    check(engine, torch_init.orthogonal_, shape=(65, 33))


def test_delta_orthogonal(engine):
    check(engine, torch_init.delta_orthogonal_)


def test_sparse(engine):
    """The zeros come from a stable sort, which has one result on every device."""
    check(engine, torch_init.sparse_, 0.25, shape=(301, 40))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (torch_init.eye_, (7, 11)),
        (torch_init.dirac_, SHAPE),
        (torch_init.zero_identity_, (48, 16)),
        (torch_init.zeros_, SHAPE),
        (torch_init.ones_, SHAPE),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_without_chance(engine, function, shape):
    for dtype in REAL_DTYPES[:4]:
        results = [
            function(torch.empty(shape, dtype=dtype, device=d)) for d in (engine.device, "cpu")
        ]
        assert same(*results), dtype


def test_memory_that_the_kernel_cannot_write(engine):
    """More dimensions than the kernel takes, in an order that cannot be joined."""
    order = (8, 1, 6, 3, 4, 5, 2, 7, 0)
    results = [
        torch_init.normal_(torch.empty((2,) * 9, device=device).permute(order), seed=1)
        for device in (engine.device, "cpu")
    ]
    assert same(*results)


def test_parameters_and_inference_tensors(engine):
    weight = torch.nn.Parameter(torch.empty(64, 64, device=engine.device))
    torch_init.xavier_normal_(weight, seed=1, name="w")
    with torch.inference_mode():
        inference = torch_init.xavier_normal_(
            torch.empty(64, 64, device=engine.device), seed=1, name="w"
        )
    assert weight.requires_grad
    assert weight.grad_fn is None
    assert same(weight, inference.clone())


def test_a_gpus_generator_may_be_given(gpu):
    """It decides the seed: one that is seeded alike gives the same tensor, on any device."""
    results = []
    for device in (gpu, "cpu"):
        generator = torch.Generator(gpu).manual_seed(4)
        results.append(torch_init.normal_(torch.empty(1000, device=device), generator=generator))
    assert same(*results)


def test_a_seed_on_the_gpu_is_refused(gpu):
    tensor = torch.zeros(10, device=gpu)
    with pytest.raises(ValueError, match=r"normal_: seed: .*CPU tensor.*cuda"):
        torch_init.normal_(tensor, seed=torch.tensor(1, device=gpu))
    assert (tensor == 0).all()


def test_tensors_that_overlap_are_refused(engine):
    tensor = torch.zeros(1, 8, device=engine.device).expand(4, 8)
    with pytest.raises(ValueError, match="share memory"):
        torch_init.normal_(tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_compiled(engine, dtype):
    """The compiled function has the bits of the eager one, without a graph break."""
    from torch.utils._triton import has_triton

    def initialised(tensor, seed):
        torch_init.trunc_normal_(tensor, std=0.5, seed=seed, name="w")
        return tensor * 2

    backend = "inductor" if engine.device.type == "cuda" and has_triton() else "aot_eager"
    compiled = torch.compile(initialised, backend=backend, fullgraph=True)
    for value in (1, 2):
        seed = torch.tensor(value)
        found = compiled(torch.empty(999, dtype=dtype, device=engine.device), seed)
        assert same(found, initialised(torch.empty(999, dtype=dtype), seed)), backend
