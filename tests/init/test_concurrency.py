# SPDX-License-Identifier: Apache-2.0
"""Threads, forks and DataLoader workers: the same bits, no deadlock, the GIL released."""

import os
import select
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch
from init_cases import RANDOM, same_bits

import torch_init

# Large enough for every thread that a call may start.
LARGE = 1 << 20
PATIENCE = 60  # seconds until a child counts as deadlocked

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def large(name="w", **keywords):
    return torch_init.normal_(torch.empty(LARGE), seed=1, name=name, **keywords)


def in_child(function):
    """Whether function() is true in a forked child; a child that hangs is killed.

    A child may not use torch's own OpenMP threads, which do not outlive a fork, so the comparison
    is left to NumPy.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"1" if function() else b"0")
        finally:
            os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], PATIENCE)
    answer = os.read(reader, 1) if ready else b""
    os.close(reader)
    if not ready:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert ready, f"the child did not answer within {PATIENCE} s"
    return answer == b"1"


@forks
def test_forked_child_makes_the_same_bits():
    expected = large().numpy()  # the parent has used its threads
    assert in_child(lambda: np.array_equal(large().numpy(), expected))
    for case in RANDOM:
        wanted = case.make().numpy()
        assert in_child(lambda c=case, w=wanted: np.array_equal(c.make().numpy(), w)), case


@forks
def test_fork_while_other_threads_fill_and_fit_tables():
    """A lock that another thread holds at the fork stays locked in the child for ever."""
    expected = large().numpy()
    stop = threading.Event()

    def fill(kind):
        tensor, step = torch.empty(LARGE if kind == "fill" else 64), 0
        while not stop.is_set():
            step += 1
            upper = 2.0 if kind == "fill" else 2.0 + step / 1000  # bounds without a table yet
            torch_init.trunc_normal_(tensor, b=upper, seed=0)

    threads = [threading.Thread(target=fill, args=(kind,)) for kind in ("fill", "fit", "fit")]
    for thread in threads:
        thread.start()
    try:
        for attempt in range(10):
            lower = -1.0 - attempt / 7  # a table that the child must fit itself

            def check(lower=lower):
                cut = torch_init.trunc_normal_(torch.empty(64), a=lower, seed=0).numpy()
                return np.array_equal(large().numpy(), expected) and cut.min() >= lower

            assert in_child(check)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return large(name=str(index))


@pytest.mark.skipif(sys.platform != "linux", reason="workers are not forked elsewhere")
def test_dataloader_workers():
    samples = Samples()
    loader = torch.utils.data.DataLoader(
        samples, batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    for index, sample in enumerate(loader):
        assert same_bits(sample, samples[index])


def test_many_threads_at_once():
    """All random initialisers from 8 threads, with tables that are fitted while others fill."""
    made, failures = {}, []

    def work(thread):
        try:
            for case in RANDOM:
                made[thread, case] = case.make(seed=thread)
            for step in range(20):
                bounds = {"a": -1.0 - step / 10, "b": 1.0 + thread / 10}
                made[thread, step] = torch_init.trunc_normal_(torch.empty(1000), seed=0, **bounds)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for (thread, what), tensor in made.items():
        if isinstance(what, int):
            bounds = {"a": -1.0 - what / 10, "b": 1.0 + thread / 10}
            expected = torch_init.trunc_normal_(torch.empty(1000), seed=0, **bounds)
        else:
            expected = what.make(seed=thread)
        assert same_bits(tensor, expected), (thread, what)


def test_draws_of_threads_are_distinct():
    """Threads share torch's generator, as torch's own initialisers do; no seed is drawn twice."""
    made = []

    def work():
        for _ in range(100):
            made.append(torch_init.normal_(torch.empty(4)).numpy().tobytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == len(made) == 400


@pytest.mark.parametrize("name", ["normal_", "orthogonal_"])
def test_python_runs_while_a_call_fills(name):
    """The GIL is released: another thread ticks every millisecond, also amid a long call."""
    shape = (1 << 25,) if name == "normal_" else (2000, 2000)
    tensor = torch.empty(shape)
    fill = getattr(torch_init, name)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ticks = []
    stop = threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        begin = time.perf_counter()
        fill(tensor, seed=0)
        end = time.perf_counter()
    finally:
        stop.set()
        ticker.join()
        torch.set_num_threads(threads)
    length = end - begin
    middle = [t for t in ticks if begin + 0.25 * length < t < end - 0.25 * length]
    assert length > 0.02, "the call was too short to tell"
    assert len(middle) >= 3
