# SPDX-License-Identifier: Apache-2.0
"""The report's other forms: text, JSON, DataFrame, HTML, plots, comparison."""

import html.parser
import io
import json
import math
import sys

import pytest
import torch
from flow_networks import batch, mlp, observe
from torch import nn

import torch_init
from torch_init.flow.rows import fit_slope


@pytest.fixture(scope="module")
def vanishing():
    model = mlp(20, 64, nn.Sigmoid, 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch(model)
    with torch_init.watch(model, optimizer, histogram=True) as flow:
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return flow.report()


def test_slope_of_a_geometric_sequence():
    sizes = [3.0 * 0.5**i for i in range(8)]
    names = [str(i) for i in range(8)]
    forward = fit_slope(names, sizes, backward=False)
    assert forward.factor == pytest.approx(0.5)
    assert forward.total == pytest.approx(0.5**7) == pytest.approx(forward.fitted_total)
    assert forward.fit_error == pytest.approx(0, abs=1e-12)
    backward = fit_slope(names, sizes, backward=True)
    assert backward.factor == pytest.approx(2.0)
    assert backward.total == pytest.approx(2.0**7)


@pytest.mark.parametrize("sizes", [[2.0], [1.0, math.nan, 1.0], [0.0, 0.0, 0.0]])
def test_no_slope_without_two_sizes(sizes):
    assert fit_slope(["a"] * len(sizes), sizes, backward=True) is None


def test_text_names_every_layer_and_fits_a_terminal(vanishing):
    text = str(vanishing)
    assert text.startswith("✗ vanishing at `0`")
    assert max(map(len, text.splitlines())) <= 120
    assert "-0.6" in text and "log10 per layer" in text


def test_long_models_are_shortened():
    report = observe(mlp(40, 8, nn.ReLU, 2.0))
    assert "... 21 more rows ..." in str(report)
    assert len(str(report).splitlines()) < 90


def test_the_verdict_is_repeated_below_a_table_that_scrolls_it_away(vanishing):
    rich = pytest.importorskip("rich.console")
    out = io.StringIO()
    rich.Console(file=out, width=120).print(vanishing)
    short = observe(mlp(2, 8, nn.ReLU, 2.0))
    for text in (str(vanishing), out.getvalue()):
        assert text.count("✗ vanishing at `0`") == 2
        assert text.rindex("✗ vanishing") > text.rindex("Linear")
    assert str(short).count(f"{short.verdict.kind}") == 1


def test_json_is_strict_and_complete(vanishing, tmp_path):
    text = vanishing.to_json(tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert read == json.loads(text)
    assert read["verdicts"][0]["kind"] == "vanishing"
    assert len(read["rows"]) == len(vanishing.rows)
    assert read["rows"][0]["rms"] == vanishing.rows[0].rms
    assert read["slope"]["per_layer"] == vanishing.slope.per_layer
    assert sum(read["rows"][0]["histogram"]) == 128 * 64


def test_dataframe_or_an_error_that_names_pandas(vanishing, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        vanishing.to_dataframe()
    monkeypatch.undo()
    pytest.importorskip("pandas")
    frame = vanishing.to_dataframe()
    assert frame.loc["0", "type"] == "Linear"
    assert len(frame) == len(vanishing.rows)


class Page(html.parser.HTMLParser):
    VOID = ("meta", "line", "circle", "polyline", "polygon")

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.rows = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.rows += tag == "tr"
        self.links += [v for k, v in attributes if k in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_html_is_one_well_formed_page_without_links(vanishing, tmp_path):
    text = vanishing.to_html(tmp_path / "report.html", title="a <b> & c")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text
    page = Page(text)
    assert page.open == [] and page.links == []
    assert "<script" not in text and "http" not in text and "url(" not in text
    assert "a &lt;b&gt; &amp; c" in text
    assert text.count("<svg") == 2
    assert page.rows >= 2 + len(vanishing.rows) + len(vanishing.parameters)
    assert "nan" not in text.lower().replace("nand", "")


def test_html_escapes_the_names_of_layers():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 10))
    model.add_module("<script>", nn.Linear(10, 10))
    Page(observe(model, torch.randn(8, 4), torch.arange(8)).to_html())
    assert "<script>" not in observe(model, torch.randn(8, 4), torch.arange(8)).to_html()


def test_html_of_an_empty_report():
    with torch_init.watch(mlp(2, 8, nn.ReLU, 2.0)) as flow:
        pass
    assert "no forward pass was seen" in flow.report().to_html()


@pytest.mark.parametrize("kind", ["gradflow", "signal", "ratio", "hist"])
def test_plots(vanishing, kind):
    pytest.importorskip("matplotlib")
    axes = vanishing.plot(kind)
    if kind == "hist":
        assert axes.images
    else:
        values = axes.lines[0].get_ydata()
        wanted = {
            "gradflow": [row.gradient_norm for row in vanishing.weighted],
            "signal": [row.rms for row in vanishing.weighted],
            "ratio": [p.update_ratio for p in vanishing.parameters if p.update_ratio > 0],
        }[kind]
        if kind != "ratio":
            assert list(values) == wanted
        assert axes.get_yscale() == "log"
    axes.figure.canvas.draw()


def test_plots_draw_into_given_axes_and_refuse_what_is_not_there(vanishing):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.add_subplot()
    assert vanishing.plot(ax=axes) is axes
    plain = observe(mlp(3, 8, nn.ReLU, 2.0))
    with pytest.raises(ValueError, match=r"Report\.plot: kind"):
        plain.plot("pie")
    with pytest.raises(ValueError, match=r"watch\(histogram=True\)"):
        plain.plot("hist")
    with pytest.raises(ValueError, match="optimizer"):
        plain.plot("ratio")


def test_comparison_before_and_after():
    before = observe(mlp(20, 64, nn.ReLU, 0.5))
    after = observe(mlp(20, 64, nn.ReLU, 2.0))
    comparison = before.compare(after)
    assert comparison.gone == ["vanishing"] and comparison.new == ["ok"]
    row = comparison.rows[-3]
    assert row.signal == pytest.approx(after.rows[-3].rms / before.rows[-3].rms)
    assert "first: vanishing" in str(comparison) and "second: ok" in str(comparison)
    longer = before.compare(observe(mlp(21, 64, nn.ReLU, 2.0)))
    assert longer.rows[-1].first is None and math.isnan(longer.rows[-1].signal)
    str(longer)


def test_reset_begins_a_new_window():
    model = mlp(2, 8, nn.ReLU, 2.0)
    x, y = batch(model)
    with torch_init.watch(model) as flow:
        nn.functional.cross_entropy(model(x), y).backward()
        flow.reset()
        assert flow.report().rows == []
        for _ in range(2):
            nn.functional.cross_entropy(model(x), y).backward()
    assert {row.calls for row in flow.report().rows} == {2}


def test_pause_and_resume():
    model = mlp(2, 8, nn.ReLU, 2.0)
    x, _ = batch(model)
    flow = torch_init.watch(model)
    model(x)
    flow.pause()
    model(x)
    flow.resume()
    model(x)
    flow.remove()
    model(x)
    assert {row.calls for row in flow.report().rows} == {2}


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({"include": "^[02]$"}, ["0", "2"]),
        ({"include": nn.ReLU}, ["1", "3"]),
        ({"include": [nn.ReLU, "4"]}, ["1", "3", "4"]),
        ({"exclude": nn.Linear}, ["1", "3"]),
        ({"include": lambda name, module: name == "4"}, ["4"]),
    ],
)
def test_selection(options, layers):
    assert [row.layer for row in observe(mlp(2, 8, nn.ReLU, 2.0), **options).rows] == layers


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        (["model"], {}, TypeError, "watch: model: expected a torch"),
        ([nn.Linear(2, 2), "adam"], {}, TypeError, "watch: optimizer"),
        ([nn.Linear(2, 2)], {"every": 0}, ValueError, "watch: every"),
        ([nn.Linear(2, 2)], {"scaler": 3.0}, TypeError, "watch: scaler"),
        ([nn.Linear(2, 2)], {"include": "nothing"}, ValueError, "at least one module"),
        ([nn.Linear(2, 2)], {"include": "("}, ValueError, r"include: expected a regular .* '\('"),
        ([nn.Linear(2, 2)], {"exclude": ["a", "*"]}, ValueError, "exclude: expected a regular"),
        ([nn.Linear(2, 2)], {"include": 3}, TypeError, "watch: include"),
    ],
)
def test_bad_arguments(arguments, options, error, match):
    with pytest.raises(error, match=match):
        torch_init.watch(*arguments, **options)
    for argument in arguments:
        assert not getattr(argument, "_forward_hooks", {})


def test_rich_prints_the_report_as_a_table(vanishing):
    rich = pytest.importorskip("rich.console")
    console = rich.Console(width=160, record=True, file=io.StringIO())
    console.print(vanishing)
    shown = console.export_text()
    assert "✗ vanishing at `0`" in shown and "log10 per layer" in shown
    assert all(row.layer in shown for row in vanishing.rows)
    assert str(vanishing).startswith("✗ vanishing")  # plain print needs no rich
