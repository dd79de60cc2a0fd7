"""The pictures as figures: nothing cut, nothing on top of each other, captions complete, hostile names harmless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from plotting import Results, draw_all, read_folder, style
from plotting.compare import compare_data
from plotting.compare_draw import draw_compare
from plotting.distribution import distribution_data, draw_distribution
from plotting.frontier import draw_frontier, frontier_data
from plotting.group import Group, split
from plotting.heatmap import draw_heatmap, heatmap_data
from plotting.latency import draw_latency, latency_data
from plotting.lines import draw_lines, lines_data
from plotting.pareto import draw_pareto, pareto_data
from plotting.timeline import draw_timeline, timeline_data
from plotting.turns import draw_turns, turns_data
from tests.support.plotting_examples import PUBLISHED, example_records, write_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_folder(write_sweep(tmp_path_factory.mktemp("sweep"), records=True, simulated=True))


@pytest.fixture(scope="module")
def published() -> Results:
    return read_folder(PUBLISHED)


def ticks_of(figure: Figure) -> list[tuple[list[Text], list[Text]]]:
    """For each axis: the tick labels that are drawn, and those that it keeps but does not draw."""
    found = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            drawn = [
                t.label1 for t in ticks if t.label1.get_visible() and t.label1.get_text() and low <= t.get_loc() <= high
            ]
            hidden = [label for t in ticks for label in (t.label1, t.label2) if label not in drawn]
            found.append((drawn, hidden))
    return found


def check_layout(figure: Figure) -> list[str]:
    """Every text lies inside the figure; the labels of an axis keep apart; titles, captions and legends too.

    Returns the texts that are drawn.
    """
    with style.house():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
        width, height = canvas.get_width_height()
        hidden: set[int] = set()
        for labels, unseen in ticks_of(figure):
            hidden |= {id(label) for label in unseen}
            boxes = [label.get_window_extent(renderer) for label in labels if label.get_rotation() == 0]
            clashes = [pair for pair in combinations(boxes, 2) if overlap(*pair)]
            assert not clashes, [label.get_text() for label in labels]
        shown = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and id(t) not in hidden]
        for text in shown:
            box = text.get_window_extent(renderer)
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside, f"cut: {text.get_text()!r} at {box}"
        blocks = [figure._suptitle, figure._supxlabel, *(a.get_legend() for a in figure.axes)]  # type: ignore[attr-defined]
        boxes = [block.get_window_extent(renderer) for block in blocks if block is not None]
        assert not any(overlap(a, b) for a, b in combinations(boxes, 2))
        return [text.get_text() for text in shown]


def overlap(one: Bbox, other: Bbox) -> bool:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return bool(wide > 0.5 and high > 0.5)


GROUP_PICTURES: dict[str, Callable[[Group], Figure]] = {
    "frontier": lambda g: draw_frontier(frontier_data([g]), source="Source: somebody"),
    "lines": lambda g: draw_lines(lines_data([g])),
    "pareto": lambda g: draw_pareto(pareto_data(g)),
    "latency": lambda g: draw_latency(latency_data(g, g.points[0].isl)),
    "heatmap": lambda g: draw_heatmap(heatmap_data(g)),
}


@pytest.mark.parametrize("picture", GROUP_PICTURES)
def test_nothing_is_cut_or_covered_with_published_results(published: Results, picture: str) -> None:
    check_layout(GROUP_PICTURES[picture](split(published.points)[0]))


@pytest.mark.parametrize("picture", GROUP_PICTURES)
def test_nothing_is_cut_or_covered_with_a_small_simulated_sweep(sweep: Results, picture: str) -> None:
    (group,) = split(sweep.points)
    words = " ".join(check_layout(GROUP_PICTURES[picture](group)))
    assert "SIMULATED" in words
    for part in ("example/Tiny-1B", "vllm 0.32.0", "2 GPUs", "2026-03-01", "n = 20 to 320"):
        assert part in words.replace("\n", " ")


def test_several_groups_stand_in_rows(published: Results) -> None:
    groups = split(published.points)
    check_layout(draw_frontier(frontier_data(groups)))
    check_layout(draw_lines(lines_data(groups)))


def test_distribution_and_timeline(sweep: Results) -> None:
    point = next(p for p in sweep.points if p.records)
    distribution = distribution_data(point, example_records(), "title", "caption")
    check_layout(draw_distribution(distribution))
    timeline = timeline_data(point, example_records(), "title", "caption")
    assert timeline is not None
    check_layout(draw_timeline(timeline))


@pytest.mark.parametrize("hits", [0.5, None])
def test_turns_of_sessions(sweep: Results, hits: float | None) -> None:
    rows = [
        {"turn": n, "median_ttft": 0.1 * n, "p99_ttft": 0.2 * n, "hit_rate": hits, "theory_hit_rate": 0.6}
        for n in (1, 2, 3)
    ]
    point = replace(sweep.points[0], raw={"by_turn": [*rows, {"turn": "x"}, 7]})
    data = turns_data(point, "title", "caption")
    assert data is not None
    assert (data.turn, data.hit_rate) == ((1, 2, 3), (hits, hits, hits))
    words = " ".join(check_layout(draw_turns(data)))
    assert ("measured" in words) == (hits is not None)
    assert turns_data(sweep.points[0], "title", "caption") is None


def test_comparison_of_two_and_of_three_runs(sweep: Results, tmp_path: Path) -> None:
    check_layout(draw_compare(compare_data(read_folder(PUBLISHED / "glm-5"), [read_folder(PUBLISHED / "qwen3.5")])))
    others = [read_folder(write_sweep(tmp_path / name, slow=slow)) for name, slow in (("b", 1.3), ("c", 0.9))]
    check_layout(draw_compare(compare_data(sweep, others)))


@pytest.mark.parametrize("isls", [(1024,), (1, 2), tuple(range(1000, 300_000, 1000)), (1024, 1025, 1_000_000)])
def test_any_grid_keeps_its_labels_apart(isls: tuple[int, ...]) -> None:
    from bench_tests.results.formats import to_point
    from tests.support.plotting_examples import example_result

    points = [to_point(example_result(isl, conc=conc), Path("x.json")) for isl in isls for conc in (1, 1000)]
    (group,) = split(points)
    check_layout(draw_frontier(frontier_data([group])))
    check_layout(draw_lines(lines_data([group])))


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_names_from_files_are_no_formulas_and_no_markup(tmp_path: Path, suffix: str) -> None:
    from bench_tests.results.formats import to_point
    from tests.support.plotting_examples import example_result

    hostile = "a/$\\frac{1}{0$ <script>alert(1)</script> \x1b[31m\n\u202e 模型" + "x" * 500
    (group,) = split([to_point(example_result(model_id=hostile), Path("x.json"))])
    figure = draw_frontier(frontier_data([group]))
    path = style.save(figure, tmp_path / f"f{suffix}")
    assert path.stat().st_size > 5000
    if suffix == ".svg":
        assert "<script" not in path.read_text()


def test_the_same_results_give_the_same_bytes(sweep: Results, tmp_path: Path) -> None:
    groups = split(sweep.points)
    for suffix in (".png", ".svg"):
        one = style.save(draw_heatmap(heatmap_data(groups[0])), tmp_path / f"a{suffix}")
        two = style.save(draw_heatmap(heatmap_data(groups[0])), tmp_path / f"b{suffix}")
        assert one.read_bytes() == two.read_bytes()


def test_draw_all_draws_every_picture_and_names_what_it_left_out(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "results", records=True)
    (folder / "broken.json").write_text("{")
    drawn = draw_all(folder, tmp_path / "pictures", report=tmp_path / "report.html")
    names = [path.name for path in drawn.files]
    assert names == [
        "frontier.png", "throughput.png", "heatmap.png", "interactivity.png", "latency-isl256.png",
        "latency-isl1024.png", "latency-isl4096.png", "distribution-isl256-osl24-conc8.png",
        "timeline-isl256-osl24-conc8.png", "slo-frontier.png", "decision.md", "report.html",
    ]  # fmt: skip
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in drawn.files if path.suffix == ".png")
    assert [left.path.name for left in drawn.left_out] == ["broken.json"]


def test_broken_records_cost_their_own_pictures_only(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "results", records=True)
    for path in folder.glob("*.json"):
        if path.name != "demo_vllm_tp2_isl256_osl24_conc8.json":
            path.unlink()
    (path,) = (folder / "records").iterdir()
    path.write_bytes(b"no zip")
    drawn = draw_all(folder, tmp_path / "pictures")
    assert len(drawn.files) == 7
    assert any("not a records file" in note for note in drawn.notes)


def test_an_open_interval_is_an_arrow_that_the_caption_explains() -> None:
    from bench_tests.results.formats import to_point
    from tests.support.plotting_examples import example_result

    points = [to_point(example_result(conc=c, ci95={"p99_ttft": [0.1, None]}), Path("x.json")) for c in (1, 2)]
    (group,) = split(points)
    words = " ".join(check_layout(draw_latency(latency_data(group, 256))))
    assert "An arrow" in words
    other = Results(Path("b"), tuple(points))
    check_layout(draw_compare(compare_data(Results(Path("a"), tuple(points)), [other])))
