"""The `gaam` family: cells drawn one after the other along a spiral, told how large they are; and its unaware twin.

After J. Liu et al., JINST 18 P11003 (arXiv 2305.11531). Each layer has an autoregressive network over its cells, from
the most central one outwards; each cell is a categorical over discretised sqrt(E). The layers are drawn from the
front to the back, each told the incident energy and the energy and centre of the layers before it.

The geometry-aware model knows places and sizes of the cells in millimetres. Its unaware twin (`aware = false`) is the
same network that counts every length in cells, so that all cells are 1 x 1 to it. One model serves every
segmentation of the layers that it was trained in; its showers have one point in each cell that is hit, at its centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models.made import CellNetwork, CellNetworkConfig, Places
from anycalo.models.model import Domain, Model
from anycalo.models.noise import Noise
from anycalo.models.point_features import Standardise
from anycalo.models.segmentation import layer_cells, segment, turned
from anycalo.models.spiral import SpiralPath, spiral_path
from anycalo.models.stage import Stage
from anycalo.showers import Incident, Showers

T = TypeVar("T")
_MARGIN = 1.3
_LENGTH_MM = 10.0


@dataclass(frozen=True, kw_only=True)
class GaamConfig:
    """Configuration of the family.

    Args:
        aware: told places and sizes of the cells in mm, or only in cells.
        network: sizes of the network of each layer.
        masked_layers: of each layer's network; one number serves all.
        grids: segmentations to train in, for each layer (one list serves all); see `segment`. The k-th is combined with
            the k-th of the other layers, a shorter list starting again. Empty: train in the showers' own cells.
        turn: turn and mirror the training showers at random in every segmentation.
    """

    aware: bool = True
    network: CellNetworkConfig = field(default_factory=CellNetworkConfig)
    masked_layers: tuple[int, ...] = (1, 5, 5)
    grids: tuple[tuple[str, ...], ...] = ()
    turn: bool = False

    def __post_init__(self) -> None:
        if not self.masked_layers or min(self.masked_layers) < 1:
            raise ModelError(f"masked_layers is {list(self.masked_layers)}; expected numbers of at least 1")
        if any(not grids for grids in self.grids):
            raise ModelError("grids holds an empty list; expected at least one grid for each layer")


class Gaam(Model):
    """See the module's text.

    Args:
        config: of the family.
        domain: of one detector; with `grids`, that detector in those segmentations takes its place.
    """

    family: ClassVar[str] = "gaam"
    config_class: ClassVar[type] = GaamConfig
    config: GaamConfig
    bin_width: Tensor

    def __init__(self, config: GaamConfig, domain: Domain) -> None:
        super().__init__(config, domain)
        if domain.max_angle_rad > 1e-3 or len(domain.particles) != 1:
            raise ModelError(
                f"gaam learns one kind of particle along the normal; found {', '.join(domain.particles)} up to"
                f" {domain.max_angle_rad:.3g} rad. Train the family caloclouds or anycalo on these showers."
            )
        if not domain.detectors:
            raise ModelError(
                f"gaam learns one stack of layers; the showers are of {domain.n_detectors} detectors. Train it on showers of"
                " one, and name the segmentations to train in under 'grids'."
            )
        base = domain.detector
        self.layers = base.n_layers
        depths = _one_a_layer("masked_layers", config.masked_layers, self.layers)
        if config.grids:
            seen = tuple(d.to_toml() for d in self._segmentations(base))
            self.domain = replace(domain, detectors=tuple(dict.fromkeys(seen)), n_detectors=len(dict.fromkeys(seen)))
        self.networks = nn.ModuleList(CellNetwork(config.network, depth, 1 + 3 * k) for k, depth in enumerate(depths))
        self.scales = nn.ModuleList(Standardise(1 + 3 * k, 1.0) for k in range(self.layers))
        self.register_buffer("bin_width", torch.ones(self.layers))

    @property
    def _parts(self) -> list[tuple[CellNetwork, Standardise]]:
        """Network of each layer and scale of what it is told."""
        networks = [n for n in self.networks if isinstance(n, CellNetwork)]
        return list(zip(networks, (s for s in self.scales if isinstance(s, Standardise)), strict=True))

    def _segmentations(self, base: Detector) -> list[Detector]:
        grids = _one_a_layer("grids", self.config.grids, self.layers)
        return [segment(base, [g[k % len(g)] for g in grids]) for k in range(max(map(len, grids)))]

    def check(self, detector: Detector) -> None:
        """Refuse another stack of layers, and readouts that no spiral can follow; see `Model.check`."""
        trained = self.domain.detector
        if _bare(detector) != _bare(trained):
            raise ModelError(
                f"this gaam model was trained on '{trained.name}' and makes showers of these layers only, in any segmentation;"
                f" asked for '{detector.name}'. Change the cells of '{trained.name}', or train a model on the other detector."
            )
        self.paths(detector)

    def paths(self, detector: Detector) -> list[SpiralPath]:
        """The cells of each layer in spiral order, as the model knows them: lengths in mm, or in cells."""
        window, aware = self.config.network.window, self.config.aware
        return [spiral_path(layer.readout, detector.size_mm, window=window, aware=aware) for layer in detector.layers]

    @property
    def _unit(self) -> float:
        """The length around which places are compressed: in mm, or one cell."""
        return _LENGTH_MM if self.config.aware else 1.0

    # --- training -------------------------------------------------------------------------------------------

    def stages(self, training: Sequence[Showers], validation: Sequence[Showers], *, seed: int, fit: bool = True) -> list[Stage]:
        """A stage `layer0`, `layer1`, ... for each layer; an example is a shower in one segmentation; see `Model.stages`."""
        samples = self._segmented(training, seed)
        first_held_out = len(samples)
        samples += self._segmented(validation, seed + 1)
        paths = [self.paths(s.detector) for s in samples]
        images = [[torch.from_numpy(e) for e in layer_cells(s, p)] for s, p in zip(samples, paths, strict=True)]
        known = {id(path): Places.of(path, self._unit) for p in paths for path in p}
        places = [[known[id(path)] for path in p] for p in paths]
        stages = []
        for layer in range(self.layers):
            energies = [image[layer] for image in images]
            told = [
                self._told(s.incident, list(zip(p, image, strict=True))[:layer])
                for s, p, image in zip(samples, paths, images, strict=True)
            ]
            network, scale = self._parts[layer]
            if fit:
                most = max(float(e.max()) for e in energies[:first_held_out])
                self.bin_width[layer] = math.sqrt(_MARGIN * max(most, 1e-6)) / self.config.network.classes
                network.fit([p[layer] for p in places[:first_held_out]])
                scale.fit(torch.cat(told[:first_held_out]))
            tables = [
                _Table(
                    classes=self.classify(layer, e),
                    told=scale(c),
                    places=p[layer],
                    hits=1 + float((e > 0).sum(1).float().mean()),
                )
                for e, c, p in zip(energies, told, places, strict=True)
            ]
            sizes = [len(e) for e in energies]
            stages.append(
                Stage(
                    name=f"layer{layer}",
                    module=network,
                    batch=lambda index: (index,),
                    size=sum(sizes[:first_held_out]),
                    validation_size=sum(sizes[first_held_out:]),
                    noise_features=0,
                    objective=partial(_loss, network, tables, torch.tensor(np.cumsum([0, *sizes]))),
                )
            )
        return stages

    def _segmented(self, batches: Sequence[Showers], seed: int) -> list[Showers]:
        """The showers in each segmentation to train in, turned anew in each."""
        out = []
        for batch in batches:
            for k, detector in enumerate(self._segmentations(batch.detector) if self.config.grids else [batch.detector]):
                showers = turned(batch, 1000 * seed + k) if self.config.turn else batch
                out.append(showers.seen_by(detector))
        return out

    def classify(self, layer: int, energy_mev: Tensor) -> Tensor:
        """Class of each cell: 0 if it is not hit, otherwise 1 + the bin of sqrt(E); the last bin takes what lies above."""
        bins = (energy_mev.clamp_min(0).sqrt() / self.bin_width[layer].to(energy_mev)).floor()
        classes = bins.clamp_max(self.config.network.classes - 1) + 1
        small = torch.uint8 if self.config.network.classes < 256 else torch.int32
        return torch.where(energy_mev > 0, classes, torch.zeros_like(classes)).to(small)

    def _told(self, incident: Incident, before: Sequence[tuple[SpiralPath, Tensor]]) -> Tensor:
        """What a layer is told, (B, 1 + 3 layers before it): ln E, and sqrt(E), centre in x and y of each layer before."""
        columns = [torch.from_numpy(incident.energy_mev).float().log()]
        for path, energy in before:
            energy = energy.cpu()
            total = energy.sum(1)
            columns.append(total.sqrt())
            for place in (path.x, path.y):
                mean = energy @ torch.from_numpy(place).to(energy) / total.clamp_min(1e-6)
                columns.append(torch.asinh(mean / self._unit))
        return torch.stack(columns, dim=1)

    # --- generation -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, detector: Detector, incident: Incident, noise: Noise) -> Showers:
        """See `Model.sample`; the showers have one point in each cell that is hit."""
        self.check(detector)
        paths = self.paths(detector)
        images: list[Tensor] = []
        for layer, path in enumerate(paths):
            images.append(self.sample_layer(layer, path, incident, list(zip(paths, images, strict=False)), noise))
        energy = torch.cat(images, dim=1)
        shower, at = torch.nonzero(energy, as_tuple=True)
        where = [spiral_path(layer.readout, detector.size_mm, window=self.config.network.window) for layer in detector.layers]
        return Showers(
            detector=detector,
            incident=incident,
            offsets=np.concatenate([[0], np.cumsum(torch.bincount(shower, minlength=len(incident)).numpy())]),
            x_mm=np.concatenate([path.x for path in where])[at.numpy()],
            y_mm=np.concatenate([path.y for path in where])[at.numpy()],
            layer=np.repeat(np.arange(self.layers), [len(path) for path in where])[at.numpy()],
            energy_mev=energy[shower, at].numpy(),
        )

    @torch.no_grad()
    def sample_layer(
        self,
        layer: int,
        path: SpiralPath,
        incident: Incident,
        before: Sequence[tuple[SpiralPath, Tensor]],
        noise: Noise,
    ) -> Tensor:
        """Energies of the cells of one layer in MeV, in the order of the path, (B, D).

        Args:
            layer: its number.
            path: its cells, as the model knows them.
            incident: B particles.
            before: paths and energies of the layers in front of it.
            noise: B streams, one normal number a cell.
        """
        network, scale = self._parts[layer]
        told = scale(self._told(incident, before).to(self.device))
        uniform = torch.special.ndtr(noise.normal(len(path))).to(self.device)
        classes, within = network.generate(uniform, Places.of(path, self._unit).to(self.device), told)
        root = (classes - 1 + within) * self.bin_width[layer]
        # A draw at the very edge of the first bin still is a cell that is hit.
        return torch.where(classes > 0, root.clamp_min(1e-3).square(), torch.zeros_like(root)).cpu()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """One layer of the showers of one segmentation: classes (B, D), conditions (B, C), and cells hit on average."""

    classes: Tensor
    told: Tensor
    places: Places
    hits: float


def _loss(network: CellNetwork, tables: list[_Table], starts: Tensor, batch: tuple[Tensor, ...], noise: Tensor) -> Tensor:
    """Mean over showers of -ln p per cell hit, so that fine and coarse segmentations count alike."""
    (index,) = batch
    index = index.cpu()
    device = network.values.device
    of_table = torch.bucketize(index, starts, right=True) - 1
    # Showers in the same cells go through the network together, whatever the cells of other layers are.
    together: dict[int, list[int]] = {}
    for k in torch.unique(of_table).tolist():
        together.setdefault(id(tables[k].places), []).append(k)
    total = torch.zeros((), device=device)
    for group in together.values():
        rows = [index[of_table == k] - starts[k] for k in group]
        classes = torch.cat([tables[k].classes[r] for k, r in zip(group, rows, strict=True)]).long().to(device)
        told = torch.cat([tables[k].told[r] for k, r in zip(group, rows, strict=True)]).to(device)
        weight = torch.cat([torch.full((len(r),), 1 / tables[k].hits) for k, r in zip(group, rows, strict=True)]).to(device)
        ln_p = network.log_likelihood(classes, tables[group[0]].places.to(device), told)
        total = total - (ln_p.sum(1) * weight).sum()
    return total / len(index)


def _bare(detector: Detector) -> Detector:
    """The detector with the same cells everywhere: what segmentations of one stack have in common."""
    return segment(replace(detector, name="stack", description="", threshold_mip=0.0), ["1x1"] * detector.n_layers)


def _one_a_layer(key: str, values: tuple[T, ...], layers: int) -> tuple[T, ...]:
    if len(values) not in (1, layers):
        raise ModelError(f"{key} has {len(values)} entries; expected 1, or one for each of the {layers} layers")
    return values * layers if len(values) == 1 else values
