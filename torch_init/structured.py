# SPDX-License-Identifier: Apache-2.0
"""Initialisers with structure across elements: orthogonal, sparse, identities, deltas."""

import torch
from torch import Tensor

from torch_init._fill import Seed, check_dense, check_memory, check_tensor, fill_tensor
from torch_init.errors import (
    check_finite,
    check_not_negative,
    check_positive_int,
    check_probability,
    describe,
)
from torch_init.structures import (
    DeltaOrthogonal,
    Dirac,
    Identity,
    Orthogonal,
    Sparse,
    ZeroIdentity,
)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a 2-d tensor with the identity: ones on its main diagonal, zeros elsewhere.

    Raises:
        ValueError: not 2-d.

    Example:
        >>> torch_init.eye_(torch.empty(2, 3))
        tensor([[1., 0., 0.],
                [0., 1., 0.]])
    """
    _check_writable("eye_", tensor)
    _check_dims("eye_", tensor, (2,))
    return fill_tensor("eye_", tensor, Identity())


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution's weight so that it passes its input channels through.

    Output channel i of each group is input channel i, for as many as there are; the 1 stands at
    k // 2 of each kernel dimension.

    Args:
        tensor: (out, in / groups, *kernel), 3 to 5 dimensions.
        groups: of the convolution; must divide dimension 0.

    Raises:
        ValueError: wrong number of dimensions, or groups that do not divide.

    Example:
        >>> torch_init.dirac_(torch.empty(2, 2, 3))[0]
        tensor([[0., 1., 0.],
                [0., 0., 0.]])
    """
    _check_writable("dirac_", tensor)
    _check_dims("dirac_", tensor, (3, 4, 5))
    check_positive_int("dirac_", "groups", groups)
    if tensor.size(0) % groups != 0:
        expected = f"a divisor of the tensor's dimension 0, {tensor.size(0)}"
        raise ValueError(describe("dirac_", "groups", str(groups), expected))
    return fill_tensor("dirac_", tensor, Dirac(groups))


def orthogonal_(
    tensor: Tensor,
    gain: float = 1,
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
) -> Tensor:
    """Fill the tensor with a (semi-)orthogonal matrix, uniformly distributed (Saxe et al., 2013).

    Dimension 0 against all others makes a matrix. It is the Q of a Householder QR of a standard
    normal matrix, with the signs that make R's diagonal positive (Mezzadri, 2007); rows are
    orthonormal if there are fewer of them than columns, else columns are. The factorisation runs
    on the CPU in an order of operations that is fixed (docs/orthogonal.md), so that the result
    has the same bits on every machine; a tensor on a GPU is computed there and copied.

    Args:
        tensor: at least 2 dimensions; any dtype that normal_ takes. Narrow dtypes are rounded
            from float32; complex tensors become unitary.
        gain: finite; multiplies the result.
        generator, seed, name: see uniform_.

    Raises:
        ValueError: fewer than 2 dimensions.

    Example:
        >>> w = torch_init.orthogonal_(torch.empty(3, 5), seed=0, name="rnn.weight_hh")
        >>> torch.allclose(w @ w.T, torch.eye(3), atol=1e-6)
        True
    """
    check_tensor("orthogonal_", tensor)
    _check_at_least_2d("orthogonal_", tensor)
    gain = check_finite("orthogonal_", "gain", gain)
    return fill_tensor("orthogonal_", tensor, Orthogonal(gain), generator, seed, name)


