"""Recording of every transition an agent meets, with the full physics state."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from hopper_env import Array, HopperEnv


class Recorder(gymnasium.Wrapper[Array, Array, Array, Array]):
    """Wraps a :class:`HopperEnv` and keeps each transition.

    ``qpos`` and ``qvel`` are the physics state *before* the step, the one that shows ``obs``.
    """

    def __init__(self, env: HopperEnv) -> None:
        super().__init__(env)
        self.hopper = env
        self.rows: dict[str, list[Any]] = {
            key: []
            for key in (
                "obs", "action", "reward", "next_obs", "terminated", "truncated", "qpos", "qvel"
            )
        }  # fmt: skip

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Step the hopper and keep the transition."""
        data = self.hopper.data
        obs, qpos, qvel = self.hopper.observe(), data.qpos.copy(), data.qvel.copy()
        next_obs, reward, terminated, truncated, info = self.hopper.step(action)
        row = (obs, np.array(action), reward, next_obs, terminated, truncated, qpos, qvel)
        for values, value in zip(self.rows.values(), row, strict=True):
            values.append(value)
        return next_obs, reward, terminated, truncated, info

    def save(self, path: Path) -> None:
        """Write all transitions to an .npz file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **{key: np.array(rows) for key, rows in self.rows.items()})
