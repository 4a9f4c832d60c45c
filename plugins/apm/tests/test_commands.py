"""`ttt-bench apm`: every command on the embedded models, a photograph by path, and bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from matplotlib.figure import Figure
from PIL import Image
from torchvision.models import video
from ttt_bench_apm.analysis.costs import teacher_costs
from ttt_bench_apm.analysis.islands import Islands, watch_training
from ttt_bench_apm.analysis.reduction import PrincipalColours, reduce_fields
from ttt_bench_apm.methods.apm_network import Network, Sizes
from ttt_bench_apm.self_supervised.teacher import Teacher

from ttt_bench import UserError, load_backbone, seeded

TINY_ISLANDS = ("--steps", 4, "--every", 2, "--grid", 6, "--patch", 4, "--widths", 16, 16, 8)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    rows = np.linspace(0, 255, 60)[:, None].repeat(80, 1)
    pixels = np.stack([rows, rows.T[:60, :60].repeat(2, 1)[:, :80], 255 - rows], 2)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "slope.png")
    return tmp_path / "slope.png"


@pytest.fixture
def apm(ttt):
    def command(*arguments: object, code: int = 0) -> tuple[list[str], str]:
        exit_code, out, err = ttt("apm", *arguments)
        assert exit_code == code, err
        if code:
            assert err.count("\n") == 1, err
        return out.splitlines(), err

    return command


def frames(line: str) -> int:
    with Image.open(line) as image:
        return image.n_frames  # pyright: ignore[reportAttributeAccessIssue]


def opened(line: str) -> Image.Image:
    with Image.open(line) as image:
        image.load()
        return image


def test_islands_draws_the_fields_of_a_training(apm, photograph: Path):
    lines, _ = apm("islands", photograph, *TINY_ISLANDS, "-o", "out")
    assert lines[-2:] == ["out/slope-islands.png", "out/slope-islands.gif"]
    assert frames(lines[-1]) == 3
    assert opened(lines[-2]).width > 300
    assert lines[1].endswith("% of the last field's variance is there without the image too")


def test_a_watched_training_keeps_the_fields_of_its_steps():
    sizes = Sizes(grid=4, patch=3, widths=(16, 16, 8), features=32, heads=8)
    network = Network(sizes, torch.device("cpu"))
    weights = network.draw([torch.Generator().manual_seed(0)], 0.1)
    image, target = torch.rand(3, 12, 12), torch.ones(32)
    before = network.field(weights, image[None])[0].detach()
    training = watch_training(network, weights, image, target, steps=30, every=20, lr=1e-2)
    assert training.steps == [0, 20, 30]
    assert len(training.losses) == 31
    assert training.losses[-1] < 0.5 * training.losses[0]
    assert torch.equal(training.fields[0], before)
    assert torch.equal(training.fields[-1], network.field(weights, image[None])[0].detach())
    assert 0 <= training.position_share <= 1


def test_the_position_share_is_1_for_the_same_field_and_small_for_another():
    field, other = torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(0))
    same = Islands([0], [field], [0.0], 3 * field + 1).position_share
    assert same == pytest.approx(1)
    assert Islands([0], [field], [0.0], other).position_share < 0.1


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_reduction_is_seeded_and_keeps_neighbours(method):
    rng = np.random.default_rng(0)
    # Two clusters: nearest neighbours stay within one.
    field = rng.normal(size=(200, 10)) + np.repeat([[0.0], [9.0]], 100, axis=0)
    fields = [field.astype(np.float32), (field * 2).astype(np.float32)]
    first, last = reduce_fields(fields, 3, method, seed=1)
    assert np.array_equal(last, reduce_fields(fields, 3, method, seed=1)[1])
    assert (last.min(), last.max()) == (0, 1)
    assert first.shape == (200, 3)
    for values in (first, last):
        distances = np.linalg.norm(values[:, None] - values, axis=2) + 9 * np.eye(200)
        assert ((distances.argmin(1) < 100) == (np.arange(200) < 100)).mean() > 0.9


def test_colours_are_the_same_for_the_same_features():
    features = np.random.default_rng(0).normal(size=(50, 6))
    colours = PrincipalColours(features)
    assert np.array_equal(colours(features)[7:9], colours(features[7:9]))
    assert colours(features).shape == (50, 3)
    assert 0 < colours.explained <= 1


def test_features_draws_with_and_without_a_teacher(apm, photograph: Path):
    lines, _ = apm("features", photograph, "--fine", 12)
    assert opened(lines[-1]).size == opened(apm("features", "--fine", 12)[0][-1]).size
    lines, _ = apm("features", photograph, "--teacher", "none", "--fine", 12)
    assert lines == ["apm-figures/slope-features.png"]
    _, err = apm("features", photograph, "--teacher", "tiny-clop", code=2)
    assert "tiny-clip" in err


def test_reconstruct_is_nearer_than_the_mean_colour_and_interpolate_animates_every_step(
    apm, photograph: Path
):
    lines, _ = apm("reconstruct", photograph)
    numbers = [float(word.rstrip(",")) for word in lines[0].split() if word[0] == "0"]
    assert numbers[0] < 0.25 * numbers[1]
    lines, _ = apm("interpolate", "--steps", 3, "--fine", 8)
    assert frames(lines[1]) == 4
    _, err = apm("interpolate", photograph, code=2)
    assert "two photographs" in err


def test_a_query_does_not_depend_on_the_other_points(apm, photograph: Path):
    points = ("--at", "0.25,0.5", "--at", "1,0", "--at", "0.25,0.5")
    lines, err = apm("query", photograph, *points, "--fine", 10)
    first, corner, again = (json.loads(line) for line in lines)
    assert first == again
    assert (corner["at"], len(corner["rgb"]), len(corner["feature"])) == ([1, 0], 3, 128)
    difference = float(err.split("all points at once: ")[1].split()[0])
    assert difference < 1e-6
    for wrong in ("0.5", "2,0", "a,b"):
        assert repr(wrong) in apm("query", photograph, "--at", wrong, code=2)[1]


def test_a_sweep_measures_the_field_and_extrapolates_what_the_teacher_would_cost(
    apm, photograph: Path, monkeypatch: pytest.MonkeyPatch
):
    from ttt_bench_apm.analysis import costs

    monkeypatch.setattr(costs, "SIDES", (4, 7, 10, 20))
    lines, _ = apm("sweep", photograph, "--patience", 0)
    table = [line.split(",") for line in Path("apm-figures/sweep.csv").read_text().splitlines()]
    rows = {(row[0], int(row[1])): [float(v) if v else None for v in row[2:]] for row in table[1:]}
    # The field's cost is linear in the number of locations, the teacher's is not.
    assert rows["APM", 20][0] / rows["APM", 10][0] == pytest.approx(4, rel=0.1)  # pyright: ignore
    assert rows["tiny-mae", 20][1:] == [None, None]
    assert "not run" in "\n".join(lines)
    assert opened("apm-figures/sweep.png").width > 300


def test_extrapolated_flops_are_those_counted():
    teacher = Teacher("tiny-mae", load_backbone("tiny-mae", "cpu"))
    counted = teacher_costs(teacher, (7, 10, 14, 20), patience=1e9)
    guessed = teacher_costs(teacher, (7, 10, 14, 20), patience=0.0)
    assert guessed[-1].seconds is None
    assert guessed[-1].gflops == pytest.approx(counted[-1].gflops, rel=1e-6)


def test_video_islands_on_the_embedded_model(apm):
    lines, _ = apm("video-islands", "--side", 64, "--reduction", "pca")
    assert lines == ["apm-figures/embedded-1-tiny-clip-tokens.png"]
    opened(lines[0])
    _, err = apm("video-islands", "--block", 9, code=2)
    assert "blocks 1 to 2" in err
    assert "goes with" in apm("video-islands", "--untrained", code=2)[1]
    assert "exclude" in apm("video-islands", "--untrained", "--weights", "w", code=2)[1]
    assert "video:mvit_v2_s" in apm("video-islands", "-b", "video:mvit", code=2)[1]


def test_tokens_of_an_image_mvit_are_its_blocks_own():
    from ttt_bench_apm.analysis.block_tokens import image_tokens
    from ttt_bench_apm.self_supervised.images import square

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    first, third = image_tokens("timm:test_vit", image, [1, 3], "cpu", untrained=True)
    with seeded(0):
        model = timm.create_model("test_vit").eval()
    mean, std = (torch.tensor(model.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))  # pyright: ignore
    pixels = ((square(image, 160).float() / 255 - mean) / std)[None]
    with torch.no_grad():
        kept = model.forward_intermediates(pixels, indices=[0, 2], intermediates_only=True)  # pyright: ignore
    torch.testing.assert_close(first, kept[0][0].permute(1, 2, 0))
    torch.testing.assert_close(third, kept[1][0].permute(1, 2, 0))
    grids = image_tokens("timm:mvitv2_tiny", image, [1, 2], "cpu", untrained=True)
    assert [tuple(grid.shape) for grid in grids] == [(56, 56, 96), (28, 28, 192)]


def small_video_model():
    """torchvision's class with three blocks of few channels."""
    kernel, plain, pooled = [3, 3, 3], [1, 1, 1], [1, 8, 8]
    setting = [
        video.mvit.MSBlockConfig(1, 8, 8, kernel, kernel, plain, pooled),
        video.mvit.MSBlockConfig(1, 8, 8, kernel, kernel, plain, pooled),
        video.mvit.MSBlockConfig(1, 8, 16, kernel, kernel, [1, 2, 2], [1, 4, 4]),
    ]
    return video.MViT(
        spatial_size=(224, 224),
        temporal_size=16,
        block_setting=setting,
        residual_pool=True,
        residual_with_cls_embed=False,
        rel_pos_embed=True,
        proj_after_attn=True,
    )


