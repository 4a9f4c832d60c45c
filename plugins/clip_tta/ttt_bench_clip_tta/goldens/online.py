"""The methods of kind `stream` on the features of a golden file, along its samples.

Items of a cache are compared class after class, those of the lowest entropy first.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from ttt_bench import Adapter
from ttt_bench_clip_tta.cache import ClassCache
from ttt_bench_clip_tta.goldens.file import FeatureFile
from ttt_bench_clip_tta.methods import boostadapter, dmn, dpe, onzeta, tda
from ttt_bench_clip_tta.views import view_statistics
from ttt_bench_clip_tta.walk import one_by_one

MethodT = TypeVar("MethodT", bound=Adapter[Any])
# Cases whose samples have a single view, and the case of DPE that predicts from the views.
WITHOUT_VIEWS, FROM_VIEWS = ("tda/single", "dpe/dtd"), ("dpe/A",)


def begin(file: FeatureFile, method: type[MethodT], **settings: Any) -> MethodT:
    """Return a method at the beginning of a stream, with the texts of the file."""
    adapter: Any = method(method.Config(**settings))
    adapter.text, adapter.scale = file.text, file.scale
    adapter.begin()
    return adapter


def items(cache: ClassCache, value: Tensor) -> Tensor:
    """Return a value of all items of a cache, class after class."""
    return value.transpose(0, 1)[cache.filled.T]  # (K, C, ...) -> (C, K, ...) -> (items, ...)


def caches(case: str, method: tda.TDA) -> dict[str, Tensor]:
    """Return what TDA's two caches hold."""
    computed = {}
    for name, cache in (("positive", method.positive), ("negative", method.negative)):
        computed[f"{case}/{name}/feature"] = items(cache, cache.features)
        computed[f"{case}/{name}/entropy"] = items(cache, cache.entropies)
    return computed


def tda_settings(file: FeatureFile, method: str) -> dict[str, Any]:
    """Return the settings of both caches."""
    capacity, alpha, beta = file.tensor(f"{method}/hyper/positive").tolist()
    negative = file.tensor(f"{method}/hyper/negative").tolist()
    return {
        "selection": file.value(f"{method}/hyper/view_fraction"),
        "capacity": int(capacity),
        "alpha": alpha,
        "beta": beta,
        "negative_capacity": int(negative[0]),
        "negative_alpha": negative[1],
        "negative_beta": negative[2],
        "entropy_above": negative[3],
        "entropy_below": negative[4],
        "probability_above": negative[5],
    }


def run_tda(file: FeatureFile) -> Mapping[str, Tensor]:
    """Return logits and caches, with a single view and with all views."""
    computed: dict[str, Tensor] = {}
    for case in file.cases("tda/logits"):
        settings = tda_settings(file, "tda")
        views = file.views[:, :1] if case in WITHOUT_VIEWS else file.views
        statistics = view_statistics(views, file.logits(views.shape[1]), settings["selection"])
        method = begin(file, tda.TDA, **settings)
        logits = torch.stack([method.predict(seen) for seen in one_by_one(statistics)])
        computed |= {f"{case}/logits": logits, f"{case}/predictions": logits.argmax(dim=1)}
        computed |= caches(case, method)
    return computed


def run_boostadapter(file: FeatureFile) -> Mapping[str, Tensor]:
    """Return logits and caches, with the caches seeing the views (`ood`) or the image (`fine`)."""
    computed: dict[str, Tensor] = {}
    for case in file.cases("boostadapter/logits"):
        method = begin(
            file,
            boostadapter.BoostAdapter,
            delta=int(file.value(f"{case}/hyper/delta")),
            seen_as="image" if case.endswith("fine") else "views",
            **tda_settings(file, "boostadapter"),
        )
        predictions = method.predict_batch(file.views, file.logits())
        logits = torch.stack([prediction.logits for prediction in predictions])
        computed |= {f"{case}/logits": logits, f"{case}/predictions": logits.argmax(dim=1)}
        computed |= caches(case, method)
    return computed


def run_dpe(file: FeatureFile) -> Mapping[str, Tensor]:
    """Return logits, texts and caches."""
    computed: dict[str, Tensor] = {}
    for case in file.cases("dpe/logits"):
        capacity, alpha, beta, lr, _, align = file.tensor(f"{case}/hyper").tolist()
        method = begin(
            file,
            dpe.DPE,
            capacity=int(capacity),
            alpha=alpha,
            beta=beta,
            lr=lr,
            align=align,
            predict_from="views" if case in FROM_VIEWS else "image",
            update_below=file.value("dpe/hyper/update_below"),
        )
        samples = file.views[:, :1] if case in WITHOUT_VIEWS else file.views
        logits = torch.stack([method.predict(views) for views in samples])
        bits = math.log2(len(file.text))
        computed |= {
            f"{case}/logits": logits,
            f"{case}/text_global": method.texts.T,
            f"{case}/text_updates": torch.tensor(method.updates),
            f"{case}/cache/feature": items(method.cache, method.cache.features),
            f"{case}/cache/entropy": items(method.cache, method.cache.entropies) / bits,
        }
    return computed


def run_dmn(file: FeatureFile) -> Mapping[str, Tensor]:
    """Return both distributions, their sum's class, and the memory."""
    computed: dict[str, Tensor] = {}
    plain = file.logits()[:, 0]
    for case in file.cases("dmn/memory_probabilities"):
        method = begin(
            file,
            dmn.DMN,
            capacity=file.tensor(f"{case}/memory").shape[1],
            beta=file.value("dmn/hyper/beta"),
            selection=file.value("dmn/hyper/selection"),
            weight=file.value("dmn/hyper/memory_weight"),
        )
        read = method.read_batch(file.views, file.logits())
        scores = torch.stack([method.scores(*pair) for pair in zip(plain, read, strict=True)])
        computed |= {
            f"{case}/text_probabilities": plain.softmax(dim=1),
            f"{case}/memory_probabilities": torch.stack(read).softmax(dim=1),
            f"{case}/predictions": scores.argmax(dim=1),
            f"{case}/memory_count": method.memory.filled.sum(dim=0),
        }
    return computed


def run_onzeta(file: FeatureFile) -> Mapping[str, Tensor]:
    """Return the labels of every sample, and what is learned by the end of the stream."""
    if "onzeta/probabilities" not in file:
        return {}
    fields = {
        "temperature": "tau_i",
        "proxy_rate": "cw",
        "balance_rate": "cr",
        "balance": "alpha",
        "vision_weight": "beta",
    }
    values = {field: file.value(f"onzeta/hyper/{name}") for field, name in fields.items()}
    method = begin(file, onzeta.OnZeta, length=len(file.views), **values)
    pairs = [
        method.predict(feature, logits)
        for feature, logits in zip(file.views[:, 0], file.logits(1)[:, 0], strict=True)
    ]
    labels, text_labels = (torch.stack(some) for some in zip(*pairs, strict=True))
    return {
        "onzeta/probabilities": labels,
        "onzeta/text_probabilities": text_labels,
        "onzeta/predictions": labels.argmax(dim=1),
        "onzeta/rho": method.dual,
        "onzeta/vision_weights": method.proxies.T,
    }


METHODS = (run_tda, run_boostadapter, run_dpe, run_dmn, run_onzeta)
