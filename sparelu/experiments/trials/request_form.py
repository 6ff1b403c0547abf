"""What the files of a run and the rows of a table must hold before anything is made of them."""

from collections.abc import Mapping
from typing import Any

from sparelu.budget import Budget
from sparelu.json_form import Form, flag, listed, mapped, number, of, optional, record, text, whole

SIZES = listed(whole(1, 2**31 - 1))
FIELDS: Mapping[str, Form] = {
    **{"parameters": of(dict), "settings": of(dict), "hidden": SIZES, "channels": SIZES},
    **{"drop": listed(text), "only": listed(text)},
    **{"target": of(str, int, type(None)), "task": optional(text), "method": text, "device": text},
    **{"nonzeros": optional(whole(1)), "seed": whole(0), "folds": whole(0), "fold": whole(0)},
    **{name: optional(number(0)) for name in ("density", "sparsity", "compression", "test_fraction")},
    "standardise": optional(flag),
}
REQUEST = record({"data": text}, {**FIELDS, "data_digest": text}, open=True)
ASKED = record({"oracle": text}, FIELDS, open=True)
"""A run that asked a function has no data."""

POINT = {
    **{"nonzeros": whole(0), "score": number(), "seconds": number(0), "peak_memory": whole(0)},
    **{"stored_bytes": whole(0), "chosen": flag},
}
FOLDED = {
    **{"nonzeros": whole(1), "losses": listed(number()), "settings": of(dict), "reason": text, "chosen": flag},
}
PAIRS = listed(listed(number(), 2))
WRONG = record(
    {
        "rows": whole(0),
        "worst": listed(
            record({"row": whole(0)}, {**dict.fromkeys(("true", "found"), of(str, float, int)), "given": number()})
        ),
    },
    {
        **{"rms": number(0), "mean": number(0), "pairs": PAIRS, "roc": optional(PAIRS)},
        **{"confusion": optional(listed(listed(whole(0)))), "calibration": listed(listed(number(), 3))},
    },
)
RESULT = record(
    {
        **{"score_name": text, "split": text, "why": text},
        "test": record({"score": number(), "rows": whole(0)}, open=True),
        "rows": listed(record(POINT, {"label": text}, open=True)),
    },
    {
        "mean_image": optional(listed(number())),
        "drawn_rows": listed(listed(number())),
        "validation": listed(record(FOLDED, open=True)),
        "errors": optional(WRONG),
        "simple": listed(record({"name": text, "numbers": whole(0), "score": number()})),
        "effects": listed(record({"name": text, "lost": number(), "effect": PAIRS})),
        **{"folds": whole(0), "select": text, "widths": of(dict), "test_rows": listed(whole(0))},
    },
    open=True,
)
ANSWERED = record({"rows_asked": whole(0), "status": text, "nonzeros": whole(0)}, open=True)
"""The result of a run that asked a function: it has no score."""
ROW = record(
    {"key": text, "status": text, "trial": record({}, {"data": text, "method": text, "hidden": SIZES}, open=True)},
    {
        **{"error": text, "method": text, "score_name": text, "data_digest": text, "versions": mapped(text)},
        **{"score": number(), "seconds": number(), "nonzeros": whole(0), "peak_memory": number()},
        **{"train_score": number(), "row_seconds": number(), "measured": of(dict), "seeds": of(dict)},
    },
    open=True,
)


MEASURED = ("score", "score_error", "train_score", "test_score", "mse", "r2", "psnr", "accuracy", "cross_entropy")
"""Numbers of a result or a row that may be NaN, for which null is written."""


def check_result(result: Any) -> None:
    """Raise ``ValueError`` for a result that no run could have."""
    (ANSWERED if isinstance(result, Mapping) and "rows_asked" in result else RESULT)(result, "the result")


def check_request(request: Any) -> None:
    """Raise ``ValueError`` for a request that no run could have."""
    (ASKED if isinstance(request, Mapping) and "oracle" in request else REQUEST)(request, "the request")
    four = {name: request.get(name) for name in ("nonzeros", "density", "sparsity", "compression")}
    Budget(tuple(request.get("hidden", (100,))), channels=tuple(request.get("channels", ())), **four)
