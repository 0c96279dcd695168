"""A program for test_two_processes.py: evaluates as one of two processes with a device each.

python two_processes.py ADDRESS INDEX OUT_DIR
"""

import json
import sys
from pathlib import Path

import jax

address, index, out_dir = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
cache = Path(__file__).resolve().parents[2] / ".cache" / "jax-tests"
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_num_cpu_devices", 1)
jax.distributed.initialize(address, 2, index)


from maskrcnn_jax.data import datasets  # noqa: E402
from maskrcnn_jax.evaluation.evaluate import evaluate  # noqa: E402
from maskrcnn_jax.evaluation.validation_loss import make_loss_step  # noqa: E402
from maskrcnn_jax.inference.predict_step import make_predict_step  # noqa: E402
from maskrcnn_jax.models.build import initial_variables, make_model  # noqa: E402
from maskrcnn_jax.parallel.config import MeshConfig  # noqa: E402
from maskrcnn_jax.parallel.mesh import make_mesh, replicated  # noqa: E402
from tests.end_to_end.tiny import get_config  # noqa: E402

config = get_config()
config.data.val.count = 5
config.data.engine = "tfdata"
mesh = make_mesh(MeshConfig(**{"data": 2}))
model = make_model(config.model, 3)
variables = jax.device_get(initial_variables(model, jax.random.key(0)))
variables = jax.device_put(variables, replicated(mesh))
metrics = evaluate(
    make_predict_step(model, mesh),
    variables,
    datasets.load(config.data, "val"),
    config,
    out_dir,
    loss_step=make_loss_step(model, mesh),
)
(out_dir / f"metrics-{index}.json").write_text(json.dumps(metrics))
