"""The plans that docs/scaling.md shows are those that are kept."""

import json
from pathlib import Path

from benchmarks import plans

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"


def test_the_page_has_the_table_of_the_plans():
    assert plans.table(json.loads(plans.KEPT.read_text())) in PAGE.read_text()


def test_a_plan_takes_the_place_of_an_older_one_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "KEPT", tmp_path / "plans.json")
    first, other = (dict(target="v5e", name=name, flops=1) for name in ("training", "prediction"))
    plans.keep([first, other])
    plans.keep([first | {"flops": 2}])
    assert json.loads(plans.KEPT.read_text()) == [other, first | {"flops": 2}]
