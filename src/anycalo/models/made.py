"""A masked autoregressive network over the cells of one layer, whose weights follow from where the cells are.

After MADE (M. Germain et al., arXiv 1502.03509) as J. Liu et al. use it (arXiv 2305.11531): masked layers and one
convolution give each cell a categorical distribution over discretised sqrt(E), given all cells before it.
A masked layer with a weight of its own for every pair of cells fits one grid and has D^2 weights. Here the weight
of cell j in cell i is made from the places and sizes of both, the same for every grid:

    W_ij = O diag(u_i * v_j) P  for j before i, else 0,   u_i = U(g_i), v_j = V(g_j), g = embedding of place and size,

so that its action is one running sum, which generation carries from cell to cell. The first masked layer also sees the
earlier cells of a small window one by one. The convolution is of width 1: every cell shares it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from anycalo.errors import ModelError
from anycalo.models.spiral import SpiralPath

_VALUES = 3
_PLACE = 5


@dataclass(frozen=True, kw_only=True)
class CellNetworkConfig:
    """Sizes of the network of one layer.

    Args:
        hidden: features of a cell in every masked layer.
        sums: running sums of a masked layer, the rank R of its weights.
        window: columns and rows on either side whose earlier cells are seen one by one.
        classes: bins of sqrt(E) of a cell that is hit; "not hit" is one more class.
        bumps: smooth functions of sqrt(E) that make up the logits of the bins.
    """

    hidden: int = 32
    sums: int = 32
    window: int = 2
    classes: int = 128
    bumps: int = 20

    def __post_init__(self) -> None:
        for name, least in (("hidden", 1), ("sums", 1), ("window", 0), ("classes", 1), ("bumps", 1)):
            if getattr(self, name) < least:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected at least {least}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """What the network knows of D cells: place and size, (D, 5), and steps of earlier neighbours, int64 (D, W)."""

    place: Tensor
    neighbours: Tensor

    @staticmethod
    def of(path: SpiralPath, unit: float) -> Places:
        """Of a path, lengths compressed around `unit`."""
        x, y, dx, dy = (getattr(path, name) / unit for name in ("x", "y", "dx", "dy"))
        distance = np.log(x**2 + y**2 + (dx**2 + dy**2) / 12) / 2
        place = np.stack([np.arcsinh(x), np.arcsinh(y), np.log(dx), np.log(dy), distance], axis=1)
        return Places(place=torch.from_numpy(place).float(), neighbours=torch.from_numpy(path.neighbours))

    def to(self, device: torch.device) -> Places:
        """On another device."""
        return Places(place=self.place.to(device), neighbours=self.neighbours.to(device))


class CellNetwork(nn.Module):
    """p(cells) = prod_i p(k_i | k_1 ... k_{i-1}, place and size of the cells, condition).

    Class 0 is a cell that is not hit, class k one with sqrt(E) in the bin k - 1 of `classes` equal ones.

    Args:
        config: sizes.
        masked_layers: how many.
        conditions: numbers that the shower is described by, C.
    """

    basis: Tensor
    values: Tensor
    place_mean: Tensor
    place_spread: Tensor

    def __init__(self, config: CellNetworkConfig, masked_layers: int, conditions: int) -> None:
        super().__init__()
        h, r, g = config.hidden, config.sums, 32
        seen = (2 * config.window + 1) ** 2 - 1
        self.classes = config.classes
        self.embedding = nn.Sequential(nn.Linear(_PLACE, 2 * g), nn.GELU(), nn.Linear(2 * g, g), nn.GELU())
        self.gates = nn.ModuleList(nn.Linear(g, 2 * r + h) for _ in range(masked_layers))
        self.condition = nn.ModuleList(nn.Linear(conditions, h, bias=False) for _ in range(masked_layers))
        self.read = nn.ModuleList(nn.Linear(h if k else _VALUES, r, bias=False) for k in range(masked_layers))
        self.write = nn.ModuleList(nn.Linear(r, h, bias=False) for _ in range(masked_layers))
        self.same = nn.ModuleList(nn.Linear(h, h, bias=False) for _ in range(masked_layers - 1))
        self.window = nn.Linear(seen * _VALUES, h, bias=False)
        self.known = nn.Linear(seen, h, bias=False)
        self.hit = nn.Linear(h, 1)
        self.energy = nn.Linear(h, config.bumps + 3)
        nn.init.constant_(self.hit.bias, -2.0)  # most cells are not hit
        bins = (torch.arange(config.classes) + 0.5) / config.classes
        fine = bins.sqrt()  # bumps are denser at low energies, where most cells are
        bumps = torch.exp(-0.5 * ((fine[:, None] - torch.linspace(0, 1, config.bumps)) * config.bumps) ** 2)
        self.register_buffer("basis", torch.cat([bumps, torch.stack([fine, fine**2, bins**2], dim=1)], dim=1).T.contiguous())
        table = torch.stack([torch.full_like(bins, 0.1), bins, 4 * bins**2], dim=1)
        self.register_buffer("values", torch.cat([torch.zeros(1, _VALUES), table]))
        self.register_buffer("place_mean", torch.zeros(_PLACE))
        self.register_buffer("place_spread", torch.ones(_PLACE))

    def fit(self, places: list[Places]) -> None:
        """Set the scales of places and sizes from the grids trained on, each counting alike."""
        mean = torch.stack([p.place.mean(0) for p in places]).mean(0)
        square = torch.stack([((p.place - mean) ** 2).mean(0) for p in places]).mean(0)
        self.place_mean.copy_(mean)
        # Where the grids do not differ (the size, if only one is trained on), a difference is taken as it stands.
        self.place_spread.copy_(torch.where(square > 1e-6, square, torch.ones_like(square)).sqrt())

    def _factors(self, places: Places) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each masked layer u (D, R), v (D, R) and the bias (D, H)."""
        r = self.read[0].weight.shape[0]  # type: ignore[union-attr,index]
        embedded = self.embedding((places.place - self.place_mean) / self.place_spread)
        factors = []
        for k, gate in enumerate(self.gates):
            u, v, bias = gate(embedded).split([r, r, gate.out_features - 2 * r], dim=1)
            if k == 0:
                bias = bias + self.known((places.neighbours < len(places.place)).to(bias))
            else:
                # Sums over hidden features count empty cells too: a mean keeps their size.
                u = u / torch.arange(1, len(u) + 1, device=u.device)[:, None]
            factors.append((u, v, bias))
        return factors

    def features(self, values: Tensor, places: Places, condition: Tensor) -> Tensor:
        """Hidden features of every cell, (B, D, H), from the values of the cells before it.

        Args:
            values: of each cell (B, D, 3), rows of the table `values`.
            places: of the cells.
            condition: (B, C).
        """
        (u, v, bias), *deeper = self._factors(places)
        n, d, _ = values.shape
        padded = functional.pad(values, (0, 0, 0, 1))
        near = padded[:, places.neighbours.flatten()].view(n, d, -1)
        sums = functional.pad((self.read[0](values) * v).cumsum(1), (0, 0, 1, -1))  # cells before, not this one
        h = functional.gelu(self.write[0](sums * u) + self.window(near) + bias + self.condition[0](condition)[:, None])
        for k, (u, v, bias) in enumerate(deeper, start=1):
            normed = functional.rms_norm(h, h.shape[-1:])
            sums = (self.read[k](normed) * v).cumsum(1)  # features of a cell know only those before it
            told = bias + self.condition[k](condition)[:, None]
            h = h + functional.gelu(self.write[k](sums * u) + self.same[k - 1](normed) + told)
        return h

    def log_likelihood(self, classes: Tensor, places: Places, condition: Tensor) -> Tensor:
        """Log-probability of each cell given those before it, (B, D).

        Args:
            classes: int64 (B, D), in the order of the path.
            places: of the cells.
            condition: (B, C).
        """
        h = self.features(self.values[classes], places, condition)
        hit = classes > 0
        logit = self.hit(h)[..., 0]
        out = functional.logsigmoid(torch.where(hit, logit, -logit))
        log_p = functional.log_softmax(self.energy(h[hit]) @ self.basis, dim=-1)
        return out.masked_scatter(hit, out[hit] + log_p.gather(1, classes[hit][:, None] - 1)[:, 0])

    @torch.no_grad()
    def generate(self, uniform: Tensor, places: Places, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Cells drawn one after the other; what earlier cells contribute is carried along, never computed again.

        Args:
            uniform: one uniform number a cell, (B, D).
            places: of the cells.
            condition: (B, C).

        Returns:
            Classes, int64 (B, D), and where in its bin each cell lies, from 0 to 1, (B, D).
        """
        n, d = uniform.shape
        factors = [(u[:, :, None], v[:, :, None], b[:, :, None]) for u, v, b in self._factors(places)]
        told = [layer(condition).T.contiguous() for layer in self.condition]
        read = [layer.weight for layer in self.read]
        write = [layer.weight for layer in self.write]
        same = [layer.weight for layer in self.same]
        window, size = self.window.weight, self.window.in_features
        energy = self.basis.T @ self.energy.weight
        offset = (self.basis.T @ self.energy.bias)[:, None]
        sums = [torch.zeros(w.shape[0], n, device=uniform.device) for w in read]
        done = torch.zeros(d + 1, _VALUES, n, device=uniform.device)
        table = self.values.T.contiguous()
        classes = torch.zeros(d, n, dtype=torch.int64, device=uniform.device)
        within = torch.zeros(d, n, device=uniform.device)
        draws = uniform.T.contiguous()
        hit_weight, hit_bias = self.hit.weight, self.hit.bias
        for i in range(d):
            u, _, bias = factors[0]
            h = torch.addmm(told[0] + bias[i], write[0], sums[0] * u[i])
            if i and size:
                h = torch.addmm(h, window, done[places.neighbours[i]].view(size, n))
            h = functional.gelu(h)
            for k in range(1, len(factors)):
                u, v, bias = factors[k]
                normed = h * torch.rsqrt((h * h).mean(0) + torch.finfo(h.dtype).eps)
                sums[k].addcmul_(read[k] @ normed, v[i])
                inner = torch.addmm(told[k] + bias[i], write[k], sums[k] * u[i])
                h = h + functional.gelu(torch.addmm(inner, same[k - 1], normed))
            empty = torch.sigmoid(-(hit_weight @ h)[0] - hit_bias)
            chosen = torch.nonzero(draws[i] >= empty)[:, 0]
            if len(chosen) == 0:
                continue
            rest = (draws[i, chosen] - empty[chosen]) / (1 - empty[chosen])
            p = torch.softmax(torch.addmm(offset, energy, h[:, chosen]), dim=0)
            above = p.cumsum(0)
            k_ = (above < rest * above[-1]).sum(0).clamp_max_(self.classes - 1)
            at = k_[None]
            mass = p.gather(0, at)[0]
            inside = (rest * above[-1] - above.gather(0, at)[0] + mass) / mass.clamp_min(1e-12)
            classes[i, chosen] = k_ + 1
            within[i, chosen] = inside.clamp(0, 1)
            done[i][:, chosen] = table[:, k_ + 1]
            sums[0][:, chosen] += (read[0] @ table[:, k_ + 1]) * factors[0][1][i]
        return classes.T, within.T
