"""Comparisons of many models, cell by cell: ways of adapting a model, from scratch to zero-shot."""

from anycalo.study.recipe import Cell, StudyRecipe
from anycalo.study.run import run_study
from anycalo.study.scheduled import run_scheduled
from anycalo.study.summary import write_summary

__all__ = ["Cell", "StudyRecipe", "run_scheduled", "run_study", "write_summary"]
