"""State dicts of torch.save in both its formats; what is none is refused without running it."""

import argparse
import io
import os
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")

from maskrcnn_jax.pretrained.files.restricted_pickle import RefusedError  # noqa: E402
from maskrcnn_jax.pretrained.files.torch_files import read  # noqa: E402
from maskrcnn_jax.pretrained.files.torch_tensors import Storage, _tensor  # noqa: E402
from maskrcnn_jax.pretrained.files.weight_files import read_weights  # noqa: E402


@pytest.fixture(params=["zip", "legacy"])
def save(request, tmp_path):
    """Saves in one of torch's formats and returns the path."""

    def save(content):
        path = tmp_path / "a.pth"
        torch.save(content, path, _use_new_zipfile_serialization=request.param == "zip")
        return path

    return save


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def assert_state(found, model):
    expected = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_bare_state_dict(save, model):
    assert_state(read(save(model.state_dict())), model)


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "model_ema"])
def test_training_checkpoint(save, model, key):
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    content = {
        "optimizer": optimizer.state_dict(),
        key: model.state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, data="coco"),
    }
    assert_state(read(save(content)), model)


def test_model_comes_before_its_average(save, model, caplog):
    average = {name: tensor * 0 for name, tensor in model.state_dict().items()}
    with caplog.at_level("INFO", logger="absl"):  # whatever verbosity a command has set
        assert_state(read(save({"model_ema": average, "model": model.state_dict()})), model)
    assert "took the weights under 'model'" in caplog.text


def test_prefix_of_parallel_training(save, model):
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    assert_state(read(save(state)), model)
    assert_state(read(save({"model_ema": {"n_averaged": torch.tensor(4), **state}})), model)


@pytest.mark.parametrize("prefix", ["model.", "module.model."])
def test_prefix_of_lightning(save, model, prefix):
    state = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    assert_state(read(save({"state_dict": state, "epoch": 3})), model)


@pytest.mark.parametrize("name", ["module", "model"])
def test_module_of_that_name_keeps_its_prefix(save, name):
    state = {f"{name}.weight": torch.zeros(2), "head.weight": torch.ones(2)}
    assert set(read(save(state))) == set(state)


def test_types_and_layouts(save):
    numbers = torch.tensor([[1.0, -2.5, 3], [0.125, 5, 1e30]])
    state = {
        "bfloat16": numbers.bfloat16(),
        "transposed": numbers.bfloat16().T,
        "half": numbers[:, :2].half(),
        "double": numbers.double(),
        "slice": numbers[1:],
        "parameter": torch.nn.Parameter(numbers),
        "whole": torch.tensor(7),
    }
    found = read(save(state))
    for name, tensor in state.items():
        expected = tensor.detach().double().numpy()
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == (np.int64 if name == "whole" else np.float32)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch announces the end of quantized tensors
@pytest.mark.parametrize(
    "tensor",
    [
        lambda: torch.eye(2).to_sparse(),
        lambda: torch.empty(3, device="meta"),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    ],
)
def test_tensors_that_are_not_plain(save, tensor):
    with pytest.raises(ValueError, match=r"a\.pth: x is no plain tensor .*expected dense numbers"):
        read(save({"x": tensor()}))


def test_tensor_far_larger_than_its_contents(save):
    with pytest.raises(ValueError, match="claims arrays of 2000000000000 bytes"):
        read(save({"x": torch.zeros(1, dtype=torch.bfloat16).expand(10**12)}))


def test_whole_model(save, model):
    with pytest.raises(ValueError, match=r"names torch\.nn\.\S+: only state dicts are read"):
        read(save(model))


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_nothing_is_executed(save, tmp_path):
    marker = tmp_path / "executed"
    path = save({"model": {"w": torch.zeros(1), "x": Calls(open, str(marker), "w")}})
    marker.unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"names _?io\.open:.*nothing in the file was executed"):
        read(path)
    with pytest.raises(ValueError, match=r"names (posix|nt)\.system"):
        read(save({"a": {"b": Calls(os.system, f"touch {marker}")}}))
    with pytest.raises(ValueError, match=r"names \S*\beval:"):
        read(save([Calls(eval, "1")]))
    assert not marker.exists()


