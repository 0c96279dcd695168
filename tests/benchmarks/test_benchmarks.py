"""Every benchmark runs at its smallest size and says what it promises."""

import argparse
import json

import numpy as np
import pytest

from benchmarks import (
    conversion,
    evaluation,
    exported,
    input_pipeline,
    measure,
    ops,
    predict,
    run_all,
    train_step,
)
from benchmarks.peer import peers
from maskrcnn_jax.pretrained import convert

CASES = {
    predict: 2,
    train_step: 1,
    ops: 5,
    input_pipeline: 4,
    evaluation: 2,
    exported: 2,
}
# Every slot of the detector has to be full: only then is the work equal to the peer's.
COUNTS = {
    predict: {"proposals": [16], "detections": [4]},
    train_step: {"rois_sampled": 8.0, "rois_positive": 2.0},
}


@pytest.mark.parametrize("benchmark", CASES, ids=lambda module: module.__name__)
def test_prints_a_json_line_for_each_case(benchmark, capsys):
    _check_lines(benchmark, [], CASES[benchmark], capsys)


def test_one_case_of_conversion(capsys):
    _check_lines(conversion, ["--only", "torchvision R50", "--rounds", "1"], 1, capsys)


@pytest.mark.slow  # three processes and one more for each case
def test_all_cases_of_conversion(capsys):
    _check_lines(conversion, [], len(conversion._CASES), capsys)


@pytest.mark.parametrize("case", conversion._CASES)
def test_conversion_writes_what_is_read(case, tmp_path):
    kind, depth, num_classes = conversion._CASES[case]
    conversion.write_file(tmp_path / "weights", kind, depth, num_classes, tiny=True)
    weights = convert.load(tmp_path / "weights")
    assert weights.kind == kind
    assert weights.model["backbone.depth"] == depth


def _check_lines(benchmark, options, cases, capsys):
    benchmark.main(["--tiny", "--rounds", "2", *options])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lines = [line for line in lines if line["side"] == "maskrcnn_jax"]
    name = benchmark.__name__.split(".")[-1]
    assert len({line["case"] for line in lines}) == len(lines) == cases
    for line in lines:
        assert line["benchmark"] == name
        low, high = line["quartiles_s"]
        assert 0 < low <= line["median_s"] <= high
        assert line["peak_rss_mib"] > 0
        assert line["machine"]["cores"] >= 1
        assert line["versions"]["jax"]
        assert benchmark not in COUNTS or line["counts"] == COUNTS[benchmark]


def test_rounds_take_turns_after_a_call_that_is_not_counted():
    calls = []

    def side(name):
        calls.append(name)
        return float(len(calls)), {name: len(calls)}

    measured = measure.take_turns({name: lambda name=name: side(name) for name in "ab"}, rounds=2)
    assert calls == list("ababab")
    assert measured == {"a": ([3.0, 5.0], {"a": 5}), "b": ([4.0, 6.0], {"b": 6})}


@pytest.mark.parametrize(("peer_counts", "same_work"), [({"n": 1}, True), ({"n": 2}, False)])
def test_compares_with_the_faster_variant_of_the_peer(peer_counts, same_work, capsys):
    sides = {
        measure.OURS: lambda: (0.5, {"n": 1}),
        "peer slow": lambda: (4.0, {"n": 1}),
        "peer fast": lambda: (3.0, peer_counts),
    }
    lines = measure.report("b", "c", {"image": [2, 3]}, sides, 3, facts={}, peer_versions={})
    assert lines[0]["speedup"] == 6.0
    assert lines[0]["speedup_over"] == "peer fast"
    assert lines[0]["same_work"] == same_work

    page = run_all.section("predict", lines, "command")
    assert "| image 2x3 | 500 ms (500-500) | slow: 4 s (4-4)<br>fast: 3 s (3-3) |" in page
    assert ("| 6.00 |" in page) == same_work


def test_one_section_of_the_page_is_replaced():
    text = run_all.RESULTS.read_text()
    sections = run_all.sections_of(text)
    assert {"predict", "ops"} <= sections.keys()
    assert run_all.page(sections) == text  # as it was written
    page = run_all.page({**sections, "ops": "## ops\n\nnew\n"})
    assert "## ops\n\nnew\n" in page
    assert sections["predict"] in page
    assert sections["ops"] not in page


def test_options_that_do_not_go_together_are_refused(capsys):
    for options in (["--dtype=bfloat16"], ["--tiny"], ["--rounds=0"]):
        with pytest.raises(SystemExit):
            predict.main([*options, "--peer=torchvision"])
        assert options[0].split("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("python", "error", "message"),
    [("/no/such/python", ValueError, "--peer-python=/no/such"), ("false", RuntimeError, "ended")],
)
def test_a_peer_that_does_not_run_is_named(python, error, message):
    arguments = argparse.Namespace(peer="torchvision", peer_python=python)
    boxes = {"boxes": np.zeros((1, 4)), "scores": np.zeros(1)}
    with pytest.raises(error, match=message), peers(arguments, "nms", boxes, threshold=0.5):
        pass
