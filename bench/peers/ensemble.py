"""The ensemble rollouts and the CEM iteration of ``bench/planning.ts``, written in PyTorch.

Reads one task a line from standard input, such as ``rollout batched 10000 5`` or ``cem separate
500 20 15``, runs it, and answers with one line. The weights are those of the committed models, read
from their ONNX files. Each row runs on its own member, as in mbrl-lib: a permutation of the rows is
cut into one part for each elite. Two forms are timed: ``batched`` (one ``baddbmm`` a layer for all
members, as mbrl-lib's ``EnsembleLinearLayer``) and ``separate`` (one ``addmm`` a layer and member).

Needs torch, onnx and numpy: ``pip install torch onnx numpy``.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import linear, relu, silu, softplus

import onnx
from onnx import numpy_helper

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
Weights = list[tuple[Tensor, Tensor]]


def gemms(path: Path) -> Weights:
    """Weight ``[out, in]`` and bias of every Gemm of a graph, in its order."""
    graph = onnx.load(path).graph
    tensors = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in graph.initializer}
    layers = []
    for node in graph.node:
        if node.op_type == "Gemm":
            transposed = any(a.name == "transB" and a.i == 1 for a in node.attribute)
            weight = tensors[node.input[1]]
            layers.append((weight if transposed else weight.T.contiguous(), tensors[node.input[2]]))
    return layers


class Ensemble:
    """The hopper's ensemble: what ``EnsembleDynamics`` does in a step without a penalty."""

    def __init__(self, form: str) -> None:
        folder = MODELS / "hopper-ensemble"
        manifest = json.loads((folder / "manifest.json").read_text())
        layers = gemms(folder / manifest["file"])
        depth = len(layers) // manifest["ensembleSize"]
        members = [layers[i : i + depth] for i in range(0, len(layers), depth)]
        elites = [members[e] for e in manifest["elites"]]
        self.members = len(elites)
        self.elites = elites
        self.form = form
        self.batched = [
            (
                torch.stack([m[i][0].T for m in elites]).contiguous(),
                torch.stack([m[i][1] for m in elites])[:, None].contiguous(),
            )
            for i in range(depth)
        ]
        self.mean = torch.tensor(manifest["inputNormalizer"]["mean"], dtype=torch.float32)
        self.std = torch.tensor(manifest["inputNormalizer"]["std"], dtype=torch.float32)
        self.low = torch.tensor(manifest["logVar"]["min"], dtype=torch.float32)
        self.high = torch.tensor(manifest["logVar"]["max"], dtype=torch.float32)
        self.outputs = len(manifest["logVar"]["min"])

    def heads(self, x: Tensor) -> Tensor:
        """Outputs ``[members, b, 2 D]`` of inputs ``[members, b, in]``."""
        if self.form == "batched":
            for i, (weight, bias) in enumerate(self.batched):
                x = torch.baddbmm(bias, x, weight)
                if i < len(self.batched) - 1:
                    x = silu(x)
            return x
        outputs = []
        for rows, member in zip(x, self.elites, strict=True):
            for i, (weight, bias) in enumerate(member):
                rows = linear(rows, weight, bias)
                if i < len(member) - 1:
                    rows = silu(rows)
            outputs.append(rows)
        return torch.stack(outputs)

    def step(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Next observations, rewards and ends; the rows are a multiple of the elites."""
        order = torch.randperm(len(obs))
        x = (torch.cat([obs, action], 1) - self.mean) / self.std
        y = self.heads(x[order].view(self.members, -1, x.shape[1])).flatten(0, 1)
        mean, log_var = y[:, : self.outputs], y[:, self.outputs :]
        log_var = self.high - softplus(self.high - log_var)
        log_var = self.low + softplus(log_var - self.low)
        sample = torch.empty_like(mean)
        sample[order] = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        following = obs + sample[:, :-1]
        fallen = (
            (following[:, 0] <= 0.75)
            | (following[:, 1].abs() >= 0.3)
            | (following[:, 1:].abs() >= 100).any(1)
            | ~following.isfinite().all(1)
        )
        return following, sample[:, -1], fallen


class Policy:
    """The hopper's policy: two layers and a tanh-Gaussian head."""

    def __init__(self) -> None:
        self.layers = gemms(MODELS / "hopper-policy" / "policy.onnx")

    def act(self, obs: Tensor) -> Tensor:
        """A sampled action for each row."""
        *trunk, mean, log_std = self.layers
        for weight, bias in trunk:
            obs = relu(linear(obs, weight, bias))
        std = linear(obs, *log_std).clamp(-20, 2).exp()
        return torch.tanh(linear(obs, *mean) + std * torch.randn_like(std))


def rollout(model: Ensemble, policy: Policy, start: Tensor, horizon: int) -> int:
    """Transitions of a branched rollout that stops where episodes end, collected on the way."""
    obs, kept = start, []
    for _ in range(horizon):
        rows = len(obs) - len(obs) % model.members
        obs = obs[:rows]
        action = policy.act(obs)
        following, reward, fallen = model.step(obs, action)
        kept.append((obs, action, reward, following, fallen))
        obs = following[~fallen]
    return sum(len(part[0]) for part in kept)


def cem(model: Ensemble, start: Tensor, count: int, particles: int, horizon: int) -> float:
    """One iteration of the cross-entropy method: draw, value, refit."""
    width = 3
    mean, std = torch.zeros(horizon, width), torch.full((horizon, width), 0.5)
    drawn = torch.nn.init.trunc_normal_(torch.empty(count, horizon, width), a=-2, b=2)
    actions = mean + std * drawn
    obs = start[:1].expand(count * particles, -1)
    returns = torch.zeros(count * particles)
    alive = torch.ones(count * particles, dtype=torch.bool)
    for t in range(horizon):
        following, reward, fallen = model.step(obs, actions[:, t].repeat_interleave(particles, 0))
        returns += torch.where(alive, reward, 0.0)
        alive &= ~fallen
        obs = following
    values = returns.view(count, particles).mean(1)
    elite = actions[values.nan_to_num(-torch.inf).topk(max(1, count // 10)).indices]
    mean = 0.1 * mean + 0.9 * elite.mean(0)
    std = (0.1 * std.square() + 0.9 * elite.var(0)).sqrt()
    return float(mean.sum() + std.sum())


def main() -> None:
    """Answer tasks until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    models = {form: Ensemble(form) for form in ("batched", "separate")}
    policy = Policy()
    recorded = json.loads((MODELS / "hopper-ensemble" / "starts.json").read_text())
    known = torch.tensor(
        [p[1:] + v for p, v in zip(recorded["qpos"], recorded["qvel"], strict=True)]
    )
    known[:, 5:] = known[:, 5:].clamp(-10, 10)
    print("ready", torch.__version__, flush=True)
    for line in sys.stdin:
        task, form, *numbers = line.split()
        sizes = [int(n) for n in numbers]
        with torch.inference_mode():
            if task == "rollout":
                start = known[torch.arange(sizes[0]) % len(known)]
                result = rollout(models[form], policy, start, sizes[1])
            else:
                result = cem(models[form], known, *sizes)
        print(result, flush=True)


if __name__ == "__main__":
    main()
