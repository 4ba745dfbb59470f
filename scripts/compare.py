"""Compare runs over seeds: learning curves with a band, a table, and the band in TensorBoard.

::

    python -m scripts.train CartPole-v1 --seeds 10 --jobs 2
    python -m scripts.compare runs/ppo-CartPole-v1 runs/reinforce-CartPole-v1

Each curve is the interquartile mean over the seeds of a folder with the 95 % bootstrap interval of that mean, as in
``docs/results.md``. Runs of other programs can be compared, too, if they wrote scalars for TensorBoard.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray

import scripts
from rlce import Tracker, plots
from rlce.checkpoint import write_atomically
from rlce.tracking import Band, Layout
from scripts.curves import Curve, common, draw, ending, interquartile_mean, interval, number, table, with_interval

TAGS = "eval/mean_reward", "rollout/ep_rew_mean", "val/accuracy", "val/loss", "train/loss"
EVENTS = "events.out.tfevents.*"
AGGREGATE = "over_seeds/"
POINTS = 100  # of a curve


@dataclass(frozen=True)
class Arguments:
    """Compare runs over seeds: learning curves with a band, a table, and the band in TensorBoard.

    Writes compare.png, compare.svg and compare.md, and for each group a run with the interquartile mean over seeds and
    the ends of its 95 % interval, which TensorBoard's Custom Scalars tab shows as a band.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """Folders of seeds, as scripts.train --seeds writes them, or single runs. Each is a curve."""
    tag: str | None = None
    """The scalar to compare; by default the first of eval/mean_reward, rollout/ep_rew_mean, val/accuracy, val/loss and
    train/loss that every run has."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs/compare")
    """Folder of what is written."""


class Run(NamedTuple):
    """One seed.

    Attributes:
        folder: of its event files.
        scalars: tag → steps, seconds since the run's first record, and finite values, each ``[points]``.
        settings: its hyperparameters without the seed; empty if it has none.
    """

    folder: Path
    scalars: dict[str, NDArray[np.float64]]
    settings: dict[str, str]


@dataclass(frozen=True)
class Group:
    """The seeds of one setting, for one scalar.

    Attributes:
        name: for the legend.
        seeds: of each, steps, seconds and values, ``[3, points]``.
    """

    name: str
    seeds: tuple[NDArray[np.float64], ...]

    def over(self, axis: int) -> Curve:
        """The seeds at common steps (0), or at seconds (1) up to the end of the slowest.

        Raises:
            ValueError: the steps of a seed begin after another has ended.
        """
        curves = [(each[axis], each[2]) for each in self.seeds]
        try:
            if axis == 0:
                return common(curves, min(max(len(x) for x, _ in curves), POINTS))
            # What a finished training has learnt it keeps; and no two seeds are evaluated at the same second.
            return common(curves, POINTS, hold=True)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}; train longer, or name them one by one") from error


def read(folder: Path) -> Run:
    """Every scalar of a run. Of images and histograms, only the latest is held.

    Raises:
        ValueError: its event files hold no scalar, or are of two runs.
    """
    from tensorboard.backend.event_processing import event_accumulator as tensorboard
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    kinds = dict.fromkeys(tensorboard.DEFAULT_SIZE_GUIDANCE, 1)
    events = tensorboard.EventAccumulator(str(folder), {**kinds, tensorboard.SCALARS: 0}).Reload()
    scalars = {}
    for tag in events.Tags()["scalars"]:
        points = np.array([(one.step, one.wall_time, one.value) for one in events.Scalars(tag)], dtype=np.float64).T
        points[1] -= events.FirstEventTimestamp()
        if (np.diff(points[0]) < 0).any():
            raise ValueError(f"{str(folder)!r}: the steps of {tag} go back, so it holds two runs; move one elsewhere")
        points = points[:, np.isfinite(points).all(axis=0)]
        if points.size:
            scalars[tag] = points
    if not scalars:
        raise ValueError(f"{str(folder)!r}: its event files hold no scalars yet; wait for the training's first round")
    try:
        content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    except KeyError:
        content = b""
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    return Run(folder, scalars, {name: str(value).strip() for name, value in found.items() if name != "Seed"})


def folders_of(given: Sequence[Path]) -> dict[str, list[Path]]:
    """The folders of the seeds, by the name of their group.

    A folder with event files is a run, and a group of its own, unless it is called seed-N: then it belongs to the group
    of the folder above. Other folders are the groups of the runs in them (but not of earlier-N, where reruns keep what
    was there).

    Raises:
        ValueError: nothing is given, or a folder without runs.
    """
    if not given:
        raise ValueError("name at least one run, or a folder of seeds: python -m scripts.compare runs/ppo-CartPole-v1")
    groups: dict[Path, list[Path]] = {}
    for path in (one.resolve() for one in given):
        if not path.is_dir():
            raise ValueError(
                f"{str(path)!r} is no folder; name the --log-dir of a training, or the folder of its seeds"
            )
        seeds = sorted((one for one in path.iterdir() if runs_in(one)), key=natural) if not runs_in(path) else [path]
        if not seeds:
            deeper = sorted({str(one.parent.parent) for one in path.glob(f"*/*/{EVENTS}")})
            remedy = f"name {' '.join(deeper)}" if deeper else "train with --log-dir, and not with --log none"
            raise ValueError(f"{str(path)!r} has no event files, nor have the folders in it; {remedy}")
        group = path.parent if seeds == [path] and re.fullmatch(r"seed-\d+", path.name) else path
        groups.setdefault(group, []).extend(seed for seed in seeds if seed not in groups.get(group, []))
    names = [group.name for group in groups]
    return {
        group.name if names.count(group.name) == 1 else "/".join(group.parts[-2:]): seeds
        for group, seeds in groups.items()
    }


def runs_in(folder: Path) -> bool:
    """True if a folder holds the event files of a run that counts."""
    return not folder.name.startswith("earlier-") and any(folder.glob(EVENTS))


def natural(path: Path) -> list[Any]:
    """A key that puts seed-10 after seed-9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def seeds_of_one_setting(name: str, runs: Sequence[Run]) -> None:
    """Check that the runs of a group differ by nothing but their seed.

    Raises:
        ValueError: they do not, or they are not of a training.
    """
    for run in runs:
        if all(tag.startswith(AGGREGATE) for tag in run.scalars):
            raise ValueError(f"{str(run.folder)!r} was written by scripts.compare; name the runs that it was made from")
        other = {**runs[0].settings, **run.settings}
        different = [key for key in other if runs[0].settings.get(key) != run.settings.get(key)]
        if different:
            raise ValueError(
                f"{name}: {runs[0].folder.name} and {run.folder.name} differ in {', '.join(different)}, so they are "
                "not seeds of one setting; name them one by one"
            )


