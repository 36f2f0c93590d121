# SPDX-License-Identifier: Apache-2.0
"""Wrappers: modules that are no part of a model, but something around it or around a layer."""

from torch import nn

_PREFIXES = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# By name, since their libraries need not be installed. Each holds the model as `module`.
_AROUND_A_MODEL = frozenset(
    (
        *("DataParallel", "DistributedDataParallel", "AveragedModel"),  # torch; apex, Megatron-LM
        *("DeepSpeedEngine", "Float16Module", "FP16_Module"),  # DeepSpeed, Megatron-LM
        *("ShardedDataParallel", "ModelEmaV2", "ModelEmaV3"),  # fairscale, timm
    )
)


def is_wrapper(module: nn.Module, child: str) -> bool:
    """Return whether module is a wrapper of its child of that name.

    A module of the user's own that holds nothing but a child called `module` is none: were it one,
    a second child would change the name of the first.
    """
    if child in _PREFIXES:
        return True
    names = (kind.__name__ for kind in type(module).__mro__)
    return child == "module" and not _AROUND_A_MODEL.isdisjoint(names)


def unwrap(module: nn.Module) -> nn.Module:
    """Return what all wrappers, if there are any, are around."""
    for name, child in module._modules.items():
        if child is not None and is_wrapper(module, name):
            return unwrap(child)
    return module
