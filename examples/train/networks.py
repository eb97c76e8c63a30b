"""The networks of the examples, as plain PyTorch modules that export to plain ONNX graphs."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

WEIGHT_DECAY = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
LOG_VAR_MIN, LOG_VAR_MAX = -10.0, 0.5


def soft_clamp(log_var: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Bound a log-variance smoothly with two softplus passes, the upper bound first (PETS)."""
    low, high = torch.as_tensor(low), torch.as_tensor(high)
    log_var = high - softplus(high - log_var, threshold=1e9)
    return low + softplus(log_var - low, threshold=1e9)


class EnsembleNet(nn.Module):
    """``members`` multilayer perceptrons with SiLU, held as batched weights.

    Input ``[members, batch, sizes[0]]``, output ``[members, batch, sizes[-1]]``. A Gaussian head
    has twice the predicted size: first the means, then the raw log-variances.
    """

    def __init__(self, members: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.members = members
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            std = 1 / (2 * fan_in**0.5)
            weight = torch.empty(members, fan_in, fan_out)
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, fan_out)))

    def forward(self, x: Tensor) -> Tensor:
        """Run every member on its own rows."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if layer < last:
                x = silu(x)
        return x

    def decay(self) -> Tensor:
        """The weight decay term of the loss: half the squared weights, weighted per layer."""
        terms = zip(WEIGHT_DECAY, self.weights, strict=True)
        return torch.stack([0.5 * rate * weight.square().sum() for rate, weight in terms]).sum()

    def member(self, index: int) -> nn.Sequential:
        """One member as a chain of ``nn.Linear`` and ``nn.SiLU``."""
        layers: list[nn.Module] = []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            linear = nn.Linear(weight.shape[1], weight.shape[2])
            linear.weight.data = weight.data[index].T.contiguous()
            linear.bias.data = bias.data[index, 0].clone()
            layers += [linear, nn.SiLU()]
        return nn.Sequential(*layers[:-1])


class GaussianMember(nn.Module):
    """One member: ``[batch, in]`` to mean and raw log-variance, both ``[batch, size]``."""

    def __init__(self, chain: nn.Sequential, size: int) -> None:
        super().__init__()
        self.chain, self.size = chain, size

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Split the head's output."""
        y = self.chain(x)
        return y[:, : self.size], y[:, self.size :]


class SeparateEnsemble(nn.Module):
    """All members in one graph, each a chain of its own with its own rows.

    Inputs ``[b_i, in]`` for each member; outputs mean 0, ..., mean E-1, then log-variance 0, ...
    """

    def __init__(self, net: EnsembleNet, size: int) -> None:
        super().__init__()
        chains = [GaussianMember(net.member(i), size) for i in range(net.members)]
        self.chains = nn.ModuleList(chains)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run each member on its own input."""
        heads = [chain(x) for chain, x in zip(self.chains, inputs, strict=True)]
        return tuple(mean for mean, _ in heads) + tuple(log_var for _, log_var in heads)


class StackedEnsemble(nn.Module):
    """All members as batched products: ``[E, b, in]`` to mean and log-variance ``[E, b, size]``."""

    def __init__(self, net: EnsembleNet, size: int) -> None:
        super().__init__()
        self.net, self.size = net, size

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run every member on its own rows."""
        y = self.net(x)
        return y[..., : self.size], y[..., self.size :]


class SharedEnsemble(StackedEnsemble):
    """Like :class:`StackedEnsemble`, every member on the same rows ``[B, in]``."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run every member on the same rows."""
        return super().forward(x.expand(self.net.members, -1, -1))


class DeterministicEnsemble(SharedEnsemble):
    """Like :class:`SharedEnsemble`, means only."""

    def forward(self, x: Tensor) -> Tensor:
        """Run every member on the same rows and leave the log-variances out."""
        return super().forward(x)[0]


class PolicyNet(nn.Module):
    """A tanh-Gaussian policy: ``[batch, obs]`` to the mean and raw log-deviation before tanh."""

    def __init__(self, trunk: nn.Module, mean: nn.Module, log_std: nn.Module) -> None:
        super().__init__()
        self.trunk, self.mean, self.log_std = trunk, mean, log_std

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Run the trunk and both heads."""
        features = self.trunk(obs)
        return self.mean(features), self.log_std(features)
