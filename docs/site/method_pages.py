"""A page for each method, from its docstring, its settings, and what it says to data of every kind."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from docstrings import as_markdown

from sparelu.catalogue import METHODS
from sparelu.data import Budget, Data
from sparelu.method import Compressor, Fitter, Method, settings_of
from sparelu.networks.network import Network
from sparelu.oracle import Oracle

QUESTIONS = {
    "recover": "Which sparse network made these data?",
    "interpolate": "Which is the sparsest network through these points?",
    "convex": "Which network is optimal, and how far is this one from it?",
    "train": "How does a network become sparse while it learns?",
    "compress": "Can fewer neurons, or fewer weights, say the same?",
    "certify": "What may be claimed of this network?",
}


def navigation() -> list[Any]:
    """Return the entries of the navigation: an index, then the methods of each question."""
    groups: dict[str, list[dict[str, str]]] = {}
    for name, method in METHODS.items():
        groups.setdefault(method.question, []).append({name: f"methods/{name}.md"})
    return ["methods/index.md", *({question: entries} for question, entries in groups.items())]


def pages() -> dict[str, str]:
    """Return the Markdown of the index and of every method, by file name."""
    return {"methods/index.md": _index()} | {f"methods/{name}.md": page_of(method) for name, method in METHODS.items()}


def _index() -> str:
    lines = ["# Methods", "", "`sparelu methods` prints this list, `sparelu methods NAME` the settings of one.", ""]
    for question in dict.fromkeys(method.question for method in METHODS.values()):
        lines += [f"## {QUESTIONS.get(question, question)}", "", "| method | what it does | source |", "|---|---|---|"]
        lines += [
            f"| [{name}]({name}.md) | {_cell(_paragraphs(method)[0])} | {_cell(method.paper)} |"
            for name, method in METHODS.items()
            if method.question == question
        ]
        lines.append("")
    return "\n".join(lines)


def page_of(method: type[Method]) -> str:
    """Return the Markdown of one method's page."""
    first, *rest = _paragraphs(method)
    advice = [p for p in rest if p.startswith(("Use it ", "Not "))]
    body = [p for p in rest if p not in advice]
    parts = [
        f"# {method.name}",
        first,
        f"*{QUESTIONS.get(method.question, method.question)}* Source: {method.paper}.",
        *_advice(advice),
        _example(method),
        *(["## How it works", *body] if body else []),
        "## Settings",
        _settings(method),
        "## What it takes",
        _takes(method),
        f"In Python: `{method.__module__}.{method.__name__}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _paragraphs(method: type[Method]) -> list[str]:
    return as_markdown(inspect.getdoc(method) or "").split("\n\n")


def _advice(paragraphs: list[str]) -> list[str]:
    titles = {"Use it ": '!!! tip "When to use it"', "Not ": '!!! warning "When not"'}
    boxes = []
    for paragraph in paragraphs:
        title = next(title for start, title in titles.items() if paragraph.startswith(start))
        boxes.append(f"{title}\n\n" + "\n".join("    " + line for line in paragraph.splitlines()))
    return boxes


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _example(method: type[Method]) -> str:
    name = method.name
    if issubclass(method, Fitter):
        command = f"sparelu fit data.csv --target y --method {name} --nonzeros 50"
        program = (
            f'method, budget = sparelu.fitter("{name}"), sparelu.Budget((100,), nonzeros=50)\n'
            "solution = sparelu.fit(method, data, budget)"
        )
    elif issubclass(method, Compressor):
        command = f"sparelu compress RUN --method {name} --neurons 10"
        program = (
            f'method, budget = sparelu.compressor("{name}"), sparelu.Budget((10,))\n'
            "smaller = run.compress(method, network, budget, data)"
        )
    else:
        command = f"sparelu certify RUN --method {name}"
        program = f'certificate = run.certify(sparelu.certifier("{name}"), network, data)'
    return f"```bash\n{command}\n```\n\n```python\n{program}\n```"


def _settings(method: type[Method]) -> str:
    rows = [
        f"| `--{s.name.replace('_', '-')}` | {_default(s.default)} | {_cell(s.wanted())} | {_cell(s.rule.help)} |"
        for s in settings_of(method)
    ]
    if not rows:
        return "None."
    return "\n".join(["| flag | default | wants | meaning |", "|---|---|---|---|", *rows])


def _default(value: Any) -> str:
    if value is None:
        return "none"
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{shown}`" if shown else "empty"


def _takes(method: type[Method]) -> str:
    """Return a table of what the method says when it is asked, here and now, whether it refuses."""
    kinds = _data() if issubclass(method, Fitter) else _networks()
    rows = [f"| {kind} | {_cell(_answer(method, *given()))} |" for kind, given in kinds.items()]
    return "\n".join(["| given | answer |", "|---|---|", *rows])


def _answer(method: type[Method], *given: Any) -> str:
    made: Any = method()
    if isinstance(made, Compressor):
        network, data = given
        given = network, Budget(network.hidden), data
    words = (made.unfit(given[0]) if isinstance(made, Fitter) else None) or made.refuses(*given)
    return "yes" if words is None else f"refuses: {words}"


def _data() -> dict[str, Callable[[], tuple[Data | Oracle, Budget]]]:
    rng = np.random.default_rng(0)
    x, one = rng.standard_normal((60, 6)), np.linspace(-1, 1, 60)[:, None]
    y, pixels = rng.standard_normal((60, 2)), rng.random((60, 64))
    labels = {k: np.arange(60) % k for k in (2, 3)}
    asked, wide = Budget((8,), nonzeros=20), Budget((8, 8), nonzeros=30)
    images = Data(pixels, labels[3], "classification", image=(8, 8))
    return {
        "a table, one target": lambda: (Data(x, y[:, 0]), asked),
        "a table, two targets": lambda: (Data(x, y), asked),
        "twelve rows, one target": lambda: (Data(x[:12], y[:12, 0]), asked),
        "one input, one target": lambda: (Data(one, np.abs(one[:, 0])), Budget((8,), nonzeros=8)),
        "two classes": lambda: (Data(x, labels[2], "classification"), asked),
        "three classes": lambda: (Data(x, labels[3], "classification"), asked),
        "two hidden layers": lambda: (Data(x, y[:, 0]), wide),
        "images and convolutions": lambda: (images, Budget((8,), nonzeros=60, channels=(4,))),
        "no budget of nonzeros": lambda: (Data(x, y[:, 0]), Budget((8,))),
        "a function to ask": lambda: (Oracle(lambda rows: rows[:, :1].clip(0), 6), Budget((8,))),
    }


def _networks() -> dict[str, Callable[[], tuple[Network, Data | None]]]:
    torch.manual_seed(0)

    def made(*widths: int, bias: bool = True, positive: bool = False) -> Network:
        layers: list[torch.nn.Module] = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [torch.nn.Linear(before, after, bias=bias), torch.nn.ReLU()]
        module = torch.nn.Sequential(*layers[:-1])
        if positive:
            with torch.no_grad():
                module[-1].weight.abs_()
        return Network.from_module(module)

    def rows(outputs: int) -> Data:
        rng = np.random.default_rng(0)
        return Data(rng.standard_normal((60, 6)), rng.standard_normal((60, outputs)))

    return {
        "one hidden layer, one output, no biases": lambda: (made(6, 5, 1, bias=False), rows(1)),
        "as many neurons as inputs, positive outputs": lambda: (made(6, 6, 1, bias=False, positive=True), rows(1)),
        "one hidden layer, one output": lambda: (made(6, 5, 1), rows(1)),
        "one hidden layer, three outputs": lambda: (made(6, 5, 3), rows(3)),
        "two hidden layers": lambda: (made(6, 5, 5, 1), rows(1)),
        "a network without data": lambda: (made(6, 5, 1), None),
    }
