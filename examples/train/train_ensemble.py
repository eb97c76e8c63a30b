"""Train a probabilistic dynamics ensemble on the recorded transitions of ``train_policy.py``.

Writes ``runs/ensemble.pt``: the weights, the input normaliser, the elites and what was measured.
The targets are the observation's change over one step and, last, the reward.
"""

import argparse
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from networks import LOG_VAR_MAX, LOG_VAR_MIN, EnsembleNet, soft_clamp

RUNS = Path(__file__).resolve().parent / "runs"
MEMBERS, ELITES, HIDDEN = 7, 5, [200] * 4


def normalizer(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation per column; a constant column gets 1."""
    double = inputs.double()
    std = double.std(dim=0, correction=0)
    return double.mean(dim=0), torch.where(std < 1e-12, 1.0, std)


def load_replay(path: Path) -> tuple[Tensor, Tensor]:
    """Inputs [N, obs + action] and targets [N, obs + 1] of every recorded transition."""
    replay = np.load(path)
    inputs = np.concatenate([replay["obs"], replay["action"]], axis=1)
    targets = np.concatenate(
        [replay["next_obs"] - replay["obs"], replay["reward"][:, None]], axis=1
    )
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def nll(output: Tensor, target: Tensor) -> Tensor:
    """Gaussian negative log-likelihood, averaged over rows and outputs, summed over members."""
    mean, raw = output.chunk(2, dim=-1)
    log_var = soft_clamp(raw, LOG_VAR_MIN, LOG_VAR_MAX)
    return ((mean - target).square() * (-log_var).exp() + log_var).mean(dim=(1, 2)).sum()


@torch.no_grad()
def predict(net: EnsembleNet, x: Tensor) -> Tensor:
    """The means [members, rows, outputs] of every member on the same rows."""
    parts = [net(rows.expand(net.members, -1, -1)) for rows in x.split(1024)]
    return torch.cat(parts, dim=1).chunk(2, dim=-1)[0]


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Train all members at once and keep each one's best snapshot."""
    generator = torch.Generator().manual_seed(args.seed)
    torch.manual_seed(args.seed)
    inputs, targets = load_replay(RUNS / "replay.npz")
    order = torch.randperm(len(inputs), generator=generator)[: args.rows]
    held = min(len(order) // 5, 5000)
    mean, std = normalizer(inputs[order[held:]])
    x, y = ((inputs - mean) / std).float()[order], targets.float()[order]
    holdout_x, holdout_y, x, y = x[:held], y[:held], x[held:], y[held:]
    rows = len(x)

    net = EnsembleNet(MEMBERS, [x.shape[1], *HIDDEN, 2 * y.shape[1]])
    optimizer = torch.optim.Adam(net.parameters(), lr=args.rate)
    batches = -(-rows // args.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * batches)
    bootstrap = torch.randint(rows, (MEMBERS, rows), generator=generator)
    best = torch.full((MEMBERS,), torch.inf)
    snapshot = {key: value.clone() for key, value in net.state_dict().items()}
    started = time.monotonic()
    epoch = 0
    for epoch in range(1, args.epochs + 1):
        shuffle = torch.rand(MEMBERS, rows, generator=generator).argsort(dim=1)
        bootstrap = bootstrap.gather(1, shuffle)
        for index in bootstrap.split(args.batch, dim=1):
            optimizer.zero_grad()
            loss = nll(net(x[index]), y[index]) + net.decay()
            loss.backward()
            optimizer.step()
            schedule.step()
        error = (predict(net, holdout_x) - holdout_y).square().mean(dim=(1, 2))
        better = error < best
        best = torch.where(better, error, best)
        for key, value in net.state_dict().items():
            snapshot[key][better] = value[better]
        elapsed = time.monotonic() - started
        print(f"epoch {epoch:3d} {elapsed:5.0f} s  holdout MSE {error.tolist()}", flush=True)
        if elapsed > args.seconds:
            break

    net.load_state_dict(snapshot)
    elites = sorted(best.argsort()[:ELITES].tolist())
    error = holdout_y - predict(net, holdout_x)[elites].mean(dim=0)
    spread = (holdout_y - holdout_y.mean(dim=0)).square().mean(dim=0)
    r2 = 1 - error.square().mean(dim=0) / spread
    return {
        "net": snapshot,
        "mean": mean,
        "std": std,
        "elites": elites,
        "meta": {
            "holdoutMse": best.tolist(),
            "r2": r2.tolist(),
            "r2Of": "the mean of the elites' means, per output (observation changes, reward last)",
            "rowsRecorded": len(inputs),
            "rowsTrained": rows,
            "rowsHeldOut": held,
            "epochs": epoch,
            "batch": args.batch,
            "seconds": round(time.monotonic() - started),
            "seed": args.seed,
            "logVarBounds": "fixed",
            "versions": {
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
            },
        },
    }


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=250_000, help="at most this many of the replay")
    parser.add_argument("--epochs", type=int, default=42)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seconds", type=float, default=900, help="stop after this long")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = train(args)
    torch.save(result, RUNS / "ensemble.pt")
    for key, value in result["meta"].items():
        print(key, value)
    print("elites", result["elites"])


if __name__ == "__main__":
    main()
