"""What every training run of a vision model does: schedule, checkpoints, resuming, progress."""

import csv
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from models.common.callbacks import tensorboard_callbacks
from models.common.config import ConfigError, require_choice, require_fraction, require_positive
from models.common.run_folder import RunFolder

logger = logging.getLogger(__name__)

SCHEDULES = ("cosine", "step")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
# A schedule ends at this share of its peak.
FINAL_SHARE = 0.01
STEP_DECAY = 0.1


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves over a run.

    Attributes:
        kind: `cosine` falls smoothly to a hundredth; `step` divides by ten at each of `drops`.
        peak: reached after the warm-up.
        warmup: share of all steps that rise linearly from zero.
        drops: of `step`, where it falls, as shares of all steps.
    """

    kind: str = "cosine"
    peak: float = 1e-3
    warmup: float = 0.05
    drops: tuple[float, ...] = (0.7, 0.9)

    def __post_init__(self) -> None:
        require_choice(self, "kind", SCHEDULES)
        require_positive(self, "peak")
        require_fraction(self, "warmup")
        if any(not 0 < drop < 1 for drop in self.drops) or list(self.drops) != sorted(self.drops):
            raise ConfigError(f"ScheduleConfig.drops must rise within (0, 1), got {self.drops}")


@keras.saving.register_keras_serializable("common")
class WarmUpSteps(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a constant rate that falls by ten at given steps.

    Args:
        peak: rate after the warm-up.
        warmup_steps: length of the warm-up.
        drops: steps at which the rate falls.
    """

    def __init__(self, peak: float, warmup_steps: int, drops: Sequence[int]) -> None:
        super().__init__()
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.drops = tuple(drops)

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the rate at `step`, a float scalar."""
        step = keras.ops.cast(step, "float32")
        rate = self.peak * keras.ops.minimum(1.0, (step + 1.0) / max(1, self.warmup_steps))
        for drop in self.drops:
            rate = rate * keras.ops.where(step >= drop, STEP_DECAY, 1.0)
        return rate

    def get_config(self) -> dict[str, object]:
        """Returns what re-creates the schedule."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "drops": list(self.drops)}


