# SPDX-License-Identifier: Apache-2.0
"""Compiler launcher for nvcc -Xptxas=-v: keeps ptxas's report in OBJECT.ptxas.log.

Everything else that the compiler prints passes through, and so does its exit status.
"""

import subprocess
import sys
from pathlib import Path


def main(command: list[str]) -> int:
    finished = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    report = []
    for line in finished.stderr.splitlines(keepends=True):
        # "    0 bytes stack frame, 0 bytes spill stores, ..." belongs to the report too.
        is_report = line.startswith("ptxas info") or "bytes stack frame" in line
        (report.append if is_report else sys.stderr.write)(line)
    if "-o" in command:
        Path(command[command.index("-o") + 1] + ".ptxas.log").write_text("".join(report))
    return finished.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