def delta_orthogonal_(
    tensor: Tensor,
    gain: float = 1,
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
) -> Tensor:
    """Fill a convolution's weight with an orthogonal matrix at its centre, zeros elsewhere.

    Keeps the norm of every signal through a convolution with circular padding (Xiao et al., 2018,
    "Dynamical isometry and a mean field theory of CNNs"). The centre is (k - 1) // 2, as in JAX.

    Args:
        tensor: (out, in, *kernel), 3 to 5 dimensions, out >= in.
        gain: finite; multiplies the result.
        generator, seed, name: see uniform_.

    Raises:
        ValueError: wrong number of dimensions, or more inputs than outputs.

    Example:
        >>> w = torch_init.delta_orthogonal_(torch.empty(8, 4, 3, 3), seed=0, name="conv.weight")
        >>> torch.allclose(w[:, :, 1, 1].T @ w[:, :, 1, 1], torch.eye(4), atol=1e-6)
        True
    """
    check_tensor("delta_orthogonal_", tensor)
    _check_dims("delta_orthogonal_", tensor, (3, 4, 5))
    gain = check_finite("delta_orthogonal_", "gain", gain)
    if tensor.size(0) < tensor.size(1):
        got = f"{tensor.size(0)} outputs from {tensor.size(1)} inputs"
        expected = "at least as many outputs (dimension 0) as inputs (dimension 1)"
        raise ValueError(describe("delta_orthogonal_", "tensor", got, expected))
    values = DeltaOrthogonal(gain)
    return fill_tensor("delta_orthogonal_", tensor, values, generator, seed, name)


def sparse_(
    tensor: Tensor,
    sparsity: float,
    std: float = 0.01,
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
) -> Tensor:
    """Fill a 2-d tensor with normal values, the same number of them in each column set to zero.

    Martens (2010), "Deep learning via Hessian-free optimization". The zeros of a column are the
    ceil(sparsity * rows) rows whose words in a second stream of the same key are smallest.

    Args:
        tensor: 2-d; the dtypes of uniform_.
        sparsity: fraction of each column to be zero, in [0, 1].
        std: of the other values; finite, >= 0.
        generator, seed, name: see uniform_. They decide the zeros too.

    Raises:
        ValueError: not 2-d, or sparsity outside [0, 1].

    Example:
        >>> w = torch_init.sparse_(torch.empty(10, 3), sparsity=0.25, seed=0, name="w")
        >>> (w == 0).sum(0)
        tensor([3, 3, 3])
    """
    check_tensor("sparse_", tensor)
    _check_dims("sparse_", tensor, (2,))
    sparsity = check_probability("sparse_", "sparsity", sparsity)
    std = check_not_negative("sparse_", "std", std)
    return fill_tensor("sparse_", tensor, Sparse(sparsity, std), generator, seed, name)


def zero_identity_(tensor: Tensor) -> Tensor:
    """Fill the tensor by ZerO (Zhao et al., 2021): identities and Hadamard matrices, no chance.

    With no more outputs than inputs, a partial identity. With more, the first columns and rows of
    the Hadamard matrix of order p = 2**ceil(log2(out)), divided by sqrt(p), which breaks the
    symmetry that repeated identities would keep. A convolution gets this at k // 2 of each kernel
    dimension and zeros elsewhere. Normalised as in the authors' code, where a column that is not
    cut has norm 1.

    Args:
        tensor: (out, in, *kernel), at least 2 dimensions, any floating dtype.

    Example:
        >>> torch_init.zero_identity_(torch.empty(4, 2))
        tensor([[ 0.5000,  0.5000],
                [ 0.5000, -0.5000],
                [ 0.5000,  0.5000],
                [ 0.5000, -0.5000]])
    """
    check_tensor("zero_identity_", tensor)
    _check_at_least_2d("zero_identity_", tensor)
    return fill_tensor("zero_identity_", tensor, ZeroIdentity())


def _check_writable(function: str, tensor: Tensor) -> None:
    check_dense(function, tensor)
    if not torch.compiler.is_compiling():  # the compiler refuses overlapping memory itself
        check_memory(function, tensor)


def _check_at_least_2d(function: str, tensor: Tensor) -> None:
    if tensor.dim() < 2:
        got = f"{tensor.dim()} dimension(s)"
        raise ValueError(describe(function, "tensor", got, "at least 2 dimensions"))


def _check_dims(function: str, tensor: Tensor, allowed: tuple[int, ...]) -> None:
    if tensor.dim() not in allowed:
        expected = " or ".join(str(n) for n in allowed) + " dimensions"
        raise ValueError(describe(function, "tensor", f"{tensor.dim()} dimension(s)", expected))


__all__ = [
    "delta_orthogonal_",
    "dirac_",
    "eye_",
    "orthogonal_",
    "sparse_",
    "zero_identity_",
]
