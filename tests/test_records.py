"""Tests of files of records."""

import dataclasses

from medcyclegan.records import read_records, save_records


@dataclasses.dataclass(frozen=True)
class Named:
    name: str


def test_records_come_back_and_damaged_lines_are_skipped(tmp_path):
    file = tmp_path / "names.jsonl"
    save_records(file, [])
    assert not file.exists()
    assert read_records(file, lambda fields: Named(**fields)) == []
    records = [Named("Zoë"), Named("undecodable \udcff")]
    save_records(file, records)
    file.write_bytes(file.read_bytes() + b'{"other": 1}\n[1]\n{"na\xff')
    assert read_records(file, lambda fields: Named(**fields)) == records
    assert "Zoë".encode() in file.read_bytes()
