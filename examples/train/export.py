"""Export the trained ensemble and policy to ONNX with their manifests, and record start states.

Reads ``runs/``; writes ``examples/models/hopper-ensemble`` and ``examples/models/hopper-policy``.
Each export is compared with PyTorch, and the ensemble's members are shown to give a row the same
bits whatever other rows it runs with.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import onnx
import torch
from stable_baselines3 import SAC
from stable_baselines3 import __version__ as sb3_version
from torch import Tensor, nn

from hopper_env import Array, HopperEnv
from manifest import export, numbers, session, write_json
from networks import LOG_VAR_MAX, LOG_VAR_MIN, EnsembleNet, PolicyNet, SeparateEnsemble
from train_ensemble import HIDDEN, MEMBERS, RUNS, load_replay

MODELS = Path(__file__).resolve().parent.parent / "models"
BOX = {"type": "box", "low": [-1, -1, -1], "high": [1, 1, 1]}
OBS, ACTION, OUT = 11, 3, 12


def load_ensemble() -> tuple[dict[str, Any], EnsembleNet]:
    """The training result of ``train_ensemble.py`` and its network."""
    result = torch.load(RUNS / "ensemble.pt")
    net = EnsembleNet(MEMBERS, [OBS + ACTION, *HIDDEN, 2 * OUT])
    net.load_state_dict(result["net"])
    return result, net.eval()


def load_policy() -> tuple[SAC, PolicyNet]:
    """The trained agent, and its actor alone."""
    model = SAC.load(RUNS / "policy.zip", device="cpu")
    actor = model.actor
    assert isinstance(actor.log_std, nn.Module)
    return model, PolicyNet(actor.latent_pi, actor.mu, actor.log_std).eval()


def replay_rows(count: int, seed: int) -> Tensor:
    """Random recorded rows of observation and action [count, 14], raw units, float64."""
    inputs, _ = load_replay(RUNS / "replay.npz")
    return inputs[torch.from_numpy(np.random.default_rng(seed).choice(len(inputs), count, False))]


def export_ensemble(folder: Path) -> None:
    """Write the ensemble as one graph with a chain of Gemm nodes per member."""
    result, net = load_ensemble()
    members = range(MEMBERS)
    names = [f"x{i}" for i in members]
    means, log_vars = [f"mean{i}" for i in members], [f"logVar{i}" for i in members]
    rows = ((replay_rows(4 * MEMBERS, 1) - result["mean"]) / result["std"]).float()
    examples = {name: (rows[4 * i : 4 * i + 4], {0: f"b{i}"}) for i, name in enumerate(names)}
    path = folder / "ensemble.onnx"
    golden = export(path, SeparateEnsemble(net, OUT), examples, [*means, *log_vars])
    operators = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert operators["Gemm"] == MEMBERS * (len(HIDDEN) + 1) and not operators["MatMul"], operators
    print("ensemble", dict(operators), path.stat().st_size, "bytes")
    check_bits(path, result)

    env = HopperEnv()
    config, meta = env.config, result["meta"]
    meta["versions"] |= {"mujoco": mujoco.__version__, "onnx": onnx.__version__}
    manifest = {
        "format": 1,
        "kind": "ensemble",
        "name": "hopper-ensemble",
        "description": "Probabilistic dynamics ensemble of the planar hopper in examples/hopper, "
        "trained on the replay of soft actor-critic.",
        "license": "MIT",
        "file": path.name,
        "members": "separate",
        "inputs": names,
        "outputs": {"mean": means, "logVar": log_vars},
        "obsSize": OBS,
        "actionSize": ACTION,
        "action": BOX,
        "ensembleSize": MEMBERS,
        "elites": result["elites"],
        "rewardIndex": OUT - 1,
        "logVar": {"form": "raw", "min": [LOG_VAR_MIN] * OUT, "max": [LOG_VAR_MAX] * OUT},
        "predictsDelta": True,
        "noDelta": [],
        "inputNormalizer": {"mean": numbers(result["mean"]), "std": numbers(result["std"])},
        "obsNames": config["obsNames"],
        "actionNames": config["actionNames"],
        "stepSeconds": round(env.dt, 12),
        "meta": meta,
        "golden": golden,
    }
    write_json(folder / "manifest.json", manifest)


def check_bits(path: Path, result: dict[str, Any]) -> None:
    """A row alone, padded to 16 rows, gives the same bits as inside 1024 rows."""
    run = session(path).run
    rows = ((replay_rows(1024, 2) - result["mean"]) / result["std"]).float().numpy()
    whole = run(None, {f"x{i}": rows for i in range(MEMBERS)})
    for index in range(0, 1024, 31):
        padded = np.zeros((16, rows.shape[1]), np.float32)
        padded[0] = rows[index]
        alone = run(None, {f"x{i}": padded for i in range(MEMBERS)})
        for one, many in zip(alone, whole, strict=True):
            assert np.asarray(one)[0].tobytes() == np.asarray(many)[index].tobytes(), index
    print("ensemble: a row padded to 16 has the bits it has among 1024")


def export_policy(folder: Path) -> None:
    """Write the policy with the exporter's defaults: the weights lie in a second file."""
    _, net = load_policy()
    obs = replay_rows(4, 3)[:, :OBS].float()
    path = folder / "policy.onnx"
    golden = export(path, net, {"obs": (obs, {0: "batch"})}, ["mean", "logStd"], external_data=True)
    meta = json.loads((RUNS / "policy.json").read_text())
    meta["algorithm"] = "soft actor-critic"
    meta["versions"] = {
        "torch": str(torch.__version__),
        "stable-baselines3": sb3_version,
        "mujoco": mujoco.__version__,
        "onnx": onnx.__version__,
    }
    manifest = {
        "format": 1,
        "kind": "policy",
        "name": "hopper-policy",
        "description": "Tanh-Gaussian policy for the planar hopper in examples/hopper.",
        "license": "MIT",
        "file": path.name,
        "input": "obs",
        "obsSize": OBS,
        "actionSize": ACTION,
        "action": BOX,
        "head": {
            "type": "tanh-gaussian",
            "mean": "mean",
            "logStd": "logStd",
            "logStdMin": -20,
            "logStdMax": 2,
        },
        "meta": meta,
        "golden": golden,
    }
    write_json(folder / "manifest.json", manifest)
    print("policy", [(file.name, file.stat().st_size) for file in sorted(folder.iterdir())])


