"""Write the test fixtures: a toy ensemble in every exported form, and recorded hopper values.

``python make_fixtures.py ensembles`` writes ``test/fixtures/ensembles`` (needs no training);
``python make_fixtures.py hopper`` writes ``test/fixtures/hopper`` from ``runs/``.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from torch import Tensor, nn
from torch.nn.functional import softplus

from export import OUT, load_ensemble, load_policy, replay_rows, visited
from hopper_env import HopperEnv
from manifest import export, numbers, write_json
from networks import (
    LOG_VAR_MAX,
    LOG_VAR_MIN,
    DeterministicEnsemble,
    EnsembleNet,
    GaussianMember,
    SeparateEnsemble,
    SharedEnsemble,
    StackedEnsemble,
    soft_clamp,
)

FIXTURES = Path(__file__).resolve().parent.parent.parent / "test" / "fixtures"
COMMAND = "python examples/train/make_fixtures.py"


class HalfNet(nn.Module):
    """A tiny network that is float16 from input to output."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).half()

    def forward(self, x: Tensor) -> Tensor:
        """Run the chain."""
        return self.chain(x)


def toy_ensembles(folder: Path) -> None:
    """One set of weights in the forms shared, stacked, separate, files and deterministic."""
    members, size, obs_size, action_size = 3, 4, 3, 2
    torch.manual_seed(7)
    net = EnsembleNet(members, [obs_size + action_size, 8, 2 * size]).eval()
    with torch.no_grad():
        for bias in net.biases:
            bias.normal_(std=0.3)
        for weight in net.weights:
            weight.mul_(3)
    mean = torch.tensor([0.1, -0.2, 0.3, 0.05, -0.4], dtype=torch.float64)
    std = torch.tensor([0.5, 1.5, 2.0, 0.8, 1.25], dtype=torch.float64)
    low = torch.tensor([-10.0, -8.0, -6.0, -4.0], dtype=torch.float64)
    high = torch.tensor([0.5, 0.25, 1.0, -0.5], dtype=torch.float64)

    rows = torch.randn(members, 4, obs_size + action_size)
    same = (rows[0], {0: "batch"})
    heads = ["mean", "logVar"]
    joined = {"mean": "mean", "logVar": "logVar"}
    apart = {
        "mean": [f"mean{i}" for i in range(members)],
        "logVar": [f"logVar{i}" for i in range(members)],
    }
    names = [f"x{i}" for i in range(members)]
    files = [f"member{i}.onnx" for i in range(members)]
    toy = "ensemble.onnx"
    base = {
        "obsSize": obs_size,
        "actionSize": action_size,
        "action": {"type": "box", "low": [-1, -2], "high": [1, 2]},
        "ensembleSize": members,
        "elites": [0, 2],
        "rewardIndex": size - 1,
        "logVar": {"form": "raw", "min": numbers(low), "max": numbers(high)},
        "predictsDelta": True,
        "noDelta": [],
        "inputNormalizer": {"mean": numbers(mean), "std": numbers(std)},
        "meta": {"madeBy": f"{COMMAND} ensembles"},
    }

    def write(form: str, layout: dict[str, Any], golden: Any, **changes: Any) -> None:
        head = {"format": 1, "kind": "ensemble", "name": f"toy-{form}"}
        write_json(
            folder / form / "manifest.json", head | layout | base | changes | {"golden": golden}
        )

    golden = export(folder / "shared" / toy, SharedEnsemble(net, size), {"x": same}, heads)
    layout = {"file": toy, "members": "shared", "inputs": "x", "outputs": joined}
    write("shared", layout, golden)

    stacked = {"x": (rows, {1: "batch"})}
    golden = export(folder / "stacked" / toy, StackedEnsemble(net, size), stacked, heads)
    write("stacked", layout | {"members": "stacked"}, golden)

    separate = {name: (rows[i], {0: f"b{i}"}) for i, name in enumerate(names)}
    outputs = [*apart["mean"], *apart["logVar"]]
    golden = export(folder / "separate" / toy, SeparateEnsemble(net, size), separate, outputs)
    write(
        "separate",
        {"file": toy, "members": "separate", "inputs": names, "outputs": apart},
        golden,
    )

    goldens = [
        export(
            folder / "files" / name,
            GaussianMember(net.member(i), size),
            {"x": (rows[i], {0: "batch"})},
            heads,
        )
        for i, name in enumerate(files)
    ]
    write("files", layout | {"file": files, "members": "separate"}, goldens)

    means_only = DeterministicEnsemble(net, size)
    golden = export(folder / "deterministic" / toy, means_only, {"x": same}, ["mean"])
    write("deterministic", layout | {"outputs": {"mean": "mean"}}, golden, logVar=None)

    half = HalfNet()
    inputs = {"x": (torch.randn(4, 3).half(), {0: "batch"})}
    golden = export(folder / "float16" / "half.onnx", half, inputs, ["y"])
    manifest = {"format": 1, "kind": "network", "file": "half.onnx", "golden": golden}
    write_json(folder / "float16" / "manifest.json", manifest)

    obs = torch.randn(6, obs_size)
    action = torch.rand(6, action_size) * torch.tensor([2.0, 4.0]) - torch.tensor([1.0, 2.0])
    x = ((torch.cat([obs, action], dim=1).double() - mean) / std).float()
    with torch.no_grad():
        predicted, raw = SharedEnsemble(net, size)(x)
    expected = {
        "madeBy": f"{COMMAND} ensembles",
        "note": "raw units; mean and logVar are [member][row][output], the same for every form; "
        "the input is normalised and the log-variance clamped in float64, the network is float32",
        "obs": numbers(obs),
        "action": numbers(action),
        "mean": numbers(predicted),
        "logVar": numbers(soft_clamp(raw.double(), low, high)),
    }
    write_json(folder / "expected.json", expected)