def test_no_state_dict(save):
    with pytest.raises(ValueError, match=r"holds a Tensor; expected a state dict"):
        read(save(torch.zeros(2)))


def test_torchscript(tmp_path, model):
    path = tmp_path / "a.pt"
    torch.jit.script(model).save(str(path))
    with pytest.raises(ValueError, match=r"TorchScript program.*torch.jit.load"):
        read(path)


def test_truncated(save, model):
    path = save(model.state_dict())
    data = path.read_bytes()
    for length in range(30, len(data), 101):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"a.pth .*truncated or damaged; download"):
            read(path)


def test_other_zip(tmp_path):
    path = tmp_path / "a.pth"
    np.savez(path.open("wb"), a=np.zeros(1))
    with pytest.raises(ValueError, match=r"zip archive of a.npy; expected one of torch.save"):
        read(path)


def repacked(path, compression, **extra):
    """The archive written again with another compression and more records."""
    stream = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(stream, "w", compression) as new:
        for record in old.namelist():
            new.writestr(record, old.read(record))
        for name, content in extra.items():
            new.writestr(f"a/{name}", content)
    path.write_bytes(stream.getvalue())


def test_compressed_archive(tmp_path):
    path = tmp_path / "a.pth"
    state = OrderedDict(w=torch.arange(600.0))
    torch.save(state, path)
    repacked(path, zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(read(path)["w"], state["w"])
    repacked(path, zipfile.ZIP_DEFLATED, bomb=bytes(10**6))
    with pytest.raises(ValueError, match="claims arrays of"):
        read(path)


def test_bfloat16(tmp_path):
    values = torch.tensor([0.5, -2, 1e30])
    torch.save({"w": values.bfloat16()}, tmp_path / "a")
    found = read_weights(tmp_path / "a")["w"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values.numpy(), rtol=1e-2)


def test_torch_is_not_needed(save, model, monkeypatch):
    path = save({"model": model.state_dict()})
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    found = read_weights(path)
    monkeypatch.undo()
    assert_state(found, model)


def test_strides_and_empty_tensors(save):
    base = torch.arange(24.0).reshape(2, 3, 4)
    state = {
        "steps": base[:, ::2, 1::2],
        "permuted": base.permute(2, 0, 1),
        "expanded": base[0, 0].expand(3, 4),
        "empty": base[:0],
        "bool": base > 5,
        "byte": base.byte(),
        "number": torch.tensor(2.5, dtype=torch.float64),
    }
    found = read(save(state))
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
        assert found[name].shape == tuple(tensor.shape)
        assert not found[name].flags.writeable or found[name].base is None


@pytest.mark.parametrize(
    "view",
    [
        lambda s: (s, 0, (4,), (1,)),
        lambda s: (s, 1, (3,), (1,)),
        lambda s: (s, 0, (2, 2), (2, 1)),
        lambda s: (s, 0, (2,), (3,)),
        lambda s: (s, -1, (1,), (1,)),
        lambda s: (s, 0, (2,), (-1,)),
        lambda s: (s, 0, (2,), ()),
        lambda s: (s, 0, ("x",), (1,)),
        lambda s: ("s", 0, (1,), (1,)),
    ],
)
def test_tensors_that_reach_beyond_their_storage_are_refused(view):
    with pytest.raises(RefusedError, match="has a tensor"):
        _tensor(*view(Storage("0", "<f4", 3)))


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_damaged_bytes_raise_nothing_else(tmp_path, model, kind):
    path = tmp_path / "a.pth"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    sound, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(sound)
        for place in rng.integers(0, len(sound), rng.integers(1, 5)):
            changed[place] = rng.integers(0, 256)
        path.write_bytes(changed)
        error = None
        try:
            read(path)
        except (ValueError, OSError) as raised:
            error = raised
        assert error is None or "a.pth" in str(error)
