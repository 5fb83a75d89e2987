"""Federated training: each site trains on its own slices, and only weights and agreed numbers leave it."""

from medcyclegan.federated.agreement import Agreement, Declaration, agree, declare
from medcyclegan.federated.averaging import Contribution, Weights, average
from medcyclegan.federated.job import Job, write_job
from medcyclegan.federated.server import Server
from medcyclegan.federated.site import Site

__all__ = [
    "Agreement",
    "Contribution",
    "Declaration",
    "Job",
    "Server",
    "Site",
    "Weights",
    "agree",
    "average",
    "declare",
    "write_job",
]
