"""The picture of a fit: what it shows, that it can be read, and that it needs nothing it does not have."""

import io
import itertools
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
import torch

import fastlam
from fastlam import plot
from fastlam.plot import plot_fit

TIMES = np.arange(1, 41) / 10


def problem(n_paths: int = 60, noise: float = 0.05, dtype: str = "float64", **options: object):
    x = fastlam.simulate(fastlam.Brownian(mu=0.05, sigma=0.2), TIMES, n_paths, seed=7, dtype=dtype)
    k = fastlam.mean_square(x, lam=0.25) * (1 + noise * np.random.default_rng(0).standard_normal(len(x)))
    return x, fastlam.fit(x, k, **{"epochs": 3, "lr": 0.1, **options})


def panels(figure):
    return {axes.get_title().split(" ")[0]: axes for axes in figure.axes}


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def png(figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    return matplotlib.image.imread(file)


def test_four_panels():
    x, result = problem()
    figure = plot_fit(result, paths=x, times=TIMES)
    shown = panels(figure)
    assert list(shown) == ["50", "Targets", "Loss", "lam"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["time", "time", "epoch", "epoch"]
    assert all(axes.get_ylabel() for axes in figure.axes)
    assert len(shown["50"].lines) == 50
    np.testing.assert_array_equal(shown["50"].lines[3].get_ydata(), x[:, 3])
    assert legend(shown["Targets"]) == ["k, trained on", "k, held out", "fit, lam · mean of x²"]
    assert legend(shown["Loss"]) == ["training times", "hold-out times"]
    assert shown["Loss"].get_yscale() == "log"
    assert legend(shown["lam"]) == ["trained", f"closed form, {result.closed_form:.6g}"]


def test_the_title_counts_the_paths_that_were_fitted():
    x, result = problem()
    some = [plot_fit(result, paths=x[:, :5], n_paths=n).axes[0].get_title() for n in (None, 20_000)]
    assert some == ["5 of 5 paths", "5 of 20,000 paths"]


def test_what_is_drawn_is_the_result():
    x, result = problem()
    figure = plot_fit(result, paths=x)
    shown = panels(figure)
    drawn = lines(shown["Targets"])
    np.testing.assert_array_equal(drawn["k, held out"].get_xdata(), result.holdout)
    np.testing.assert_array_equal(drawn["k, held out"].get_ydata(), result.targets[result.holdout])
    assert sorted([*drawn["k, trained on"].get_xdata(), *result.holdout]) == list(range(len(x)))
    np.testing.assert_allclose(drawn["fit, lam · mean of x²"].get_ydata(), result.lam * np.mean(x**2, axis=1))
    np.testing.assert_array_equal(lines(shown["lam"])["trained"].get_ydata(), result.history["lam"])
    np.testing.assert_array_equal(lines(shown["Loss"])["hold-out times"].get_ydata(), result.history["holdout_loss"])
    markers = {line.get_marker() for name, line in drawn.items() if name.startswith("k")}
    assert len(markers) == 2, "the hold-out must be told apart without colours too"


def test_three_panels_without_paths():
    _, result = problem(holdout=0.0)
    shown = panels(plot_fit(result))
    assert list(shown) == ["Targets", "Loss", "lam"]
    assert legend(shown["Targets"]) == ["k, trained on", "fit, lam · mean of x²"]
    assert legend(shown["Loss"]) == ["training times"]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, np.asfortranarray])
def test_kinds_of_paths(kind):
    x, result = problem()
    figure = plot_fit(result, paths=kind(x), times=kind(TIMES))
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), x[:, 0])


@pytest.mark.parametrize("options", [{}, {"paths": True}, {"paths": True, "times": True}])
@pytest.mark.parametrize("fit", [{}, {"epochs": 1}, {"epochs": 80}, {"noise": 0.0}, {"n_paths": 1, "holdout": 0.0}])
def test_no_text_lies_on_another(options, fit):
    x, result = problem(**fit)
    figure = plot_fit(result, paths=x if "paths" in options else None, times=TIMES if "times" in options else None)
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    for (one, box), (other, rival) in itertools.combinations(boxes, 2):
        assert not box.overlaps(rival), f"{one!r} lies on {other!r}"


def test_the_picture_has_ink_and_the_named_colours():
    x, result = problem()
    picture = png(plot_fit(result, paths=x, times=TIMES))
    assert picture.shape[0] > 600
    assert picture.shape[1] > 900
    colours = {tuple(colour) for colour in np.round(picture[..., :3].reshape(-1, 3) * 255).astype(int)}
    green, black = (0x00, 0x9E, 0x73), (0, 0, 0)
    assert {green, black} <= colours


def test_a_few_points_stand_for_many(monkeypatch):
    monkeypatch.setattr(plot, "MAX_POINTS", 10)
    x, result = problem()
    figure = plot_fit(result, paths=x)
    assert max(len(line.get_xdata()) for axes in figure.axes[:2] for line in axes.lines) <= 10
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), x[::4, 0])


def test_only_the_paths_drawn_are_read():
    x, result = problem()

    class Watched:
        ndim, shape, read = 2, x.shape, 0

        def __getitem__(self, key):
            self.read += x[key].size
            return x[key]

    watched = Watched()
    plot_fit(result, paths=watched)
    assert watched.read == 40 * 50


def test_one_time_one_path():
    x = np.array([[1.0]])
    result = fastlam.fit(x, np.array([0.25]), holdout=0.0, epochs=1)
    figure = plot_fit(result, paths=x)
    assert figure.axes[0].lines[0].get_marker() == "."
    assert png(figure).size


def test_a_diverged_fit_can_be_drawn():
    with pytest.warns(UserWarning, match=r"lr = .* is above|diverged"):
        x, result = problem(optimizer="sgd", lr=1e12, epochs=200)
    assert png(plot_fit(result, paths=x)).size


def test_a_loss_of_zero_has_no_logarithm():
    x = np.ones((4, 2))
    result = fastlam.fit(x, np.zeros(4), epochs=2)
    assert panels(plot_fit(result))["Loss"].get_yscale() == "linear"


@pytest.mark.parametrize(
    ("paths", "times", "message"),
    [
        (np.ones((3, 2)), None, r"paths must have shape \(40, n\).*but has \(3, 2\)"),
        (np.ones(40), None, r"paths must have shape \(40, n\).*but has \(40,\)"),
        (None, np.ones(3), r"times must have shape \(40,\).*but has \(3,\)"),
    ],
)
def test_shapes_that_do_not_match(paths, times, message):
    _, result = problem()
    with pytest.raises(ValueError, match=message):
        plot_fit(result, paths=paths, times=times)


def test_result_plot_saves(tmp_path):
    x, result = problem()
    result.plot(tmp_path / "fit.png", paths=x)
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")


def test_pyplot_is_not_imported():
    code = "import fastlam.plot, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_matplotlib():
    code = "import sys; sys.modules['matplotlib'] = None; import fastlam; import fastlam.plot"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert 'ImportError: pictures need matplotlib: pip install "fastlam[cli]"' in done.stderr
