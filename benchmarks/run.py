"""Measure the ledger and the proxy: `make bench`, or `make bench ARGS="--quick"`."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    # Its modules name each other as `benchmarks.…`, in this process and in those it starts.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    runpy.run_module("benchmarks.main", run_name="__main__", alter_sys=True)
