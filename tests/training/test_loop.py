"""The loop with the toy detector: when it logs, saves, evaluates and stops, and how it resumes."""

import gzip
import itertools
import json
import os
import signal

import jax
import numpy as np
import pytest
from orbax.checkpoint import StandardCheckpointer
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from maskrcnn_jax.checkpoints import checksums
from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.images.png import encode_png
from maskrcnn_jax.parallel.interrupts import Interrupted
from maskrcnn_jax.training import loop, stages
from maskrcnn_jax.training.run import progress
from maskrcnn_jax.training.run.log import read
from maskrcnn_jax.training.run.progress import NonFiniteLoss
from tests.training.conftest import Toy


class _Data:
    """Batches that follow from the step, and metrics given beforehand.

    Attributes:
        served: steps whose batches were taken.
        evaluated: the number of evaluations.
        before: functions called before the batch of a step is handed out.
    """

    def __init__(self):
        self.served, self.evaluated, self.before = [], 0, {}
        self.scores = itertools.repeat(0.5)
        self.on_evaluation = lambda: None

    def batches(self, start):
        for step in itertools.count(start):
            self.served.append(step)
            bucket = (4, 6) if step % 2 else (6, 4)
            image = np.random.default_rng(step).uniform(0, 255, (2, *bucket, 3))
            batch = {"image": image.astype(np.float32), "image_valid": np.ones(2, bool)}
            self.before.get(step, lambda batch: None)(batch)
            ids = [f"image-{step}-{slot}" for slot in range(2)]
            yield batch, {"image_ids": ids, "epoch": step // 3, "num_cut": 0, "skipped": []}

    def evaluate(self, variables, before_batch):
        assert set(variables) == {"params", "batch_stats"}
        self.evaluated += 1
        self.on_evaluation()
        return {"bbox/AP": 0.1, "segm/AP": next(self.scores)}

    def training_data(self, **changes):
        values = dict(
            class_names=("a", "b"),
            category_ids=(1, 2),
            num_images=6,
            batches=self.batches,
            evaluate=self.evaluate,
            report=lambda metrics: f"masks {metrics.get('segm/AP', -1):.1f}",
        )
        return loop.TrainingData(**(values | changes))


@pytest.fixture
def data():
    return _Data()


@pytest.fixture
def config(tiny_config, toy, monkeypatch):
    """A short run's configuration; what is trained are the toy's layers."""
    _, _, trainable = toy
    masks = {
        "heads": trainable,
        "5+": jax.tree.map(lambda is_trained: not is_trained, trainable),
        "all": jax.tree.map(lambda _: True, trainable),
    }
    monkeypatch.setattr(stages, "trainable_mask", lambda params, model, layers: masks[layers])
    tiny_config.train.layers = "heads"
    set_values(tiny_config.train, dict(steps=6, log_every=2, checkpoint_every=2, eval_every=3))
    return tiny_config


def train(config, workdir, data):
    """Trains the toy."""
    return loop.train(config, workdir, data, Toy())


def _final(workdir):
    """The arrays of the newest checkpoint, by their paths."""
    folder = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    return int(folder.name), _arrays(folder)


def _arrays(folder):
    """The arrays of one checkpoint, by their paths."""
    checkpointer = StandardCheckpointer()
    leaves = {}
    for item in ("variables", "optimizer", "ema"):
        if not (folder / item).exists():  # without a moving average
            continue
        tree = checkpointer.restore(folder / item)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            leaves[item + jax.tree_util.keystr(path)] = np.asarray(leaf)
    return leaves


def _assert_same(a, b):
    assert a[0] == b[0]
    assert a[1].keys() == b[1].keys()
    for key, leaf in a[1].items():
        np.testing.assert_array_equal(leaf, b[1][key], err_msg=key)


def test_a_whole_run(config, data, tmp_path, capsys):
    metrics = train(config, tmp_path, data.training_data())
    assert metrics == {"bbox/AP": 0.1, "segm/AP": 0.5}
    assert data.evaluated == 2
    rows = [(row["kind"], row["step"]) for row in read(tmp_path)]
    assert rows == [("train", 2), ("eval", 3), ("train", 4), ("train", 6), ("eval", 6)]
    # Every second step, before each evaluation, and the last; three are kept.
    steps = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert steps == [3, 4, 6]
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["3"]
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 6
    said = capsys.readouterr().out
    for part in (
        "no checkpoint in",
        "total",
        "bucket 6x4: compiled in",
        "bucket 4x6: compiled in",
        "step 4/6",
        "evaluation at step 3: bbox/AP 0.1000  segm/AP 0.5000  (best so far)",
        "evaluation at step 6: bbox/AP 0.1000  segm/AP 0.5000\n",
        "step 1/6",
        "masks 0.5\n",
        f"last checkpoint: {tmp_path / 'checkpoints'}",
        f"python eval.py --workdir={tmp_path}",
    ):
        assert part in said
    assert said.count("compiled in") == 2


def test_tensorboard_has_pictures_weights_and_a_trace_where_asked_for(
    config, data, tmp_path, capsys
):
    set_values(config.train, dict(histograms=True, profile_steps=(2, 3)))
    pictures = {"eval_000000_a": encode_png(np.zeros((2, 3, 3), np.uint8))}
    train(config, tmp_path, data.training_data(pictures=lambda: pictures))
    folder = tmp_path / "tensorboard"
    shown = [
        (kind, event.step, value.tag)
        for kind in ("eval", "train")
        for file in folder.glob(f"{kind}/*")
        for event in map(Event.FromString, RawEventFileLoader(str(file)).Load())
        for value in event.summary.value
    ]
    for step in (3, 6):
        assert ("eval", step, "eval_000000_a") in shown
        for tag in ("trained/kernel", "frozen/bias"):
            assert ("train", step, tag) in shown
    assert f"steps 2 to 3 are traced in {folder / 'plugins' / 'profile'}" in capsys.readouterr().out
    assert list(folder.glob("plugins/profile/*/*.xplane.pb"))
    (trace,) = folder.glob("plugins/profile/*/perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = {event.get("name") for event in events}
    assert {"waiting for data", "compilation"} <= names  # of the second bucket, at step 2


def test_resuming_gives_the_same_bits_as_a_run_in_one_go(config, tmp_path, capsys):
    train(config, tmp_path / "one", _Data().training_data())
    config.train.steps = 4
    train(config, tmp_path / "two", _Data().training_data())
    config.train.steps = 6
    second = _Data()
    capsys.readouterr()
    train(config, tmp_path / "two", second.training_data())
    assert second.served == [4, 5]
    assert second.evaluated == 1  # not again what the first part had evaluated
    assert "changed since then: config.train.steps: 4 -> 6" in capsys.readouterr().out
    _assert_same(_final(tmp_path / "one"), _final(tmp_path / "two"))


def test_a_finished_run_only_evaluates_again(config, data, tmp_path):
    train(config, tmp_path, data.training_data())
    again = _Data()
    assert train(config, tmp_path, again.training_data())["segm/AP"] == 0.5
    assert again.served == []
    assert [row["step"] for row in read(tmp_path) if row["kind"] == "eval"] == [3, 6]
    assert again.evaluated == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_the_run_can_go_on(config, data, tmp_path, number):
    train(config, tmp_path / "whole", _Data().training_data())
    data.before[4] = lambda batch: os.kill(os.getpid(), number)
    with pytest.raises(Interrupted, match=f"stopped by {number.name} after step 5; saved") as error:
        train(config, tmp_path / "cut", data.training_data())
    assert error.value.signal_number == number
    assert _final(tmp_path / "cut")[0] == 5
    train(config, tmp_path / "cut", _Data().training_data())
    _assert_same(_final(tmp_path / "whole"), _final(tmp_path / "cut"))


def test_a_signal_during_evaluation_stops_at_once_and_evaluates_when_resumed(
    config, data, tmp_path
):
    data.on_evaluation = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted, match="after step 3"):
        train(config, tmp_path, data.training_data())
    assert data.served == [0, 1, 2]
    assert _final(tmp_path)[0] == 3
    again = _Data()
    train(config, tmp_path, again.training_data())
    assert again.served == [3, 4, 5]
    assert again.evaluated == 2
    assert [r["step"] for r in read(tmp_path) if r["kind"] == "eval"] == [3, 6]


def test_a_state_far_beyond_the_usual_loss_does_not_replace_a_sound_one(
    config, data, tmp_path, capsys, monkeypatch
):
    """Neither at its turn, nor at the end; the weights of a sound one are named in the advice."""
    monkeypatch.setattr(progress, "_FEWEST", 3)
    config.train.checkpoint_every, config.train.keep_checkpoints = 1, 1
    for step in (4, 5):
        data.before[step] = lambda batch: batch["image"].__imul__(1e4)
    train(config, tmp_path, data.training_data())
    assert _final(tmp_path)[0] == 4
    said = capsys.readouterr().err
    assert "the loss at step 5, " in said
    assert "the checkpoint of step 4 stays. To resume from it" in said
    # One that was saved all the same, since nothing else stood, is passed over in the advice.
    saved = progress.is_sound({"loss_total": 5.0, progress.USUAL: 0.4})
    assert (saved, progress.is_sound({"loss_total": 5.0, progress.USUAL: 0.6})) == (False, True)
    assert progress.is_sound({"loss_total": 5.0})


def test_a_loss_that_is_not_finite_stops_the_run_unsaved(config, data, tmp_path):
    config.train.checkpoint_every = 1
    data.before[3] = lambda batch: batch["image"].fill(np.nan)
    with pytest.raises(NonFiniteLoss, match=r"step 4 .* loss_total nan.*image-3-0, image-3-1") as e:
        train(config, tmp_path, data.training_data())
    assert "The newest checkpoint with sound losses is of step 3. To resume from it" in str(e.value)
    assert "--config.train.learning_rate=" in str(e.value)
    assert _final(tmp_path)[0] == 3
    assert all(np.isfinite(leaf).all() for leaf in _final(tmp_path)[1].values())


def test_the_best_follows_the_metric(config, data, tmp_path):
    config.train.eval_every = 1
    data.scores = iter([0.1, 0.4, 0.3, 0.2, 0.6, 0.5])
    train(config, tmp_path, data.training_data())
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["5"]


def test_another_configuration_is_refused_by_key(config, data, tmp_path):
    train(config, tmp_path, data.training_data())
    before = (tmp_path / "config.json").read_text()
    config.seed, config.train.batch_size, config.train.steps = 3, 4, 60
    with pytest.raises(ValueError, match=r"config.seed: 0 -> 3; config.train.batch_size: 2 -> 4"):
        train(config, tmp_path, data.training_data())
    assert (tmp_path / "config.json").read_text() == before


def test_other_classes_are_refused(config, data, tmp_path):
    train(config, tmp_path, data.training_data())
    with pytest.raises(
        ValueError, match=r"class_names \('a', 'b'\), but the data have \('a', 'c'\)"
    ):
        train(config, tmp_path, data.training_data(class_names=("a", "c")))


def test_a_checkpoint_beyond_the_last_step_is_refused(config, data, tmp_path):
    train(config, tmp_path, data.training_data())
    config.train.steps = 5
    with pytest.raises(ValueError, match=r"of step 6, beyond config.train.steps = 5"):
        train(config, tmp_path, data.training_data())


STAGED = "heads:2, 5+:4, all"  # the toy's second layer, its first, both


def _train_staged(config, workdir, steps):
    """Trains in stages with all checkpoints kept; returns the arrays of each, by step."""
    set_values(
        config.train,
        dict(layers=STAGED, steps=steps, keep_checkpoints=9, checkpoint_every=1, eval_every=0),
    )
    train(config, workdir, _Data().training_data())
    return {int(path.name): _arrays(path) for path in (workdir / "checkpoints").iterdir()}


def test_each_stage_trains_its_layers_alone(config, toy, tmp_path, capsys):
    _, variables, _ = toy
    states = _train_staged(config, tmp_path, 6)
    said = capsys.readouterr().out
    assert "step 2: what is trained changes to 5+" in said
    assert "step 4: what is trained changes to all" in said
    assert said.count("compiled in") == 6  # both buckets in each stage

    def moved(layer, begin, end):
        key = f"variables['params']['{layer}']['kernel']"
        before = states[begin][key] if begin else variables["params"][layer]["kernel"]
        return bool((states[end][key] != np.asarray(before)).any())

    moves = [
        (moved("frozen", begin, end), moved("trained", begin, end))
        for begin, end in ((0, 2), (2, 4), (4, 6))
    ]
    assert moves == [(False, True), (True, False), (True, True)]


def test_resuming_around_the_end_of_a_stage_gives_the_same_bits(config, tmp_path):
    whole = _train_staged(config, tmp_path / "whole", 6)
    for step in (1, 2, 3, 4):
        part = _train_staged(config, tmp_path / str(step), step)
        assert part[step].keys() == whole[step].keys()  # at the end still the old optimiser state
        resumed = _train_staged(config, tmp_path / str(step), 6)
        for key, array in whole[6].items():
            np.testing.assert_array_equal(resumed[6][key], array, err_msg=f"{step} {key}")
    kept = [sum("trace" in key for key in whole[step]) for step in (2, 3, 4, 5)]
    assert kept == [2, 2, 2, 4]  # momenta, of a kernel and a bias each layer


def test_other_stages_are_refused_when_resuming(config, tmp_path):
    _train_staged(config, tmp_path, 1)
    config.train.layers = "heads:3, all"
    with pytest.raises(ValueError, match=r"train.layers: 'heads:2, 5\+:4, all' -> 'heads:3, all'"):
        train(config, tmp_path, _Data().training_data())


@pytest.mark.parametrize(
    "key", ["steps", "log_every", "checkpoint_every", "eval_every", "emergency_seconds"]
)
def test_impossible_cadences_are_named(config, data, tmp_path, key):
    setattr(config.train, key, -1)
    with pytest.raises(ValueError, match=f"config.train.{key} is -1"):
        train(config, tmp_path, data.training_data())
    assert list(tmp_path.iterdir()) == []


def test_a_faulty_restore_leaves_the_checkpoint_usable(config, data, tmp_path):
    train(config, tmp_path, data.training_data())
    config.train.momentum = 0.0  # another optimiser state
    with pytest.raises(ValueError, match="has other arrays"):
        train(config, tmp_path, data.training_data())
    checkpoints = Checkpoints(
        tmp_path,
        3,
        {"config": config, "class_names": (), "category_ids": (), "num_images": 0},
    )
    assert checkpoints.latest_step() == 6
    checkpoints.close()


def _scored(scores):
    data = _Data()
    data.scores = iter(scores)
    return data


def test_a_run_without_a_new_best_stops_early(config, tmp_path, capsys):
    set_values(config.train, dict(eval_every=1, early_stop=2))
    data = _scored([0.1, 0.4, 0.3, 0.2])
    assert train(config, tmp_path, data.training_data())["segm/AP"] == 0.2
    assert data.served[-1] == 3
    assert _final(tmp_path)[0] == 4
    said = capsys.readouterr().out
    assert "stopped early: segm/AP was no better than 0.4000 at step 2 in 2 evaluations" in said
    assert f"best checkpoint: {tmp_path / 'best'}" in said

    again = _scored([0.2])  # evaluated once more, as any run that has ended
    train(config, tmp_path, again.training_data())
    assert (again.served, again.evaluated) == ([], 1)
    assert "stopped early: segm/AP was no better" in capsys.readouterr().out
    assert [row["step"] for row in read(tmp_path) if row["kind"] == "eval"] == [1, 2, 3, 4]

    config.train.early_stop = 0
    further = _scored([0.6, 0.5])
    train(config, tmp_path, further.training_data())
    assert further.served == [4, 5]
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["5"]


def test_a_resumed_run_stops_early_where_one_in_one_go_does(config, tmp_path):
    set_values(config.train, dict(eval_every=1, early_stop=2))
    train(config, tmp_path / "one", _scored([0.3, 0.1, 0.2]).training_data())
    data = _scored([0.3, 0.1])
    data.before[1] = lambda batch: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted, match="after step 2"):
        train(config, tmp_path / "two", data.training_data())
    train(config, tmp_path / "two", _scored([0.1, 0.2]).training_data())
    assert _final(tmp_path / "two")[0] == 3
    _assert_same(_final(tmp_path / "one"), _final(tmp_path / "two"))


