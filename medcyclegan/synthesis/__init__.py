"""Synthetic patients from label maps of heads: T1, T2, PD, FLAIR and CT volumes on one grid, with the truth."""

from medcyclegan.synthesis.cohort import Cohort, CohortResult, draw_of, find_label_maps, synthesize
from medcyclegan.synthesis.head import LabelledHead, build_head
from medcyclegan.synthesis.labels import FREESURFER, read_labels_table
from medcyclegan.synthesis.loading import load_head, load_heads
from medcyclegan.synthesis.patient import Images, Patient, draw_patient, lesion_mask, render_patient, standard_patient
from medcyclegan.synthesis.sequences import CONTRASTS
from medcyclegan.synthesis.tissues import TISSUES
from medcyclegan.synthesis.views import Variation

__all__ = [
    "CONTRASTS",
    "Cohort",
    "CohortResult",
    "FREESURFER",
    "Images",
    "LabelledHead",
    "Patient",
    "TISSUES",
    "Variation",
    "build_head",
    "draw_of",
    "draw_patient",
    "find_label_maps",
    "lesion_mask",
    "load_head",
    "load_heads",
    "read_labels_table",
    "render_patient",
    "standard_patient",
    "synthesize",
]
