"""Train a world model that remembers with a Mamba-2 core, and save it for JavaScript.

The hopper of ``examples/hopper`` is thrown into the air, in a random pose and turning, and moves
its joints at random. The model is given its height and four angles and the torques, but no
velocity, and predicts the height and angles 16 ms later. How fast anything moves is in none of its
inputs: it must be kept in mind, and forgotten when the next throw begins.

Writes ``model/model.safetensors``, the weights, and ``model/golden.safetensors``, what PyTorch
makes of throws that were held out.
"""

import argparse
import json
import time
from pathlib import Path

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from core import Mamba2Core, State

HERE = Path(__file__).resolve().parent
HOPPER = HERE.parent / "hopper"
OBS, ACTION, STEPS = 5, 3, 64  # positions, torques, steps of a row
WIDTH, LAYERS, SIZES = 64, 2, {"expand": 2, "head_dim": 16, "states": 16, "taps": 4}
SEEN, DREAMT = 8, 20  # steps of a dream: given, and imagined
HELD_OUT, GOLDEN, DREAMS = 512, 8, 128  # rows

Array = NDArray[np.float64]


class Thrower:
    """Throws the hopper. It falls, lands and lies; an episode is as long as one asks for."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.skip = json.loads((HOPPER / "hopper.json").read_text())["frameSkip"]
        self.model = mujoco.MjModel.from_xml_path(str(HOPPER / "hopper.xml"))
        self.data = mujoco.MjData(self.model)

    def throw(self, steps: int) -> tuple[Array, Array]:
        """Observations ``[steps + 1, 5]``: z, pitch, hip, knee, ankle; actions ``[steps, 3]``."""
        random, data = self.random, self.data
        mujoco.mj_resetData(self.model, data)
        low, high = [0, 1.2, -0.4, -0.8, -0.2, -0.5], [0, 1.6, 0.4, 0.5, 1.2, 0.5]
        data.qpos[:] = random.uniform(low, high)
        data.qvel[:] = random.normal(size=6) * [1, 1, 1, 3, 3, 3]
        mujoco.mj_forward(self.model, data)
        strength = random.uniform(0.2, 1)
        push = random.normal(size=ACTION)
        obs, action = np.empty((steps + 1, OBS)), np.empty((steps, ACTION))
        obs[0] = data.qpos[1:]
        for step in range(steps):
            push = 0.9 * push + (1 - 0.9**2) ** 0.5 * random.normal(size=ACTION)  # variance 1
            action[step] = data.ctrl[:] = np.clip(strength * push, -1, 1)
            mujoco.mj_step(self.model, data, self.skip)
            obs[step + 1] = data.qpos[1:]
        return obs, action

    def rows(self, count: int) -> dict[str, Tensor]:
        """Throws of 16 to 48 steps one after another, in rows of ``STEPS``; the last is cut."""
        obs, following = np.empty((2, count, STEPS, OBS))
        action = np.empty((count, STEPS, ACTION))
        reset = np.zeros((count, STEPS), np.uint8)
        for row in range(count):
            start = 0
            while start < STEPS:
                end = min(start + self.random.integers(16, 49), STEPS)
                throw, action[row, start:end] = self.throw(end - start)
                obs[row, start:end], following[row, start:end] = throw[:-1], throw[1:]
                reset[row, start] = 1
                start = end
        arrays = {"obs": obs, "action": action, "next": following, "reset": reset}
        return {name: as_tensor(array) for name, array in arrays.items()}

    def dreams(self, count: int) -> dict[str, Tensor]:
        """Throws as long as a dream, with the observation after its last step."""
        throws = [self.throw(SEEN + DREAMT - 1) for _ in range(count)]
        obs, action = (as_tensor(np.stack(part)) for part in zip(*throws, strict=True))
        return {"obs": obs, "action": action}


def as_tensor(array: NDArray[np.generic]) -> Tensor:
    """Flags as they are, numbers in single precision."""
    return torch.from_numpy(array if array.dtype == np.uint8 else array.astype(np.float32))


class WorldModel(nn.Module):
    """Observation and action in, the next observation out, with a memory in between."""

    def __init__(self, data: dict[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("obs_mean", data["obs"].mean((0, 1)))
        self.register_buffer("obs_std", data["obs"].std((0, 1)))
        self.register_buffer("delta_std", (data["next"] - data["obs"]).std((0, 1)))
        self.backbone = Mamba2Core(WIDTH, LAYERS, **SIZES)
        # Beside the layers, as many checkpoints have it.
        self.backbone.stem = nn.Linear(OBS + ACTION, WIDTH)
        self.head = nn.Linear(WIDTH, OBS)

    def embed(self, obs: Tensor, action: Tensor) -> Tensor:
        """What the core is given."""
        scaled = (obs - self.obs_mean) / self.obs_std
        return self.backbone.stem(torch.cat([scaled, action], dim=-1))

    def advance(self, obs: Tensor, features: Tensor) -> Tensor:
        """The observation one step later."""
        return obs + self.delta_std * self.head(features)

    def forward(
        self, obs: Tensor, action: Tensor, state: State | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """``obs [B, L, 5]`` and ``action [B, L, 3]`` to the next observations and the state."""
        features, state = self.backbone(self.embed(obs, action), state, reset)
        return self.advance(obs, features), state

    def dream(self, obs: Tensor, action: Tensor) -> Tensor:
        """See ``SEEN`` steps, then imagine ``DREAMT`` observations from the actions alone.

        Returns ``[B, 1 + DREAMT, 5]``, first the last observation that was seen.
        """
        following, state = self(obs[:, :SEEN], action[:, :SEEN])
        dreamt = [obs[:, SEEN - 1 : SEEN], following[:, -1:]]
        for step in range(SEEN, SEEN + DREAMT - 1):
            following, state = self(dreamt[-1], action[:, step : step + 1], state)
            dreamt.append(following)
        return torch.cat(dreamt, dim=1)


def loss(model: WorldModel, rows: dict[str, Tensor], noise: float = 0) -> Tensor:
    """Mean squared error of the next observation, in units of its usual change.

    Noise on the observations teaches the model to live with its own errors when it dreams.
    """
    obs = rows["obs"] + noise * model.delta_std * torch.randn_like(rows["obs"])
    following, _ = model(obs, rows["action"], reset=rows["reset"])
    return ((following - rows["next"]) / model.delta_std).square().mean()


def train(args: argparse.Namespace) -> WorldModel:
    """Throw, train and say how it goes."""
    started = time.monotonic()
    data, held = Thrower(args.seed + 1).rows(args.rows), Thrower(args.seed + 2).rows(HELD_OUT)
    torch.manual_seed(args.seed)
    model = WorldModel(data)
    print(f"{args.rows} rows of {STEPS} steps in {time.monotonic() - started:.0f} s")
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    batches = args.rows // args.batch
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.rate, total_steps=args.epochs * batches, pct_start=0.05
    )
    started = time.monotonic()
    for epoch in range(1, args.epochs + 1):
        total = 0.0
        for index in torch.randperm(args.rows)[: batches * args.batch].split(args.batch):
            optimizer.zero_grad()
            error = loss(model, {name: rows[index] for name, rows in data.items()}, args.noise)
            error.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += error.item()
        with torch.no_grad():
            text = f"loss {total / batches:.4f}, held out without noise {loss(model, held):.4f}"
        print(f"epoch {epoch:2d} {time.monotonic() - started:5.0f} s  {text}", flush=True)
    return model


@torch.no_grad()
def golden(model: WorldModel, seed: int) -> dict[str, Tensor]:
    """What the model makes of new throws, computed in double precision."""
    thrower = Thrower(seed)
    rows, dream = thrower.rows(GOLDEN), thrower.dreams(DREAMS)
    x = model.embed(rows["obs"], rows["action"])
    single, _ = model.backbone(x, reset=rows["reset"])
    model.double()
    double = {name: tensor.double() for name, tensor in (rows | {"x": x}).items()}
    y, state = model.backbone(double["x"], reset=rows["reset"])
    following, _ = model(double["obs"], double["action"], reset=rows["reset"])
    gap = (single - y).square().mean().sqrt() / y.square().mean().sqrt()
    print(f"PyTorch's single precision is {gap:.1e} from its double, of the core's outputs")
    dreamt = model.dream(dream["obs"].double(), dream["action"].double())
    model.float()
    rows |= {"x": x, "y": y, "predicted": following}
    tensors = {"reset": rows.pop("reset")}
    tensors |= {f"rows.{name}": tensor for name, tensor in rows.items()}
    for i, (conv, ssm) in enumerate(state):
        tensors |= {f"state.layers.{i}.conv": conv, f"state.layers.{i}.ssm": ssm}
    dream |= {"predicted": dreamt}
    tensors |= {f"dream.{name}": tensor for name, tensor in dream.items()}
    return {name: as_tensor(tensor.contiguous().numpy()) for name, tensor in tensors.items()}


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--out", type=Path, default=HERE / "model")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = train(args)
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), args.out / "model.safetensors")
    save_file(golden(model, args.seed + 3), args.out / "golden.safetensors")


if __name__ == "__main__":
    main()