def test_the_best_loss_is_the_lowest(config, tmp_path):
    set_values(config.train, dict(eval_every=1, best_metric="loss_total", steps=4))
    config.eval.loss = True
    losses = iter([3.0, 2.0, 2.5, 2.1])
    data = _Data().training_data(evaluate=lambda *_: {"loss_total": next(losses)})
    train(config, tmp_path, data)
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["2"]


def test_an_average_goes_on_to_the_bit_and_is_what_is_evaluated(config, tmp_path, capsys):
    set_values(config.train, dict(ema_decay=0.5, accumulate=2))
    evaluated = {}

    def train_to(name, steps):
        config.train.steps = steps
        data = _Data()

        def evaluate(variables, before_batch):
            evaluated[name, data.served[-1] + 1] = jax.device_get(variables)
            return data.evaluate(variables, before_batch)

        train(config, tmp_path / name, data.training_data(evaluate=evaluate))
        return _arrays(tmp_path / name / "checkpoints" / str(steps))

    whole = train_to("one", 6)
    train_to("two", 4)
    resumed = train_to("two", 6)
    assert any(key.startswith("ema") for key in whole)
    _assert_same((6, whole), (6, resumed))
    kernels = [tree["params"]["trained"]["kernel"] for tree in evaluated.values()]
    np.testing.assert_array_equal(kernels[1], kernels[-1])  # at step 6 of both
    np.testing.assert_array_equal(kernels[1], whole["ema['params']['trained']['kernel']"])
    assert (kernels[1] != whole["variables['params']['trained']['kernel']"]).any()

    capsys.readouterr()
    config.train.ema_decay = 0.0
    assert not any(key.startswith("ema") for key in train_to("two", 8))
    assert "the moving average is dropped" in capsys.readouterr().out
    config.train.ema_decay = 0.9
    assert any(key.startswith("ema") for key in train_to("two", 10))
    assert "the moving average starts from the weights" in capsys.readouterr().out


