"""The model card: a readable description of a model, written from the contents of ``model.json`` alone.

Sections as in Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019, arXiv 1810.03993).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medcyclegan.manifest import PATIENT_SOURCES

__all__ = ["CARD", "model_card"]

CARD = "MODEL_CARD.md"
#: What the patients of each split are used for.
_USES = {"train": "training", "validation": "validation", "test": "testing"}

_USE = """For research: a missing contrast, training data in another contrast, a synthetic CT to plan experiments with.
Not a medical device. Not for diagnosis, and not for dose, segmentation or any measurement that was not validated on
your own data: a network trained to match distributions can invent or remove lesions (Cohen et al. 2018,
arXiv 1805.08841). Anything unlike the training volumes (other scanner, protocol, body part, age, contrast agent,
implants) is outside its training distribution. Every output is labeled as synthetic; do not remove that label."""


def model_card(record: Mapping[str, Any]) -> str:
    """Return the Markdown card of a model from its ``model.json``, ``record``; it contains no patient data and no path.

    Anything that the record does not contain is listed as not recorded.
    """
    a, b = record["domains"]["A"], record["domains"]["B"]
    provenance, preparation = record.get("provenance", {}), record["preparation"]
    parts = [
        f"# {a['name']} to {b['name']} and back",
        f"{_kind(provenance)} that translates axial slices between {_domain(a)} and {_domain(b)}, by medcyclegan "
        f"{record['versions']['medcyclegan']}, {record['created']}. Fingerprint `{record['fingerprint']}`.",
        f"## Intended use and limitations\n\n{_USE}",
        f"## Training data\n\n{_data(provenance, (a['name'], b['name']))}",
        *_federated(provenance),
        f"## How volumes are prepared\n\n{_preparation(preparation, a, b)}",
        f"## Networks and training\n\n{_training(record['generator'], provenance)}",
        f"## Fitness\n\n{_fitness(provenance.get('fitness'))}",
        f"## Scores\n\n{_scores(provenance.get('fitness'))}",
        *_shipped(provenance),
        "## Use\n\n    medcyclegan translate-volume IN OUT.nii.gz --model <this folder> --to " + b["name"],
    ]
    return "\n\n".join(parts) + "\n"


def _kind(provenance: Mapping[str, Any]) -> str:
    return "A pair of generators" if "pairs" in provenance else "A CycleGAN"


def _shipped(provenance: Mapping[str, Any]) -> list[str]:
    """Describe what a model that comes with the package was trained on, its scores on unseen heads, and its limits."""
    about = provenance.get("shipped")
    if not isinstance(about, Mapping):
        return []
    titles = {"trained_on": "Sources and licenses", "measured": "Measured on unseen heads", "limits": "Not for"}
    return [f"## {title}\n\n" + "\n".join(f"- {line}" for line in about[key]) for key, title in titles.items()]


def _federated(provenance: Mapping[str, Any]) -> list[str]:
    """List the counts of each site of a federated training, in which no slice left its site."""
    about = provenance.get("federated")
    if not isinstance(about, Mapping):
        return []
    lines = [
        f"Federated: {about['rounds']} rounds of {about['steps_per_round']} steps at each site, after which the "
        "weights were averaged. No slice left its site. The scaling of MR outputs is a convention, not that of a "
        "scanner.\n"
    ]
    for number, site in enumerate(about["sites"], start=1):
        counts = "; ".join(
            f"{name}: {own['slices']} slices of {_volumes(own['volumes'])}, "
            f"{own['patients']} patient{'' if own['patients'] == 1 else 's'}"
            for name, own in site["domains"].items()
        )
        lines.append(f"- site {number}, in {site['rounds']} of {about['rounds']} rounds: {counts}")
    return ["## Sites\n\n" + "\n".join(lines)]


def _domain(domain: Mapping[str, Any]) -> str:
    return f"{domain['name']} ({domain['modality'] or 'modality not recorded'})"


def _data(provenance: Mapping[str, Any], names: tuple[str, str]) -> str:
    lines = []
    for name in names:
        volumes = provenance.get("training_volumes", {}).get(name, "an unrecorded number of")
        slices = provenance.get("training_slices", {}).get(name, "an unrecorded number of")
        lines.append(f"- {name}: {slices} slices of {volumes} volumes{_acquired(provenance, name)}")
    lines.append(
        f"\n{_pairing(provenance.get('pairs'), provenance.get('real_scans'))} Held-out patients are not counted.\n"
    )
    lines += [f"- patients of {name}: {_patients(provenance, name)}" for name in names]
    if any(name in provenance.get("patients", {}) and _is_guessed(provenance["patients"][name]) for name in names):
        lines.append("\nA guess is only as good as the names: if it is wrong, a patient may be in two splits.")
    return "\n".join(lines)


def _pairing(pairs: Any, real: Any) -> str:
    """Describe which slices of the two domains were used together: see ``PairSource.describe`` of the training.

    ``real``: the steps, patients and slices of a training on unpaired real scans that followed, if any.
    """
    if not isinstance(pairs, Mapping):
        return "Unpaired: the two domains need not show the same patients."
    if pairs["kind"] == "slice store":
        return f"Supervised, on {pairs['pairs']} pairs of slices of the same patients."
    maps = f"{pairs['label_maps']} label map{'' if pairs['label_maps'] == 1 else 's'}"
    then = "No image of a real patient was used. "
    if isinstance(real, Mapping):
        slices = " and ".join(
            f"{count} of {name} ({real['patients'][name]} patients)" for name, count in real["slices"].items()
        )
        then = f"Then the training continued for {real['steps']} steps on unpaired slices of real scans: {slices}. "
    return (
        f"{pairs['patients']} synthetic patients were generated from {maps} during the training, each in both domains, "
        f"and the generators were trained on these pairs. {then}The slices and volumes listed here are those of a few "
        "synthetic patients that were generated first; the scaling and the statistics of the model are based on them."
    )


def _patients(provenance: Mapping[str, Any], name: str) -> str:
    """Describe how many patients of a domain are in each split and how they were identified, if recorded."""
    described = provenance.get("patients", {}).get(name)
    if not isinstance(described, Mapping):
        return "how they were identified is not recorded"
    splits, sources = described["splits"], described["sources"]
    counts = ", ".join(f"{int(splits.get(split, 0))} for {use}" for split, use in _USES.items())
    known = [f"{PATIENT_SOURCES[key]} ({_volumes(int(sources[key]))})" for key in PATIENT_SOURCES if key in sources]
    return f"{counts}; identified: {', '.join(known)}"


def _is_guessed(described: Mapping[str, Any]) -> bool:
    return any(source in described["sources"] for source in ("folder", "name", "doubtful"))


def _volumes(count: int) -> str:
    return f"{count} volume{'' if count == 1 else 's'}"


def _acquired(provenance: Mapping[str, Any], name: str) -> str:
    """Describe how a domain's volumes were acquired, if recorded."""
    described = provenance.get("training_set", {}).get(name)
    if not isinstance(described, Mapping):
        return ""
    pixel, slices = (" to ".join(f"{mm:g}" for mm in described[key]) for key in ("pixel_mm", "slice_mm"))
    planes = ", ".join(f"{count} {plane}" for plane, count in described["acquisitions"].items())
    return f"; pixel size {pixel} mm, slice spacing {slices} mm; acquired {planes}"