def visited(model: SAC, episodes: int, seed: int) -> Iterator[tuple[Array, Array, Array, Array]]:
    """Every (qpos, qvel, obs, action) that the stochastic policy meets in some episodes."""
    torch.manual_seed(seed)
    env = HopperEnv()
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed + episode)
        done = False
        while not done:
            action, _ = model.predict(obs)
            yield env.data.qpos.copy(), env.data.qvel.copy(), obs, action
            obs, _, terminated, truncated, _ = env.step(action)
            done = terminated or truncated


def record_starts(path: Path, count: int = 256, seed: int = 30_000) -> None:
    """Write start states drawn from whole episodes of the stochastic policy, all healthy."""
    model, _ = load_policy()
    states = list(visited(model, 20, seed))
    chosen = np.sort(np.random.default_rng(seed).choice(len(states), count, replace=False))
    env = HopperEnv()
    assert all(env.healthy(states[i][2]) for i in chosen)
    picked = {
        key: [numbers(states[i][k]) for i in chosen] for k, key in enumerate(("qpos", "qvel"))
    }
    write_json(path, picked)
    print("starts", count, "of", len(states), "states of 20 episodes")


def main() -> None:
    """Export everything."""
    torch.set_num_threads(1)
    export_policy(MODELS / "hopper-policy")
    record_starts(MODELS / "hopper-ensemble" / "starts.json")
    export_ensemble(MODELS / "hopper-ensemble")


if __name__ == "__main__":
    main()
