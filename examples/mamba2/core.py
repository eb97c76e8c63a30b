"""A Mamba-2 core in plain PyTorch: the memory of a world model.

Its parameters are those of ``mamba_ssm``'s ``Mamba2`` with one group, under the same names, so a
checkpoint of one loads into the other. What it adds are episodes: ``reset`` marks the steps at
which a row starts anew, with an empty state and an empty window of the convolution.

Shapes: B rows, L steps, M width, D = expand * M channels in H heads of P, N state elements of a
channel, K taps, C = D + 2 N convolved channels.

Source: Dao and Gu 2024, "Transformers are SSMs"; state-spaces/mamba, ``modules/mamba2.py``.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

# Of each layer: the last K - 1 inputs of the convolution, [B, C, K - 1], and [B, H, P, N].
State = list[tuple[Tensor, Tensor]]


class Mamba2(nn.Module):
    """One mixer: project, convolve, scan, gate, project back."""

    def __init__(
        self, width: int, *, expand: int = 2, head_dim: int = 64, states: int = 128, taps: int = 4
    ) -> None:
        super().__init__()
        self.inner, self.head_dim, self.states, self.taps = expand * width, head_dim, states, taps
        self.heads, self.convolved = self.inner // head_dim, self.inner + 2 * states
        self.in_proj = nn.Linear(width, self.inner + self.convolved + self.heads, bias=False)
        self.conv1d = nn.Conv1d(self.convolved, self.convolved, taps, groups=self.convolved)
        # Steps of 0.001 to 0.1 at first, through the inverse of softplus.
        step = torch.empty(self.heads).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = nn.RMSNorm(self.inner, eps=1e-5)
        self.out_proj = nn.Linear(self.inner, width, bias=False)

    def empty(self, rows: int) -> tuple[Tensor, Tensor]:
        """The window and the state at the start of an episode."""
        zeros = self.dt_bias.new_zeros
        return (
            zeros(rows, self.convolved, self.taps - 1),
            zeros(rows, self.heads, self.head_dim, self.states),
        )

    def forward(
        self, u: Tensor, window: Tensor, state: Tensor, episode: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``u [B, L, M]`` to outputs of its shape, the new window and the new state.

        ``episode [B, L]`` numbers the episodes of a row; the window and the state are of number 0.
        """
        z, xbc, dt = self.in_proj(u).split([self.inner, self.convolved, self.heads], dim=-1)
        xbc, window = self.convolve(xbc, window, episode)
        x, b, c = silu(xbc).split([self.inner, self.states, self.states], dim=-1)
        x = x.unflatten(-1, (self.heads, self.head_dim))
        dt = softplus(dt + self.dt_bias)
        y, state = scan(x, dt, -self.A_log.exp() * dt, b, c, state, episode)
        y = (y + self.D[:, None] * x).flatten(-2)
        return self.out_proj(self.norm(y * silu(z))), window, state

    def convolve(self, x: Tensor, window: Tensor, episode: Tensor) -> tuple[Tensor, Tensor]:
        """A causal convolution whose taps do not reach into another episode."""
        length, past = x.shape[1], self.taps - 1
        x = torch.cat([window.mT, x], dim=1)
        origin = torch.cat([episode.new_zeros(len(x), past), episode], dim=1)
        y = self.conv1d.bias
        for tap in range(self.taps):
            same = origin[:, tap : tap + length] == episode
            y = y + self.conv1d.weight[:, 0, tap] * x[:, tap : tap + length] * same[..., None]
        same = origin[:, length:] == episode[:, -1:]
        return y, (x[:, length:] * same[..., None]).mT


def scan(
    x: Tensor, dt: Tensor, decay: Tensor, b: Tensor, c: Tensor, state: Tensor, episode: Tensor
) -> tuple[Tensor, Tensor]:
    """``S_t = exp(decay_t) S_{t-1} + dt_t x_t b_t'`` and ``y_t = S_t c_t``, all steps at once.

    ``x [B, L, H, P]``, ``dt`` and ``decay [B, L, H]``, ``b`` and ``c [B, L, N]``; the work and the
    memory are quadratic in L.
    """
    x, dt, b, c = x.transpose(1, 2), dt.mT, b[:, None], c[:, None]
    total = decay.mT.cumsum(-1)  # [B, H, L]
    seen = (episode[:, :, None] == episode[:, None, :]).tril()[:, None]
    between = (total[..., :, None] - total[..., None, :]).masked_fill(~seen, -torch.inf).exp()
    before = total.masked_fill(episode[:, None] > 0, -torch.inf).exp()[..., None]
    y = (c @ b.mT * between * dt[..., None, :]) @ x + before * (c @ state.mT)
    inputs = x * (dt * between[..., -1, :])[..., None]
    return y.transpose(1, 2), inputs.mT @ b + before[..., -1:, :] * state


class Block(nn.Module):
    """A layer of the residual stream."""

    def __init__(self, width: int, **sizes: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.mixer = Mamba2(width, **sizes)


class Mamba2Core(nn.Module):
    """Layers and a norm: ``x [B, L, M]`` to features of the same shape, and the new state.

    The checkpoint's keys are ``layers.{i}.norm.weight``, ``layers.{i}.mixer.*`` and
    ``norm_f.weight``.
    """

    def __init__(self, width: int, layers: int, **sizes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(width, **sizes) for _ in range(layers))
        self.norm_f = nn.RMSNorm(width, eps=1e-5)

    def forward(
        self, x: Tensor, state: State | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run sequences of at least one step.

        ``reset [B, L]`` is true where a row starts anew. One step is a sequence of length 1.
        """
        if reset is None:
            reset = x.new_zeros(x.shape[:2], dtype=torch.bool)
        episode = reset.long().cumsum(1)
        after: State = []
        for i, layer in enumerate(self.layers):
            old = layer.mixer.empty(len(x)) if state is None else state[i]
            y, *new = layer.mixer(layer.norm(x), *old, episode)
            x = x + y
            after.append(tuple(new))
        return self.norm_f(x), after
