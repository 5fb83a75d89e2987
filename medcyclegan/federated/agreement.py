"""What the sites of a federated training declare about their slices, and what they must agree on.

A declaration holds rules and counts. No number in it was measured in an image: an MR is scaled by percentiles of its
own foreground, so the sites compare the percentiles, not the intensities.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medcyclegan.config import Config, Domain, Scaling
from medcyclegan.errors import StoreError
from medcyclegan.intensity import IntensityScaling
from medcyclegan.manifest import DOMAIN_NAME, PATIENT_SOURCES, PatientSource, SliceRow
from medcyclegan.model.bundle import DomainModel
from medcyclegan.training.plan import Plan

__all__ = ["Agreement", "Declaration", "DomainDeclaration", "Name", "agree", "declare"]

#: The values of an MR output of a federated model, in arbitrary units: air, the lower and the upper percentile of its
#: tissue. A model trained at one site has the median values of the training patients there.
MR_AIR, MR_LOWER, MR_UPPER = 0.0, 100.0, 1000.0

Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=f"^{DOMAIN_NAME.pattern}$")]


class _Closed(BaseModel):
    """A message that can hold its fields and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DomainDeclaration(_Closed):
    """One domain at one site: how its slices were scaled, and the numbers of slices, volumes and patients.

    ``slices`` and ``volumes``: of the training. ``range``: the values mapped to -1 and 1 if a rule fixes them (a CT's
    window, a picture's bit depth); None for percentiles, which are measured per patient. ``patients``: by split;
    ``sources``: volumes by how their patient was identified.
    """

    modality: Annotated[str, Field(pattern=r"^[A-Z]{2,16}$")] | None
    kind: Literal["window", "percentile", "range"]
    unit: Annotated[str, Field(max_length=32)]
    range: tuple[float, float] | None
    scaling: Scaling
    slices: Count
    volumes: Count
    patients: dict[Literal["train", "validation", "test"], Count]
    sources: dict[PatientSource, Count]


class Declaration(_Closed):
    """What a site declares before the first round; JSON of this is the only text that leaves it."""

    size: int
    fit: Literal["physical", "stretch"]
    pixel_mm: float
    domains: Annotated[dict[Name, DomainDeclaration], Field(min_length=1, max_length=2)]


class Agreement(_Closed):
    """The rules that all sites share, and what each declared. ``domains``: the names of A and of B."""

    domains: tuple[Name, Name]
    sites: dict[str, Declaration]

    @property
    def _any(self) -> Declaration:
        return next(iter(self.sites.values()))

    @property
    def size(self) -> int:
        """Rows and columns of a slice."""
        return self._any.size

    def at(self, domain: str) -> list[DomainDeclaration]:
        """Return the declarations of the sites that have ``domain``, in the order of the sites' names."""
        return [site.domains[domain] for site in self.sites.values() if domain in site.domains]

    @property
    def rules(self) -> dict[str, Any]:
        """Everything that the weights depend on, without counts: two agreements with equal rules can be continued."""
        measured = {"slices", "volumes", "patients", "sources", "modality"}
        domains = {
            name: {**self.at(name)[0].model_dump(mode="json", exclude=measured), "modality": self.modality(name)}
            for name in self.domains
        }
        return {**self._any.model_dump(mode="json", exclude={"domains"}), "domains": domains}

    def modality(self, domain: str) -> str | None:
        """Return the modality of ``domain``; None if no site knows it."""
        return next((own.modality for own in self.at(domain) if own.modality is not None), None)

    def total(self, domain: str, count: Callable[[DomainDeclaration], int]) -> int:
        """Return the sum of a count over all sites with ``domain``."""
        return sum(count(own) for own in self.at(domain))

    def patients(self, domain: str) -> dict[str, dict[str, int]]:
        """Return the sums over all sites of :func:`~medcyclegan.model.training_set.describe_patients`."""
        splits, sources = collections.Counter[str](), collections.Counter[str]()
        for own in self.at(domain):
            splits.update({str(split): count for split, count in own.patients.items()})
            sources.update(own.sources)
        return {"splits": dict(splits), "sources": dict(sources)}

    def domain_model(self, name: str) -> DomainModel:
        """Return the domain ``name`` of the model: its scaling is a rule, not a measurement."""
        first = self.at(name)[0]
        if first.range is None:
            scaling = IntensityScaling("percentile", MR_LOWER, MR_UPPER, first.unit, MR_AIR)
        else:
            scaling = IntensityScaling(first.kind, *first.range, first.unit)
        return DomainModel(name, self.modality(name), scaling, first.scaling)

    def configured(self, config: Config) -> Config:
        """Return ``config`` with the slicing and the domains that the sites agreed on."""
        one = self._any
        slicing = config.slicing.model_copy(update={"size": one.size, "fit": one.fit, "pixel_mm": one.pixel_mm})
        domains = {}
        for name in self.domains:
            modality = self.modality(name)
            values = {"modality": modality if modality in ("CT", "MR") else None, "scaling": self.at(name)[0].scaling}
            domains[name] = Domain.model_validate(values)
        return config.model_copy(update={"slicing": slicing, "domains": {**config.domains, **domains}})


