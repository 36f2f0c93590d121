# SPDX-License-Identifier: Apache-2.0
"""Runs the checks of a file on several gloo processes: `python tests/ranks.py COUNT STORE FILE`.

A check is a function check_...(rank, ranks) that every rank calls, in the order of the file.

torch is imported once, before the ranks are forked from the process that did it: no thread runs
there yet, and a rank costs milliseconds. A rank ends in os._exit, since one that tears down gloo
on its way out sometimes aborts. The first rank that fails ends all of them, and is the one whose
traceback is shown.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import timedelta
from pathlib import Path

TIME_LIMIT = 120  # seconds; a rank that waits for another in vain ends after as long


def only_on(*counts):
    """Decorate a check that runs on these numbers of ranks, and not on 1, 2, 3 and 4."""

    def decorate(check):
        check.counts = counts
        return check

    return decorate


def run_on_ranks(ranks, file, limit=TIME_LIMIT):
    """Run the checks of file on so many ranks, and fail as the first of them does.

    limit: in seconds, after which all ranks are ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, str(ranks), f"{folder}/store", str(file)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.terminate()  # see _end
            output, _ = process.communicate()
            raise AssertionError(f"{ranks} ranks took over {limit} s:\n{output}") from None
    assert process.returncode == 0, f"on {ranks} ranks:\n{output}"


def _main(ranks, store, file):
    import torch
    import torch.distributed.fsdp
    import torch.distributed.tensor.parallel

    torch.set_num_threads(1)
    if sys.platform == "linux":  # where the host's own name may lead nowhere
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    checks = [
        value
        for name, value in vars(module).items()
        if name.startswith("check_") and ranks in getattr(value, "counts", (1, 2, 3, 4))
    ]
    assert checks, f"{file} has no check for {ranks} ranks"
    running = {}
    signal.signal(signal.SIGTERM, lambda *_: _end(running))
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _work(rank, ranks, store, checks)
        running[child] = rank
    while running:
        child, status = os.wait()
        rank = running.pop(child)
        if status != 0:
            print(f"rank {rank} ended with {os.waitstatus_to_exitcode(status)}")
            print(_report(store, rank).read_text(), flush=True)
            _end(running)


def _end(running):
    for child in running:
        os.kill(child, signal.SIGKILL)
    os._exit(1)


def _report(store, rank):
    path = Path(f"{store}-{rank}")
    path.touch()
    return path


def _work(rank, ranks, store, checks):
    import torch.distributed as dist

    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=ranks,
            timeout=timedelta(seconds=TIME_LIMIT),
        )
        for check in checks:
            start = time.monotonic()
            check(rank, ranks)
            if rank == 0:
                print(f"{check.__name__}: {time.monotonic() - start:.2f} s", flush=True)
    except BaseException:
        _report(store, rank).write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
