"""PyTorch's standard normal numbers per second, one thread, for as many numbers as bench/noise.ts.

Run: python bench/normal.py
"""

import timeit

import torch

torch.set_num_threads(1)
print(f"torch {torch.__version__}: numbers, M/s median (p25, p75)")
for n in (1 << 22, 120_000, 4800, 1200):
    x = torch.empty(n)
    repeats = max(1, 120_000 // n)
    times = sorted(timeit.repeat(x.normal_, number=repeats, repeat=250_000_000 // max(n, 120_000)))
    p25, median, p75 = (repeats * n / times[len(times) * q // 100] / 1e6 for q in (75, 50, 25))
    print(f"{n:9d} {median:6.1f} ({p25:.1f}, {p75:.1f})")
