"""One word for one thing: names are not used twice, and docstrings open with a verb."""

import ast
from pathlib import Path

import pytest

from tests import house

INTERFACES = {
    **dict.fromkeys(("fit", "compress", "certify", "sweep", "tune"), "a command has the name of its verb"),
    "load": "a data set by name; a solution from a file",
}
"""Names that several modules define on purpose, and why."""

MOST_WITHOUT = 0.1
"""Share of the docstrings of a folder that may open otherwise than with a verb."""

SOURCES = house.sources(house.PACKAGE)


def _room(source: house.Source) -> str:
    """Return the folder below the package that a file is in; "" for those beside it."""
    return "/".join(source.path.relative_to(house.PACKAGE).parts[:-1][:1])


def test_no_name_means_two_things() -> None:
    found = house.homonyms(SOURCES)
    assert {name: where for name, where in found.items() if name not in INTERFACES} == {}, "give one a name of its own"
    assert set(INTERFACES) <= set(found), "a name that is no homonym any more leaves the list"


@pytest.mark.parametrize("room", sorted({_room(s) for s in SOURCES}))
def test_docstrings_open_with_a_verb(room: str) -> None:
    mine = [s for s in SOURCES if _room(s) == room]
    silent, said = house.without_a_verb(mine), house.openings(mine)
    assert len(silent) <= MOST_WITHOUT * len(said), "\n".join(silent)


def of(text: str, name: str = "a.py") -> house.Source:
    """Return a file as the counters see it."""
    return house.Source(house.PACKAGE / name, text, ast.parse(text))


def test_the_counters_count() -> None:
    """Each figure on a file whose figures are known."""
    text = (
        'LIMIT, RATE = 3, -0.5\nNAMES = ("a",)\nSIZE: int = 2**16\n\n\n'
        'def first(x):\n    """Return x."""\n    return x\n\n\n'
        'def _second():\n    """The other."""\n\n\nclass Thing:\n    pass\n'
    )
    one, two = of(text), of("class Thing:\n    def first(self):\n        pass\n", "b.py")
    assert house.numeric_constants(one) == ["LIMIT", "RATE", "SIZE"]
    assert house.lengths([one]) == [3, 2]
    assert list(house.openings([one]).values()) == ["return", "the"]
    assert [where.split()[-1] for where in house.without_a_verb([one])] == ["_second"]
    assert list(house.homonyms([one, two])) == ["Thing"]
    assert house.folder_sizes([one, two, of("", "__init__.py")]) == {".": 2}
    tests = of(
        "def test_a():\n    assert 1\n    with pytest.raises(E):\n        pass\n\n\ndef test_b():\n    assert 2\n"
        "\n\ndef test_c():\n    np.testing.assert_allclose(1, 1)\n    np.zeros(1)\n    helper()\n"
    )
    assert house.checks_per_test([tests]) == pytest.approx(4 / 3)


def test_files_that_a_method_needs_are_those_that_are_read() -> None:
    found = house.files_needed("import sparelu.settings, sparelu.cli")
    assert found == ["sparelu.settings"]
    assert all((Path(house.PACKAGE).parent / f"{name.replace('.', '/')}.py").is_file() for name in found)