def declare(plan: Plan) -> Declaration:
    """Return what the site of ``plan`` declares: rules and counts."""
    first = next(rows for rows in plan.training if rows)[0].preparation
    domains = {
        name: _declare_domain(plan, name, rows) for name, rows in zip(plan.domains, plan.training, strict=True) if rows
    }
    return Declaration(size=plan.size, fit=first["fit"], pixel_mm=first["pixel_mm"], domains=domains)


def _declare_domain(plan: Plan, name: str, rows: tuple[SliceRow, ...]) -> DomainDeclaration:
    scaling = IntensityScaling.from_dict(rows[0].scaling)
    patients = plan.patients[name]
    return DomainDeclaration(
        modality=next((row.modality for row in rows if row.modality is not None), None),
        kind=scaling.kind,
        unit=scaling.unit,
        range=None if scaling.kind == "percentile" else (scaling.lower, scaling.upper),
        scaling=plan.config.domains[name].scaling,
        slices=sum(len(row.slices) for row in rows),
        volumes=len(rows),
        patients=patients["splits"],
        sources={key: patients["sources"].get(key, 0) for key in PATIENT_SOURCES if key in patients["sources"]},
    )


def agree(declared: Mapping[str, Declaration], domains: tuple[str, str]) -> Agreement:
    """Return the agreement of the sites ``declared``, or refuse.

    Raises :class:`~medcyclegan.errors.StoreError` if no site has one of the ``domains`` (A and B), or if two sites
    prepared their slices by different rules; the message names the rule, its values and the sites.
    """
    sites = dict(sorted(declared.items()))
    for name in domains:
        if not any(name in site.domains for site in sites.values()):
            raise StoreError(
                f"no site has slices of {name}: the sites have {', '.join(_held(sites))}; name the folders of the "
                "volumes after the job's domains, and slice again"
            )
    for rule in ("size", "fit", "pixel_mm"):
        _compare(f"slicing.{rule}", {name: getattr(site, rule) for name, site in sites.items()})
    for name in domains:
        having = {place: site.domains[name] for place, site in sites.items() if name in site.domains}
        _compare(f"the modality of {name}", {place: own.modality for place, own in having.items() if own.modality})
        _compare(f"the kind of scaling of {name}", {place: own.kind for place, own in having.items()})
        _compare(f"the unit of {name}", {place: own.unit for place, own in having.items()})
        _compare(f"the range of {name}", {place: own.range for place, own in having.items()})
        _compare(f"the scaling of {name}", {place: own.scaling.model_dump_json() for place, own in having.items()})
    return Agreement(domains=domains, sites=sites)


def _held(sites: Mapping[str, Declaration]) -> list[str]:
    return sorted({name for site in sites.values() for name in site.domains})


def _compare(what: str, values: Mapping[str, Any]) -> None:
    """Raise :class:`~medcyclegan.errors.StoreError` if the sites' ``values`` of a rule differ."""
    if len(set(values.values())) > 1:
        listed = ", ".join(f"{value} at {site}" for site, value in values.items())
        raise StoreError(f"{what} differs: {listed}: slice the volumes of all sites with one configuration")
