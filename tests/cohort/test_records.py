"""The ledger, the stages, the record of a study, and shards."""

import os
import stat

import pytest

from medcyclegan.cohort import (
    DomainTree,
    Study,
    load_study,
    read_ledger,
    run_stage,
    save_study,
    select_volumes,
    update_ledger,
)
from medcyclegan.errors import ReadError, UsageError
from medcyclegan.shards import choose_shard, share_of


def test_the_ledger_holds_what_failed_last(tmp_path):
    update_ledger(tmp_path, "slice", ["a", "b", "c"], {"a": "cut short", "b": "two\nlines"})
    update_ledger(tmp_path, "translate", ["a"], {"a": "unread"})
    standing = update_ledger(tmp_path, "slice", ["b"], {})
    assert [(f.stage, f.case, f.reason) for f in standing] == [
        ("slice", "a", "cut short"), ("translate", "a", "unread"),
    ]  # fmt: skip
    assert read_ledger(tmp_path) == standing
    assert read_ledger(tmp_path / "nowhere") == []


def test_the_ledger_is_its_owners_alone(tmp_path):
    (tmp_path / "ledger.jsonl").write_text("")  # readable by anybody
    (tmp_path / "ledger.jsonl").chmod(0o644)
    before = os.umask(0)
    try:
        update_ledger(tmp_path, "slice", ["a"], {"a": "cut short"})
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"ledger.jsonl": 0o600, ".ledger.lock": 0o600}


def test_no_ledger_is_begun_for_nothing(tmp_path):
    assert update_ledger(tmp_path, "slice", ["a"], {}) == []
    assert not (tmp_path / "ledger.jsonl").exists()


def test_reasons_are_one_line_each(tmp_path):
    update_ledger(tmp_path, "slice", ["b"], {"b": "two\nlines"})
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 1
    assert "\n" not in read_ledger(tmp_path)[0].reason


def test_a_stage_is_done_once_for_the_same_inputs(tmp_path):
    calls = []

    def action():
        calls.append(1)
        (tmp_path / "result.txt").write_text(str(len(calls)))
        return tmp_path / "result.txt"

    for inputs, expected in (({"n": 1}, 1), ({"n": 1}, 1), ({"n": 2}, 2)):
        assert run_stage(tmp_path, "count", inputs, action) == tmp_path / "result.txt"
        assert len(calls) == expected
    (tmp_path / "result.txt").unlink()
    run_stage(tmp_path, "count", {"n": 2}, action)
    assert len(calls) == 3, "a result that is gone is made again"
    (tmp_path / "stages" / "count.json").write_text("{")
    run_stage(tmp_path, "count", {"n": 2}, action)
    assert len(calls) == 4


def test_a_study_comes_back_wherever_it_is_read_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = DomainTree(tmp_path / "bids", {"suffix": "T1w"})
    save_study(tmp_path / "study", Study({"t1": tree}, tmp_path / "study" / "slices"))
    assert str(tmp_path) not in (tmp_path / "study" / "study.json").read_text()
    found = load_study(tmp_path / "study")
    assert found.domains["t1"].folder.resolve() == tmp_path / "bids"
    assert found.domains["t1"].select == {"suffix": "T1w"}
    assert found.keyed_store.resolve() == tmp_path / "study" / "slices"


@pytest.mark.parametrize("text", [None, "{", '{"domains": 3}', '{"domains": {"t1": {}}}'])
def test_what_is_no_study_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "study.json").write_text(text)
    with pytest.raises(ReadError, match=r"prepare_cohort\.py"):
        load_study(tmp_path)


def test_volumes_are_chosen_by_their_entities(tmp_path):
    for name in ("sub-01/anat/sub-01_ses-1_T1w", "sub-01/anat/sub-01_ses-2_T1w", "sub-01/anat/sub-01_ses-1_T2w",
                 "derivatives/x/sub-01_ses-1_T1w", "notes/scan_T1w"):  # fmt: skip
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert len(select_volumes(tmp_path)) == 5
    chosen = [volume.name for volume in select_volumes(tmp_path, ["suffix=T1w", "ses=1"])]
    assert chosen == ["sub-01/anat/sub-01_ses-1_T1w"]
    with pytest.raises(ReadError, match="with suffix=bold found"):
        select_volumes(tmp_path, {"suffix": "bold"})
    with pytest.raises(UsageError, match="an entity and its value"):
        select_volumes(tmp_path, ["T1w"])


def test_shards_share_out_all_and_nothing_twice(monkeypatch):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    shares = [share_of(range(10), choose_shard(3, n)) for n in range(3)]
    assert sorted(n for share in shares for n in share) == list(range(10))
    assert choose_shard(None) == (0, 1)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert choose_shard(3) == (2, 3)
    assert choose_shard(None) == (0, 1), "without a number of shards the work is one"
    assert choose_shard(3, 1) == (1, 3)
    with pytest.raises(UsageError, match="shard 2 of 2"):
        choose_shard(2)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "x")
    with pytest.raises(UsageError, match="not a number"):
        choose_shard(2)


def test_one_of_several_shards_must_be_named_outside_a_job_array(monkeypatch):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(UsageError, match=r"--num-shards 2 without --shard-id, .* pass --shard-id 0 to 1 in 2 calls"):
        choose_shard(2)
    assert choose_shard(1) == (0, 1)
    assert choose_shard(None, 0) == (0, 1)
    with pytest.raises(UsageError, match="shard 1 of 1"):
        choose_shard(None, 1)
    with pytest.raises(UsageError, match="shard 0 of 0"):
        choose_shard(0)
