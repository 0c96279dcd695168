"""What eight devices compute, beside what one does; a program, as their number is fixed at start.

    JAX_NUM_CPU_DEVICES=8 python -m tests.training.eight_devices CACHE REQUESTS

CACHE is a folder of compiled programs. REQUESTS is a JSON object, function of this module -> list
of its arguments' lists; prints a JSON object, function -> list of its results.
test_eight_devices.py asks and judges.
"""

import json
import re
import sys
import tempfile
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.compilation import use_compilation_cache
from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.inference.predict_step import make_predict_step
from maskrcnn_jax.models.backbones.vit import ViT
from maskrcnn_jax.models.build import initial_variables, make_model
from maskrcnn_jax.models.layers import Conv
from maskrcnn_jax.models.trainable import trainable_mask
from maskrcnn_jax.parallel import mesh as mesh_module
from maskrcnn_jax.parallel import partition
from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.mesh import (
    AXES,
    abstract,
    batch_sharding,
    image_sharding,
    make_mesh,
    make_state,
    shard_batch,
    state_sharding,
)
from maskrcnn_jax.training.optimizer import make_optimizer, make_schedule
from maskrcnn_jax.training.train_step import make_train_step
from tests.models.conftest import tiny_model_config

COLLECTIVES = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
WIDTH, SLOTS, GRID = 96, 4, 14
ONE = (1, 1, 1)

# The tiny model's arrays would all be too small to be split.
mesh_module._MIN_SPLIT = 2**10


def gradients(height, meshes, sync_batch_norm=True, changes=()):
    """After a first step on each mesh: the largest difference from one device of any leaf's
    gradient, of any leaf's batch statistics and of any metric, relative to its largest number.

    Of three batches the one with the smallest difference counts, leaf by leaf. Rounding may take a
    feature of a RoI across the kink of a ReLU, which changes the leaves there by up to 1 %; which
    ones is chance, where a wrong program is wrong for every batch."""
    one = _one_step(height, ONE, sync_batch_norm, changes)[1]
    results = []
    for sizes in meshes:
        placed, many = _one_step(height, sizes, sync_batch_norm, changes)
        errors = [_worst(a, b) for a, b in zip(one, many, strict=True)]
        results.append({"mesh": sizes, **placed, "errors": errors})
    return results


def _one_step(height, sizes, sync_batch_norm=True, changes=()):
    """Where state and image lie; and gradients, batch statistics and metrics after a step, each of
    three batches."""
    mesh, step, state = _training(height, sizes, sync_batch_norm, changes)
    before, found = jax.tree.map(lambda x: x.sharding, state), []
    for seed in range(3):
        batch = shard_batch(_batch(height, seed=seed) | _keypoints(changes), mesh)
        new, metrics = step(jax.tree.map(jnp.copy, state), batch)
        # With plain momentum and no weight decay, the optimiser's state is the gradient.
        found.append(jax.device_get((new.opt_state, new.batch_stats, metrics)))
    stays = jax.tree.map(lambda old, x: old.is_equivalent_to(x.sharding, x.ndim), before, new)
    split = [x for x in jax.tree.leaves(new.params) if not x.sharding.is_fully_replicated]
    placed = {
        "stays": all(jax.tree.leaves(stays)),
        "split": len(split),
        "share": [_share(x) for x in split],
        "image": list(batch["image"].addressable_shards[0].data.shape),
        "compilations": step._cache_size(),
    }
    return placed, list(zip(*found, strict=True))


def _share(x):
    return x.addressable_shards[0].data.size / x.size


def curves(steps, meshes):
    """The losses of so many steps on each mesh, and how far its parameters end from one device's,
    relative to how far these have moved: the norm over all leaves. The second result is one
    device's again, from parameters that differ from the first's by rounding."""
    before, one, one_losses = _run(steps, ONE)
    moved = _distance(one, before)
    results = [{"mesh": ONE, "losses": one_losses, "distance": 0.0}]
    for sizes, is_nudged in [(ONE, True), *((sizes, False) for sizes in meshes)]:
        _, many, losses = _run(steps, sizes, is_nudged)
        results.append({"mesh": sizes, "losses": losses, "distance": _distance(one, many) / moved})
    return results


def _run(steps, sizes, is_nudged=False):
    mesh, step, state = _training(64, sizes)
    if is_nudged:
        state = state.replace(params=jax.tree.map(lambda x: x * (1 + 2.0**-22), state.params))
    before, losses = jax.device_get(state.params), []
    for number in range(steps):
        batch = shard_batch(_batch(64, seed=number), mesh)
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss_total"]))
    return before, jax.device_get(state.params), losses


