"""Compare our implementations with numbers that the methods' original releases gave.

    python tests/golden_check.py FILE.npz

prints one JSON line: the kind of the file, and for every stored output the largest absolute
difference and the same relative to the output's largest value.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

Arrays = Mapping[str, np.ndarray]
Pairs = dict[str, tuple[np.ndarray, np.ndarray]]


def check_apm_ttt(file: Arrays) -> Pairs:
    """APM's test-time training: every case of the file, all inputs drawn from its seed."""
    return {
        f"{case}/{name}": pair
        for case in dict.fromkeys(name.split("/")[0] for name in file)
        for name, pair in _apm_case(file, case).items()
    }


def _apm_case(file: Arrays, case: str) -> Pairs:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from ttt_bench_apm.methods.apm import APMConfig, fit
    from ttt_bench_apm.methods.apm_network import Network, Sizes

    from tests.oracles.apm import stacked

    rng = np.random.default_rng(int(file[f"{case}/seed"]))
    parameters = {}
    for line in file[f"{case}/param_order"]:
        name, _, shape = str(line).partition(" ")
        drawn = rng.standard_normal(_shape(shape), np.float32) * np.float32(0.01)
        parameters[name] = torch.from_numpy(drawn)
    patch = parameters["conv1.weight"].shape[-1]
    grid = round((parameters["fc1.weight"].shape[1] // 2) ** 0.5)
    side = patch * grid
    image = torch.from_numpy(rng.standard_normal((1, 3, side, side), np.float32))
    target = torch.from_numpy(file[f"{case}/target"]).reshape(1, -1)
    sizes = Sizes(
        grid=grid,
        patch=patch,
        widths=tuple(len(parameters[f"fc{layer}.weight"]) for layer in (1, 4, 5)),
        features=target.shape[1],
        heads=8,
    )
    network = Network(sizes, torch.device("cpu"))
    weights = stacked(parameters)
    steps = len(file[f"{case}/losses"])
    pooled = fit(network, weights, image, target, APMConfig(steps=steps))[0]
    with torch.no_grad():
        field = network.field(weights, image)[0].view(grid, grid, -1)
    sampled = torch.arange(4) * grid // 4
    ours = {
        "losses": (pooled[:-1] - target).square().mean(dim=1),
        "pooled": pooled,
        "grid_sample": field[sampled][:, sampled],
    }
    return {name: (value.numpy(), file[f"{case}/{name}"]) for name, value in ours.items()}


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.strip("()").split(",") if part.strip())


def check_tpt(file: Arrays) -> Pairs:
    """TPT at 1, 2 and 4 steps, CoCoOp, and TPT from CoCoOp, on the file's own tiny CLIP."""
    from open_clip.model import build_model_from_openai_state_dict
    from open_clip.tokenizer import SimpleTokenizer
    from ttt_bench_tpt.checkpoints import MetaNet, Prompt
    from ttt_bench_tpt.methods.tpt import tune
    from ttt_bench_tpt.text import ClassTexts, embed_words

    from ttt_bench import marginal_entropy, select_confident

    arrays = {
        name: torch.from_numpy(value) for name, value in file.items() if value.dtype.kind != "U"
    }
    state = {name[5:]: value for name, value in arrays.items() if name.startswith("clip/")}
    # Building rounds the weights to float16.
    model = build_model_from_openai_state_dict(dict(state)).float()
    model.load_state_dict(state)
    model.eval().requires_grad_(False)
    tokenizer = SimpleTokenizer()
    names = [str(name) for name in file["class_names"]]
    scale = model.logit_scale.exp()
    raw = model.encode_image(arrays["views"])[None]
    views = F.normalize(raw, dim=2)
    start = embed_words(model, tokenizer, "a photo of a")
    texts = ClassTexts(model, tokenizer, names, len(start))

    def logits(context: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return scale * torch.bmm(features, texts(context).mT)

    ours: dict[str, torch.Tensor] = {}
    share, lr = 0.25, 5e-3
    for case in sorted({name.split("/")[0] for name in file if name.startswith("steps")}):
        before = logits(start[None], views)
        kept = select_confident(before, share)
        after, predictions = tune(logits, start[None], views, int(case[5:]), lr, share)
        ours |= {
            f"{case}/logits_before": before[0],
            f"{case}/selected": kept[0],
            f"{case}/loss_before": marginal_entropy(before[:, kept[0]])[0],
            f"{case}/ctx_before": start,
            f"{case}/ctx_after": after[0],
            f"{case}/logits_after": predictions[:, -1],
        }
    if "cocoop/ctx" in arrays:
        layers = {n[16:]: v for n, v in arrays.items() if n.startswith("cocoop/meta_net.")}
        hidden, size = layers["linear1.weight"].shape
        meta_net = MetaNet(size, hidden, len(layers["linear2.weight"])).requires_grad_(False)
        meta_net.load_state_dict(layers)
        prompt = Prompt(arrays["cocoop/ctx"], meta_net)
        few = views[0, : len(arrays["cocoop/logits"])]
        ours["cocoop/logits"] = logits(prompt.conditioned_on(few), few[:, None])[:, 0]
        # As released, TPT hands the meta network the feature before normalization.
        context = prompt.conditioned_on(raw[:, 0])
        after, predictions = tune(logits, context, views, 1, lr, share)
        ours |= {
            "tpt_cocoop/ctx_before": context,
            "tpt_cocoop/ctx_after": after,
            "tpt_cocoop/logits_after": predictions[:, -1],
        }
    return {name: (value.numpy(), file[name]) for name, value in ours.items() if name in file}


def check_ttt_mae(file: Arrays) -> Pairs:
    """TTT-MAE by SGD and by AdamW, on the file's own tiny model and masks."""
    from ttt_bench_ttt_mae.checkpoints import Checkpoint, autoencoder, head
    from ttt_bench_ttt_mae.methods.ttt_mae import TTTMAEConfig, make_optimizer, tune, working_copy

    state = {name[6:]: torch.from_numpy(v) for name, v in file.items() if name.startswith("model/")}
    # Shapes do not tell the number of attention heads; the description of the file does.
    heads = {"encoder": 4, "decoder": 4, "classifier": 4}
    checkpoint = Checkpoint(Path("golden file"), state, heads)
    model = autoencoder(checkpoint)
    classifier = head(checkpoint, model)
    side = model.sizes.image
    image = torch.from_numpy(file["image"]).reshape(1, 3, side, side)
    masks = torch.from_numpy(file["mask_noise"])
    pairs: Pairs = {}
    for case, name in (("sgd", "sgd"), ("adam_w", "adamw")):
        if f"{case}/lr" in file:
            config = TTTMAEConfig(optimizer=name, lr=float(file[f"{case}/lr"]))
            learner, optimizer = working_copy(model), make_optimizer(config)
            losses, logits = tune(learner, classifier, image, masks, optimizer)
            pairs[f"{case}/losses"] = (losses.numpy(), file[f"{case}/losses"])
            expected = file[f"{case}/logits"]
            pairs[f"{case}/logits"] = (logits.numpy().reshape(expected.shape), expected)
    return pairs


def check_apm_ssl(file: Arrays) -> Pairs:
    """The self-supervised APM: what it answers, between images too, and its training."""
    from ttt_bench_apm.self_supervised.interpolation import interpolate
    from ttt_bench_apm.self_supervised.locations import lattice
    from ttt_bench_apm.self_supervised.network import FieldSizes, PerceptionField, query
    from ttt_bench_apm.self_supervised.targets import average_colours
    from ttt_bench_apm.self_supervised.training import losses, optimizer_of

    rng = np.random.default_rng(int(file["seed"]))
    state = {}
    for line in file["param_order"]:
        name, _, shape = str(line).partition(" ")
        drawn = rng.standard_normal(_shape(shape), np.float32) * np.float32(0.02)
        state[name] = torch.from_numpy(drawn)
    inputs, code = state["fc1.weight"].shape[1], state["fc1.weight"].shape[1] // 2
    sizes = FieldSizes(
        grid=round((inputs - code) ** 0.5),
        patch=state["conv1.weight"].shape[-1],
        code=code,
        widths=tuple(len(v) for n, v in state.items() if n.startswith("fc") and v.ndim == 2),
        features=len(state["feat_proj_head.weight"]),
        colour=len(state["rgb_head_1.weight"]),
    )
    one, other = (
        torch.from_numpy(rng.random((1, 3, sizes.image, sizes.image), np.float32)) for _ in range(2)
    )
    shape = (1, sizes.grid**2, sizes.features)
    targets = torch.from_numpy(rng.standard_normal(shape, np.float32))
    network = PerceptionField(sizes)
    network.load_state_dict(state)
    grid = lattice(sizes.grid, sizes.grid)
    locations = grid[torch.from_numpy(file["grid_rows"])]
    with torch.no_grad():
        values = query(network, network.trigger(one)[0], locations)
    steps = len(file["interpolated_features"])
    between = list(interpolate(network, one[0], other[0], steps, locations))
    optimizer = optimizer_of(network, 1e-4)
    colours = average_colours(one, sizes.patch)
    trajectory = []
    for _ in file["losses"]:
        optimizer.zero_grad()
        feature, rgb = losses(network, one, grid, targets, colours)
        (feature + rgb).backward()
        optimizer.step()
        trajectory.append(torch.stack([feature + rgb, feature, rgb]).detach())
    ours = {
        "features": values.features,
        "rgb": values.rgb,
        "interpolated_features": torch.stack([p.features for p in between]),
        "interpolated_rgb": torch.stack([p.rgb for p in between]),
        "losses": torch.stack(trajectory),
    }
    return {name: (value.numpy(), file[name]) for name, value in ours.items()}


CHECKS = {
    "apm_ttt": check_apm_ttt,
    "apm_ssl": check_apm_ssl,
    "tpt": check_tpt,
    "ttt_mae": check_ttt_mae,
}


def recognise(file: Arrays) -> str:
    """Which kind of golden file this is, by what it holds.

    Raises:
        ValueError: none that we implement.
    """
    names = {name.split("/")[-1] for name in file}
    if {"param_order", "pooled", "losses", "grid_sample"} <= names:
        return "apm_ttt"
    if {"param_order", "interpolated_features", "grid_rows"} <= names:
        return "apm_ssl"
    if {"views", "class_names"} <= names and any(name.startswith("clip/") for name in file):
        return "tpt"
    if {"mask_noise", "image", "mask_token"} <= names | {n.removeprefix("model/") for n in file}:
        return "ttt_mae"
    raise ValueError("not a golden file of a method that is here: " + ", ".join(sorted(file)[:5]))


def compare(path: Path) -> dict:
    """The JSON object that the command prints."""
    with np.load(path) as npz:
        file = {name: npz[name] for name in npz.files}
    kind = recognise(file)
    pairs = CHECKS[kind](file)
    difference = {name: float(np.abs(a - b).max()) for name, (a, b) in pairs.items()}
    return {
        "kind": kind,
        "max_abs_diff": difference,
        "max_rel_diff": {
            name: difference[name] / float(np.abs(b).max()) for name, (_, b) in pairs.items()
        },
    }


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/golden_check.py FILE.npz")
    try:
        result = compare(Path(sys.argv[1]))
    except (OSError, ValueError) as error:
        sys.exit(f"golden_check: {sys.argv[1]}: {error}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
