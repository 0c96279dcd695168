"""The command for the first minutes on a chip, with its smallest sizes on whatever there is."""

import json

import pytest

from benchmarks.accelerator import __main__ as accelerator
from benchmarks.accelerator import steps


def lines_of(*arguments):
    return {line["section"]: line for line in accelerator.main(["--tiny", *arguments])}


def test_a_failure_costs_no_other_section(tmp_path, monkeypatch, capsys):
    def broken(work, dtype, batch, emit, profiled=False):
        raise MemoryError("no room")

    monkeypatch.setattr(steps, "train", broken)
    kept = tmp_path / "chip.jsonl"
    lines = lines_of("--only=train_bf16_8,ceilings", f"--out={kept}")
    assert lines["train_bf16_8"]["error"] == "MemoryError: no room"
    assert lines["ceilings"]["bfloat16_tflops"] > 0
    assert lines["ceilings"]["copy_tb_per_s"] > 0
    assert lines["end"]["versions"]["jax"]
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == list(lines.values())
    assert [json.loads(line) for line in kept.read_text().splitlines()] == printed


def test_nothing_is_begun_that_would_end_too_late(monkeypatch):
    monkeypatch.setattr(accelerator, "Work", lambda tiny: None)
    lines = {
        line["section"]: line
        for line in accelerator.main(["--minutes=0.1", "--only=ceilings,train_f32_8"])
    }
    assert "--only=ceilings" in lines["ceilings"]["skipped"]
    assert "skipped" in lines["train_f32_8"]


def test_an_unknown_section_is_refused():
    with pytest.raises(SystemExit, match="unknown trian; known: ceilings, parity"):
        accelerator.main(["--tiny", "--only=trian"])


@pytest.mark.slow
def test_every_section_runs(monkeypatch):
    sections = "ceilings,train_bf16_2,predict_bf16_1,parts,repeatable,parity"
    found = accelerator.main(["--tiny", f"--only={sections}"])
    assert not [line for line in found if "error" in line]
    lines = {line["section"]: line for line in found}
    assert lines["repeatable"]["same_to_the_bit"]
    assert lines["parity"]["status"] == 0
    assert sum(line["section"] == "parts" for line in found) == len(steps.Parts.names)
