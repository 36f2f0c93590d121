# SPDX-License-Identifier: Apache-2.0
"""Seeds drawn from a generator."""

import threading

import torch

import torch_init


def test_thread_may_start_in_inference_mode():
    """A thread's first draw leaves nothing behind that later draws cannot use."""
    drawn = []

    def draw():
        with torch.inference_mode():
            torch_init.normal_(torch.empty(4), generator=torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(2)
        drawn.append(torch_init.normal_(torch.empty(4), generator=generator))

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    generator = torch.Generator().manual_seed(2)
    assert torch.equal(drawn[0], torch_init.normal_(torch.empty(4), generator=generator))
