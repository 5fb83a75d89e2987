import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from medcyclegan.errors import WriteError
from medcyclegan.storage import (
    atomic_folder,
    atomic_write,
    check_output,
    check_space,
    exclusive_lock,
    is_locked,
    is_temporary,
    replace_link,
)


def left_behind(folder):
    return [p for p in folder.iterdir() if is_temporary(p)]


def test_the_targets_of_links_in_a_folder_are_not_touched(tmp_path, monkeypatch):
    (tmp_path / "source").write_bytes(b"data")
    opened = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *rest, **more: opened.append(self.name) or real(self, *rest, **more))
    with atomic_folder(tmp_path / "tree") as folder:
        (folder / "link").symlink_to(tmp_path / "source")
        (folder / "file").write_bytes(b"own")
    assert "link" not in opened
    assert "file" in opened
    assert (tmp_path / "tree" / "link").read_bytes() == b"data"


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "deep" / "file.bin"
    with atomic_write(target) as file:
        file.write(b"half")
        assert not target.exists()
        file.write(b" and whole")
    assert target.read_bytes() == b"half and whole"
    assert not left_behind(target.parent)


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with pytest.raises(TypeError, match="bytes-like"), atomic_write(target) as file:
        file.writelines([b"new", "text"])
    assert target.read_bytes() == b"old"
    assert not left_behind(tmp_path)


def test_a_held_lock_is_waited_for_or_reported(tmp_path):
    path = tmp_path / "locks" / "one"
    assert not is_locked(path)
    with exclusive_lock(path, mode=0o600):
        assert is_locked(path)
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(BlockingIOError), exclusive_lock(path, wait=False):
            pass
    assert not is_locked(path)
    with exclusive_lock(path, wait=False):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="file cannot be written"), exclusive_lock(tmp_path / "file" / "lock"):
        pass


def test_a_full_disk_is_a_line(tmp_path):
    with pytest.raises(WriteError, match="cannot be written: No space left"), atomic_write(tmp_path / "x") as file:
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []
    assert file.closed


def test_a_folder_appears_whole_and_replaces_only_with_overwrite(tmp_path):
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("1")
        assert not target.exists()
    assert (target / "sub" / "a").read_text() == "1"
    with pytest.raises(WriteError, match="--overwrite"), atomic_folder(target):
        pass
    with pytest.raises(KeyError), atomic_folder(target, overwrite=True) as folder:
        raise KeyError
    assert (target / "sub" / "a").read_text() == "1"
    with atomic_folder(target, overwrite=True) as folder:
        (folder / "b").write_text("2")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert not left_behind(tmp_path)


def test_a_folder_that_came_meanwhile_is_not_replaced(tmp_path):
    target = tmp_path / "run"

    def write_both() -> None:
        with atomic_folder(target) as folder:
            (folder / "a").write_text("late")
            with atomic_folder(target) as other:
                (other / "a").write_text("first")

    with pytest.raises(WriteError, match="cannot be written"):
        write_both()
    assert (target / "a").read_text() == "first"
    assert not left_behind(tmp_path)


def test_a_kill_leaves_no_broken_file(tmp_path):
    code = (
        "import sys, time, pathlib; from medcyclegan.storage import atomic_write\n"
        f"with atomic_write(pathlib.Path({str(tmp_path)!r}) / 'out') as f:\n"
        "    f.write(b'x' * 1000); f.flush(); print('ready', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "out").exists()
    assert len(left_behind(tmp_path)) == 1


def test_outputs_are_checked_before_the_work(tmp_path):
    (tmp_path / "there").write_text("x")
    with pytest.raises(WriteError, match=r"there exists: .* --overwrite"):
        check_output(tmp_path / "there", overwrite=False)
    check_output(tmp_path / "there", overwrite=True)
    check_output(tmp_path / "new" / "deeper" / "file", overwrite=False)
    with pytest.raises(WriteError, match="is not a folder"):
        check_output(tmp_path / "there" / "below", overwrite=False)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WriteError, match="exists"):
        check_output(tmp_path / "dangling", overwrite=False)


def test_an_unwritable_folder_is_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(WriteError, match="not writable"):
        check_output(tmp_path / "file", overwrite=False)


def test_concurrent_writers_never_mix(tmp_path):
    target = tmp_path / "file"

    def write(letter):
        for _ in range(20):
            with atomic_write(target) as file:
                file.write(letter * 5000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(target.read_bytes())) == 1


def test_a_link_is_replaced_and_never_missing(tmp_path):
    for target in ("one", "two"):
        (tmp_path / target).mkdir()
        replace_link(tmp_path / "latest", target)
        assert (tmp_path / "latest").readlink() == Path(target)
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match="cannot be made a link"):
        replace_link(tmp_path / "folder", "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "latest", "one", "two"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_a_killed_process_left_of_an_output_is_cleared_before_the_work(tmp_path, overwrite):
    name = "a**[b]?.html"  # which means something else to a search for files
    for other in (f".tmp-0123abcd-{name}", ".tmp-0123abcd-axxb?.html", name):
        (tmp_path / other).write_text("half")
    with contextlib.nullcontext() if overwrite else pytest.raises(WriteError, match="exists"):
        check_output(tmp_path / name, overwrite=overwrite)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp-0123abcd-axxb?.html", name]


def test_the_missing_space_is_stated_even_if_it_is_small(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(WriteError, match=r"o\.nii needs 1\.0 MB, 1\.0 MB more than .* has left: free that much"):
        check_space(tmp_path / "o.nii", 10, "o.nii")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=(1 << 20) - 5))
    with pytest.raises(WriteError, match=r"o\.nii needs 1\.0 MB, 15 bytes more than .* has left"):
        check_space(tmp_path / "o.nii", 10, "o.nii")