def chosen_tag(runs: Sequence[Run], tag: str | None) -> str:
    """The scalar that is compared.

    Raises:
        ValueError: a run does not have it, or there is none that every run has.
    """
    shared = set.intersection(*(set(run.scalars) for run in runs))
    if tag is None and (found := [one for one in TAGS if one in shared]):
        return found[0]
    if tag in shared:
        return str(tag)
    lacking = next(run for run in runs if tag not in run.scalars)
    what = (
        f"--tag: {str(lacking.folder)!r} has no {tag!r}" if tag else f"no scalar of {', '.join(TAGS)} is in every run"
    )
    remedy = f"choose one with --tag: {', '.join(sorted(shared))}" if shared else "the runs have no scalar in common"
    raise ValueError(f"{what}; {remedy}")


# Writing.


def axis_name(tag: str) -> str:
    """What the steps of a scalar count.

    Example:
        >>> axis_name("eval/mean_reward"), axis_name("val/loss"), axis_name("mine")
        ('environment steps', 'samples seen', 'steps')
    """
    units = {"eval": "environment steps", "rollout": "environment steps", "val": "samples seen"}
    return units.get(tag.partition("/")[0], "steps")


def plot(groups: Sequence[Group], tag: str) -> tuple[bytes, bytes]:
    """The curves over steps and over seconds.

    Returns:
        A PNG file and an SVG file.
    """
    import matplotlib
    from matplotlib.figure import Figure

    # Names come from folders: a "$" is no formula. The salt makes equal plots equal files.
    with matplotlib.rc_context({"text.parse_math": False, "font.size": 9, "svg.hashsalt": "rlce"}):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        by_steps, by_seconds = figure.subplots(1, 2, sharey=True)
        for group in groups:
            draw(by_steps, *group.over(0), group.name)
            draw(by_seconds, *group.over(1), group.name)
        by_steps.set(xlabel=axis_name(tag), ylabel=tag)
        by_seconds.set(xlabel="seconds since the run began")
        for axes in (by_steps, by_seconds):
            axes.locator_params(axis="x", nbins=6)
            axes.spines[["top", "right"]].set_visible(False)
        by_steps.xaxis.set_major_formatter("{x:,.0f}")
        figure.legend(*by_steps.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
        files = io.BytesIO(), io.BytesIO()
        figure.savefig(files[0], format="png", dpi=110, metadata={"Software": None})
        figure.savefig(files[1], format="svg", metadata={"Date": None})
    return files[0].getvalue(), files[1].getvalue()


def lines(groups: Sequence[Group], tag: str) -> list[str]:
    """The table, and what its columns are."""
    largest = max(np.abs(seed[2]).max() for group in groups for seed in group.seeds)
    digits = min(max(3 - math.floor(math.log10(largest)), 0), 6) if largest > 0 else 1
    rows = []
    for group in groups:
        scores = [ending(seed[2]) for seed in group.seeds]
        areas = np.mean(group.over(0)[1], axis=1).tolist()
        rows.append([
            group.name, len(scores), f"{np.median([seed[0, -1] for seed in group.seeds]):,.0f}",
            with_interval(scores, digits), f"{number(min(scores), digits)} to {number(max(scores), digits)}",
            with_interval(areas, digits), f"{np.median([seed[1, -1] for seed in group.seeds]):,.1f}",
        ])  # fmt: skip
    return [
        *table(f"run | seeds | {axis_name(tag)} | end | lowest to highest | whole curve | seconds", rows),
        "",
        f"{tag}. End: the mean of a seed's last three values; whole curve: the mean over the common steps. Of both, "
        "the interquartile mean over seeds and its 95 % bootstrap interval. Steps and seconds are medians.",
    ]


def band_of(tag: str) -> Band:
    """The scalars of an aggregate."""
    return Band(*(f"{AGGREGATE}{tag}{end}" for end in ("", "/low", "/high")))


def layout_of(groups: Sequence[Group], tag: str) -> Layout:
    """The band; and a chart without it if there is a group of one seed, which the band's chart cannot show."""
    band = band_of(tag)
    lone = any(len(group.seeds) < 2 for group in groups)
    lines = {f"{tag}: interquartile mean": (band.value,)} if lone else {}
    return {"Over seeds": {f"{tag}: interquartile mean, 95 % interval": band, **lines}}


def write_aggregate(group: Group, tag: str, folder: Path, layout: Layout) -> None:
    """Write the interquartile mean and the ends of its interval as one run, in place of an earlier one."""
    earlier = list(folder.glob(EVENTS))
    positions, values = group.over(0)
    curves = [interquartile_mean(values)] + ([] if len(values) < 2 else [*interval(values)])
    tracker = Tracker(folder)
    tracker.open()
    tracker.begin({"runs": group.name, "seeds": len(values), "scalar": tag}, None, layout)
    steps, first = np.unique(np.rint(positions).astype(np.int64), return_index=True)
    for step, column in zip(steps.tolist(), np.stack(curves)[:, first].T.tolist(), strict=True):
        tracker.scalars(dict(zip(band_of(tag), column, strict=False)), step)
    tracker.close()
    for file in earlier:
        file.unlink()


def free_folder(out: Path, name: str) -> Path:
    """The folder of a group's aggregate.

    Raises:
        ValueError: it holds another run.
    """
    folder = out / re.sub(r"[^\w.-]+", "-", name)
    if any(folder.glob(EVENTS)) and not all(tag.startswith(AGGREGATE) for tag in read(folder).scalars):
        raise ValueError(f"--out: {str(folder)!r} holds a run that scripts.compare did not write; name another folder")
    return folder


def main(arguments: Arguments) -> None:
    """Read, then write everything."""
    plots.check_installed()
    found = {name: [read(seed) for seed in seeds] for name, seeds in folders_of(arguments.runs).items()}
    for name, runs in found.items():
        seeds_of_one_setting(name, runs)
    tag = chosen_tag([run for runs in found.values() for run in runs], arguments.tag)
    groups = [Group(name, tuple(run.scalars[tag] for run in runs)) for name, runs in found.items()]
    folders = [free_folder(arguments.out, group.name) for group in groups]
    text, (png, svg) = lines(groups, tag), plot(groups, tag)
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: cannot create the folder {str(arguments.out)!r}: {error.strerror}") from error
    for group, folder in zip(groups, folders, strict=True):
        write_aggregate(group, tag, folder, layout_of(groups, tag))
    files = [arguments.out / f"compare.{suffix}" for suffix in ("png", "svg", "md")]
    for file, content in zip(files, (png, svg, "\n".join([*text, ""]).encode()), strict=True):
        write_atomically(file, content)
    print("\n".join(text))
    for remark in (one for group in groups for one in remarks(group)):
        print(remark)
    print(f"wrote {', '.join(map(str, files))}")
    print(f"the bands: tensorboard --logdir {arguments.out}, tab Custom Scalars")


def remarks(group: Group) -> Iterator[str]:
    """What a reader of the curves should know."""
    ends = [int(seed[0, -1]) for seed in group.seeds]
    if min(ends) < 0.9 * max(ends):
        ends_at = f"the curve ends at {min(ends):,} steps with the shortest seed"
        yield f"{group.name}: {ends_at}; the longest has {max(ends):,}"
    if len(ends) < 2:
        yield f"{group.name}: one seed has no band; python -m scripts.train --seeds 10 trains several"


if __name__ == "__main__":
    scripts.run(lambda: main(tyro.cli(Arguments)))
