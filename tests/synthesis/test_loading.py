"""Heads are kept in memory as long as their files stay as they are."""

import torch
from support.label_phantoms import label_array, write_labels

from medcyclegan.synthesis import FREESURFER, load_head, load_heads


def test_a_head_is_prepared_once_and_again_where_its_file_or_table_changed(tmp_path):
    path = write_labels(tmp_path / "head.nii.gz")
    first = load_head(path, FREESURFER)
    assert load_head(path, dict(FREESURFER)) is first
    assert load_head(path, {**FREESURFER, 4: "cavity"}) is not first
    write_labels(path, label_array((46, 54, 54)))
    assert load_head(path, FREESURFER).tissues.shape != first.tissues.shape


def test_several_are_prepared_at_once(tmp_path):
    paths = [write_labels(tmp_path / f"{n}.nii.gz", label_array((46, 54, 54 + n))) for n in range(3)]
    load_heads(paths, FREESURFER, torch.device("cpu"))
    shapes = [load_head(path, FREESURFER).tissues.shape for path in paths]
    assert len(set(shapes)) == 3
