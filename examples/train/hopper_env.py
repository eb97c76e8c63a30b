"""The hopper task: a planar one-legged robot in MuJoCo that is rewarded for moving forward.

The constants live in ``examples/hopper/hopper.json`` and the body in
``examples/hopper/hopper.xml``; a simulator in another language that reads both files and follows
the rules of :class:`HopperEnv` steps the same task.
"""

import json
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

HOPPER_DIR = Path(__file__).resolve().parent.parent / "hopper"

Array = NDArray[np.float64]


def load_config() -> dict[str, Any]:
    """Read the constants of the task."""
    return json.loads((HOPPER_DIR / "hopper.json").read_text())


class HopperEnv(gymnasium.Env[Array, Array]):
    """The hopper task. All arithmetic is float64. The names are those of ``hopper.json``.

    State. ``qpos = [x, z, pitch, hip, knee, ankle]`` (metres, radians) and ``qvel``, its rate.

    Reset. MuJoCo's data is reset; every entry of ``qpos`` is the model's ``qpos0`` plus a uniform
    draw from ``[-resetNoise, resetNoise]``; every entry of ``qvel`` is another such draw; then
    ``mj_forward``.

    Observation. 11 numbers: ``qpos[1:]``, then ``qvel`` clipped to
    ``[-velocityClip, velocityClip]``. A NaN stays a NaN.

    Step. The action (3 numbers: hip, knee, ankle) is clipped to [-1, 1] and becomes ``ctrl``;
    ``mj_step`` runs ``frameSkip`` times; one step lasts ``dt = frameSkip * timestep`` seconds.

    Reward. ``forwardVelocity * (x_after - x_before) / dt + healthyBonus
    - controlCost * (a0^2 + a1^2 + a2^2)`` with the clipped action. The bonus is paid on every
    step, the terminating one included.

    Termination, a function of the new observation ``s`` alone. Healthy means: every entry is
    finite, ``|s[i]| < stateLimit`` for every i >= 1, ``s[0] > minHeight`` and
    ``|s[1]| < maxPitch``. Terminated means not healthy.

    Truncation. After ``maxEpisodeSteps`` steps, unless terminated.
    """

    def __init__(self) -> None:
        self.config = load_config()
        self.model = mujoco.MjModel.from_xml_path(str(HOPPER_DIR / self.config["model"]))
        self.data = mujoco.MjData(self.model)
        self.dt: float = self.config["frameSkip"] * self.model.opt.timestep
        self.elapsed = 0
        self.observation_space = Box(-np.inf, np.inf, (11,), np.float64)
        self.action_space = Box(-1.0, 1.0, (3,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode near the model's standing pose."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        noise = self.config["resetNoise"]
        self.data.qpos[:] = self.model.qpos0 + self.np_random.uniform(-noise, noise, self.model.nq)
        self.data.qvel[:] = self.np_random.uniform(-noise, noise, self.model.nv)
        mujoco.mj_forward(self.model, self.data)
        self.elapsed = 0
        return self.observe(), {}

    def set_state(self, qpos: Array, qvel: Array) -> Array:
        """Start an episode in a given physics state; returns the observation."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = qpos
        self.data.qvel[:] = qvel
        mujoco.mj_forward(self.model, self.data)
        self.elapsed = 0
        return self.observe()

    def observe(self) -> Array:
        """The observation [11] of the current state."""
        limit = self.config["velocityClip"]
        return np.concatenate([self.data.qpos[1:], np.clip(self.data.qvel, -limit, limit)])

    def healthy(self, obs: Array) -> bool:
        """Whether an observation [11] is one of a hopper that still stands or flies."""
        rule = self.config["healthy"]
        return bool(
            np.isfinite(obs).all()
            and (np.abs(obs[1:]) < rule["stateLimit"]).all()
            and obs[0] > rule["minHeight"]
            and abs(obs[1]) < rule["maxPitch"]
        )

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Apply an action [3] for one control step."""
        control = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        before = float(self.data.qpos[0])
        self.data.ctrl[:] = control
        mujoco.mj_step(self.model, self.data, self.config["frameSkip"])
        self.elapsed += 1
        velocity = (float(self.data.qpos[0]) - before) / self.dt
        weight = self.config["reward"]
        reward = (
            weight["forwardVelocity"] * velocity
            + weight["healthyBonus"]
            - weight["controlCost"] * float(control @ control)
        )
        obs = self.observe()
        terminated = not self.healthy(obs)
        truncated = not terminated and self.elapsed >= self.config["maxEpisodeSteps"]
        return obs, reward, terminated, truncated, {}