def _preparation(preparation: Mapping[str, Any], a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    size = f"{preparation['size']} x {preparation['size']}"
    if preparation["fit"] == "physical":
        fit = f"resampled to pixels of {preparation['pixel_mm']:g} mm and padded to {size}"
    else:
        fit = f"stretched to {size} pixels"
    scalings = "; ".join(
        f"{d['name']} from {d['scaling']['lower']:g} to {d['scaling']['upper']:g} {d['scaling']['unit']}"
        for d in (a, b)
    )
    return f"Axial slices, {fit}, values in [-1, 1]. Outputs are scaled back: {scalings}."


def _training(generator: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    config = provenance.get("config", {})
    section = config.get("pretraining", {}) if "pairs" in provenance else config.get("losses", {})
    losses = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in section.items())
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in generator.items() if value is not None)
    return "\n".join(
        [
            f"- generators: {settings}",
            f"- {'pretraining' if 'pairs' in provenance else 'losses'}: {losses or 'not recorded'}",
            f"- steps: {provenance.get('steps', 'not recorded')} of {provenance.get('planned_steps', 'not recorded')}, "
            f"seed {config.get('seed', 'not recorded')}, precision {provenance.get('precision', 'not recorded')}",
            "- the complete configuration is in `model.json`",
        ]
    )


def _fitness(fitness: Any) -> str:
    """Describe what the verdict on every translation takes into account."""
    if not isinstance(fitness, Mapping):
        return "Not recorded: no translation by this model gets the verdict `ok`."
    patients = ", ".join(f"{count} of {name}" for name, count in fitness["patients"].items())
    learned = {True: "yes", False: "no", None: "not measured"}[fitness["learned"]]
    lines = [
        f"- steps behind these weights: {fitness['steps']}",
        f"- patients trained on: {patients}",
        f"- the cycle restores more than a constant image does: {learned}",
        *(f"- **warning from step {w['step']}, still active**: {w['message']}" for w in fitness["warnings"]),
    ]
    if not fitness["warnings"]:
        lines.append("- active warnings: none")
    lines.append("- the verdict on every translation takes these and the scores below into account")
    return "\n".join(lines)


def _scores(fitness: Any) -> str:
    scores = fitness["scores"] if isinstance(fitness, Mapping) else {}
    if not scores:
        return (
            "None recorded. Evaluate the model on unseen patients with `medcyclegan evaluate`, which also scores "
            "its baselines."
        )
    given = fitness["input_scores"]
    lines = ["On held-out slices, scaled to [-1, 1]; in parentheses, the score of the input taken as the output.\n"]
    for name, value in scores.items():
        beside = f" ({given[name]:.4g})" if name in given else ""
        lines.append(f"- {name.replace('_', ' ')}: {value:.4g}{beside}")
    return "\n".join(lines)
