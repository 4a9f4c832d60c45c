"""CLIP's online methods after encoding: caches as lists of lists against caches as tensors.

    python benchmarks/clip_online.py

Features are drawn: 64 views of each sample, of 512 numbers, and 1000 classes as on ImageNet (10
with --classes 10). Every class has its full number of items when the measurement begins. The plain
forms keep a list of items for each class and make tensors of them for each sample, as the releases
of TDA, BoostAdapter and DPE do. Both forms get the same samples and have to agree. One process, one
thread; a number is the mean milliseconds per sample of CPU time, view logits included.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from ttt_bench_clip_tta.cache import ClassCache
from ttt_bench_clip_tta.methods import boostadapter, dmn, dpe, onzeta, tda
from ttt_bench_clip_tta.views import view_statistics
from ttt_bench_clip_tta.walk import one_by_one

from ttt_bench import batch_invariant_matmul

DIM, VIEWS, SHARE, SCALE, BATCH = 512, 64, 0.1, 100.0, 16
Lists = dict[int, list[list[Any]]]
# Logits or probabilities of the samples, and seconds.
Measured = tuple[list[Tensor], float]


class Inputs:
    """What both forms are given: texts, samples, and the items that caches begin with."""

    def __init__(self, classes: int, samples: int, views: int) -> None:
        self.draw = torch.Generator().manual_seed(0)
        self.common = torch.randn(DIM, generator=self.draw)
        self.text = self._drawn(classes)
        self.classes, self.samples = classes, samples
        of_class = torch.randint(0, classes, (samples,), generator=self.draw)
        noise = self._drawn(samples * views).view(samples, views, DIM)
        self.views = F.normalize(self.text[of_class][:, None] + 0.7 * noise, dim=2)

    def _drawn(self, number: int) -> Tensor:
        drawn = torch.randn(number, DIM, generator=self.draw)
        return F.normalize(drawn + 1.5 * self.common, dim=1)

    def fill(self, cache: ClassCache) -> None:
        """Fill every place of a cache."""
        places = len(cache.entropies)
        entropies = 3 + torch.rand(places, self.classes, generator=self.draw)
        cache.entropies.copy_(entropies.sort(dim=0)[0])
        noise = self._drawn(places * self.classes).view(places, self.classes, DIM)
        cache.features.copy_(F.normalize(self.text + 0.7 * noise, dim=2))

    def batches(self) -> list[Tensor]:
        """Return the samples, a batch after another."""
        return list(self.views.split(BATCH))


def as_lists(cache: ClassCache, extra: str = "") -> Lists:
    """Return the items of a cache as a list for each class."""
    lists: Lists = {}
    for label in range(cache.entropies.shape[1]):
        for place in range(len(cache.entropies)):
            item = [
                cache.features[place, label][None].clone(),
                float(cache.entropies[place, label]),
            ]
            item += [cache.values[extra][place, label][None].clone()] if extra else []
            lists.setdefault(label, []).append(item)
    return lists


def begin(method: type[Any], inputs: Inputs, **settings: Any) -> Any:
    """Return a method at the beginning of a stream."""
    adapter = method(method.Config(**settings))
    adapter.text, adapter.scale = inputs.text, SCALE
    adapter.begin()
    return adapter


def entropy_of(logits: Tensor) -> Tensor:
    """Return the entropies of rows of logits."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def plain_statistics(views: Tensor, text: Tensor) -> tuple[Tensor, Tensor, float, Tensor, int]:
    """Return feature, logits, entropy, distribution and class of one sample's views."""
    logits = SCALE * views @ text.T
    if len(views) == 1:
        own = float(entropy_of(logits).detach())
        return views, logits, own, logits.softmax(1), int(logits.argmax())
    chosen = entropy_of(logits).argsort()[: int(len(views) * SHARE)]
    kept = logits[chosen]
    mean = kept.softmax(1).mean(0, keepdim=True)
    own = float(-(mean * mean.log()).sum().detach())
    logits = kept.mean(0, keepdim=True)
    return views[chosen].mean(0, keepdim=True), logits, own, mean, int(logits.argmax())


def add(lists: Lists, label: int, item: list[Any], capacity: int) -> None:
    """Put an item into the list of its class, and leave the most certain ones there."""
    lists.setdefault(label, []).append(item)
    lists[label] = sorted(lists[label], key=lambda one: one[1])[:capacity]


def raised(feature: Tensor, lists: Lists, beta: float, classes: int) -> Tensor:
    """Return the sum of the affinities to each class's items."""
    keys, labels = [], []
    for label in sorted(lists):
        for item in lists[label]:
            keys.append(item[0])
            labels.append(label)
    values = F.one_hot(torch.tensor(labels), classes).float()
    return torch.exp(beta * (feature @ torch.cat(keys).T) - beta) @ values


