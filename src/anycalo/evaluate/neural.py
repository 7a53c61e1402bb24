"""The CaloChallenge's neural classifier, on high-level features or on all cells. Slow: only on request.

A network of two hidden layers of 2,048 LeakyReLU nodes without regularisation, trained on 60% of the
showers, taken from the epoch that does best on another 20% and tested on the last 20%. Its output is
calibrated by isotonic regression on the validation showers; calibrated, its cross entropy bounds the
Jensen-Shannon divergence of the two samples from below: JSD >= 1 - BCE / ln 2 (in bits).

References:
    CaloChallenge, arXiv 2410.21611; optimiser, batch and learning rate as in its public evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from sklearn.isotonic import IsotonicRegression

from anycalo.errors import EvaluationError
from anycalo.evaluate.classifier import Verdict, auc, bootstrap_auc, over_resamples
from anycalo.evaluate.high_level import Scale
from anycalo.evaluate.metrics import Halves, classifier_result
from anycalo.evaluate.results import MetricResult
from anycalo.geometry import Detector
from anycalo.geometry.derived import sampling_fraction
from anycalo.readout import n_cells, read_out
from anycalo.showers import Showers

MAX_CELLS = 50_000
"""Most cells of a detector that the low-level classifier takes."""
N_NEURAL = 2
"""Pairs of Geant4 halves behind the floor of a neural classifier."""
_BLOCK = 500


@dataclass(frozen=True, kw_only=True)
class NeuralSettings:
    """How the network is built and trained.

    Args:
        hidden: nodes of each hidden layer.
        epochs: passes over the training showers; the best on the validation showers counts.
        batch: showers in a step.
        rate: learning rate of Adam.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
    """

    hidden: tuple[int, ...] = (2048, 2048)
    epochs: int = 50
    batch: int = 1000
    rate: float = 2e-4
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.hidden or min(*self.hidden, self.epochs, self.batch) < 1 or self.rate <= 0:
            raise EvaluationError(f"{self}; expected positive sizes, epochs, batch and rate")
        if self.device not in ("auto", "cpu", "cuda"):
            raise EvaluationError(f"device is {self.device!r}; expected auto, cpu or cuda")


def neural_classifier(
    truth: np.ndarray | csr_matrix,
    fast: np.ndarray | csr_matrix,
    *,
    matched: bool,
    rng: np.random.Generator,
    n_bootstrap: int = 0,
    settings: NeuralSettings | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> tuple[Verdict, Verdict]:
    """AUC and Jensen-Shannon divergence [bit] that the calibrated network reaches on the test showers.

    Args:
        truth: inputs, shape (N, F), dense or sparse.
        fast: inputs, shape (M, F).
        matched: whether row k of both is of the same incident particle.
        rng: draws split, weights, batches and resamples.
        n_bootstrap: resamples of the test showers.
        settings: of network and training.
        progress: called with the number of epochs just done.
    """
    settings = NeuralSettings() if settings is None else settings
    cuda = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if cuda else "cpu")
    order_truth = rng.permutation(len_of(truth))
    order_fast = order_truth if matched else rng.permutation(len_of(fast))
    parts = [
        (stack([truth[a], fast[b]]), np.concatenate([np.zeros(len(a)), np.ones(len(b))]))
        for a, b in zip(_split(order_truth), _split(order_fast), strict=True)
    ]
    (x, y), (x_check, y_check), (x_test, y_test) = parts
    seed = int(rng.integers(2**31))
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.manual_seed(seed)
        network = _network(x.shape[1], settings.hidden).to(device)
        _train(network, x, y, x_check, y_check, settings, device, rng, progress)
    # Isotonic regression on the validation showers, never 0 or 1, of which the cross entropy would be infinite.
    calibrate = IsotonicRegression(y_min=1e-6, y_max=1 - 1e-6, out_of_bounds="clip").fit(
        _probability(network, x_check, settings.batch, device), y_check
    )
    raw = _probability(network, x_test, settings.batch, device)
    probability = calibrate.predict(raw)
    surprise = -np.where(y_test == 1, np.log2(probability), np.log2(1 - probability))

    def divergence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(1 - (a @ surprise / a.sum(axis=1) + b @ surprise / b.sum(axis=1)) / 2)

    whole = (y_test == 0)[None].astype(float)
    # The calibration is monotone and makes ties; it moves the AUC by these only.
    area, found = float(auc(probability, whole, 1 - whole)[0]), float(divergence(whole, 1 - whole)[0])
    if not n_bootstrap:
        return Verdict(value=area, draws=np.empty(0)), Verdict(value=found, draws=np.empty(0))
    areas = bootstrap_auc(probability, y_test, n_bootstrap, rng, matched=matched)
    divergences = over_resamples(y_test, n_bootstrap, rng, divergence, matched=matched)
    return (
        Verdict(value=area, draws=areas, spread=float(areas.std(ddof=1))),
        Verdict(value=found, draws=divergences, spread=float(divergences.std(ddof=1))),
    )


def neural_metrics(
    samples: Sequence[Showers],
    features: Sequence[np.ndarray],
    halves: Halves,
    *,
    seed: int,
    n_bootstrap: int,
    settings: NeuralSettings | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> tuple[dict[str, MetricResult], list[str]]:
    """AUC and divergence of the neural classifiers, on high-level features and on cells, and why one is left out.

    Args:
        samples: the truth, the fast and, if there is one, the floor sample.
        features: their high-level features, each (B, F).
        halves: how samples are divided.
        seed: of every random choice.
        n_bootstrap: resamples behind the intervals.
        settings: of network and training.
        progress: called with the number of epochs just done.
    """
    settings = NeuralSettings() if settings is None else settings
    detector = samples[0].detector
    inputs = {"high": [Scale.of(detector, features[0])(f) for f in features]}
    left_out = []
    try:
        inputs["low"] = [cell_inputs(s) for s in samples]
    except EvaluationError as error:
        left_out.append(f"the classifier on cells is left out: {error}")
        progress(settings.epochs * (1 + N_NEURAL))
    out = {}
    for level, (x, y, *more) in inputs.items():
        rng = np.random.default_rng([seed, 7, len(level)])
        pool = stack([x, *more])
        verdicts = neural_classifier(
            x, y, matched=halves.matched, rng=rng, n_bootstrap=n_bootstrap, settings=settings, progress=progress
        )
        floors = []
        for i, j in (halves.geant4(rng) for _ in range(N_NEURAL)):
            floors.append(
                neural_classifier(
                    pool[i], pool[j], matched=halves.matched, rng=rng, n_bootstrap=100, settings=settings, progress=progress
                )
            )
        for k, name in enumerate((f"auc_neural_{level}", f"jsd_neural_{level}")):
            out[name] = classifier_result(name, verdicts[k], [f[k] for f in floors], halves)
    return out, left_out


def count_steps(settings: NeuralSettings | None = None) -> int:
    """Steps that `neural_metrics` reports: epochs."""
    return 2 * (1 + N_NEURAL) * (NeuralSettings() if settings is None else settings).epochs


def count_cells(detector: Detector) -> int:
    """Cells of all layers."""
    return sum(n_cells(layer.readout, detector.size_mm) for layer in detector.layers)


def cell_inputs(showers: Showers) -> csr_matrix:
    """Inputs of the low-level classifier: log10 of the incident energy [MeV] and every cell, shape (B, 1 + cells).

    Cell energies are in percent of the incident energy over the sampling fraction, so that they add up to about 100
    as they do in the CaloChallenge, whose energies are already corrected for it.

    Raises:
        EvaluationError: for a detector with more than `MAX_CELLS` cells.
    """
    detector = showers.detector
    total = count_cells(detector)
    if total > MAX_CELLS:
        raise EvaluationError(
            f"'{detector.name}' has {total:,} cells; the low-level classifier takes at most {MAX_CELLS:,}."
            " Use the high-level one, or write both samples with a detector file of coarser cells or a smaller size_mm"
        )
    first = np.cumsum([1] + [n_cells(layer.readout, detector.size_mm) for layer in detector.layers[:-1]])
    scale = 100.0 / sampling_fraction(detector)
    blocks = []
    for start in range(0, len(showers), _BLOCK):
        block = showers[start : start + _BLOCK]
        cells = read_out(block)
        incident = block.incident.energy_mev.astype(np.float64)
        value = scale * cells.energy_mev / incident[cells.shower]
        rows = np.concatenate([np.arange(len(block)), cells.shower])
        columns = np.concatenate([np.zeros(len(block), dtype=np.int64), first[cells.layer] + cells.cell])
        values = np.concatenate([np.log10(incident), value]).astype(np.float32)
        blocks.append(csr_matrix((values, (rows, columns)), shape=(len(block), total + 1)))
    return vstack(blocks, format="csr")


def len_of(x: np.ndarray | csr_matrix) -> int:
    """Rows of a dense or sparse table."""
    return int(x.shape[0])


def _split(order: np.ndarray) -> list[np.ndarray]:
    """60% for training, 20% for validation, 20% for the test."""
    return np.split(order, [int(0.6 * len(order)), int(0.8 * len(order))])


def stack(tables: Sequence[np.ndarray | csr_matrix]) -> np.ndarray | csr_matrix:
    """Dense or sparse tables, one below the other."""
    return np.concatenate(tables) if isinstance(tables[0], np.ndarray) else vstack(tables, format="csr")


def _network(inputs: int, hidden: tuple[int, ...]) -> torch.nn.Module:
    layers: list[torch.nn.Module] = []
    for nodes in hidden:
        layers += [torch.nn.Linear(inputs, nodes), torch.nn.LeakyReLU()]
        inputs = nodes
    return torch.nn.Sequential(*layers, torch.nn.Linear(inputs, 1))


def _tensor(x: np.ndarray | csr_matrix, rows: np.ndarray | slice, device: torch.device) -> torch.Tensor:
    chosen = x[rows]
    dense = chosen if isinstance(chosen, np.ndarray) else chosen.toarray()
    return torch.as_tensor(dense, dtype=torch.float32, device=device)


def _train(
    network: torch.nn.Module,
    x: np.ndarray | csr_matrix,
    y: np.ndarray,
    x_check: np.ndarray | csr_matrix,
    y_check: np.ndarray,
    settings: NeuralSettings,
    device: torch.device,
    rng: np.random.Generator,
    progress: Callable[[int], None],
) -> None:
    """Train, and leave the network as it was after the epoch of the lowest cross entropy on the validation showers."""
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate)
    entropy = torch.nn.BCEWithLogitsLoss()
    labels = torch.as_tensor(y, dtype=torch.float32, device=device)
    best, kept = np.inf, {k: v.detach().clone() for k, v in network.state_dict().items()}
    for _ in range(settings.epochs):
        network.train()
        order = rng.permutation(len(y))
        for start in range(0, len(order), settings.batch):
            rows = order[start : start + settings.batch]
            loss = entropy(network(_tensor(x, rows, device)).ravel(), labels[torch.as_tensor(rows, device=device)])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        p = np.clip(_probability(network, x_check, settings.batch, device), 1e-7, 1 - 1e-7)
        score = float(-np.where(y_check == 1, np.log(p), np.log(1 - p)).mean())
        if score < best:
            best, kept = score, {k: v.detach().clone() for k, v in network.state_dict().items()}
        progress(1)
    network.load_state_dict(kept)


def _probability(network: torch.nn.Module, x: np.ndarray | csr_matrix, batch: int, device: torch.device) -> np.ndarray:
    """Of being fast, float64 (N,)."""
    network.eval()
    with torch.no_grad():
        logits = [network(_tensor(x, slice(k, k + batch), device)).ravel() for k in range(0, len_of(x), batch)]
    return np.asarray(torch.sigmoid(torch.cat(logits).double()).cpu().numpy())