def test_video_islands_takes_the_tokens_of_a_video_of_one_image(
    apm, photograph: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from ttt_bench_apm.analysis import block_tokens

    weights = video.MViT_V2_S_Weights.KINETICS400_V1
    monkeypatch.setitem(block_tokens.VIDEO_MODELS, "mvit_v2_s", (small_video_model, weights))
    torch.save(small_video_model().state_dict(), tmp_path / "w.pth")
    image = Image.open(photograph).convert("RGB")
    run = ("video:mvit_v2_s", image, [1, 3], torch.device("cpu"))
    first, third = block_tokens.video_tokens(*run, weights=tmp_path / "w.pth")
    assert (first.shape, third.shape) == ((56, 56, 8), (28, 28, 16))
    again, _ = block_tokens.video_tokens(*run, weights=tmp_path / "w.pth")
    assert torch.equal(first, again)
    video_command = ("video-islands", photograph, "-b", "video:mvit_v2_s", "--reduction", "pca")
    lines, _ = apm(*video_command, "--weights", "w.pth")
    opened(lines[0])
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pth")
    assert "does not fit" in apm(*video_command, "--weights", "x.pth", code=2)[1]

    def unreachable(*arguments: object, **more: object):
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    _, err = apm(*video_command, code=2)
    assert "no route" in err
    assert "--untrained" in err


def test_bad_input_is_one_line_with_exit_code_2(apm, tmp_path: Path):
    assert "no such file" in apm("features", "nowhere.jpg", code=2)[1]
    assert "no such file" in apm("reconstruct", "-c", "nowhere.pth", code=2)[1]
    if not torch.cuda.is_available():
        assert "--device cuda" in apm("features", "--device", "cuda", code=2)[1]
    assert "grid=5 is odd" in apm("islands", "--grid", 5, code=2)[1]
    (tmp_path / "taken").write_text("")
    assert "'taken' is a file" in apm("reconstruct", "-o", "taken", code=2)[1]
    assert "another -o" in apm("reconstruct", "-o", "taken/more", code=2)[1]


def test_an_unwritable_figure_is_a_user_error(tmp_path: Path):
    from ttt_bench_apm.analysis.drawing import save_figure

    with pytest.raises(UserError, match="cannot write"):
        save_figure(Figure(), tmp_path / "a" / ("x" * 300 + ".png"))