def resumed(height, sizes, changes):
    """Whether a run that is saved after two of four steps and resumed ends as one in one go does:
    the arrays of its state that differ in any bit, and how many arrays there are."""
    mesh, step, start = _training(height, sizes, True, changes)
    whole = _steps(height, changes, mesh, step, start, range(4))
    half = _steps(height, changes, mesh, step, _training(height, sizes, True, changes)[2], range(2))
    with tempfile.TemporaryDirectory() as folder:
        metadata = {
            "config": _config(True, changes),
            "class_names": ("a", "b", "c"),
            "category_ids": (1, 2, 3),
            "num_images": 8,
        }
        checkpoints = Checkpoints(folder, 1, metadata)
        checkpoints.save(half, 2, {})
        checkpoints.wait()
        state = checkpoints.restore(abstract(half, mesh))
        checkpoints.close()
    again = _steps(height, changes, mesh, step, state, range(2, 4))
    pairs = zip(jax.tree_util.tree_leaves_with_path(whole), jax.tree.leaves(again), strict=True)
    other = [
        jax.tree_util.keystr(path)
        for (path, a), b in pairs
        if np.asarray(a).tobytes() != np.asarray(b).tobytes()
    ]
    return {"other": other, "arrays": len(jax.tree.leaves(whole))}


def _steps(height, changes, mesh, step, state, seeds):
    """The state after a step for each seed of a batch."""
    for seed in seeds:
        state, _ = step(state, shard_batch(_batch(height, seed=seed) | _keypoints(changes), mesh))
    return state


def grouped_convs(sizes):
    """The largest difference of the gradients of grouped convolutions from one device's, relative
    to the largest number: of x and of the kernel, for each of some shapes."""
    rng = np.random.default_rng(0)
    found = []
    # Rows that devices share, and too few of them, so that images stay whole; both strides.
    for height, inputs, size, stride in ((64, 1, 7, 1), (8, 1, 7, 1), (64, 2, 3, 2), (4, 2, 3, 1)):
        layer = Conv(8, size, stride, use_bias=False, groups=8 // inputs)
        arrays = (
            rng.standard_normal((8, height, 8, 8), np.float32),
            rng.standard_normal((size, size, inputs, 8), np.float32),
        )

        def gradients(mesh, layer=layer, arrays=arrays):
            def loss(x, kernel):
                with partition.over(mesh):
                    return jnp.square(layer.apply({"params": {"kernel": kernel}}, x)).mean()

            x = jax.device_put(arrays[0], image_sharding(mesh))
            return jax.device_get(jax.jit(jax.grad(loss, (0, 1)))(x, arrays[1]))

        one, many = gradients(make_mesh(_mesh(ONE))), gradients(make_mesh(_mesh(sizes)))
        found.append([_difference(*pair) for pair in zip(one, many, strict=True)])
    return found


def attention(sizes):
    """The largest difference of any leaf's gradient of a ViT from one device's, relative to its
    largest number: of a block with windows that are filled up, and of one without."""
    vit = ViT(2, 8, 4, 3, (1,), position_grid=2, relative_grid=4)
    rng = np.random.default_rng(0)
    image = rng.standard_normal((8, 64, WIDTH, 3), np.float32)
    shapes = jax.eval_shape(vit.init, jax.random.key(0), image)
    variables = jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)

    def gradients(mesh):
        def loss(variables, image):
            with partition.over(mesh):
                return jnp.square(vit.apply(variables, image)["c4"]).mean()

        where = image_sharding(mesh)
        return jax.device_get(jax.jit(jax.grad(loss))(variables, jax.device_put(image, where)))

    one, many = gradients(make_mesh(_mesh(ONE))), gradients(make_mesh(_mesh(sizes)))
    return _worst([one], [many])


def collectives(height, sizes):
    """The collectives of a step: how many of each kind, the numbers they carry, those in loops."""
    mesh, step, state = _training(height, sizes)
    batch = shard_batch(_batch(height), mesh)
    text = step.lower(state, batch).compile().as_text()
    found = {
        kind: len(re.findall(rf"\b{kind}(?:-start)?\(", text)) for kind in COLLECTIVES.split("|")
    }
    looped, loops = _looped(text)
    return {
        "found": found,
        "loops": loops,
        "in_loops": re.findall(rf"\b(?:{COLLECTIVES})", looped),
        "carried": sum(map(_numbers, re.findall(rf"= (.*?) (?:{COLLECTIVES})(?:-start)?\(", text))),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    }


