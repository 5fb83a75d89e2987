"""The command-line module of 3D Slicer: its description, and runs as Slicer makes them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from click.testing import CliRunner
from support.models import tiny_model
from support.phantoms import head_mr, make_affine

from medcyclegan.cli.slicer import command
from medcyclegan.errors import UsageError
from medcyclegan.io import read_volume, write_volume
from medcyclegan.model.shipped import translation_choices
from medcyclegan.slicer.description import describe_module
from medcyclegan.slicer.launcher import write_launcher
from medcyclegan.slicer.progress_tags import ProgressTags

#: Elements and their order in the published schema (CTK's ctkCmdLineModule.xsd): the module, a group, a parameter.
MODULE = (
    "category? title description version? documentation-url? license? contributor? acknowledgements? (parameters )+"
)
GROUP = "label description ((image|string|directory|string-enumeration) )+"
PARAMETER = "name (flag |flag longflag |longflag |index )description label default? channel? "
ATTRIBUTES = {
    "parameters": {"advanced": "true|false"},
    "image": {"type": "scalar|label|tensor|diffusion-weighted|vector", "fileExtensions": r"\.\w+(,\.\w+)*"},
}


def order(pattern):
    """Turn a content model into a regular expression for the names of children, each followed by a space."""
    return re.sub(r"(\w[\w-]*)(\?)? ", lambda m: f"({m[1]} )?" if m[2] else f"{m[1]} ", pattern)


def check_description(text):
    """Fail unless ``text`` follows the schema of Slicer's module descriptions."""
    assert text.startswith("<?xml")
    root = ElementTree.fromstring(text)  # noqa: S314
    assert root.tag == "executable"
    assert re.fullmatch(order(MODULE), "".join(f"{child.tag} " for child in root))
    names = []
    for group in root.iter("parameters"):
        assert re.fullmatch(order(GROUP), "".join(f"{child.tag} " for child in group))
        for parameter in list(group)[2:]:
            last = "(element )+" if parameter.tag.endswith("-enumeration") else ""
            assert re.fullmatch(order(PARAMETER) + last, "".join(f"{child.tag} " for child in parameter))
            names.append(parameter.findtext("name"))
            assert re.fullmatch("[_a-zA-Z][_a-zA-Z0-9]*", names[-1])
            if parameter.find("longflag") is not None:
                assert re.fullmatch("(--?)?[_a-zA-Z][_a-zA-Z0-9]*", parameter.findtext("longflag"))
            else:
                assert parameter.findtext("index").isdecimal()
            assert parameter.findtext("channel") in (None, "input", "output")
            if last:
                assert parameter.findtext("default") in [element.text for element in parameter.iter("element")]
    assert len(names) == len(set(names))
    for element in root.iter():
        allowed = ATTRIBUTES.get(element.tag, {})
        for name, value in element.attrib.items():
            assert re.fullmatch(allowed.get(name, "no such attribute"), value)


def slicer_arguments(files, chosen):
    """Return the arguments that Slicer builds from the description: parameters with flags, then those with an index.

    Source: vtkSlicerCLIModuleLogic.cxx. ``files``: of the volumes; ``chosen``: other values than the defaults.
    """
    root = ElementTree.fromstring(describe_module())  # noqa: S314
    parameters = [p for group in root.iter("parameters") for p in list(group)[2:]]
    arguments, indexed = [], {}
    for parameter in parameters:
        name = parameter.findtext("name")
        value = chosen.get(name, parameter.findtext("default") or "")
        if parameter.tag == "image":
            value = str(files[name]) if name in files else ""
        index = parameter.findtext("index")
        if index == "1000":
            arguments = ["--returnparameterfile", str(files["return"]), *arguments]
        elif index is not None:
            indexed[int(index)] = value
        elif value or parameter.tag.endswith("-enumeration"):
            arguments += [f"--{parameter.findtext('longflag')}", value]
    return [*arguments, *(indexed[index] for index in sorted(indexed))]


@pytest.fixture
def files(tmp_path):
    """A T1 volume as Slicer saves it, and the names that it chooses for the results."""
    image = write_volume(head_mr((48, 56, 6), make_affine("LPS", (4.0, 4.0, 4.0))), tmp_path / "plain.nrrd")
    assert image is None
    written = sitk.ReadImage(str(tmp_path / "plain.nrrd"))
    sitk.WriteImage(written, str(tmp_path / "ABCD_vtkMRMLScalarVolumeNodeA.nrrd"), useCompression=False)
    (tmp_path / "plain.nrrd").unlink()
    (tmp_path / "plain.json").unlink(missing_ok=True)
    return {
        "inputVolume": tmp_path / "ABCD_vtkMRMLScalarVolumeNodeA.nrrd",
        "outputVolume": tmp_path / "ABCD_vtkMRMLScalarVolumeNodeB.nrrd",
        "return": tmp_path / "123_abc.params",
    }


def test_the_description_follows_the_schema():
    check_description(describe_module())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<title>", "<title2>"),
        ("<channel>input</channel>", "<channel>in</channel>"),
        ("<name>planes</name>", "<name>pl-anes</name>"),
        ("<longflag>to</longflag>", ""),
        ('fileExtensions=".nrrd"', 'fileExtensions=".nrrd" reference="inputVolume"'),
        ("<default>axial</default>", "<default>none</default>"),
        ("<name>to</name>", "<name>planes</name>"),
    ],
)
def test_the_check_of_the_schema_can_fail(old, new):
    changed = describe_module().replace(old, new)
    if old == "<title>":
        changed = changed.replace("</title>", "</title2>")
    assert changed != describe_module()
    with pytest.raises(AssertionError):
        check_description(changed)