def hopper_ensemble(path: Path) -> None:
    """Per-member predictions of the hopper ensemble for eight recorded rows."""
    result, net = load_ensemble()
    rows = replay_rows(8, 4).float()
    x = ((rows.double() - result["mean"]) / result["std"]).float()
    with torch.no_grad():
        heads = [GaussianMember(net.member(i), OUT)(x) for i in range(net.members)]
    log_vars = [soft_clamp(raw.double(), LOG_VAR_MIN, LOG_VAR_MAX) for _, raw in heads]
    fixture = {
        "madeBy": f"{COMMAND} hopper",
        "note": "obs and action in raw units; mean and logVar are [member][row][output]: "
        "observation changes, reward last; the input is normalised and the log-variance clamped "
        "in float64, the network is float32",
        "obs": numbers(rows[:, :11]),
        "action": numbers(rows[:, 11:]),
        "mean": [numbers(mean) for mean, _ in heads],
        "logVar": [numbers(log_var) for log_var in log_vars],
    }
    write_json(path, fixture)


def hopper_policy(path: Path) -> None:
    """The policy's head, sampled actions and their log-densities for eight recorded rows."""
    _, net = load_policy()
    obs = replay_rows(8, 5)[:, :11].float()
    with torch.no_grad():
        mean, raw = net(obs)
    log_std = raw.clamp(-20, 2)
    generator = torch.Generator().manual_seed(5)
    eps = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    mu, sigma = mean.double(), log_std.double().exp()
    u = mu + sigma * eps
    action = torch.tanh(u)
    squashed = SquashedDiagGaussianDistribution(3)
    squashed.proba_distribution(mu, log_std.double())
    log_prob = squashed.log_prob(action, u)
    normal = -0.5 * eps.square() - log_std.double() - 0.5 * math.log(2 * math.pi)
    jacobian = 2 * (math.log(2) - u - softplus(-2 * u, threshold=1e9))
    fixture = {
        "madeBy": f"{COMMAND} hopper",
        "note": "the network is float32, everything after it float64; u = mean + exp(logStd) * eps",
        "logProbFormula": "Stable-Baselines3: sum_k(log N(u_k; mean_k, exp(logStd_k)) "
        f"- log(1 - tanh(u_k)^2 + {squashed.epsilon}))",
        "logProbExactFormula": "sum_k(log N(u_k; mean_k, exp(logStd_k)) "
        "- 2 * (log(2) - u_k - softplus(-2 * u_k)))",
        "obs": numbers(obs),
        "mean": numbers(mean),
        "logStd": numbers(log_std),
        "deterministicAction": numbers(torch.tanh(mu)),
        "eps": numbers(eps),
        "action": numbers(action),
        "logProb": numbers(log_prob),
        "logProbExact": numbers((normal - jacobian).sum(dim=1)),
    }
    write_json(path, fixture)


def hopper_physics(path: Path) -> None:
    """Forty steps in MuJoCo: the policy's actions, then a push that makes the hopper fall."""
    model, _ = load_policy()
    states = list(visited(model, 1, 40_000))
    qpos, qvel, _, _ = states[60]
    actions = [action for _, _, _, action in states[60:86]]
    actions += [np.array([-1.2, -0.9, 1.2])] * 14
    env = HopperEnv()
    fixture: dict[str, Any] = {
        "madeBy": f"{COMMAND} hopper",
        "note": "the state, observation, reward and termination after each action; stepping goes "
        "on after termination; the last 14 actions leave [-1, 1]",
        "start": {"qpos": numbers(qpos), "qvel": numbers(qvel)},
        "startObs": numbers(env.set_state(qpos, qvel)),
        "actions": [numbers(action) for action in actions],
    }
    steps: dict[str, list[Any]] = {
        key: [] for key in ("qpos", "qvel", "obs", "reward", "terminated")
    }
    # The actions step as the doubles that the file holds, so that a reader's are the same.
    for action in fixture["actions"]:
        obs, reward, terminated, _, _ = env.step(np.array(action))
        steps["qpos"].append(numbers(env.data.qpos))
        steps["qvel"].append(numbers(env.data.qvel))
        steps["obs"].append(numbers(obs))
        steps["reward"].append(reward)
        steps["terminated"].append(terminated)
    write_json(path, fixture | steps)


def main() -> None:
    """Write the chosen fixtures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=["ensembles", "hopper"])
    torch.set_num_threads(1)
    if parser.parse_args().which == "ensembles":
        toy_ensembles(FIXTURES / "ensembles")
    else:
        hopper_ensemble(FIXTURES / "hopper" / "ensemble.json")
        hopper_policy(FIXTURES / "hopper" / "policy.json")
        hopper_physics(FIXTURES / "hopper" / "physics.json")


if __name__ == "__main__":
    main()
