"""Checkpoints: intact or skipped, few are kept, plain tensors only."""

import subprocess
from pathlib import Path

import pytest
import torch

from medcyclegan.errors import TrainingError
from medcyclegan.training.run.checkpoint import load_newest_checkpoint, save_checkpoint


def save(folder: Path, *steps: int, keep: int = 2) -> None:
    for step in steps:
        save_checkpoint(folder, step, {"weight": torch.full((100,), float(step))}, keep=keep)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_comes_back(tmp_path: Path) -> None:
    save(tmp_path, 5, 10)
    state = load_newest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 10
    assert torch.equal(state["weight"], torch.full((100,), 10.0))


@pytest.mark.parametrize(("up_to", "step"), [(10, 10), (9, 5), (5, 5), (4, None)])
def test_checkpoints_of_later_steps_can_be_ignored(tmp_path: Path, up_to: int, step: int | None) -> None:
    save(tmp_path, 5, 10)
    state = load_newest_checkpoint(tmp_path, up_to=up_to)
    assert (None if state is None else state["step"]) == step


def test_without_a_checkpoint_nothing_is_loaded(tmp_path: Path) -> None:
    assert load_newest_checkpoint(tmp_path / "checkpoints") is None


def test_sha256sum_accepts_the_sums(tmp_path: Path) -> None:
    save(tmp_path, 100)
    assert names(tmp_path) == ["step-000100.pt", "step-000100.pt.sha256"]
    result = subprocess.run(["sha256sum", "-c", "step-000100.pt.sha256"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("keep", "left"), [(1, [10]), (2, [9, 10]), (3, [8, 9, 10])])
def test_the_last_ones_are_kept(tmp_path: Path, keep: int, left: list[int]) -> None:
    save(tmp_path, 7, 8, 9, 10, keep=keep)
    kept = [f"step-{step:06d}.pt" for step in left]
    assert [name for name in names(tmp_path) if name.endswith(".pt")] == kept
    assert len(names(tmp_path)) == 2 * len(kept)


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def lose_the_sum(path: Path) -> None:
    path.with_name(path.name + ".sha256").unlink()


def empty_the_sum(path: Path) -> None:
    path.with_name(path.name + ".sha256").write_text("")


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short, lose_the_sum, empty_the_sum])
def test_a_damaged_one_is_named_and_passed_over(tmp_path: Path, damage, caplog) -> None:
    save(tmp_path, 5, 10)
    damage(tmp_path / "step-000010.pt")
    state = load_newest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 5
    assert "step-000010.pt is damaged" in caplog.text
    assert "using the previous checkpoint" in caplog.text


def test_if_no_checkpoint_is_intact_a_warning_states_that_training_starts_again(tmp_path: Path, caplog) -> None:
    save(tmp_path, 5, 10)
    lose_the_sum(tmp_path / "step-000010.pt")
    cut_short(tmp_path / "step-000005.pt")
    assert load_newest_checkpoint(tmp_path) is None
    first, second = caplog.messages
    assert "step-000010.pt is damaged" in first
    assert "using the previous checkpoint" in first
    assert "step-000005.pt is damaged" in second
    assert "there is no earlier one: starting at step 0" in second


def test_damaged_newer_ones_do_not_push_out_whole_ones(tmp_path: Path) -> None:
    save(tmp_path, 5, 10)
    lose_the_sum(tmp_path / "step-000010.pt")
    save(tmp_path, 6, keep=1)
    state = load_newest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 6


def test_a_file_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    save_checkpoint(tmp_path, 3, {"weight": torch.zeros(1)}, keep=2)
    save_checkpoint(tmp_path, 4, {"weight": Bomb()}, keep=2)
    state = load_newest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 3
    assert not (tmp_path / "exploded").exists()


def test_another_format_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, {"format": 99}, keep=2)
    with pytest.raises(TrainingError, match="another version"):
        load_newest_checkpoint(tmp_path)