def test_the_description_is_all_that_is_printed_and_needs_no_torch():
    code = (
        "import sys\nfrom medcyclegan.cli.slicer import command\n"
        "try:\n    command(['--xml'])\nfinally:\n"
        "    sys.stderr.write(','.join(m for m in ('torch', 'monai', 'matplotlib') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", describe_module())


def test_slicer_can_offer_every_translation():
    assert translation_choices() == {
        "t1 to ct (head-t1-ct)": ("head-t1-ct", "ct"),
        "ct to t1 (head-t1-ct)": ("head-t1-ct", "t1"),
        "t1 to t2 (head-t1-t2)": ("head-t1-t2", "t2"),
        "t2 to t1 (head-t1-t2)": ("head-t1-t2", "t1"),
        "t2 to ct (head-t2-ct)": ("head-t2-ct", "ct"),
        "ct to t2 (head-t2-ct)": ("head-t2-ct", "t2"),
        "t1 to t2 (brain-t1-t2)": ("brain-t1-t2", "t2"),
        "t2 to t1 (brain-t1-t2)": ("brain-t1-t2", "t1"),
    }


def test_it_runs_as_slicer_runs_it(files, tmp_path):
    """The launcher starts in the environment of Slicer's own Python, with the arguments that Slicer builds."""
    launcher = write_launcher(tmp_path / "module")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "numpy.py").write_text("raise ImportError('this is the numpy of another Python')")
    environment = {**os.environ, "PYTHONHOME": str(foreign), "PYTHONPATH": str(foreign)}
    files["uncertainty"] = tmp_path / "ABCD_vtkMRMLScalarVolumeNodeC.nrrd"
    before = read_volume(files["inputVolume"])
    arguments = slicer_arguments(files, {"translation": "t1 to t2 (head-t1-t2)"})
    done = subprocess.run([launcher, *arguments], env=environment, cwd=foreign, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    progress = [float(value) for value in re.findall(r"<filter-progress>([^<]*)</filter-progress>", done.stdout)]
    assert progress == sorted(progress)
    assert (progress[0], progress[-1]) == (0.0, 1.0)
    assert len(progress) > 2
    # Slicer removes these tags and shows the rest.
    rest = re.sub(
        r"<filter-(progress|name|comment|time)>[^<]*</filter-\1>\s*|</?filter-(start|end)>\s*", "", done.stdout
    )
    assert rest.strip() == ""
    made, uncertainty = read_volume(files["outputVolume"]), read_volume(files["uncertainty"])
    np.testing.assert_allclose(made.affine, before.affine, atol=1e-6)
    assert made.shape == uncertainty.shape == before.shape
    assert made.synthetic
    assert uncertainty.synthetic
    assert re.fullmatch("quality = (ok|check|doubtful)\n", files["return"].read_text())
    assert {path.name for path in tmp_path.iterdir()} == {f.name for f in files.values()} | {"module", "foreign"}


def run(files, **chosen):
    return CliRunner().invoke(command, slicer_arguments(files, chosen))


def test_an_uncertainty_map_is_computed_only_on_request(files):
    result = run(files)
    assert result.exit_code == 0, result.output
    assert "translating back" not in result.stdout
    assert read_volume(files["outputVolume"]).synthetic


def test_a_model_folder_replaces_the_shipped_model(files, tmp_path):
    tiny_model().save(tmp_path / "model")
    files["outputVolume"].write_bytes(b"an earlier result")
    result = run(files, modelFolder=str(tmp_path / "model"), to="ct")
    assert result.exit_code == 0, result.output
    assert read_volume(files["outputVolume"]).array.dtype == np.int16


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"translation": "ct to t1 (head-t1-ct)"}, "if it is not a CT, translate to ct"),
        ({"translation": "ct to pet"}, "no such translation: choose one of: t1 to ct"),
        ({"modelFolder": "nothing"}, "nothing"),
        ({"to": "ct"}, "this is for a model folder"),
    ],
)
def test_a_failure_is_a_line_and_leaves_nothing(files, chosen, message):
    result = run(files, **chosen)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "<filter-end>" not in result.stdout
    assert [path.name for path in files["inputVolume"].parent.iterdir()] == [files["inputVolume"].name]


def test_tags_are_escaped():
    written = []
    tags = ProgressTags("a < b", written.append)
    tags.start()
    tags.advance("c & d", 0.25)
    assert "<filter-name>a &lt; b</filter-name>" in written[0]
    assert written[1] == "<filter-progress>0.250</filter-progress>\n<filter-comment>c &amp; d</filter-comment>\n"


def test_the_launcher_gets_a_separate_folder(tmp_path):
    launcher = write_launcher(tmp_path / "module")
    assert write_launcher(tmp_path / "module") == launcher
    assert os.access(launcher, os.X_OK)
    Path(tmp_path, "module", "other").touch()
    with pytest.raises(UsageError, match="Slicer would start every program in this folder"):
        write_launcher(tmp_path / "module")
    result = CliRunner().invoke(command, ["--install", str(tmp_path / "module")])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