def lowered(feature: Tensor, lists: Lists, classes: int) -> Tensor:
    """Return the sum of the affinities to the items that lower each class."""
    keys, values = [], []
    for label in sorted(lists):
        for item in lists[label]:
            keys.append(item[0])
            values.append(item[2])
    if not keys:
        return torch.zeros(1, classes)
    probabilities = torch.cat(values)
    against = ((probabilities > 0.03) & (probabilities < 1)).float()
    return torch.exp(feature @ torch.cat(keys).T - 1) @ against


def plain_tda(inputs: Inputs, positive: Lists, negative: Lists, delta: int | None) -> Measured:
    """Run TDA, or BoostAdapter with its delta."""
    began, results, classes = time.process_time(), [], inputs.classes
    for views in inputs.views:
        feature, logits, own, mean, label = plain_statistics(views, inputs.text)
        add(positive, label, [feature, own], 3)
        read = positive
        if delta is not None:
            read = {label: list(items) for label, items in positive.items()}
            scores = SCALE * views @ inputs.text.T
            entropies = entropy_of(scores)
            for view in entropies.argsort()[: int(len(views) * SHARE)].tolist():
                item = [views[view][None], float(entropies[view])]
                add(read, int(scores[view].argmax()), item, 3 + delta)
        if 0.2 < own / math.log2(classes) < 0.5:
            if delta is None:
                add(negative, label, [feature, own, mean], 2)
            else:
                negative[label] = [*negative.get(label, []), [feature, own, mean]][-2:]
        scores = logits + 2 * raised(feature, read, 5.0, classes)
        results.append((scores - 0.117 * lowered(feature, negative, classes))[0])
    return results, time.process_time() - began


def measure_tda(inputs: Inputs, delta: int | None) -> tuple[Measured, Measured]:
    """Measure both forms of TDA or BoostAdapter."""
    kind = tda.TDA if delta is None else boostadapter.BoostAdapter
    method = begin(kind, inputs, **({} if delta is None else {"delta": delta}))
    inputs.fill(method.positive)
    inputs.fill(method.negative)
    against = torch.rand(method.negative.values["lowered"].shape, generator=inputs.draw) < 0.01
    method.negative.values["lowered"].copy_(against.float() / 2)
    lists = as_lists(method.positive), as_lists(method.negative, "lowered")
    method.negative.values["lowered"].copy_(against.float())
    plain = plain_tda(inputs, *lists, delta)
    began, results = time.process_time(), []
    for views in inputs.batches():
        logits = SCALE * batch_invariant_matmul(views, inputs.text.T)
        if delta is None:
            statistics = view_statistics(views, logits, SHARE)
            results += [method.predict(seen) for seen in one_by_one(statistics)]
        else:
            results += [one.logits for one in method.predict_batch(views, logits)]
    return plain, (results, time.process_time() - began)


def plain_dpe(inputs: Inputs, lists: Lists, align: float) -> Measured:
    """Run DPE with a network module's ways: parameters, an optimizer, a backward pass."""
    began, results, classes = time.process_time(), [], inputs.classes
    texts, updates = inputs.text.clone(), 0
    for views in inputs.views:
        residual = torch.zeros(classes, DIM, requires_grad=True)
        text = F.normalize(texts + residual, dim=1)
        feature, logits, own, _, label = plain_statistics(views, text)
        add(lists, label, [feature.detach(), own], 3)
        keys, labels = [], sorted(lists)
        for known in labels:
            prototype = torch.zeros(1, DIM)
            for item in lists[known]:
                prototype += item[0] / len(lists[known])
            keys.append(prototype)
        images, values = torch.cat(keys), F.one_hot(torch.tensor(labels), classes).float()
        own_residual = torch.zeros_like(images, requires_grad=True)
        unit = F.normalize(images + own_residual, dim=1)
        scores = logits + 6 * torch.exp(5 * (feature @ unit.T) - 5) @ values
        loss = entropy_of(scores).sum()
        nearest = unit @ F.normalize(texts + residual, dim=1)[labels].T / 0.01
        loss = loss + align * F.cross_entropy(nearest, torch.arange(len(labels)))
        optimizer = torch.optim.AdamW([residual, own_residual], 6e-4, eps=1e-3, weight_decay=0.1)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            text, unit = (
                F.normalize(base + step, dim=1)
                for base, step in ((texts, residual), (images, own_residual))
            )
            scores = SCALE * views[:1] @ text.T
            scores = scores + 6 * torch.exp(5 * (views[:1] @ unit.T) - 5) @ values
            if float(entropy_of(scores)) / math.log2(classes) < 0.1:
                updates += 1
                texts = texts * (updates / (updates + 1)) + text / (updates + 1)
            results.append(scores[0])
    return results, time.process_time() - began


