"""What this distribution adds to ttt-bench."""

from typing import TYPE_CHECKING

from ttt_bench import AdapterSpec, BackboneSpec, Capability, hookimpl

if TYPE_CHECKING:
    import click

PAPER = "Gandelsman et al. 2022, Test-Time Training with Masked Autoencoders (arXiv 2209.07522)"
GIVES: frozenset[Capability] = frozenset({"masked_autoencoder"})


def _row(name: str, summary: str, code: str, checkpoint: str, labelled_data: str) -> AdapterSpec:
    presets: dict[str, dict[str, object]] = {"tiny-mae": {"checkpoint": f"tiny-mae-{checkpoint}"}}
    if checkpoint == "vit-probe.pth":
        presets["mae:vit-large"] = {"checkpoint": "prob_lr1e-3_wd.2_blk12_ep20.pth"}
    return AdapterSpec(
        name=name,
        summary=summary,
        code=f"ttt_bench_ttt_mae.adapters:{code}",
        paper=PAPER,
        needs=GIVES,
        family="mae",
        presets=presets,
        labelled_data=labelled_data,
    )


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """TTT-MAE and the rows of its table without test-time training."""
    head = "its head was trained on the labelled training set"
    whole = "encoder and head were trained on the labelled training set"
    return [
        _row("vit-probe", "a head on the frozen encoder of an MAE", "ViTProbe",
             "vit-probe.pth", head),
        _row("fine-tune", "encoder and head trained on labels", "FineTune",
             "fine-tune.pth", whole),
        _row("joint-train", "encoder and head trained on labels and reconstruction", "JointTrain",
             "joint-train.pth", whole),
        _row("ttt-mae", "reconstructs each image from masked copies, then classifies it", "TTTMAE",
             "vit-probe.pth", head),
    ]  # fmt: skip


@hookimpl
def ttt_bench_backbones() -> list[BackboneSpec]:
    """The embedded autoencoder, the published one, and files."""
    return [
        BackboneSpec(
            name="tiny-mae",
            summary="embedded masked autoencoder for 32x32 images, of CIFAR-10's training images",
            code="ttt_bench_ttt_mae.backbone:TinyMae",
            gives=GIVES,
        ),
        BackboneSpec(
            name="mae",
            argument="vit-large|FILE",
            summary="the published MAE ViT-L as mae:vit-large, or a checkpoint file of your own",
            code="ttt_bench_ttt_mae.backbone:MaskedAutoencoderBackbone",
            gives=GIVES,
        ),
    ]


@hookimpl
def ttt_bench_commands(cli: "click.Group") -> None:
    """`ttt-bench ttt-mae pretrain` and `train`."""
    from ttt_bench_ttt_mae.commands import ttt_mae

    cli.add_command(ttt_mae)
