"""Observables of showers, and how far two samples are apart, with floors and error bars."""

from anycalo.evaluate.distances import jensen_shannon, separation_power, w1, wasserstein
from anycalo.evaluate.evaluate import evaluate
from anycalo.evaluate.observables import OBSERVABLES, Observable, measure
from anycalo.evaluate.results import Evaluation, MetricResult, ObservableResult, SeparationResult, Summary
from anycalo.evaluate.separation import PairSettings, Separation, separate
from anycalo.readout.view import View

__all__ = [
    "OBSERVABLES",
    "Evaluation",
    "MetricResult",
    "Observable",
    "ObservableResult",
    "PairSettings",
    "Separation",
    "SeparationResult",
    "Summary",
    "View",
    "evaluate",
    "jensen_shannon",
    "measure",
    "separate",
    "separation_power",
    "w1",
    "wasserstein",
]
