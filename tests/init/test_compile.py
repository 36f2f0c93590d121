# SPDX-License-Identifier: Apache-2.0
"""torch.compile, torch.export, fake tensors, torch.func: the eager bits, or a clear refusal."""

import pytest
import torch
from init_cases import CASES, RANDOM, same_bits
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses import FakeTensorMode

import torch_init
from torch_init.distributions import Normal, TruncatedNormal, TwoPoint, Uniform

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")  # inside torch
every = pytest.mark.parametrize("case", CASES, ids=str)
every_random = pytest.mark.parametrize("case", RANDOM, ids=str)
SEEDS = [0, 1, -5, 2**62, 2**63 - 1]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(function, backend="aot_eager", **options):
    """The function compiled as a whole, and a counter of its graphs."""
    counter = CompileCounterWithBackend(backend)
    return torch.compile(function, fullgraph=True, backend=counter, **options), counter


def initialise_all(tensors, seed):
    return [case.fill(tensor, seed) + 0 for case, tensor in zip(CASES, tensors, strict=True)]


def check_all(function, seed, rows=8):
    tensors = [torch.full((rows, *case.shape[1:]), 7.0) for case in CASES]
    results = function(tensors, seed)
    for case, tensor, result in zip(CASES, tensors, results, strict=True):
        assert same_bits(tensor, case.fill(torch.empty(tensor.shape), int(seed))), case
        assert torch.equal(result, tensor), case


def test_int_seeds_share_two_graphs():
    """One for the first seed as a constant, one for the rest as a variable.

    All initialisers in one graph: AOTAutograd makes a pure function of all those writes and back.
    """
    function, counter = compiled(initialise_all)
    for seed in SEEDS:
        check_all(function, seed)
    assert counter.frame_count <= 2


def test_tensor_seeds_share_one_graph():
    function, counter = compiled(initialise_all, "eager")
    for seed in SEEDS:
        check_all(function, torch.tensor(seed))
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", ["xavier_", "lecun_uniform_", "orthogonal_", "sparse_"])
def test_shapes_may_vary(name):
    (case,) = [case for case in CASES if case.name == name]
    fill, _ = compiled(case.fill, "eager", dynamic=True)
    for rows in (8, 9, 11):
        shape = (rows, *case.shape[1:])
        assert same_bits(fill(torch.empty(shape)), case.fill(torch.empty(shape)))


@pytest.mark.parametrize("dynamic", [None, True])
def test_numbers_may_vary(dynamic):
    def function(tensor, std, gain):
        torch_init.normal_(tensor, 0.0, std, seed=0)
        torch_init.trunc_normal_(tensor, std=std, a=-gain, b=gain, seed=0)
        torch_init.uniform_(tensor, -gain, gain, seed=0)
        return torch_init.xavier_(tensor, gain, seed=0)

    fill, _ = compiled(function, "eager", dynamic=dynamic)
    for std, gain in ((0.1, 1.0), (0.2, 2.0), (0.3, 3.0)):
        expected = function(torch.empty(4, 3), std, gain)
        assert same_bits(fill(torch.empty(4, 3), std, gain), expected)


def initialise_without_seed(first, second):
    torch_init.kaiming_uniform_(first)
    torch_init.normal_(second)
    torch_init.orthogonal_(first)
    return first.sum() + second.sum()


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_manual_seed_governs_compiled_calls_too(backend):
    """With the eager draws, each used once: two draws must not be merged into one."""
    fill, _ = compiled(initialise_without_seed, backend)

    def run(function):
        torch.manual_seed(5)
        tensors = [torch.empty(4, 3) for _ in range(4)]
        function(*tensors[:2])
        function(*tensors[2:])
        return tensors

    for eager, traced in zip(run(initialise_without_seed), run(fill), strict=True):
        assert same_bits(eager, traced)


def test_training_step():
    def step(weight, signal, seed):
        torch_init.he_(weight, seed=seed, name="w")
        return (signal @ weight.T).relu().sum()

    def run(function):
        weight = torch.empty(6, 4)
        signal = torch.ones(2, 4, requires_grad=True)
        loss = function(weight, signal, 3)
        loss.backward()
        return weight, loss.detach(), signal.grad

    for eager, traced in zip(run(step), run(compiled(step)[0]), strict=True):
        torch.testing.assert_close(eager, traced)


def test_parameter_that_needs_a_gradient():
    fill, _ = compiled(lambda parameter: torch_init.xavier_(parameter, seed=0).detach())
    parameter = torch.nn.Parameter(torch.empty(4, 3))
    version = parameter._version
    fill(parameter)
    assert parameter.is_leaf
    assert parameter.grad_fn is None
    assert parameter._version > version
    assert torch.equal(parameter, torch_init.xavier_(torch.empty(4, 3), seed=0))


