"""The eager selective scan of state-spaces/mamba in PyTorch, one thread, a run for each line of input.

Run by bench/ssm.ts: python bench/selective_scan.py MAMBA_CHECKOUT
"""

import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "test/fixtures/ssm"))
from upstream import open_checkout

open_checkout(sys.argv[1])
from mamba_ssm.ops.selective_scan_interface import selective_scan_ref

inputs = {}


def inputs_of(batch, steps, channels, state):
    key = batch, steps, channels, state
    if key not in inputs:
        uniform = lambda *shape: torch.rand(*shape) * 2 - 1
        inputs[key] = dict(
            u=uniform(batch, channels, steps),
            delta=uniform(batch, channels, steps),
            A=-torch.rand(channels, state) * 2 - 1,
            B=uniform(batch, state, steps),
            C=uniform(batch, state, steps),
            D=uniform(channels),
            z=uniform(batch, channels, steps),
            delta_bias=uniform(channels) - 4,
            delta_softplus=True,
            return_last_state=True,
        )
    return inputs[key]


with torch.no_grad():
    for line in sys.stdin:
        selective_scan_ref(**inputs_of(*map(int, line.split())))
        print("done", flush=True)
