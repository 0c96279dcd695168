"""The faults of a dataset: a list of what cannot be used, or is odd, and where."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from maskrcnn_jax.faults import FaultError, FaultKind, Ignored


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in a dataset.

    Attributes:
        where: the file, and the annotation in it where there is one.
        reason: what was found and what was expected.
        kind: of the fault.
        severity: "error": the image or annotation cannot be used; "warning": it can.
        image_id: of the image that cannot be used, for faults of a whole image.
        count: how many entries of the file have it; one line stands for all.
        objects: how many objects cannot be learned because of it.
    """

    where: str
    reason: str
    kind: FaultKind
    severity: str = "error"
    image_id: int | str | None = None
    count: int = 1
    objects: int = 0

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.reason}"


def grouped(faults: Iterable[Fault]) -> list[Fault]:
    """Returns faults with one for each cause: those of one file and reason become the first.

    Args:
        faults: of entries of files, whose `where` is `<file>: <entry>`; those of whole images stay.
    """
    groups: dict[object, list[Fault]] = {}
    for fault in faults:
        file = fault.where.rpartition(": ")[0]
        key = (file, fault.reason, fault.kind, fault.severity)
        groups.setdefault(key if file and fault.image_id is None else id(fault), []).append(fault)
    return [_as_one(group) if len(group) > 1 else group[0] for group in groups.values()]


def counts_by_kind(faults: Iterable[Fault]) -> dict[str, int]:
    """Returns how many entries have a fault of each kind, the most frequent first."""
    counts: Counter[str] = Counter()
    for fault in faults:
        counts[fault.kind.value] += fault.count
    return dict(counts.most_common())


def counts_by_severity(faults: Iterable[Fault]) -> dict[str, int]:
    """Returns how many entries have an "error" and how many a "warning"."""
    counts = {"error": 0, "warning": 0}
    for fault in faults:
        counts[fault.severity] += fault.count
    return counts


def _as_one(group: list[Fault]) -> Fault:
    others = [fault.where.rpartition(": ")[2] for fault in group[1:]]
    shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
    return replace(
        group[0],
        reason=f"{group[0].reason} (and {len(others)} more: {shown})",
        count=sum(fault.count for fault in group),
        objects=sum(fault.objects for fault in group),
    )


def fault_of(
    error: Exception,
    where: str,
    severity: str = "error",
    image_id: int | str | None = None,
    objects: int = 0,
) -> Fault:
    """Returns what an error says as a fault.

    Args:
        error: a FaultError, or another one of reading a file.
        where: the file, and the annotation in it where there is one.
        severity: "error" or "warning".
        image_id: of the image that cannot be used, if one.
        objects: how many objects cannot be learned because of it; of one that is ignored, that one.
    """
    objects = max(objects, int(isinstance(error, Ignored)))
    if isinstance(error, FaultError):
        kind = error.kind
    elif isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        kind = FaultKind.MISSING_FILE
    else:
        kind = FaultKind.UNREADABLE_FILE
    return Fault(where, _without(where, error), kind, severity, image_id, objects=objects)


def _without(where: str, error: Exception) -> str:
    """Returns what an error says, without the path that `where` says already."""
    if isinstance(error, OSError) and error.strerror and error.filename == where:
        return error.strerror
    reason = str(error)
    is_said = reason.startswith((f"{where} is ", f"{where} has "))
    return f"it{reason[len(where) :]}" if is_said else reason


def raise_errors(faults: Iterable[Fault], on_error: str) -> None:
    """Raises ValueError naming the faults of severity "error" if `on_error` is "raise".

    Args:
        faults: those found.
        on_error: "skip": nothing happens, what is faulty has been left out; or "raise".
    """
    if on_error not in ("skip", "raise"):
        raise ValueError(f"on_error is {on_error!r}; expected 'skip' or 'raise'")
    errors = [fault for fault in faults if fault.severity == "error"]
    if errors and on_error == "raise":
        shown = "\n".join(f"  {fault.where}: {fault.reason}" for fault in errors[:20])
        more = f"\n  and {len(errors) - 20} more" if len(errors) > 20 else ""
        raise ValueError(
            f"{len(errors)} faults in the dataset (config.data.on_error=skip leaves them out):\n"
            f"{shown}{more}"
        )
