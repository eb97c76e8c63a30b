"""Export an ensemble from PyTorch: python ensemble.py writes the folder my-model.

Needs torch, onnx and onnxscript. See docs/models.md for every field of the manifest.
"""

import json
from pathlib import Path

import torch

E, OBS, ACT = 5, 3, 1
D = OBS + 1  # changes of the observation, then the reward


class Ensemble(torch.nn.Module):
    """[B, OBS + ACT] -> mean and raw log-variance, each [E, B, D]. Train it as you like."""

    def __init__(self):
        super().__init__()
        self.w1 = torch.nn.Parameter(torch.randn(E, OBS + ACT, 64) / 8)
        self.w2 = torch.nn.Parameter(torch.randn(E, 64, 2 * D) / 8)

    def forward(self, x):
        h = torch.nn.functional.silu(x @ self.w1)
        return (h @ self.w2).chunk(2, dim=-1)


net = Ensemble().eval()
x = torch.randn(4, OBS + ACT)
folder = Path("my-model")
folder.mkdir(exist_ok=True)
torch.onnx.export(
    net, (x,), folder / "ensemble.onnx", input_names=["x"], output_names=["mean", "logVar"],
    dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True,
)


def golden(tensor):  # checked whenever the model is loaded
    return {"shape": list(tensor.shape), "data": tensor.flatten().tolist()}


mean, log_var = (y.detach() for y in net(x))
manifest = {
    "format": 1, "kind": "ensemble", "file": "ensemble.onnx", "members": "shared",
    "inputs": "x", "outputs": {"mean": "mean", "logVar": "logVar"},
    "obsSize": OBS, "actionSize": ACT, "action": {"type": "box", "low": [-1], "high": [1]},
    "ensembleSize": E, "elites": list(range(E)), "rewardIndex": OBS, "predictsDelta": True,
    "logVar": {"form": "raw", "min": [-10] * D, "max": [0.5] * D},
    "golden": {"inputs": {"x": golden(x)},
               "outputs": {"mean": golden(mean), "logVar": golden(log_var)}},
}
(folder / "manifest.json").write_text(json.dumps(manifest))