def _looped(text):
    """The computations of an HLO module that loops call, as one text, and the number of loops."""
    bodies = dict(re.findall(r"^(?:ENTRY )?(%[\w.-]+) \(.*?\{$(.*?)^\}", text, re.M | re.S))
    loops = re.findall(r"\bwhile\(.*?body=(%[\w.-]+)", text)
    reached, waiting = set(), list(loops)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [
                called for called in re.findall(r"%[\w.-]+", bodies[name]) if called in bodies
            ]
    return "\n".join(bodies[name] for name in reached), len(loops)


def _numbers(shapes):
    """The numbers in arrays such as `(f32[3,3,8,8]{3,2,1,0}, f32[8]{0})`."""
    return sum(
        int(np.prod([int(side) for side in sides.split(",") if side], dtype=np.int64))
        for sides in re.findall(r"\w+\[([\d,]*)\]", shapes)
    )


def prediction(height, num_images, sizes):
    """The largest difference of each field of the detections from one device's."""
    config = _config()
    model = make_model(config.model, 3)
    variables = jax.device_get(initial_variables(model, jax.random.key(0)))
    batch = _batch(height, num_images)
    found = []
    for mesh in (make_mesh(_mesh(ONE)), make_mesh(_mesh(sizes))):
        placed = jax.device_put(variables, state_sharding(variables, mesh))
        step = make_predict_step(model, mesh)
        found.append(jax.device_get(step(placed, batch["image"], batch["image_size"])))
    one, many = (detections._asdict() for detections in found)
    is_there = {name for name in one if one[name] is not None}  # keypoints are not
    errors = {name: float(np.abs(one[name] * 1.0 - many[name]).max()) for name in is_there}
    return {"errors": errors, "detections": int(one["valid"].sum())}


def flat_rois(batch, number, sizes):
    """Whether `flat_rois` and back is the identity, and whether anything is sent for that."""
    mesh = make_mesh(_mesh(sizes))
    x = np.arange(batch * number * 3.0).reshape(batch, number, 3)

    def there_and_back(x):
        with partition.over(mesh):
            flat = partition.flat_rois(partition.rois(x)) * 2
            return flat, partition.unflat_rois(flat, batch)

    is_split = number % mesh.shape["space"] == 0
    split = image_sharding(mesh) if is_split else batch_sharding(mesh)
    x = jax.device_put(x, split)
    compiled = jax.jit(there_and_back).lower(x).compile()
    flat, back = compiled(x)
    return {
        "same": bool((np.asarray(back) == 2 * np.asarray(x)).all()),
        "shard": list(flat.addressable_shards[0].data.shape),
        "sent": re.findall(COLLECTIVES, compiled.as_text()),
    }


def alone(number, sizes):
    """What devices compute `alone` of their images and RoIs: errors, and what each was given."""
    mesh = make_mesh(_mesh(sizes))
    rng = np.random.default_rng(0)
    features = rng.standard_normal((4, 5, 3)).astype(np.float32)  # [B, h, C]
    weights = rng.random((4, number, 5)).astype(np.float32)  # [B, N, h]
    given = []

    def pooled(features, weights):
        given.append([list(features.shape), list(weights.shape)])
        return jnp.einsum("bnh,bhc->bnc", weights, features)

    def added(weights):
        return {"sum": weights.sum(axis=1)}

    def both(features, weights):
        kinds = ("images", "rois")
        rois = partition.alone(pooled, kinds, "rois", number)(features, weights)
        return rois, partition.alone(added, kinds[1:], "images", number)(weights)["sum"]

    with partition.over(mesh):
        many = jax.jit(both)(*jax.device_put((features, weights), batch_sharding(mesh)))
    pairs = zip(many, both(features, weights), strict=True)
    return {"errors": [float(np.abs(a - b).max()) for a, b in pairs], "given": given[0]}


def process_order(sizes):
    """The images of a batch that each device has, by the device's number."""
    mesh = make_mesh(_mesh(sizes))
    batch = {"image": np.arange(8 * 8).reshape(8, 8), "image_valid": np.arange(8)}
    arrays = shard_batch(batch, mesh)
    return {
        key: [np.asarray(shard.data).tolist() for shard in _by_device(arrays[key])] for key in batch
    }


def _by_device(array):
    return sorted(array.addressable_shards, key=lambda shard: shard.device.id)


def _mesh(sizes):
    return MeshConfig(**dict(zip(AXES, sizes, strict=True)))