def test_what_saving_needs_is_compiled_with_the_first_step(config, data, tmp_path):
    sizes = {}
    for step in (1, 5):
        data.before[step] = lambda _, step=step: sizes.update({step: checksums._sums._cache_size()})
    checksums._sums.clear_cache()
    train(config, tmp_path, data.training_data())
    assert sizes[1] > 0
    assert sizes[5] == sizes[1]
    assert checksums._sums._cache_size() == sizes[1]


def test_a_second_run_in_the_same_folder_is_refused(config, data, tmp_path):
    def start_another(_):
        with pytest.raises(
            ValueError, match=rf"another run \(process {os.getpid()} on .*is writing"
        ):
            train(config, tmp_path, _Data().training_data())

    data.before[3] = start_another
    train(config, tmp_path, data.training_data())
    assert data.served == list(range(6))
    train(config, tmp_path, data.training_data())  # the lock ends with the run


def test_a_file_that_was_there_before_the_run_is_kept(config, data, tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"mine": 1}')
    config.train.eval_every = 0
    train(config, tmp_path, data.training_data())
    assert json.loads((tmp_path / "config-1.json").read_text()) == {"mine": 1}
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 6
    assert f"config.json was there before this run: it is now {tmp_path}" in capsys.readouterr().err
    config.train.steps = 7  # a run that resumes replaces its own
    train(config, tmp_path, data.training_data())
    assert not (tmp_path / "config-2.json").exists()