def measure_dpe(inputs: Inputs, align: float) -> tuple[Measured, Measured]:
    """Measure both forms of DPE."""
    method = begin(dpe.DPE, inputs, align=align)
    inputs.fill(method.cache)
    method.means.copy_(method.cache.features.mean(dim=0))
    plain = plain_dpe(inputs, as_lists(method.cache), align)
    began = time.process_time()
    with torch.no_grad():
        results = [method.predict(views) for views in inputs.views]
    return plain, (results, time.process_time() - began)


def plain_dmn(inputs: Inputs, lists: Lists, capacity: int) -> Measured:
    """Run DMN with its weighted sums over all items of all classes."""
    began, results = time.process_time(), []
    for views in inputs.views:
        _, _, own, mean, _ = plain_statistics(views, inputs.text)
        plain = views[:1]
        add(lists, int(mean.argmax()), [plain, own], capacity)
        memory = torch.stack(
            [
                torch.cat([*(item[0] for item in lists[label]), inputs.text[label][None]])
                for label in range(inputs.classes)
            ]
        )
        weights = torch.exp(5.5 * (memory * plain).sum(2) - 5.5)
        classifier = F.normalize((memory * weights[:, :, None]).sum(1), dim=1)
        results.append((SCALE * classifier @ plain[0]).softmax(0))
    return results, time.process_time() - began


def measure_dmn(inputs: Inputs) -> tuple[Measured, Measured]:
    """Measure both forms of DMN."""
    method = begin(dmn.DMN, inputs)
    inputs.fill(method.memory)
    plain = plain_dmn(inputs, as_lists(method.memory), method.config.capacity)
    began, results = time.process_time(), []
    for views in inputs.batches():
        logits = SCALE * batch_invariant_matmul(views, inputs.text.T)
        results += [read.softmax(0) for read in method.read_batch(views, logits)]
    return plain, (results, time.process_time() - began)


def plain_onzeta(inputs: Inputs) -> Measured:
    """Run OnZeta with its matrices as the release has them, a column for each class."""
    began, results = time.process_time(), []
    texts, classes = inputs.text.T, inputs.classes
    proxies, dual = texts.clone(), torch.zeros(classes)
    for number, views in enumerate(inputs.views, 1):
        feature = views[:1]
        label = F.softmax(feature @ texts * SCALE, dim=1) * torch.exp(dual)
        label = label / label.sum()
        dual = torch.clamp(dual - 20 / math.sqrt(number) * (label[0] - 1 / classes), min=0)
        own = F.softmax(feature @ proxies / 0.04, dim=1)
        share = 0.8 * math.sqrt(number / inputs.samples)
        results.append((share * own + (1 - share) * label)[0])
        step = feature.T @ (own - label) / 0.04
        proxies = F.normalize(proxies - 0.5 / math.sqrt(number) * step, dim=0)
    return results, time.process_time() - began


def measure_onzeta(inputs: Inputs) -> tuple[Measured, Measured]:
    """Measure both forms of OnZeta."""
    method = begin(onzeta.OnZeta, inputs, length=inputs.samples)
    plain = plain_onzeta(inputs)
    began, results = time.process_time(), []
    for views in inputs.batches():
        logits = SCALE * batch_invariant_matmul(views[:, :1], inputs.text.T)[:, 0]
        results += [method.predict(*pair)[0] for pair in zip(views[:, 0], logits, strict=True)]
    return plain, (results, time.process_time() - began)


MEASUREMENTS: dict[str, tuple[Callable[[Inputs], tuple[Measured, Measured]], int]] = {
    "tda": (lambda inputs: measure_tda(inputs, None), VIEWS),
    "tda, plain image": (lambda inputs: measure_tda(inputs, None), 1),
    "boostadapter": (lambda inputs: measure_tda(inputs, 3), VIEWS),
    "dpe": (lambda inputs: measure_dpe(inputs, 0.5), VIEWS),
    "dpe, align 0": (lambda inputs: measure_dpe(inputs, 0.0), VIEWS),
    "dmn": (measure_dmn, VIEWS),
    "onzeta": (measure_onzeta, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--only", choices=MEASUREMENTS, action="append")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = []
    for name in options.only or MEASUREMENTS:
        measure, views = MEASUREMENTS[name]
        inputs = Inputs(options.classes, options.samples, views)
        (plain, plain_seconds), (results, seconds) = measure(inputs)
        difference = float((torch.stack(plain).detach() - torch.stack(results)).abs().max())
        each = 1000 / options.samples
        case = {
            "method": name,
            "plain_ms": plain_seconds * each,
            "ms": seconds * each,
            "ratio": plain_seconds / seconds,
            "max_abs_diff": difference,
        }
        print(
            f"{name}, {options.classes} classes: lists {case['plain_ms']:.2f} ms, tensors "
            f"{case['ms']:.2f} ms per sample; {case['ratio']:.1f}x",
            flush=True,
        )
        cases.append(case)
    print(json.dumps({"classes": options.classes, "cases": cases}))


if __name__ == "__main__":
    main()