def _config(sync_batch_norm=True, changes=()):
    config = get_config()
    config.model = tiny_model_config()
    # 28 proposals and 4 objects are 32 RoIs, which devices can share.
    set_values(config.model.rpn, dict(post_nms_top_n_train=28, post_nms_top_n_eval=32))
    config.model.roi.samples_per_image = 32
    config.model.detections.max_per_image = 16
    config.model.sync_batch_norm = sync_batch_norm
    set_values(config.model, dict(changes))
    set_values(
        config.train,
        dict(layers="all", warmup_steps=0, weight_decay=0.0, clip_norm=0.0, learning_rate=0.01),
    )
    return config


def _training(height, sizes, sync_batch_norm=True, changes=()):
    """The mesh, the step and the first state: for the same arguments the same step."""
    mesh, step, state = _step_of(json.dumps([height, sizes, sync_batch_norm, changes]))
    return mesh, step, jax.tree.map(jnp.copy, state)


@cache
def _step_of(arguments):
    _, sizes, *others = json.loads(arguments)
    config, mesh = _config(*others), make_mesh(_mesh(sizes))
    model = make_model(config.model, 3)
    variables = jax.device_get(initial_variables(model, jax.random.key(0)))
    trainable = trainable_mask(variables["params"], config.model, config.train.layers)
    schedule = make_schedule(config.train)
    optimizer = make_optimizer(config.train, schedule, trainable)
    state = make_state(lambda tree: create(tree, optimizer), mesh, variables)
    return mesh, make_train_step(model, optimizer, schedule, trainable, 0, mesh), state


def _batch(height, num_images=8, seed=0):
    """Images of noise with two objects and a crowd region; one of them does not count."""
    rng = np.random.default_rng(seed)
    boxes = np.float32([[8, 6, 40, 38], [30, 20, 62, 50], [2, 40, 30, 52], [0, 0, 0, 0]])
    moved = boxes + rng.integers(0, 5, (num_images, 1, 2)).astype(np.float32)[..., [0, 1, 0, 1]]
    slots = (num_images, SLOTS)
    return {
        "image": rng.integers(0, 256, (num_images, height, WIDTH, 3), np.uint8),
        "image_size": np.tile(np.float32([height - 7, WIDTH]), (num_images, 1)),
        "gt_boxes": moved,
        "gt_classes": rng.integers(1, 4, slots).astype(np.int32),
        "gt_masks": rng.integers(0, 256, (*slots, GRID, GRID), np.uint8),
        "gt_crowd": np.tile(np.arange(SLOTS) == 2, (num_images, 1)),
        "gt_valid": np.tile(np.arange(SLOTS) < 3, (num_images, 1)),
        "image_valid": np.arange(num_images) != 1,
    }


def _keypoints(changes):
    """Keypoints in the two boxes of each image, where the model finds such."""
    names = dict(changes).get("keypoints.names", ())
    if not names:
        return {}
    points = np.random.default_rng(7).uniform(0, 1, (8, SLOTS, len(names), 3)) * (30, 28, 3)
    return {"gt_keypoints": (points + (10, 8, 0)).astype(np.float32)}


def _worst(one, many):
    """The leaf that differs most, relative to its largest number, by how much, and how many leaves
    there are; `one` and `many` have a tree for each batch."""
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(one[0])]
    by_batch = [
        [_difference(*leaves) for leaves in zip(*map(jax.tree.leaves, pair), strict=True)]
        for pair in zip(one, many, strict=True)
    ]
    errors = dict(zip(paths, map(min, zip(*by_batch, strict=True)), strict=True))
    # A softmax over positions takes no notice of their common bias: its gradient is rounding alone.
    errors = {path: error for path, error in errors.items() if "['heatmaps']['bias']" not in path}
    worst = max(errors, key=errors.get)
    return worst, errors[worst], len(errors)


def _difference(one, other):
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-12))


def _distance(one, other):
    squares = jax.tree.map(lambda a, b: jnp.square(a - b).sum(), one, other)
    return float(np.sqrt(sum(jax.tree.leaves(squares))))


def main(folder, requests):
    use_compilation_cache(folder)
    functions = (
        gradients,
        grouped_convs,
        attention,
        curves,
        collectives,
        resumed,
        prediction,
        flat_rois,
        alone,
        process_order,
    )
    functions = {function.__name__: function for function in functions}
    results = {
        name: [functions[name](*arguments) for arguments in calls]
        for name, calls in json.loads(requests).items()
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
