"""Export what the policy's critics say a state is worth, for planners that look a few steps ahead.

Reads ``runs/policy.zip``; writes ``examples/models/hopper-value``, one graph from observations
``[batch, 11]`` in raw units to values ``[batch, 1]``. It holds the actor as well as the critics:
the value of a state is the mean of both critics at the policy's mean action.
"""

import math
from pathlib import Path

import mujoco
import onnx
import torch
from stable_baselines3 import SAC
from stable_baselines3 import __version__ as sb3_version
from stable_baselines3.common.policies import ContinuousCritic
from torch import Tensor, nn

from export import MODELS, OBS, load_policy, replay_rows
from manifest import export, write_json
from networks import PolicyNet


class ValueNet(nn.Module):
    """The mean of a soft actor-critic's critics at its policy's mean action."""

    def __init__(self, policy: PolicyNet, critic: ContinuousCritic) -> None:
        super().__init__()
        self.policy = policy
        self.critics = nn.ModuleList(critic.q_networks)

    def forward(self, obs: Tensor) -> Tensor:
        """The value [batch, 1] of observations [batch, obs]."""
        action = torch.tanh(self.policy(obs)[0])
        pair = torch.cat([obs, action], dim=1)
        return torch.stack([critic(pair) for critic in self.critics]).mean(dim=0)


def entropy_coefficient(model: SAC) -> float:
    """What the critics were paid for a nat of the policy's entropy."""
    assert model.log_ent_coef is not None
    return math.exp(model.log_ent_coef.item())


def export_value(folder: Path) -> None:
    """Write the value network and its manifest."""
    model, policy = load_policy()
    net = ValueNet(policy, model.critic).eval()
    obs = replay_rows(4, 4)[:, :OBS].float()
    path = folder / "value.onnx"
    golden = export(path, net, {"obs": (obs, {0: "batch"})}, ["value"])
    manifest = {
        "format": 1,
        "kind": "network",
        "name": "hopper-value",
        "description": "Discounted return to expect from a state of the hopper in examples/hopper "
        "under the policy hopper-policy, as its critics learned it.",
        "license": "MIT",
        "file": path.name,
        "meta": {
            "obsSize": OBS,
            "discount": model.gamma,
            "value": "the mean of two soft critics at the policy's mean action",
            "entropyCoefficient": round(entropy_coefficient(model), 6),
            "snapshotSteps": model.num_timesteps,
            "versions": {
                "torch": str(torch.__version__),
                "stable-baselines3": sb3_version,
                "mujoco": mujoco.__version__,
                "onnx": onnx.__version__,
            },
        },
        "golden": golden,
    }
    write_json(folder / "manifest.json", manifest)
    print("value", [(file.name, file.stat().st_size) for file in sorted(folder.iterdir())])


def main() -> None:
    """Export the value network."""
    torch.set_num_threads(1)
    export_value(MODELS / "hopper-value")


if __name__ == "__main__":
    main()
