"""Names of Keras weights of every generation, and HDF5 files that point elsewhere."""

import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install h5py")

from maskrcnn_jax.pretrained.files.keras_files import read  # noqa: E402


def write(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def numbered(*names):
    """Arrays that tell by their values which is which."""
    return {name: np.full((2, 3), i, np.float32) for i, name in enumerate(names)}


def assert_read(path, *names):
    found = read(path)
    assert {name: array[0, 0] for name, array in found.items()} == {
        name: i for i, name in enumerate(names)
    }
    assert all(array.shape == (2, 3) and array.dtype == np.float32 for array in found.values())


def test_saved_weights_with_a_nested_model(tmp_path):
    arrays = numbered(
        "conv1/conv1/kernel:0",
        "conv1/conv1/bias:0",
        "bn_conv1/bn_conv1/gamma:0",
        "bn_conv1/bn_conv1/moving_variance:0",
        "rpn_model/rpn_conv_shared/kernel:0",
        "rpn_model/rpn_class_raw/bias:0",
    )
    path = write(tmp_path / "a.h5", arrays)
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = np.array([b"conv1", b"bn_conv1", b"pool1", b"rpn_model"])
        file.create_group("pool1").attrs["weight_names"] = np.array([], "S1")
    assert_read(
        path,
        "conv1/kernel",
        "conv1/bias",
        "bn_conv1/gamma",
        "bn_conv1/moving_variance",
        "rpn_conv_shared/kernel",
        "rpn_class_raw/bias",
    )


def test_saved_model_without_its_optimiser(tmp_path):
    arrays = numbered(
        "model_weights/conv1/conv1/kernel",  # as Keras 3 writes it, without ":0"
        "model_weights/rpn_model/rpn_conv_shared/kernel:0",
        "optimizer_weights/sgd/conv1/kernel",
    )
    path = write(tmp_path / "a.h5", {**arrays, "optimizer_weights/sgd/iteration": 5})
    assert_read(path, "conv1/kernel", "rpn_conv_shared/kernel")


@pytest.mark.parametrize("suffix", ["", "_1"])
def test_names_of_keras_1(tmp_path, suffix):
    old = ["W", "b", "gamma", "beta", "running_mean", "running_std"]
    path = write(
        tmp_path / "a.h5",
        numbered(*(f"bn2a_branch2a/bn2a_branch2a_{name}{suffix}:0" for name in old)),
    )
    new = ["kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"]
    assert_read(path, *(f"bn2a_branch2a/{name}" for name in new))


def test_scopes_of_a_second_model(tmp_path):
    path = write(tmp_path / "a.h5", numbered("conv1/conv1_1/kernel:0", "conv2/conv2_1/bias_1:0"))
    assert_read(path, "conv1/kernel", "conv2/bias")


def test_two_weights_of_one_name(tmp_path):
    path = write(tmp_path / "a.h5", numbered("one/conv1/kernel:0", "two/conv1/kernel:0"))
    with pytest.raises(ValueError, match=r"/one/\S+ and /two/\S+ are both weights conv1/kernel"):
        read(path)


def test_numbered_weights_of_keras_3(tmp_path):
    path = write(tmp_path / "a.weights.h5", numbered("layers/conv2d/vars/0"))
    with pytest.raises(ValueError, match=r"Keras 3's format.*model.save\('NAME.h5'\)"):
        read(path)


def test_other_files_are_not_read(tmp_path):
    secret = write(tmp_path / "secret.h5", numbered("conv9/conv9/kernel:0"))
    path = write(tmp_path / "a.h5", numbered("conv1/conv1/kernel:0"))
    with h5py.File(path, "a") as file:
        file["conv9"] = h5py.ExternalLink(str(secret), "conv9")
        file["conv8"] = h5py.SoftLink("/conv1/conv1")
        file["conv7/conv7/kernel:0"] = np.array([file["conv1"].ref], h5py.ref_dtype)
        file["conv1/circle"] = file["/"]
    assert_read(path, "conv1/kernel")


def test_contents_in_other_files(tmp_path):
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(24))
    for kind in ("external", "virtual"):
        path = tmp_path / f"{kind}.h5"
        with h5py.File(path, "w") as file:
            if kind == "external":
                storage = [(str(raw), 0, 24)]
                file.create_dataset("conv1/conv1/kernel:0", (2, 3), "f4", external=storage)
            else:
                layout = h5py.VirtualLayout((2, 3), "f4")
                layout[:] = h5py.VirtualSource(str(raw), "x", (2, 3))
                file.create_virtual_dataset("conv1/conv1/kernel:0", layout)
        with pytest.raises(ValueError, match="contents of conv1/kernel are in other files"):
            read(path)


def test_sizes_that_the_file_does_not_have(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:  # never written, so nothing is stored
        file.create_dataset("conv1/conv1/kernel:0", (2**40,), "f4", chunks=(1024,))
    with pytest.raises(ValueError, match="claims arrays of 4398046511104 bytes"):
        read(path)


def test_compressed_weights(tmp_path):
    path = tmp_path / "a.h5"
    kernel = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("conv1/conv1/kernel:0", data=kernel, compression="gzip")
    np.testing.assert_array_equal(read(path)["conv1/kernel"], kernel)


def test_truncated_anywhere(tmp_path):
    path = write(tmp_path / "a.h5", numbered("conv1/conv1/kernel:0"))
    data = path.read_bytes()
    for length in range(8, len(data), 97):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"a.h5 cannot be read as HDF5 .* truncated or damag"):
            read(path)


def test_a_chunk_far_larger_than_the_file(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "conv1/conv1/kernel:0", (4,), "f4", maxshape=(None,), chunks=(2**28,),
            compression="gzip", fillvalue=0,
        )  # fmt: skip
    with pytest.raises(ValueError, match="claims arrays of 1073741824 bytes"):
        read(path)
