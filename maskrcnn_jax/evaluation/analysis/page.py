"""The analysis as one HTML file, which needs no network and no script."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from maskrcnn_jax.evaluation.analysis.svg import bar_chart, line_chart
from maskrcnn_jax.evaluation.analysis.worst import PAINTS

_TITLES = {"segm": "Masks", "bbox": "Boxes"}
_MOST_CONFUSED = 30  # classes; a larger table is given by its largest entries

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.45 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;margin:.6em 0;font-variant-numeric:tabular-nums}
th,td{padding:.2em .7em;text-align:right;border-bottom:1px solid #8884}
th:first-child,td:first-child{text-align:left}
.row{display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start}
.wide{overflow-x:auto}
svg{max-width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:currentColor}
svg .title{font-size:14px;font-weight:600}.grid{stroke:#8883;fill:none}
.legend{display:flex;flex-wrap:wrap;gap:.2em 1em;font-size:13px}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.35em;border-radius:2px}
figure{margin:0 0 1em}figure img{width:480px;max-width:100%}
figcaption,.note{font-size:13px;opacity:.8}
"""


def page(
    title: str,
    subtitle: str,
    numbers: Mapping[str, Mapping[str, Any]],
    pictures: Sequence[tuple[str, bytes]],
) -> str:
    """Writes the page.

    Args:
        title: of the page.
        subtitle: a line below it.
        numbers: `Analysis.numbers` for "segm" and "bbox".
        pictures: captions and JPEG files of the worst images.
    """
    sections = "".join(_section(kind, numbers[kind]) for kind in _TITLES if kind in numbers)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{escape(subtitle)}</p>"
        f"{sections}{_worst(pictures)}</body></html>\n"
    )


def _section(kind: str, numbers: Mapping[str, Any]) -> str:
    curves, names = numbers["curves"], [row["name"] for row in numbers["classes"]]
    lines = {
        key: [
            (row["name"], values)
            for row, values in zip(numbers["classes"], curves[key]["classes"], strict=True)
            if row["objects"]
        ]
        for key in ("precision", "f1")
    }
    pr_chart = line_chart(
        "Precision over recall, IoU 0.5",
        ("recall", "precision"),
        curves["recall"],
        lines["precision"],
        curves["precision"]["mean"] if len(names) > 1 else None,
    )
    f1_chart = line_chart(
        "F1 over the score threshold, IoU 0.5",
        ("score", "F1"),
        curves["score"],
        lines["f1"],
        curves["f1"]["mean"] if len(names) > 1 else None,
    )
    return (
        f"<h2>{_TITLES[kind]}</h2>{_sizes(numbers)}{_crowding(numbers['crowding'])}"
        f'<div class="row"><div>{pr_chart}</div><div>{f1_chart}</div></div>'
        f"<h3>Classes</h3>{_classes(numbers['classes'])}"
        f"<h3>Errors</h3>{_errors(numbers['errors'])}"
        f"<h3>Confusion</h3>{_confusion(numbers['confusion'])}"
    )


def _sizes(numbers) -> str:
    sizes = numbers["sizes"]
    head = ["", "AP", "AP50", "AP75", *(f"AP {name}" for name in sizes)]
    head += [f"AR {name}" for name in sizes]
    row = ["all classes", *(_percent(numbers[name]) for name in ("AP", "AP50", "AP75"))]
    row += [_percent(sizes[name][key]) for key in ("AP", "AR") for name in sizes]
    return _table(head, [row])


def _crowding(groups) -> str:
    head = ["images by crowding", "images", "AP", "AP50", "AP75"]
    rows = [
        [name, str(row["images"]), *(_percent(row[key]) for key in head[2:])]
        for name, row in groups.items()
    ]
    return _table(head, rows) + _note(
        "Crowding: pixels of other objects in an object's box, over its own, mean of the image. "
        "Apart: below 0.1. Some: to 0.8. Crowded: from 0.8 on."
    )


def _classes(rows) -> str:
    head = ["class", "objects", "AP", "AP50", "AR", "suggested score"]
    head += ["precision there", "recall there", "F1 there"]
    table = _table(
        head,
        [
            [
                row["name"],
                str(row["objects"]),
                *(_percent(row[key]) for key in ("AP", "AP50", "AR")),
                "-" if row["threshold"] is None else f"{row['threshold']:.3f}",
                *(_percent(row[key]) for key in ("precision", "recall", "f1")),
            ]
            for row in rows
        ],
    )
    return table + _note(
        "The suggested score is that of the highest F1 at IoU 0.5 on these images."
    )


def _errors(errors) -> str:
    kinds = list(errors)
    shares = bar_chart(
        "Part of all errors",
        kinds,
        [errors[kind]["fraction"] for kind in kinds],
        [f"{100 * errors[k]['fraction']:.1f} % ({errors[k]['count']})" for k in kinds],
    )
    gains = bar_chart(
        "AP50 gained by fixing one kind alone",
        kinds,
        [errors[kind]["gain"] for kind in kinds],
        [f"{100 * errors[kind]['gain']:+.1f}" for kind in kinds],
    )
    return f'<div class="row"><div>{shares}</div><div>{gains}</div></div>' + _note(
        "All detections, whatever their score. Kinds after TIDE (Bolya et al., 2020). "
        "Classification: IoU of 0.5 or more with an object of another class. Localisation: 0.1 to "
        "0.5 with an object of its class. Both: 0.1 to 0.5 with one of another class. Duplicate: "
        "a surer detection took the object. Background: 0.1 at most with any object. Missed: "
        "objects that neither a detection nor an error of the first two kinds belongs to."
    )


def _confusion(confusion) -> str:
    labels, counts = confusion["labels"], confusion["counts"]
    note = _note("True classes down, predicted across; detections from the suggested scores on.")
    if len(labels) > _MOST_CONFUSED:
        return _largest_confusions(labels, counts) + note
    largest = max(max(row) for row in counts) or 1
    rows = [
        f"<tr><th>{escape(label)}</th>"
        + "".join(
            f'<td style="background:rgb(66 105 208/{0.7 * n / largest:.2f})">{n or ""}</td>'
            for n in row
        )
        + "</tr>"
        for label, row in zip(labels, counts, strict=True)
    ]
    head = "".join(f"<th>{escape(label)}</th>" for label in ["", *labels])
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>{note}'


def _largest_confusions(labels, counts) -> str:
    wrong = [
        (count, true, predicted)
        for true, row in zip(labels, counts, strict=True)
        for predicted, count in zip(labels, row, strict=True)
        if count and true != predicted
    ]
    rows = [[t, p, str(n)] for n, t, p in sorted(wrong, key=lambda w: -w[0])[:_MOST_CONFUSED]]
    return _table(["true", "predicted", "how often"], rows)


def _worst(pictures: Sequence[tuple[str, bytes]]) -> str:
    if not pictures:
        return ""
    figures = "".join(
        f'<figure><img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, jpeg in pictures
    )
    legend = "".join(
        f'<span><i style="background:rgb{paint}"></i>{name}</span>'
        for name, paint in PAINTS.items()
    )
    return (
        f"<h2>Worst images</h2>{_note('By errors of masks, from the suggested scores on.')}"
        f'<div class="legend">{legend}</div><div class="row">{figures}</div>'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f'<div class="wide"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _percent(value: float | None) -> str:
    return "-" if value is None or value < 0 else f"{100 * value:.1f}"
