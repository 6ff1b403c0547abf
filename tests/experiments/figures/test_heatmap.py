"""Heat maps as a part of a larger figure."""

from matplotlib.figure import Figure

from sparelu.experiments.figures.heatmap import panels, panels_into


def test_a_part_holds_what_the_figure_alone_holds() -> None:
    rows = [
        {"m": m, "s": s, "score": m * s, "label": label} for m in (1, 10) for s in (2, 20) for label in ("a", "b", "c")
    ]
    whole = panels(rows, "m", "s", "score", "a score")
    figure = Figure(layout="constrained")
    above, below = figure.subfigures(2, 1)
    panels_into(above, rows, "m", "s", "score", "a score")
    assert [axes.get_title() for axes in above.axes] == [axes.get_title() for axes in whole.axes]
    assert not below.axes
    meshes = [[axes.collections[0].get_array().tolist() for axes in part.axes[:3]] for part in (above, whole)]
    assert meshes[0] == meshes[1]
