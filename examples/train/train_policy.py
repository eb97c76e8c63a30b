"""Train a tanh-Gaussian policy on the hopper task with soft actor-critic.

Writes ``runs/policy.zip`` (the best snapshot by evaluation), ``runs/replay.npz`` (every transition
of training up to that snapshot, with the physics state) and ``runs/policy.json`` (what was
measured).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

from hopper_env import HopperEnv
from recorder import Recorder

RUNS = Path(__file__).resolve().parent / "runs"


def evaluate(model: SAC, episodes: int, deterministic: bool, seed: int) -> dict[str, float]:
    """Return and length, mean and standard deviation over some episodes."""
    env = HopperEnv()
    returns, lengths = [], []
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed + episode)
        total, done = 0.0, False
        while not done:
            action, _ = model.predict(obs, deterministic=deterministic)
            obs, reward, terminated, truncated, _ = env.step(action)
            total, done = total + reward, terminated or truncated
        returns.append(total)
        lengths.append(env.elapsed)
    return {
        "returnMean": float(np.mean(returns)),
        "returnStd": float(np.std(returns)),
        "lengthMean": float(np.mean(lengths)),
        "lengthStd": float(np.std(lengths)),
        "episodes": episodes,
    }


class Watch(BaseCallback):
    """Evaluates now and then, keeps the best snapshot, and stops when it is good or time is up."""

    def __init__(self, recorder: Recorder, every: int, target: float, seconds: float) -> None:
        super().__init__()
        self.recorder, self.every, self.target, self.seconds = recorder, every, target, seconds
        self.best = -np.inf
        self.started = time.monotonic()

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every:
            return True
        assert isinstance(self.model, SAC)
        score = evaluate(self.model, 4, deterministic=False, seed=10_000)
        elapsed = time.monotonic() - self.started
        print(
            f"{self.num_timesteps:7d} steps {elapsed:6.0f} s  return {score['returnMean']:7.1f}"
            f" ± {score['returnStd']:6.1f}  length {score['lengthMean']:6.1f}",
            flush=True,
        )
        if score["returnMean"] > self.best:
            self.best = score["returnMean"]
            self.model.save(RUNS / "policy.zip")
            self.recorder.save(RUNS / "replay.npz")
        return self.best < self.target and elapsed < self.seconds


def report(seed: int, steps: int, seconds: float) -> None:
    """Measure the best snapshot and write the result down."""
    model = SAC.load(RUNS / "policy.zip", device="cpu")
    torch.manual_seed(seed)
    result = {
        "seed": seed,
        "steps": steps,
        "snapshotSteps": model.num_timesteps,
        "seconds": round(seconds),
        "stochastic": evaluate(model, 20, deterministic=False, seed=20_000),
        "deterministic": evaluate(model, 20, deterministic=True, seed=20_000),
    }
    (RUNS / "policy.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def main() -> None:
    """Train, evaluate and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=250_000, help="at most this many")
    parser.add_argument("--seconds", type=float, default=1320, help="stop after this long")
    parser.add_argument("--target", type=float, default=2000, help="stop at this mean return")
    args = parser.parse_args()
    torch.set_num_threads(1)
    RUNS.mkdir(exist_ok=True)

    recorder = Recorder(HopperEnv())
    model = SAC(
        "MlpPolicy",
        recorder,
        learning_rate=7e-4,
        buffer_size=args.steps,
        learning_starts=2_000,
        batch_size=128,
        train_freq=2,
        gradient_steps=1,
        policy_kwargs={"net_arch": [128, 128]},
        seed=args.seed,
        device="cpu",
    )
    started = time.monotonic()
    watch = Watch(recorder, every=5_000, target=args.target, seconds=args.seconds)
    model.learn(args.steps, callback=watch)
    seconds = time.monotonic() - started

    report(args.seed, watch.num_timesteps, seconds)


if __name__ == "__main__":
    main()
