"""Observables of showers, and how far two samples are apart, with floors and error bars."""

from anycalo.evaluate.distances import jensen_shannon, separation_power, w1, wasserstein
from anycalo.evaluate.evaluate import evaluate
from anycalo.evaluate.observables import OBSERVABLES, Observable, measure
from anycalo.evaluate.results import Evaluation, ObservableResult, Summary
from anycalo.evaluate.view import View

__all__ = [
    "OBSERVABLES",
    "Evaluation",
    "Observable",
    "ObservableResult",
    "Summary",
    "View",
    "evaluate",
    "jensen_shannon",
    "measure",
    "separation_power",
    "w1",
    "wasserstein",
]