def make_schedule(
    config: ScheduleConfig, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Builds the learning rate's schedule over `steps` training steps.

    Source: Loshchilov and Hutter 2017, "SGDR", equation 5 (one cosine without restarts); linear
    warm-up as in Goyal et al. 2017, section 2.2.
    """
    warmup = round(config.warmup * steps)
    if config.kind == "step":
        return WarmUpSteps(config.peak, warmup, [round(drop * steps) for drop in config.drops])
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else config.peak,
        max(1, steps - warmup),
        alpha=FINAL_SHARE,
        warmup_target=config.peak if warmup else None,
        warmup_steps=warmup,
    )


def set_precision(policy: str) -> None:
    """Sets the precision that layers compute in; `auto` takes half precision on a GPU only.

    Call it before the network is built.

    Raises:
        ConfigError: for an unknown policy.
    """
    if policy not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}; got {policy!r}")
    if policy == "auto":
        policy = "mixed_float16" if _has_gpu() else "float32"
    keras.mixed_precision.set_dtype_policy(policy)


def _has_gpu() -> bool:
    devices = keras.distribution.list_devices("gpu")
    return bool(devices)


def start_from(model: keras.Model, weights: Path | None, frozen: Sequence[str] = ()) -> None:
    """Transfer learning: loads what fits of another run's weights, and freezes layers.

    Args:
        model: the network; its layers are matched by position and shape, as Keras does, and
            those that do not fit (another number of classes, say) keep their initial values.
        weights: a `.weights.h5` file, or None to load nothing.
        frozen: layers whose names begin with one of these do not learn.

    Raises:
        FileNotFoundError: if there is no such file.
        ConfigError: if a prefix in `frozen` fits no layer.
    """
    if weights is not None:
        if not weights.is_file():
            raise FileNotFoundError(f"no weights file {weights}")
        model.load_weights(weights, skip_mismatch=True)
    for prefix in frozen:
        chosen = [layer for layer in model.layers if layer.name.startswith(prefix)]
        if not chosen:
            names = ", ".join(layer.name for layer in model.layers if layer.weights)
            raise ConfigError(f"no layer begins with {prefix!r}; layers with weights: {names}")
        for layer in chosen:
            layer.trainable = False


@dataclass(frozen=True)
class FitPlan:
    """How long a run lasts and by what it is judged.

    Attributes:
        epochs: most epochs.
        monitor: the dev score in an epoch's logs that chooses the best weights.
        patience: epochs without a better score before training stops.
        mode: `max` if a higher score is better, else `min`.
        averaged: whether the optimiser keeps moving averages of the weights (`use_ema=True`),
            which then are what is scored and stored.
    """

    epochs: int
    monitor: str
    patience: int
    mode: str = "max"
    averaged: bool = False


def fit_run(
    model: keras.Model,
    batches: keras.utils.PyDataset,
    run: RunFolder,
    plan: FitPlan,
    scorers: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains into a run folder; started again after a kill, it goes on where it stopped.

    Writes the log, the best and the last weights, TensorBoard files and the state to resume from.
    With averaged weights the stored files hold the averages.

    Args:
        model: compiled.
        batches: the training data.
        run: where to.
        plan: length and criterion.
        scorers: callbacks that put dev scores into an epoch's logs, `plan.monitor` among them.
    """
    resuming = run.backup.is_dir() and any(run.backup.iterdir())
    best = best_in_log(run.log, plan) if resuming else None
    # Left to the first step, its variables would make TensorFlow trace that step twice.
    model.optimizer.build(model.trainable_variables)
    model.fit(
        batches,
        epochs=plan.epochs,
        verbose=0,
        callbacks=[
            # Before the averages are swapped in: training resumes from the weights themselves.
            keras.callbacks.BackupAndRestore(run.backup, delete_checkpoint=True),
            *([keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if plan.averaged else []),
            *scorers,
            RequireScore(plan.monitor),
            keras.callbacks.ModelCheckpoint(
                run.best_weights,
                monitor=plan.monitor,
                mode=plan.mode,
                save_best_only=True,
                save_weights_only=True,
                initial_value_threshold=best,
            ),
            keras.callbacks.ModelCheckpoint(run.last_weights, save_weights_only=True),
            keras.callbacks.CSVLogger(run.log, append=resuming),
            *tensorboard_callbacks(run.tensorboard),
            Progress(plan.epochs, plan.monitor),
            keras.callbacks.EarlyStopping(
                monitor=plan.monitor, mode=plan.mode, patience=plan.patience
            ),
        ],
    )


def best_in_log(log: Path, plan: FitPlan) -> float | None:
    """Returns an interrupted run's best score: a worse epoch must not replace its weights."""
    if not log.is_file():
        return None
    with log.open(encoding="utf-8", newline="") as file:
        scores = [float(row[plan.monitor]) for row in csv.DictReader(file) if row[plan.monitor]]
    scores = [score for score in scores if math.isfinite(score)]
    if not scores:
        return None
    return max(scores) if plan.mode == "max" else min(scores)


class RequireScore(keras.callbacks.Callback):
    """Makes sure that every epoch's log holds the monitored score.

    Epochs that were not scored repeat the score before, so that no checkpoint is taken for them.
    """

    def __init__(self, monitor: str) -> None:
        super().__init__()
        self.monitor = monitor
        self._last = float("nan")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Fills the gap."""
        if logs is None:
            return
        self._last = logs.setdefault(self.monitor, self._last)


class Progress(keras.callbacks.Callback):
    """Prints one line an epoch, with the time left, and a running line in a terminal.

    Args:
        epochs: most epochs of the run.
        monitor: the score to show.
        every_s: seconds between two updates within an epoch.
    """

    def __init__(self, epochs: int, monitor: str, every_s: float = 15.0) -> None:
        super().__init__()
        self.epochs = epochs
        self.monitor = monitor
        self.every_s = every_s

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self._started = self._shown = time.perf_counter()
        self._first: int | None = None
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the epoch; a resumed run does not begin with the first."""
        self._first = epoch if self._first is None else self._first
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Shows how far the epoch is, now and then."""
        now = time.perf_counter()
        if now - self._shown < self.every_s:
            return
        self._shown = now
        steps = (self.params or {}).get("steps") or 1
        share = (batch + 1) / steps
        logger.info(
            "epoch %d/%d, step %d/%d: %s; %s left",
            self._epoch + 1,
            self.epochs,
            batch + 1,
            steps,
            _scores(logs),
            self._left(self._epoch + share),
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Prints the epoch's scores."""
        self._shown = time.perf_counter()
        logger.info(
            "epoch %d/%d: %s; %s left", epoch + 1, self.epochs, _scores(logs), self._left(epoch + 1)
        )

    def _left(self, done: float) -> str:
        passed = time.perf_counter() - self._started
        begun = self._first or 0
        seconds = round(passed / max(done - begun, 1e-9) * (self.epochs - done))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _scores(logs: dict[str, float] | None) -> str:
    return "  ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())