def test_bad_arguments_are_refused_while_compiling():
    fill, _ = compiled(lambda tensor: torch_init.normal_(tensor, std=-1.0), "eager")
    with pytest.raises(Exception, match=r"std: expected a number >= 0, got -1\.0"):
        fill(torch.empty(3))


def test_overlapping_memory_is_refused_by_the_compiler():
    fill, _ = compiled(lambda tensor: torch_init.normal_(tensor, seed=0))
    tensor = torch.ones(1, 3).expand(4, 3)
    with pytest.raises(Exception, match="refers to a single memory location"):
        fill(tensor)
    assert (tensor == 1).all()


class Noise(torch.nn.Module):
    def forward(self, signal):
        return signal + torch_init.normal_(torch.empty(3), seed=0, name="noise")


def test_export_trace_and_make_fx():
    expected = torch_init.normal_(torch.empty(3), seed=0, name="noise")
    zeros = torch.zeros(3)
    assert torch.equal(torch.export.export(Noise(), (zeros,)).module()(zeros), expected)
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(Noise())(zeros)
    assert "torch_init.fill_" in graph.code
    assert torch.equal(graph(zeros), expected)


@pytest.mark.filterwarnings("ignore:Converting a tensor")
def test_jit_trace_records_the_fill():
    expected = torch_init.normal_(torch.empty(3), seed=0, name="noise")
    traced = torch.jit.trace(Noise(), (torch.zeros(3),))
    assert torch.equal(traced(torch.zeros(3)), expected)


DISTRIBUTIONS = [
    Normal(0.0, 1.0),
    Uniform(-1.0, 1.0),
    TruncatedNormal.in_sigmas(0.0, 1.0, -2.0, 2.0),
    TwoPoint(0.5, -1.0, 1.0),
]
TENSORS = {
    "contiguous": lambda: torch.zeros(6, 4),
    "transposed": lambda: torch.zeros(4, 6).T,
    "bfloat16": lambda: torch.zeros(6, 4, dtype=torch.bfloat16),
    "float64": lambda: torch.zeros(6, 4, dtype=torch.float64),
    "complex64": lambda: torch.zeros(6, 4, dtype=torch.complex64),
    "requires_grad": lambda: torch.zeros(6, 4, requires_grad=True),
}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda d: type(d).__name__)
def test_opcheck_fill(distribution):
    kind, numbers = distribution.spec()
    for name, make in TENSORS.items():
        if name == "complex64" and not isinstance(distribution, Normal):
            continue
        arguments = (make(), torch.tensor(3), "w", kind, list(numbers))
        torch.library.opcheck(torch.ops.torch_init.fill_.default, arguments)


@pytest.mark.parametrize("tensor", TENSORS)
def test_opcheck_orthogonal(tensor):
    arguments = (TENSORS[tensor](), torch.tensor(3), "w", 1.0)
    torch.library.opcheck(torch.ops.torch_init.orthogonal_.default, arguments)


def test_opcheck_draw_seed():
    """Two draws differ, so the checks that compare two runs do not apply."""
    for generator in (None, torch.Generator()):
        torch.library.opcheck(
            torch.ops.torch_init.draw_seed_.default,
            (torch.zeros((), dtype=torch.int64), generator),
            test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
        )


@every
def test_fake_tensor_mode(case):
    state = torch.get_rng_state()
    with FakeTensorMode():
        tensor = torch.empty(case.shape)
        assert case(tensor) is tensor
        assert case.fill(tensor) is tensor
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("case", [c for c in CASES if c.name != "zero_identity_"], ids=str)
def test_fake_tensor_outside_its_mode(case):
    with FakeTensorMode():
        tensor = torch.empty(case.shape)
    assert case(tensor) is tensor
    assert case.fill(tensor) is tensor


TRANSFORMS = {
    "vmap": lambda function: torch.func.vmap(function, randomness="different"),
    "grad": lambda function: torch.func.grad(lambda tensor: function(tensor).sum()),
    "jvp": lambda function: lambda t: torch.func.jvp(function, (t,), (t,)),
    "functionalize": torch.func.functionalize,
}


@every_random
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_torch_func_transforms_are_refused(case, transform):
    tensor = torch.ones(2, *case.shape) if transform == "vmap" else torch.ones(case.shape)
    message = (
        f"{case.name}: tensor: expected an ordinary tensor, got .*torch.func.*Initialise before"
    )
    with pytest.raises(ValueError, match=message):
        TRANSFORMS[transform](case.fill)(tensor)
    assert (tensor == 1).all()


def test_new_tensor_inside_vmap_is_ordinary():
    def add_noise(signal):
        return signal + torch_init.normal_(torch.empty(3), seed=0, name="noise")

    expected = torch_init.normal_(torch.empty(3), seed=0, name="noise").expand(2, 3)
    assert torch.equal(torch.func.vmap(add_noise)(torch.zeros(2, 3)), expected)
