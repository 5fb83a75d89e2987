"""Describe the module's parameters in XML, from which Slicer builds its panel."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

import medcyclegan
from medcyclegan.model.shipped import translation_choices

__all__ = ["TITLE", "describe_module"]

TITLE = "Translate contrast (medcyclegan)"
_ABOUT = (
    "Translates a head from one contrast to another: T1, T2 and CT with the shipped models, anything else with a model "
    "of your own. Research software, not a medical device: every output is synthetic."
)
#: The index that marks a value that the program returns.
_RETURNED = "1000"


def describe_module() -> str:
    """Return the XML description of the module."""
    choices = list(translation_choices())
    root = ElementTree.Element("executable")
    _add(
        root,
        category="Filtering",
        title=TITLE,
        description=_ABOUT,
        version=medcyclegan.__version__,
        license="Apache-2.0",
        contributor="The medcyclegan developers",
    )
    group = _group(root, "Volumes", "The volume to translate, and where to put the results")
    _image(group, "inputVolume", "Input", "The volume to translate: MR, or CT in HU", channel="input", index="0")
    _image(group, "outputVolume", "Output", "The synthetic volume, on the grid of the input", index="1")
    _image(group, "uncertainty", "Uncertainty", "A map that is bright where to look twice", longflag="uncertainty")
    group = _group(root, "Translation", "The model and the direction")
    _parameter(group, "string-enumeration", "translation", "Translation", "Contrasts, and the shipped model", choices)
    _parameter(
        group,
        "string-enumeration",
        "planes",
        "Planes",
        "three: also translate coronal and sagittal slices, and take the median; takes several times as long",
        ["axial", "three"],
    )
    group = _group(root, "Own model", "A model of your own instead of a shipped one", advanced="true")
    _parameter(group, "directory", "modelFolder", "Model folder", "Replaces the shipped model")
    _parameter(group, "string", "to", "Translate to", "The domain of this model to translate to, if not its second one")
    group = _group(root, "Result", "What the program reports")
    quality = ElementTree.SubElement(group, "string")
    _add(quality, name="quality", index=_RETURNED, description="ok, check or doubtful", label="Quality verdict")
    _add(quality, default="", channel="output")
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _group(root: ElementTree.Element, label: str, description: str, **attributes: str) -> ElementTree.Element:
    group = ElementTree.SubElement(root, "parameters", attributes)
    _add(group, label=label, description=description)
    return group


def _image(group: ElementTree.Element, name: str, label: str, description: str, **place: str) -> None:
    channel = place.pop("channel", "output")
    image = ElementTree.SubElement(group, "image", {"type": "scalar", "fileExtensions": ".nrrd"})
    _add(image, name=name, **place, description=description, label=label, channel=channel)


def _parameter(
    group: ElementTree.Element, kind: str, name: str, label: str, description: str, choices: Iterable[str] = ()
) -> None:
    parameter = ElementTree.SubElement(group, kind)
    values = list(choices)
    _add(parameter, name=name, longflag=name.lower(), description=description, label=label)
    _add(parameter, default=values[0] if values else "")
    for value in values:
        _add(parameter, element=value)


def _add(parent: ElementTree.Element, **texts: str) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = text
