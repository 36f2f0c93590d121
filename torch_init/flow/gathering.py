# SPDX-License-Identifier: Apache-2.0
"""What was measured, by the names of what it was measured at: in this process, or in a group.

Processes need not have met their layers in the same order, nor the same layers: rows of equal
names are added, never rows of equal numbers.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch.distributed as dist

from torch_init.flow import totals as columns
from torch_init.flow.parameters import ParameterSite
from torch_init.flow.site import Key, Site
from torch_init.flow.tensors import WHOLE
from torch_init.flow.totals import Moments, TotalsRead

if TYPE_CHECKING:
    from torch_init.flow.handle import Flow

Place = TypeVar("Place", Site, ParameterSite)
Name = TypeVar("Name", bound=Hashable)


@dataclass
class Reading(Generic[Place]):
    """The statistics of one site on the host.

    Attributes:
        rows: of a site forward and backward; of a parameter gradient, weight and update.
        features: positive counts, sums and sums of squares by feature, (3, width), over samples
            samples; None where they were not taken.
    """

    site: Place
    rows: np.ndarray
    features: np.ndarray | None = None
    samples: int = 0

    def moments(self, place: int) -> Moments:
        return Moments(self.rows[place])


Sites = dict[Key, Reading[Site]]
Parameters = dict[tuple[str, ...], Reading[ParameterSite]]


def gather(flow: Flow, group: Any) -> tuple[Sites, Parameters]:
    """Copy everything measured to the host.

    group: a torch.distributed group, or True for the default one, whose processes all call this;
    or None for this process alone.
    """
    reads = {id(totals): totals.read() for totals in flow.recorder.all_totals}
    sites = {s.key: _site_reading(s, reads[id(s.totals)]) for s in flow.recorder.sites.values()}
    parameters = {
        s.names: Reading(s, reads[id(s.totals)].table[s.row : s.row + s.rows])
        for s in flow.parameters.sites
    }
    if group is None:
        return sites, parameters
    group = None if group is True else group
    world = dist.get_world_size(group)
    parts: list[Any] = [None] * world
    dist.all_gather_object(parts, (sites, parameters), group=group)
    return _merge([part[0] for part in parts]), _merge([part[1] for part in parts])


def _site_reading(site: Site, source: TotalsRead) -> Reading[Site]:
    rows = source.table[site.forward_row : site.backward_row + 1]
    counted = int(rows[0, columns.COUNT]) - site.elements_without_features
    samples = counted // site.features_width if site.features_width else 0
    features = None
    if site.features_start is not None and samples > 0:
        features = source.features(site.features_start, site.features_width)
    return Reading(site, rows, features, samples)


def _merge(parts: list[dict[Name, Reading[Place]]]) -> dict[Name, Reading[Place]]:
    """Add what has equal names, in the order of the first process that has a name."""
    names = {name: None for part in parts for name in part}
    return {name: _sum([part[name] for part in parts if name in part]) for name in names}


def _sum(parts: list[Reading[Place]]) -> Reading[Place]:
    first = parts[0]
    tables = np.stack([part.rows for part in parts])
    rows = tables.sum(0)
    rows[:, columns.ABSMAX] = tables[:, :, columns.ABSMAX].max(0)
    stamps = tables[:, :, columns.ORDER]
    earliest = np.where(stamps > 0, stamps, np.inf).min(0)
    rows[:, columns.ORDER] = np.where((stamps > 0).any(0), earliest, 0)
    # Shards of one tensor, each of which its process has counted as a call, are one call.
    rows[:, columns.CALLS] /= min(first.site.share.shards, len(parts))
    features, samples = _sum_features(parts)
    site: Any = replace(first.site, share=WHOLE)
    if features is not None:
        site.features_width = features.shape[1]
    return Reading(site, rows, features, samples)


def _sum_features(parts: list[Reading[Place]]) -> tuple[np.ndarray | None, int]:
    """Add features of equal parts, and put parts side by side; and of how many samples they are."""
    by_part: dict[int, list[Reading[Place]]] = {}
    for reading in parts:
        if reading.samples:
            by_part.setdefault(reading.site.share.part, []).append(reading)
    counts = {sum(reading.samples for reading in same) for same in by_part.values()}
    blocks = [[reading.features for reading in same] for same in by_part.values()]
    is_whole = len(blocks) == parts[0].site.share.parts and len(counts) == 1
    if not is_whole or any(b is None or b.shape != same[0].shape for same in blocks for b in same):  # type: ignore[union-attr]
        return None, sum(reading.samples for reading in parts)
    order = sorted(by_part)
    sums = {part: np.sum(same, axis=0) for part, same in zip(by_part, blocks, strict=True)}  # type: ignore[arg-type]
    return np.concatenate([sums[part] for part in order], axis=1), counts.pop()


def parts_of_this_process(sites: Sites) -> dict[str, str]:
    """Return, by layer, what a process's own report says of tensors of which it holds a part."""
    shares = {reading.site.label: reading.site.share for reading in sites.values()}
    return {
        label: f"what other processes hold: 1 of {share.shards} shards is here; "
        "report(group=True) adds them up"
        for label, share in shares.items()
        if share.shards > 1
    }
