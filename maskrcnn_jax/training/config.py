"""The settings of training: `config.train`."""

from dataclasses import dataclass

from maskrcnn_jax.config_fields import check_fields, setting
from maskrcnn_jax.layer_groups import parse_layers


@dataclass(slots=True)
class TrainConfig:
    """The training run; docs/training.md and docs/monitoring.md say more."""

    batch_size: int = setting(16, "images per step over all devices and hosts", within="[1, inf)")
    accumulate: int = setting(
        1, "parts of a batch that are computed one after the other", within="[1, inf)"
    )
    remat: str = setting(
        "none",
        "what is recomputed in the backward pass (gradient checkpointing), to save memory",
        choices=("none", "backbone", "all"),
    )
    deterministic: bool = setting(
        False,
        "a run made again is the same to the bit on a GPU, too, which costs time there; CPUs and "
        "TPUs are so anyway",
    )
    steps: int = setting(90_000, "length of the run", within="[1, inf)")
    layers: str = setting(
        "3+",
        "what is trained: heads (all but the backbone) | 5+ (and C5) | 4+ | 3+ | 2+ | all (and the "
        "stem); or in stages, each until a step, the last to the end: 'heads:2000, 4+:6000, all'",
    )
    log_every: int = setting(20, "steps between two lines of the log", within="[1, inf)")
    checkpoint_every: int = setting(1_000, "steps between two checkpoints", within="[1, inf)")
    eval_every: int = setting(
        10_000, "steps between two evaluations; 0: only at the end", within="[0, inf)"
    )
    keep_checkpoints: int = setting(
        3, "newest checkpoints that are kept, besides the best", within="[1, inf)"
    )
    emergency_seconds: float = setting(
        25.0, "time for the last checkpoint after SIGTERM or Ctrl-C", within="[1, inf)"
    )
    best_metric: str = setting(
        "segm/AP",
        "key of metrics.json that decides which checkpoint is the best: the largest, of loss_... "
        "(config.eval.loss = True) the smallest",
    )
    early_stop: int = setting(
        0, "evaluations without a new best after which the run ends; 0: never", within="[0, inf)"
    )
    watchdog_factor: float = setting(
        10.0,
        "a step is reported, with what every thread is doing, when it takes this many times the "
        "median of those before it, and ...",
        within="[1, inf)",
    )
    watchdog_seconds: float = setting(
        60.0, "... at least this many seconds; 0: no step is reported", within="[0, inf)"
    )
    watchdog_abort_seconds: float = setting(
        0.0, "duration of a step after which the process ends; 0: never", within="[0, inf)"
    )
    histograms: bool = setting(
        False, "TensorBoard shows how the weights are distributed at each evaluation"
    )
    profile_steps: tuple[int, ...] = setting(
        (),
        "the first and the last step of which a trace is written, in WORKDIR/tensorboard; (): none",
        within="[1, inf)",
    )
    optimizer: str = setting("sgd", "the optimiser", choices=("sgd", "adamw", "lamb"))
    learning_rate: float = setting(
        0.02, "learning rate at the given batch size, unless a rule is given", within="(0, inf)"
    )
    learning_rate_rule: str = setting(
        "none",
        "linear, sqrt: learning_rate times batch_size / reference_batch_size, or its square root",
        choices=("none", "linear", "sqrt"),
    )
    reference_batch_size: int = setting(
        16, "batch size that learning_rate is meant for", within="[1, inf)"
    )
    layer_decay: float = setting(
        1.0,
        "factor of the learning rate from each layer of the backbone to the one before it, nearer "
        "to the image; 1: the same for all, 0.7 to 0.95 for ConvNeXt and ViT",
        within="(0, 1]",
    )
    momentum: float = setting(0.9, "momentum of SGD; beta1 of AdamW and LAMB", within="[0, 1)")
    weight_decay: float = setting(1e-4, "factor of the weight decay", within="[0, inf)")
    decay_norm_and_bias: bool = setting(True, "weight decay of norms and biases, too")
    warmup_steps: int = setting(500, "steps of linear warm-up", within="[0, inf)")
    warmup_factor: float = setting(
        0.001, "fraction of the learning rate at the first step", within="[0, 1]"
    )
    schedule: str = setting(
        "steps",
        "after the warm-up: a factor at each of decay_steps, or half a cosine down to 0",
        choices=("steps", "cosine"),
    )
    decay_steps: tuple[int, ...] = setting(
        (60_000, 80_000), "increasing steps, for schedule = steps", within="[0, inf)"
    )
    decay_factor: float = setting(0.1, "factor at each of them", within="(0, inf)")
    clip_norm: float = setting(
        0.0, "maximum norm of the whole gradient; 0: no clipping", within="[0, inf)"
    )
    ema_decay: float = setting(
        0.0,
        "decay of the moving average of the weights that is evaluated, such as 0.999; 0: none",
        within="[0, 1)",
    )

    def validate(self, key: str = "config.train") -> None:
        """Checks every value, and those that have to go together.

        Raises:
            ValueError: naming the key, its value and what is expected.
        """
        check_fields(self, key)
        try:
            parse_layers(self.layers)
        except ValueError as error:
            raise ValueError(f"{key}.layers is {self.layers!r}: {error}") from error
        if self.early_stop and not self.eval_every:
            raise ValueError(
                f"{key}.early_stop is {self.early_stop} evaluations, but {key}.eval_every is 0, so "
                "that there is one at the end alone; set it"
            )
        if self.profile_steps and not _is_range(self.profile_steps):
            raise ValueError(
                f"{key}.profile_steps is {self.profile_steps}; expected the first and the last "
                "step of a trace, such as (21, 25), or ()"
            )
        if list(self.decay_steps) != sorted(self.decay_steps):
            raise ValueError(f"{key}.decay_steps is {self.decay_steps}; the steps must increase")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"{key}.accumulate is {self.accumulate}, but {key}.batch_size = {self.batch_size} "
                "images cannot be divided into that many equal parts; make it a divisor"
            )


def _is_range(steps: tuple[int, ...]) -> bool:
    return len(steps) == 2 and steps[0] <= steps[1]
