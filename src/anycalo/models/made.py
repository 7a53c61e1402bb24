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


class MaskedLayer(nn.Module):
    """One masked layer: sums over the cells before, and what is seen beside them.

    Args:
        read: features of a cell that the sums run over.
        beside: features that each cell is given directly: the values in its window, or its own features.
        embedded: features of the embedding of place and size.
        conditions: numbers that the shower is described by.
        config: sizes.
    """

    def __init__(self, read: int, beside: int, embedded: int, conditions: int, config: CellNetworkConfig) -> None:
        super().__init__()
        self.sizes = [config.sums, config.sums, config.hidden]
        self.gate = nn.Linear(embedded, sum(self.sizes))
        self.told = nn.Linear(conditions, config.hidden, bias=False)
        self.read = nn.Linear(read, config.sums, bias=False)
        self.write = nn.Linear(config.sums, config.hidden, bias=False)
        self.beside = nn.Linear(beside, config.hidden, bias=False)

    def factors(self, embedded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the embedding (D, G): u (D, R), v (D, R) and the bias (D, H)."""
        u, v, bias = self.gate(embedded).split(self.sizes, dim=1)
        return u, v, bias


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
        h, g = config.hidden, 32
        seen = (2 * config.window + 1) ** 2 - 1
        self.classes = config.classes
        self.embedding = nn.Sequential(nn.Linear(_PLACE, 2 * g), nn.GELU(), nn.Linear(2 * g, g), nn.GELU())
        first = MaskedLayer(_VALUES, seen * _VALUES, g, conditions, config)
        self.masked = nn.ModuleList([first, *(MaskedLayer(h, h, g, conditions, config) for _ in range(masked_layers - 1))])
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

    @property
    def _layers(self) -> list[MaskedLayer]:
        return [layer for layer in self.masked if isinstance(layer, MaskedLayer)]

    def _factors(self, places: Places) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each masked layer u (D, R), v (D, R) and the bias (D, H)."""
        embedded = self.embedding((places.place - self.place_mean) / self.place_spread)
        (u, v, bias), *deeper = (layer.factors(embedded) for layer in self._layers)
        first = (u, v, bias + self.known((places.neighbours < len(places.place)).to(bias)))
        # Sums over hidden features count empty cells too: a mean keeps their size.
        count = torch.arange(1, len(u) + 1, device=u.device)[:, None]
        return [first, *((u / count, v, bias) for u, v, bias in deeper)]

    def features(self, values: Tensor, places: Places, condition: Tensor) -> Tensor:
        """Hidden features of every cell, (B, D, H), from the values of the cells before it.

        Args:
            values: of each cell (B, D, 3), rows of the table `values`.
            places: of the cells.
            condition: (B, C).
        """
        (u, v, bias), *deeper = self._factors(places)
        first, *layers = self._layers
        n, d, _ = values.shape
        padded = functional.pad(values, (0, 0, 0, 1))
        near = padded[:, places.neighbours.flatten()].view(n, d, -1)
        sums = functional.pad((first.read(values) * v).cumsum(1), (0, 0, 1, -1))  # cells before, not this one
        h = functional.gelu(first.write(sums * u) + first.beside(near) + bias + first.told(condition)[:, None])
        for layer, (u, v, bias) in zip(layers, deeper, strict=True):
            normed = functional.rms_norm(h, h.shape[-1:])
            sums = (layer.read(normed) * v).cumsum(1)  # features of a cell know only those before it
            h = h + functional.gelu(layer.write(sums * u) + layer.beside(normed) + bias + layer.told(condition)[:, None])
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
        layers = self._layers
        told = [layer.told(condition).T.contiguous() for layer in layers]
        read, write, beside = ([getattr(layer, name).weight for layer in layers] for name in ("read", "write", "beside"))
        size = layers[0].beside.in_features
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
                h = torch.addmm(h, beside[0], done[places.neighbours[i]].view(size, n))
            h = functional.gelu(h)
            for k in range(1, len(factors)):
                u, v, bias = factors[k]
                normed = h * torch.rsqrt((h * h).mean(0) + torch.finfo(h.dtype).eps)
                sums[k].addcmul_(read[k] @ normed, v[i])
                inner = torch.addmm(told[k] + bias[i], write[k], sums[k] * u[i])
                h = h + functional.gelu(torch.addmm(inner, beside[k], normed))
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
