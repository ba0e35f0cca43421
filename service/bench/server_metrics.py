"""The server's own account of a window: the difference of two reads of its ``/metrics``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

PREFIX = "detserve_"
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Account:
    """What a server did in a window. A sum of two is that of both windows.

    Attributes:
        images: images that were answered.
        stages: of each stage the seconds and how many images (of ``inference``: batches) took them.
        batches: how many batches had so many images: by the upper bound of a bin, then the number.
        batch_images: images in all batches.
        dispatch: batches by why they left.
        outcomes: images by how they ended.
        cpu_s: CPU time of the server's process.
        rss_bytes: its memory at the end.
    """

    images: float = 0.0
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    batches: dict[str, int] = field(default_factory=dict)
    batch_images: float = 0.0
    dispatch: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    cpu_s: float | None = None
    rss_bytes: int | None = None

    def __add__(self, other: Account) -> Account:
        stages = {
            name: (
                self.stages.get(name, (0.0, 0.0))[0] + other.stages.get(name, (0.0, 0.0))[0],
                self.stages.get(name, (0.0, 0.0))[1] + other.stages.get(name, (0.0, 0.0))[1],
            )
            for name in (*self.stages, *(name for name in other.stages if name not in self.stages))
        }
        known = self.cpu_s is not None and other.cpu_s is not None
        return Account(
            images=self.images + other.images,
            stages=stages,
            batches=_added(self.batches, other.batches),
            batch_images=self.batch_images + other.batch_images,
            dispatch=_added(self.dispatch, other.dispatch),
            outcomes=_added(self.outcomes, other.outcomes),
            cpu_s=(self.cpu_s or 0.0) + (other.cpu_s or 0.0) if known else None,
            rss_bytes=other.rss_bytes,
        )

    @property
    def mean_batch(self) -> float | None:
        """Images in a batch, on average."""
        number = sum(self.batches.values())
        return self.batch_images / number if number else None

    def stage_ms(self) -> dict[str, float]:
        """Milliseconds that each stage took for an image: a batch's time is shared by its images."""
        shared = {"inference": self.batch_images}
        return {
            name: 1000 * seconds / images
            for name, (seconds, count) in self.stages.items()
            if (images := shared.get(name, count))
        }

    @property
    def batch_ms(self) -> float | None:
        """Milliseconds that a batch took, on average."""
        seconds, count = self.stages.get("inference", (0.0, 0.0))
        return 1000 * seconds / count if count else None


class Scrape:
    """One read of ``/metrics``.

    Raises:
        ValueError: the text is not Prometheus'.
    """

    def __init__(self, text: str) -> None:
        self._values: dict[tuple[str, Labels], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                self._values[key] = sample.value

    def labels_of(self, name: str) -> list[dict[str, str]]:
        """The labels of each series of ``detserve_<name>`` that is not zero."""
        return [
            dict(labels) for (found, labels), value in self._values.items()
            if found == PREFIX + name and value
        ]  # fmt: skip

    def since(self, before: Scrape) -> Account | None:
        """What happened since ``before``; None if the server has started anew in between."""
        moved = {
            key: value - before._values.get(key, 0.0)
            for key, value in self._values.items()
            if key[0].endswith(("_total", "_sum", "_count", "_bucket"))
        }
        if any(value < 0 for value in moved.values()):
            return None

        def by(name: str, label: str) -> dict[str, float]:
            """The change of ``name``, over all models, by the values of ``label``."""
            total: Counter[str] = Counter()
            for (found, labels), value in moved.items():
                if found == PREFIX + name:
                    total[dict(labels).get(label, "")] += value  # type: ignore[assignment]  # seconds are no integers
            return dict(total)

        def total(name: str) -> float:
            return sum(by(name, "").values())

        sums, counts = (
            by("stage_duration_seconds_sum", "stage"),
            by("stage_duration_seconds_count", "stage"),
        )
        stages = {name: (sums[name], counts.get(name, 0.0)) for name in sums}
        stages["queue"] = (total("queue_wait_seconds_sum"), total("queue_wait_seconds_count"))
        outcomes = _whole(by("predictions_total", "outcome"))
        cpu = moved.get(("process_cpu_seconds_total", ()))
        rss = self._values.get(("process_resident_memory_bytes", ()))
        return Account(
            images=outcomes.get("ok", 0),
            stages={name: stages[name] for name in sorted(stages, key=_order) if stages[name][1]},
            batches=_bins(by("batch_size_bucket", "le")),
            batch_images=total("batch_size_sum"),
            dispatch=_whole(by("batch_dispatch_total", "reason")),
            outcomes=outcomes,
            cpu_s=cpu,
            rss_bytes=int(rss) if rss is not None else None,
        )


def _order(stage: str) -> tuple[int, str]:
    """The order in which an image meets the stages; unknown ones come last."""
    known = ("decode", "queue", "inference", "encode")
    return (known.index(stage) if stage in known else len(known), stage)


def _bins(cumulative: dict[str, float]) -> dict[str, int]:
    """Numbers in each bin, from Prometheus' numbers up to each bound; empty bins are left out."""
    bins: dict[str, int] = {}
    below, last = 0.0, 0
    for bound in sorted(cumulative, key=float):
        number = round(cumulative[bound] - below)
        if bound == "+Inf":
            label = f"over {last}"
        else:
            top = int(float(bound))
            label = f"{top}" if top == last + 1 else f"{last + 1}-{top}"
            last = top
        if number:
            bins[label] = number
        below = cumulative[bound]
    return bins


def _whole(values: dict[str, float]) -> dict[str, int]:
    return {name: round(value) for name, value in values.items() if value}


def _added(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    return {
        name: first.get(name, 0) + second.get(name, 0)
        for name in (*first, *(name for name in second if name not in first))
    }
