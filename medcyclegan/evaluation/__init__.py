"""Evaluation: how good a translation is, beside the score of having done nothing."""

from medcyclegan.evaluation.evaluate import Evaluation, evaluate_volumes

__all__ = ["Evaluation", "evaluate_volumes"]
