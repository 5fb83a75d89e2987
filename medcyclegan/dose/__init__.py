"""Dose of radiotherapy plans: planned on a reference CT, recalculated on other images, and compared.

Importing it imports none of the libraries of the extra ``dose``.
"""

from medcyclegan.dose.plan import require_pyradplan
from medcyclegan.dose.score import DoseScores, recalculate_dose
from medcyclegan.dose.structures import Structures, check_organ_names

__all__ = ["DoseScores", "Structures", "check_organ_names", "recalculate_dose", "require_pyradplan"]
